#include "tests/chunkserver/memory_store.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>

#include "common/checksum.h"

namespace cairn::chunkserver {

using replication::Action;
using replication::MutationKind;
using replication::ReplicaInfo;
using replication::ReplicaState;
using replication::Verdict;

void MemoryStore::Content::Resize(ChunkId chunk, uint64_t length) {
  const uint64_t old_blocks = checksums.size();
  const uint64_t blocks = BlocksTouched(0, length);
  bytes.resize(blocks * kBlockBytes);
  checksums.resize(blocks);
  if (length % kBlockBytes != 0) {
    std::fill(bytes.begin() + static_cast<ptrdiff_t>(length), bytes.end(), std::byte{0});
  }
  Seal(chunk, std::min(old_blocks, blocks), blocks);
  if (blocks > 0) Seal(chunk, blocks - 1, blocks);
}

void MemoryStore::Content::Seal(ChunkId chunk, uint64_t first_block, uint64_t last_block) {
  for (uint64_t b = first_block; b < last_block; ++b) {
    checksums[b] = BlockChecksum(chunk, b, std::span(bytes).subspan(b * kBlockBytes, kBlockBytes));
  }
}

void MemoryStore::Fail(const std::string& why) {
  std::lock_guard lock(mu_);
  failure_ = why;
  failed_ = true;
}

void MemoryStore::DamageBlock(ChunkId chunk, uint64_t block) {
  std::lock_guard lock(mu_);
  replicas_.at(chunk).content.bytes.at(block * kBlockBytes) ^= std::byte{1};
}

void MemoryStore::HoldFlushes(bool hold) {
  std::lock_guard lock(mu_);
  hold_flushes_ = hold;
  flush_go_.notify_all();
}

Epoch MemoryStore::floor() const {
  std::lock_guard lock(mu_);
  return floor_;
}

Status MemoryStore::SetIdentity(Uuid cluster, Uuid server_uuid, ServerId server) {
  if (identity_.cluster && identity_.cluster != cluster)
    return Status(StatusCode::kWrongCluster, "another cluster's");
  identity_.cluster = cluster;
  identity_.server_uuid = server_uuid;
  identity_.server = server;
  return Status::Ok();
}

Status MemoryStore::SetEpochFloor(Epoch floor) {
  std::lock_guard lock(mu_);
  floor_ = floor;
  for (auto& [chunk, replica] : replicas_) replica.state.promised = std::max(replica.state.promised, floor);
  amnesic_ = false;
  return Status::Ok();
}

Status MemoryStore::failure() const {
  std::lock_guard lock(mu_);
  return failed_ ? Status(StatusCode::kIoError, failure_) : Status::Ok();
}

Status MemoryStore::CheckDisk() const {
  return failed_ ? Status(StatusCode::kIoError, failure_) : Status::Ok();
}

StoreUsage MemoryStore::Usage() const {
  std::lock_guard lock(mu_);
  StoreUsage usage;
  usage.total_bytes = 2 * free_bytes_;
  usage.free_bytes = free_bytes_;
  for (const auto& [chunk, replica] : replicas_) usage.used_bytes += replica.content.bytes.size();
  usage.free_bytes -= std::min(usage.free_bytes, usage.used_bytes);
  usage.chunks = replicas_.size();
  return usage;
}

ReplicaInfo MemoryStore::InfoOf(ChunkId chunk, const Replica& replica) const {
  ReplicaInfo info;
  info.chunk = chunk;
  info.promised = replica.state.promised;
  info.accepted = replica.state.accepted;
  info.durable = replica.durable;
  info.length = replica.state.length;
  info.sealed = replica.state.sealed;
  info.tombstone = replica.state.tombstone;
  info.amnesic = amnesic_ || replica.state.accepted.epoch < floor_;
  info.corrupt = replica.corrupt;
  return info;
}

Status MemoryStore::Change(ChunkId chunk, ReplicaInfo* info,
                           const std::function<Verdict(const ReplicaState&)>& check) {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckDisk());
  const auto found = replicas_.find(chunk);
  const ReplicaState state =
      found == replicas_.end() ? replication::AbsentReplica(floor_) : found->second.state;
  const Verdict verdict = check(state);
  if (verdict.action == Action::kApply) replicas_[chunk].state = verdict.next;
  if (replicas_.contains(chunk)) *info = InfoOf(chunk, replicas_[chunk]);
  return verdict.action == Action::kRefuse ? verdict.status : Status::Ok();
}

Status MemoryStore::Mutate(const wire::MutateRequest& request, std::span<const std::byte> data,
                           ReplicaInfo* info) {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckDisk());
  const replication::Mutation& m = request.mutation;
  if (const int64_t bad = FirstBadBlock(m.chunk, m.offset, data, request.checksums); bad >= 0) {
    return {StatusCode::kCorrupt, "block " + std::to_string(bad) + " arrived damaged"};
  }
  const auto found = replicas_.find(m.chunk);
  const ReplicaState state =
      found == replicas_.end() ? replication::AbsentReplica(floor_) : found->second.state;
  const Verdict verdict = replication::CheckMutation(state, m);
  if (verdict.action == Action::kApply) {
    Replica& replica = replicas_[m.chunk];
    const uint64_t end =
        m.kind == MutationKind::kZero ? std::min(m.offset + m.length, state.length) : m.offset + m.length;
    const uint64_t first = m.offset / kBlockBytes;
    const uint64_t last = BlocksTouched(0, end);
    if (m.kind == MutationKind::kWrite) {
      CAIRN_RETURN_IF_ERROR(Verify(m.chunk, replica, first, last - first));
      if (end > state.length) replica.content.Resize(m.chunk, end);
      std::memcpy(replica.content.bytes.data() + m.offset, data.data(), data.size());
      replica.content.Seal(m.chunk, first, last);
    } else if (m.kind == MutationKind::kTruncate) {
      replica.content.Resize(m.chunk, m.offset);
    } else if (m.offset < end) {
      std::memset(replica.content.bytes.data() + m.offset, 0, end - m.offset);
      replica.content.Seal(m.chunk, first, last);
    }
    replica.state = verdict.next;
  }
  if (replicas_.contains(m.chunk)) *info = InfoOf(m.chunk, replicas_[m.chunk]);
  return verdict.action == Action::kRefuse ? verdict.status : Status::Ok();
}

Status MemoryStore::Begin(ChunkId chunk, Epoch epoch, Stamp base, ReplicaInfo* info) {
  return Change(chunk, info, [&](const ReplicaState& s) { return replication::CheckBegin(s, epoch, base); });
}
Status MemoryStore::Fence(ChunkId chunk, Epoch epoch, ReplicaInfo* info) {
  return Change(chunk, info, [&](const ReplicaState& s) { return replication::CheckFence(s, epoch); });
}
Status MemoryStore::Seal(ChunkId chunk, Stamp stamp, ReplicaInfo* info) {
  if (const Status known = Query(chunk, info); !known.ok()) return known;
  return Change(chunk, info, [&](const ReplicaState& s) { return replication::CheckSeal(s, stamp); });
}
Status MemoryStore::PrepareDelete(ChunkId chunk, Epoch epoch, ReplicaInfo* info) {
  return Change(chunk, info,
                [&](const ReplicaState& s) { return replication::CheckPrepareDelete(s, epoch); });
}
Status MemoryStore::AbortDelete(ChunkId chunk, Epoch epoch, ReplicaInfo* info) {
  return Change(chunk, info, [&](const ReplicaState& s) { return replication::CheckAbortDelete(s, epoch); });
}

Status MemoryStore::Erase(ChunkId chunk, Epoch epoch, bool quarantine) {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckDisk());
  const auto found = replicas_.find(chunk);
  if (found == replicas_.end()) return Status(StatusCode::kUnknownChunk, "not here");
  const Verdict verdict = replication::CheckErase(found->second.state, epoch);
  if (verdict.action == Action::kRefuse) return verdict.status;
  replicas_.erase(found);
  return Status::Ok();
}

Status MemoryStore::Query(ChunkId chunk, ReplicaInfo* info) const {
  std::lock_guard lock(mu_);
  const auto found = replicas_.find(chunk);
  if (found == replicas_.end()) return Status(StatusCode::kUnknownChunk, "not here");
  *info = InfoOf(chunk, found->second);
  return Status::Ok();
}

Status MemoryStore::ForEach(const std::function<bool(const ReplicaInfo&)>& visit) const {
  std::vector<ReplicaInfo> all;
  {
    std::lock_guard lock(mu_);
    for (const auto& [chunk, replica] : replicas_) all.push_back(InfoOf(chunk, replica));
  }
  for (const ReplicaInfo& info : all) {
    if (!visit(info)) break;
  }
  return Status::Ok();
}

Status MemoryStore::Verify(ChunkId chunk, const Replica& replica, uint64_t first_block,
                           uint64_t blocks) const {
  for (uint64_t b = first_block;
       b < std::min<uint64_t>(first_block + blocks, replica.content.checksums.size()); ++b) {
    const auto bytes = std::span(replica.content.bytes).subspan(b * kBlockBytes, kBlockBytes);
    if (BlockChecksum(chunk, b, bytes) != replica.content.checksums[b]) {
      return Status(StatusCode::kCorrupt, "block " + std::to_string(b) + " does not match its checksum");
    }
  }
  return Status::Ok();
}

Result<ReadData> MemoryStore::Read(const wire::ReadRequest& request, bool verify) const {
  if (on_read) on_read();
  std::lock_guard lock(mu_);
  const auto found = replicas_.find(request.chunk);
  if (found == replicas_.end()) return Status(StatusCode::kUnknownChunk, "not here");
  const Replica& replica = found->second;
  CAIRN_RETURN_IF_ERROR(replication::CheckRead(replica.state, request.want, request.exact));
  ReadData read;
  read.stamp = replica.state.accepted;
  read.chunk_length = replica.state.length;
  read.offset = request.offset / kBlockBytes * kBlockBytes;
  if (request.offset >= replica.state.length) return read;
  const uint64_t last = BlocksTouched(0, std::min(request.offset + request.length, replica.state.length));
  const uint64_t end = std::min(last * kBlockBytes, replica.state.length);
  const auto at = [](uint64_t offset) { return static_cast<ptrdiff_t>(offset); };
  if (verify) {
    CAIRN_RETURN_IF_ERROR(
        Verify(request.chunk, replica, read.offset / kBlockBytes, last - read.offset / kBlockBytes));
  }
  read.data = net::SharedBytes::Own(std::vector<std::byte>(replica.content.bytes.begin() + at(read.offset),
                                                           replica.content.bytes.begin() + at(end)));
  read.checksums.assign(replica.content.checksums.begin() + at(read.offset / kBlockBytes),
                        replica.content.checksums.begin() + at(last));
  return read;
}

Result<std::vector<wire::Digest>> MemoryStore::Digests(const wire::DigestsRequest& request,
                                                       uint64_t* chunk_length) const {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckDisk());
  const auto found = replicas_.find(request.chunk);
  if (found == replicas_.end()) return Status(StatusCode::kUnknownChunk, "not here");
  const Replica& replica = found->second;
  if (request.want != Stamp{})
    CAIRN_RETURN_IF_ERROR(replication::CheckRead(replica.state, request.want, true));
  *chunk_length = replica.state.length;
  constexpr uint64_t kRange = wire::kDigestRangeBytes;
  std::vector<wire::Digest> digests;
  for (uint64_t at = request.offset; at < request.offset + request.length && at < replica.state.length;
       at += kRange) {
    if (!Verify(request.chunk, replica, at / kBlockBytes, kRange / kBlockBytes).ok()) {
      digests.push_back({});
      continue;
    }
    std::vector<std::byte> range(kRange);
    const uint64_t bytes = std::min<uint64_t>(kRange, replica.content.bytes.size() - at);
    std::memcpy(range.data(), replica.content.bytes.data() + at, bytes);
    uint8_t full[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_Digest(range.data(), range.size(), full, &size, EVP_sha256(), nullptr);
    wire::Digest digest;
    std::copy_n(full, digest.size(), digest.begin());
    digests.push_back(digest);
  }
  return digests;
}

Result<wire::ExtentsReply> MemoryStore::Extents(const wire::ExtentsRequest& request) const {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckDisk());
  const auto found = replicas_.find(request.chunk);
  if (found == replicas_.end()) return Status(StatusCode::kUnknownChunk, "not here");
  const Replica& replica = found->second;
  CAIRN_RETURN_IF_ERROR(replication::CheckRead(replica.state, request.want, request.exact));
  wire::ExtentsReply reply;
  reply.chunk_length = reply.complete_to = replica.state.length;
  for (uint64_t at = 0; at < replica.state.length; at += kBlockBytes) {
    const uint64_t bytes = std::min<uint64_t>(kBlockBytes, replica.state.length - at);
    const auto block = replica.content.bytes.begin() + static_cast<ptrdiff_t>(at);
    const bool hole = std::all_of(block, block + static_cast<ptrdiff_t>(bytes), [](std::byte b) { return b == std::byte{0}; });
    if (hole || at + bytes <= request.offset) continue;
    if (!reply.ranges.empty() && reply.ranges.back().offset + reply.ranges.back().length == at) {
      reply.ranges.back().length += bytes;
    } else {
      reply.ranges.push_back({at, bytes});
    }
  }
  return reply;
}

Result<uint64_t> MemoryStore::AllocatedBytes(ChunkId chunk) const {
  std::lock_guard lock(mu_);
  const auto found = replicas_.find(chunk);
  if (found == replicas_.end()) return Status(StatusCode::kUnknownChunk, "not here");
  const uint64_t length = found->second.state.length;
  return length == 0 ? 0 : BlocksTouched(0, length) * kBlockBytes;
}

Status MemoryStore::Flush() {
  std::unique_lock lock(mu_);
  ++flushes_waiting_;
  flush_go_.wait(lock, [this] { return !hold_flushes_; });
  --flushes_waiting_;
  CAIRN_RETURN_IF_ERROR(CheckDisk());
  ++flushes_;
  for (auto& [chunk, replica] : replicas_) replica.durable = replica.state.accepted;
  return Status::Ok();
}

Status MemoryStore::SyncStart(ChunkId chunk, Epoch epoch, Stamp base, uint64_t length) {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckDisk());
  const auto found = replicas_.find(chunk);
  const ReplicaState state =
      found == replicas_.end() ? replication::AbsentReplica(floor_) : found->second.state;
  const Verdict verdict = replication::CheckSyncStart(state, epoch, base);
  if (verdict.action == Action::kRefuse) return verdict.status;
  Replica& replica = replicas_[chunk];
  if (verdict.action == Action::kApply) replica.state = verdict.next;
  replica.shadow = std::make_unique<Content>(replica.content);
  // Damaged blocks keep their wrong checksum, so that a sync which does not replace them leaves them damaged.
  const uint64_t blocks = BlocksTouched(0, length);
  replica.shadow->bytes.resize(blocks * kBlockBytes);
  const uint64_t known = std::min<uint64_t>(replica.shadow->checksums.size(), blocks);
  replica.shadow->checksums.resize(blocks);
  replica.shadow->Seal(chunk, known, blocks);
  replica.shadow_length = length;
  return Status::Ok();
}

Status MemoryStore::SyncWrite(ChunkId chunk, uint64_t offset, std::span<const std::byte> data,
                              std::span<const uint32_t> checksums) {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckDisk());
  const auto found = replicas_.find(chunk);
  if (found == replicas_.end() || !found->second.shadow)
    return Status(StatusCode::kFailedPrecondition, "no sync");
  Content& shadow = *found->second.shadow;
  if (offset % kBlockBytes != 0 || offset + data.size() > found->second.shadow_length ||
      checksums.size() != BlocksTouched(offset, data.size())) {
    return Status(StatusCode::kInvalidArgument, "not blocks of the chunk");
  }
  for (size_t i = 0; i < checksums.size(); ++i) {
    const auto block =
        data.subspan(i * kBlockBytes, std::min<size_t>(kBlockBytes, data.size() - i * kBlockBytes));
    if (BlockChecksum(chunk, offset / kBlockBytes + i, block) != checksums[i]) {
      return Status(StatusCode::kCorrupt, "sync data is damaged");
    }
  }
  std::fill_n(shadow.bytes.begin() + static_cast<ptrdiff_t>(offset), checksums.size() * kBlockBytes,
              std::byte{0});
  std::memcpy(shadow.bytes.data() + offset, data.data(), data.size());
  std::copy(checksums.begin(), checksums.end(),
            shadow.checksums.begin() + static_cast<ptrdiff_t>(offset / kBlockBytes));
  return Status::Ok();
}

Status MemoryStore::SyncFinish(ChunkId chunk, Stamp base, ReplicaInfo* info) {
  std::lock_guard lock(mu_);
  CAIRN_RETURN_IF_ERROR(CheckDisk());
  const auto found = replicas_.find(chunk);
  if (found == replicas_.end() || !found->second.shadow)
    return Status(StatusCode::kFailedPrecondition, "no sync");
  Replica& replica = found->second;
  const Verdict verdict = replication::CheckSyncFinish(replica.state, base, replica.shadow_length);
  if (verdict.action == Action::kRefuse) return verdict.status;
  replica.content = std::move(*replica.shadow);
  replica.shadow.reset();
  replica.corrupt = false;
  if (verdict.action == Action::kApply) replica.state = verdict.next;
  if (const uint64_t tail = replica.shadow_length % kBlockBytes; tail != 0) {
    replica.content.Resize(chunk, replica.shadow_length);
  }
  replica.durable = replica.state.accepted;
  *info = InfoOf(chunk, replica);
  return Status::Ok();
}

void MemoryStore::SyncAbandon(ChunkId chunk) {
  std::lock_guard lock(mu_);
  const auto found = replicas_.find(chunk);
  if (found != replicas_.end()) found->second.shadow.reset();
}

Status MemoryStore::MarkCorrupt(ChunkId chunk, uint64_t offset) {
  std::lock_guard lock(mu_);
  const auto found = replicas_.find(chunk);
  if (found == replicas_.end()) return Status(StatusCode::kUnknownChunk, "not here");
  found->second.corrupt = true;
  return Status::Ok();
}

Result<uint64_t> MemoryStore::Reclaim() {
  ++reclaims_;
  return uint64_t{0};
}

}  // namespace cairn::chunkserver
