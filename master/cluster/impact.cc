#include "master/cluster/impact.h"

#include <algorithm>
#include <map>
#include <unordered_set>

#include "common/clock.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr size_t kPage = 2000;
constexpr int kMaxExamples = 10;

// One kind of harm: how many files, and some of them by name.
struct Harm {
  std::unordered_set<InodeId> files;
  std::vector<InodeId> examples;
  void Add(InodeId inode) {
    if (files.insert(inode).second && examples.size() < kMaxExamples) examples.push_back(inode);
  }
};

class Walk {
 public:
  Walk(const MetaReader& reader, const ServerRegistry& servers, const std::set<ServerId>& gone)
      : reader_(reader), servers_(servers), gone_(gone) {}

  void Run(proto::Impact* impact) {
    impact_ = impact;
    for (ServerId server : gone_) {
      impact->add_servers(server.value());
      for (ChunkId after;;) {
        const std::vector<ChunkId> page = ChunksOfServer(reader_, server, after, kPage);
        for (ChunkId chunk : page) Count(server, chunk);
        if (page.size() < kPage) break;
        after = page.back();
      }
    }
    impact->set_files_lost(lost_.files.size());
    impact->set_files_unreadable(unreadable_.files.size());
    impact->set_files_unwritable(unwritable_.files.size());
    Examples("lost", lost_) || Examples("unreadable", unreadable_) || Examples("unwritable", unwritable_) ||
        Examples("homeless", homeless_);
  }

 private:
  const std::vector<PlacementServer>& Candidates(const std::string& storage_class) {
    auto [it, inserted] = candidates_.try_emplace(storage_class);
    if (inserted) {
      it->second = servers_.ForPlacement(storage_class);
      std::erase_if(it->second, [&](const PlacementServer& server) { return gone_.contains(server.server); });
    }
    return it->second;
  }

  const proto::Policy& PolicyOf(InodeId inode) {
    if (inode != policy_inode_) {
      policy_inode_ = inode;
      auto policy = EffectivePolicy(reader_, inode);
      policy_ = policy.ok() ? *policy : proto::Policy();
    }
    return policy_;
  }

  void Count(ServerId server, ChunkId chunk) {
    const auto record = ChunkRecordOf(reader_, chunk);
    if (!record || record->state() == proto::CHUNK_DELETING) return;
    impact_->set_bytes(impact_->bytes() + record->length());  // of each server's copy
    uint32_t gone_members = 0;
    uint32_t members_up = 0;
    uint32_t copies = 0;
    uint32_t copies_up = 0;
    PlacementRequest request;
    const bool open = record->state() == proto::CHUNK_OPEN;
    for (uint32_t value : record->members()) {
      const ServerId member(value);
      if (gone_.contains(member)) {
        ++gone_members;
        // Counted once, when its first server that goes is walked.
        if (member < server) return;
        continue;
      }
      const ServerInfo* info = servers_.Find(member);
      if (info == nullptr || info->mode == proto::SERVER_REMOVED) continue;
      request.keep.push_back(member);
      const bool carries = open || std::find(record->carriers().begin(), record->carriers().end(), value) !=
                                       record->carriers().end();
      members_up += info->up;
      copies += carries;
      copies_up += carries && info->up;
    }
    const InodeId inode(record->inode());
    const proto::Policy& policy = PolicyOf(inode);
    impact_->set_chunks(impact_->chunks() + 1);
    impact_->set_bytes_to_copy(impact_->bytes_to_copy() + record->length() * gone_members);
    if (copies < policy.replicas()) impact_->set_chunks_below_policy(impact_->chunks_below_policy() + 1);
    if (members_up < record->write_quorum()) {
      impact_->set_chunks_unwritable(impact_->chunks_unwritable() + 1);
      unwritable_.Add(inode);
    }
    if (copies_up == 0) {
      impact_->set_chunks_unreadable(impact_->chunks_unreadable() + 1);
      unreadable_.Add(inode);
    }
    if (copies == 0) {
      impact_->set_chunks_lost(impact_->chunks_lost() + 1);
      lost_.Add(inode);
    }
    request.replicas = static_cast<uint32_t>(request.keep.size()) + gone_members;
    request.replicas = std::min(request.replicas, policy.replicas());  // a lower N needs no new home
    request.write_quorum = 0;
    auto domain = ParseFailureDomain(policy.failure_domain());
    if (domain.ok()) request.domain = *domain;
    request.scatter_width = policy.scatter_width();
    const auto placed = Place(request, Candidates(policy.storage_class()), chunk.value());
    if (!placed.ok() || placed->size() < request.replicas) {
      impact_->set_chunks_homeless(impact_->chunks_homeless() + 1);
      homeless_.Add(inode);
    }
  }

  bool Examples(const char* kind, const Harm& harm) {
    if (harm.examples.empty()) return false;
    impact_->set_example_kind(kind);
    for (InodeId inode : harm.examples) impact_->add_example_paths(PathOf(reader_, inode));
    return true;
  }

  const MetaReader& reader_;
  const ServerRegistry& servers_;
  const std::set<ServerId>& gone_;
  proto::Impact* impact_ = nullptr;
  Harm unwritable_, unreadable_, lost_, homeless_;
  std::map<std::string, std::vector<PlacementServer>> candidates_;
  InodeId policy_inode_;
  proto::Policy policy_;
};

std::string Number(uint64_t count, const std::string& text) { return std::to_string(count) + " " + text; }

}  // namespace

proto::Impact ComputeImpact(const MetaReader& reader, const ServerRegistry& servers,
                            const std::set<ServerId>& gone, uint64_t bytes_per_second) {
  proto::Impact impact;
  Walk(reader, servers, gone).Run(&impact);
  uint64_t free = 0;
  for (const PlacementServer& server : servers.ForPlacement("")) {
    if (server.up && server.accepting && !gone.contains(server.server)) free += server.free_bytes;
  }
  impact.set_free_bytes_elsewhere(free);
  if (bytes_per_second > 0 && impact.bytes_to_copy() > 0)
    impact.set_eta_seconds(std::max<uint64_t>(1, impact.bytes_to_copy() / bytes_per_second));
  return impact;
}

std::vector<std::string> Refusals(proto::ServerAction action, ServerId server, bool up,
                                  const proto::Impact& impact) {
  std::vector<std::string> refusals;
  const std::string name = ToString(server);
  switch (action) {
    case proto::SERVER_DRAIN:
      if (impact.chunks_homeless() > 0) {
        refusals.push_back(Number(impact.chunks_homeless(),
                                  "chunks have nowhere to go: no other server that is up has "
                                  "room for them in a failure domain of its own; add a "
                                  "server, or lower the policy's number of replicas"));
      }
      if (impact.bytes_to_copy() > impact.free_bytes_elsewhere()) {
        refusals.push_back(Number(impact.bytes_to_copy(), "bytes do not fit into the ") +
                           Number(impact.free_bytes_elsewhere(), "bytes free elsewhere"));
      }
      break;
    case proto::SERVER_MAINTENANCE:
      if (impact.chunks_unreadable() > 0) {
        refusals.push_back(Number(impact.chunks_unreadable(), "chunks of ") +
                           Number(impact.files_unreadable(), "files could not be read while it is away"));
      }
      if (impact.chunks_unwritable() > 0) {
        refusals.push_back(Number(impact.chunks_unwritable(), "chunks of ") +
                           Number(impact.files_unwritable(),
                                  "files would be below their write quorum while it is "
                                  "away: writes and deletes of them fail"));
      }
      break;
    case proto::SERVER_REMOVE:
      if (impact.chunks_lost() > 0) {
        refusals.push_back(Number(impact.chunks_lost(), "chunks of ") +
                           Number(impact.files_lost(),
                                  "files have their only current copy on " + name + ": they would be lost"));
      }
      if (impact.chunks() > 0) {
        refusals.push_back(
            Number(impact.chunks(), "chunks still have a copy on ") + name +
            (up ? "; drain it first (cairn server drain " + name + ")"
                : "; wait until they are repaired elsewhere, or force it if the machine never returns"));
      }
      break;
    default:
      break;
  }
  return refusals;
}

}  // namespace cairn::master
