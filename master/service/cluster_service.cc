#include "master/core/core.h"
#include "master/service/bidi_stream.h"
#include "master/service/services.h"
// The generated services hide methods of their own bases.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverloaded-virtual"
#include "proto/cairn/cluster.grpc.pb.h"
#pragma GCC diagnostic pop

namespace cairn::master {
namespace {

using Handle = StreamHandle<proto::ChunkserverMessage, proto::MasterToChunkserver>;
using Stream = BidiStream<proto::ChunkserverMessage, proto::MasterToChunkserver>;

class Channel final : public ServerChannel {
 public:
  Channel() : handle_(std::make_shared<Handle>()) {}
  void Send(proto::MasterToChunkserver message) override { handle_->Send(std::move(message)); }
  void Close(const Status& status) override { handle_->Close(status); }
  void Consumed() override { handle_->Consumed(); }
  const std::shared_ptr<Handle>& handle() const { return handle_; }

 private:
  const std::shared_ptr<Handle> handle_;
};

class ClusterServiceImpl final : public proto::ClusterService::CallbackService {
 public:
  explicit ClusterServiceImpl(Core* core) : core_(core) {}

  grpc::ServerBidiReactor<proto::ChunkserverMessage, proto::MasterToChunkserver>* Chunkserver(
      grpc::CallbackServerContext* context) override {
    auto channel = std::make_shared<Channel>();
    Stream::Callbacks callbacks;
    callbacks.message = [core = core_, channel](std::shared_ptr<proto::ChunkserverMessage> message) {
      core->inbox().Push(ServerMessageEvent{channel, std::move(message)});
    };
    callbacks.closed = [core = core_, channel] { core->inbox().Push(ServerClosedEvent{channel}); };
    Stream* reactor = nullptr;
    Stream::Start(channel->handle(), {.window = 64}, std::move(callbacks), &reactor);
    return reactor;
  }

 private:
  Core* const core_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeClusterService(Core* core) {
  return std::make_unique<ClusterServiceImpl>(core);
}

std::vector<std::unique_ptr<grpc::Service>> MakeServices(Core* core) {
  std::vector<std::unique_ptr<grpc::Service>> services;
  services.push_back(MakeClusterService(core));
  services.push_back(MakeAdminService(core));
  return services;
}

}  // namespace cairn::master
