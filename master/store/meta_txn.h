// Changes on top of a reader, with read-your-writes: Get and Scan see the base with the changes merged in.
// Savepoints nest; rolling back to one undoes every change since it was set, so that a command that failed
// leaves no trace. Thread-safety: one thread at a time. An iterator is invalidated by any change of the
// transaction.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "master/store/meta_store.h"
#include "master/store/read_cache.h"

namespace cairn::master {

class MetaTxn final : public MetaReader {
 public:
  // nullopt: the key is deleted.
  using Changes = std::map<std::string, std::optional<std::string>, std::less<>>;

  // cache_bytes: of keys and values of the base that are kept, also from one commit to the next; only for the
  // one transaction through which everything is committed, because what others commit would not be seen. 0:
  // nothing is kept.
  explicit MetaTxn(std::unique_ptr<MetaReader> base, size_t cache_bytes = 0);
  MetaTxn(const MetaTxn&) = delete;
  MetaTxn& operator=(const MetaTxn&) = delete;

  std::optional<std::string> Get(Family family, std::string_view key) const override;
  std::unique_ptr<MetaIterator> Scan(Family family, std::string_view lower,
                                     std::string_view upper) const override;
  Status status() const override { return base_->status(); }

  void Put(Family family, std::string_view key, std::string_view value);
  void Delete(Family family, std::string_view key);

  void SetSavepoint();
  // Undoes what was done since the newest savepoint, and removes it. Precondition: there is one.
  void RollbackToSavepoint();
  // Keeps what was done since the newest savepoint, and removes it. Precondition: there is one.
  void DropSavepoint();

  // Forgets all changes and savepoints.
  void Clear();
  // As Clear: the store has made the changes part of the base.
  void Committed();
  bool empty() const { return change_count_ == 0; }
  size_t change_count() const { return change_count_; }  // keys changed
  size_t change_bytes() const { return change_bytes_; }  // of keys and values, roughly
  const Changes& changes(Family family) const { return changes_[static_cast<size_t>(family)]; }

 private:
  struct Undo {
    Family family;
    std::string key;
    bool was_changed;                       // false: the key was not in changes_ before
    std::optional<std::string> old_change;  // its former entry there
  };
  void Change(Family family, std::string_view key, std::optional<std::string> value);

  const std::unique_ptr<MetaReader> base_;
  mutable ReadCache cache_;
  std::array<Changes, kFamilyCount> changes_;
  std::vector<Undo> undo_;
  std::vector<size_t> savepoints_;  // sizes of undo_
  size_t change_count_ = 0;
  size_t change_bytes_ = 0;
};

}  // namespace cairn::master
