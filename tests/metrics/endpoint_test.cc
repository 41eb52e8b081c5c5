#include "common/metrics/endpoint.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace cairn::metrics {
namespace {

using testing::HasSubstr;

class EndpointTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started =
        Endpoint::Start({.address = "127.0.0.1:0", .program = "tested", .version = "1.2"}, registry_);
    ASSERT_TRUE(started.ok()) << started.status().ToString();
    endpoint_ = *std::move(started);
  }
  httplib::Client Browser() const { return httplib::Client("127.0.0.1", endpoint_->port()); }

  int Connect(const std::string& bytes) const {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(endpoint_->port())), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    return fd;
  }

  Registry registry_;
  std::unique_ptr<Endpoint> endpoint_;
};

TEST_F(EndpointTest, ServesWhatTheRegistryHolds) {
  Counter& counter = registry_.GetCounter("cairn_test_total", "things");
  counter.Add(41);
  auto browser = Browser();
  const auto first = browser.Get("/metrics");
  ASSERT_TRUE(first);
  EXPECT_EQ(first->status, 200);
  EXPECT_THAT(first->get_header_value("Content-Type"), HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(first->body, HasSubstr("cairn_test_total 41\n"));
  counter.Add();
  EXPECT_THAT(browser.Get("/metrics")->body, HasSubstr("cairn_test_total 42\n"));
  EXPECT_EQ(browser.Get("/health")->body, "ok\n");
  EXPECT_THAT(browser.Get("/metrics")->body,
              HasSubstr("cairn_build_info{program=\"tested\",version=\"1.2\"} 1\n"));
}

TEST_F(EndpointTest, WithoutAnAddressThereIsNone) {
  const auto none = Endpoint::Start({}, registry_);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(*none, nullptr);
}

TEST_F(EndpointTest, NothingElseIsAnswered) {
  auto browser = Browser();
  EXPECT_EQ(browser.Get("/")->status, 404);
  EXPECT_EQ(browser.Get("/../../etc/passwd")->status, 404);
  EXPECT_EQ(browser.Post("/metrics", "x", "text/plain")->status, 405);
  const std::string big(1 << 20, 'x');
  const auto refused = browser.Post("/metrics", big, "text/plain");
  EXPECT_TRUE(!refused || refused->status >= 400);
  EXPECT_EQ(browser.Get("/health")->status, 200);
}

// Without an end: a server that reads it would wait for the rest, or keep all of it.
TEST_F(EndpointTest, ABodyIsRefusedBeforeItIsRead) {
  const int client = Connect("POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n");
  char answer[512] = {};
  EXPECT_GT(recv(client, answer, sizeof answer - 1, 0), 0);
  EXPECT_THAT(answer, testing::StartsWith("HTTP/1.1 411"));
  close(client);
}

TEST_F(EndpointTest, SlowPeersKeepNeitherAScraperNorTheStopWaiting) {
  std::vector<int> slow;
  for (int i = 0; i < 20; ++i) slow.push_back(Connect("GET /metrics HTTP/1.1\r\n"));
  auto scraper = Browser();
  scraper.set_read_timeout(20);
  const auto answer = scraper.Get("/health");
  EXPECT_TRUE(answer && answer->status == 200);
  // As long as it lives, somebody sends a byte now and then: never so long without one that a bound on a single read would help.
  std::atomic<bool> stopped = false;
  std::thread sender([&] {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!stopped && std::chrono::steady_clock::now() < end) {
      for (const int fd : slow) [[maybe_unused]] const ssize_t sent = send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_TRUE(stopped) << "the stop waits for somebody who never ends his request";
    for (const int fd : slow) close(fd);
  });
  endpoint_.reset();
  stopped = true;
  sender.join();
}

TEST_F(EndpointTest, ABusyPortIsRefusedByName) {
  const std::string address = "127.0.0.1:" + std::to_string(endpoint_->port());
  const auto second = Endpoint::Start({.address = address}, registry_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.code(), StatusCode::kBusy);
  EXPECT_THAT(second.status().message(), HasSubstr(address));
}

TEST_F(EndpointTest, ABadAddressIsExplained) {
  const auto wrong = Endpoint::Start({.address = "nonsense"}, registry_);
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.status().message(), HasSubstr("'nonsense'"));
}

}  // namespace
}  // namespace cairn::metrics
