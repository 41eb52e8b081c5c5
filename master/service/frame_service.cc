#include "master/service/frame_service.h"

#include <utility>
#include <vector>

#include "common/net/address.h"
#include "common/net/control_connection.h"
#include "master/core/core.h"

namespace cairn::master {
namespace {

// What the core sends to. Everything runs on one thread, the loop's, which is the core's.
template <typename Base, typename Message>
class Channel : public Base {
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

class ClientChannel final : public Channel<SessionChannel, proto::MasterMessage> {
 public:
  ClientChannel(std::shared_ptr<net::ControlConnection> connection, std::string host)
      : Channel(std::move(connection)), host_(std::move(host)) {}
  std::string host() const override { return host_; }

 private:
  const std::string host_;
};
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

// A Hello after a restart of the master carries what the client keeps of the log (16 MiB) and its claims. Chunkservers send less.
constexpr size_t kMaxSessionMessageBytes = 32u << 20;

}  // namespace

std::shared_ptr<net::ControlConnection> ServeFrames(Core* core, net::EventLoop* loop, net::BufferPool* pool,
                                                    net::Socket socket, std::string peer_name,
                                                    std::shared_ptr<void> slot,
                                                    std::shared_ptr<net::UnfinishedBudget> unfinished) {
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
  net::ControlConnection::Limits limits;
  limits.max_message_bytes = kMaxSessionMessageBytes;
  limits.unfinished = std::move(unfinished);
  auto connection =
      net::ControlConnection::Start(loop, std::move(socket), peer_name, pool, limits, std::move(handler), std::move(slot));
  peer->client = std::make_shared<ClientChannel>(connection, net::HostOf(peer_name));
  return connection;
}

}  // namespace cairn::master
