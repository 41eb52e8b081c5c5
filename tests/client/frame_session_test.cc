// The session over real sockets, against a master in this process that only echoes.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <future>
#include <thread>

#include "client/session/session.h"
#include "common/net/control_connection.h"
#include "common/net/frame_server.h"

namespace cairn::client {
namespace {

// Answers hello, renewals, and every request with a log index equal to its number.
class EchoMaster {
 public:
  EchoMaster()
      : server_({loop_.loop()}, {.socket_buffer_bytes = 0},
                [this](net::EventLoop* loop, net::Socket socket, std::string peer, std::shared_ptr<void> slot) {
                  Serve(loop, std::move(socket), std::move(peer), std::move(slot));
                }) {}
  ~EchoMaster() { loop_.Stop(); }

  std::string Start() {
    std::promise<Status> started;
    loop_.loop()->Post([&] { started.set_value(server_.Start({"127.0.0.1", 0})); });
    EXPECT_TRUE(started.get_future().get().ok());
    return "127.0.0.1:" + std::to_string(server_.port());
  }

  static constexpr char kClusterId[] = "0123456789abcdef0123456789abcdef";
  std::atomic<bool> refuse_version{false};
  std::atomic<int> hellos{0};
  std::atomic<size_t> reply_bytes{0};  // of an attribute in each reply
  std::atomic<size_t> largest_request{0};

 private:
  struct Peer {
    std::shared_ptr<net::ControlConnection> connection;
  };

  void Serve(net::EventLoop* loop, net::Socket socket, std::string name, std::shared_ptr<void> slot) {
    auto peer = std::make_shared<Peer>();
    net::ControlConnection::Handler handler;
    handler.message = [this, peer](std::span<const std::byte> bytes) {
      proto::ClientMessage in;
      ASSERT_TRUE(in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
      largest_request = std::max(largest_request.load(), bytes.size());
      Answer(*peer->connection, in);
    };
    handler.closed = [peer] { peer->connection.reset(); };
    peer->connection =
        net::ControlConnection::Start(loop, std::move(socket), std::move(name), &pool_, {}, std::move(handler), slot);
  }

  void Answer(net::ControlConnection& connection, const proto::ClientMessage& in) {
    proto::MasterMessage out;
    if (in.has_hello()) {
      if (refuse_version) {
        return connection.End(Status(StatusCode::kVersionMismatch, "wire version 1 is not supported"));
      }
      out.mutable_hello_reply()->set_session(7);
      out.mutable_hello_reply()->set_cluster_id(kClusterId);
      out.mutable_hello_reply()->set_lease_ms(10'000);
      out.mutable_hello_reply()->set_incarnation(1);
      ++hellos;
    } else if (in.has_request()) {
      out.mutable_reply()->set_number(in.request().number());
      out.mutable_reply()->set_log_index(in.request().number());
      if (reply_bytes > 0) out.mutable_reply()->mutable_bytes()->set_value(std::string(reply_bytes, 'r'));
    } else if (in.has_renew()) {
      out.mutable_renew_reply()->set_number(in.renew().number());
    } else {
      return connection.End(Status::Ok());  // goodbye
    }
    std::vector<std::byte> bytes(out.ByteSizeLong());
    ASSERT_TRUE(out.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())));
    connection.Send(std::move(bytes));
    connection.Consumed();
  }

  net::BufferPool pool_{1 << 20};
  net::EventLoopThread loop_{"echo"};
  net::FrameServer server_;
};

struct QuietObserver final : SessionObserver {
  ResumeClaims Claims() override { return {}; }
  void OnReply(const proto::Request&, const proto::Reply&) override {}
  void OnRecall(const proto::Recall&) override {}
  void OnReconfigured(const proto::Reconfigured&) override {}
  void OnServers(const google::protobuf::RepeatedPtrField<proto::ServerAddress>&) override {}
  void OnResumed(const proto::HelloReply&, bool, bool) override {}
  void OnSessionLost() override {}
};

class FrameSession : public ::testing::Test {
 protected:
  std::string StartServer() { return service.Start(); }

  EchoMaster service;
  std::unique_ptr<MasterConnector> connector = MakeFrameConnector();
  QuietObserver observer;
};

TEST_F(FrameSession, TheFirstAddressThatAnswersIsUsedAndABrokenStreamIsResumed) {
  const std::string address = StartServer();
  Session session({.masters = {"127.0.0.1:1", address}, .name = "test"}, connector.get(), &observer,
                  SystemClock::Get());
  ASSERT_TRUE(session.Start().ok());
  proto::Request request;
  request.mutable_sync();
  ASSERT_TRUE(session.Call(request).ok());
  session.BreakStream();
  auto reply = session.Call(request);
  ASSERT_TRUE(reply.ok()) << reply.status().ToString();
  EXPECT_EQ(reply->log_index(), 2u);
  EXPECT_EQ(service.hellos, 2);
  EXPECT_TRUE(session.LeasesValid());
  session.Stop(true);
}

TEST_F(FrameSession, AnAddressWhereNothingListensIsNamed) {
  Session session({.masters = {"127.0.0.1:1"}, .name = "test", .connect_timeout_ms = 300}, connector.get(),
                  &observer, SystemClock::Get());
  const Status status = session.Start();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("127.0.0.1:1"), std::string::npos) << status.message();
}

TEST_F(FrameSession, ARefusedVersionIsFinal) {
  service.refuse_version = true;
  const std::string address = StartServer();
  Session session({.masters = {address}, .name = "test", .connect_timeout_ms = 20'000}, connector.get(),
                  &observer, SystemClock::Get());
  EXPECT_EQ(session.Start().code(), StatusCode::kVersionMismatch);
}

TEST_F(FrameSession, MessagesLongerThanAFrameArriveWhole) {
  const std::string address = StartServer();
  Session session({.masters = {address}, .name = "test"}, connector.get(), &observer, SystemClock::Get());
  ASSERT_TRUE(session.Start().ok());
  service.reply_bytes = 3 * net::kControlPartBytes + 17;
  proto::Request request;
  request.mutable_set_xattr()->set_value(std::string(2 * net::kControlPartBytes, 'q'));
  auto reply = session.Call(request);
  ASSERT_TRUE(reply.ok()) << reply.status().ToString();
  EXPECT_EQ(reply->bytes().value(), std::string(service.reply_bytes, 'r'));
  EXPECT_GT(service.largest_request, 2 * net::kControlPartBytes);
}

TEST_F(FrameSession, SomethingElseThatListensIsNoMaster) {
  net::EventLoopThread loop("other");
  net::FrameServer server({loop.loop()}, {}, [](net::EventLoop*, net::Socket socket, std::string, std::shared_ptr<void>) {
    const std::string greeting = "220 mail.example.org ESMTP, and so on and on";
    EXPECT_EQ(send(socket.fd(), greeting.data(), greeting.size(), 0), static_cast<ssize_t>(greeting.size()));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // a reset would overtake it; either way it is refused
  });
  std::promise<Status> started;
  loop.loop()->Post([&] { started.set_value(server.Start({"127.0.0.1", 0})); });
  ASSERT_TRUE(started.get_future().get().ok());
  Session session({.masters = {"127.0.0.1:" + std::to_string(server.port())},
                   .name = "test",
                   .connect_timeout_ms = 300},
                  connector.get(), &observer, SystemClock::Get());
  EXPECT_EQ(session.Start().code(), StatusCode::kUnavailable);
  loop.Stop();
}

TEST_F(FrameSession, RoundTripsFromSeveralThreadsAllArrive) {
  const std::string address = StartServer();
  Session session({.masters = {address}, .name = "test"}, connector.get(), &observer, SystemClock::Get());
  ASSERT_TRUE(session.Start().ok());
  std::vector<std::thread> threads;
  std::atomic<int> answered{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        proto::Request request;
        request.mutable_sync();
        answered += session.Call(request).ok();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(answered, 2000);
  // For people: what one request costs when nothing else goes on.
  std::vector<double> micros;
  for (int i = 0; i < 1000; ++i) {
    proto::Request request;
    request.mutable_get_attr()->set_inode(1);
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(session.Call(request).ok());
    micros.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(micros.begin(), micros.end());
  std::printf("round trip: p50 %.0f us, p99 %.0f us\n", micros[500], micros[990]);
}

}  // namespace
}  // namespace cairn::client
