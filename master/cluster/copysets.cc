#include "master/cluster/copysets.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace cairn::master {
namespace {

// splitmix64's finisher: the same everywhere.
uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9E3779B97F4A7C15ull + b + 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

constexpr int kSearchSteps = 4000;  // for one server and order: racks that do not fit must not make it slow

bool Contains(const std::vector<ServerId>& list, ServerId server) {
  return std::find(list.begin(), list.end(), server) != list.end();
}

class Builder {
 public:
  Builder(const std::vector<PlacementServer>& servers, uint32_t replicas, FailureDomain domain, const std::vector<ServerId>& others)
      : replicas_(replicas) {
    uint32_t last = 0;
    for (const PlacementServer& server : servers) {
      domains_[server.server] = FailureDomainKey(server, domain);
      live_.push_back(server.server);
      last = std::max(last, server.server.value());
    }
    std::sort(live_.begin(), live_.end());
    const std::set<ServerId> known(others.begin(), others.end());
    for (uint32_t number = 1; number <= last; ++number) {
      const ServerId id(number);
      if (known.contains(id) && !domains_.contains(id)) continue;
      arrivals_.push_back(id);
    }
  }

  std::vector<std::vector<ServerId>> Build(uint32_t orders) {
    std::vector<std::vector<ServerId>> waiting(orders);
    for (ServerId server : arrivals_) {
      early_.clear();
      for (auto& pool : waiting) {
        std::vector<ServerId> set = {server};
        int steps = kSearchSteps;
        if (Complete(pool, 0, &set, &steps)) {
          std::erase_if(pool, [&](ServerId one) { return Contains(set, one); });
          Add(std::move(set));
        } else {
          pool.push_back(server);
        }
        early_.insert(pool.begin(), pool.end());
      }
    }
    Replace();
    FillUp();
    return std::move(sets_);
  }

 private:
  bool Fits(const std::vector<ServerId>& set, ServerId server, bool strangers) const {
    return std::none_of(set.begin(), set.end(), [&](ServerId member) {
      if (member == server || Domain(member) == Domain(server)) return true;
      if (!strangers) return false;
      return shared_.contains(std::minmax(member, server)) || (early_.contains(member) && early_.contains(server));
    });
  }
  std::string Domain(ServerId server) const {
    const auto found = domains_.find(server);
    return found == domains_.end() ? "removed/" + std::to_string(server.value()) : found->second;
  }
  bool Complete(const std::vector<ServerId>& pool, size_t from, std::vector<ServerId>* set, int* steps) const {
    if (set->size() == replicas_) return true;
    for (size_t i = from; i < pool.size() && --*steps > 0; ++i) {
      if (!Fits(*set, pool[i], true)) continue;
      set->push_back(pool[i]);
      if (Complete(pool, i + 1, set, steps)) return true;
      set->pop_back();
    }
    return false;
  }
  void Add(std::vector<ServerId> set) {
    std::sort(set.begin(), set.end());
    for (size_t i = 0; i < set.size(); ++i) {
      ++count_[set[i]];
      for (size_t j = i + 1; j < set.size(); ++j) shared_.insert({set[i], set[j]});
    }
    sets_.push_back(std::move(set));
  }
  // The places of servers that were removed go to others, each chosen by what stays of the set.
  void Replace() {
    std::vector<std::vector<ServerId>> sets;
    std::swap(sets, sets_);
    count_.clear();
    for (auto& set : sets) {
      std::erase_if(set, [&](ServerId member) { return !domains_.contains(member); });
      if (set.empty()) continue;
      while (set.size() < replicas_) {
        std::vector<ServerId> candidates;
        std::copy_if(live_.begin(), live_.end(), std::back_inserter(candidates), [&](ServerId one) { return Fits(set, one, false); });
        const auto next = CopysetSuccessor(set, candidates, {});
        if (!next) break;
        set.push_back(*next);
      }
      if (set.size() == replicas_) Add(std::move(set));
    }
  }
  // Those in no set: together as far as they fit, and with others in turn.
  void FillUp() {
    for (ServerId server : live_) {
      if (count_[server] > 0) continue;
      const size_t turn = server.value() / replicas_ * (replicas_ - 1) % live_.size();
      const auto from = live_.begin() + static_cast<std::ptrdiff_t>(turn);
      std::vector<ServerId> set = {server};
      for (ServerId other : live_) {
        if (set.size() < replicas_ && count_[other] == 0 && Fits(set, other, false)) set.push_back(other);
      }
      while (set.size() < replicas_) {
        const auto fits = [&](ServerId other) { return Fits(set, other, false); };
        auto next = std::find_if(from, live_.end(), fits);
        if (next == live_.end()) next = std::find_if(live_.begin(), live_.end(), fits);
        if (next == live_.end()) break;
        set.push_back(*next);
      }
      if (set.size() == replicas_) Add(std::move(set));
    }
  }

  const uint32_t replicas_;
  std::map<ServerId, std::string> domains_;
  std::vector<ServerId> live_;
  std::vector<ServerId> arrivals_;  // with those that were removed
  std::vector<std::vector<ServerId>> sets_;
  std::map<ServerId, int> count_;
  std::set<std::pair<ServerId, ServerId>> shared_;
  std::set<ServerId> early_;  // wait in an earlier order, where they are to come together
};

}  // namespace

uint32_t CopysetOrders(uint32_t scatter_width, uint32_t replicas) {
  if (replicas < 2) return 1;
  return std::max<uint32_t>(1, (scatter_width + replicas - 2) / (replicas - 1));
}

std::vector<std::vector<ServerId>> AllCopysets(const std::vector<PlacementServer>& servers, uint32_t replicas, FailureDomain domain,
                                               uint32_t scatter_width, const std::vector<ServerId>& others) {
  if (replicas == 0) return {};
  return Builder(servers, replicas, domain, others).Build(CopysetOrders(scatter_width, replicas));
}

std::optional<ServerId> CopysetSuccessor(const std::vector<ServerId>& keep, const std::vector<ServerId>& candidates,
                                         const std::vector<std::vector<ServerId>>& sets) {
  for (const std::vector<ServerId>& set : sets) {
    if (!std::all_of(keep.begin(), keep.end(), [&](ServerId member) { return Contains(set, member); })) continue;
    for (ServerId member : set) {
      if (!Contains(keep, member) && Contains(candidates, member)) return member;
    }
  }
  std::vector<ServerId> sorted = keep;
  std::sort(sorted.begin(), sorted.end());
  uint64_t key = 0;
  for (ServerId server : sorted) key = Mix(key, server.value());
  std::optional<ServerId> best;
  uint64_t best_rank = 0;
  for (ServerId candidate : candidates) {
    const uint64_t rank = Mix(key, candidate.value());
    if (!best || rank > best_rank || (rank == best_rank && candidate < *best)) {
      best = candidate;
      best_rank = rank;
    }
  }
  return best;
}

}  // namespace cairn::master
