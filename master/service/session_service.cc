#include "master/core/core.h"
#include "master/service/bidi_stream.h"
#include "master/service/services.h"
// The generated services hide methods of their own bases.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverloaded-virtual"
#include "proto/cairn/session.grpc.pb.h"
#pragma GCC diagnostic pop

namespace cairn::master {
namespace {

using Handle = StreamHandle<proto::ClientMessage, proto::MasterMessage>;
using Stream = BidiStream<proto::ClientMessage, proto::MasterMessage>;

class Channel final : public SessionChannel {
 public:
  Channel() : handle_(std::make_shared<Handle>()) {}
  void Send(proto::MasterMessage message) override { handle_->Send(std::move(message)); }
  void Close(const Status& status) override { handle_->Close(status); }
  void Consumed() override { handle_->Consumed(); }
  const std::shared_ptr<Handle>& handle() const { return handle_; }

 private:
  const std::shared_ptr<Handle> handle_;
};

class SessionServiceImpl final : public proto::SessionService::CallbackService {
 public:
  explicit SessionServiceImpl(Core* core) : core_(core) {}

  grpc::ServerBidiReactor<proto::ClientMessage, proto::MasterMessage>* Session(
      grpc::CallbackServerContext* context) override {
    auto channel = std::make_shared<Channel>();
    Stream::Callbacks callbacks;
    callbacks.message = [core = core_, channel](std::shared_ptr<proto::ClientMessage> message) {
      core->inbox().Push(SessionMessageEvent{channel, std::move(message)});
    };
    callbacks.closed = [core = core_, channel] { core->inbox().Push(SessionClosedEvent{channel}); };
    Stream* reactor = nullptr;
    Stream::Start(channel->handle(), {.window = 1024}, std::move(callbacks), &reactor);
    return reactor;
  }

 private:
  Core* const core_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeSessionService(Core* core) {
  return std::make_unique<SessionServiceImpl>(core);
}

}  // namespace cairn::master
