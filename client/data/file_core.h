// The implementation of FileData, shared by the callers' threads, the data plane's callbacks and the
// scheduler.
//
// One lock per file. It is held while payloads below kCopyOutsideLockBytes are copied and while requests are
// handed to the DataClient (so that their order is the order of seq), never while the master is called, and
// never while waiting except on the condition variable.
//
// Copies per byte written: 1 in this library (caller to buffer; the buffer is what the sockets gather from,
// for all N members). Copies per byte read: 1 (receive buffer to caller), also when it was read ahead.
// Checksums: computed once per byte written, verified once per byte read. Requests per operation, N = 3, file
// below one chunk: create + write + close: 3 (one mutation to each member, with begin). Reading a file of up
// to 1 MiB: 1. Random 4 KiB read: 1. fsync: N per fsync whatever the number of chunks. Seal: N per file.
//
// The parts: write_path.cc (Write, Zero, Truncate), send_path.cc (log to members), trouble.cc (master calls,
// time limits), flush_path.cc (Flush, FlushDurable), seal_path.cc (SealIdle, FlushAndSeal), read_path.cc (Read, layout, read-ahead),
// small_read.cc (one small read by the caller's thread), fetch.cc (one verified read), copy_plan.cc and copy_path.cc (copies by the
// chunkservers, the source's and the target's side), staged_path.cc (mutations whose bytes are with the members).
//
// Thread-safety: all public methods may be called from any thread.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "client/data/chunk_state.h"
#include "client/data/file_data.h"
#include "client/data/read_ahead.h"
#include "client/data/read_cache.h"
#include "client/data/scheduler.h"
#include "common/net/data_client.h"
#include "common/replication/reader.h"

namespace cairn::client {

class FileCore final : public std::enable_shared_from_this<FileCore> {
 public:
  FileCore(const FileDataContext& context, InodeId inode, uint64_t chunk_bytes);

  void AttachRead(uint64_t size, std::vector<ChunkPlace> known);
  void AttachWrite(Epoch lease, uint64_t size, std::vector<ChunkPlace> known);
  void Detach();
  void Shutdown();  // waits for calls to the master under way; nothing of the context is used afterwards

  uint64_t Size() const;
  TimeSpec Mtime() const;
  uint64_t DirtyBytes() const;
  int64_t AllocatedChange() const;
  Result<std::optional<uint64_t>> Seek(uint64_t offset, bool data);
  WriteError LastWriteError() const;

  Result<size_t> Read(uint64_t offset, std::span<std::byte> buffer);
  Status Write(uint64_t offset, std::span<const std::byte> data, TimeSpec now);
  Status Zero(uint64_t offset, uint64_t length, TimeSpec now);
  Result<std::vector<CopyPart>> PlanCopy(uint64_t offset, uint64_t length, uint64_t max_bytes);
  Result<uint64_t> CopyParts(uint64_t offset, std::span<const CopyPart> parts, TimeSpec now, FileData::CopyMode mode);
  Status Truncate(uint64_t size, TimeSpec now);
  Result<uint64_t> TruncationSeq(uint64_t size);
  void CancelTruncation();
  Status Flush();
  Status FlushDurable();
  PendingCommit TakeCommit();
  void RestoreCommit(PendingCommit commit);
  Result<PendingCommit> FlushAndSeal(const std::function<void(uint64_t)>& progress);
  FileData::IdleSeals SealIdle(int64_t idle_ms);
  void Discard();
  void OnReconfigured(ChunkPlace place);

 private:
  enum class Mode : uint8_t { kDetached, kRead, kWrite };
  using Lock = std::unique_lock<std::mutex>;
  static constexpr uint64_t kNoIndex = std::numeric_limits<uint64_t>::max();

  // One read of a range of one chunk, from whichever carrier delivers it. Guarded by mu_.
  struct Fetch {
    ChunkId chunk;
    Epoch epoch;  // of the configuration, for reports
    Stamp want;
    bool exact = true;
    uint64_t offset = 0;
    uint32_t length = 0;
    std::optional<replication::ReplicaReader> reader;
    std::vector<ServerId> servers;  // best first
    ServerId first;                 // of these
    bool first_answered = false;    // with a failure
    int64_t began_ns = 0;
    uint32_t asked = 0;
    uint32_t answered = 0;
    bool finished = false;
    Status status;          // of the finished fetch
    net::SharedBytes data;  // starts at data_offset; what is beyond it is zeros
    uint64_t data_offset = 0;
  };
  using FetchRef = std::shared_ptr<Fetch>;
  // A part of a Read that waits for a fetch.
  struct ReadPart {
    uint64_t offset = 0;  // in the file
    std::span<std::byte> out;
    FetchRef fetch;
  };

  // file_core.cc
  int64_t Now() const { return context_.clock->NowNanos(); }
  // How long a member with a broken connection is waited for before it is left out.
  int64_t PatienceNanos() const {
    return std::min<int64_t>(1000, context_.options.write_timeout_ms / 3) * kNanosPerMilli;
  }
  ChunkState& ChunkLocked(uint64_t index);
  void InstallPlaceLocked(ChunkPlace place);
  void InstallLayoutLocked(uint64_t first, uint64_t count, const std::vector<ChunkPlace>& places);
  void ResetLocked();
  void DropDirtyLocked(ChunkState& chunk);
  void SetRecordedSizeLocked(uint64_t size);
  void LoseLeaseLocked(const Status& why);
  Status CheckWritableLocked() const;
  void ReleaseBudgetLocked(uint64_t bytes);
  // Waits for progress or until `deadline_ns` (at most kPollMs), then tells whether the thread was
  // interrupted.
  bool WaitLocked(Lock& lock, int64_t deadline_ns);
  // Between two tries of a read: lets time pass, whatever happens to other requests meanwhile (the report of a bad replica
  // alone is answered at once, and would start the next try). True: the thread was interrupted.
  bool PauseLocked(Lock& lock, int64_t deadline_ns);
  // Runs `work` on a scheduler thread unless the file is shut down; counted, so that Shutdown can wait.
  void RunLocked(std::function<void()> work);
  void ArmTickLocked();
  void Tick();

  // write_path.cc
  Status AdmitWrite(Lock& lock, uint64_t bytes);
  void LogDirtyLocked(ChunkState& chunk, bool all);
  void LogLocked(ChunkState& chunk, replication::MutationKind kind, uint64_t offset, uint64_t length,
                 net::SharedBytes data, std::shared_ptr<StagedPiece> staged = nullptr);
  void LogAllLocked();
  Status ZeroLocked(Lock& lock, uint64_t offset, uint64_t length);
  Status PlaceForChangeLocked(Lock& lock, uint64_t index);
  Status KnowTailLocked(Lock& lock);
  void CutLocked(ChunkState& chunk, const ChunkPlace& place);
  void TouchLocked(TimeSpec now);

  // send_path.cc
  void PumpLocked(ChunkState& chunk);
  void PumpWindowLocked();  // chunks that wait for room in the window
  void SendLocked(ChunkState& chunk, const replication::ChunkWriter::Send& send);
  // With a token: of what is staged at the server. Otherwise `data` is sent.
  void SendMutationLocked(ChunkState& chunk, const replication::ChunkWriter::Send& send, const LoggedMutation& logged,
                          net::SharedBytes data, uint64_t token);
  void CallLocked(ServerId server, wire::MessageType type, net::SharedBytes meta, net::SharedBytes data,
                  int64_t timeout_ms, net::DataClient::Callback done);
  void OnMutateDone(ChunkId chunk, const replication::ChunkWriter::Send& send, uint64_t taken_back, bool staged,
                    const Status& transport, std::span<const std::byte> meta);
  void SettleLocked(ChunkState& chunk);  // after any event at the writer
  bool PacedLocked();
  bool LaggardGoesOnLocked(int64_t since_ns) const;
  void DropLaggardsLocked();
  ChunkState* FindByIdLocked(ChunkId chunk);

  // trouble.cc
  void AnnounceLocked(uint64_t index);
  void SendAnnounceLocked(uint64_t first, uint32_t count);
  void RestoreSeals(Epoch lease, const std::vector<SealedChunk>& seals);
  void OnAnnounced(Epoch lease, uint64_t shrinks, uint64_t first, uint32_t count,
                   const Result<std::vector<ChunkPlace>>& places);
  void ReportDropsLocked(ChunkState& chunk);
  void RepeatDropsLocked(ChunkState& chunk);
  void ReportReplicasLocked(ChunkId chunk, Epoch epoch,
                            const std::vector<replication::MemberProblem>& problems);
  void ReconfigureLocked(ChunkState& chunk);
  void OnReconfigureAnswer(ChunkId chunk, Epoch asked, const Result<ChunkPlace>& place);
  void ApplyConfigurationLocked(ChunkState& chunk, const ChunkPlace& place);
  void TickChunkLocked(ChunkState& chunk, int64_t now);
  void DropSilentLocked(ChunkState& chunk, int64_t now);
  std::optional<Status> StalledLocked(ChunkState& chunk, int64_t now);
  void NoteFailureLocked(ChunkState& chunk, const Status& status);

  // flush_path.cc and seal_path.cc
  Status WaitDoneLocked(Lock& lock, uint64_t number, const std::function<void(uint64_t)>& progress);
  // Sends what is buffered and waits until it is on W replicas.
  // `sent` (may be empty) runs, with the lock, when what may go out now has been handed over.
  Status FlushAllLocked(Lock& lock, const std::function<void(uint64_t)>& progress,
                        const std::function<void()>& sent = nullptr);
  // One kFlush to every member concerned; the answers arrive in `replies`.
  struct FlushRound {
    size_t outstanding = 0;
    bool early = false;  // sent right behind the mutations: an answer that comes too early means nothing
    std::map<ChunkId, std::vector<ServerId>>
        durable;  // sealed chunks: carriers that have the sealed stamp on disk
    std::map<ServerId, Status> failures;
  };
  Status LoadWholeLayoutLocked(Lock& lock);
  using FlushTargets = std::map<uint64_t, uint64_t>;  // chunk index -> seq that has to be durable
  bool DurableLocked(const ChunkState& chunk, const FlushTargets& targets, const FlushRound* round) const;
  std::vector<ChunkState*> NotDurableLocked(const FlushTargets& targets, const FlushRound* round);
  std::shared_ptr<FlushRound> SendFlushesLocked(const std::vector<ChunkState*>& chunks);
  void OnFlushReply(const std::shared_ptr<FlushRound>& round, ServerId server,
                    const std::vector<ChunkId>& chunks, const Status& transport,
                    std::span<const std::byte> meta);
  Status FlushDurableLocked(Lock& lock, FlushTargets targets, std::shared_ptr<FlushRound> round);
  // Nothing if something written still waits for its turn to be sent.
  std::shared_ptr<FlushRound> SendEarlyFlushesLocked(FlushTargets* targets);
  void StartSealsLocked();
  bool AllSealedLocked(bool settled) const;
  Status WaitSealedLocked(Lock& lock, uint64_t attachment, const std::function<void(uint64_t)>& progress);
  void NoteLateSealsLocked();
  void SendSealsLocked();
  void OnSealReply(ServerId server, const std::vector<wire::SealItem>& items, const Status& status,
                   std::span<const wire::ReplicaItem> replies);
  void FinishSealsLocked();
  // One chunk that W members sealed while the lease stays: told with the next commit, and only read here until it is opened again.
  void FinishIdleSealLocked(ChunkState& chunk);
  bool SealOverdueLocked(const ChunkState& chunk) const;

  // read_path.cc
  Status ReadOnceLocked(Lock& lock, uint64_t offset, std::span<std::byte> buffer);
  Status EnsureLayoutLocked(Lock& lock, uint64_t first, uint64_t last);
  // One page of the chunks that exist in [first, last]; returns the index up to which all are known.
  Result<uint64_t> LoadExistingLocked(Lock& lock, uint64_t first, uint64_t last);
  Status EnsureExistingLocked(Lock& lock, uint64_t first, uint64_t last);
  void ForgetLayoutLocked(uint64_t first, uint64_t last);
  void LoadLayoutAheadLocked(uint64_t index);
  // Where a read of the chunk's replicas finds what this client has to see.
  struct Source {
    enum Kind : uint8_t { kZeros, kReplicas, kWait } kind = kZeros;
    Stamp want;
    bool exact = true;
    std::vector<ServerId> servers;
    uint64_t length = 0;  // nothing but zeros from here on
  };
  Result<Source> SourceLocked(const ChunkState& chunk) const;
  Status PlanChunkLocked(Lock& lock, uint64_t offset, std::span<std::byte> out, std::vector<ReadPart>* parts);
  void PlanGapLocked(ChunkState& chunk, const Source& source, Gap gap, uint64_t base,
                     std::span<std::byte> out, std::vector<ReadPart>* parts);
  void ReadAheadLocked(ReadAhead::Range range);
  void ArmCacheExpiryLocked();
  void ExpireCache();

  // extents.cc
  Result<std::optional<uint64_t>> SeekLocked(Lock& lock, uint64_t offset, bool data);
  Result<wire::ExtentsReply> ExtentsLocked(Lock& lock, const ChunkState& chunk, uint64_t offset);
  void NoteAllocatedLocked(ChunkState& chunk, uint64_t allocated_bytes);
  static void NoteSealedLocked(ChunkState& chunk, SealedChunk* seal);

  // copy_plan.cc
  Result<bool> PlanChunkCopyLocked(Lock& lock, ChunkState& chunk, uint64_t end, uint64_t* at, std::vector<CopyPart>* parts);

  // copy_path.cc
  class PartsCopy;
  Status CheckStalledLocked();
  bool OpenForCopyLocked(uint64_t index, bool* refused);
  bool NumberDoneLocked(uint64_t index, uint64_t number) const;

  // staged_path.cc
  std::shared_ptr<StagedPiece> StageLocked(ChunkState& chunk, const CopyPart& part, uint64_t part_offset, uint64_t in_chunk,
                                           uint32_t length);
  void OnStaged(const std::shared_ptr<StagedPiece>& piece, ServerId server, const Status& transport,
                std::span<const std::byte> meta);
  // Sends what is held back for a member as far as that is possible now.
  void SendHeldLocked(ChunkState& chunk, ServerId server);
  void SendAllHeldLocked(ChunkState& chunk);
  void TakeBackSendsLocked(ChunkState& chunk, ServerId server);
  void FetchStagedLocked(const std::shared_ptr<StagedPiece>& piece);
  void OnStagedFetched(const std::shared_ptr<StagedPiece>& piece, const Status& transport, std::span<const std::byte> meta,
                       net::SharedBytes data);
  void StagedFetchFailedLocked(const std::shared_ptr<StagedPiece>& piece, const Status& why);

  // small_read.cc
  std::optional<Status> ReadSmallLocked(Lock& lock, uint64_t offset, std::span<std::byte> out);

  // fetch.cc
  void SuspectLocked(ServerId server);
  int64_t UsualNanos(const std::vector<ServerId>& servers, ServerId without) const;
  void NoteAnswer(ServerId server, const std::vector<ServerId>& servers, int64_t took_ns);
  FetchRef StartFetchLocked(const ChunkState& chunk, const Source& source, uint64_t offset, uint32_t length);
  void PollFetchLocked(const FetchRef& fetch);
  void AskLocked(const FetchRef& fetch, ServerId server);
  void OnFetchReply(const FetchRef& fetch, ServerId server, const Status& transport,
                    std::span<const std::byte> meta, net::SharedBytes data);
  void SettleFetchLocked(const FetchRef& fetch);
  Status WaitFetchLocked(Lock& lock, const FetchRef& fetch, int64_t deadline_ns);
  std::vector<ServerId> RankLocked(const std::vector<ServerId>& servers, ChunkId chunk) const;

  // Constant after construction.
  const FileDataContext context_;
  const InodeId inode_;
  const uint64_t chunk_bytes_;
  net::BufferPool* const pool_;

  mutable std::mutex mu_;
  std::condition_variable changed_;
  // All below: guarded by mu_.
  Mode mode_ = Mode::kDetached;
  bool shut_down_ = false;
  bool closing_ = false;     // FlushAndSeal is under way or done: no more writes under this lease
  Status lost_;              // not ok: the lease is gone although the owner did not detach yet
  uint64_t attachment_ = 0;  // counts attachments, so that late answers are recognized
  static constexpr uint64_t kNoAttachment = UINT64_MAX;
  uint64_t whole_layout_of_ = kNoAttachment;  // the attachment under which every chunk that exists was loaded
  // While the master logs a truncation: chunks from here on go. What was placed or sent there now would be
  // lost track of.
  uint64_t shrinking_from_ = kNoIndex;
  uint64_t announces_ = 0;  // under way
  // The size with which the lease came, while it is not known whether the chunk in which it ends is longer; 0: known.
  uint64_t uncut_size_ = 0;
  uint64_t shrinks_ = 0;    // counts truncations: placements asked for before one may be of chunks that went
  Epoch lease_;
  uint64_t size_ = 0;
  uint64_t confirmed_size_ = 0;            // the file had this size at a flush that succeeded
  std::optional<uint64_t> reported_size_;  // what the master knows
  TimeSpec mtime_;
  bool mtime_changed_ = false;
  std::map<uint64_t, std::unique_ptr<ChunkState>> chunks_;  // by index
  std::unordered_map<ChunkId, uint64_t> index_of_;
  std::set<uint64_t> active_;     // chunks with dirty data or a log
  uint64_t dirty_bytes_ = 0;      // buffered or in the log, not done; charged to the budget
  uint64_t in_flight_bytes_ = 0;  // submitted, not done
  uint64_t retained_bytes_ = 0;   // done, kept for slow members
  // When a member last answered a mutation of any chunk, or was first sent one.
  std::map<ServerId, int64_t> answered_ns_;
  int64_t paced_since_ns_ = 0;    // sending is held back for them; 0: it is not
  int64_t pace_earned_ns_ = 0;    // since when the allowance grows
  int64_t pace_allowance_ns_ = 0; // so much longer may it be held back
  uint32_t flushes_ = 0;          // callers that wait for the quorum
  bool window_blocked_ = false;   // some chunk has mutations that wait for room in the window
  uint64_t next_number_ = 1;
  int64_t last_write_ns_ = 0;
  bool tick_armed_ = false;
  uint64_t background_ = 0;  // scheduler work under way
  WriteError write_error_;
  PendingCommit commit_;  // seals and durable stamps not taken yet
  ReadAhead read_ahead_;
  ReadCache<FetchRef> cache_;
  bool cache_expiry_armed_ = false;
  int64_t last_read_ns_ = 0;
  std::map<ServerId, int64_t> suspect_until_ns_;
};

}  // namespace cairn::client
