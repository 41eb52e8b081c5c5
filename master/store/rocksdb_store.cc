#include "master/store/rocksdb_store.h"

#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>
#include <sys/statvfs.h>

#include <atomic>
#include <filesystem>
#include <utility>

#include "master/store/meta_txn.h"
#include "master/store/rocksdb_internal.h"

namespace cairn::master::internal {
namespace {

rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view ToView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// Remembers the first I/O error of a reader and its iterators.
class StickyStatus {
 public:
  explicit StickyStatus(const std::string& directory) : directory_(directory) {}
  void Note(const rocksdb::Status& status) {
    if (status.ok() || status.IsNotFound() || !status_.ok()) return;
    status_ = ToStatus(status, "read", directory_);
  }
  const Status& status() const { return status_; }

 private:
  const std::string& directory_;
  Status status_;
};

class RocksdbIterator final : public MetaIterator {
 public:
  RocksdbIterator(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family, const rocksdb::Snapshot* snapshot,
                  std::string_view lower, std::string_view upper, std::shared_ptr<StickyStatus> sticky)
      : upper_(upper), upper_slice_(upper_), sticky_(std::move(sticky)) {
    rocksdb::ReadOptions options;
    options.snapshot = snapshot;
    // The bound also keeps the iterator from reading on through deleted keys behind it.
    if (!upper_.empty()) options.iterate_upper_bound = &upper_slice_;
    it_.reset(db->NewIterator(options, family));
    if (!upper_.empty() && upper_ <= lower) {
      empty_ = true;
      return;
    }
    it_->Seek(ToSlice(lower));
    NoteEnd();
  }

  bool Valid() const override { return !empty_ && it_->Valid(); }
  void Next() override {
    it_->Next();
    NoteEnd();
  }
  std::string_view key() const override { return ToView(it_->key()); }
  std::string_view value() const override { return ToView(it_->value()); }

 private:
  void NoteEnd() {
    if (!it_->Valid()) sticky_->Note(it_->status());
  }

  const std::string upper_;
  const rocksdb::Slice upper_slice_;
  const std::shared_ptr<StickyStatus> sticky_;
  std::unique_ptr<rocksdb::Iterator> it_;
  bool empty_ = false;
};

class RocksdbReader final : public MetaReader {
 public:
  RocksdbReader(const OpenDatabase* database, const rocksdb::Snapshot* snapshot, const std::string& directory)
      : database_(database), snapshot_(snapshot), sticky_(std::make_shared<StickyStatus>(directory)) {}
  ~RocksdbReader() override {
    if (snapshot_ != nullptr) database_->db->ReleaseSnapshot(snapshot_);
  }

  std::optional<std::string> Get(Family family, std::string_view key) const override {
    rocksdb::ReadOptions options;
    options.snapshot = snapshot_;
    rocksdb::PinnableSlice value;
    const rocksdb::Status status =
        database_->db->Get(options, database_->families[static_cast<size_t>(family)], ToSlice(key), &value);
    if (status.ok()) return std::string(value.data(), value.size());
    sticky_->Note(status);
    return std::nullopt;
  }
  std::unique_ptr<MetaIterator> Scan(Family family, std::string_view lower,
                                     std::string_view upper) const override {
    return std::make_unique<RocksdbIterator>(database_->db.get(),
                                             database_->families[static_cast<size_t>(family)], snapshot_,
                                             lower, upper, sticky_);
  }
  Status status() const override { return sticky_->status(); }

 private:
  const OpenDatabase* const database_;
  const rocksdb::Snapshot* const snapshot_;  // nullptr: the latest state
  const std::shared_ptr<StickyStatus> sticky_;
};

class RocksdbStore final : public MetaStore {
 public:
  RocksdbStore(OpenDatabase database, Uuid cluster, std::string directory)
      : directory_(std::move(directory)), cluster_(cluster), database_(std::move(database)) {}

  std::unique_ptr<MetaReader> Latest() const override {
    return std::make_unique<RocksdbReader>(&database_, nullptr, directory_);
  }
  std::unique_ptr<MetaReader> Snapshot() const override {
    return std::make_unique<RocksdbReader>(&database_, database_.db->GetSnapshot(), directory_);
  }

  Status Commit(MetaTxn* txn) override {
    CAIRN_RETURN_IF_ERROR(txn->status());
    if (txn->empty()) return Status::Ok();
    if (disk_was_full_) {
      // After a failed write RocksDB refuses everything until it is told to look again. Busy: it looks
      // already, every few seconds; the write below tells whether it found space.
      const rocksdb::Status resumed = database_.db->Resume();
      if (!resumed.ok() && !resumed.IsBusy()) return ToStatus(resumed, "resume", directory_);
    }
    rocksdb::WriteBatch batch(txn->change_bytes() + txn->change_count() * 16);
    for (size_t i = 0; i < kFamilyCount; ++i) {
      rocksdb::ColumnFamilyHandle* family = database_.families[i];
      for (const auto& [key, value] : txn->changes(static_cast<Family>(i))) {
        const rocksdb::Status added =
            value ? batch.Put(family, ToSlice(key), ToSlice(*value)) : batch.Delete(family, ToSlice(key));
        CAIRN_RETURN_IF_ERROR(ToStatus(added, "collect changes for", directory_));
      }
    }
    const rocksdb::Status written = database_.db->Write(rocksdb::WriteOptions(), &batch);
    if (!written.ok()) {
      Status status = ToStatus(written, "write to", directory_);
      disk_was_full_ = status.code() == StatusCode::kNoSpace;
      return status;
    }
    disk_was_full_ = false;
    txn->Committed();
    return Status::Ok();
  }

  Status SyncLog() override { return ToStatus(database_.db->SyncWAL(), "sync the log of", directory_); }

  Status Checkpoint(const std::string& directory) override {
    std::error_code error;
    if (std::filesystem::exists(directory, error)) {
      return {StatusCode::kAlreadyExists,
              "backup refused: " + directory + " exists already; name a new directory"};
    }
    rocksdb::Checkpoint* raw = nullptr;
    CAIRN_RETURN_IF_ERROR(
        ToStatus(rocksdb::Checkpoint::Create(database_.db.get(), &raw), "back up", directory_));
    const std::unique_ptr<rocksdb::Checkpoint> checkpoint(raw);
    return ToStatus(checkpoint->CreateCheckpoint(directory), "back up to " + directory + " from", directory_);
  }

  Uuid cluster() const override { return cluster_; }

  uint64_t used_bytes() const override {
    uint64_t total = 0;
    std::error_code error;
    for (auto it = std::filesystem::directory_iterator(directory_, error);
         !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
      std::error_code gone;  // RocksDB removes files beside us
      const uint64_t size = it->is_regular_file(gone) ? it->file_size(gone) : 0;
      if (!gone) total += size;
    }
    return total;
  }
  uint64_t free_bytes() const override {
    struct statvfs info {};
    if (::statvfs(directory_.c_str(), &info) != 0) return 0;
    return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
  }

 private:
  // Constant after construction.
  const std::string directory_;
  const Uuid cluster_;
  const OpenDatabase database_;
  // Owned by the committing thread.
  bool disk_was_full_ = false;
};

}  // namespace

std::unique_ptr<MetaStore> NewRocksdbStore(OpenDatabase database, Uuid cluster,
                                           const std::string& directory) {
  return std::make_unique<RocksdbStore>(std::move(database), cluster, directory);
}

}  // namespace cairn::master::internal
