#include "tests/chunkserver/fake_master.h"

#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <set>

#include "chunkserver/proto_values.h"
#include "common/check.h"
#include "common/net/buffer_pool.h"
#include "common/net/control_connection.h"
#include "common/net/event_loop.h"
#include "common/net/frame_server.h"

namespace cairn::chunkserver {
namespace {

// One chunkserver's stream. Sends from any thread.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  explicit Stream(net::EventLoop* loop) : loop_(loop) {}

  void Write(const proto::MasterToChunkserver& message) {
    std::vector<std::byte> bytes(message.ByteSizeLong());
    message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size()));
    loop_->Post([self = shared_from_this(), bytes = std::move(bytes)] { self->connection->Send(bytes); });
  }

  std::shared_ptr<net::ControlConnection> connection;  // of the loop's thread
  ServerId server;                                     // guarded by the master's lock
  bool is_chunkserver = false;                         // of the loop's thread

 private:
  net::EventLoop* const loop_;
};
using StreamPtr = std::shared_ptr<Stream>;

}  // namespace

class FakeMaster::Service final {
 public:
  explicit Service(Options options)
      : options_(std::move(options)),
        listener_(
            {loop_.loop()}, {},
            [this](net::EventLoop* loop, net::Socket socket, std::string peer, std::shared_ptr<void> slot) {
              Accept(loop, std::move(socket), std::move(peer), std::move(slot));
            }) {
    OnLoop([&] {
      const Status status = listener_.Start({"127.0.0.1", options_.port});
      CAIRN_CHECK(status.ok(), "the fake master cannot listen");
    });
  }

  ~Service() {
    OnLoop([&] {
      listener_.Stop();
      const auto streams = streams_;
      for (const StreamPtr& stream : streams)
        stream->connection->Close(Status(StatusCode::kUnavailable, "stopped"));
    });
    loop_.Stop();
  }

  int port() const { return listener_.port(); }

  struct ServerState {
    StreamPtr stream;
    std::vector<proto::ReplicaInfoProto> report;
    bool reported = false;
    std::vector<proto::Heartbeat> heartbeats;
    std::vector<proto::DamageReport> damages;
    std::map<uint64_t, proto::CommandResult> results;
  };

  // Waits until `ready` holds; the lock is held for it and for what `take` does.
  template <typename Ready, typename Take>
  auto Wait(Ready ready, Take take) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, ready);
    return take();
  }

  proto::CommandResult Execute(ServerId server, proto::Command command) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return servers_[server].stream != nullptr; });
    const uint64_t number = next_command_++;
    command.set_number(number);
    proto::MasterToChunkserver message;
    *message.mutable_command() = std::move(command);
    servers_[server].stream->Write(message);
    changed_.wait(lock, [&] { return servers_[server].results.contains(number); });
    return servers_[server].results[number];
  }

  const Options options_;
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<proto::Register> registrations_;  // guarded by mu_
  std::map<std::string, ServerId> ids_;         // guarded by mu_
  std::map<ServerId, ServerState> servers_;     // guarded by mu_

 private:
  void OnLoop(const std::function<void()>& work) {
    std::promise<void> done;
    loop_.loop()->Post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  void Accept(net::EventLoop* loop, net::Socket socket, std::string peer, std::shared_ptr<void> slot) {
    auto stream = std::make_shared<Stream>(loop);
    net::ControlConnection::Handler handler;
    handler.chunkserver = [stream](const auto&) { stream->is_chunkserver = true; };
    handler.message = [this, stream](std::span<const std::byte> bytes) {
      stream->connection->Consumed();
      proto::ChunkserverMessage message;
      CAIRN_CHECK(stream->is_chunkserver &&
                  message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
      std::lock_guard lock(mu_);
      OnMessage(stream, message);
      changed_.notify_all();
    };
    handler.closed = [this, stream] {
      streams_.erase(stream);
      std::lock_guard lock(mu_);
      for (auto& [server, state] : servers_) {
        if (state.stream == stream) state.stream = nullptr;
      }
      changed_.notify_all();
    };
    streams_.insert(stream);
    stream->connection = net::ControlConnection::Start(loop, std::move(socket), std::move(peer), &pool_, {},
                                                       std::move(handler), std::move(slot));
  }

  void OnMessage(const StreamPtr& stream, const proto::ChunkserverMessage& message) {
    if (message.has_register_()) {
      const proto::Register& request = message.register_();
      registrations_.push_back(request);
      ServerId& known = ids_[request.server_uuid()];
      if (!known) known = ServerId{static_cast<uint32_t>(ids_.size())};
      stream->server = known;
      proto::MasterToChunkserver answer;
      proto::RegisterReply* reply = answer.mutable_register_reply();
      ToProto(options_.refuse, reply->mutable_status());
      reply->set_cluster_id(options_.cluster.ToString());
      reply->set_server(known.value());
      reply->set_heartbeat_ms(options_.heartbeat_ms);
      reply->set_epoch_floor(options_.epoch_floor);
      for (const std::string& disk : options_.missing_disks) reply->add_missing_disks(disk);
      stream->Write(answer);
      if (!options_.refuse.ok()) return;
      ServerState& state = servers_[known];
      state.stream = stream;
      state.report.clear();
      state.reported = false;
      return;
    }
    ServerState& state = servers_[stream->server];
    if (message.has_report()) {
      state.report.insert(state.report.end(), message.report().replicas().begin(),
                          message.report().replicas().end());
      state.reported |= message.report().last();
    } else if (message.has_heartbeat()) {
      state.heartbeats.push_back(message.heartbeat());
      proto::MasterToChunkserver answer;
      answer.mutable_heartbeat_reply()->set_number(message.heartbeat().number());
      if (options_.answer_heartbeats) stream->Write(answer);
    } else if (message.has_result()) {
      state.results[message.result().number()] = message.result();
    } else if (message.has_damage()) {
      state.damages.push_back(message.damage());
    }
  }

  uint64_t next_command_ = 1;  // guarded by mu_
  net::BufferPool pool_{1 << 20};
  std::set<StreamPtr> streams_;  // of the loop's thread
  net::EventLoopThread loop_{"fake-master"};
  net::FrameServer listener_;
};

FakeMaster::FakeMaster(Options options) : service_(std::make_unique<Service>(std::move(options))) {}
FakeMaster::~FakeMaster() = default;

uint16_t FakeMaster::port() const { return static_cast<uint16_t>(service_->port()); }

proto::Register FakeMaster::WaitForRegistration(size_t number) {
  auto& s = *service_;
  return s.Wait([&] { return s.registrations_.size() >= number; },
                [&] { return s.registrations_[number - 1]; });
}

std::vector<proto::ReplicaInfoProto> FakeMaster::WaitForReport(ServerId server) {
  auto& s = *service_;
  return s.Wait([&] { return s.servers_[server].reported; }, [&] { return s.servers_[server].report; });
}

proto::Heartbeat FakeMaster::WaitForHeartbeat(ServerId server, size_t at_least) {
  auto& s = *service_;
  return s.Wait([&] { return s.servers_[server].heartbeats.size() >= at_least; },
                [&] { return s.servers_[server].heartbeats.back(); });
}

proto::DamageReport FakeMaster::WaitForDamage(ServerId server) {
  auto& s = *service_;
  return s.Wait([&] { return !s.servers_[server].damages.empty(); },
                [&] { return s.servers_[server].damages[0]; });
}

proto::CommandResult FakeMaster::Execute(ServerId server, proto::Command command) {
  return service_->Execute(server, std::move(command));
}

proto::ChunkResult FakeMaster::Execute(ServerId server, proto::ChunkCommand command) {
  proto::Command batch;
  *batch.add_chunks() = std::move(command);
  const proto::CommandResult result = Execute(server, std::move(batch));
  CAIRN_CHECK(result.results_size() == 1, "one result per command");
  return result.results(0);
}

size_t FakeMaster::registrations() const {
  std::lock_guard lock(service_->mu_);
  return service_->registrations_.size();
}

}  // namespace cairn::chunkserver
