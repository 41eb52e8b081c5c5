// What administrators say of servers and disks: names and places, disks that are left out, drained and forgotten, log levels.
#include <algorithm>
#include <optional>
#include <set>

#include "tests/master/core_admin_fixture.h"

namespace cairn::master {
namespace {

class TopologyTest : public CoreAdminTest {
 protected:
  Status Set(uint32_t server, std::optional<std::string> name, std::optional<std::string> zone,
             std::optional<std::string> rack) {
    proto::SetServerRequest request;
    request.set_server(server);
    if (name) request.set_name(*name);
    if (zone) request.set_zone(*zone);
    if (rack) request.set_rack(*rack);
    return FromProto(SetServer(h_.core(), request).status());
  }
  proto::ChangeDiskResponse Disk(proto::DiskAction action, const std::string& uuid, bool preview = false) {
    proto::ChangeDiskRequest request;
    request.set_action(action);
    request.set_disk_uuid(uuid);
    request.set_preview(preview);
    return ChangeDisk(h_.core(), request);
  }
  const ServerInfo& Server(uint32_t server) { return *h_.core().servers().Find(ServerId(server)); }
  std::string DiskState(uint32_t server, int disk) {
    proto::StatusResponse status;
    FillStatus(h_.core(), &status);
    for (const auto& one : status.servers()) {
      if (one.server() == server && disk < one.disks_size()) return one.disks(disk).state();
    }
    return "none";
  }
};

TEST_F(TopologyTest, AServerThatMovesToAnotherRackOnTheMastersWordLeavesNoTwoCopiesThere) {
  h_.on_register = [](uint32_t index, proto::Register* request) { request->set_rack("r" + std::to_string(index)); };
  StartServers(4);
  auto client = h_.NewClient();
  client->Hello();
  proto::Request set;
  set.mutable_set_policy()->set_inode(kRootInode.value());
  *set.mutable_set_policy()->mutable_policy() = DefaultPolicy();
  set.mutable_set_policy()->mutable_policy()->set_failure_domain("rack");
  *set.mutable_credentials() = Root();
  ASSERT_EQ(client->Call(set).status().code(), 0u);
  std::vector<uint64_t> chunks;
  for (int i = 0; i < 20; ++i) chunks.push_back(h_.SealedFile(*client, "f" + std::to_string(i)).second.chunk());
  ASSERT_TRUE(Set(2, "store-2", std::nullopt, "r1").ok());
  AdvanceSeconds(60);
  const auto both = [&] {
    return std::count_if(chunks.begin(), chunks.end(), [&](uint64_t chunk) {
      const auto members = MembersOf(chunk);
      return std::count(members.begin(), members.end(), 1u) + std::count(members.begin(), members.end(), 2u) == 2;
    });
  };
  EXPECT_EQ(both(), 0);
  for (uint64_t chunk : chunks) EXPECT_EQ(MembersOf(chunk).size(), 3u);
  // It holds although the server says otherwise, over restarts of both.
  h_.RestartMaster();
  for (uint32_t i = 1; i <= 4; ++i) h_.StartServer(i);
  EXPECT_EQ(Server(2).rack, "r1");
  EXPECT_EQ(Server(2).own_rack, "r2");
  EXPECT_EQ(Server(2).name, "store-2");
  ASSERT_TRUE(Set(2, "", std::nullopt, "").ok());
  EXPECT_EQ(Server(2).rack, "r2");
  EXPECT_EQ(Server(2).name, "");
}

TEST_F(TopologyTest, ChunksOfAScatterWidthShareFewSetsAlsoAfterARepair) {
  StartServers(9);
  auto client = h_.NewClient();
  client->Hello();
  proto::Request set;
  set.mutable_set_policy()->set_inode(kRootInode.value());
  *set.mutable_set_policy()->mutable_policy() = DefaultPolicy();
  set.mutable_set_policy()->mutable_policy()->set_scatter_width(4);
  *set.mutable_credentials() = Root();
  ASSERT_EQ(client->Call(set).status().code(), 0u);
  std::vector<uint64_t> chunks;
  for (int i = 0; i < 60; ++i) chunks.push_back(h_.SealedFile(*client, "f" + std::to_string(i)).second.chunk());
  const auto sets = [&] {
    std::set<std::vector<uint32_t>> all;
    for (uint64_t chunk : chunks) {
      auto members = MembersOf(chunk);
      std::sort(members.begin(), members.end());
      all.insert({members.begin(), members.end()});
    }
    return all;
  };
  EXPECT_LE(sets().size(), 6u) << "of 84";
  h_.StopServer(9);
  AdvanceSeconds(120);
  for (const auto& members : sets()) EXPECT_EQ(std::count(members.begin(), members.end(), 9u), 0);
  EXPECT_LE(sets().size(), 8u) << "what the lost server shared with two others stays in one set each";
}

TEST_F(TopologyTest, NamesAreUniqueAndNoNumbers) {
  StartServers(2);
  EXPECT_TRUE(Set(1, "alpha", {}, {}).ok());
  EXPECT_TRUE(Set(1, "alpha", {}, {}).ok()) << "its own name again";
  EXPECT_EQ(Set(2, "alpha", {}, {}).code(), StatusCode::kAlreadyExists);
  for (const char* bad : {"cs1", "12", "a,b", "rack:B", "a b"})
    EXPECT_EQ(Set(2, bad, {}, {}).code(), StatusCode::kInvalidArgument) << bad;
  EXPECT_EQ(Set(2, {}, "west,east", {}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Set(9, "x", {}, {}).code(), StatusCode::kNotFound);
  ASSERT_TRUE(Change(proto::SERVER_REMOVE, 1).ok());
  EXPECT_TRUE(Set(2, "alpha", {}, {}).ok()) << "a removed server needs no name";
}

TEST_F(TopologyTest, ADiskThatIsLeftOutIsNoticedDistrustedOnceAndForgottenOnDemand) {
  bool two = true;
  h_.on_register = [&two](uint32_t index, proto::Register* request) {
    if (index != 1 || !two) return;
    proto::DiskInfo* disk = request->add_disks();
    *disk = request->disks(0);
    disk->set_disk_uuid("second");
    disk->set_path("/disk2");
  };
  StartServers(3);
  EXPECT_EQ(h_.server(1).register_reply.missing_disks_size(), 0);
  two = false;
  h_.StopServer(1);
  h_.StartServer(1);
  ASSERT_EQ(h_.server(1).register_reply.missing_disks_size(), 1);
  EXPECT_EQ(h_.server(1).register_reply.missing_disks(0), "second");
  EXPECT_GT(h_.server(1).register_reply.epoch_floor(), 0u);
  EXPECT_TRUE(HasEvent("disk.missing"));
  EXPECT_EQ(DiskState(1, 1), "missing");
  AdvanceSeconds(2);  // its heartbeat says that it took the floor
  h_.RestartMaster();
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  EXPECT_EQ(h_.server(1).register_reply.missing_disks_size(), 0) << "once is enough";
  EXPECT_EQ(h_.server(1).register_reply.epoch_floor(), 0u);
  EXPECT_EQ(DiskState(1, 1), "missing") << "but it is still said";
  EXPECT_NE(Disk(proto::DISK_FORGET, Uuid{2, 1}.ToString()).status().code(), 0u) << "that one is there";
  EXPECT_EQ(Disk(proto::DISK_FORGET, "second").status().code(), 0u);
  EXPECT_EQ(DiskState(1, 1), "none");
  EXPECT_NE(Disk(proto::DISK_FORGET, "second").status().code(), 0u);
}

TEST_F(TopologyTest, AServerOfAnOlderVersionIsToldOfTheMissingDiskUntilItKnowsWhatThatMeans) {
  bool two = true;
  h_.on_register = [&two](uint32_t index, proto::Register* request) {
    if (index != 1 || !two) return;
    *request->add_disks() = request->disks(0);
    request->mutable_disks(1)->set_disk_uuid("second");
    request->mutable_disks(1)->set_path("/disk2");
  };
  StartServers(3);
  two = false;
  h_.servers_know_missing_disks = false;
  h_.StopServer(1);
  h_.StartServer(1);
  const auto unsettled = [&] {
    const auto& roster = Server(1).roster;
    return std::any_of(roster.begin(), roster.end(),
                       [](const proto::DiskRecord& disk) { return disk.missing() && !disk.absence_settled(); });
  };
  AdvanceSeconds(5);
  ASSERT_TRUE(unsettled()) << "heartbeats alone prove nothing";
  const auto forgotten = Disk(proto::DISK_FORGET, "second").status();
  EXPECT_EQ(forgotten.code(), static_cast<uint32_t>(StatusCode::kFailedPrecondition));
  EXPECT_NE(forgotten.message().find("cannot be forgotten yet"), std::string::npos) << forgotten.message();
  h_.servers_know_missing_disks = true;
  h_.StopServer(1);
  h_.StartServer(1);  // upgraded
  EXPECT_EQ(h_.server(1).register_reply.missing_disks_size(), 1) << "it is told again";
  AdvanceSeconds(2);
  EXPECT_FALSE(unsettled());
  EXPECT_EQ(Disk(proto::DISK_FORGET, "second").status().code(), 0u);
}

TEST_F(TopologyTest, ADiskIsDrainedOnlyWhereThereIsAnotherOne) {
  h_.on_register = [](uint32_t index, proto::Register* request) {
    if (index != 1) return;
    proto::DiskInfo* disk = request->add_disks();
    *disk = request->disks(0);
    disk->set_disk_uuid("second");
    disk->set_path("/disk2");
    request->mutable_disks(0)->set_used_bytes(1ull << 40);
  };
  StartServers(2);
  const std::string first = Uuid{2, 1}.ToString();
  const auto single = Disk(proto::DISK_DRAIN, Uuid{2, 2}.ToString());
  EXPECT_NE(single.status().message().find("no other working disk"), std::string::npos) << single.status().message();
  const auto full = Disk(proto::DISK_DRAIN, first, true);
  ASSERT_EQ(full.refusals_size(), 1);
  EXPECT_EQ(Disk(proto::DISK_DRAIN, first).status().code(), static_cast<uint32_t>(StatusCode::kFailedPrecondition));
  ASSERT_EQ(Disk(proto::DISK_DRAIN, "second").status().code(), 0u);
  AdvanceSeconds(2);
  EXPECT_EQ(h_.server(1).draining, std::vector<std::string>{"second"}) << "the server hears of it";
  // The other disk could now go nowhere.
  EXPECT_NE(Disk(proto::DISK_DRAIN, "second").status().code(), static_cast<uint32_t>(StatusCode::kNotFound));
  ASSERT_EQ(Disk(proto::DISK_UNDRAIN, "second").status().code(), 0u);
  AdvanceSeconds(2);
  EXPECT_TRUE(h_.server(1).draining.empty());
  EXPECT_NE(Disk(proto::DISK_UNDRAIN, "second").status().code(), 0u);
}

TEST_F(TopologyTest, LogLevelsReachTheServersThatAreNamed) {
  StartServers(3);
  proto::LogLevelRequest request;
  request.set_level("debug");
  request.add_servers(2);
  EXPECT_EQ(ChangeLogLevel(h_.core(), request).status().code(), 0u);
  h_.Settle();
  EXPECT_EQ(h_.server(h_.IndexOf(2)).log_level, "debug");
  EXPECT_EQ(h_.server(h_.IndexOf(1)).log_level, "");
  request.set_level("loud");
  EXPECT_EQ(ChangeLogLevel(h_.core(), request).status().code(), static_cast<uint32_t>(StatusCode::kInvalidArgument));
  request.set_level("info");
  request.add_servers(9);
  EXPECT_EQ(ChangeLogLevel(h_.core(), request).status().code(), static_cast<uint32_t>(StatusCode::kNotFound));
}

}  // namespace
}  // namespace cairn::master
