// Bringing a replica to exactly the base of a sync: the shadow collects what differs, one record swaps it in.
//
// Shadow data lies in segments like any other, but nothing refers to it until the swap: a kMap record that
// names every extent of the chunk and carries the new stamp. Before that record is whole on disk the old
// replica is, after it the new one.
#include <algorithm>

#include "chunkserver/store/log_chunk_store.h"
#include "common/check.h"

namespace cairn::chunkserver {
namespace {

using replication::Action;
using replication::ReplicaInfo;
using replication::Verdict;

// Removes blocks [begin, end) from disjoint extents.
void Clear(std::map<uint64_t, Extent>* extents, uint64_t begin, uint64_t end) {
  auto it = extents->upper_bound(begin);
  if (it != extents->begin()) --it;
  while (it != extents->end() && it->first < end) {
    if (it->second.end_block() <= begin) {
      ++it;
      continue;
    }
    const Extent whole = std::move(it->second);
    it = extents->erase(it);
    if (whole.block < begin) (*extents)[whole.block] = whole.Slice(whole.block, begin);
    if (whole.end_block() > end) (*extents)[end] = whole.Slice(end, whole.end_block());
  }
}

}  // namespace

Status LogChunkStore::SyncStart(ChunkId chunk, Epoch epoch, Stamp base, uint64_t length) {
  if (!chunk) return {StatusCode::kInvalidArgument, "chunk 0 does not exist"};
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  CAIRN_ASSIGN_OR_RETURN(Present present, Load(chunk));
  const Verdict verdict = CheckSyncStart(present.state, epoch, base);
  if (verdict.action == Action::kRefuse) return verdict.status;
  CAIRN_RETURN_IF_ERROR(CheckRoom(0));  // a full disk refuses at once; SyncRoom when it is known how much differs
  DropShadow(chunk);
  CAIRN_RETURN_IF_ERROR(MakeAbsent(chunk, &present));
  if (verdict.action == Action::kApply) {
    CAIRN_ASSIGN_OR_RETURN(Record record, NewRecord(RecordType::kState, chunk, present));
    record.state = verdict.next;
    CAIRN_RETURN_IF_ERROR(Commit(&record, {}));
  }
  Shadow& shadow = shadows_[chunk];
  shadow.generation = next_generation_++;
  shadow.base = base;
  shadow.length = length;
  return Status::Ok();
}

Status LogChunkStore::SyncRoom(uint64_t bytes) const {
  std::lock_guard lock(mu_);
  return CheckRoom(bytes);
}

Status LogChunkStore::SyncWrite(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                                std::span<const uint32_t> checksums) {
  const uint64_t first = offset / kBlockBytes;
  if (offset % kBlockBytes != 0 || data.empty() || data.size() > wire::kMaxTransferBytes ||
      offset > UINT64_MAX / 2 || checksums.size() != BlocksTouched(offset, data.size())) {
    return {StatusCode::kInvalidArgument, "sync data of chunk " + ToString(chunk) + " at " +
                                              std::to_string(offset) + ": " + std::to_string(data.size()) +
                                              " bytes, " + std::to_string(checksums.size()) + " checksums"};
  }
  for (size_t i = 0; i < checksums.size(); ++i) {
    const auto rest = data.subspan(i * kBlockBytes);
    if (BlockChecksum(chunk, first + i, rest.first(std::min<size_t>(rest.size(), kBlockBytes))) !=
        checksums[i]) {
      return {StatusCode::kCorrupt, "sync data of chunk " + ToString(chunk) + ": block " +
                                        std::to_string(first + i) +
                                        " arrived damaged (its checksum does not match)"};
    }
  }
  if (checkpoint_overdue_) CAIRN_RETURN_IF_ERROR(Checkpoint());
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  const auto found = shadows_.find(chunk);
  if (found == shadows_.end()) {
    return {StatusCode::kFailedPrecondition,
            "no sync of chunk " + ToString(chunk) + " is running here: start it again"};
  }
  Shadow& shadow = found->second;
  const uint64_t end = offset + data.size();
  if (end > shadow.length || (end % kBlockBytes != 0 && end != shadow.length)) {
    return {StatusCode::kInvalidArgument,
            "sync data of chunk " + ToString(chunk) + " ends at " + std::to_string(end) +
                ", which is neither a block's end nor the length " + std::to_string(shadow.length)};
  }
  CAIRN_RETURN_IF_ERROR(CheckRoom(data.size() + kRecordHeaderBytes));
  CAIRN_ASSIGN_OR_RETURN(const Present present, Load(chunk));
  CAIRN_ASSIGN_OR_RETURN(Record record, NewRecord(RecordType::kShadow, chunk, present));
  Extent extent;
  extent.block = first;
  extent.bytes = static_cast<uint32_t>(data.size());
  extent.checksums.assign(checksums.begin(), checksums.end());
  record.extents.push_back(std::move(extent));
  const std::span<const std::byte> payload[] = {data};
  CAIRN_RETURN_IF_ERROR(Commit(&record, payload));
  const Extent& placed = record.extents.front();
  Clear(&shadow.extents, placed.block, placed.end_block());
  shadow.segments[placed.at.segment] += placed.bytes;
  shadow.extents[placed.block] = placed;
  return Status::Ok();
}

Result<std::vector<Extent>> LogChunkStore::SwappedMap(ChunkId chunk, const Shadow& shadow,
                                                      const Present& present) {
  const uint64_t end_block = BlocksTouched(0, shadow.length);
  std::map<uint64_t, Extent> extents;
  auto view = index_->Look(chunk, 0, end_block);
  if (!view.ok()) return IndexError(view.status());
  for (Extent& extent : view->extents) extents[extent.block] = std::move(extent);
  Clear(&extents, end_block, UINT64_MAX);
  for (const auto& [block, extent] : shadow.extents) {
    Clear(&extents, block, extent.end_block());
    extents[block] = extent;
  }
  // What stays of the old last block must be zeros behind the new length.
  const auto tail = static_cast<uint32_t>(shadow.length % kBlockBytes);
  if (tail != 0 && !extents.empty()) {
    const Extent& last = extents.rbegin()->second;
    if (last.end_block() == end_block && last.Slice(end_block - 1, end_block).bytes > tail) {
      Record record;
      CAIRN_ASSIGN_OR_RETURN(record, NewRecord(RecordType::kShadow, chunk, present));
      Edit edit(chunk, &record, this);
      CAIRN_RETURN_IF_ERROR(edit.Truncate(shadow.length, shadow.length + 1));
      record.drop_begin = record.drop_end = 0;
      CAIRN_RETURN_IF_ERROR(Commit(&record, edit.payload()));
      Clear(&extents, end_block - 1, end_block);
      if (!record.extents.empty()) extents[end_block - 1] = record.extents.front();
    }
  }
  std::vector<Extent> map;
  map.reserve(extents.size());
  for (auto& [block, extent] : extents) map.push_back(std::move(extent));
  return map;
}

Status LogChunkStore::SyncFinish(ChunkId chunk, Stamp base, ReplicaInfo* info) {
  uint64_t generation = 0;
  {
    std::lock_guard lock(mu_);
    const auto found = shadows_.find(chunk);
    if (found == shadows_.end()) {
      CAIRN_ASSIGN_OR_RETURN(const Present present, Load(chunk));
      // A repeat of a finish that was done is answered as done.
      if (present.visible && !present.state.sync_base && present.state.accepted == base) {
        if (info != nullptr) *info = InfoOf(chunk, *present.entry);
        return Status::Ok();
      }
      return {StatusCode::kFailedPrecondition,
              "no sync of chunk " + ToString(chunk) + " is running here: start it again"};
    }
    generation = found->second.generation;
  }
  CAIRN_RETURN_IF_ERROR(Flush());  // the bulk of it without holding up changes
  {
    std::lock_guard lock(mu_);
    CAIRN_RETURN_IF_ERROR(CheckWritable());
    const auto found = shadows_.find(chunk);
    if (found == shadows_.end() || found->second.generation != generation) {
      return {StatusCode::kFailedPrecondition,
              "the sync of chunk " + ToString(chunk) + " was replaced by a newer one"};
    }
    CAIRN_ASSIGN_OR_RETURN(const Present present, Load(chunk));
    const Verdict verdict = CheckSyncFinish(present.state, base, found->second.length);
    if (verdict.action == Action::kRefuse) return verdict.status;
    if (found->second.base != base) {
      return {StatusCode::kFailedPrecondition,
              "the sync of chunk " + ToString(chunk) + " that is running leads to " +
                  ToString(found->second.base) + ", not to " + ToString(base)};
    }
    if (verdict.action == Action::kApply) {
      CAIRN_ASSIGN_OR_RETURN(Record record, NewRecord(RecordType::kMap, chunk, present));
      CAIRN_ASSIGN_OR_RETURN(record.extents, SwappedMap(chunk, found->second, present));
      record.state = verdict.next;
      record.corrupt = false;
      CAIRN_RETURN_IF_ERROR(Commit(&record, {}));
    }
    DropShadow(chunk);
  }
  CAIRN_RETURN_IF_ERROR(Flush());
  return info == nullptr ? Status::Ok() : Query(chunk, info);
}

void LogChunkStore::SyncAbandon(ChunkId chunk) {
  std::lock_guard lock(mu_);
  DropShadow(chunk);
}

void LogChunkStore::DropShadow(ChunkId chunk) {
  shadows_.erase(chunk);  // its bytes are dead: nothing in the index refers to them
}

}  // namespace cairn::chunkserver
