// Every place where the master syncs its log, left out one at a time: each of them must then be missed after a loss of power. The places
// are found by what calls SyncLog while the stories run, so a new one is asked the same question by itself, as long as a story gets
// there. And the same with the files of the real store, on a disk that forgets what was not synced.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <vector>

#include "master/restore.h"
#include "master/service/master_server.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/store/rocksdb_store.h"
#include "tests/master/grpc_peers.h"
#include "tests/master/power_store.h"
#include "tests/power/forgetful_disk.h"

namespace cairn::master {
namespace {

namespace fs = std::filesystem;
using power::ForgetfulDisk;

proto::Request Mkdir(const std::string& name) {
  proto::Request request;
  request.mutable_mkdir()->set_parent(kRootInode.value());
  request.mutable_mkdir()->set_name(name);
  request.mutable_mkdir()->set_mode(0755);
  return request;
}
bool Exists(const MetaReader& reader, const std::string& name) {
  return LoadDentry(reader, kRootInode, name).has_value();
}

// Each tells what is wrong after the power came back, or nothing.
using Story = std::string (*)(const std::shared_ptr<PowerDisk>& disk);

std::string FirstIds(const std::shared_ptr<PowerDisk>& disk) {
  Harness h(Harness::DefaultOptions(), OpenPowerStore(disk));
  h.publish_durable = false;
  const uint64_t before = h.NewClient()->Hello().session();
  h.LosePower(OpenPowerStore(disk));
  const uint64_t after = h.NewClient()->Hello().session();
  return after > before ? "" : "session " + std::to_string(after) + " was given out twice";
}

std::string ExhaustedIds(const std::shared_ptr<PowerDisk>& disk) {
  Harness h(Harness::DefaultOptions(), OpenPowerStore(disk));
  h.publish_durable = false;  // the disk that is slower than the cluster grows
  const auto open = [&](int count) {
    std::vector<std::shared_ptr<FakeClient>> clients;
    for (int i = 0; i < count; ++i) {
      clients.push_back(h.NewClient());
      auto message = std::make_shared<proto::ClientMessage>();
      message->mutable_hello()->set_wire_version(wire::kWireVersion);
      message->mutable_hello()->set_client_name("test");
      h.core().inbox().Push(SessionMessageEvent{clients.back(), std::move(message)});
    }
    h.Settle();
    return h.core().sessions().all().rbegin()->first.value();  // answered only when it is on disk
  };
  const auto places = [&] {
    std::lock_guard lock(disk->mu);
    return disk->places.size();
  };
  const size_t at_start = places();
  for (int i = 0; i < 200 && places() == at_start; ++i) open(32);
  EXPECT_GT(places(), at_start) << "the ids were not used up";
  uint64_t before = 0;
  for (int i = 0; i < 4; ++i) before = open(32);  // out of the new range
  h.LosePower(OpenPowerStore(disk));
  const uint64_t after = h.NewClient()->Hello().session();
  return after > before ? "" : "session " + std::to_string(after) + " was given out twice";
}

std::string LogTail(const std::shared_ptr<PowerDisk>& disk) {
  Harness h(Harness::DefaultOptions(), OpenPowerStore(disk));
  h.publish_durable = false;
  auto client = h.NewClient();
  const uint64_t opened = client->Hello().session();
  h.RestartMaster();  // a start syncs what is there
  client = h.NewClient();
  client->Hello(opened);
  EXPECT_EQ(client->Call(Mkdir("d")).status().code(), 0u);
  const uint64_t session = client->session;
  const std::vector<proto::KeptCommand> kept = client->kept;
  h.LosePower(OpenPowerStore(disk));
  auto back = h.NewClient();
  back->SendHello(session, {}, kept);
  if (!back->hello || !Exists(h.core().txn(), "d")) return "what the client brought back was not taken";
  // From now on nobody keeps it any more.
  h.LosePower(OpenPowerStore(disk));
  return Exists(h.core().txn(), "d") ? "" : "what was brought back and counted as durable is lost";
}

std::string EveryRound(const std::shared_ptr<PowerDisk>& disk) {
  CoreOptions options = Harness::DefaultOptions();
  options.metadata_sync_always = true;
  Harness h(options, OpenPowerStore(disk));
  h.publish_durable = false;
  auto client = h.NewClient();
  client->Hello();
  EXPECT_EQ(client->Call(Mkdir("d")).status().code(), 0u);
  h.LosePower(OpenPowerStore(disk));
  return Exists(h.core().txn(), "d") ? "" : "what was answered under --metadata-sync=always is lost";
}

// A master with its threads and sockets, of which a client wants a directory, synced or not.
std::string OfServer(const std::shared_ptr<PowerDisk>& disk, bool sync, bool stop) {
  MasterServerOptions options;
  options.listen = "127.0.0.1:0";
  options.core.min_free_bytes = 0;
  if (stop) options.core.metadata_sync_ms = 3'600'000;
  auto master = MasterServer::Start(options, OpenPowerStore(disk));
  EXPECT_TRUE(master.ok()) << master.status().ToString();
  if (!master.ok()) return "";
  {
    SessionPeer client((*master)->port());
    client.Hello();
    proto::Request request;
    request.mutable_sync();
    if (stop) {  // what a start asks for comes first, and is over then
      EXPECT_EQ(client.Call(Mkdir("before")).status().code(), 0u);
      EXPECT_EQ(client.Call(request).status().code(), 0u);
    }
    EXPECT_EQ(client.Call(Mkdir("d")).status().code(), 0u);
    if (sync) {
      EXPECT_EQ(client.Call(request).status().code(), 0u);
    }
  }
  auto left = std::make_shared<PowerDisk>();
  const auto keep = [&] {
    std::lock_guard lock(disk->mu);
    left->content = disk->content;
  };
  if (!stop) keep();
  (*master)->Stop();
  if (stop) keep();
  const auto store = OpenPowerStore(left);
  return Exists(*store->Latest(), "d") ? "" : "a directory is lost";
}
std::string Requested(const std::shared_ptr<PowerDisk>& disk) { return OfServer(disk, true, false); }
std::string AtTheEnd(const std::shared_ptr<PowerDisk>& disk) { return OfServer(disk, false, true); }

constexpr std::array<std::pair<const char*, Story>, 6> kStories = {{{"the first ids", FirstIds},
                                                                    {"ids used up", ExhaustedIds},
                                                                    {"the end of the log, brought back", LogTail},
                                                                    {"--metadata-sync=always", EveryRound},
                                                                    {"a sync that was asked for", Requested},
                                                                    {"a clean stop", AtTheEnd}}};

TEST(MasterPowerTest, EachSyncOfTheLogThatIsLeftOutIsMissed) {
  std::map<const void*, std::vector<std::pair<const char*, Story>>> places;
  for (const auto& [name, story] : kStories) {
    auto disk = std::make_shared<PowerDisk>();
    EXPECT_EQ(story(disk), "") << name;
    for (const void* place : disk->places) places[place].push_back({name, story});
  }
  // The first ids, used up ids, the tail, every round, the thread that syncs, the stop.
  EXPECT_GE(places.size(), 6u);
  for (const auto& [place, stories] : places) {
    std::string missed, names;
    for (const auto& [name, story] : stories) {
      names += std::string(names.empty() ? "" : ", ") + name;
      auto disk = std::make_shared<PowerDisk>();
      disk->broken = place;
      if (missed.empty()) missed = story(disk);
    }
    EXPECT_NE(missed, "") << "nothing misses a sync of the log that these stories get to: " << names;
  }
}

// With the files of the real store.
class StoreFilesTest : public ::testing::Test {
 protected:
  StoreFilesTest() {
    std::string pattern = fs::temp_directory_path() / "cairn-master-power-XXXXXX";
    root_ = mkdtemp(pattern.data());
    fs::create_directory(root_ + "/disk");
  }
  ~StoreFilesTest() override {
    disk_.reset();
    fs::remove_all(root_);
  }
  void Watch() { disk_ = std::make_unique<ForgetfulDisk>(root_ + "/disk"); }
  static Result<std::unique_ptr<MetaStore>> Open(const std::string& directory, bool create) {
    RocksdbStoreOptions options;
    options.directory = directory;
    options.create_if_missing = create;
    return OpenRocksdbStore(options);
  }
  // What is left without anything that was not synced.
  std::string Left() {
    const std::string left = root_ + "/left" + std::to_string(++cuts_);
    disk_->Cut(left, 0);
    return left;
  }

  std::string root_;
  std::unique_ptr<ForgetfulDisk> disk_;
  int cuts_ = 0;
};

struct Ignored {
  const char* what;
  bool (*path)(const std::string& path);
};
bool IsLog(const std::string& path) { return path.ends_with(".log"); }
bool IsTable(const std::string& path) { return path.ends_with(".sst"); }
bool IsParent(const std::string& path) { return path.ends_with("/disk") || path.ends_with("/above"); }

TEST_F(StoreFilesTest, ANewStoreAndWhatItWasAskedToSyncAreThere) {
  for (const auto ignored : {Ignored{"", nullptr}, Ignored{"the log", IsLog}, Ignored{"the names of new directories", IsParent}}) {
    fs::remove_all(root_ + "/disk/above");
    Watch();
    if (ignored.path != nullptr) disk_->Ignore(ignored.path);
    auto store = Open(root_ + "/disk/above/store", true);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    const Uuid cluster = (*store)->cluster();
    MetaTxn txn((*store)->Latest());
    txn.Put(Family::kMeta, "key", "value");
    ASSERT_TRUE((*store)->Commit(&txn).ok());
    ASSERT_TRUE((*store)->SyncLog().ok());
    const std::string left = Left();
    auto after = Open(left + "/above/store", false);
    const bool kept = after.ok() && (*after)->cluster() == cluster && (*after)->Latest()->Get(Family::kMeta, "key") == "value";
    EXPECT_EQ(kept, ignored.path == nullptr) << ignored.what << ": " << after.status().ToString();
    store->reset();
    disk_.reset();
  }
}

TEST_F(StoreFilesTest, ARestoredBackupIsThereWithItsIdsMovedAhead) {
  uint64_t epochs = 0;
  {
    auto store = Open(root_ + "/original", true);
    ASSERT_TRUE(store.ok());
    ManualClock clock;
    Core core({}, store->get(), &clock);
    ASSERT_TRUE(core.Start().ok());
    epochs = ReservedIds(core.txn()).epochs_below();
    ASSERT_TRUE((*store)->Checkpoint(root_ + "/backup").ok());
  }
  // The sync of the log that RestoreBackup asks for is the last one of the log.
  for (const auto ignored : {Ignored{"", nullptr}, Ignored{"the log", IsLog}, Ignored{"the files of the backup", IsTable},
                             Ignored{"the names of new directories", IsParent}}) {
    fs::remove_all(root_ + "/disk/above");
    Watch();
    if (ignored.path != nullptr) disk_->Ignore(ignored.path);
    const Status restored = RestoreBackup(root_ + "/backup", root_ + "/disk/above/store");
    ASSERT_TRUE(restored.ok()) << restored.ToString();
    const std::string left = Left();
    auto after = Open(left + "/above/store", false);
    const bool kept = after.ok() && ReservedIds(*(*after)->Latest()).epochs_below() > epochs + (1ull << 39);
    EXPECT_EQ(kept, ignored.path == nullptr) << ignored.what << ": " << after.status().ToString();
    disk_.reset();
  }
}

}  // namespace
}  // namespace cairn::master
