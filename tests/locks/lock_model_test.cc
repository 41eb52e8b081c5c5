// Random sequences against a model that keeps one type per byte and owner, and searches circles by brute
// force.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <list>
#include <random>

#include "common/locks/lock_table.h"

namespace cairn::locks {
namespace {

constexpr int kFiles = 2;
constexpr int kBytes = 12;  // the last ones that a file can have
constexpr int kOwners = 5;

uint64_t Offset(int byte) { return kMaxOffset - kBytes + 1 + static_cast<uint64_t>(byte); }

struct Request {
  int file = 0;
  bool flock = false;
  int owner = 0;
  LockType type = LockType::kShared;
  int start = 0;
  int end = kBytes - 1;
  bool open_description = false;
};

class Model {
 public:
  using Spaces = std::array<std::array<std::array<std::array<LockType, kBytes>, kOwners>, 2>, kFiles>;
  struct Waiter {
    uint64_t ticket;
    Request request;
  };

  Model() {
    for (auto& file : held_) {
      for (auto& space : file) {
        for (auto& owner : space) owner.fill(LockType::kUnlock);
      }
    }
  }
  bool Blocks(int owner, const Request& request) const {
    if (owner == request.owner) return false;
    for (int byte = request.start; byte <= request.end; ++byte) {
      const LockType type = held_[request.file][request.flock][owner][byte];
      if (type == LockType::kExclusive || (type == LockType::kShared && request.type == LockType::kExclusive))
        return true;
    }
    return false;
  }
  bool Conflict(const Request& request) const {
    if (request.type == LockType::kUnlock) return false;
    for (int owner = 0; owner < kOwners; ++owner) {
      if (Blocks(owner, request)) return true;
    }
    return false;
  }
  void Apply(const Request& request, LockType type) {
    for (int byte = request.start; byte <= request.end; ++byte) {
      held_[request.file][request.flock][request.owner][byte] = type;
    }
  }
  bool Deadlock(const Request& request) const {
    if (request.flock || request.open_description) return false;
    bool edge[kOwners][kOwners] = {};
    for (const Waiter& waiter : queue_) {
      if (waiter.request.flock || waiter.request.open_description) continue;
      for (int owner = 0; owner < kOwners; ++owner)
        edge[waiter.request.owner][owner] |= Blocks(owner, waiter.request);
    }
    for (int owner = 0; owner < kOwners; ++owner) edge[request.owner][owner] |= Blocks(owner, request);
    for (int via = 0; via < kOwners; ++via) {
      for (int a = 0; a < kOwners; ++a) {
        for (int b = 0; b < kOwners; ++b) edge[a][b] |= edge[a][via] && edge[via][b];
      }
    }
    return edge[request.owner][request.owner];
  }
  // Oldest first, again from the start after each that was granted: whoever can be granted is.
  std::vector<uint64_t> Pump() {
    std::vector<uint64_t> granted;
    bool again = true;
    while (again) {
      again = false;
      for (auto it = queue_.begin(); it != queue_.end(); ++it) {
        if (Conflict(it->request)) continue;
        Apply(it->request, it->request.type);
        granted.push_back(it->ticket);
        queue_.erase(it);
        again = true;
        break;
      }
    }
    return granted;
  }
  LockOutcome Set(const Request& request, std::vector<uint64_t>* granted) {
    const bool conflict = Conflict(request);
    if (conflict && request.flock) {
      Apply(request, LockType::kUnlock);
      *granted = Pump();
    }
    if (conflict) return LockOutcome::kConflict;
    Apply(request, request.type);
    *granted = Pump();
    return LockOutcome::kGranted;
  }
  // At most one wait per owner: processes with one thread.
  bool Waits(int owner) const {
    return std::any_of(queue_.begin(), queue_.end(),
                       [&](const Waiter& w) { return w.request.owner == owner; });
  }
  Spaces held_;
  std::list<Waiter> queue_;
};

class LockModelTest : public ::testing::TestWithParam<uint64_t> {};

Lock ToLock(const Request& request) {
  return {.inode = InodeId(1 + request.file),
          .space = request.flock ? LockSpace::kFlock : LockSpace::kRecord,
          .owner = {SessionId(1 + request.owner / 2), static_cast<uint64_t>(request.owner)},
          .type = request.type,
          .start = request.flock ? 0 : Offset(request.start),
          .end = Offset(request.end),
          .open_description = request.open_description};
}

void ExpectSame(const Model& model, const LockTable& table) {
  Model::Spaces seen;
  for (auto& file : seen) {
    for (auto& space : file) {
      for (auto& owner : space) owner.fill(LockType::kUnlock);
    }
  }
  size_t ranges = 0;
  for (const Lock& lock : table.Held()) {
    ++ranges;
    for (int byte = 0; byte < kBytes; ++byte) {
      if (Offset(byte) < lock.start || Offset(byte) > lock.end) continue;
      auto& cell = seen[lock.inode.value() - 1][static_cast<int>(lock.space)][lock.owner.owner][byte];
      ASSERT_EQ(cell, LockType::kUnlock) << "one owner holds a byte twice";
      cell = lock.type;
    }
  }
  ASSERT_EQ(seen, model.held_);
  ASSERT_EQ(table.held(), ranges);
  ASSERT_EQ(table.waiting(), model.queue_.size());
}

TEST_P(LockModelTest, EveryStepIsAsTheModelSays) {
  std::mt19937_64 random(GetParam());
  const auto pick = [&](int below) { return static_cast<int>(random() % static_cast<uint64_t>(below)); };
  Model model;
  LockTable table;
  uint64_t ticket = 0;
  int queued = 0, deadlocks = 0, handed_over = 0;
  for (int step = 0; step < 20'000; ++step) {
    Request request;
    request.owner = pick(kOwners);
    std::vector<LockDecision> decided;
    std::vector<uint64_t> granted;
    const std::string where = "seed " + std::to_string(GetParam()) + " step " + std::to_string(step);
    const auto waiting = std::find_if(model.queue_.begin(), model.queue_.end(), [&](const Model::Waiter& w) {
      return w.request.owner == request.owner;
    });
    if (waiting != model.queue_.end()) {
      if (pick(16) != 0) continue;  // it sleeps; now and then a signal wakes it
      ASSERT_TRUE(table.Cancel({ToLock(waiting->request).owner.session, waiting->ticket})) << where;
      model.queue_.erase(waiting);
    } else {
      request.file = pick(kFiles);
      request.flock = pick(5) == 0;
      request.open_description = !request.flock && request.owner == kOwners - 1;
      request.type = static_cast<LockType>(pick(4) % 3);
      if (!request.flock) {
        request.start = pick(kBytes);
        request.end = request.start + pick(kBytes - request.start);
      }
      const bool wait = request.type != LockType::kUnlock && pick(2) == 0;
      LockOutcome expected = model.Set(request, &granted);
      LockOutcome got;
      if (wait) {
        ++ticket;
        if (expected == LockOutcome::kConflict) {
          expected = model.Deadlock(request) ? LockOutcome::kDeadlock : LockOutcome::kQueued;
          if (expected == LockOutcome::kQueued) model.queue_.push_back({ticket, request});
          queued += expected == LockOutcome::kQueued;
          deadlocks += expected == LockOutcome::kDeadlock;
        }
        got = table.SetOrWait(ToLock(request), ticket, &decided);
      } else {
        got = table.Set(ToLock(request), &decided);
      }
      ASSERT_EQ(got, expected) << where;
    }
    std::vector<uint64_t> told;
    for (const LockDecision& decision : decided) {
      ASSERT_EQ(decision.outcome, LockOutcome::kGranted) << where;
      told.push_back(decision.waiter.ticket);
    }
    handed_over += static_cast<int>(told.size());
    std::sort(told.begin(), told.end());
    std::sort(granted.begin(), granted.end());
    ASSERT_EQ(told, granted) << where;
    ASSERT_NO_FATAL_FAILURE(ExpectSame(model, table)) << where;
  }
  EXPECT_GT(queued, 500);
  EXPECT_GT(deadlocks, 50);
  EXPECT_GT(handed_over, 100);
}

INSTANTIATE_TEST_SUITE_P(Seeds, LockModelTest, ::testing::Range<uint64_t>(1, 13));

}  // namespace
}  // namespace cairn::locks
