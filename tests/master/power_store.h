// A metadata store in memory whose "disk" is what it held at its last SyncLog. The places from which SyncLog is called are told apart
// by their return addresses, so that each of them can be left out.
//
//   auto disk = std::make_shared<PowerDisk>();
//   OpenPowerStore(disk)            // what is on it; a new cluster if nothing is
//
// Thread-safety: as MetaStore; the disk is looked at while no store uses it.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "master/store/memory_store.h"
#include "master/store/meta_txn.h"

namespace cairn::master {

struct PowerDisk {
  const void* broken = nullptr;  // the place that is left out
  std::mutex mu;
  std::set<const void*> places;                                   // guarded by mu
  std::map<std::pair<Family, std::string>, std::string> content;  // guarded by mu
};

class PowerStore final : public MetaStore {
 public:
  PowerStore(std::unique_ptr<MetaStore> memory, std::shared_ptr<PowerDisk> disk)
      : memory_(std::move(memory)), disk_(std::move(disk)) {}
  std::unique_ptr<MetaReader> Latest() const override { return memory_->Latest(); }
  std::unique_ptr<MetaReader> Snapshot() const override { return memory_->Snapshot(); }
  Status Commit(MetaTxn* txn) override { return memory_->Commit(txn); }
  Status SyncLog() override {
    const void* const place = __builtin_return_address(0);
    std::lock_guard lock(disk_->mu);
    disk_->places.insert(place);
    if (place == disk_->broken) return Status::Ok();
    const std::unique_ptr<MetaReader> now = memory_->Snapshot();
    disk_->content.clear();
    for (size_t family = 0; family < kFamilyCount; ++family) {
      for (auto it = now->Scan(Family(family), "", ""); it->Valid(); it->Next())
        disk_->content[{Family(family), std::string(it->key())}] = std::string(it->value());
    }
    return Status::Ok();
  }
  Status Checkpoint(const std::string& directory) override { return memory_->Checkpoint(directory); }
  Uuid cluster() const override { return memory_->cluster(); }
  uint64_t used_bytes() const override { return memory_->used_bytes(); }
  uint64_t free_bytes() const override { return memory_->free_bytes(); }

 private:
  const std::unique_ptr<MetaStore> memory_;
  const std::shared_ptr<PowerDisk> disk_;
};

inline std::unique_ptr<MetaStore> OpenPowerStore(const std::shared_ptr<PowerDisk>& disk) {
  std::unique_ptr<MetaStore> memory = NewMemoryStore(Uuid{7, 7});
  MetaTxn txn(memory->Latest());
  for (const auto& [key, value] : disk->content) txn.Put(key.first, key.second, value);
  CAIRN_CHECK(memory->Commit(&txn).ok());
  return std::make_unique<PowerStore>(std::move(memory), disk);
}

}  // namespace cairn::master
