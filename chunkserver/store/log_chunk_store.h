// The chunk store over a segment log and an index (chunk_store.h says what it does; this class is how).
//
// One change: check it against the acceptance rules, append one record, apply the record to the index. Replay
// after a stop is the last step alone. Split by operation: log_chunk_store.cc (open, close, checkpoints),
// replay.cc, changes.cc, edit.cc (what a mutation stores), reads.cc, syncs.cc, reclaim.cc.
//
// Thread-safety: as ChunkStore. Lock order: checkpoint_mu_, then mu_, then what log and index lock inside.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "chunkserver/store/chunk_store.h"
#include "chunkserver/store/disk_files.h"
#include "chunkserver/store/disk_health.h"
#include "chunkserver/store/edit.h"
#include "chunkserver/store/index.h"
#include "chunkserver/store/read_history.h"
#include "chunkserver/store/read_pins.h"
#include "chunkserver/store/segment_log.h"
#include "chunkserver/store/spare_space.h"
#include "chunkserver/store/store_env.h"
#include "common/net/buffer_pool.h"

namespace cairn::chunkserver {

class LogChunkStore final : public ChunkStore, private BlockReader {
 public:
  explicit LogChunkStore(const StoreOptions& options);
  ~LogChunkStore() override;
  Status Start();  // once, before anything else

  const DiskIdentity& identity() const override { return identity_; }
  Status SetIdentity(Uuid cluster, Uuid server_uuid, ServerId server) override;
  bool amnesic() const override { return amnesic_.load(std::memory_order_acquire); }
  Epoch epoch_floor() const override;
  Status SetAmnesic() override;
  Status SetEpochFloor(Epoch floor) override;
  bool failed() const override { return health_.failed(); }
  Status failure() const override { return health_.failure(); }
  StoreUsage Usage() const override;

  Status Mutate(const wire::MutateRequest& request, std::span<const std::byte> data,
                replication::ReplicaInfo* info) override;
  Status Begin(ChunkId chunk, Epoch epoch, Stamp base, replication::ReplicaInfo* info) override;
  Status Fence(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info) override;
  Status Seal(ChunkId chunk, Stamp stamp, replication::ReplicaInfo* info) override;
  Status PrepareDelete(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info) override;
  Status AbortDelete(ChunkId chunk, Epoch epoch, replication::ReplicaInfo* info) override;
  Status Erase(ChunkId chunk, Epoch epoch, bool quarantine) override;

  Status Query(ChunkId chunk, replication::ReplicaInfo* info) const override;
  Status ForEach(const std::function<bool(const replication::ReplicaInfo&)>& visit) const override;
  Result<ReadData> Read(const wire::ReadRequest& request, bool verify) const override;
  StartedRead StartRead(const wire::ReadRequest& request) const override;
  Result<std::vector<wire::Digest>> Digests(const wire::DigestsRequest& request,
                                            uint64_t* chunk_length) const override;
  Result<wire::ExtentsReply> Extents(const wire::ExtentsRequest& request) const override;
  Result<uint64_t> AllocatedBytes(ChunkId chunk) const override;
  Status Flush() override;

  Status SyncStart(ChunkId chunk, Epoch epoch, Stamp base, uint64_t length) override;
  Status SyncWrite(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                   std::span<const uint32_t> checksums) override;
  Status SyncFinish(ChunkId chunk, Stamp base, replication::ReplicaInfo* info) override;
  void SyncAbandon(ChunkId chunk) override;

  Status MarkCorrupt(ChunkId chunk, uint64_t offset) override;
  Result<uint64_t> Reclaim() override;

 private:
  // The present replica as the rules see it: the epoch floor is part of its promise, a quarantined one is
  // absent.
  struct Present {
    std::optional<ChunkEntry> entry;
    bool visible = false;
    replication::ReplicaState state;
  };
  // What a running sync has received. Nothing of it is in the index.
  struct Shadow {
    uint64_t generation = 0;
    Stamp base;
    uint64_t length = 0;
    std::map<uint64_t, Extent> extents;     // by first block, disjoint
    std::map<uint32_t, uint64_t> segments;  // bytes per segment: these segments are not reclaimed meanwhile
  };
  static constexpr size_t kReadBufferBytes = 16u << 20;  // kept for reuse
  enum class Unknown : uint8_t { kCreate, kRefuse };
  enum class Stop : uint8_t { kClean, kProcessCrash, kPowerLoss };  // how the store was left

  // Opening (log_chunk_store.cc).
  Status PrepareDirectory(bool* fresh);
  Status OpenIndex(bool rebuild);
  void RunCheckpoints();
  // Writes the index to disk as of now; the segments first.
  Status Checkpoint();
  Status CheckpointLocked();  // with checkpoint_mu_ held
  void WantCheckpoint();  // soon, by the thread for it; mu_ held
  // What must be free for a checkpoint; mu_ held.
  uint64_t CheckpointNeeds() const;
  // kNoSpace: not that much is free, not even without the space that is kept for this. checkpoint_mu_ held.
  Status CheckRoomForCheckpoint(uint64_t needed);
  void TakeSpareSpace();  // if there is room for it
  // Changes the file STATE, one at a time.
  Status UpdateState(const std::function<void(DiskState*)>& change);
  void OnDiskFailure(const Status& error);
  // An error of the index: damage of it is remembered, the next start builds it again.
  Status IndexError(const Status& error) const;

  // Replay (replay.cc).
  Status Replay(Stop stop);
  Status ReplaySegment(uint32_t number, bool last, Stop stop, LogPosition* end, std::set<ChunkId>* damaged);
  Result<LogPosition> SyncedMark(uint32_t number, uint32_t offset) const;
  // Where the last record begins that can be reached from `offset`; {0, 0}: there is none.
  Result<LogPosition> LastRecord(uint32_t number, uint32_t offset) const;
  // Where the segment ended when the next one was begun; {0, 0} when that is not known.
  LogPosition EndNamedBySuccessor(uint32_t number) const;

  // Changes, all with mu_ held (changes.cc).
  Status CheckWritable() const;
  Status CheckTrusted() const;
  Status CheckRoom(uint64_t bytes);
  // Deletes go on behind the reserve, until what giving their space back takes would be touched.
  Status CheckRoomToDelete(uint64_t leave_bytes);
  Result<Present> Load(ChunkId chunk);
  Status Commit(Record* record, std::span<const std::span<const std::byte>> payload);
  // A record of `chunk` that changes nothing yet.
  Result<Record> NewRecord(RecordType type, ChunkId chunk, const Present& present);
  // Ends the quarantine of a chunk that comes back under the same id.
  Status MakeAbsent(ChunkId chunk, Present* present);
  Status ChangeState(ChunkId chunk, Unknown unknown, replication::ReplicaInfo* info,
                     const std::function<replication::Verdict(const replication::ReplicaState&)>& check);
  Status MarkCorruptLocked(ChunkId chunk, const Present& present);
  void DropShadow(ChunkId chunk);
  replication::ReplicaInfo InfoOf(ChunkId chunk, const ChunkEntry& entry) const;
  Result<std::optional<uint32_t>> ReadBlock(ChunkId chunk, uint64_t block,
                                            std::span<std::byte> out) const override;

  // Reads (reads.cc).
  enum class ReadMode : uint8_t {
    kMemory,  // only what is in memory; kBusy when that is not all
    kServe,   // for a reader: what is read again is kept in the page cache
    kDisk,    // as the disk has it
  };
  // Consecutive bytes of a segment, and where in the answer they belong.
  struct Piece {
    LogPosition at;
    uint64_t to;
    uint64_t bytes;
  };
  // A read that was looked up: the answer without its bytes, and where they are.
  struct ReadPlan {
    ChunkId chunk;
    ReadData answer;
    uint64_t bytes = 0;
    std::vector<Extent> extents;
  };
  // With a pin, which is kept until Execute has returned.
  Status Plan(const wire::ReadRequest& request, ReadMode mode, ReadPlan* plan) const;
  Result<ReadData> Execute(const ReadPlan& plan, ReadMode mode) const;
  Status Assemble(ChunkId chunk, const std::vector<Extent>& extents, uint64_t offset,
                  std::span<std::byte> data, ReadMode mode, std::vector<uint32_t>* checksums) const;
  Status ReadPiece(const Piece& piece, std::span<std::byte> data, ReadMode mode) const;

  // Syncs (syncs.cc).
  Result<std::vector<Extent>> SwappedMap(ChunkId chunk, const Shadow& shadow, const Present& present);

  // Reclaim (reclaim.cc), with checkpoint_mu_ held.
  struct Punch {
    uint32_t number;
    uint64_t live;  // bytes in it at that time
  };
  struct Victims {
    std::vector<uint32_t> empty;  // to be removed, after what is live was moved
    std::vector<Punch> punch;
  };
  Status EndQuarantines();
  Result<Victims> ChooseVictims();
  void MakeRoomForReclaim(bool something_to_give);
  // The segments that can be removed after a checkpoint. *stopped: there was no room to empty the others, which are to be punched now.
  Result<std::vector<uint32_t>> EvacuateAll(Victims* victims, Status* stopped);
  Result<uint64_t> RemoveEmptied(const std::vector<uint32_t>& emptied);
  Status Evacuate(uint32_t number);
  Status CheckRoomToMove(uint64_t bytes);  // mu_ held
  Status EvacuateRecord(const Record& record, LogPosition begin);
  Status MoveLive(const Record& record);
  Status SayAgain(Record* record);  // mu_ held
  uint64_t KeptBytesOf(uint32_t number) const;  // mu_ held
  Status CarryErase(const Record& record, LogPosition begin);
  Result<bool> IsEmpty(uint32_t number);
  uint64_t LiveBytesOf(uint32_t number) const;  // mu_ held
  // The parts of the record's payload that the index refers to, in order.
  Result<std::vector<Extent>> LiveParts(const Record& record) const;
  Result<std::vector<std::pair<uint64_t, uint64_t>>> DeadRanges(uint32_t number) const;

  // Constant after Start.
  const StoreOptions options_;
  StoreEnv* const env_;
  DiskHealth health_;
  DirectoryLock lock_;
  std::unique_ptr<SegmentLog> log_;
  std::unique_ptr<Index> index_;
  uint64_t reserve_bytes_ = 0;
  uint64_t checkpoint_memory_bytes_ = 0;  // so much of the index in memory asks for a checkpoint
  uint64_t checkpoint_slack_bytes_ = 0;   // free beside what a checkpoint writes
  uint64_t room_to_move_bytes_ = 0;       // that deletes leave free for Reclaim

  SpareSpace spare_;

  DiskIdentity identity_;  // changed only by SetIdentity
  std::atomic<bool> amnesic_{false};
  std::mutex state_mu_;
  DiskState disk_state_;  // guarded by state_mu_

  mutable ReadPins pins_;
  mutable net::BufferPool read_buffers_{kReadBufferBytes};
  mutable ReadHistory large_reads_{1 << 20};
  mutable ReadHistory small_reads_{64 << 10};

  std::mutex checkpoint_mu_;  // one checkpoint or reclaim at a time
  mutable std::mutex mu_;
  // Guarded by mu_.
  std::unordered_map<ChunkId, Shadow> shadows_;
  uint64_t next_generation_ = 1;
  uint64_t log_bytes_since_checkpoint_ = 0;
  int64_t room_left_bytes_ = 0;  // until the file system is asked again
  int64_t room_checked_at_ns_ = 0;
  int deletes_left_ = 0;  // until the file system is asked again
  int64_t deletes_checked_at_ns_ = 0;
  bool room_full_ = false;
  struct SaidAgain {
    uint64_t removed_before = 0;  // removed_segments_ when the first of it was said
    uint64_t bytes = 0;
  };
  std::map<uint32_t, SaidAgain> said_again_;  // by Reclaim, in records without data; by the segment that they are in
  uint64_t removed_segments_ = 0;
  uint64_t free_for_moves_ = 0;  // when Reclaim last asked the file system, and what it moved since
  uint64_t moved_since_asked_ = 0;
  uint64_t moved_bytes_ = 0;  // by this call of Reclaim
  std::map<uint32_t, uint64_t> closed_bytes_;  // sizes of segments that take no more records
  std::map<uint32_t, uint64_t> punched_live_;  // live bytes of a segment when it was last punched

  std::atomic<bool> checkpoint_overdue_{false};
  std::condition_variable wake_checkpointer_;
  bool checkpoint_wanted_ = false;  // guarded by mu_
  bool stopping_ = false;           // guarded by mu_
  std::thread checkpointer_;
};

}  // namespace cairn::chunkserver
