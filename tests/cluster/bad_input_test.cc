// Wrong addresses, busy ports, foreign and damaged data, garbage on every port: a clear error each, and
// nobody else notices.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {
namespace fs = std::filesystem;

std::string Binary(const std::string& name) { return std::string(CAIRN_BIN_DIR) + "/" + name; }

// Sends bytes to a port of this machine and waits for the peer to close or answer.
void Poke(const std::string& address, const std::string& bytes) {
  const int port = std::atoi(address.substr(address.rfind(':') + 1).c_str());
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0) << address;
  (void)send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  shutdown(fd, SHUT_WR);
  const timeval limit{0, 200'000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  char buffer[512];
  while (recv(fd, buffer, sizeof buffer, 0) > 0) {
  }
  close(fd);
}

class BadInput : public testing::Test {
 protected:
  void SetUp() override {
    cluster_ = LocalCluster::Start();
    ASSERT_NE(cluster_, nullptr);
    ASSERT_EQ(WriteFile(cluster_->Path("witness"), content_, true), 0);
  }
  void ExpectWitness() {
    for (const char* part : {"master", "cs1", "cs2", "cs3", "mount"})
      EXPECT_GT(cluster_->Pid(part), 0) << part << " died";
    EXPECT_TRUE(ReadFile(cluster_->Path("witness")) == content_);
    EXPECT_EQ(WriteFile(cluster_->Path("more"), "still writable", true), 0);
  }
  RunResult StartChunkserver(const std::string& data, std::vector<std::string> more = {}) {
    std::vector<std::string> command = {Binary("cairn-chunkserver"),
                                        "--master",
                                        cluster_->MasterAddress(),
                                        "--data",
                                        data,
                                        "--listen",
                                        "127.0.0.1:0"};
    command.insert(command.end(), more.begin(), more.end());
    return RunProgram(command, {}, 15);
  }
  std::unique_ptr<LocalCluster> cluster_;
  const std::string content_ = Pattern(5, 1'000'000);
};

TEST_F(BadInput, GarbageOnEveryPortIsSurvived) {
  std::mt19937_64 random(42);
  std::vector<std::string> ports = cluster_->ServerAddresses();
  ports.push_back(cluster_->MasterAddress());
  for (const std::string& port : ports) {
    Poke(port, "GET / HTTP/1.1\r\n\r\n");
    Poke(port, std::string(100'000, '\0'));
    for (int i = 0; i < 20; ++i) Poke(port, Pattern(random(), random() % 5000));
    // A valid magic and then nonsense.
    for (int i = 0; i < 20; ++i) Poke(port, "CRNF\x01\x02" + Pattern(random(), 26 + random() % 300));
  }
  ExpectWitness();
}

TEST_F(BadInput, WrongAddressesAreNamed) {
  RunResult result =
      RunProgram({Binary("cairn-mount"), "127.0.0.1:1", cluster_->directory() + "/nomount"}, {}, 60);
  EXPECT_NE(result.exit_code, 0);
  EXPECT_NE(result.exit_code, 137) << "it hung";
  EXPECT_NE(result.err.find("127.0.0.1:1"), std::string::npos) << result.Both();
  result = RunProgram({Binary("cairn"), "ls", "cairn://127.0.0.1:1/"}, {}, 60);
  EXPECT_EQ(result.exit_code, 3) << result.Both();
  EXPECT_NE(result.err.find("127.0.0.1:1"), std::string::npos) << result.Both();
  result = RunProgram({Binary("cairn"), "ls", "cairn://no.such.host.invalid:9400/"}, {}, 60);
  EXPECT_EQ(result.exit_code, 3) << result.Both();
  EXPECT_NE(result.err.find("no.such.host.invalid"), std::string::npos) << result.Both();
  result = RunProgram(
      {Binary("cairn-master"), "--data", cluster_->directory() + "/m2", "--listen", "not-an-address"}, {},
      15);
  EXPECT_EQ(result.exit_code, 2) << result.Both();
}

TEST_F(BadInput, ABusyPortIsNamed) {
  const std::string address = cluster_->MasterAddress();
  RunResult result = RunProgram(
      {Binary("cairn-master"), "--data", cluster_->directory() + "/m2", "--listen", address}, {}, 15);
  EXPECT_EQ(result.exit_code, 5) << result.Both();
  EXPECT_NE(result.err.find(address), std::string::npos) << result.Both();
  result = StartChunkserver(cluster_->directory() + "/c9", {"--listen", cluster_->ServerAddresses()[0]});
  EXPECT_EQ(result.exit_code, 5) << result.Both();
  ExpectWitness();
}

TEST_F(BadInput, DirectoriesInUseForeignAndOfAnotherServerAreRefused) {
  // In use by a running server.
  RunResult result = StartChunkserver(cluster_->DataOf("cs1"));
  EXPECT_EQ(result.exit_code, 5) << result.Both();
  EXPECT_NE(result.err.find(cluster_->DataOf("cs1")), std::string::npos) << result.Both();
  // Somebody's files.
  const std::string foreign = cluster_->directory() + "/foreign";
  fs::create_directories(foreign);
  ASSERT_EQ(WriteFile(foreign + "/holiday.jpg", "not ours"), 0);
  result = StartChunkserver(foreign);
  EXPECT_EQ(result.exit_code, 4) << result.Both();
  EXPECT_EQ(ReadFile(foreign + "/holiday.jpg"), "not ours");
  // Two disks of different servers together.
  cluster_->Down({"--only", "cs1"});
  cluster_->Down({"--only", "cs2"});
  result = StartChunkserver(cluster_->DataOf("cs1"), {"--data", cluster_->DataOf("cs2")});
  EXPECT_EQ(result.exit_code, 4) << result.Both();
  // The master's data as a chunkserver's, and the other way round.
  cluster_->Down({"--only", "cs3"});
  result = RunProgram({Binary("cairn-master"), "--data", cluster_->DataOf("cs3"), "--listen", "127.0.0.1:0"},
                      {}, 15);
  EXPECT_EQ(result.exit_code, 4) << result.Both();
  cluster_->Up();
  EXPECT_TRUE(cluster_->WaitHealthy(60'000)) << cluster_->Status().dump(1);
  ExpectWitness();
}

TEST_F(BadInput, ADestroyedIndexAndATornSegmentAreRecovered) {
  ASSERT_TRUE(cluster_->WaitHealthy(30'000));
  cluster_->Kill("cs1");
  cluster_->Kill("cs2");
  // cs1: every file of the index becomes garbage. cs2: the newest segment loses its last bytes.
  size_t destroyed = 0;
  std::string newest;
  for (const auto& entry : fs::recursive_directory_iterator(cluster_->DataOf("cs1"))) {
    if (entry.is_regular_file() && entry.path().string().find("/index/") != std::string::npos) {
      std::ofstream(entry.path(), std::ios::binary | std::ios::trunc) << "garbage";
      ++destroyed;
    }
  }
  EXPECT_GT(destroyed, 0u);
  for (const auto& entry : fs::recursive_directory_iterator(cluster_->DataOf("cs2"))) {
    if (entry.is_regular_file() && entry.path().string().find("/segments/") != std::string::npos) {
      newest = std::max(newest, entry.path().string());
    }
  }
  ASSERT_FALSE(newest.empty());
  const auto size = fs::file_size(newest);
  fs::resize_file(newest, size > 100 ? size - 100 : 0);
  cluster_->Up();
  EXPECT_TRUE(cluster_->WaitHealthy(60'000)) << cluster_->Status().dump(1);
  cluster_->Kill("cs3");
  EXPECT_TRUE(ReadFile(cluster_->AddMount() + "/witness") == content_);
}

}  // namespace
}  // namespace cairn::cluster_test
