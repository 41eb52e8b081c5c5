#include "common/replication/reader.h"

#include <algorithm>
#include <tuple>

#include "common/check.h"

namespace cairn::replication {
namespace {

// splitmix64: spreads equal candidates evenly for any pattern of `spread` and server ids.
uint64_t Mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15ull;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
  return value ^ (value >> 31);
}

constexpr uint32_t kLoadStep = 100;

}  // namespace

std::vector<ServerId> RankReplicas(std::vector<ReadCandidate> candidates, uint64_t spread) {
  const auto key = [spread](const ReadCandidate& c) {
    return std::make_tuple(!c.alive, c.suspect, !c.same_host, !c.same_zone, c.load / kLoadStep,
                           Mix(spread ^ (uint64_t{c.server.value()} << 32)), c.server);
  };
  std::sort(candidates.begin(), candidates.end(),
            [&key](const ReadCandidate& a, const ReadCandidate& b) { return key(a) < key(b); });
  std::vector<ServerId> order;
  order.reserve(candidates.size());
  for (const ReadCandidate& candidate : candidates) order.push_back(candidate.server);
  return order;
}

ReplicaReader::ReplicaReader(std::vector<ServerId> order, ReaderOptions options)
    : order_(std::move(order)), options_(options) {}

std::vector<ServerId> ReplicaReader::Poll(int64_t now_ns) {
  std::vector<ServerId> ask;
  if (done_) return ask;
  if (options_.timeout_ns > 0) {
    for (size_t i = 0; i < in_flight_.size();) {
      if (now_ns - in_flight_[i].at_ns < options_.timeout_ns) {
        ++i;
        continue;
      }
      problems_.push_back(
          {in_flight_[i].server,
           Status(StatusCode::kTimeout,
                  "no answer in " + std::to_string(options_.timeout_ns / 1'000'000) + " ms")});
      in_flight_.erase(in_flight_.begin() + static_cast<ptrdiff_t>(i));
    }
  }
  while (next_ < order_.size()) {
    if (!in_flight_.empty()) {
      const bool hedge = options_.hedge_after_ns > 0 && in_flight_.size() <= options_.max_hedges &&
                         now_ns - in_flight_.back().at_ns >= options_.hedge_after_ns;
      if (!hedge) break;
    }
    in_flight_.push_back({order_[next_], now_ns});
    ask.push_back(order_[next_++]);
  }
  return ask;
}

std::optional<int64_t> ReplicaReader::NextPollNanos() const {
  if (done_ || in_flight_.empty()) return std::nullopt;
  std::optional<int64_t> next;
  const auto consider = [&next](int64_t at_ns) { next = next ? std::min(*next, at_ns) : at_ns; };
  if (options_.timeout_ns > 0) consider(in_flight_.front().at_ns + options_.timeout_ns);
  if (options_.hedge_after_ns > 0 && next_ < order_.size() && in_flight_.size() <= options_.max_hedges) {
    consider(in_flight_.back().at_ns + options_.hedge_after_ns);
  }
  return next;
}

void ReplicaReader::OnSuccess(ServerId server) {
  if (!done_) done_ = server;
}

void ReplicaReader::OnFailure(ServerId server, Status status) {
  const auto asked = std::find_if(in_flight_.begin(), in_flight_.end(),
                                  [server](const Asked& each) { return each.server == server; });
  if (done_ || asked == in_flight_.end()) return;
  in_flight_.erase(asked);
  problems_.push_back({server, std::move(status)});
}

bool ReplicaReader::failed() const { return !done_ && in_flight_.empty() && next_ >= order_.size(); }

std::vector<MemberProblem> ReplicaReader::Reportable() const {
  std::vector<MemberProblem> report;
  for (const MemberProblem& problem : problems_) {
    const StatusCode code = problem.status.code();
    if (code == StatusCode::kStaleReplica || code == StatusCode::kUnknownChunk ||
        code == StatusCode::kCorrupt) {
      report.push_back(problem);
    }
  }
  return report;
}

Status ReplicaReader::Failure(std::string_view what) const {
  CAIRN_CHECK(failed(), "a read that has not failed has no failure");
  if (order_.empty()) {
    return {StatusCode::kUnavailable,
            "read of " + std::string(what) + " failed: no member is known to carry it"};
  }
  StatusCode code = StatusCode::kStaleReplica;
  for (const MemberProblem& problem : problems_) {
    const StatusCode each = problem.status.code();
    if (each == StatusCode::kCorrupt) {
      if (code == StatusCode::kStaleReplica) code = StatusCode::kCorrupt;
    } else if (each != StatusCode::kStaleReplica && each != StatusCode::kUnknownChunk) {
      code = StatusCode::kUnavailable;
    }
  }
  return {code, "read of " + std::string(what) + " failed: none of " + std::to_string(problems_.size()) +
                    " carriers delivered (" + DescribeProblems(problems_) + ")"};
}

}  // namespace cairn::replication
