#include "master/service/master_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "common/daemon.h"
#include "common/log.h"
#include "common/net/address.h"
#include "common/net/buffer_pool.h"
#include "common/net/event_loop.h"
#include "master/core/core.h"
#include "master/service/connections.h"
#include "master/service/frame_service.h"
#include "master/service/service_port.h"
#include "master/service/services.h"
#include "master/service/status_metrics.h"

namespace cairn::master {
namespace {

constexpr int kMaxMessageBytes = 16 << 20;
constexpr size_t kIdleReceiveBytes = 16u << 20;
constexpr size_t kOtherConnections = 4096;        // chunkservers, administration
constexpr size_t kOtherConnectionsOfHost = 256;
constexpr int kMaxCallsOfConnection = 64;
constexpr int kGrpcHandshakeMs = 10'000;

}  // namespace

struct MasterServer::State {
  metrics::Registry registry;  // outlives what counts
  std::unique_ptr<MetaStore> store;
  std::unique_ptr<Core> core;
  std::unique_ptr<grpc::Service> admin;
  std::unique_ptr<grpc::Server> server;
  std::function<void(const Status&)> on_failure;
  std::string cluster_id;
  std::thread sync_thread;
  net::BufferPool pool{kIdleReceiveBytes};
  // The core's thread. It also serves the sessions' sockets: a request is received, carried out and answered
  // without changing threads.
  std::unique_ptr<net::EventLoopThread> core_loop;
  std::unique_ptr<ServicePort> port;
  std::unique_ptr<StatusMetrics> status_metrics;
  std::unique_ptr<metrics::Endpoint> endpoint;
  std::unique_ptr<console::Console> console;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  std::atomic<bool> round_due{false};
  // Of the core's thread:
  std::unique_ptr<SessionConnections> sessions;
  GrpcConnections grpc_connections;
  bool failed = false;
  net::EventLoop::TimerId next_round = 0;
  std::atomic<bool> stopping{false};
  std::mutex mu;
  std::condition_variable sync_wake;  // with stopping and sync_wanted, guarded by mu
  bool sync_wanted = false;
  bool stopped = false;

  // Any thread: something waits for the core.
  void WakeCore() {
    if (round_due.exchange(true)) return;
    net::EventLoop* loop = core_loop->loop();
    // After everything that arrived in this turn of the loop, so that it shares one commit.
    if (loop->InLoopThread()) {
      loop->Defer([this] { Round(); });
    } else {
      loop->Post([this, loop] { loop->Defer([this] { Round(); }); });
    }
  }

  void Round() {
    round_due = false;
    if (failed || stopping.load(std::memory_order_relaxed)) return;
    const Status status = core->RunOnce(0);
    if (!status.ok()) {
      failed = true;
      CAIRN_LOG(Error, "the master cannot go on: {}", status.ToString());
      if (on_failure) on_failure(status);
      return;
    }
    if (!core->inbox().empty()) WakeCore();
    net::EventLoop* loop = core_loop->loop();
    loop->CancelTimer(next_round);
    next_round = loop->AddTimer(core->NextWakeup(), [this] { Round(); });
  }

  // The loop's wake-ups are in the core's time.
  void StartLoop(const Clock* clock) {
    core_loop = std::make_unique<net::EventLoopThread>("core", clock);
    core->inbox().SetWaker([this] { WakeCore(); });
    WakeCore();
  }

  Status Listen(const MasterServerOptions& options) {
    ServicePort::Handlers handlers;
    handlers.session = [this](net::Socket socket, std::string peer, std::shared_ptr<void> slot) {
      sessions->Serve(std::move(socket), std::move(peer), std::move(slot));
    };
    handlers.grpc = [this](net::Socket socket, const std::string& peer) {
      if (!grpc_connections.Admit(socket, net::HostOf(peer))) {
        CAIRN_LOG(Warning, "a connection of {} for administration is refused: {} are open", peer, grpc_connections.size());
        return;
      }
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
      connection.fd = socket.Release();
      acceptor->HandleNewConnection(&connection);
    };
    sessions = std::make_unique<SessionConnections>(core.get(), core_loop->loop(), &pool);
    port = std::make_unique<ServicePort>(core_loop->loop(), options.core.max_sessions + kOtherConnections,
                                         options.core.max_sessions_per_host + kOtherConnectionsOfHost, std::move(handlers));
    CAIRN_RETURN_IF_ERROR(port->Start(options.listen));
    core_loop->loop()->Post([this] { sessions->StartSweep([this] { return port->TakeRefused(); }); });
    return Status::Ok();
  }

  // Clients see at once that this master is gone, instead of waiting for their next renewal.
  void CloseSessions() {
    std::promise<void> closed;
    core_loop->loop()->Post([this, &closed] {
      if (sessions != nullptr) {
        sessions->StopSweep();
        sessions->CloseAll(Status(StatusCode::kUnavailable, "the master shuts down"));
      }
      closed.set_value();
    });
    closed.get_future().wait();
  }

  void RequestSync() {
    {
      std::lock_guard lock(mu);
      sync_wanted = true;
    }
    sync_wake.notify_one();
  }

  // Everything in the log is on disk at most one period later, and at once when somebody waits for it.
  // Requests that come while a sync runs share the next one.
  void RunSync(int64_t period_ms) {
    std::unique_lock lock(mu);
    while (!stopping) {
      sync_wake.wait_for(lock, std::chrono::milliseconds(period_ms),
                         [&] { return stopping.load() || sync_wanted; });
      if (stopping) return;  // the end is synced by Stop, when nothing is committed any more
      sync_wanted = false;
      const uint64_t committed = core->committed_index();
      if (committed <= core->durable_index()) continue;
      lock.unlock();
      const Status status = store->SyncLog();
      if (status.ok()) {
        core->PublishDurable(committed);
        core->inbox().Wake();
      } else {
        CAIRN_LOG(Error, "sync of the metadata log failed: {}", status.ToString());
        // After a failed sync nothing is known of what the disk has: only a fresh start reads it again.
        if (on_failure) on_failure(status);
        stopping = true;
        return;
      }
      lock.lock();
    }
  }
};

Result<std::unique_ptr<MasterServer>> MasterServer::Start(const MasterServerOptions& options,
                                                          std::unique_ptr<MetaStore> store,
                                                          const Clock* clock,
                                                          std::function<void(const Status&)> on_failure) {
  std::unique_ptr<MasterServer> master(new MasterServer());
  master->state_ = std::make_unique<State>();
  State& state = *master->state_;
  state.store = std::move(store);
  state.on_failure = std::move(on_failure);
  CoreOptions core_options = options.core;
  if (core_options.boot_id.empty()) core_options.boot_id = BootIdentity();
  if (!options.metrics.address.empty() || !options.console.address.empty()) core_options.metrics = &state.registry;
  state.core = std::make_unique<Core>(core_options, state.store.get(), clock);
  CAIRN_RETURN_IF_ERROR(state.core->Start());
  state.cluster_id = state.core->cluster_id();
  state.admin = MakeAdminService(state.core.get(), options.admin_token);

  grpc::ServerBuilder builder;
  // Connections come from the port that gRPC shares with the sessions.
  state.acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
  builder.RegisterService(state.admin.get());
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxCallsOfConnection);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kGrpcHandshakeMs);
  // Peers that vanished without closing are found within seconds; theirs are allowed to look for us as often.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  state.server = builder.BuildAndStart();
  if (state.server == nullptr) return Status(StatusCode::kIoError, "gRPC does not start");
  state.core->SetSyncRequest([&state] { state.RequestSync(); });
  state.StartLoop(clock);
  CAIRN_RETURN_IF_ERROR(state.Listen(options));
  state.sync_thread =
      std::thread([&state, period_ms = options.core.metadata_sync_ms] { state.RunSync(period_ms); });
  state.status_metrics = std::make_unique<StatusMetrics>(state.registry, state.core.get());
  CAIRN_ASSIGN_OR_RETURN(state.endpoint, metrics::Endpoint::Start(options.metrics, state.registry));
  CAIRN_ASSIGN_OR_RETURN(state.console,
                         console::Console::Start(options.console, options.admin_token,
                                                 state.server->InProcessChannel(grpc::ChannelArguments()),
                                                 state.registry, clock));
  return master;
}

MasterServer::~MasterServer() { Stop(); }

int MasterServer::port() const { return state_->port->port(); }
int MasterServer::console_port() const { return state_->console == nullptr ? 0 : state_->console->port(); }
const std::string& MasterServer::cluster_id() const { return state_->cluster_id; }

void MasterServer::Stop() {
  State& state = *state_;
  if (state.stopped) return;
  state.stopped = true;
  state.console.reset();
  state.endpoint.reset();
  state.status_metrics.reset();
  if (state.port != nullptr) state.port->Stop();
  if (state.server != nullptr) {
    // Streams never end by themselves: give answers under way a moment, then cancel.
    state.server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  }
  {
    std::lock_guard lock(state.mu);
    state.stopping = true;
  }
  state.sync_wake.notify_all();
  if (state.core_loop != nullptr) state.CloseSessions();
  state.core->inbox().Close();
  if (state.core_loop != nullptr) state.core_loop->Stop();
  if (state.sync_thread.joinable()) state.sync_thread.join();
  state.server.reset();
  state.admin.reset();
  state.port.reset();
  const Status status = state.store->SyncLog();
  if (!status.ok()) CAIRN_LOG(Error, "sync of the metadata log at the end failed: {}", status.ToString());
  state.core.reset();
  state.core_loop.reset();  // with the sessions' connections
  state.store.reset();
}

}  // namespace cairn::master
