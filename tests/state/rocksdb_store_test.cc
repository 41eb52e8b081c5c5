// What only the store on disk promises: identity, clear errors, recovery, checkpoints, and nothing lost in a
// crash.
#include "master/store/rocksdb_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>

#include "common/check.h"
#include "master/store/meta_txn.h"
#include "tests/state/temp_dir.h"

namespace cairn::master {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

RocksdbStoreOptions At(const std::string& directory) {
  RocksdbStoreOptions options;
  options.directory = directory;
  return options;
}

Status PutOne(MetaStore* store, const std::string& key, const std::string& value) {
  MetaTxn txn(store->Latest());
  txn.Put(Family::kInodes, key, value);
  return store->Commit(&txn);
}

std::string NumberKey(int number) {
  std::string text = std::to_string(number);
  return std::string(10 - text.size(), '0') + text;
}

TEST(RocksdbStore, KeepsDataAndClusterOverReopening) {
  TempDir dir;
  Uuid cluster;
  {
    auto store = OpenRocksdbStore(At(dir.Sub("m")));
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    cluster = (*store)->cluster();
    EXPECT_TRUE(static_cast<bool>(cluster));
    ASSERT_TRUE(PutOne(store->get(), "a", "1").ok());
  }
  auto store = OpenRocksdbStore(At(dir.Sub("m")));
  ASSERT_TRUE(store.ok());
  EXPECT_EQ((*store)->cluster(), cluster);
  EXPECT_EQ((*store)->Latest()->Get(Family::kInodes, "a"), "1");
  EXPECT_GT((*store)->used_bytes(), 0u);
  EXPECT_GT((*store)->free_bytes(), 0u);
}

TEST(RocksdbStore, RefusesAnotherClustersDirectory) {
  TempDir dir;
  RocksdbStoreOptions options = At(dir.Sub("m"));
  options.cluster = Uuid{1, 1};
  ASSERT_TRUE(OpenRocksdbStore(options).ok());
  options.cluster = Uuid{2, 2};
  const auto again = OpenRocksdbStore(options);
  EXPECT_EQ(again.code(), StatusCode::kWrongCluster);
  EXPECT_THAT(again.status().message(), HasSubstr(Uuid({1, 1}).ToString()));
}

TEST(RocksdbStore, RefusesADirectoryThatIsInUse) {
  TempDir dir;
  auto store = OpenRocksdbStore(At(dir.Sub("m")));
  ASSERT_TRUE(store.ok());
  const auto second = OpenRocksdbStore(At(dir.Sub("m")));
  EXPECT_EQ(second.code(), StatusCode::kBusy) << second.status().ToString();
  EXPECT_TRUE(PutOne(store->get(), "a", "1").ok()) << "the first one is not disturbed";
}

TEST(RocksdbStore, RefusesForeignDirectoriesAndFiles) {
  TempDir dir;
  fs::create_directory(dir.Sub("photos"));
  std::ofstream(dir.Sub("photos/cat.jpg")) << "meow";
  EXPECT_EQ(OpenRocksdbStore(At(dir.Sub("photos"))).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(OpenRocksdbStore(At(dir.Sub("photos/cat.jpg"))).code(), StatusCode::kFailedPrecondition);
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* db = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(options, dir.Sub("other"), &db).ok());
  ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), "key", "value").ok());
  delete db;
  EXPECT_EQ(OpenRocksdbStore(At(dir.Sub("other"))).code(), StatusCode::kFailedPrecondition);
}

TEST(RocksdbStore, OpensAMissingDirectoryOnlyWhenAskedToCreateIt) {
  TempDir dir;
  RocksdbStoreOptions options = At(dir.Sub("a/b"));
  options.create_if_missing = false;
  EXPECT_EQ(OpenRocksdbStore(options).code(), StatusCode::kFailedPrecondition);
  fs::create_directories(options.directory);
  EXPECT_EQ(OpenRocksdbStore(options).code(), StatusCode::kFailedPrecondition);
  options.create_if_missing = true;
  EXPECT_TRUE(OpenRocksdbStore(options).ok());
}

TEST(RocksdbStore, RefusesADamagedDirectory) {
  TempDir dir;
  ASSERT_TRUE(OpenRocksdbStore(At(dir.Sub("m"))).ok());
  fs::remove(dir.Sub("m/CURRENT"));
  EXPECT_EQ(OpenRocksdbStore(At(dir.Sub("m"))).code(), StatusCode::kCorrupt);
  ASSERT_TRUE(OpenRocksdbStore(At(dir.Sub("n"))).ok());
  for (const auto& entry : fs::directory_iterator(dir.Sub("n"))) {
    if (entry.path().filename().string().starts_with("MANIFEST-"))
      std::ofstream(entry.path(), std::ios::trunc) << "garbage";
  }
  const auto damaged = OpenRocksdbStore(At(dir.Sub("n")));
  EXPECT_EQ(damaged.code(), StatusCode::kCorrupt) << damaged.status().ToString();
  EXPECT_THAT(damaged.status().message(), HasSubstr("restore a backup"));
}

TEST(RocksdbStore, RefusesANewerFormat) {
  TempDir dir;
  {
    auto store = OpenRocksdbStore(At(dir.Sub("m")));
    ASSERT_TRUE(store.ok());
    MetaTxn txn((*store)->Latest());
    txn.Put(Family::kMeta, "store/format", "999");
    ASSERT_TRUE((*store)->Commit(&txn).ok());
  }
  EXPECT_EQ(OpenRocksdbStore(At(dir.Sub("m"))).code(), StatusCode::kVersionMismatch);
}

TEST(RocksdbStore, CheckpointIsAStoreOfItsOwn) {
  TempDir dir;
  auto store = OpenRocksdbStore(At(dir.Sub("m")));
  ASSERT_TRUE(store.ok());
  ASSERT_TRUE(PutOne(store->get(), "a", "1").ok());
  ASSERT_TRUE((*store)->Checkpoint(dir.Sub("backup")).ok());
  ASSERT_TRUE(PutOne(store->get(), "a", "2").ok());
  EXPECT_EQ((*store)->Checkpoint(dir.Sub("backup")).code(), StatusCode::kAlreadyExists);
  auto backup = OpenRocksdbStore(At(dir.Sub("backup")));
  ASSERT_TRUE(backup.ok()) << backup.status().ToString();
  EXPECT_EQ((*backup)->cluster(), (*store)->cluster());
  EXPECT_EQ((*backup)->Latest()->Get(Family::kInodes, "a"), "1");
}

// The newest log of the store, which holds what was not flushed.
fs::path NewestLog(const std::string& directory) {
  fs::path newest;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".log" &&
        (newest.empty() || entry.path().filename() > newest.filename())) {
      newest = entry.path();
    }
  }
  return newest;
}

// meta_store_writer as a child process, because a database does not survive a fork.
class Writer {
 public:
  Writer(const std::string& directory, int first, int count) {
    int fds[2];
    CAIRN_CHECK(::pipe2(fds, O_CLOEXEC) == 0, "pipe");
    const std::string program = fs::read_symlink("/proc/self/exe").parent_path() / "meta_store_writer";
    const std::string first_text = std::to_string(first);
    const std::string count_text = std::to_string(count);
    child_ = ::fork();
    CAIRN_CHECK(child_ >= 0, "fork");
    if (child_ == 0) {
      ::dup2(fds[1], STDOUT_FILENO);
      ::execl(program.c_str(), program.c_str(), directory.c_str(), first_text.c_str(), count_text.c_str(),
              nullptr);
      ::_exit(127);
    }
    ::close(fds[1]);
    output_ = fds[0];
  }
  ~Writer() {
    if (child_ > 0) Kill();
    ::close(output_);
  }
  // The next number that was committed; -1 at the end of the output.
  int Next() {
    int value = -1;
    return ::read(output_, &value, sizeof(value)) == static_cast<ssize_t>(sizeof(value)) ? value : -1;
  }
  void Kill() {
    ::kill(child_, SIGKILL);
    Wait();
  }
  int Wait() {
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return status;
  }

 private:
  pid_t child_ = -1;
  int output_ = -1;
};

TEST(RocksdbStore, RecoveryStopsAtTheFirstBadRecord) {
  TempDir dir;
  Writer writer(dir.Sub("m"), 0, 100);
  while (writer.Next() >= 0) {
  }
  ASSERT_EQ(writer.Wait(), 0);
  const fs::path log = NewestLog(dir.Sub("m"));
  ASSERT_FALSE(log.empty());
  {
    std::fstream file(log, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(log) / 2));
    file.write("\xde\xad\xbe\xef", 4);
  }
  auto store = OpenRocksdbStore(At(dir.Sub("m")));
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  const auto reader = (*store)->Latest();
  int present = 0;
  while (present < 100 && reader->Get(Family::kInodes, NumberKey(present))) ++present;
  EXPECT_GT(present, 10);
  EXPECT_LT(present, 90);
  for (int i = present; i < 100; ++i) EXPECT_FALSE(reader->Get(Family::kInodes, NumberKey(i))) << i;
}

// kill -9 in the middle of commits: every batch that was acknowledged is there, whole.
TEST(RocksdbStore, EveryAcknowledgedBatchSurvivesAKill) {
  TempDir dir;
  int next = 0;
  for (int round = 0; round < 5; ++round) {
    Writer writer(dir.Sub("m"), next, 1 << 30);
    int acknowledged = -1;
    while (acknowledged < next + 1000) {
      acknowledged = writer.Next();
      ASSERT_GE(acknowledged, 0);
    }
    writer.Kill();
    for (int value = writer.Next(); value >= 0; value = writer.Next()) acknowledged = value;

    auto store = OpenRocksdbStore(At(dir.Sub("m")));
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    const auto reader = (*store)->Latest();
    for (int i = 0; i <= acknowledged; ++i) {
      ASSERT_TRUE(reader->Get(Family::kInodes, NumberKey(i))) << "lost " << i << " of " << acknowledged;
      ASSERT_EQ(reader->Get(Family::kDentries, NumberKey(i)), NumberKey(i));
    }
    next = acknowledged + 1;
    // The batch in flight is there wholly or not at all.
    EXPECT_EQ(reader->Get(Family::kInodes, NumberKey(next)).has_value(),
              reader->Get(Family::kDentries, NumberKey(next)).has_value());
    while (reader->Get(Family::kInodes, NumberKey(next))) ++next;
  }
}

// A file system of its own, small enough to fill.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& directory) : directory_(directory) {
    fs::create_directory(directory_);
    mounted_ = ::mount("tmpfs", directory_.c_str(), "tmpfs", 0, "size=48m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }

 private:
  const std::string directory_;
  bool mounted_ = false;
};

TEST(RocksdbStore, AFullDiskRefusesCommitsUntilThereIsSpaceAgain) {
  TempDir dir;
  SmallDisk disk(dir.Sub("disk"));
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a file system";
  const std::string ballast = dir.Sub("disk/ballast");
  std::ofstream(ballast) << std::string(16 << 20, 'b');
  RocksdbStoreOptions options = At(dir.Sub("disk/m"));
  options.write_buffer_bytes = 4 << 20;
  int acknowledged = 0;
  {
    auto store = OpenRocksdbStore(options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    MetaTxn txn((*store)->Latest());
    std::mt19937 random(1);  // so that compression does not help
    Status status;
    for (; status.ok() && acknowledged < 1000; acknowledged += status.ok() ? 1 : 0) {
      std::string value(200'000, '\0');
      for (char& byte : value) byte = static_cast<char>(random());
      txn.Put(Family::kInodes, NumberKey(acknowledged), value);
      status = (*store)->Commit(&txn);
    }
    EXPECT_EQ(status.code(), StatusCode::kNoSpace) << status.ToString();
    EXPECT_THAT(status.message(), HasSubstr("free space"));
    EXPECT_GT(acknowledged, 20);
    EXPECT_FALSE(txn.empty()) << "the refused batch can be tried again";
    EXPECT_FALSE((*store)->Commit(&txn).ok());
    EXPECT_TRUE((*store)->Latest()->Get(Family::kInodes, NumberKey(0)).has_value()) << "reads go on";
    fs::remove(ballast);
    // RocksDB looks for space every few seconds.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (status = (*store)->Commit(&txn); !status.ok() && std::chrono::steady_clock::now() < deadline;
         status = (*store)->Commit(&txn)) {
      EXPECT_EQ(status.code(), StatusCode::kNoSpace) << status.ToString();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_TRUE(status.ok()) << status.ToString();
    ++acknowledged;
  }
  auto store = OpenRocksdbStore(options);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  for (int i = 0; i < acknowledged; ++i)
    EXPECT_TRUE((*store)->Latest()->Get(Family::kInodes, NumberKey(i))) << i;
}

}  // namespace
}  // namespace cairn::master
