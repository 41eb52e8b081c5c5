// What a client knows and does about one chunk of an open file. Plain data of FileCore, under its lock.
// Thread-safety: none; FileCore's lock protects it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include "client/data/dirty_extents.h"
#include "client/data/file_data.h"
#include "client/data/mutation_log.h"
#include "common/replication/writer.h"

namespace cairn::client {

struct ChunkState {
  ChunkState(uint64_t chunk_index, net::BufferPool* pool) : index(chunk_index), dirty(pool) {
    place.index = chunk_index;
  }

  const uint64_t index;

  // Layout. place.chunk zero while place_known: a hole.
  ChunkPlace place;
  bool place_known = false;
  bool layout_loading = false;  // asked for ahead of a reader

  // Writing. Bytes go from `dirty` into `log`, from there through `writer` to the members. The writer exists
  // from the moment that the chunk was announced under the lease and something is to be sent.
  DirtyExtents dirty;
  MutationLog log;
  std::unique_ptr<replication::ChunkWriter> writer;
  uint64_t length = 0;  // of the chunk once the whole log is applied; valid with a writer or a known place

  // Bytes of it that take space: what the replicas said last, and what was written since counted as new. place.allocated_bytes is
  // what the master counts.
  uint64_t allocated = 0;

  uint64_t last_done_seq = 0;  // of the writer, when it was last looked at
  int64_t last_logged_ns = 0;  // when something was last written to it
  // Being sealed although the lease stays, since when (0: it is not), and its length at the seal: writes may come meanwhile.
  int64_t sealing_since_ns = 0;
  uint64_t sealed_length = 0;
  // The master activated the configuration: W members hold its base in its epoch. Otherwise nobody does before the first mutation.
  bool activated = false;

  // Calls to the master under way, and when to try again after a failure.
  bool announcing = false;
  bool reconfiguring = false;
  int64_t retry_at_ns = 0;
  Status master_status;  // why the last announce or reconfiguration failed

  // When the oldest mutation that is not done last saw progress; 0: nothing is undone.
  int64_t waiting_since_ns = 0;
  bool time_extended = false;  // for a new configuration, since the last progress
  // Why a member was left out last since there was progress; a new configuration forgets the writer's own list.
  Status last_drop;
  int64_t drops_told_ns = 0;   // when the master was last told who is left out; 0: nobody is
  bool failed = false;         // no progress for the write timeout, counted as a WriteError

  // Members whose connection broke, since when, and the last reason.
  struct Broken {
    int64_t since_ns = 0;
    int64_t retry_at_ns = 0;
    bool retrying = false;  // sent again, no answer yet
    Status status;
  };
  std::map<ServerId, Broken> broken;
  // Members from which nothing was heard although they were asked: time of the last answer (or of the first
  // question).
  std::map<ServerId, int64_t> heard_ns;

  // What is to be sent to a member and waits until it is known whether it staged the bytes of the first one, or until they were
  // fetched for it; everything behind that waits, too, since a member takes mutations in order.
  std::map<ServerId, std::deque<replication::ChunkWriter::Send>> held_sends;
  // Counts, for each member, how often what was sent to it was taken back. Answers to what was sent before mean nothing.
  std::map<ServerId, uint64_t> sends_taken_back;

  // Durability. Of a sealed chunk: W carriers are known to have the sealed stamp on disk.
  bool sealed_durable = false;
  uint64_t committed_durable_seq = 0;  // already handed to TakeCommit

  // Announced under `lease` (zero: none is held), and not sealed since.
  bool writable_under(Epoch lease) const {
    return lease && place_known && place.chunk && place.config.epoch >= lease &&
           place.sealed.epoch != place.config.epoch;
  }
  // What W members hold of it at least: the seal, or what an announced chunk continues on.
  Stamp held() const { return place.sealed.epoch ? place.sealed : place.config.base; }
  bool has_unsent() const { return !dirty.empty() || log.not_submitted() != 0; }
  bool clean() const { return dirty.empty() && log.all_done(); }
};

}  // namespace cairn::client
