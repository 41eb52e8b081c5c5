#include "master/restore.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "master/core/core.h"
#include "master/state/chunk_queries.h"
#include "master/store/rocksdb_store.h"

namespace cairn::master {
namespace {

namespace fs = std::filesystem;

class RestoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "cairn-restore-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { fs::remove_all(directory_); }
  std::unique_ptr<MetaStore> Open(const std::string& name, bool create) {
    RocksdbStoreOptions options;
    options.directory = directory_ + "/" + name;
    options.create_if_missing = create;
    auto store = OpenRocksdbStore(options);
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return store.ok() ? *std::move(store) : nullptr;
  }

  std::string directory_;
};

TEST_F(RestoreTest, ABackupComesBackWithIdsFarAheadOfEverythingHandedOut) {
  proto::IdLimits before;
  Uuid cluster;
  {
    auto store = Open("original", true);
    ASSERT_NE(store, nullptr);
    cluster = store->cluster();
    ManualClock clock;
    Core core({}, store.get(), &clock);
    ASSERT_TRUE(core.Start().ok());
    before = ReservedIds(core.txn());
    ASSERT_GT(before.epochs_below(), 0u);
    ASSERT_TRUE(store->Checkpoint(directory_ + "/backup").ok());
  }
  ASSERT_TRUE(RestoreBackup(directory_ + "/backup", directory_ + "/restored").ok());
  auto store = Open("restored", false);
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->cluster(), cluster);
  ManualClock clock;
  Core core({}, store.get(), &clock);
  ASSERT_TRUE(core.Start().ok());
  EXPECT_GT(core.ids().NextEpoch().value(), before.epochs_below() + (1ull << 39));
  EXPECT_GT(core.ids().NextChunk().value(), before.chunks_below() + (1ull << 39));
}

TEST_F(RestoreTest, ADirectoryWithDataIsLeftAlone) {
  fs::create_directories(directory_ + "/backup");
  fs::create_directories(directory_ + "/target");
  std::ofstream(directory_ + "/target/precious") << "data";
  EXPECT_EQ(RestoreBackup(directory_ + "/backup", directory_ + "/target").code(),
            StatusCode::kFailedPrecondition);
  EXPECT_TRUE(fs::exists(directory_ + "/target/precious"));
  EXPECT_EQ(RestoreBackup(directory_ + "/nothing", directory_ + "/other").code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace cairn::master
