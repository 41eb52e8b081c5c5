#include "master/restore.h"

#include <filesystem>
#include <system_error>

#include "common/clock.h"
#include "common/durable_files.h"
#include "master/core/log_tail.h"
#include "master/state/chunk_queries.h"
#include "master/state/state_machine.h"
#include "master/store/meta_txn.h"
#include "master/store/rocksdb_store.h"

namespace cairn::master {
namespace {

// More than any cluster uses up between two backups.
constexpr uint64_t kIdJump = 1ull << 40;

Status MoveIdsAhead(MetaStore* store) {
  MetaTxn txn(store->Latest());
  if (!IsInitialized(txn)) return Status(StatusCode::kFailedPrecondition, "the backup holds no file system");
  const proto::IdLimits limits = ReservedIds(txn);
  proto::LogCommand command;
  const int64_t wall = SystemClock::Get()->WallNanos();
  command.mutable_now()->set_seconds(wall / kNanosPerSecond);
  command.mutable_now()->set_nanos(static_cast<uint32_t>(wall % kNanosPerSecond));
  auto* reserve = command.mutable_reserve_ids();
  reserve->set_inodes_below(limits.inodes_below() + kIdJump);
  reserve->set_chunks_below(limits.chunks_below() + kIdJump);
  reserve->set_epochs_below(limits.epochs_below() + kIdJump);
  reserve->set_sessions_below(limits.sessions_below() + kIdJump);
  const uint64_t index = AppliedIndex(txn) + 1;
  const ApplyResult result = StateMachine().Apply(command, index, &txn);
  if (!result.ok())
    return Status(StatusCode::kCorrupt,
                  "the backup refuses new id ranges: " + result.reply.status().message());
  SetAppliedIndex(index, &txn);
  txn.Delete(Family::kMeta, kTailBootKey);
  CAIRN_RETURN_IF_ERROR(store->Commit(&txn));
  return store->SyncLog();
}

}  // namespace

Status RestoreBackup(const std::string& backup, const std::string& store_directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(backup, error)) {
    return Status(StatusCode::kNotFound, "the backup " + backup + " is not a directory");
  }
  if (fs::exists(store_directory, error) && !fs::is_empty(store_directory, error)) {
    return Status(StatusCode::kFailedPrecondition,
                  store_directory + " is not empty; a backup is restored into an empty data directory only");
  }
  CAIRN_RETURN_IF_ERROR(MakeDirectoriesDurably(store_directory));
  fs::copy(backup, store_directory, fs::copy_options::recursive, error);
  if (error)
    return Status(StatusCode::kIoError, "copy " + backup + " to " + store_directory + ": " + error.message());
  // RocksDB syncs what it writes, and takes what it finds for synced.
  CAIRN_RETURN_IF_ERROR(SyncTree(store_directory));

  RocksdbStoreOptions options;
  options.directory = store_directory;
  options.create_if_missing = false;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<MetaStore> store, OpenRocksdbStore(options));
  return MoveIdsAhead(store.get());
}

}  // namespace cairn::master
