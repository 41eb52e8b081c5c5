// The master's deterministic state machine: applies one command of the log to the metadata.
//
// Pure: everything it decides from is in the command (time, ids, placements, credentials) and in the
// transaction, so that the same log gives the same state on every master. It neither waits nor talks to
// anybody; what the service around it has to do before a command is logged (recall leases, collect
// tombstones, choose placements) and after it (erase, notify) is told by Effects. A Preview gives reply and
// effects without changing anything:
//
//   ApplyResult plan = machine.Preview(command, &txn);     // errors can be answered at once; plan.effects
//   says whose leases to
//                                                          // recall and which chunks would be deleted
//   ... recalls, quorum delete, placements ...             // asynchronous; other commands may be applied
//   meanwhile ApplyResult done = machine.Apply(command, index, &txn); store->Commit(&txn); // together with
//   the others of the group
//   ... send done.reply, act on done.effects
//
// A command that fails leaves nothing behind but its stored reply. Exactly once: a mutation of a session is
// found by (session, request_number) and answered from the stored reply (`repeated`); kNeedGroups is never
// stored, because it is asked again with the groups under the same number.
//
// Thread-safety: one thread at a time per transaction; the object itself has no state.
#pragma once

#include <cstdint>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "master/store/meta_txn.h"
#include "proto/cairn/log.pb.h"
#include "proto/cairn/session.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

struct LeaseChange {
  InodeId inode;
  SessionId session;
  Epoch lease;
  bool operator==(const LeaseChange&) const = default;
};

struct InodeChunk {
  InodeId inode;
  uint64_t index = 0;
  bool operator==(const InodeChunk&) const = default;
};

// What a command changed (Apply), or would change (Preview). Without duplicates within a list.
struct Effects {
  // Cached state that other sessions may hold under leases: recall these before applying.
  std::vector<InodeId> inodes;       // attributes, target, extended attributes, size or layout
  std::vector<InodeId> accessed;     // only the time of last access, which recalls nothing: whoever caches it is told
  std::vector<InodeId> directories;  // entries (and attributes) of directories
  std::vector<InodeId>
      last_name_gone;  // inodes that lose their last name: ask every holder whether it has them open

  // Chunks.
  std::vector<ChunkId> chunks_allocated;  // new records, open
  std::vector<ChunkId> chunks_opened;     // sealed before, open now
  std::vector<ChunkId> chunks_sealed;
  std::vector<ChunkId>
      chunks_configured;  // configuration or carriers changed: look whether it is healthy now
  std::vector<ChunkId>
      chunks_deleting;  // now in the deleting queue: erase once durable and past the grace time
  std::vector<ChunkId> chunks_dropped;     // record gone: never begun, or erased everywhere
  std::vector<ChunkId> chunks_to_recover;  // open with no writer any more: run the configuration procedure
  std::vector<ChunkId> chunks_damaged;
  // Preview only: chunks that the command allocates and for which it carries no placement yet, in the order
  // of placements.
  std::vector<InodeChunk> placements_needed;  // create: inode 0, index 0

  // Inodes without a name.
  std::vector<InodeId> orphans;           // new: kept because a session has them open
  std::vector<InodeId> orphans_released;  // the last hold is gone: delete by quorum, then ReclaimInode
  std::vector<InodeId> inodes_removed;    // record gone; ends every lease on it

  std::vector<LeaseChange> leases_granted;  // write leases
  std::vector<LeaseChange> leases_ended;
  std::vector<SessionId> sessions_opened;
  std::vector<SessionId> sessions_closed;
  std::vector<ServerId> servers_changed;
  std::vector<InodeId> policies_changed;  // directories: look at the chunks below again
};

struct ApplyResult {
  proto::Reply reply;  // number, status and result; log_index of a mutation
  Effects effects;  // empty when the reply is repeated or an error (a write-back with refused items has those
                    // of the others)
  bool repeated = false;  // answered from the stored reply
  bool ok() const { return reply.status().code() == 0; }
};

class StateMachine {
 public:
  // Applies `command`, which is entry `log_index` of the log. Never fails by itself: the outcome is in the
  // reply. After an I/O error of the store (txn->status()) the result means nothing and must not be sent.
  ApplyResult Apply(const proto::LogCommand& command, uint64_t log_index, MetaTxn* txn) const;
  // What Apply would do now; `txn` is as before afterwards. Missing placements are reported in
  // effects.placements_needed and are no error, and neither is a missing new_inode or new_epoch.
  ApplyResult Preview(const proto::LogCommand& command, MetaTxn* txn) const;
};

// Makes an empty store a file system: root directory (inode 1, owned by root, 0755), default policy, id
// limits of zero. Does nothing if that was done before.
void Initialize(const proto::Time& now, MetaTxn* txn);
bool IsInitialized(const MetaReader& reader);

// The newest log index whose effects are in the store: set once per group, in the same transaction.
void SetAppliedIndex(uint64_t index, MetaTxn* txn);
uint64_t AppliedIndex(const MetaReader& reader);

// What Initialize sets at the root.
proto::Policy DefaultPolicy();  // N = 3, W = 2, 64 MiB, failure domain "server"

inline constexpr size_t kMaxNameBytes = 255;
inline constexpr size_t kMaxSymlinkBytes = 4095;
inline constexpr size_t kMaxXattrNameBytes = 255;
inline constexpr size_t kMaxXattrValueBytes = 65536;
// Directories may lie deeper than this; a walk towards the root looks at so many levels and no more, since it holds up everybody.
// docs/posix.md says what that means.
inline constexpr int kMaxDepth = 65'536;
inline constexpr uint32_t kMaxLinks = 1'000'000;
inline constexpr uint64_t kMaxFileBytes = (1ull << 63) - 1;
inline constexpr uint64_t kMinChunkBytes = 64ull << 10;
inline constexpr uint64_t kMaxChunkBytes = 1ull << 30;
inline constexpr uint32_t kMaxReplicas = 16;
inline constexpr uint64_t kMaxTrashSeconds = 366ull * 86400;
// Chunks that one command may announce, and request numbers that may be outstanding in a session.
inline constexpr uint32_t kMaxAnnounce = 1024;
inline constexpr int kMaxAccessed = 8192;  // files of one AccessedOp
inline constexpr uint64_t kMaxOutstandingRequests = 65536;

}  // namespace cairn::master
