// What one peer can take of the console: somebody who is slow, or many, keeps neither a thread nor a stop waiting.
#include "common/http/connections.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "common/metrics/metrics.h"
#include "master/console/console.h"

namespace cairn::master::console {
namespace {

using http::ConnectionLimits;
using http::Connections;
using http::ConnectionStream;

using namespace std::chrono_literals;

constexpr int64_t kForeverMs = 3'600'000;
constexpr auto kPatience = 20s;  // only ever waited for when something is wrong

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Socket() { Close(); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  int fd() const { return fd_; }
  bool Send(const std::string& bytes) const {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  // Everything until the other side closes; stops early when that does not come.
  std::string ReadAll() const {
    std::string all;
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      pollfd waiter{.fd = fd_, .events = POLLIN, .revents = 0};
      if (poll(&waiter, 1, 100) <= 0) continue;
      char buffer[4096];
      const ssize_t got = recv(fd_, buffer, sizeof buffer, 0);
      if (got <= 0) return all;
      all.append(buffer, static_cast<size_t>(got));
    }
    ADD_FAILURE() << "the connection stays open";
    return all;
  }
  // Whether the other side ended it before our patience did.
  bool IsEnded() const {
    pollfd waiter{.fd = fd_, .events = POLLIN | POLLRDHUP, .revents = 0};
    return poll(&waiter, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) > 0 && (waiter.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }

 private:
  int fd_;
};

// Its pages need no master, and there is none.
class ConsoleConnections : public testing::Test {
 protected:
  void TearDown() override { console_.reset(); }
  void Start(const ConnectionLimits& limits) {
    auto console = Console::Start({.address = "127.0.0.1:0", .limits = limits}, std::string(64, '7'),
                                  grpc::CreateChannel("127.0.0.1:1", grpc::InsecureChannelCredentials()), registry_, &clock_);
    ASSERT_TRUE(console.ok()) << console.status().ToString();
    console_ = *std::move(console);
  }
  Socket Connect(const char* from = "127.0.0.1") const {
    const Socket none(-1);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in own{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {inet_addr(from)}};
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof own), 0);
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(console_->port())), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return Socket(fd);
  }
  std::string Begin() const { return "GET / HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(console_->port()) + "\r\n"; }
  int GetStatus() const {
    httplib::Client client("127.0.0.1", console_->port());
    client.set_read_timeout(std::chrono::seconds(kPatience).count());
    const auto answer = client.Get("/");
    return answer ? answer->status : 0;
  }

  metrics::Registry registry_;
  ManualClock clock_;
  std::unique_ptr<Console> console_;
};

TEST_F(ConsoleConnections, ARequestThatTricklesInEndsAtItsDeadline) {
  Start({.request_ms = 300});
  const Socket slow = Connect();
  ASSERT_TRUE(slow.Send(Begin() + "X-Slow: "));
  const auto end = std::chrono::steady_clock::now() + kPatience;
  bool ended = false;
  while (!ended && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(10ms);
    ended = !slow.Send("a");
  }
  EXPECT_TRUE(ended) << "a byte now and then keeps the connection open";
  EXPECT_EQ(GetStatus(), 200);
}

TEST_F(ConsoleConnections, ALineWithoutEndIsNotKept) {
  Start({.request_ms = 60'000});
  const Socket endless = Connect();
  ASSERT_TRUE(endless.Send("GET /"));
  const std::string piece(16 << 10, 'a');
  size_t sent = 0;
  while (sent < (64u << 20) && endless.Send(piece)) sent += piece.size();
  EXPECT_LT(sent, 64u << 20) << "it is read into memory as long as it comes";
  const Socket headers = Connect();
  ASSERT_TRUE(headers.Send(Begin()));
  const std::string line = "X-Many: " + std::string(1000, 'a') + "\r\n";
  for (sent = 0; sent < (64u << 20) && headers.Send(line);) sent += line.size();
  EXPECT_LT(sent, 64u << 20);
  EXPECT_EQ(GetStatus(), 200);
}

TEST_F(ConsoleConnections, ABodyThatTricklesInEndsAtItsDeadline) {
  Start({.request_ms = 300});
  const Socket slow = Connect();
  ASSERT_TRUE(slow.Send("POST /api/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"));
  const auto end = std::chrono::steady_clock::now() + kPatience;
  bool ended = false;
  while (!ended && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(10ms);
    ended = !slow.Send(" ");
  }
  EXPECT_TRUE(ended);
}

TEST_F(ConsoleConnections, AnIdleConnectionAndAnOldOneEnd) {
  Start({.idle_ms = 100});
  const Socket idle = Connect();
  EXPECT_EQ(idle.ReadAll(), "");
  Start({.lifetime_ms = 0});
  const Socket old = Connect();
  ASSERT_TRUE(old.Send(Begin() + "\r\n"));
  EXPECT_THAT(old.ReadAll(), testing::HasSubstr("Connection: close")) << "so that the browser opens another one";
}

// The other side takes a byte now and then: never so long without one that a bound on a single write would help.
TEST(ConsoleStream, AnAnswerThatIsTakenByTheByteEndsAtItsDeadline) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const Socket server(pair[0]), client(pair[1]);
  std::atomic<bool> done = false;
  std::thread reader([&] {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    char bytes[4096];
    while (!done && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(2ms);
      [[maybe_unused]] const ssize_t got = recv(client.fd(), bytes, sizeof bytes, MSG_DONTWAIT);
    }
    shutdown(client.fd(), SHUT_RDWR);
    EXPECT_TRUE(done) << "the writer still waits";
  });
  Connections connections;
  Connections::Ticket ticket;
  ASSERT_TRUE(connections.Enter(server.fd(), "peer", false, &ticket));
  ConnectionStream stream(server.fd(), {.response_ms = 300}, &connections, ticket);
  const std::string large(64 << 20, 'x');
  EXPECT_EQ(stream.write(large.data(), large.size()), -1);
  done = true;
  reader.join();
  connections.Leave(ticket);
}

TEST(ConsoleStream, EachAnswerHasTheWholeTimeAndSoHasEachRequest) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const Socket server(pair[0]), client(pair[1]);
  Connections connections;
  Connections::Ticket ticket;
  ASSERT_TRUE(connections.Enter(server.fd(), "peer", false, &ticket));
  ConnectionStream stream(server.fd(), {.request_ms = 200, .response_ms = 200, .idle_ms = kForeverMs}, &connections, ticket);
  for (int i = 0; i < 4; ++i) {
    std::this_thread::sleep_for(100ms);
    ASSERT_TRUE(client.Send("request"));
    ASSERT_TRUE(stream.AwaitRequest());
    char bytes[16];
    EXPECT_EQ(stream.read(bytes, 3), 3) << i;
    EXPECT_EQ(stream.read(bytes, sizeof bytes), 4) << i;
    EXPECT_EQ(stream.write("answer", 6), 6) << i;
  }
  connections.Leave(ticket);
}

TEST_F(ConsoleConnections, AStopDoesNotWaitForSlowPeers) {
  Start({.request_ms = kForeverMs, .response_ms = kForeverMs, .idle_ms = kForeverMs});
  std::vector<Socket> slow;
  for (int i = 0; i < 20; ++i) {
    slow.push_back(Connect());
    if (i % 2 == 0) {
      ASSERT_TRUE(slow.back().Send(Begin()));
    }
  }
  EXPECT_EQ(GetStatus(), 200);
  auto stopped = std::async(std::launch::async, [this] { console_.reset(); });
  EXPECT_EQ(stopped.wait_for(kPatience), std::future_status::ready) << "the stop waits for somebody who says nothing";
  slow.clear();
}

TEST_F(ConsoleConnections, WhenAllThreadsAreTakenWhoeverKeptOneWaitingLongestGivesWay) {
  Start({.request_ms = kForeverMs, .idle_ms = kForeverMs, .max_connections = 4});
  std::vector<Socket> slow;
  for (int i = 0; i < 12; ++i) {
    slow.push_back(Connect());
    ASSERT_TRUE(slow.back().Send(Begin()));
  }
  for (int i = 0; i < 5; ++i) EXPECT_EQ(GetStatus(), 200);
  EXPECT_TRUE(slow.front().IsEnded());
}

TEST_F(ConsoleConnections, APeerWithManyConnectionsTakesNoneFromAnother) {
  Start({.request_ms = kForeverMs, .idle_ms = kForeverMs, .max_connections = 4});
  const Socket honest = Connect("127.0.0.2");
  ASSERT_TRUE(honest.Send(Begin()));
  std::this_thread::sleep_for(50ms);  // the oldest of all
  std::vector<Socket> slow;
  for (int i = 0; i < 12; ++i) {
    slow.push_back(Connect());
    ASSERT_TRUE(slow.back().Send(Begin()));
  }
  EXPECT_TRUE(slow.front().IsEnded());
  ASSERT_TRUE(honest.Send("Connection: close\r\n\r\n"));
  EXPECT_THAT(honest.ReadAll(), testing::StartsWith("HTTP/1.1 200"));
}

// What follows a body that was not read could be a request of the writer's choice, on a connection that a proxy shares among people.
TEST_F(ConsoleConnections, ARefusedBodyIsNotTakenForTheNextRequest) {
  Start({});
  const std::string host = "Host: 127.0.0.1\r\n", hidden = Begin() + "\r\n";
  const std::string requests[] = {
      "POST /api/login HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n",
      "POST /api/login HTTP/1.1\r\n" + host + "\r\n",
      "GET / HTTP/1.1\r\n" + host + "Content-Length: " + std::to_string(hidden.size()) + "\r\n\r\n",
      "POST /api/login HTTP/1.1\r\n" + host + "Content-Length: 0\r\nContent-Length: " + std::to_string(hidden.size()) + "\r\n\r\n",
      "POST /api/login HTTP/1.1\r\n" + host + "Content-Length: 70000\r\n\r\n",
      "POST /api/login HTTP/1.1\r\n" + host + "Content-Length: +5\r\n\r\n",
  };
  for (const std::string& request : requests) {
    const Socket socket = Connect();
    ASSERT_TRUE(socket.Send(request + hidden));
    const std::string answer = socket.ReadAll();
    EXPECT_THAT(answer, testing::StartsWith("HTTP/1.1 4")) << request;
    EXPECT_EQ(answer.find("HTTP/1.1", 8), std::string::npos) << request << answer;
  }
}

}  // namespace
}  // namespace cairn::master::console
