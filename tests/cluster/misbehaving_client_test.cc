// A machine that misbehaves — floods of connections and sessions, half messages, huge ones, two sessions on one stream — is refused,
// and a client on another machine works on without an error. The bad one comes from 127.0.0.2.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "common/checksum.h"
#include "common/net/control_connection.h"
#include "common/wire/frame.h"
#include "proto/cairn/session.pb.h"
#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

constexpr int kConnectionsPerHost = 40;
constexpr int kSessionsPerHost = 20;

class Socket {
 public:
  explicit Socket(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in from{};
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = inet_addr("127.0.0.2");
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&from), sizeof from), 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0) << std::strerror(errno);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket(const Socket&) = delete;
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }

  // False: the peer has closed.
  bool Send(const std::string& bytes) const {
    for (size_t at = 0; at < bytes.size();) {
      pollfd ready{fd_, POLLOUT, 0};
      if (poll(&ready, 1, 20'000) != 1) return false;
      const ssize_t sent = send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) return false;
      at += static_cast<size_t>(sent);
    }
    return true;
  }
  // Whether the peer ends the connection within the time. What it sends before is kept.
  bool Ended(int64_t within_ms) {
    const int64_t until = NowMillis() + within_ms;
    for (;;) {
      const int64_t left = until - NowMillis();
      pollfd ready{fd_, POLLIN, 0};
      if (left < 0 || poll(&ready, 1, static_cast<int>(left)) <= 0) return false;
      char buffer[4096];
      const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
      if (n <= 0) return true;
      heard_.append(buffer, static_cast<size_t>(n));
    }
  }
  const std::string& heard() const { return heard_; }

  // The next whole frame's meta part; empty: the connection ended, or none came.
  std::string Receive() {
    std::string header = Read(wire::kHeaderBytes);
    if (header.size() < wire::kHeaderBytes) return {};
    const auto decoded = wire::DecodeHeader(
        std::span<const std::byte, wire::kHeaderBytes>(reinterpret_cast<const std::byte*>(header.data()), wire::kHeaderBytes));
    return decoded.ok() ? Read(decoded->meta_bytes) : std::string();
  }

 private:
  std::string Read(size_t bytes) const {
    std::string data(bytes, '\0');
    for (size_t at = 0; at < bytes;) {
      pollfd ready{fd_, POLLIN, 0};
      if (poll(&ready, 1, 20'000) != 1) return {};
      const ssize_t n = recv(fd_, data.data() + at, bytes - at, 0);
      if (n <= 0) return {};
      at += static_cast<size_t>(n);
    }
    return data;
  }
  int fd_;
  std::string heard_;
};

std::string FrameOf(uint8_t type, const std::string& meta) {
  wire::FrameHeader header;
  header.type = type;
  header.meta_bytes = static_cast<uint32_t>(meta.size());
  header.meta_crc = Crc32c(std::as_bytes(std::span(meta)));
  const auto bytes = wire::EncodeHeader(header);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) + meta;
}

std::string HelloFrame() {
  proto::ClientMessage message;
  message.mutable_hello()->set_wire_version(wire::kWireVersion);
  message.mutable_hello()->set_client_name("flood");
  return FrameOf(static_cast<uint8_t>(net::ControlFrame::kMessage), message.SerializeAsString());
}

// Works like any program, and counts what it notices.
class GoodClient {
 public:
  explicit GoodClient(LocalCluster& cluster) : cluster_(cluster), thread_([this] { Run(); }) {}
  ~GoodClient() { Stop(); }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  // Rounds that begin and end from now on.
  void WaitForRounds(int count) const {
    const int until = rounds_ + count + 1;
    EXPECT_TRUE(WaitUntil([&] { return rounds_ >= until; }, 60'000)) << "the good client does not get on";
  }
  int rounds() const { return rounds_; }
  std::string errors() const { return errors_; }  // after Stop
  int64_t longest_ms() const { return longest_ms_; }

 private:
  void Run() {
    for (int i = 0; !stop_; ++i) {
      const std::string path = cluster_.Path("good" + std::to_string(i));
      const std::string content = Pattern(static_cast<uint64_t>(i), 50'000 + static_cast<size_t>(i) * 131 % 300'000);
      const int64_t start = NowMillis();
      if (const int error = WriteFile(path, content, true); error != 0) errors_ += "write: " + std::string(std::strerror(error)) + "\n";
      if (ReadFile(path) != content) errors_ += "read back wrong\n";
      if (rename(path.c_str(), (path + "x").c_str()) != 0) errors_ += "rename\n";
      if (const int error = Remove(path + "x"); error != 0) errors_ += "unlink: " + std::string(std::strerror(error)) + "\n";
      longest_ms_ = std::max<int64_t>(longest_ms_, NowMillis() - start);
      ++rounds_;
    }
  }
  LocalCluster& cluster_;
  std::atomic<bool> stop_{false};
  std::atomic<int> rounds_{0};
  std::atomic<int64_t> longest_ms_{0};
  std::string errors_;
  std::thread thread_;
};

class MisbehavingClient : public testing::Test {
 protected:
  void SetUp() override {
    LocalCluster::Options options;
    options.up_arguments = {"--master-flag=--max-sessions-per-host=" + std::to_string(kSessionsPerHost),
                            "--chunkserver-flag=--max-connections-per-host=" + std::to_string(kConnectionsPerHost)};
    cluster_ = LocalCluster::Start(options);
    ASSERT_NE(cluster_, nullptr);
    good_ = std::make_unique<GoodClient>(*cluster_);
    good_->WaitForRounds(2);
  }
  void TearDown() override {
    if (good_ == nullptr) return;
    good_->WaitForRounds(3);
    good_->Stop();
    EXPECT_EQ(good_->errors(), "");
    Figure(std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + ": the good client did " +
           std::to_string(good_->rounds()) + " rounds, the longest took " + std::to_string(good_->longest_ms()) + " ms");
    for (const char* part : {"master", "cs1", "cs2", "cs3", "mount"}) EXPECT_GT(cluster_->Pid(part), 0) << part << " died";
  }
  std::string LogOf(const std::string& part) const { return ReadFile(cluster_->LogOf(part)); }
  std::unique_ptr<LocalCluster> cluster_;
  std::unique_ptr<GoodClient> good_;
};

TEST_F(MisbehavingClient, AFloodOfConnectionsTakesNobodyElsesPlace) {
  const std::string chunkserver = cluster_->ServerAddresses()[0];
  std::vector<Socket> flood;
  for (int i = 0; i < 3 * kConnectionsPerHost; ++i) flood.emplace_back(chunkserver);
  int refused = 0;
  for (int i = kConnectionsPerHost; i < 3 * kConnectionsPerHost; ++i) refused += flood[static_cast<size_t>(i)].Ended(10'000);
  EXPECT_EQ(refused, 2 * kConnectionsPerHost) << "all beyond the bound of one host";
  EXPECT_FALSE(flood[0].Ended(0));
  good_->WaitForRounds(3);
  EXPECT_TRUE(WaitUntil([&] { return LogOf("cs1").find("--max-connections-per-host") != std::string::npos; }, 10'000));
  // Who says nothing does not keep its place.
  EXPECT_TRUE(flood[0].Ended(30'000)) << "no greeting came";

  // The same at the master: for administration (HTTP/2), and silent ones.
  std::vector<Socket> silent;
  for (int i = 0; i < 200; ++i) {
    silent.emplace_back(cluster_->MasterAddress());
    silent.back().Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  }
  EXPECT_TRUE(WaitUntil([&] { return LogOf("master").find("for administration is refused") != std::string::npos; }, 10'000));
  Socket half(cluster_->MasterAddress());
  ASSERT_TRUE(half.Send(HelloFrame().substr(0, 20)));
  EXPECT_TRUE(half.Ended(30'000)) << "half a greeting keeps no place";
  EXPECT_EQ(cluster_->Cairn({"status"}).exit_code, 0);
}

TEST_F(MisbehavingClient, AFloodOfSessionsTakesNobodyElsesPlace) {
  std::vector<Socket> sessions;
  int open = 0;
  int refused = 0;
  for (int i = 0; i < 3 * kSessionsPerHost; ++i) {
    Socket& stream = sessions.emplace_back(cluster_->MasterAddress());
    ASSERT_TRUE(stream.Send(HelloFrame()));
    proto::MasterMessage answer;
    ASSERT_TRUE(answer.ParseFromString(stream.Receive())) << i;
    ASSERT_TRUE(answer.has_hello_reply());
    if (answer.hello_reply().status().code() == 0) {
      ++open;
      continue;
    }
    ++refused;
    EXPECT_NE(answer.hello_reply().status().message().find("127.0.0.2"), std::string::npos)
        << answer.hello_reply().status().message();
  }
  EXPECT_EQ(open, kSessionsPerHost);
  EXPECT_EQ(refused, 2 * kSessionsPerHost);
  EXPECT_TRUE(sessions.back().Ended(10'000)) << "a refused one keeps no place";
  // One stream, one session.
  ASSERT_TRUE(sessions[0].Send(HelloFrame()));
  EXPECT_TRUE(sessions[0].Ended(10'000));
  good_->WaitForRounds(3);
  const std::string second = cluster_->AddMount();
  EXPECT_EQ(WriteFile(second + "/another", "client of another host", true), 0) << "there are places for others";
}

TEST_F(MisbehavingClient, HugeAndUnfinishedMessagesAreRefused) {
  wire::FrameHeader header;
  header.type = static_cast<uint8_t>(net::ControlFrame::kMessage);
  header.meta_bytes = 0x7fffffff;
  const auto huge = wire::EncodeHeader(header);
  std::vector<std::string> ports = cluster_->ServerAddresses();
  ports.push_back(cluster_->MasterAddress());
  for (const std::string& port : ports) {
    Socket socket(port);
    (void)socket.Send(std::string(reinterpret_cast<const char*>(huge.data()), huge.size()));
    EXPECT_TRUE(socket.Ended(10'000)) << port;
  }
  // In parts: one beyond the length of a message, then several that share the bound of their host.
  const std::string part = FrameOf(static_cast<uint8_t>(net::ControlFrame::kPart), std::string(net::kControlPartBytes, 'x'));
  Socket one(cluster_->MasterAddress());
  for (int i = 0; i < 200 && one.Send(part); ++i) {
  }
  EXPECT_TRUE(one.Ended(20'000));
  EXPECT_NE(one.heard().find("more than the 32 MiB possible"), std::string::npos) << "the reason is said";
  std::vector<Socket> many;
  for (int i = 0; i < 8; ++i) many.emplace_back(cluster_->MasterAddress());
  size_t ended = 0;
  size_t told = 0;  // the reason; a peer that writes on may lose it with the connection
  for (Socket& socket : many) {
    for (int i = 0; i < 100 && socket.Send(part); ++i) {  // 25 MiB
    }
  }
  for (Socket& socket : many) {
    if (!socket.Ended(3'000)) continue;
    ++ended;
    told += socket.heard().find("messages without an end") != std::string::npos;
  }
  EXPECT_GE(told, 1u);
  EXPECT_GE(ended, 2u) << "128 MiB of unfinished messages are the bound of one host";
  good_->WaitForRounds(3);
}

}  // namespace
}  // namespace cairn::cluster_test
