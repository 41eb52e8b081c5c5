#include "tests/sim/service/master_node.h"

#include <utility>

#include "master/store/meta_txn.h"

namespace cairn::sim::service {

using master::Core;
using master::Family;

void ForgetfulStore::Write(const std::vector<Change>& changes, master::MetaStore* store) {
  master::MetaTxn txn(store->Latest());
  for (const Change& change : changes) {
    if (change.value) {
      txn.Put(change.family, change.key, *change.value);
    } else {
      txn.Delete(change.family, change.key);
    }
  }
  CAIRN_CHECK(store->Commit(&txn).ok());
}

Status ForgetfulStore::Commit(master::MetaTxn* txn) {
  std::vector<Change> changes;
  for (size_t i = 0; i < master::kFamilyCount; ++i) {
    for (const auto& [key, value] : txn->changes(static_cast<Family>(i)))
      changes.push_back({static_cast<Family>(i), key, value});
  }
  CAIRN_RETURN_IF_ERROR(live_->Commit(txn));
  unsynced_.push_back(std::move(changes));
  return Status::Ok();
}

void ForgetfulStore::Sync(size_t commits) {
  for (; synced_ < commits; ++synced_) {
    Write(unsynced_.front(), disk_.get());
    unsynced_.pop_front();
  }
}

Status ForgetfulStore::SyncLog() {
  Sync(committed());
  return Status::Ok();
}

void ForgetfulStore::LosePower(size_t more) {
  Sync(synced_ + more);
  unsynced_.clear();
  std::vector<Change> all;
  const std::unique_ptr<master::MetaReader> disk = disk_->Latest();
  for (size_t i = 0; i < master::kFamilyCount; ++i) {
    for (auto it = disk->Scan(static_cast<Family>(i), "", ""); it->Valid(); it->Next())
      all.push_back({static_cast<Family>(i), std::string(it->key()), std::string(it->value())});
  }
  live_ = master::NewMemoryStore(disk_->cluster());
  Write(all, live_.get());
}

MasterNode::MasterNode(World* world, const Clock* clock, master::CoreOptions options)
    : world_(*world), clock_(clock), options_(std::move(options)), store_(Uuid{7, 7}) {}

void MasterNode::Boot() {
  world_.Start(kMaster);
  master::CoreOptions options = options_;
  options.boot_id = std::to_string(boot_);
  core_ = std::make_unique<Core>(options, &store_, clock_);
  core_->SetSyncRequest([this] { StartSync(); });
  if (!core_->Start().ok()) return world_.Fail("the master did not start");
  round_due_ = syncing_ = sync_again_ = false;
  TickForever(world_.Incarnation(kMaster));
}

void MasterNode::CrashProcess() {
  world_.Trace("master crashes");
  world_.Crash(kMaster);
  core_.reset();
}

bool MasterNode::LosePower() {
  CrashProcess();
  const size_t lost = store_.unsynced();
  const size_t kept = lost == 0 || world_.Chance(500) ? 0 : world_.Random(lost + 1);
  if (kept < lost) world_.Mark("the end of the master's log was lost");
  world_.Trace("master loses power, and " + std::to_string(lost - kept) + " commits");
  store_.LosePower(kept);
  ++boot_;
  return kept < lost;
}

void MasterNode::Push(master::Event event) {
  if (core_ == nullptr) return;
  core_->inbox().Push(std::move(event));
  if (std::exchange(round_due_, true)) return;
  world_.AfterOn(kMaster, 0, [this] { Round(); });
}

void MasterNode::Round() {
  round_due_ = false;
  const Status status = core_->RunOnce(0);
  if (!status.ok()) world_.Fail("the master's core stopped: " + status.ToString());
  if (core_->committed_index() > core_->durable_index()) StartSync();
}

void MasterNode::TickForever(uint64_t incarnation) {
  if (core_->NextWakeup() <= clock_->NowNanos() || !core_->inbox().empty()) Round();
  world_.AfterOn(kMaster, 20, [this, incarnation] { TickForever(incarnation); });
}

// Soon if somebody waits, at the latest after 50 ms; one at a time.
void MasterNode::StartSync() {
  sync_again_ = true;
  if (std::exchange(syncing_, true)) return;
  sync_again_ = false;
  world_.AfterOn(kMaster, 1 + static_cast<int64_t>(world_.Random(50)), [this] {
    const size_t commits = store_.committed();
    const uint64_t index = core_->committed_index();
    const int64_t stall = std::max<int64_t>(stalled_until_ - world_.now(), 0);
    world_.AfterOn(kMaster, stall + 1 + static_cast<int64_t>(world_.Random(10)), [this, commits, index] {
      store_.Sync(commits);
      core_->PublishDurable(index);
      syncing_ = false;
      if (sync_again_) StartSync();
      Round();
    });
  });
}

}  // namespace cairn::sim::service
