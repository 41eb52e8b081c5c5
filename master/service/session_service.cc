#include "master/service/session_service.h"

#include <utility>
#include <vector>

#include "common/net/control_connection.h"
#include "master/core/core.h"

namespace cairn::master {
namespace {

// What the core sends to. Everything runs on one thread, the loop's, which is the core's.
class Channel final : public SessionChannel {
 public:
  void Send(proto::MasterMessage message) override {
    std::vector<std::byte> bytes(message.ByteSizeLong());
    if (message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())))
      connection_->Send(std::move(bytes));
  }
  void Close(const Status& status) override { connection_->End(status); }
  void Consumed() override { connection_->Consumed(); }
  void SetConnection(std::shared_ptr<net::ControlConnection> connection) {
    connection_ = std::move(connection);
  }

 private:
  std::shared_ptr<net::ControlConnection>
      connection_;  // forgets its handlers, and with them this, when it is closed
};

}  // namespace

std::shared_ptr<net::ControlConnection> ServeSession(Core* core, net::EventLoop* loop, net::BufferPool* pool,
                                                     net::Socket socket, std::string peer,
                                                     std::shared_ptr<void> slot) {
  auto channel = std::make_shared<Channel>();
  net::ControlConnection::Handler handler;
  handler.message = [core, channel](std::span<const std::byte> bytes) {
    auto message = std::make_shared<proto::ClientMessage>();
    if (!message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      return channel->Close(Status(StatusCode::kMalformed, "a message does not decode"));
    }
    core->inbox().Push(SessionMessageEvent{channel, std::move(message)});
  };
  handler.closed = [core, channel] { core->inbox().Push(SessionClosedEvent{channel}); };
  auto connection = net::ControlConnection::Start(loop, std::move(socket), std::move(peer), pool, {},
                                                  std::move(handler), std::move(slot));
  channel->SetConnection(connection);
  return connection;
}

}  // namespace cairn::master
