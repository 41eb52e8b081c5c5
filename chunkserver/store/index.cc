#include "chunkserver/store/index.h"

#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>

#include "chunkserver/store/codec.h"
#include "chunkserver/store/index_db.h"
#include "chunkserver/store/index_keys.h"
#include "common/check.h"

namespace cairn::chunkserver {
namespace {

// Longer extents are stored in parts: overwriting one block then rewrites at most this many checksums, and
// whatever touches a block begins less than this before it.
constexpr uint64_t kMaxExtentBlocks = 64;
constexpr uint64_t kAllBlocks = std::numeric_limits<uint64_t>::max();
constexpr uint32_t kIndexFormat = 2;
constexpr uint64_t kMemoryPerKey = 96;  // of RocksDB's skip list, about

struct Range {
  uint64_t begin;
  uint64_t end;
};

// What a record replaces, as disjoint ranges in order.
std::vector<Range> ReplacedRanges(const Record& record) {
  std::vector<Range> ranges;
  if (record.type == RecordType::kMap || record.type == RecordType::kErase) {
    if (record.type == RecordType::kMap || record.quarantine_until == 0) ranges.push_back({0, kAllBlocks});
    return ranges;
  }
  if (record.type == RecordType::kShadow) return ranges;
  if (record.drop_begin < record.drop_end) ranges.push_back({record.drop_begin, record.drop_end});
  for (const Extent& extent : record.extents) ranges.push_back({extent.block, extent.end_block()});
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::vector<Range> merged;
  for (const Range& range : ranges) {
    if (!merged.empty() && range.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, range.end);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

std::string_view Text(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

}  // namespace

struct Index::Change {
  rocksdb::WriteBatch batch;
  std::map<uint32_t, int64_t> live;  // by segment
  std::vector<uint64_t> removed;     // extents, by first block
  std::vector<Extent> put;
  int64_t blocks = 0;  // more held by extents than before
  std::optional<ChunkEntry> next;
};

Index::Index(const IndexOptions& options, std::unique_ptr<IndexDb> db)
    : options_(options), db_(std::move(db)) {}
Index::~Index() = default;

Result<std::unique_ptr<Index>> Index::Open(const IndexOptions& options, bool create) {
  CAIRN_ASSIGN_OR_RETURN(auto db, IndexDb::Open(options.directory, options.cache_bytes, create));
  std::unique_ptr<Index> index(new Index(options, std::move(db)));
  CAIRN_RETURN_IF_ERROR(index->Load());
  return index;
}

Status Index::Destroy(const std::string& directory) {
  std::error_code error;
  std::filesystem::remove_all(directory, error);
  return error ? ErrnoStatus(error.value(), "remove the index in " + directory) : Status::Ok();
}

Result<std::optional<std::string>> Index::Get(const std::string& key) const {
  std::string value;
  const rocksdb::Status status = db_->db()->Get(rocksdb::ReadOptions(), key, &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  CAIRN_RETURN_IF_ERROR(FromRocks(status, "read the index in " + options_.directory));
  return std::optional<std::string>(std::move(value));
}

Status Index::Load() {
  CAIRN_ASSIGN_OR_RETURN(const auto position, Get(std::string(keys::kPosition)));
  if (!position) return Status::Ok();  // nothing was ever written here: replay begins at the very beginning
  CAIRN_ASSIGN_OR_RETURN(const auto format, Get(std::string(keys::kFormat)));
  if (!format || ByteReader(*format).U32() != kIndexFormat) {
    return {StatusCode::kCorrupt, "the index in " + options_.directory + " has no known format"};
  }
  CAIRN_ASSIGN_OR_RETURN(const auto floor, Get(std::string(keys::kFloor)));
  CAIRN_ASSIGN_OR_RETURN(const auto totals, Get(std::string(keys::kTotals)));
  if (position->size() != 8 || !totals || totals->size() != 8 || (floor && floor->size() != 8)) {
    return {StatusCode::kCorrupt, "the index in " + options_.directory + " lacks its own counters"};
  }
  checkpoint_ = LogPosition::Unpack(ByteReader(*position).U64());
  if (floor) epoch_floor_ = ByteReader(*floor).U64();
  chunks_ = ByteReader(*totals).U64();
  rocksdb::ReadOptions read;
  read.total_order_seek = true;
  std::unique_ptr<rocksdb::Iterator> it(db_->db()->NewIterator(read));
  for (it->Seek("l"); it->Valid() && it->key().starts_with("l"); it->Next()) {
    const uint64_t bytes = ByteReader(Text(it->value())).U64();
    live_[static_cast<uint32_t>(keys::ReadBigEndian(Text(it->key()).substr(1)))] = bytes;
    used_ += bytes;
  }
  saved_live_ = live_;
  return FromRocks(it->status(), "read the index in " + options_.directory);
}

Result<std::optional<ChunkEntry>> Index::Peek(ChunkId chunk) const {
  CAIRN_ASSIGN_OR_RETURN(const auto value, Get(keys::Entry(chunk)));
  if (!value) return std::optional<ChunkEntry>();
  auto entry = DecodeEntry(*value);
  if (!entry)
    return Status(StatusCode::kCorrupt, "the index in " + options_.directory +
                                            " has a malformed entry of chunk " + ToString(chunk));
  return entry;
}

Result<std::optional<ChunkEntry>> Index::Find(ChunkId chunk) {
  if (const auto found = cache_index_.find(chunk); found != cache_index_.end()) {
    cached_.splice(cached_.begin(), cached_, found->second);
    return std::optional<ChunkEntry>(found->second->entry);
  }
  if (chunk == absent_) return std::optional<ChunkEntry>();
  CAIRN_ASSIGN_OR_RETURN(auto entry, Peek(chunk));
  if (entry) {
    Remember(chunk, entry, std::nullopt);
  } else {
    absent_ = chunk;
  }
  return entry;
}

Result<uint64_t> Index::AllocatedBlocks(ChunkId chunk) {
  CAIRN_ASSIGN_OR_RETURN(const auto entry, Find(chunk));
  if (!entry) return uint64_t{0};
  if (const auto& known = cached_.front().blocks) return *known;  // Find made it the most recent one
  CAIRN_ASSIGN_OR_RETURN(const View view, LookInDb(chunk, 0, kAllBlocks, /*only_memory=*/false));
  uint64_t blocks = 0;
  for (const Extent& extent : view.extents) blocks += extent.end_block() - extent.block;
  cached_.front().blocks = blocks;
  return blocks;
}

void Index::Remember(ChunkId chunk, const std::optional<ChunkEntry>& entry, std::optional<uint64_t> blocks) {
  const auto found = cache_index_.find(chunk);
  if (!entry) {
    if (found != cache_index_.end()) {
      cached_.erase(found->second);
      cache_index_.erase(found);
    }
    return;
  }
  if (found != cache_index_.end()) {
    found->second->entry = *entry;
    found->second->blocks = blocks;
    cached_.splice(cached_.begin(), cached_, found->second);
    return;
  }
  cached_.push_front({chunk, *entry, blocks});
  cache_index_[chunk] = cached_.begin();
  if (cached_.size() > options_.max_cached_entries) {
    cache_index_.erase(cached_.back().chunk);
    cached_.pop_back();
  }
}

void Index::PutExtent(ChunkId chunk, const Extent& extent, Change* change) {
  for (uint64_t block = extent.block; block < extent.end_block(); block += kMaxExtentBlocks) {
    Extent part = extent.Slice(block, std::min(block + kMaxExtentBlocks, extent.end_block()));
    change->batch.Put(keys::ExtentAt(chunk, part.block), EncodeExtent(part));
    change->live[part.at.segment] += part.bytes;
    change->blocks += static_cast<int64_t>(part.end_block() - part.block);
    change->put.push_back(std::move(part));
  }
}

Status Index::ReplaceExtents(const Record& record, const ChunkEntry& old, Change* change) {
  const std::vector<Range> ranges = ReplacedRanges(record);
  if (!ranges.empty() && ranges.front().begin < old.end_block) {
    const uint64_t begin = ranges.front().begin;
    const uint64_t end = ranges.back().end;
    View present;  // keeps what `touched` points to, unless the hot ones do
    std::vector<const Extent*> touched;
    if (const HotExtents::Extents* hot = hot_extents_.Find(record.chunk)) {
      touched = ExtentsIn(*hot, begin, end);
    } else {
      const bool load = end != kAllBlocks && hot_extents_.WorthLoading(record.chunk);
      CAIRN_ASSIGN_OR_RETURN(present, Look(record.chunk, load ? 0 : begin, load ? kAllBlocks : end));
      if (load) hot_extents_.Insert(record.chunk, present.extents);
      for (const Extent& extent : present.extents) {
        if (extent.end_block() > begin && extent.block < end) touched.push_back(&extent);
      }
    }
    for (const Extent* extent : touched) {
      // What the ranges leave of it; they are in order, so one pass does.
      std::vector<Extent> rest;
      uint64_t from = extent->block;
      bool replaced = false;
      for (const Range& range : ranges) {
        if (range.end <= extent->block || range.begin >= extent->end_block()) continue;
        replaced = true;
        if (range.begin > from) rest.push_back(extent->Slice(from, range.begin));
        from = std::max(from, range.end);
      }
      if (!replaced) continue;
      if (from < extent->end_block()) rest.push_back(extent->Slice(from, extent->end_block()));
      change->batch.Delete(keys::ExtentAt(record.chunk, extent->block));
      change->live[extent->at.segment] -= extent->bytes;
      change->blocks -= static_cast<int64_t>(extent->end_block() - extent->block);
      change->removed.push_back(extent->block);
      for (const Extent& part : rest) PutExtent(record.chunk, part, change);
    }
  }
  if (record.type != RecordType::kShadow) {
    for (const Extent& extent : record.extents) PutExtent(record.chunk, extent, change);
  }
  return Status::Ok();
}

void Index::UpdateHotExtents(const Record& record, const Change& change) {
  if (record.type == RecordType::kMap || record.type == RecordType::kErase) return hot_extents_.Forget(record.chunk);
  for (const uint64_t block : change.removed) hot_extents_.Erase(record.chunk, block);
  for (const Extent& extent : change.put) hot_extents_.Put(record.chunk, extent);
  hot_extents_.Trim(record.chunk);
}

Status Index::Apply(const Record& record, const SegmentLog::Place& place) {
  if (record.type == RecordType::kSegmentHeader) return Status::Ok();
  Change change;
  if (record.type == RecordType::kEpochFloor) {
    ByteWriter floor;
    floor.U64(record.state.promised.value());
    change.batch.Put(std::string(keys::kFloor), std::string(floor.view()));
    CAIRN_RETURN_IF_ERROR(db_->Write(&change.batch));
    epoch_floor_ = record.state.promised.value();
    return Status::Ok();
  }
  const ChunkId chunk = record.chunk;
  CAIRN_ASSIGN_OR_RETURN(const auto old, Find(chunk));
  if (chunk == absent_) absent_ = {};
  const bool was_visible = old && old->quarantine_until == 0;
  const bool gone = record.type == RecordType::kErase && record.quarantine_until == 0;
  if (old || !record.extents.empty()) {
    CAIRN_RETURN_IF_ERROR(ReplaceExtents(record, old.value_or(ChunkEntry{}), &change));
  }
  if (gone) {
    change.batch.Delete(keys::Entry(chunk));
    ByteWriter grave;
    grave.U64(place.begin.Pack());
    grave.U32(record.first_segment);
    change.batch.Put(keys::GraveOf(chunk), std::string(grave.view()));
    grave_of_ = {};
  } else {
    change.next = NextEntry(old ? &*old : nullptr, record, place);
    change.batch.Put(keys::Entry(chunk), EncodeEntry(*change.next));
    if (!old) {
      CAIRN_ASSIGN_OR_RETURN(const auto grave, FindGrave(chunk));
      if (grave) change.batch.Delete(keys::GraveOf(chunk));
      grave_of_ = {};
    }
  }
  if (record.quarantine_until != 0) {
    ByteWriter until;
    until.U64(record.quarantine_until);
    change.batch.Put(keys::Quarantine(chunk), std::string(until.view()));
  } else if (old && old->quarantine_until != 0) {
    change.batch.Delete(keys::Quarantine(chunk));
  }
  CAIRN_RETURN_IF_ERROR(db_->Write(&change.batch));

  memory_bytes_ += change.batch.GetDataSize() + kMemoryPerKey * change.batch.Count();
  std::optional<uint64_t> blocks;
  if (!old) blocks = 0;
  if (const auto found = cache_index_.find(chunk); found != cache_index_.end()) blocks = found->second->blocks;
  if (blocks) *blocks = static_cast<uint64_t>(static_cast<int64_t>(*blocks) + change.blocks);
  Remember(chunk, change.next, blocks);
  UpdateHotExtents(record, change);
  views_.Forget(chunk);
  const bool is_visible = change.next && change.next->quarantine_until == 0;
  chunks_ += is_visible && !was_visible ? 1 : 0;
  chunks_ -= !is_visible && was_visible ? 1 : 0;
  for (const auto& [segment, delta] : change.live) {
    uint64_t& live = live_[segment];
    live = static_cast<uint64_t>(static_cast<int64_t>(live) + delta);
    used_ = static_cast<uint64_t>(static_cast<int64_t>(used_) + delta);
  }
  return Status::Ok();
}

Result<Index::View> Index::Look(ChunkId chunk, uint64_t begin, uint64_t end, bool only_memory) const {
  std::shared_ptr<const ViewCache::View> whole = views_.Find(chunk);
  if (whole == nullptr) {
    const uint64_t generation = views_.generation();
    CAIRN_ASSIGN_OR_RETURN(View view, LookInDb(chunk, begin, end, only_memory));
    // A chunk that is written would be forgotten at once; one that is read once would not be asked for again.
    const bool sealed = view.entry && view.entry->state.sealed == view.entry->state.accepted.epoch;
    if (!sealed || !views_.SeenBefore(chunk)) return view;
    Result<View> all = LookInDb(chunk, 0, kAllBlocks, only_memory);
    if (!all.ok() || !all->entry) return view;
    whole = std::make_shared<ViewCache::View>(ViewCache::View{*all->entry, std::move(all->extents)});
    views_.Insert(chunk, whole, generation);
    return view;
  }
  View view;
  view.entry = whole->entry;
  auto extent = std::upper_bound(whole->extents.begin(), whole->extents.end(), begin,
                                 [](uint64_t block, const Extent& e) { return block < e.end_block(); });
  for (; extent != whole->extents.end() && extent->block < end; ++extent) view.extents.push_back(*extent);
  return view;
}

Result<Index::View> Index::LookInDb(ChunkId chunk, uint64_t begin, uint64_t end, bool only_memory) const {
  // One iterator: entry and extents of the same moment.
  const std::string entry_key = keys::Entry(chunk);
  const std::string last_key = keys::WithNumber('c', chunk.value()) + 'y';
  const rocksdb::Slice upper_bound(last_key);
  rocksdb::ReadOptions read;
  read.iterate_upper_bound = &upper_bound;
  if (only_memory) read.read_tier = rocksdb::kBlockCacheTier;
  std::unique_ptr<rocksdb::Iterator> it(db_->db()->NewIterator(read));
  View view;
  const auto malformed = [&](const char* what) {
    return Status(StatusCode::kCorrupt, "the index in " + options_.directory + " has a malformed " + what +
                                            " of chunk " + ToString(chunk));
  };
  it->Seek(entry_key);
  if (it->Valid() && Text(it->key()) == entry_key) {
    view.entry = DecodeEntry(Text(it->value()));
    if (!view.entry) return malformed("entry");
  }
  if (view.entry && begin < end && begin < view.entry->end_block) {
    const uint64_t from = begin < kMaxExtentBlocks ? 0 : begin - (kMaxExtentBlocks - 1);
    for (it->Seek(keys::ExtentAt(chunk, from)); it->Valid(); it->Next()) {
      const uint64_t block = keys::BlockOf(Text(it->key()));
      if (block >= end) break;
      auto extent = DecodeExtent(block, Text(it->value()));
      if (!extent) return malformed("extent");
      if (extent->end_block() > begin) view.extents.push_back(std::move(*extent));
    }
  }
  if (it->status().IsIncomplete()) return Status(StatusCode::kBusy, "the index has to be read from disk");
  if (!it->status().ok()) return FromRocks(it->status(), "read the index in " + options_.directory);
  return view;
}

Status Index::ForEach(const std::function<bool(ChunkId, const ChunkEntry&)>& visit) const {
  std::unique_ptr<rocksdb::Iterator> it(db_->db()->NewIterator(rocksdb::ReadOptions()));
  const std::string end = "d";
  it->Seek("c");
  while (it->Valid() && it->key().compare(end) < 0) {
    const std::string_view key = Text(it->key());
    const ChunkId chunk = keys::ChunkOf(key);
    if (keys::IsEntry(key)) {
      const auto entry = DecodeEntry(Text(it->value()));
      if (!entry) {
        return {StatusCode::kCorrupt,
                "the index in " + options_.directory + " has a malformed entry of chunk " + ToString(chunk)};
      }
      if (!visit(chunk, *entry)) return Status::Ok();
    }
    // Over the extents to the next chunk.
    it->Seek(keys::WithNumber('c', chunk.value()) + 'y');
  }
  return FromRocks(it->status(), "read the index in " + options_.directory);
}

Result<std::optional<Grave>> Index::FindGrave(ChunkId chunk) {
  if (chunk && chunk == grave_of_) return grave_;
  CAIRN_ASSIGN_OR_RETURN(const auto value, Get(keys::GraveOf(chunk)));
  grave_of_ = chunk;
  grave_.reset();
  if (value) {
    ByteReader in(*value);
    grave_.emplace();
    grave_->erased_at = LogPosition::Unpack(in.U64());
    grave_->first_segment = in.U32();
  }
  return grave_;
}

Status Index::DropGrave(ChunkId chunk) {
  grave_of_ = {};
  rocksdb::WriteBatch batch;
  batch.Delete(keys::GraveOf(chunk));
  return db_->Write(&batch);
}

Status Index::ForgetSegment(uint32_t number) {
  rocksdb::WriteBatch batch;
  batch.Delete(keys::Live(number));
  CAIRN_RETURN_IF_ERROR(db_->Write(&batch));
  if (const auto found = live_.find(number); found != live_.end()) {
    used_ -= found->second;
    live_.erase(found);
  }
  saved_live_.erase(number);
  return Status::Ok();
}

Result<std::vector<ChunkId>> Index::QuarantinesEndingBy(uint64_t wall_seconds, size_t limit) const {
  std::vector<ChunkId> chunks;
  std::unique_ptr<rocksdb::Iterator> it(db_->db()->NewIterator(rocksdb::ReadOptions()));
  for (it->Seek("q"); it->Valid() && it->key().starts_with("q") && chunks.size() < limit; it->Next()) {
    if (ByteReader(Text(it->value())).U64() <= wall_seconds) {
      chunks.push_back(keys::ChunkOf(Text(it->key())));
    }
  }
  CAIRN_RETURN_IF_ERROR(FromRocks(it->status(), "read the index in " + options_.directory));
  return chunks;
}

Status Index::Freeze(LogPosition position) {
  rocksdb::WriteBatch batch;
  const auto number = [](uint64_t value) {
    ByteWriter out;
    out.U64(value);
    return std::string(out.view());
  };
  ByteWriter format;
  format.U32(kIndexFormat);
  batch.Put(std::string(keys::kFormat), std::string(format.view()));
  batch.Put(std::string(keys::kPosition), number(position.Pack()));
  batch.Put(std::string(keys::kTotals), number(chunks_));
  for (const auto& [segment, bytes] : live_) {
    const auto saved = saved_live_.find(segment);
    if (saved == saved_live_.end() || saved->second != bytes) batch.Put(keys::Live(segment), number(bytes));
  }
  CAIRN_RETURN_IF_ERROR(db_->Write(&batch));
  CAIRN_RETURN_IF_ERROR(db_->StartFlush());
  saved_live_ = live_;
  memory_bytes_ = 0;
  checkpoint_ = position;
  return Status::Ok();
}

Status Index::FinishCheckpoint() { return db_->WaitForFlush(); }

}  // namespace cairn::chunkserver
