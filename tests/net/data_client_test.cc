#include "common/net/data_client.h"

#include <gtest/gtest.h>

#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

#include "common/net/buffer_pool.h"
#include "common/net/event_loop.h"
#include "tests/net/test_server.h"

namespace cairn::net {
namespace {

using wire::MessageType;

constexpr Uuid kCluster{1, 2};
constexpr ServerId kServer{7};

struct Answer {
  Status status;
  std::vector<std::byte> meta;
  std::vector<std::byte> data;
};

SharedBytes Text(const std::string& text) {
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return SharedBytes::Own(std::vector<std::byte>(bytes, bytes + text.size()));
}

std::string ToText(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class DataClientTest : public testing::Test {
 protected:
  DataClientOptions Options() {
    DataClientOptions options;
    options.cluster = kCluster;
    options.name = "test";
    return options;
  }
  void MakeClient(const DataClientOptions& options) { client_.emplace(thread_.loop(), options); }
  DataClient& client() {
    if (!client_) MakeClient(Options());
    return *client_;
  }

  int64_t In(int64_t millis) { return thread_.loop()->clock()->NowNanos() + millis * kNanosPerMilli; }

  std::future<Answer> Ask(const std::string& address, SharedBytes meta, SharedBytes data = {},
                          int64_t timeout_ms = 60'000, ServerId server = kServer) {
    auto promise = std::make_shared<std::promise<Answer>>();
    client().Call({server, address}, MessageType::kRead, std::move(meta), std::move(data), In(timeout_ms),
                  [promise](Status status, std::span<const std::byte> meta_part, SharedBytes data_part) {
                    promise->set_value({std::move(status),
                                        {meta_part.begin(), meta_part.end()},
                                        {data_part.bytes.begin(), data_part.bytes.end()}});
                  });
    return promise->get_future();
  }

  // Greets, then echoes.
  static TestServer::Handler EchoAs(Uuid cluster, ServerId server) {
    return [cluster, server](FrameConnection& connection, Frame frame) {
      if (frame.header.type == static_cast<uint8_t>(MessageType::kHello)) {
        TestServer::AnswerHello(connection, frame, cluster, server);
        return;
      }
      connection.Send(frame.header.type | wire::kReplyBit, frame.header.request_id,
                      SharedBytes::Own(std::vector<std::byte>(frame.meta.begin(), frame.meta.end())),
                      std::move(frame.data));
    };
  }

  EventLoopThread thread_;
  std::optional<DataClient> client_;
};

TEST_F(DataClientTest, RequestsAreAnswered) {
  TestServer server(EchoAs(kCluster, kServer));
  std::vector<std::byte> payload(1 << 20, std::byte{42});
  const Answer answer = Ask(server.address(), Text("meta"), SharedBytes::Own(payload)).get();
  ASSERT_TRUE(answer.status.ok()) << answer.status.ToString();
  EXPECT_EQ(ToText(answer.meta), "meta");
  EXPECT_EQ(answer.data, payload);
  const auto load = client().Outstanding(kServer);
  EXPECT_TRUE(load.connected);
  EXPECT_EQ(load.requests, 0u);
  EXPECT_EQ(load.bytes, 0u);
  EXPECT_GT(load.smoothed_rtt_ns, 0);
}

TEST_F(DataClientTest, NamesAreResolvedOnTheWay) {
  TestServer server(EchoAs(kCluster, kServer));
  const Answer answer = Ask("localhost:" + std::to_string(server.port()), Text("x")).get();
  EXPECT_TRUE(answer.status.ok()) << answer.status.ToString();
}

TEST_F(DataClientTest, RequestsArriveInTheOrderOfTheCalls) {
  std::vector<uint32_t> seen;
  TestServer server([&](FrameConnection& connection, Frame frame) {
    if (frame.header.type != static_cast<uint8_t>(MessageType::kHello) && frame.meta.size() == 4) {
      uint32_t number = 0;
      std::memcpy(&number, frame.meta.data(), 4);
      seen.push_back(number);
    }
    EchoAs(kCluster, kServer)(connection, std::move(frame));
  });
  std::vector<std::future<Answer>> answers;
  for (uint32_t i = 0; i < 3000; ++i) {
    std::vector<std::byte> meta(4);
    std::memcpy(meta.data(), &i, 4);
    answers.push_back(
        Ask(server.address(), SharedBytes::Own(meta), SharedBytes::Own(std::vector<std::byte>(i * 7))));
  }
  for (auto& answer : answers) ASSERT_TRUE(answer.get().status.ok());
  server.RunOnLoop([&] {
    ASSERT_EQ(seen.size(), 3000u);
    for (uint32_t i = 0; i < 3000; ++i) EXPECT_EQ(seen[i], i);
  });
}

TEST_F(DataClientTest, GatheredRequestsLeaveInOrderAtTheEnd) {
  std::mutex mu;
  std::vector<std::string> arrived;
  TestServer server([&](FrameConnection& connection, const Frame& frame) {
    if (frame.header.type == static_cast<uint8_t>(MessageType::kHello)) {
      return TestServer::AnswerHello(connection, frame, kCluster, kServer);
    }
    {
      std::lock_guard lock(mu);
      arrived.push_back(ToText({frame.meta.begin(), frame.meta.end()}));
    }
    connection.Send(frame.header.type | wire::kReplyBit, frame.header.request_id, {}, {});
  });
  EXPECT_TRUE(Ask(server.address(), Text("first")).get().status.ok());
  std::vector<std::future<Answer>> answers;
  for (int round = 0; round < 100; ++round) {
    DataClient::Gather gather(&client());
    answers.push_back(Ask(server.address(), Text("a")));
    {
      const DataClient::Gather inner(&client());
      answers.push_back(Ask(server.address(), Text("b")));
    }
    answers.push_back(Ask(server.address(), Text("c")));
  }
  for (auto& answer : answers) EXPECT_TRUE(answer.get().status.ok());
  std::lock_guard lock(mu);
  ASSERT_EQ(arrived.size(), 301u);
  for (size_t i = 1; i < arrived.size(); ++i) EXPECT_EQ(arrived[i], std::string(1, static_cast<char>('a' + (i - 1) % 3)));
}

TEST_F(DataClientTest, AnswersMayComeInAnyOrder) {
  std::vector<uint64_t> held;
  TestServer server([&](FrameConnection& connection, const Frame& frame) {
    if (frame.header.type == static_cast<uint8_t>(MessageType::kHello)) {
      return TestServer::AnswerHello(connection, frame, kCluster, kServer);
    }
    held.push_back(frame.header.request_id);
    if (held.size() < 3) return;
    for (size_t i = held.size(); i > 0; --i) {
      connection.Send(frame.header.type | wire::kReplyBit, held[i - 1], Text(std::to_string(i - 1)), {});
    }
  });
  auto a = Ask(server.address(), Text("a"));
  auto b = Ask(server.address(), Text("b"));
  auto c = Ask(server.address(), Text("c"));
  EXPECT_EQ(ToText(a.get().meta), "0");
  EXPECT_EQ(ToText(b.get().meta), "1");
  EXPECT_EQ(ToText(c.get().meta), "2");
}

TEST_F(DataClientTest, AWrongClusterIsRefused) {
  TestServer server(EchoAs(Uuid{9, 9}, kServer));
  const Answer answer = Ask(server.address(), Text("x")).get();
  EXPECT_EQ(answer.status.code(), StatusCode::kWrongCluster);
  EXPECT_NE(answer.status.message().find("cs7 at " + server.address()), std::string::npos)
      << answer.status.ToString();
}

TEST_F(DataClientTest, AnotherServerAtTheAddressIsRefused) {
  TestServer server(EchoAs(kCluster, ServerId{8}));
  const Answer answer = Ask(server.address(), Text("x")).get();
  EXPECT_EQ(answer.status.code(), StatusCode::kWrongCluster);
  EXPECT_NE(answer.status.message().find("cs8"), std::string::npos) << answer.status.ToString();
}

TEST_F(DataClientTest, TheReasonOfTheServerReachesTheCaller) {
  TestServer server([](FrameConnection& connection, const Frame& frame) {
    wire::HelloReply reply;
    reply.status = Status(StatusCode::kResourceExhausted, "full house");
    connection.Send(frame.header.type | wire::kReplyBit, 0, SharedBytes::Own(wire::Encode(reply)), {});
  });
  const Answer answer = Ask(server.address(), Text("x")).get();
  EXPECT_EQ(answer.status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(answer.status.message().find("full house"), std::string::npos);
}

TEST_F(DataClientTest, NobodyListeningFailsAtOnceByName) {
  uint16_t port = 0;
  {
    TestServer server(EchoAs(kCluster, kServer));
    port = server.port();
  }
  const std::string address = "127.0.0.1:" + std::to_string(port);
  const Answer answer = Ask(address, Text("x")).get();
  EXPECT_EQ(answer.status.code(), StatusCode::kUnavailable);
  EXPECT_NE(answer.status.message().find("cs7 at " + address), std::string::npos) << answer.status.ToString();
  // During the backoff the answer is the same, without another attempt.
  EXPECT_EQ(Ask(address, Text("x")).get().status.message(), answer.status.message());
}

TEST_F(DataClientTest, ABadAddressIsExplained) {
  EXPECT_EQ(Ask("nonsense", Text("x")).get().status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Ask("no-such-host.invalid:1", Text("x"), {}, 60'000, ServerId{9}).get().status.code(),
            StatusCode::kUnavailable);
}

TEST_F(DataClientTest, EverythingOutstandingFailsWhenTheConnectionBreaks) {
  std::atomic<int> received{0};
  std::promise<void> all;
  TestServer server([&](FrameConnection& connection, const Frame& frame) {
    if (frame.header.type == static_cast<uint8_t>(MessageType::kHello)) {
      return TestServer::AnswerHello(connection, frame, kCluster, kServer);
    }
    if (++received == 50) all.set_value();
  });
  std::vector<std::future<Answer>> answers;
  for (int i = 0; i < 50; ++i) answers.push_back(Ask(server.address(), Text("x")));
  all.get_future().wait();
  EXPECT_EQ(client().Outstanding(kServer).requests, 50u);
  server.CloseAll();
  for (auto& answer : answers) {
    const Status status = answer.get().status;
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_NE(status.message().find("cs7 at " + server.address()), std::string::npos) << status.ToString();
  }
  EXPECT_EQ(client().Outstanding(kServer).bytes, 0u);
}

TEST_F(DataClientTest, TheNextCallConnectsAgain) {
  TestServer server(EchoAs(kCluster, kServer));
  ASSERT_TRUE(Ask(server.address(), Text("x")).get().status.ok());
  server.CloseAll();
  // The loss is noticed by the loop at its own time; from then on a call makes a new connection.
  Answer answer;
  do {
    answer = Ask(server.address(), Text("y")).get();
  } while (!answer.status.ok() && answer.status.code() == StatusCode::kUnavailable);
  EXPECT_TRUE(answer.status.ok()) << answer.status.ToString();
}

TEST_F(DataClientTest, AServerThatMovedIsFoundAtItsNewAddress) {
  TestServer before(EchoAs(kCluster, kServer));
  TestServer after(EchoAs(kCluster, kServer));
  ASSERT_TRUE(Ask(before.address(), Text("x")).get().status.ok());
  ASSERT_TRUE(Ask(after.address(), Text("x")).get().status.ok());
  while (before.closed == 0) std::this_thread::yield();  // the old connection is given up, not kept
}

TEST_F(DataClientTest, ARequestWithoutAnswerTimesOutAndTheOthersGoOn) {
  TestServer server([&](FrameConnection& connection, Frame frame) {
    if (frame.meta.size() == 6) return;  // "silent"
    EchoAs(kCluster, kServer)(connection, std::move(frame));
  });
  auto silent = Ask(server.address(), Text("silent"), {}, 30);
  const Answer answer = silent.get();
  EXPECT_EQ(answer.status.code(), StatusCode::kTimeout);
  EXPECT_NE(answer.status.message().find("cs7 at "), std::string::npos) << answer.status.ToString();
  EXPECT_TRUE(Ask(server.address(), Text("x")).get().status.ok());
  EXPECT_EQ(server.closed, 0);
}

TEST_F(DataClientTest, ALateAnswerIsIgnored) {
  std::optional<std::pair<std::shared_ptr<FrameConnection>, uint64_t>> held;
  TestServer server([&](FrameConnection& connection, Frame frame) {
    if (frame.meta.size() == 4) {
      held.emplace(connection.shared_from_this(), frame.header.request_id);
      return;
    }
    EchoAs(kCluster, kServer)(connection, std::move(frame));
  });
  EXPECT_EQ(Ask(server.address(), Text("late"), {}, 20).get().status.code(), StatusCode::kTimeout);
  server.RunOnLoop([&] {
    ASSERT_TRUE(held);
    held->first->Send(static_cast<uint8_t>(MessageType::kRead) | wire::kReplyBit, held->second, Text("late"),
                      {});
    held.reset();
  });
  const Answer answer = Ask(server.address(), Text("x")).get();
  EXPECT_EQ(ToText(answer.meta), "x");
}

TEST_F(DataClientTest, TooMuchOutstandingIsRefused) {
  TestServer server([&](FrameConnection& connection, const Frame& frame) {
    if (frame.header.type == static_cast<uint8_t>(MessageType::kHello)) {
      TestServer::AnswerHello(connection, frame, kCluster, kServer);
    }
  });
  DataClientOptions options = Options();
  options.max_outstanding_requests = 3;
  MakeClient(options);
  std::vector<std::future<Answer>> answers;
  for (int i = 0; i < 4; ++i) answers.push_back(Ask(server.address(), Text("x")));
  EXPECT_EQ(answers[3].get().status.code(), StatusCode::kResourceExhausted);
  client_.reset();
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(answers[static_cast<size_t>(i)].get().status.code(), StatusCode::kCancelled);
}

TEST_F(DataClientTest, DisconnectCancelsWhatIsOutstanding) {
  TestServer server([&](FrameConnection& connection, const Frame& frame) {
    if (frame.header.type == static_cast<uint8_t>(MessageType::kHello)) {
      TestServer::AnswerHello(connection, frame, kCluster, kServer);
    }
  });
  auto answer = Ask(server.address(), Text("x"));
  client().Disconnect(kServer, "dropped as a laggard");
  const Status status = answer.get().status;
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_NE(status.message().find("laggard"), std::string::npos);
}

TEST_F(DataClientTest, APeerThatTalksNonsenseIsDropped) {
  TestServer server([](FrameConnection& connection, const Frame& frame) {
    if (frame.header.type == static_cast<uint8_t>(MessageType::kHello)) {
      return TestServer::AnswerHello(connection, frame, kCluster, kServer);
    }
    connection.Send(static_cast<uint8_t>(MessageType::kMutate) | wire::kReplyBit, frame.header.request_id, {},
                    {});
  });
  EXPECT_EQ(Ask(server.address(), Text("x")).get().status.code(), StatusCode::kMalformed);
}

TEST_F(DataClientTest, ReceiveBuffersAreReused) {
  TestServer server(EchoAs(kCluster, kServer));
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Ask(server.address(), Text("x"), SharedBytes::Own(std::vector<std::byte>(1 << 20)))
                    .get()
                    .status.ok());
  }
  server.RunOnLoop([] {});
  std::promise<void> settled;
  thread_.loop()->Post([&] { settled.set_value(); });
  settled.get_future().wait();
  EXPECT_EQ(client().pool().idle_bytes(), 1u << 20);
}

}  // namespace
}  // namespace cairn::net
