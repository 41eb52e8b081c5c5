// Messages between a blocking socket and an event loop: what a session and a control stream are made of.
#include "common/net/message_socket.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <vector>

#include "common/net/buffer_pool.h"
#include "common/net/event_loop.h"
#include "common/net/frame_server.h"

namespace cairn::net {
namespace {

std::vector<std::byte> Bytes(size_t size, int seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + static_cast<size_t>(seed));
  return bytes;
}

// Says every message back; remembers who called themselves chunkservers.
class Echo {
 public:
  Echo()
      : server_({loop_.loop()}, {},
                [this](EventLoop* loop, Socket socket, std::string peer, std::shared_ptr<void> slot) {
                  Accept(loop, std::move(socket), std::move(peer), std::move(slot));
                }) {
    OnLoop([&] { EXPECT_TRUE(server_.Start({"127.0.0.1", 0}).ok()); });
  }
  ~Echo() {
    OnLoop([&] {
      server_.Stop();
      for (auto& connection : connections_) connection->Close(Status(StatusCode::kUnavailable, "stopped"));
    });
    loop_.Stop();
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(server_.port()); }
  // Of the loop's thread; read after a message came back.
  bool takes_chunkservers = true;
  std::atomic<bool> silent{false};
  std::atomic<int> chunkservers{0};

 private:
  void OnLoop(const std::function<void()>& work) {
    std::promise<void> done;
    loop_.loop()->Post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  void Accept(EventLoop* loop, Socket socket, std::string peer, std::shared_ptr<void> slot) {
    auto self = std::make_shared<std::shared_ptr<ControlConnection>>();
    ControlConnection::Handler handler;
    handler.message = [this, self](std::span<const std::byte> message) {
      (*self)->Consumed();
      if (!silent) (*self)->Send({message.begin(), message.end()});
    };
    handler.closed = [self] { self->reset(); };
    if (takes_chunkservers) handler.chunkserver = [this](const auto&) { ++chunkservers; };
    *self = ControlConnection::Start(loop, std::move(socket), std::move(peer), &pool_, {}, std::move(handler),
                                     std::move(slot));
    connections_.push_back(*self);
  }

  BufferPool pool_{1 << 20};
  EventLoopThread loop_{"echo"};
  std::vector<std::shared_ptr<ControlConnection>> connections_;  // of the loop's thread
  FrameServer server_;
};

TEST(MessageSocketTest, MessagesOfAllSizesComeBackWholeAndInOrder) {
  Echo echo;
  auto socket = MessageSocket::Connect(echo.address(), {});
  ASSERT_TRUE(socket.ok()) << socket.status().ToString();
  const size_t sizes[] = {
      0, 1, 100, 65'536, kControlPartBytes, kControlPartBytes + 1, 3 * kControlPartBytes + 7, 5};
  for (const size_t size : sizes) ASSERT_TRUE((*socket)->Write(Bytes(size, static_cast<int>(size % 97))));
  for (const size_t size : sizes) {
    const auto back = (*socket)->Read();
    ASSERT_TRUE(back.has_value()) << (*socket)->end().ToString();
    const auto expected = Bytes(size, static_cast<int>(size % 97));
    EXPECT_TRUE(std::equal(back->begin(), back->end(), expected.begin(), expected.end())) << size;
  }
  EXPECT_EQ(echo.chunkservers, 0);
}

TEST(MessageSocketTest, AChunkserverIsKnownBeforeItsFirstMessage) {
  Echo echo;
  auto socket = MessageSocket::Connect(echo.address(), {.chunkserver = true});
  ASSERT_TRUE(socket.ok());
  ASSERT_TRUE((*socket)->Write(Bytes(10, 1)));
  ASSERT_TRUE((*socket)->Read().has_value());
  EXPECT_EQ(echo.chunkservers, 1);
}

TEST(MessageSocketTest, AChunkserverIsRefusedWhereNoneIsExpectedAndTheReasonArrives) {
  Echo echo;
  echo.takes_chunkservers = false;
  auto socket = MessageSocket::Connect(echo.address(), {.chunkserver = true});
  ASSERT_TRUE(socket.ok());
  EXPECT_FALSE((*socket)->Read().has_value());
  EXPECT_EQ((*socket)->end().code(), StatusCode::kMalformed);
  EXPECT_NE((*socket)->end().message().find("chunkserver"), std::string::npos) << (*socket)->end().ToString();
}

TEST(MessageSocketTest, APeerThatIsSilentIsGivenUp) {
  Echo echo;
  echo.silent = true;
  auto socket = MessageSocket::Connect(echo.address(), {.silence_ms = 50});
  ASSERT_TRUE(socket.ok());
  ASSERT_TRUE((*socket)->Write(Bytes(10, 1)));
  EXPECT_FALSE((*socket)->Read().has_value());
  EXPECT_EQ((*socket)->end().code(), StatusCode::kUnavailable);
  EXPECT_NE((*socket)->end().message().find("50 ms"), std::string::npos) << (*socket)->end().ToString();
}

TEST(MessageSocketTest, NobodyListeningIsAnErrorThatSaysSo) {
  std::string address;
  {
    Echo echo;
    address = echo.address();
  }
  const auto socket = MessageSocket::Connect(address, {});
  EXPECT_EQ(socket.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(socket.status().message().find("cannot connect"), std::string::npos);
}

}  // namespace
}  // namespace cairn::net
