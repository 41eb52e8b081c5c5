// Values read from the store, and that there is none, for the transaction through which everything is
// committed (MetaTxn): a read of RocksDB costs a few microseconds, and a command reads the same few keys when
// it is previewed and when it is applied.
//
// Two generations: what is used moves to the young one; when that holds half of the bytes allowed, it becomes
// the old one, and what the old one still had is forgotten.
//
// Thread-safety: one thread at a time.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "master/store/meta_store.h"

namespace cairn::master {

class ReadCache {
 public:
  explicit ReadCache(size_t max_bytes) : max_bytes_(max_bytes) {}

  bool enabled() const { return max_bytes_ != 0; }
  // The value kept (empty: there is none in the store), valid until the next call; nullptr: not known.
  const std::optional<std::string>* Find(Family family, std::string_view key) {
    Keys& young = young_[Index(family)];
    if (const auto it = young.find(key); it != young.end()) return &it->second;
    Keys& old = old_[Index(family)];
    const auto it = old.find(key);
    if (it == old.end()) return nullptr;
    std::optional<std::string> value = std::move(it->second);
    old.erase(it);
    return &Insert(family, key, std::move(value));
  }
  void Keep(Family family, std::string_view key, std::optional<std::string> value) {
    Keys& old = old_[Index(family)];
    if (const auto it = old.find(key); it != old.end()) old.erase(it);
    Keys& young = young_[Index(family)];
    if (const auto it = young.find(key); it != young.end()) {
      young_bytes_ -= BytesOf(key, it->second);
      young.erase(it);
    }
    Insert(family, key, std::move(value));
  }
  // Of the young generation; the old one has at most as much.
  size_t young_bytes() const { return young_bytes_; }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const { return std::hash<std::string_view>{}(key); }
  };
  using Keys = std::unordered_map<std::string, std::optional<std::string>, Hash, std::equal_to<>>;

  static constexpr size_t kEntryBytes = 112;  // the map's node
  static size_t Index(Family family) { return static_cast<size_t>(family); }
  static size_t BytesOf(std::string_view key, const std::optional<std::string>& value) {
    return kEntryBytes + key.size() + (value ? value->size() : 0);
  }

  std::optional<std::string>& Insert(Family family, std::string_view key, std::optional<std::string> value) {
    if (young_bytes_ >= max_bytes_ / 2) {
      std::swap(young_, old_);
      for (Keys& keys : young_) keys.clear();
      young_bytes_ = 0;
    }
    young_bytes_ += BytesOf(key, value);
    return young_[Index(family)].emplace(std::string(key), std::move(value)).first->second;
  }

  const size_t max_bytes_;
  std::array<Keys, kFamilyCount> young_;
  std::array<Keys, kFamilyCount> old_;
  size_t young_bytes_ = 0;
};

}  // namespace cairn::master
