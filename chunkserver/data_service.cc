#include "chunkserver/data_service.h"

#include <future>
#include <memory>
#include <unordered_map>
#include <utility>

#include "chunkserver/data_session.h"
#include "common/log.h"
#include "common/net/buffer_pool.h"
#include "common/net/frame_server.h"

namespace cairn::chunkserver {
namespace {

using net::EventLoop;
using net::FrameConnection;

constexpr int64_t kSweepNanos = kNanosPerSecond;

// Runs a task on a loop and waits for it. Not from the loop itself.
void RunOn(EventLoop* loop, const std::function<void()>& task) {
  std::promise<void> done;
  loop->Post([&] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

}  // namespace

class DataService::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(std::vector<EventLoop*> loops, DiskSet* disks, const ServerIdentity* identity, WorkerPool* readers,
       DamageSink damage, DataServiceOptions options)
      : loops_(std::move(loops)),
        options_(options),
        handler_(disks, identity, damage),
        readers_(readers),
        stager_(disks, readers, options.peers, damage, SystemClock::Get()),
        staging_(std::make_shared<StagingBudget>(options.staging.bytes)),
        pool_(options.pooled_receive_bytes),
        server_(
            loops_,
            {.max_connections = options.max_connections,
             .max_connections_per_host = options.max_connections_per_host,
             .socket_buffer_bytes = options.socket_buffer_bytes},
            [this](EventLoop* loop, net::Socket socket, std::string peer, std::shared_ptr<void> slot) {
              Accept(loop, std::move(socket), std::move(peer), std::move(slot));
            }) {
    for (EventLoop* loop : loops_) sessions_[loop];
  }

  Status Start(const net::HostPort& where) {
    Status status;
    RunOn(loops_.front(), [&] { status = server_.Start(where); });
    if (!status.ok()) return status;
    for (EventLoop* loop : loops_) {
      RunOn(loop, [&] { ArmSweep(loop); });
    }
    return status;
  }

  void Stop() {
    if (std::exchange(stopped_, true)) return;
    RunOn(loops_.front(), [&] { server_.Stop(); });
    for (EventLoop* loop : loops_) {
      RunOn(loop, [&] {
        PerLoop& own = sessions_.at(loop);
        own.stopped = true;
        loop->CancelTimer(own.sweep);
        const auto connections = own.connections;
        for (const auto& [connection, session] : connections) {
          connection->Close(Status(StatusCode::kCancelled, "the chunkserver is shutting down"));
        }
      });
    }
  }

  uint16_t port() const { return server_.port(); }
  size_t connections() const { return server_.connections(); }
  uint64_t staged_bytes() const { return staging_->used_bytes(); }

 private:
  struct PerLoop {
    std::unordered_map<std::shared_ptr<FrameConnection>, std::shared_ptr<DataSession>> connections;
    EventLoop::TimerId sweep = 0;
    bool stopped = false;
  };

  void Accept(EventLoop* loop, net::Socket socket, std::string peer, std::shared_ptr<void> slot) {
    PerLoop& own = sessions_.at(loop);
    if (own.stopped) return;
    auto session = std::make_shared<DataSession>(
        loop, &handler_, readers_, &stager_, staging_,
        SessionLimits{options_.max_requests_in_work, options_.max_answer_bytes, options_.metrics, options_.staging},
        std::move(slot),
        [&own](FrameConnection& closed) { own.connections.erase(closed.shared_from_this()); });
    const FrameConnection::Options limits{.max_meta_bytes = DataSession::kMaxGreetingBytes,
                                          .max_data_bytes = 0,
                                          .notify_below = options_.max_answer_bytes / 2};
    auto connection =
        FrameConnection::Start(loop, std::move(socket), std::move(peer), limits, &pool_, session);
    own.connections.emplace(std::move(connection), std::move(session));
  }

  void ArmSweep(EventLoop* loop) {
    sessions_.at(loop).sweep = loop->AddTimer(loop->clock()->NowNanos() + kSweepNanos, [this, loop] {
      Sweep(loop);
      ArmSweep(loop);
    });
  }

  // Ends connections that only occupy a place.
  void Sweep(EventLoop* loop) {
    const int64_t now = loop->clock()->NowNanos();
    std::vector<std::pair<std::shared_ptr<FrameConnection>, std::string>> idle;
    for (const auto& [connection, session] : sessions_.at(loop).connections) {
      session->ExpireStaged(now);
      if (!session->greeted() &&
          now - session->started_ns() > options_.greeting_timeout_ms * kNanosPerMilli) {
        idle.emplace_back(connection, "no greeting came");
      } else if (!connection->reading_paused() && connection->in_the_middle_of_a_frame() &&
                 now - connection->last_received_ns() > options_.half_frame_timeout_ms * kNanosPerMilli) {
        idle.emplace_back(connection, "half a frame came and nothing more");
      }
    }
    for (const auto& [connection, why] : idle) connection->Close(Status(StatusCode::kMalformed, why));
    EndSlowReaders(loop, now);
    const uint64_t refused = server_.refused();
    if (loop == loops_.front() && refused > refused_told_) {
      const std::string greedy = server_.TakeGreedyHost();
      if (greedy.empty()) {
        CAIRN_LOG(Warning, "data plane: {} connections were refused because {} are open (--max-connections)",
                  refused - refused_told_, options_.max_connections);
      } else {
        CAIRN_LOG(Warning, "data plane: {} connections were refused; {} has {} open (--max-connections-per-host)",
                  refused - refused_told_, greedy, options_.max_connections_per_host);
      }
      refused_told_ = refused;
    }
  }

  // A peer that does not take its answers holds memory that others need.
  void EndSlowReaders(EventLoop* loop, int64_t now) {
    std::vector<std::shared_ptr<FrameConnection>> connections;
    std::vector<net::SendQueueState> queues;
    for (const auto& [connection, session] : sessions_.at(loop).connections) {
      connections.push_back(connection);
      queues.push_back({connection->queued_bytes(), connection->send_waits_since_ns()});
    }
    net::SlowReaderLimits limits = options_.slow_readers;
    limits.queued_bytes /= loops_.size();
    for (const size_t slow : net::SlowReaders(queues, now, limits))
      connections[slow]->Close(Status(StatusCode::kResourceExhausted, "it does not read its answers"));
  }

  const std::vector<EventLoop*> loops_;
  const DataServiceOptions options_;
  const RequestHandler handler_;
  WorkerPool* const readers_;
  Stager stager_;
  const std::shared_ptr<StagingBudget> staging_;
  net::BufferPool pool_;
  std::unordered_map<EventLoop*, PerLoop>
      sessions_;  // each entry is of its loop's thread; the map does not change
  net::FrameServer server_;
  uint64_t refused_told_ = 0;
  bool stopped_ = false;
};

DataService::DataService(std::vector<EventLoop*> loops, DiskSet* disks, const ServerIdentity* identity,
                         WorkerPool* readers, DamageSink damage, DataServiceOptions options)
    : impl_(std::make_shared<Impl>(std::move(loops), disks, identity, readers, std::move(damage), options)) {}

DataService::~DataService() { Stop(); }

Status DataService::Start(const net::HostPort& where) { return impl_->Start(where); }
void DataService::Stop() { impl_->Stop(); }
uint16_t DataService::port() const { return impl_->port(); }
size_t DataService::connections() const { return impl_->connections(); }
uint64_t DataService::staged_bytes() const { return impl_->staged_bytes(); }

}  // namespace cairn::chunkserver
