#include "master/service/master_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "common/log.h"
#include "master/core/core.h"
#include "master/service/services.h"

namespace cairn::master {
namespace {

constexpr int kMaxMessageBytes = 16 << 20;
constexpr int64_t kMaxWaitNanos = 200 * kNanosPerMilli;

}  // namespace

struct MasterServer::State {
  std::unique_ptr<MetaStore> store;
  std::unique_ptr<Core> core;
  std::vector<std::unique_ptr<grpc::Service>> services;
  std::unique_ptr<grpc::Server> server;
  std::function<void(const Status&)> on_failure;
  std::string cluster_id;
  int port = 0;
  std::thread core_thread;
  std::thread sync_thread;
  std::atomic<bool> stopping{false};
  std::mutex mu;
  std::condition_variable stop_changed;  // with stopping, guarded by mu
  bool stopped = false;

  void RunCore() {
    while (!stopping.load(std::memory_order_relaxed)) {
      const Status status = core->RunOnce(kMaxWaitNanos);
      if (status.ok()) continue;
      CAIRN_LOG(Error, "the master cannot go on: {}", status.ToString());
      if (on_failure) on_failure(status);
      return;
    }
  }

  // Everything in the log is on disk at most one period later.
  void RunSync(int64_t period_ms) {
    std::unique_lock lock(mu);
    while (!stopping) {
      stop_changed.wait_for(lock, std::chrono::milliseconds(period_ms), [&] { return stopping.load(); });
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
  state.core = std::make_unique<Core>(options.core, state.store.get(), clock);
  CAIRN_RETURN_IF_ERROR(state.core->Start());
  state.cluster_id = state.core->cluster_id();
  state.services = MakeServices(state.core.get());

  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &state.port);
  for (auto& service : state.services) builder.RegisterService(service.get());
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  // A second master on the same port must fail instead of sharing it.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // Peers that vanished without closing are found within seconds; theirs are allowed to look for us as often.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  state.server = builder.BuildAndStart();
  if (state.server == nullptr || state.port == 0) {
    return Status(StatusCode::kBusy,
                  "cannot listen on " + options.listen +
                      ": the address is in use, not one of this machine, or not permitted");
  }
  state.core_thread = std::thread([&state] { state.RunCore(); });
  state.sync_thread =
      std::thread([&state, period_ms = options.core.metadata_sync_ms] { state.RunSync(period_ms); });
  return master;
}

MasterServer::~MasterServer() { Stop(); }

int MasterServer::port() const { return state_->port; }
const std::string& MasterServer::cluster_id() const { return state_->cluster_id; }

void MasterServer::Stop() {
  State& state = *state_;
  if (state.stopped) return;
  state.stopped = true;
  if (state.server != nullptr) {
    // Streams never end by themselves: give answers under way a moment, then cancel.
    state.server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  }
  {
    std::lock_guard lock(state.mu);
    state.stopping = true;
  }
  state.stop_changed.notify_all();
  state.core->inbox().Close();
  if (state.core_thread.joinable()) state.core_thread.join();
  if (state.sync_thread.joinable()) state.sync_thread.join();
  state.server.reset();
  state.services.clear();
  const Status status = state.store->SyncLog();
  if (!status.ok()) CAIRN_LOG(Error, "sync of the metadata log at the end failed: {}", status.ToString());
  state.core.reset();
  state.store.reset();
}

}  // namespace cairn::master
