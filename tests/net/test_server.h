// A server of frames whose answers are given by the test.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "common/check.h"
#include "common/checksum.h"
#include "common/net/frame_connection.h"
#include "common/net/frame_server.h"
#include "common/wire/messages.h"

namespace cairn::net {

class TestServer {
 public:
  using Handler = std::function<void(FrameConnection&, Frame)>;

  explicit TestServer(Handler handler, FrameServer::Options options = {},
                      const std::string& host = "127.0.0.1")
      : handler_(std::move(handler)),
        server_({thread_.loop()}, options,
                [this](EventLoop* loop, Socket socket, std::string peer, auto slot) {
                  auto owner = std::make_shared<Connection>(this, std::move(slot));
                  auto connection = FrameConnection::Start(loop, std::move(socket), std::move(peer), {},
                                                           &pool_, std::move(owner));
                  connections_.insert(connection);
                }) {
    RunOnLoop([this, &host] { status_ = server_.Start({host, 0}); });
  }
  ~TestServer() {
    RunOnLoop([this] { server_.Stop(); });
    CloseAll();
    thread_.Stop();
  }

  const Status& status() const { return status_; }
  uint16_t port() const { return server_.port(); }
  std::string address() const { return "127.0.0.1:" + std::to_string(server_.port()); }
  FrameServer& server() { return server_; }
  EventLoop* loop() { return thread_.loop(); }

  void CloseAll() {
    RunOnLoop([this] {
      const auto connections = connections_;
      for (const auto& connection : connections) connection->Close(Status(StatusCode::kCancelled, "test"));
    });
  }
  void RunOnLoop(const std::function<void()>& task) {
    std::promise<void> done;
    thread_.loop()->Post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }
  Status LastClose() {
    std::lock_guard lock(mu_);
    return last_close_;
  }
  std::atomic<int> closed{0};
  std::atomic<int> queue_short{0};

  // Answers the greeting as `server` of `cluster`.
  static void AnswerHello(FrameConnection& connection, const Frame& frame, Uuid cluster, ServerId server) {
    wire::HelloReply reply;
    reply.cluster = cluster;
    reply.server = server;
    connection.Send(frame.header.type | wire::kReplyBit, frame.header.request_id,
                    SharedBytes::Own(wire::Encode(reply)), {});
  }

 private:
  class Connection final : public FrameConnection::Owner {
   public:
    Connection(TestServer* server, std::shared_ptr<void> slot) : server_(server), slot_(std::move(slot)) {}
    void OnFrame(FrameConnection& connection, Frame frame) override {
      server_->handler_(connection, std::move(frame));
    }
    void OnSendQueueShort(FrameConnection& connection) override { server_->queue_short.fetch_add(1); }
    void OnClosed(FrameConnection& connection, const Status& why) override {
      {
        std::lock_guard lock(server_->mu_);
        server_->last_close_ = why;
      }
      server_->closed.fetch_add(1);
      server_->connections_.erase(connection.shared_from_this());
    }

   private:
    TestServer* const server_;
    const std::shared_ptr<void> slot_;
  };

  EventLoopThread thread_;
  BufferPool pool_{16 << 20};
  const Handler handler_;
  std::set<std::shared_ptr<FrameConnection>> connections_;  // of the loop's thread
  FrameServer server_;
  Status status_;
  std::mutex mu_;
  Status last_close_;
};

// A blocking socket, for tests that speak in raw bytes.
class RawClient {
 public:
  explicit RawClient(uint16_t port) {
    SocketAddress to;
    CAIRN_CHECK(ParseNumeric({"127.0.0.1", port}, &to), "address");
    socket_ = Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    connected_ = ::connect(socket_.fd(), to.get(), to.length) == 0;
  }
  bool connected() const { return connected_; }
  // False when the peer has closed.
  bool Send(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes = bytes.subspan(static_cast<size_t>(sent));
    }
    return true;
  }
  void SendFrame(uint8_t type, uint64_t id, std::span<const std::byte> meta,
                 std::span<const std::byte> data) {
    Send(EncodeFrame(type, id, meta, data));
  }
  static std::vector<std::byte> EncodeFrame(uint8_t type, uint64_t id, std::span<const std::byte> meta,
                                            std::span<const std::byte> data) {
    wire::FrameHeader header;
    header.type = type;
    header.request_id = id;
    header.meta_bytes = static_cast<uint32_t>(meta.size());
    header.data_bytes = static_cast<uint32_t>(data.size());
    header.meta_crc = Crc32c(meta);
    const auto encoded = wire::EncodeHeader(header);
    std::vector<std::byte> bytes;
    bytes.reserve(encoded.size() + meta.size() + data.size());
    for (const std::span<const std::byte> part : {std::span<const std::byte>(encoded), meta, data}) {
      bytes.insert(bytes.end(), part.begin(), part.end());
    }
    return bytes;
  }
  // Waits until the peer has closed; what it sends meanwhile is dropped.
  void WaitForClose() {
    ::shutdown(socket_.fd(), SHUT_WR);
    char buffer[4096];
    while (::recv(socket_.fd(), buffer, sizeof(buffer), 0) > 0) {
    }
  }
  // Without shutting down our side: the peer must close by itself.
  void WaitUntilDropped() {
    char buffer[4096];
    while (::recv(socket_.fd(), buffer, sizeof(buffer), 0) > 0) {
    }
  }
  std::vector<std::byte> Receive(size_t bytes) {
    std::vector<std::byte> got(bytes);
    size_t filled = 0;
    while (filled < bytes) {
      const ssize_t n = ::recv(socket_.fd(), got.data() + filled, bytes - filled, 0);
      if (n <= 0) break;
      filled += static_cast<size_t>(n);
    }
    got.resize(filled);
    return got;
  }

 private:
  Socket socket_;
  bool connected_ = false;
};

}  // namespace cairn::net
