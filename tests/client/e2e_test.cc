// Two clients in this process against a real master and three real chunkservers.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "client/client.h"
#include "master/core/options.h"

extern char** environ;

namespace cairn::client {
namespace {

namespace fs = std::filesystem;

// A daemon that this test started; killed with the object.
class Process {
 public:
  Process() = default;
  explicit Process(std::vector<std::string> arguments) {
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, argv[0], nullptr, nullptr, argv.data(), environ) != 0) pid_ = -1;
  }
  Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Process& operator=(Process&& other) noexcept {
    Kill();
    pid_ = std::exchange(other.pid_, -1);
    return *this;
  }
  ~Process() { Kill(); }
  void Signal(int signal) const { kill(pid_, signal); }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
};

template <typename Condition>
bool Eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

std::string ReadLine(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

class Cluster {
 public:
  Cluster() {
    std::string name = (fs::temp_directory_path() / "cairn-client-XXXXXX").string();
    directory_ = mkdtemp(name.data());
    StartMaster("127.0.0.1:0");
    for (int i = 1; i <= 3; ++i) {
      const std::string data = (directory_ / ("cs" + std::to_string(i))).string();
      fs::create_directory(data);
      chunkservers_.emplace_back(std::vector<std::string>{Binary("cairn-chunkserver"), "--master",
                                                          master_address_, "--data", data, "--listen",
                                                          "127.0.0.1:0", "--log-file", data + ".log"});
    }
  }
  ~Cluster() {
    chunkservers_.clear();
    master_.Kill();
    if (!::testing::Test::HasFailure()) fs::remove_all(directory_);
  }

  void RestartMaster() {
    master_.Kill();
    StartMaster(master_address_);
  }
  void SignalChunkserver(size_t number, int signal) { chunkservers_.at(number).Signal(signal); }
  std::unique_ptr<Client> Connect() {
    ClientOptions options;
    options.masters = {master_address_};
    auto client = Client::Connect(options);
    EXPECT_TRUE(client.ok()) << client.status().ToString();
    return client.ok() ? std::move(client).value() : nullptr;
  }

 private:
  static std::string Binary(const std::string& name) { return std::string(CAIRN_BIN_DIR) + "/" + name; }
  void StartMaster(const std::string& listen) {
    const fs::path address = directory_ / "master.address";
    fs::remove(address);
    fs::create_directories(directory_ / "master");
    master_ =
        Process({Binary("cairn-master"), "--data", (directory_ / "master").string(), "--listen", listen,
                 "--address-file", address.string(), "--log-file", (directory_ / "master.log").string()});
    ASSERT_TRUE(Eventually([&] { return !ReadLine(address).empty(); })) << "the master does not start";
    master_address_ = ReadLine(address);
  }

  fs::path directory_;
  std::string master_address_;
  Process master_;
  std::vector<Process> chunkservers_;
};

class EndToEnd : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { cluster = new Cluster; }
  static void TearDownTestSuite() {
    delete cluster;
    cluster = nullptr;
  }
  void SetUp() override {
    a = cluster->Connect();
    b = cluster->Connect();
    ASSERT_TRUE(a && b);
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    auto made = a->Mkdir(root, kRootInode, name, 0755);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    dir = made->attr.inode;
    // Chunkservers register after they have started.
    ASSERT_TRUE(Eventually([&] {
      auto created = a->Create(root, dir, "probe", {}, {.write = true});
      if (!created.ok()) return false;
      const bool placed = a->Write(created->handle, 0, Bytes("x")).ok() && a->Close(created->handle).ok();
      return a->Unlink(root, dir, "probe").ok() && placed;
    }));
  }
  void TearDown() override {
    a.reset();
    b.reset();
  }
  void WriteFile(Client& client, const std::string& name, const std::string& text) {
    auto created = client.Create(root, dir, name, {}, {.write = true, .truncate = true});
    ASSERT_TRUE(created.ok()) << created.status().ToString();
    auto written = client.Write(created->handle, 0, Bytes(text));
    ASSERT_TRUE(written.ok()) << written.status().ToString();
    const Status closed = client.Close(created->handle);
    ASSERT_TRUE(closed.ok()) << closed.ToString();
  }
  std::string ReadHandle(Client& client, Handle handle) {
    std::string text;
    std::string piece(1 << 20, 0);
    while (true) {
      auto got = client.Read(handle, text.size(), std::as_writable_bytes(std::span(piece)));
      EXPECT_TRUE(got.ok()) << got.status().ToString();
      if (!got.ok() || *got == 0) return text;
      text.append(piece, 0, *got);
    }
  }
  std::string ReadFile(Client& client, const std::string& name) {
    auto found = client.Lookup(root, dir, name);
    EXPECT_TRUE(found.ok()) << found.status().ToString();
    if (!found.ok()) return "";
    auto handle = client.Open(root, found->attr.inode, {});
    EXPECT_TRUE(handle.ok()) << handle.status().ToString();
    if (!handle.ok()) return "";
    std::string text = ReadHandle(client, *handle);
    EXPECT_TRUE(client.Close(*handle).ok());
    return text;
  }

  static Cluster* cluster;
  const Caller root{};
  std::unique_ptr<Client> a, b;
  InodeId dir;
};
Cluster* EndToEnd::cluster = nullptr;

TEST_F(EndToEnd, WhatOneClosedTheOtherReads) {
  std::string text(3'000'001, 'x');
  for (size_t i = 0; i < text.size(); i += 7) text[i] = static_cast<char>('a' + i % 26);
  WriteFile(*a, "file", text);
  EXPECT_TRUE(ReadFile(*b, "file") == text);
  WriteFile(*b, "file", "short");
  EXPECT_TRUE(ReadFile(*a, "file") == "short");
}

TEST_F(EndToEnd, AStatElsewhereSeesWhatIsBuffered) {
  auto created = a->Create(root, dir, "file", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  for (uint64_t size = 1000; size <= 5000; size += 1000) {
    ASSERT_TRUE(a->Write(created->handle, size - 1000, Bytes(std::string(1000, 'y'))).ok());
    auto entry = b->GetAttr(root, created->entry.attr.inode);
    ASSERT_TRUE(entry.ok()) << entry.status().ToString();
    EXPECT_EQ(entry->attr.size, size);
    EXPECT_EQ(entry->attr.mtime, a->GetAttr(root, created->entry.attr.inode)->attr.mtime);
  }
  EXPECT_TRUE(a->Close(created->handle).ok());
}

TEST_F(EndToEnd, NamesChangeForEverybodyAtOnce) {
  WriteFile(*a, "one", "1");
  EXPECT_EQ(ReadFile(*b, "one"), "1");
  EXPECT_EQ(b->Lookup(root, dir, "two").code(), StatusCode::kNotFound);
  ASSERT_TRUE(a->Rename(root, dir, "one", dir, "two", 0).ok());
  EXPECT_EQ(b->Lookup(root, dir, "one").code(), StatusCode::kNotFound);
  EXPECT_EQ(ReadFile(*b, "two"), "1");
  const Status unlinked = b->Unlink(root, dir, "two");
  ASSERT_TRUE(unlinked.ok()) << unlinked.ToString();
  EXPECT_EQ(a->Lookup(root, dir, "two").code(), StatusCode::kNotFound);
}

TEST_F(EndToEnd, AFileUnlinkedElsewhereStaysReadableUntilItIsClosed) {
  WriteFile(*a, "file", "still here");
  auto found = b->Lookup(root, dir, "file");
  ASSERT_TRUE(found.ok());
  auto handle = b->Open(root, found->attr.inode, {});
  ASSERT_TRUE(handle.ok());
  const Status unlinked = a->Unlink(root, dir, "file");
  ASSERT_TRUE(unlinked.ok()) << unlinked.ToString();
  EXPECT_EQ(a->Lookup(root, dir, "file").code(), StatusCode::kNotFound);
  EXPECT_EQ(b->Lookup(root, dir, "file").code(), StatusCode::kNotFound);
  EXPECT_EQ(ReadHandle(*b, *handle), "still here");
  EXPECT_TRUE(b->Close(*handle).ok());
  // The master reclaims it in the background.
  EXPECT_TRUE(Eventually([&] { return b->GetAttr(root, found->attr.inode).code() == StatusCode::kStaleHandle; }));
}

TEST_F(EndToEnd, AppendsOfTwoClientsAllArriveWhole) {
  constexpr int kLines = 25;
  WriteFile(*a, "log", "");
  const InodeId inode = a->Lookup(root, dir, "log")->attr.inode;
  const auto append = [&](Client& client, char tag) {
    auto handle = client.Open(root, inode, {.write = true, .append = true});
    ASSERT_TRUE(handle.ok()) << handle.status().ToString();
    for (int i = 0; i < kLines; ++i) {
      auto written = client.Write(*handle, 0, Bytes(tag + std::to_string(100 + i) + "\n"));
      ASSERT_TRUE(written.ok()) << written.status().ToString();
    }
    EXPECT_TRUE(client.Close(*handle).ok());
  };
  std::thread other([&] { append(*b, 'b'); });
  append(*a, 'a');
  other.join();
  std::istringstream in(ReadFile(*a, "log"));
  std::set<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    EXPECT_EQ(line.size(), 4u) << line;
    lines.insert(line);
  }
  EXPECT_EQ(lines.size(), 2u * kLines);
}

// One request for the lease, one recall, one step at the members: three mutations with the seals right behind them. What is above that
// are write-backs of half a second each, and a layout now and then.
TEST_F(EndToEnd, AFileThatChangesHandsCostsOneRequestOneRecallAndOneStep) {
  constexpr int kTurns = 60;
  constexpr double kAlmost = 0.25;
  WriteFile(*a, "file", std::string(4096, 'x'));
  const InodeId inode = a->Lookup(root, dir, "file")->attr.inode;
  Client* const clients[] = {a.get(), b.get()};
  std::vector<Handle> append, write;
  for (Client* client : clients) {
    append.push_back(*client->Open(root, inode, {.write = true, .append = true}));
    write.push_back(*client->Open(root, inode, {.write = true}));
  }
  const auto cost = [&](double master, double recalls, double data, const auto& take) {
    for (int turn = 0; turn < 4; ++turn) take(static_cast<size_t>(turn % 2), turn);  // everybody finds out how it is used
    const auto sum = [&](uint64_t ClientStats::*count) {
      return static_cast<double>(a->Stats().*count + b->Stats().*count);
    };
    const double before[] = {sum(&ClientStats::master_requests), sum(&ClientStats::lease_recalls),
                             sum(&ClientStats::data_requests)};
    for (int turn = 4; turn < 4 + kTurns; ++turn) take(static_cast<size_t>(turn % 2), turn);
    EXPECT_LE((sum(&ClientStats::master_requests) - before[0]) / kTurns, master + kAlmost);
    EXPECT_LE((sum(&ClientStats::lease_recalls) - before[1]) / kTurns, recalls + kAlmost);
    EXPECT_LE((sum(&ClientStats::data_requests) - before[2]) / kTurns, data + kAlmost);
  };
  std::string expected(4096, 'x');
  {
    SCOPED_TRACE("append");
    cost(1, 1, 6, [&](size_t who, int turn) {
      const std::string line = "line " + std::to_string(turn) + "\n";
      ASSERT_TRUE(clients[who]->Write(append[who], 0, Bytes(line)).ok());
      expected += line;
    });
    EXPECT_EQ(ReadFile(*a, "file"), expected);
  }
  {
    SCOPED_TRACE("write beyond the first chunk, as the kernel asks for it");
    cost(1, 1, 6, [&](size_t who, int turn) {
      EXPECT_EQ(clients[who]->GetXattr(root, inode, "security.capability").code(), StatusCode::kNoAttribute);
      ASSERT_TRUE(clients[who]->Write(write[who], (200u << 20) + static_cast<uint64_t>(turn), Bytes("y")).ok());
    });
  }
  {
    SCOPED_TRACE("read and write of one block");
    int value = 0;
    ASSERT_TRUE(a->Write(write[0], 0, Bytes("0000")).ok());
    cost(1, 1, 7, [&](size_t who, int) {
      std::string text(4, 0);
      ASSERT_TRUE(clients[who]->Read(write[who], 0, std::as_writable_bytes(std::span(text))).ok());
      EXPECT_EQ(std::stoi(text), value);
      text = std::to_string(10'000 + ++value).substr(1);
      ASSERT_TRUE(clients[who]->Write(write[who], 0, Bytes(text)).ok());
    });
  }
  {
    SCOPED_TRACE("a reader that follows a writer, two turns for each record");
    uint64_t at = 0;
    WriteFile(*a, "followed", "");
    const InodeId followed = a->Lookup(root, dir, "followed")->attr.inode;
    write.push_back(*a->Open(root, followed, {.write = true}));
    const Handle reads = *b->Open(root, followed, {});
    cost(1, 1, 3.5, [&](size_t who, int turn) {
      const std::string text = std::to_string(1000 + turn / 2);
      if (who == 0) {
        ASSERT_TRUE(a->Write(write[2], at, Bytes(text)).ok());
        return;
      }
      EXPECT_EQ(b->GetAttr(root, followed)->attr.size, at + 4);
      std::string got(4, 0);
      ASSERT_TRUE(b->Read(reads, at, std::as_writable_bytes(std::span(got))).ok());
      EXPECT_EQ(got, text);
      at += 4;
    });
    EXPECT_TRUE(a->Close(write[2]).ok());
    EXPECT_TRUE(b->Close(reads).ok());
  }
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(clients[i]->Close(append[i]).ok());
    EXPECT_TRUE(clients[i]->Close(write[i]).ok());
  }
}

TEST_F(EndToEnd, TurnsGoOnWhileAChunkserverHangsAndTheMasterRestarts) {
  WriteFile(*a, "log", "");
  const InodeId inode = a->Lookup(root, dir, "log")->attr.inode;
  Client* const clients[] = {a.get(), b.get()};
  std::vector<Handle> handles;
  for (Client* client : clients) handles.push_back(*client->Open(root, inode, {.write = true, .append = true}));
  std::string expected;
  int number = 0;
  const auto turns = [&](int count) {
    for (int i = 0; i < count; ++i, ++number) {
      const std::string line = "line " + std::to_string(number) + "\n";
      const auto written = clients[number % 2]->Write(handles[static_cast<size_t>(number % 2)], 0, Bytes(line));
      ASSERT_TRUE(written.ok()) << written.status().ToString();
      expected += line;
    }
  };
  turns(6);
  cluster->SignalChunkserver(1, SIGSTOP);
  turns(20);
  cluster->SignalChunkserver(1, SIGCONT);
  turns(6);
  for (int round = 0; round < 2; ++round) {
    cluster->RestartMaster();
    turns(7);
  }
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(clients[i]->Close(handles[i]).ok());
  EXPECT_EQ(ReadFile(*b, "log"), expected);
}

TEST_F(EndToEnd, TruncationIsSeenElsewhere) {
  WriteFile(*a, "file", std::string(10'000, 'z'));
  ASSERT_EQ(ReadFile(*b, "file").size(), 10'000u);
  const InodeId inode = a->Lookup(root, dir, "file")->attr.inode;
  auto cut = b->SetAttr(root, inode, {.size = 5'001});
  ASSERT_TRUE(cut.ok()) << cut.status().ToString();
  EXPECT_TRUE(ReadFile(*a, "file") == std::string(5'001, 'z'));
  ASSERT_TRUE(a->SetAttr(root, inode, {.size = 6'000}).ok());
  EXPECT_TRUE(ReadFile(*b, "file") == std::string(5'001, 'z') + std::string(999, '\0'));
}

TEST_F(EndToEnd, RoundTripsAreAsDesigned) {
  const auto cost = [&](const auto& operation) {
    const uint64_t before = a->Stats().master_requests;
    operation();
    return a->Stats().master_requests - before;
  };
  ASSERT_TRUE(a->GetAttr(root, dir).ok());
  // Made by this client, so all its names are known; those of the root were made by others, too.
  EXPECT_EQ(cost([&] { EXPECT_EQ(a->Lookup(root, dir, "f").code(), StatusCode::kNotFound); }), 0u);
  ASSERT_TRUE(a->GetAttr(root, kRootInode).ok());
  EXPECT_EQ(cost([&] { EXPECT_EQ(a->Lookup(root, kRootInode, "f").code(), StatusCode::kNotFound); }), 1u);
  EXPECT_EQ(cost([&] { EXPECT_EQ(a->Lookup(root, kRootInode, "f").code(), StatusCode::kNotFound); }), 0u);
  EXPECT_LE(cost([&] { WriteFile(*a, "f", std::string(4096, 'x')); }),
            2u);  // one, and perhaps a write-back beside it
  EXPECT_LE(cost([&] { EXPECT_TRUE(a->Lookup(root, dir, "f").ok()); }), 1u);
  EXPECT_LE(cost([&] { EXPECT_TRUE(a->Rename(root, dir, "f", dir, "g", 0).ok()); }), 2u);
  EXPECT_LE(cost([&] { EXPECT_TRUE(a->Unlink(root, dir, "g").ok()); }), 2u);
}

TEST_F(EndToEnd, AKilledMasterComesBackAndEverythingGoesOn) {
  auto created = a->Create(root, dir, "file", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(a->Write(created->handle, 0, Bytes("before ")).ok());
  ASSERT_TRUE(a->Fsync(created->handle, false).ok());
  ASSERT_TRUE(a->Mkdir(root, dir, "made", 0755).ok());
  cluster->RestartMaster();
  ASSERT_TRUE(a->Write(created->handle, 7, Bytes("after")).ok());
  const Status synced = a->Fsync(created->handle, false);
  EXPECT_TRUE(synced.ok()) << synced.ToString();
  EXPECT_TRUE(a->Close(created->handle).ok());
  EXPECT_EQ(ReadFile(*b, "file"), "before after");
  EXPECT_TRUE(b->Lookup(root, dir, "made").ok());
}

TEST_F(EndToEnd, AClientThatEndsLeavesItsFilesSealedForOthers) {
  auto created = a->Create(root, dir, "file", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(a->Write(created->handle, 0, Bytes("flushed")).ok());
  ASSERT_TRUE(a->Close(created->handle).ok());
  a.reset();
  EXPECT_EQ(ReadFile(*b, "file"), "flushed");
}

// Otherwise everything new costs a request and a recall more, once that many are cached.
TEST(LeaseBoundsTest, AClientGivesLeasesBackBeforeTheMasterAsksForThem) {
  EXPECT_LE(ClientOptions().max_leases, master::CoreOptions().max_read_leases_per_session * 15 / 16);
}

}  // namespace
}  // namespace cairn::client
