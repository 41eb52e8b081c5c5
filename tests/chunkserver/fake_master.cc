#include "tests/chunkserver/fake_master.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>

#include "chunkserver/proto_values.h"
#include "common/check.h"
#include "proto/cairn/cluster.grpc.pb.h"

namespace cairn::chunkserver {

using Stream = grpc::ServerReaderWriter<proto::MasterToChunkserver, proto::ChunkserverMessage>;

class FakeMaster::Service final : public proto::ClusterService::Service {
 public:
  explicit Service(Options options) : options_(std::move(options)) {
    grpc::ServerBuilder builder;
    // Without this a second server could share a port that is still in use.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort("127.0.0.1:" + std::to_string(options_.port), grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    CAIRN_CHECK(server_ != nullptr && port_ != 0, "the fake master cannot listen");
  }

  ~Service() override {
    {
      std::lock_guard lock(mu_);
      for (grpc::ServerContext* context : contexts_) context->TryCancel();
    }
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  grpc::Status Chunkserver(grpc::ServerContext* context, Stream* stream) override {
    {
      std::lock_guard lock(mu_);
      contexts_.insert(context);
    }
    const grpc::Status status = Serve(stream);
    std::lock_guard lock(mu_);
    contexts_.erase(context);
    for (auto& [server, state] : servers_) {
      if (state.stream == stream) state.stream = nullptr;
    }
    changed_.notify_all();
    return status;
  }

  int port() const { return port_; }

  struct ServerState {
    Stream* stream = nullptr;
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
  grpc::Status Serve(Stream* stream) {
    proto::ChunkserverMessage message;
    if (!stream->Read(&message) || !message.has_register_()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "no registration"};
    }
    ServerId server;
    {
      std::lock_guard lock(mu_);
      const proto::Register& request = message.register_();
      registrations_.push_back(request);
      ServerId& known = ids_[request.server_uuid()];
      if (!known) known = ServerId{static_cast<uint32_t>(ids_.size())};
      server = known;
      proto::MasterToChunkserver answer;
      proto::RegisterReply* reply = answer.mutable_register_reply();
      ToProto(options_.refuse, reply->mutable_status());
      reply->set_cluster_id(options_.cluster.ToString());
      reply->set_server(server.value());
      reply->set_heartbeat_ms(options_.heartbeat_ms);
      reply->set_epoch_floor(options_.epoch_floor);
      stream->Write(answer);
      if (options_.refuse.ok()) {
        ServerState& state = servers_[server];
        state.stream = stream;
        state.report.clear();
        state.reported = false;
      }
      changed_.notify_all();
    }
    while (stream->Read(&message)) {
      std::lock_guard lock(mu_);
      ServerState& state = servers_[server];
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
      changed_.notify_all();
    }
    return grpc::Status::OK;
  }

  std::set<grpc::ServerContext*> contexts_;  // guarded by mu_
  uint64_t next_command_ = 1;                // guarded by mu_
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
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
