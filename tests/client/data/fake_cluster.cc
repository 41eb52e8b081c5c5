#include "tests/client/data/fake_cluster.h"

#include <algorithm>
#include <random>

namespace cairn::client::testing {

using replication::Action;

Epoch FakeMaster::NewLease() {
  std::lock_guard lock(mu_);
  lease_ended_ = false;
  return Epoch(next_epoch_++);
}

FakeChunkserver* FakeMaster::Server(ServerId id) {
  for (auto& server : *servers_) {
    if (server->id() == id) return server.get();
  }
  return nullptr;
}

Result<std::vector<ChunkPlace>> FakeMaster::Announce(InodeId, Epoch lease, uint64_t first, uint32_t count,
                                                     const std::vector<SealedChunk>& seals) {
  if (!seals.empty()) Apply({.seals = seals});
  std::lock_guard lock(mu_);
  ++announces_;
  if (lease_ended_) return Status(StatusCode::kLeaseLost, "the session ended");
  if (!refuse_announce_.ok()) return refuse_announce_;
  std::vector<ChunkPlace> places;
  for (uint64_t index = first; index < first + count; ++index) {
    ChunkPlace& place = chunks_[index];
    place.index = index;
    if (!place.chunk) {
      place.chunk = ChunkId(next_chunk_++);
      place.config.write_quorum = quorum_;
      for (auto& server : *servers_) {
        if (place.config.members.size() < replicas_ && server->running())
          place.config.members.push_back(server->id());
      }
      for (auto& server : *servers_) {  // those that are down come last
        if (place.config.members.size() < replicas_ && !server->running())
          place.config.members.push_back(server->id());
      }
    }
    // As the master does it: what is open is shown as it is; a chunk sealed under this very lease needs a fresh epoch; of an open
    // chunk neither seal nor carriers are shown.
    const bool open = place.config.epoch >= lease && place.sealed.epoch != place.config.epoch;
    if (!open) {
      place.config.epoch = place.sealed.epoch < lease ? lease : Epoch(next_epoch_++);
      place.config.base = place.sealed;
    }
    places.push_back(place);
    places.back().sealed = {};
    places.back().carriers.clear();
  }
  return places;
}

Result<std::vector<ChunkPlace>> FakeMaster::Layout(InodeId, uint64_t first, uint32_t count) {
  std::lock_guard lock(mu_);
  ++layouts_;
  std::vector<ChunkPlace> places;
  for (auto it = chunks_.lower_bound(first); it != chunks_.end() && it->first < first + count; ++it) {
    places.push_back(it->second);
    ChunkPlace& shown = places.back();
    if (shown.sealed.epoch == shown.config.epoch) continue;
    shown.sealed = {};  // open: as the master shows it
    shown.carriers.clear();
  }
  return places;
}

Result<std::vector<ChunkPlace>> FakeMaster::ExistingChunks(InodeId, uint64_t first, uint32_t count) {
  std::lock_guard lock(mu_);
  ++layouts_;
  std::vector<ChunkPlace> places;
  for (auto it = chunks_.lower_bound(first); it != chunks_.end() && places.size() < count; ++it) {
    places.push_back(it->second);
  }
  return places;
}

Result<ChunkPlace> FakeMaster::ChunkTrouble(InodeId, ChunkId chunk, Epoch epoch,
                                            const std::vector<MemberFailure>& members,
                                            bool need_replacement) {
  std::lock_guard lock(mu_);
  reports_.insert(reports_.end(), members.begin(), members.end());
  for (auto& [index, place] : chunks_) {
    if (place.chunk != chunk) continue;
    if (!need_replacement) return place;
    if (lease_ended_) return Status(StatusCode::kLeaseLost, "the session ended");
    if (place.config.epoch > epoch) return place;
    return ReconfigureLocked(place);
  }
  return Status(StatusCode::kUnknownChunk, "no such chunk");
}

// The configuration procedure of docs/protocol.md, on stores that can be reached.
Result<ChunkPlace> FakeMaster::ReconfigureLocked(ChunkPlace& place) {
  const uint32_t read_quorum =
      static_cast<uint32_t>(place.config.members.size()) - place.config.write_quorum + 1;
  const Epoch epoch(next_epoch_++);
  FakeReplica best;
  uint32_t fenced = 0;
  for (ServerId member : place.config.members) {
    FakeChunkserver* server = Server(member);
    FakeReplica replica;
    if (!server->running() || !server->Fence(place.chunk, epoch, &replica)) continue;
    ++fenced;
    if (replica.state.accepted > best.state.accepted) best = replica;
  }
  if (fenced < read_quorum) {
    return Status(StatusCode::kNoQuorum, "only " + std::to_string(fenced) + " of " +
                                             std::to_string(read_quorum) +
                                             " members that are needed answered");
  }
  std::vector<ServerId> members;
  for (auto& server : *servers_) {
    if (server->running() && members.size() < replicas_) members.push_back(server->id());
  }
  if (members.size() < quorum_) return Status(StatusCode::kNoQuorum, "too few chunkservers are up");
  const Stamp base = best.state.accepted;
  for (ServerId member : members) {
    FakeReplica replica = best;
    replica.state.promised = epoch;
    replica.state.accepted = {epoch, base.seq};
    replica.state.sealed = {};
    replica.durable = replica.state.accepted;
    Server(member)->Put(place.chunk, std::move(replica));
  }
  place.config = {.epoch = epoch, .members = members, .write_quorum = quorum_, .base = base};
  place.carriers = members;
  return place;
}

void FakeMaster::Apply(const PendingCommit& commit) {
  std::lock_guard lock(mu_);
  for (const SealedChunk& seal : commit.seals) {
    for (auto it = chunks_.begin(); it != chunks_.end(); ++it) {
      ChunkPlace& place = it->second;
      if (place.chunk != seal.chunk) continue;
      if (seal.never_begun && !place.sealed.epoch) {
        chunks_.erase(it);
        break;
      }
      if (seal.never_begun) {
        place.config.epoch = place.sealed.epoch;
        break;
      }
      place.sealed = seal.stamp;
      place.length = seal.length;
      place.carriers = seal.carriers;
    }
  }
}

void FakeMaster::Shrink(uint64_t size, uint64_t chunk_bytes) {
  std::lock_guard lock(mu_);
  chunks_.erase(chunks_.lower_bound((size + chunk_bytes - 1) / chunk_bytes), chunks_.end());
}

void FakeMaster::RefuseAnnounce(Status status) {
  std::lock_guard lock(mu_);
  refuse_announce_ = std::move(status);
}

void FakeMaster::EndLease() {
  std::lock_guard lock(mu_);
  lease_ended_ = true;
}

std::vector<ChunkPlace> FakeMaster::Chunks() {
  std::lock_guard lock(mu_);
  std::vector<ChunkPlace> places;
  for (const auto& [index, place] : chunks_) places.push_back(place);
  return places;
}

ChunkPlace FakeMaster::Chunk(uint64_t index) {
  std::lock_guard lock(mu_);
  return chunks_.at(index);
}

std::vector<MemberFailure> FakeMaster::Reports() {
  std::lock_guard lock(mu_);
  return reports_;
}

FakeCluster::FakeCluster(ClusterOptions options)
    : options_(options),
      master_(&servers_, options.replicas, options.quorum),
      other_master_(&servers_, options.replicas, options.quorum, 5000),
      dirty_(options.dirty_limit_bytes) {
  for (int i = 1; i <= options_.servers; ++i) {
    servers_.push_back(std::make_unique<FakeChunkserver>(ServerId(static_cast<uint32_t>(i))));
  }
  net::DataClientOptions client_options;
  client_options.cluster = kTestCluster;
  client_options.name = "test";
  client_.emplace(loop_.loop(), client_options);
  scheduler_.emplace();
  seals_.emplace(&*client_, &counters_.requests);
  PublishAddresses();
  context_ = {.data_client = &*client_,
              .servers = &directory_,
              .master = &master_,
              .clock = options.clock != nullptr ? options.clock : SystemClock::Get(),
              .dirty_budget = &dirty_,
              .clean_budget = &clean_,
              .scheduler = &*scheduler_,
              .seals = &*seals_,
              .counters = &counters_,
              .options = options_.data};
}

FakeCluster::~FakeCluster() {
  for (auto& server : servers_) server->Release();
  scheduler_.reset();
  client_.reset();
  loop_.Stop();
}

std::unique_ptr<FileData> FakeCluster::NewOtherFile() {
  FileDataContext context = context_;
  context.master = &other_master_;
  return MakeFileData(context, InodeId(8), options_.chunk_bytes);
}

void FakeCluster::Restart(int number) {
  server(number).Start();
  PublishAddresses();
}

void FakeCluster::PublishAddresses() {
  std::vector<ServerEntry> entries;
  for (auto& server : servers_) entries.push_back({.server = server->id(), .address = server->address()});
  directory_.Update(entries);
}

Status FakeCluster::Release(FileData& file) {
  CAIRN_ASSIGN_OR_RETURN(const PendingCommit commit, file.FlushAndSeal(nullptr));
  master_.Apply(commit);
  file.Detach();
  return Status::Ok();
}

int FakeCluster::requests(wire::MessageType type) {
  int total = 0;
  for (auto& server : servers_) total += server->requests()[type];
  return total;
}

std::vector<std::byte> Pattern(size_t bytes, uint32_t seed) {
  std::vector<std::byte> data(bytes);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t value = random();
    for (size_t j = i; j < std::min(bytes, i + 8); ++j)
      data[j] = static_cast<std::byte>(value >> (8 * (j - i)));
  }
  return data;
}

}  // namespace cairn::client::testing
