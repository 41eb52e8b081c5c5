#include "master/store/meta_txn.h"

#include <utility>

#include "common/check.h"

namespace cairn::master {
namespace {

size_t BytesOf(const std::optional<std::string>& change) { return change ? change->size() : 0; }

// The base with the changes of the transaction on top; where both have a key, the change wins.
class MergedIterator final : public MetaIterator {
 public:
  MergedIterator(std::unique_ptr<MetaIterator> base, MetaTxn::Changes::const_iterator change,
                 MetaTxn::Changes::const_iterator end)
      : base_(std::move(base)), change_(change), end_(end) {
    Settle();
  }

  bool Valid() const override { return change_ != end_ || base_->Valid(); }
  void Next() override {
    if (on_change_) {
      if (base_->Valid() && base_->key() == change_->first) base_->Next();
      ++change_;
    } else {
      base_->Next();
    }
    Settle();
  }
  std::string_view key() const override {
    return on_change_ ? std::string_view(change_->first) : base_->key();
  }
  std::string_view value() const override {
    return on_change_ ? std::string_view(*change_->second) : base_->value();
  }

 private:
  // Moves to the smaller of both keys, over keys that the transaction deleted.
  void Settle() {
    for (;;) {
      on_change_ = change_ != end_ && (!base_->Valid() || change_->first <= base_->key());
      if (!on_change_ || change_->second.has_value()) return;
      if (base_->Valid() && base_->key() == change_->first) base_->Next();
      ++change_;
    }
  }

  const std::unique_ptr<MetaIterator> base_;
  MetaTxn::Changes::const_iterator change_;
  const MetaTxn::Changes::const_iterator end_;
  bool on_change_ = false;
};

}  // namespace

MetaTxn::MetaTxn(std::unique_ptr<MetaReader> base, size_t cache_bytes)
    : base_(std::move(base)), cache_(cache_bytes) {
  CAIRN_CHECK(base_ != nullptr, "a transaction needs a reader to build on");
}

std::optional<std::string> MetaTxn::Get(Family family, std::string_view key) const {
  const Changes& changes = changes_[static_cast<size_t>(family)];
  if (auto it = changes.find(key); it != changes.end()) return it->second;
  if (!cache_.enabled()) return base_->Get(family, key);
  if (const std::optional<std::string>* kept = cache_.Find(family, key)) return *kept;
  std::optional<std::string> value = base_->Get(family, key);
  // After an error nothing is known about the key.
  if (value || base_->status().ok()) cache_.Keep(family, key, value);
  return value;
}

std::unique_ptr<MetaIterator> MetaTxn::Scan(Family family, std::string_view lower,
                                            std::string_view upper) const {
  const Changes& changes = changes_[static_cast<size_t>(family)];
  auto base = base_->Scan(family, lower, upper);
  if (changes.empty() || (!upper.empty() && upper <= lower)) return base;
  return std::make_unique<MergedIterator>(std::move(base), changes.lower_bound(lower),
                                          upper.empty() ? changes.end() : changes.lower_bound(upper));
}

void MetaTxn::Put(Family family, std::string_view key, std::string_view value) {
  Change(family, key, std::string(value));
}

void MetaTxn::Delete(Family family, std::string_view key) { Change(family, key, std::nullopt); }

void MetaTxn::Change(Family family, std::string_view key, std::optional<std::string> value) {
  Changes& changes = changes_[static_cast<size_t>(family)];
  auto it = changes.lower_bound(key);
  const bool was_changed = it != changes.end() && it->first == key;
  if (!was_changed) {
    it = changes.emplace_hint(it, std::string(key), std::nullopt);
    ++change_count_;
    change_bytes_ += key.size();
  }
  change_bytes_ += BytesOf(value);
  change_bytes_ -= BytesOf(it->second);
  std::swap(it->second, value);
  if (!savepoints_.empty()) undo_.push_back({family, std::string(key), was_changed, std::move(value)});
}

void MetaTxn::SetSavepoint() { savepoints_.push_back(undo_.size()); }

void MetaTxn::RollbackToSavepoint() {
  CAIRN_CHECK(!savepoints_.empty(), "no savepoint to roll back to");
  while (undo_.size() > savepoints_.back()) {
    Undo& undo = undo_.back();
    Changes& changes = changes_[static_cast<size_t>(undo.family)];
    const auto it = changes.find(undo.key);
    CAIRN_CHECK(it != changes.end(), "the change to undo is gone");
    change_bytes_ -= BytesOf(it->second);
    if (undo.was_changed) {
      change_bytes_ += BytesOf(undo.old_change);
      it->second = std::move(undo.old_change);
    } else {
      change_bytes_ -= undo.key.size();
      --change_count_;
      changes.erase(it);
    }
    undo_.pop_back();
  }
  savepoints_.pop_back();
}

void MetaTxn::DropSavepoint() {
  CAIRN_CHECK(!savepoints_.empty(), "no savepoint to drop");
  savepoints_.pop_back();
  if (savepoints_.empty()) undo_.clear();
}

void MetaTxn::Committed() {
  if (cache_.enabled()) {
    for (size_t i = 0; i < kFamilyCount; ++i) {
      for (const auto& [key, value] : changes_[i]) cache_.Keep(static_cast<Family>(i), key, value);
    }
  }
  Clear();
}

void MetaTxn::Clear() {
  for (Changes& changes : changes_) changes.clear();
  undo_.clear();
  savepoints_.clear();
  change_count_ = 0;
  change_bytes_ = 0;
}

}  // namespace cairn::master
