// A simulated client of the whole service: names and leases through the production LeaseCache and LeaseTerm, data with
// the production ChunkWriter and ReplicaReader, write-behind, recalls that flush and seal first. Its application
// creates, writes, reads, fsyncs and removes a few files of one chunk each, and checks what it sees (history.h).
//
//   client_node.cc   the application and its operations
//   client_files.cc  write-behind, seals, recalls
//
// Thread-safety: none.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/replication/reader.h"
#include "common/replication/writer.h"
#include "tests/sim/server.h"
#include "tests/sim/service/history.h"
#include "tests/sim/service/session.h"

namespace cairn::sim::service {

class ClientNode final : public SessionUser {
 public:
  ClientNode(World* world, Network* network, MasterNode* master, History* history, const Clock* clock, NodeId node,
             std::vector<Server*> servers, replication::Rules rules, ServiceRules service_rules);

  NodeId node() const { return node_; }
  void Boot();
  void Crash();
  void LosePower() { Crash(); }
  // No new operations.
  void set_quiet(bool quiet) { quiet_ = quiet; }
  // Seals and gives back every lease that it writes under; true once that is done.
  bool GiveEverythingBack();
  // A hung mount: its session lives on, and no recall is answered until that is lost.
  void Hang() { hung_ = true; }
  uint64_t finished_operations() const { return finished_; }
  uint64_t session_id() const { return session_.id(); }

  void OnRecall(const proto::RecallItem& item) override;
  void OnReconfigured(const proto::Reconfigured& notice) override;
  void OnLeasesDropped() override;
  void OnSessionLost() override;

 private:
  struct File {
    InodeId inode;
    // Writing: under this lease; 0: not.
    uint64_t lease = 0;
    uint64_t tenure = 0;
    std::optional<client::ChunkPlace> place;  // open under `lease`, or as sealed last
    bool open = false;                        // `place` is open under `lease`
    bool announcing = false;
    std::unique_ptr<replication::ChunkWriter> writer;
    std::deque<uint64_t> buffered;      // finished writes that are not submitted yet
    std::map<uint64_t, uint64_t> sent;  // by seq: the tokens submitted in this writer's life
    uint64_t told = 0;                  // acknowledged up to this seq
    std::map<ServerId, std::pair<std::optional<uint64_t>, int64_t>> progress;
    bool asking = false;         // for a replacement
    int64_t trouble_told = 0;
    int64_t sealing_since = 0;
    int64_t last_write = 0;
    std::vector<proto::ChunkSeal> seals;  // not told to the master yet
    // A lease that ends.
    std::optional<proto::RecallItem> recall;
    int64_t recalled_at = 0;
    // What was read under a lease of this tenure.
    std::optional<Content> cached;
    uint64_t cached_tenure = 0;
  };
  enum class Kind : uint8_t { kLookup, kCreate, kWrite, kRead, kFsync, kRemove, kRelease };
  enum class Phase : uint8_t { kResolve, kAct, kWait, kDone };
  struct Operation {
    Kind kind = Kind::kLookup;
    std::string name;
    Phase phase = Phase::kResolve;
    int64_t started = 0;
    InodeId inode;
    uint64_t number = 0;  // tells late answers from those of this operation
    uint64_t request = 0;
    int writes_left = 0;
    // kRead.
    std::optional<History::ReadMark> mark;
    std::unique_ptr<replication::ReplicaReader> reader;
    ChunkId chunk;
    // kFsync.
    uint64_t flush_seq = 0;
    bool committing = false;
    std::vector<uint64_t> flushed;
  };

  // client_node.cc
  void TickForever();
  void StartOperation();
  void Step();
  void Finish();
  void Peek();
  void PeekName(const std::string& name);
  void PeekData();
  void Glance();
  void Resolve();
  void Act();
  void DoCreate();
  void DoRemove();
  void DoWrite();
  void WriteOnce(File& file);
  void DoRead();
  void ReadReplicas(ChunkId chunk, Stamp want, bool exact, std::vector<ServerId> carriers, Content tail);
  void PollRead(uint64_t operation, Stamp want, bool exact, const Content& tail);
  void ReadFinished(const Content& content);
  void DoFsync();
  void DoRelease();
  bool Is(uint64_t operation) const { return op_ && op_->number == operation; }
  // Nobody else may hold a lease against the one used now.
  void UseLease(InodeId inode, client::LeaseKind kind);

  // client_files.cc
  File& FileOf(InodeId inode);
  void Attach(File& file, uint64_t lease, const std::vector<client::ChunkPlace>& places);
  bool Writable(const File& file);
  void TickFile(File& file);
  void Submit(File& file);
  void Announce(File& file);
  void Pump(File& file);
  void SendMutation(File& file, const replication::ChunkWriter::Send& send);
  void Tell(File& file);
  void DropSilent(File& file);
  void ReportTrouble(File& file);
  void Replace(File& file, const client::ChunkPlace& place);
  // True when nothing is open any more; the seals are in file.seals.
  bool CloseChunk(File& file, bool hurry);
  void SendSeals(File& file);
  void TickRecall(File& file);
  void AnswerRecall(File& file, bool sealed);
  void DropWriting(File& file);
  proto::InodeCommit CommitOf(File& file) const;

  World& world_;
  MasterNode& master_;
  History& history_;
  const NodeId node_;
  const std::vector<Server*> servers_;
  const replication::Rules rules_;
  const ServiceRules service_rules_;
  ClientSession session_;
  bool quiet_ = false;
  bool hung_ = false;
  bool names_mostly_ = false;
  std::map<InodeId, std::shared_ptr<File>> files_;
  std::map<InodeId, proto::RecallReply> answered_;
  std::unique_ptr<Operation> op_;
  uint64_t next_operation_ = 1;
  uint64_t next_token_ = 1;
  uint64_t finished_ = 0;
};

}  // namespace cairn::sim::service
