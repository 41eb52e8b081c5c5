#include "master/store/memory_store.h"

#include <array>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "master/store/meta_txn.h"

namespace cairn::master {
namespace {

using Keys = std::map<std::string, std::string, std::less<>>;
struct Data {
  std::array<Keys, kFamilyCount> families;
};

// Walks the map itself: of Latest() only the committing thread may iterate, which commits nothing meanwhile.
class LiveIterator final : public MetaIterator {
 public:
  LiveIterator(Keys::const_iterator it, Keys::const_iterator end) : it_(it), end_(end) {}
  bool Valid() const override { return it_ != end_; }
  void Next() override { ++it_; }
  std::string_view key() const override { return it_->first; }
  std::string_view value() const override { return it_->second; }

 private:
  Keys::const_iterator it_;
  const Keys::const_iterator end_;
};

std::unique_ptr<MetaIterator> ScanKeys(const Keys& keys, std::string_view lower, std::string_view upper) {
  if (!upper.empty() && upper <= lower) return std::make_unique<LiveIterator>(keys.end(), keys.end());
  return std::make_unique<LiveIterator>(keys.lower_bound(lower),
                                        upper.empty() ? keys.end() : keys.lower_bound(upper));
}

std::optional<std::string> GetKey(const Keys& keys, std::string_view key) {
  const auto it = keys.find(key);
  if (it == keys.end()) return std::nullopt;
  return it->second;
}

class LatestReader final : public MetaReader {
 public:
  LatestReader(const Data* data, std::shared_mutex* mu) : data_(data), mu_(mu) {}
  std::optional<std::string> Get(Family family, std::string_view key) const override {
    std::shared_lock lock(*mu_);
    return GetKey(data_->families[static_cast<size_t>(family)], key);
  }
  std::unique_ptr<MetaIterator> Scan(Family family, std::string_view lower,
                                     std::string_view upper) const override {
    std::shared_lock lock(*mu_);
    return ScanKeys(data_->families[static_cast<size_t>(family)], lower, upper);
  }
  Status status() const override { return Status::Ok(); }

 private:
  const Data* const data_;
  std::shared_mutex* const mu_;
};

class FrozenReader final : public MetaReader {
 public:
  explicit FrozenReader(Data data) : data_(std::move(data)) {}
  std::optional<std::string> Get(Family family, std::string_view key) const override {
    return GetKey(data_.families[static_cast<size_t>(family)], key);
  }
  std::unique_ptr<MetaIterator> Scan(Family family, std::string_view lower,
                                     std::string_view upper) const override {
    return ScanKeys(data_.families[static_cast<size_t>(family)], lower, upper);
  }
  Status status() const override { return Status::Ok(); }

 private:
  const Data data_;
};

class MemoryStore final : public MetaStore {
 public:
  explicit MemoryStore(Uuid cluster) : cluster_(cluster) {}

  std::unique_ptr<MetaReader> Latest() const override { return std::make_unique<LatestReader>(&data_, &mu_); }
  std::unique_ptr<MetaReader> Snapshot() const override {
    std::shared_lock lock(mu_);
    return std::make_unique<FrozenReader>(data_);
  }

  Status Commit(MetaTxn* txn) override {
    CAIRN_RETURN_IF_ERROR(txn->status());
    std::unique_lock lock(mu_);
    for (size_t i = 0; i < kFamilyCount; ++i) {
      Keys& keys = data_.families[i];
      for (const auto& [key, value] : txn->changes(static_cast<Family>(i))) {
        if (value) {
          keys.insert_or_assign(key, *value);
        } else {
          keys.erase(key);
        }
      }
    }
    txn->Committed();
    return Status::Ok();
  }

  Status SyncLog() override { return Status::Ok(); }
  Status Checkpoint(const std::string& directory) override {
    return {StatusCode::kNotSupported, "metadata in memory cannot be copied to " + directory};
  }
  Uuid cluster() const override { return cluster_; }
  uint64_t used_bytes() const override {
    std::shared_lock lock(mu_);
    uint64_t bytes = 0;
    for (const Keys& keys : data_.families) {
      for (const auto& [key, value] : keys) bytes += key.size() + value.size();
    }
    return bytes;
  }
  uint64_t free_bytes() const override { return UINT64_MAX; }

 private:
  const Uuid cluster_;
  mutable std::shared_mutex mu_;
  Data data_;  // guarded by mu_
};

}  // namespace

std::unique_ptr<MetaStore> NewMemoryStore(Uuid cluster) { return std::make_unique<MemoryStore>(cluster); }

}  // namespace cairn::master
