// One conformance suite for every MetaStore.
#include "master/store/meta_store.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "master/store/memory_store.h"
#include "master/store/meta_txn.h"
#include "master/store/rocksdb_store.h"
#include "tests/state/temp_dir.h"

namespace cairn::master {
namespace {

constexpr Uuid kCluster{1, 2};

enum class Kind { kMemory, kRocksdb };

class MetaStoreTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Kind::kMemory) {
      store_ = NewMemoryStore(kCluster);
      return;
    }
    RocksdbStoreOptions options;
    options.directory = dir_.Sub("meta");
    options.cluster = kCluster;
    auto opened = OpenRocksdbStore(options);
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    store_ = std::move(*opened);
  }

  static std::vector<std::string> Keys(const MetaReader& reader, Family family, std::string_view lower,
                                       std::string_view upper) {
    std::vector<std::string> keys;
    for (auto it = reader.Scan(family, lower, upper); it->Valid(); it->Next()) {
      keys.push_back(std::string(it->key()) + "=" + std::string(it->value()));
    }
    return keys;
  }

  TempDir dir_;
  std::unique_ptr<MetaStore> store_;
};

using testing::Values;
INSTANTIATE_TEST_SUITE_P(Stores, MetaStoreTest, Values(Kind::kMemory, Kind::kRocksdb),
                         [](const auto& kind) { return kind.param == Kind::kMemory ? "Memory" : "Rocksdb"; });

using Strings = std::vector<std::string>;

TEST_P(MetaStoreTest, KnowsItsCluster) { EXPECT_EQ(store_->cluster(), kCluster); }

TEST_P(MetaStoreTest, TransactionReadsItsOwnWritesAndOthersReadThemAfterTheCommit) {
  MetaTxn txn(store_->Latest());
  const auto other = store_->Latest();
  txn.Put(Family::kInodes, "a", "1");
  EXPECT_EQ(txn.Get(Family::kInodes, "a"), "1");
  EXPECT_EQ(other->Get(Family::kInodes, "a"), std::nullopt);
  EXPECT_EQ(txn.Get(Family::kDentries, "a"), std::nullopt) << "families do not share keys";
  ASSERT_TRUE(store_->Commit(&txn).ok());
  EXPECT_TRUE(txn.empty());
  EXPECT_EQ(txn.Get(Family::kInodes, "a"), "1");
  EXPECT_EQ(other->Get(Family::kInodes, "a"), "1");
  txn.Delete(Family::kInodes, "a");
  EXPECT_EQ(txn.Get(Family::kInodes, "a"), std::nullopt);
  EXPECT_EQ(other->Get(Family::kInodes, "a"), "1");
  ASSERT_TRUE(store_->Commit(&txn).ok());
  EXPECT_EQ(other->Get(Family::kInodes, "a"), std::nullopt);
}

TEST_P(MetaStoreTest, SnapshotStaysAsItWas) {
  MetaTxn txn(store_->Latest());
  txn.Put(Family::kInodes, "a", "1");
  ASSERT_TRUE(store_->Commit(&txn).ok());
  const auto snapshot = store_->Snapshot();
  txn.Put(Family::kInodes, "a", "2");
  txn.Put(Family::kInodes, "b", "2");
  ASSERT_TRUE(store_->Commit(&txn).ok());
  EXPECT_EQ(snapshot->Get(Family::kInodes, "a"), "1");
  EXPECT_EQ(Keys(*snapshot, Family::kInodes, "", ""), (Strings{"a=1"}));
  EXPECT_EQ(Keys(*store_->Latest(), Family::kInodes, "", ""), (Strings{"a=2", "b=2"}));
}

TEST_P(MetaStoreTest, ScanMergesChangesIntoTheCommitted) {
  MetaTxn txn(store_->Latest());
  for (const char* key : {"b", "d", "f", "h"}) txn.Put(Family::kXattrs, key, "old");
  ASSERT_TRUE(store_->Commit(&txn).ok());
  txn.Put(Family::kXattrs, "a", "new");
  txn.Put(Family::kXattrs, "d", "new");
  txn.Put(Family::kXattrs, "e", "new");
  txn.Delete(Family::kXattrs, "b");
  txn.Delete(Family::kXattrs, "h");
  txn.Delete(Family::kXattrs, "z");
  EXPECT_EQ(Keys(txn, Family::kXattrs, "", ""), (Strings{"a=new", "d=new", "e=new", "f=old"}));
  EXPECT_EQ(Keys(txn, Family::kXattrs, "b", "f"), (Strings{"d=new", "e=new"}));
  EXPECT_EQ(Keys(txn, Family::kXattrs, "f", "f"), Strings{});
  EXPECT_EQ(Keys(txn, Family::kXattrs, "f", "c"), Strings{});
  EXPECT_EQ(Keys(txn, Family::kXattrs, "g", ""), Strings{});
}

TEST_P(MetaStoreTest, KeysAreOrderedAsBytesAndMayHoldAnyByte) {
  MetaTxn txn(store_->Latest());
  const std::string zero("\0", 1);
  const std::string high("\xff\xff", 2);
  txn.Put(Family::kDentries, high, "h");
  txn.Put(Family::kDentries, zero, std::string("\0v", 2));
  txn.Put(Family::kDentries, "m", "");
  ASSERT_TRUE(store_->Commit(&txn).ok());
  txn.Put(Family::kDentries, "\x7f", "x");
  EXPECT_EQ(Keys(txn, Family::kDentries, "", ""),
            (Strings{zero + "=" + std::string("\0v", 2), "m=", "\x7f=x", high + "=h"}));
  EXPECT_EQ(txn.Get(Family::kDentries, "m"), "");
}

TEST_P(MetaStoreTest, TheCommittersReadsAreKeptAndFollowItsCommits) {
  class Counting final : public MetaReader {
   public:
    Counting(std::unique_ptr<MetaReader> base, int* reads) : base_(std::move(base)), reads_(reads) {}
    std::optional<std::string> Get(Family family, std::string_view key) const override {
      ++*reads_;
      return base_->Get(family, key);
    }
    std::unique_ptr<MetaIterator> Scan(Family family, std::string_view lower,
                                       std::string_view upper) const override {
      return base_->Scan(family, lower, upper);
    }
    Status status() const override { return base_->status(); }

   private:
    const std::unique_ptr<MetaReader> base_;
    int* const reads_;
  };
  int reads = 0;
  MetaTxn txn(std::make_unique<Counting>(store_->Latest(), &reads), /*cache_bytes=*/1 << 20);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(txn.Get(Family::kInodes, "a"), std::nullopt);
  EXPECT_EQ(reads, 1) << "that there is none is kept as well";
  EXPECT_EQ(txn.Get(Family::kChunks, "a"), std::nullopt);
  EXPECT_EQ(reads, 2) << "families do not share keys";
  txn.SetSavepoint();
  txn.Put(Family::kInodes, "a", "0");
  txn.RollbackToSavepoint();
  EXPECT_EQ(txn.Get(Family::kInodes, "a"), std::nullopt);
  txn.Put(Family::kInodes, "a", "1");
  ASSERT_TRUE(store_->Commit(&txn).ok());
  EXPECT_EQ(txn.Get(Family::kInodes, "a"), "1");
  txn.Delete(Family::kInodes, "a");
  ASSERT_TRUE(store_->Commit(&txn).ok());
  EXPECT_EQ(txn.Get(Family::kInodes, "a"), std::nullopt);
  EXPECT_EQ(reads, 2);
}

TEST(ReadCacheTest, HoldsNoMoreThanItsBytesAndKeepsWhatIsUsed) {
  constexpr size_t kBytes = 100'000;
  ReadCache cache(kBytes);
  cache.Keep(Family::kInodes, "hot", "value");
  for (int i = 0; i < 10'000; ++i) {
    cache.Keep(Family::kInodes, "k" + std::to_string(i), std::string(100, 'v'));
    ASSERT_NE(cache.Find(Family::kInodes, "hot"), nullptr) << i;
    ASSERT_LE(cache.young_bytes(), kBytes / 2 + 1'000);
  }
  EXPECT_EQ(cache.Find(Family::kInodes, "k0"), nullptr);
  EXPECT_EQ(**cache.Find(Family::kInodes, "k9999"), std::string(100, 'v'));
}

TEST_P(MetaStoreTest, RollbackLeavesNoTraceOfTheCommandThatFailed) {
  MetaTxn txn(store_->Latest());
  txn.Put(Family::kChunks, "kept", "1");
  txn.Put(Family::kChunks, "changed", "1");
  const size_t bytes = txn.change_bytes();
  txn.SetSavepoint();
  txn.Put(Family::kChunks, "changed", "22");
  txn.Put(Family::kChunks, "changed", "333");
  txn.Delete(Family::kChunks, "kept");
  txn.Put(Family::kChunks, "new", "1");
  txn.RollbackToSavepoint();
  EXPECT_EQ(txn.change_count(), 2u);
  EXPECT_EQ(txn.change_bytes(), bytes);
  ASSERT_TRUE(store_->Commit(&txn).ok());
  EXPECT_EQ(Keys(txn, Family::kChunks, "", ""), (Strings{"changed=1", "kept=1"}));
}

TEST_P(MetaStoreTest, SavepointsNest) {
  MetaTxn txn(store_->Latest());
  txn.SetSavepoint();
  txn.Put(Family::kMeta, "t/a", "1");
  txn.SetSavepoint();
  txn.Put(Family::kMeta, "t/a", "2");
  txn.Put(Family::kMeta, "t/b", "2");
  txn.DropSavepoint();
  txn.SetSavepoint();
  txn.Put(Family::kMeta, "t/a", "3");
  txn.RollbackToSavepoint();
  EXPECT_EQ(txn.Get(Family::kMeta, "t/a"), "2");
  txn.RollbackToSavepoint();
  EXPECT_TRUE(txn.empty());
  EXPECT_EQ(txn.change_bytes(), 0u);
}

TEST_P(MetaStoreTest, RandomHistoryMatchesAPlainMap) {
  std::mt19937 random(20261120);
  std::map<std::string, std::string> model;
  // With a cache far smaller than what is read, so that it forgets all the time.
  MetaTxn txn(store_->Latest(), /*cache_bytes=*/4'000);
  for (int round = 0; round < 300; ++round) {
    const auto before = model;
    txn.SetSavepoint();
    for (int i = 0; i < 8; ++i) {
      const std::string key = "k" + std::to_string(random() % 60);
      if (random() % 3 == 0) {
        txn.Delete(Family::kResults, key);
        model.erase(key);
      } else {
        const std::string value = std::to_string(random());
        txn.Put(Family::kResults, key, value);
        model[key] = value;
      }
    }
    if (random() % 4 == 0) {
      txn.RollbackToSavepoint();
      model = before;
    } else {
      txn.DropSavepoint();
    }
    if (random() % 5 == 0) {
      ASSERT_TRUE(store_->Commit(&txn).ok());
    }
    for (int i = 0; i < 8; ++i) {
      const std::string key = "k" + std::to_string(random() % 60);
      const auto it = model.find(key);
      ASSERT_EQ(txn.Get(Family::kResults, key), it == model.end() ? std::nullopt : std::optional(it->second))
          << "round " << round << " " << key;
    }
    std::string lower = "k" + std::to_string(random() % 60);
    std::string upper = random() % 4 == 0 ? "" : "k" + std::to_string(random() % 60);
    Strings expected;
    for (auto it = model.lower_bound(lower); it != model.end() && (upper.empty() || it->first < upper);
         ++it) {
      expected.push_back(it->first + "=" + it->second);
    }
    ASSERT_EQ(Keys(txn, Family::kResults, lower, upper), expected)
        << "round " << round << " [" << lower << ", " << upper << ")";
  }
  EXPECT_TRUE(store_->SyncLog().ok());
  EXPECT_TRUE(txn.status().ok());
}

}  // namespace
}  // namespace cairn::master
