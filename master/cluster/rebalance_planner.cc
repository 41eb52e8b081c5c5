#include "master/cluster/rebalance_planner.h"

#include <algorithm>

#include "master/cluster/copysets.h"

namespace cairn::master {
namespace {

constexpr uint32_t kQuietLoad = 300;  // up to here moves go at full rate
constexpr uint32_t kBusyLoad = 900;   // from here on at a tenth
constexpr double kLeastShare = 0.1;
constexpr double kBurstSeconds = 1.0;

}  // namespace

BalanceModel::BalanceModel(const std::vector<BalanceServer>& servers, double threshold_percent)
    : threshold_(threshold_percent / 100) {
  for (const BalanceServer& server : servers) {
    const ServerId id = server.place.server;
    places_[id] = server.place;
    if (!TakesPart(server)) continue;
    use_[id] = {.capacity = server.capacity_bytes, .before = server.used_bytes, .used = server.used_bytes};
    capacity_ += server.capacity_bytes;
    total_ += server.used_bytes;
  }
}

double BalanceModel::Ratio(ServerId server) const {
  const Use& use = use_.at(server);
  return static_cast<double>(use.used) / static_cast<double>(use.capacity);
}

bool BalanceModel::Balanced() const {
  const double mean = Mean();
  return std::all_of(use_.begin(), use_.end(), [&](const auto& entry) {
    const double ratio = Ratio(entry.first);
    return ratio <= mean + threshold_ && ratio >= mean - threshold_;
  });
}

std::optional<ServerId> BalanceModel::Source() const {
  if (Balanced()) return std::nullopt;
  std::optional<ServerId> fullest;
  for (const auto& [id, use] : use_) {
    if (exhausted_.contains(id) || Ratio(id) <= Mean()) continue;
    if (!fullest || Ratio(id) > Ratio(*fullest)) fullest = id;
  }
  return fullest;
}

std::optional<ServerId> BalanceModel::CopysetTarget(ServerId source, const BalanceChunk& chunk,
                                                    const std::set<std::string>& domains) const {
  const auto [sets, fresh] = copysets_.try_emplace({chunk.scatter_width, chunk.members.size(), chunk.domain, chunk.in_class});
  if (fresh) {
    std::vector<PlacementServer> all;
    std::vector<ServerId> outside;
    for (const auto& [id, place] : places_) {
      if (!chunk.in_class || chunk.in_class->contains(id)) {
        all.push_back(place);
      } else {
        outside.push_back(id);
      }
    }
    sets->second = AllCopysets(all, static_cast<uint32_t>(chunk.members.size()), chunk.domain, chunk.scatter_width,
                               outside);
  }
  std::vector<ServerId> keep;
  std::vector<ServerId> others;
  for (ServerId member : chunk.members) {
    if (member != source) keep.push_back(member);
  }
  for (const auto& [id, place] : places_) {
    const bool member = std::find(chunk.members.begin(), chunk.members.end(), id) != chunk.members.end();
    const bool may = place.accepting && (!chunk.may_take || chunk.may_take->contains(id));
    if (!member && may && !domains.contains(FailureDomainKey(place, chunk.domain))) others.push_back(id);
  }
  return CopysetSuccessor(keep, others, sets->second);
}

std::optional<ServerId> BalanceModel::Target(ServerId source, const BalanceChunk& chunk) const {
  if (std::find(chunk.members.begin(), chunk.members.end(), source) == chunk.members.end())
    return std::nullopt;
  std::set<std::string> domains;
  for (ServerId member : chunk.members) {
    auto place = places_.find(member);
    if (member != source && place != places_.end())
      domains.insert(FailureDomainKey(place->second, chunk.domain));
  }
  std::optional<ServerId> best;
  std::optional<ServerId> only;
  if (chunk.scatter_width > 0) {
    only = CopysetTarget(source, chunk, domains);
    if (!only) return std::nullopt;
  }
  for (const auto& [id, use] : use_) {
    if (only && id != *only) continue;
    const PlacementServer& place = places_.at(id);
    if (place.full || place.free_bytes < chunk.bytes) continue;
    if (std::find(chunk.members.begin(), chunk.members.end(), id) != chunk.members.end()) continue;
    if (chunk.may_take && !chunk.may_take->contains(id)) continue;
    if (domains.contains(FailureDomainKey(place, chunk.domain))) continue;
    // Only forward: after the move the target is still no fuller than the source is then.
    const Use& from = use_.at(source);
    const double target_after =
        static_cast<double>(use.used + chunk.bytes) / static_cast<double>(use.capacity);
    const double source_after = static_cast<double>(from.used - std::min(from.used, chunk.bytes)) /
                                static_cast<double>(from.capacity);
    if (target_after > source_after || target_after > Mean() + threshold_) continue;
    if (!best || Ratio(id) < Ratio(*best)) best = id;
  }
  return best;
}

void BalanceModel::Move(ServerId source, ServerId target, uint64_t bytes) {
  Use& from = use_.at(source);
  Use& to = use_.at(target);
  from.used -= std::min(from.used, bytes);
  to.used += bytes;
  ++from.moves_out;
  ++to.moves_in;
}

void BalanceModel::Undo(ServerId source, ServerId target, uint64_t bytes) {
  Use& from = use_.at(source);
  Use& to = use_.at(target);
  from.used += bytes;
  to.used -= std::min(to.used, bytes);
  --from.moves_out;
  --to.moves_in;
}

bool BalanceModel::SameServers(const std::vector<BalanceServer>& servers) const {
  size_t taking_part = 0;
  for (const BalanceServer& server : servers) {
    if (!TakesPart(server)) continue;
    ++taking_part;
    if (!use_.contains(server.place.server)) return false;
  }
  return taking_part == use_.size();
}

double BalanceModel::SpreadPercent() const {
  if (use_.empty()) return 0;
  double low = 2;
  double high = 0;
  for (const auto& [id, use] : use_) {
    low = std::min(low, Ratio(id));
    high = std::max(high, Ratio(id));
  }
  return (high - low) * 100;
}

std::string BalanceModel::LimitedBy() const {
  if (Balanced() || Source()) return {};
  if (use_.size() < 2) return "fewer than two servers that may take part are up and in service";
  return "no further chunk of the fuller servers may go to an emptier one (each already has a copy there, or "
         "in its failure domain, or the storage class, the space or the scope does not fit)";
}

uint64_t MoveGovernor::Update(uint64_t bytes_per_second, uint32_t load, int64_t now_ns) {
  double share = 1;
  if (load > kQuietLoad) {
    const double over =
        static_cast<double>(std::min(load, kBusyLoad) - kQuietLoad) / (kBusyLoad - kQuietLoad);
    share = 1 - over * (1 - kLeastShare);
  }
  const double rate = static_cast<double>(bytes_per_second) * share;
  const double passed = updated_ns_ == 0 ? 0 : static_cast<double>(now_ns - updated_ns_) / 1e9;
  updated_ns_ = now_ns;
  tokens_ = std::min(tokens_ + rate * passed, rate * kBurstSeconds);
  return static_cast<uint64_t>(rate);
}

}  // namespace cairn::master
