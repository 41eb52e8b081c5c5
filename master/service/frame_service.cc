#include "master/service/frame_service.h"

#include <utility>
#include <vector>

#include "common/net/control_connection.h"
#include "master/core/core.h"

namespace cairn::master {
namespace {

// What the core sends to. Everything runs on one thread, the loop's, which is the core's.
template <typename Base, typename Message>
class Channel final : public Base {
 public:
  // The connection forgets its handlers, and with them this, when it is closed.
  explicit Channel(std::shared_ptr<net::ControlConnection> connection) : connection_(std::move(connection)) {}

  void Send(Message message) override {
    std::vector<std::byte> bytes(message.ByteSizeLong());
    if (message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())))
      connection_->Send(std::move(bytes));
  }
  void Close(const Status& status) override { connection_->End(status); }
  void Consumed() override { connection_->Consumed(); }

 private:
  const std::shared_ptr<net::ControlConnection> connection_;
};

using ClientChannel = Channel<SessionChannel, proto::MasterMessage>;
using ChunkserverChannel = Channel<ServerChannel, proto::MasterToChunkserver>;

// One connection: a session, unless the peer says that it is a chunkserver.
struct Peer {
  std::shared_ptr<ClientChannel> client;
  std::shared_ptr<ChunkserverChannel> chunkserver;
};

template <typename Event, typename Message, typename ChannelPtr>
void Pass(Core* core, const ChannelPtr& channel, std::span<const std::byte> bytes) {
  auto message = std::make_shared<Message>();
  if (!message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return channel->Close(Status(StatusCode::kMalformed, "a message does not decode"));
  }
  core->inbox().Push(Event{channel, std::move(message)});
}

}  // namespace

std::shared_ptr<net::ControlConnection> ServeFrames(Core* core, net::EventLoop* loop, net::BufferPool* pool,
                                                    net::Socket socket, std::string peer_name,
                                                    std::shared_ptr<void> slot) {
  auto peer = std::make_shared<Peer>();
  net::ControlConnection::Handler handler;
  handler.chunkserver = [peer](const std::shared_ptr<net::ControlConnection>& connection) {
    peer->chunkserver = std::make_shared<ChunkserverChannel>(connection);
  };
  handler.message = [core, peer](std::span<const std::byte> bytes) {
    if (peer->chunkserver != nullptr) {
      Pass<ServerMessageEvent, proto::ChunkserverMessage>(core, peer->chunkserver, bytes);
    } else {
      Pass<SessionMessageEvent, proto::ClientMessage>(core, peer->client, bytes);
    }
  };
  handler.closed = [core, peer] {
    if (peer->chunkserver != nullptr) {
      core->inbox().Push(ServerClosedEvent{peer->chunkserver});
    } else {
      core->inbox().Push(SessionClosedEvent{peer->client});
    }
  };
  auto connection = net::ControlConnection::Start(loop, std::move(socket), std::move(peer_name), pool, {},
                                                  std::move(handler), std::move(slot));
  peer->client = std::make_shared<ClientChannel>(connection);
  return connection;
}

}  // namespace cairn::master
