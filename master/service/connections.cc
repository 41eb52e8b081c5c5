#include "master/service/connections.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "master/service/frame_service.h"

namespace cairn::master {
namespace {

constexpr int64_t kSweepNanos = kNanosPerSecond;

// 0: not open any more.
ino_t InodeOf(int fd) {
  struct stat attributes {};
  return fstat(fd, &attributes) == 0 && S_ISSOCK(attributes.st_mode) ? attributes.st_ino : 0;
}

}  // namespace

std::shared_ptr<net::UnfinishedBudget> SessionConnections::BudgetOf(const std::string& host) {
  std::erase_if(budgets_, [](const auto& entry) { return entry.second.expired(); });
  auto& known = budgets_[host];
  auto budget = known.lock();
  if (budget == nullptr) known = budget = std::make_shared<net::UnfinishedBudget>();
  return budget;
}

void SessionConnections::Serve(net::Socket socket, std::string peer, std::shared_ptr<void> slot) {
  auto budget = BudgetOf(net::HostOf(peer));
  connections_.push_back(
      ServeFrames(core_, loop_, pool_, std::move(socket), std::move(peer), std::move(slot), std::move(budget)));
}

void SessionConnections::StartSweep(std::function<std::string()> told) {
  told_ = std::move(told);
  timer_ = loop_->AddTimer(loop_->clock()->NowNanos() + kSweepNanos, [this] {
    Sweep();
    StartSweep(std::move(told_));
  });
}

void SessionConnections::StopSweep() { loop_->CancelTimer(timer_); }

void SessionConnections::Sweep() {
  std::erase_if(connections_, [](const auto& connection) { return connection.expired(); });
  const int64_t now = loop_->clock()->NowNanos();
  std::vector<std::shared_ptr<net::ControlConnection>> open;
  std::vector<net::SendQueueState> queues;
  for (const auto& weak : connections_) {
    auto connection = weak.lock();
    if (connection == nullptr) continue;
    queues.push_back({connection->queued_bytes(), connection->send_waits_since_ns()});
    open.push_back(std::move(connection));
  }
  for (const auto& connection : open) {
    if (const std::string why = connection->Overdue(now); !why.empty())
      connection->Close(Status(StatusCode::kMalformed, why));
  }
  for (const size_t slow : net::SlowReaders(queues, now, {})) {
    CAIRN_LOG(Warning, "a connection is closed: {} bytes wait for it, and it does not read", queues[slow].queued_bytes);
    open[slow]->Close(Status(StatusCode::kResourceExhausted, "it does not read what is sent to it"));
  }
  if (const std::string refused = told_(); !refused.empty()) CAIRN_LOG(Warning, "{}", refused);
}

void SessionConnections::CloseAll(const Status& why) {
  for (const auto& weak : connections_) {
    if (const auto open = weak.lock()) open->Close(why);
  }
}

bool GrpcConnections::Admit(const net::Socket& socket, const std::string& host) {
  std::erase_if(open_, [](const Open& open) { return InodeOf(open.fd) != open.inode; });
  const auto of_host = std::count_if(open_.begin(), open_.end(), [&](const Open& open) { return open.host == host; });
  if (open_.size() >= kMax || static_cast<size_t>(of_host) >= kMaxPerHost) return false;
  open_.push_back({socket.fd(), InodeOf(socket.fd()), host});
  return true;
}

}  // namespace cairn::master
