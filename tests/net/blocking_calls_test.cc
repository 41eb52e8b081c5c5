#include "common/net/blocking_calls.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/net/test_server.h"

namespace cairn::net {
namespace {

using Outcome = BlockingCalls::Outcome;
using wire::MessageType;

constexpr Uuid kCluster{1, 2};
constexpr ServerId kServer{7};
constexpr int64_t kGenerous = 30'000;  // where an answer is expected

std::vector<std::byte> Text(const std::string& text) {
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {bytes, bytes + text.size()};
}

class BlockingCallsTest : public testing::Test {
 protected:
  // Echoes what is asked; "hold" is answered after ReleaseHeld.
  void OnFrame(FrameConnection& connection, Frame frame) {
    if (frame.header.type == static_cast<uint8_t>(MessageType::kHello)) {
      connections_.insert(&connection);
      return TestServer::AnswerHello(connection, frame, kCluster, kServer);
    }
    const std::vector<std::byte> meta(frame.meta.begin(), frame.meta.end());
    const auto answer = [link = connection.shared_from_this(), meta, id = frame.header.request_id + skew_] {
      link->Send(static_cast<uint8_t>(MessageType::kRead) | wire::kReplyBit, id, SharedBytes::Own(meta),
                 SharedBytes::Own(Text("data")));
    };
    if (meta == Text("hold")) {
      held_.push_back(answer);
      ++holding_;
    } else {
      answer();
    }
  }
  void ReleaseHeld() {
    server_.RunOnLoop([this] {
      for (const auto& answer : held_) answer();
      held_.clear();
    });
  }
  Outcome Ask(const std::string& text, int64_t timeout_ms = kGenerous, Peer peer = {}) {
    if (peer.address.empty()) peer = {kServer, server_.address()};
    got_.clear();
    return calls_.Call(peer, MessageType::kRead, Text(text), timeout_ms, [this](auto meta, auto data) {
      got_ = std::string(reinterpret_cast<const char*>(meta.data()), meta.size()) + "/" +
             std::string(reinterpret_cast<const char*>(data.data()), data.size());
    });
  }
  size_t ServerConnections() {
    size_t count = 0;
    server_.RunOnLoop([&] { count = connections_.size(); });
    return count;
  }

  static DataClientOptions Options() {
    DataClientOptions options;
    options.cluster = kCluster;
    options.name = "test";
    return options;
  }
  // Of the server's loop.
  std::vector<std::function<void()>> held_;
  std::set<FrameConnection*> connections_;  // that ever were
  std::atomic<uint64_t> skew_{0};
  std::atomic<int> holding_{0};

  TestServer server_{
      [this](FrameConnection& connection, Frame frame) { OnFrame(connection, std::move(frame)); }};
  ManualClock clock_;
  BlockingCalls calls_{Options(), &clock_};
  std::string got_;
};

TEST_F(BlockingCallsTest, AnswersArriveOverOneConnection) {
  for (const char* text : {"one", "two", "three"}) {
    EXPECT_EQ(Ask(text), Outcome::kAnswered);
    EXPECT_EQ(got_, std::string(text) + "/data");
  }
  EXPECT_EQ(ServerConnections(), 1u);
  EXPECT_EQ(calls_.connections(), 1u);
}

TEST_F(BlockingCallsTest, ALateAnswerIsNotTakenForAnother) {
  EXPECT_EQ(Ask("hold", 50), Outcome::kFailed);
  EXPECT_EQ(got_, "");
  EXPECT_EQ(calls_.connections(), 0u);
  ReleaseHeld();
  EXPECT_EQ(Ask("next"), Outcome::kAnswered);
  EXPECT_EQ(got_, "next/data");
}

TEST_F(BlockingCallsTest, AnAnswerToSomethingElseIsRefused) {
  skew_ = 1;
  EXPECT_EQ(Ask("x"), Outcome::kFailed);
  EXPECT_EQ(calls_.connections(), 0u);
}

TEST_F(BlockingCallsTest, ConnectionsAreBounded) {
  std::vector<std::thread> askers;
  std::atomic<int> answered{0};
  for (size_t i = 0; i < BlockingCalls::kMaxPerServer; ++i) {
    askers.emplace_back([&] {
      const Peer peer{kServer, server_.address()};
      const auto nothing = [](auto, auto) {};
      answered +=
          calls_.Call(peer, MessageType::kRead, Text("hold"), kGenerous, nothing) == Outcome::kAnswered;
    });
  }
  while (holding_ < static_cast<int>(BlockingCalls::kMaxPerServer)) std::this_thread::yield();
  EXPECT_EQ(Ask("one more"), Outcome::kNotTried);
  ReleaseHeld();
  for (std::thread& asker : askers) asker.join();
  EXPECT_EQ(answered, static_cast<int>(BlockingCalls::kMaxPerServer));
  EXPECT_EQ(Ask("one more"), Outcome::kAnswered);
  EXPECT_EQ(calls_.connections(), BlockingCalls::kMaxPerServer);
}

TEST_F(BlockingCallsTest, AnotherServerOrClusterIsNotAsked) {
  EXPECT_EQ(Ask("x", kGenerous, {ServerId{8}, server_.address()}), Outcome::kNotTried);
  calls_.SetCluster({3, 4});
  EXPECT_EQ(Ask("x"), Outcome::kNotTried);
  EXPECT_EQ(calls_.connections(), 0u);
}

TEST_F(BlockingCallsTest, WhereNobodyListensIsNotTriedAgainAtOnce) {
  const Peer nobody{ServerId{9}, "127.0.0.1:1"};
  EXPECT_EQ(Ask("x", kGenerous, nobody), Outcome::kNotTried);
  EXPECT_EQ(Ask("x", kGenerous, {ServerId{9}, server_.address()}), Outcome::kNotTried)
      << "it was tried again";
  EXPECT_EQ(Ask("x", kGenerous, {kServer, "localhost:1"}), Outcome::kNotTried)
      << "names are not resolved here";
}

TEST_F(BlockingCallsTest, AConnectionThatTheServerClosedFailsOnce) {
  EXPECT_EQ(Ask("x"), Outcome::kAnswered);
  server_.CloseAll();
  EXPECT_EQ(Ask("x"), Outcome::kFailed);
  EXPECT_EQ(Ask("x"), Outcome::kAnswered);
}

TEST_F(BlockingCallsTest, IdleConnectionsAreClosed) {
  EXPECT_EQ(Ask("x"), Outcome::kAnswered);
  clock_.Advance(BlockingCalls::kIdleNanos - 1);
  EXPECT_TRUE(calls_.SweepIdle());
  clock_.Advance(1);
  EXPECT_FALSE(calls_.SweepIdle());
  EXPECT_EQ(calls_.connections(), 0u);
}

}  // namespace
}  // namespace cairn::net
