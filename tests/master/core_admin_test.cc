// Administration over the master's core with servers and clients in memory: drains, removal, rebalancing, the
// trash when space is short, the event log. The chunkservers decide by the real rules of replicas.
#include <gtest/gtest.h>

#include <algorithm>

#include "master/cluster/event_log.h"
#include "master/cluster/impact.h"
#include "master/cluster/rebalancer.h"
#include "master/cluster/repair_manager.h"
#include "master/core/admin.h"
#include "master/state/chunk_queries.h"
#include "master/state/events.h"
#include "master/state/queries.h"
#include "master/state/records.h"
#include "master/state/trash.h"
#include "tests/master/core_admin_fixture.h"

namespace cairn::master {
namespace {

TEST_F(CoreAdminTest, ADrainMovesEverythingCopyFirstAndSurvivesARestartOfTheMaster) {
  StartServers(4);
  auto client = h_.NewClient();
  client->Hello();
  std::vector<uint64_t> chunks;
  for (int i = 0; i < 20; ++i)
    chunks.push_back(h_.SealedFile(*client, "f" + std::to_string(i)).second.chunk());
  const size_t on_two = ListedOn(2);
  ASSERT_GT(on_two, 0u);
  EXPECT_EQ(Impact({2}).chunks(), on_two);
  EXPECT_EQ(Impact({2}).chunks_homeless(), 0u);
  ASSERT_TRUE(Change(proto::SERVER_DRAIN, 2).ok());
  h_.Advance(300);
  h_.RestartMaster();
  for (uint32_t i = 1; i <= 4; ++i) h_.StartServer(i);
  AdvanceSeconds(60);
  EXPECT_EQ(ListedOn(2), 0u);
  for (uint64_t chunk : chunks) {
    EXPECT_EQ(MembersOf(chunk), (std::vector<uint32_t>{1, 3, 4}));
    for (uint32_t server : {1u, 3u, 4u}) EXPECT_NE(h_.ReplicasOf(server)->Find(ChunkId(chunk)), nullptr);
    EXPECT_EQ(h_.ReplicasOf(2)->Find(ChunkId(chunk)), nullptr) << "the copy that was moved away is erased";
  }
  EXPECT_TRUE(HasEvent("drain.started"));
  EXPECT_TRUE(HasEvent("drain.finished"));
  // Back into service it takes new files again; while it is drained it does not.
  EXPECT_EQ(h_.core().repair().counters().misplaced, 0u);
}

TEST_F(CoreAdminTest, ADrainThatCannotGoOnIsRefusedAndSaysWhyWhenForced) {
  StartServers(3);
  auto client = h_.NewClient();
  client->Hello();
  h_.SealedFile(*client, "f");
  const proto::Impact impact = Impact({1});
  EXPECT_EQ(impact.chunks_homeless(), 1u);
  EXPECT_EQ(Refusals(proto::SERVER_DRAIN, ServerId(1), true, impact).size(), 1u);
  ASSERT_TRUE(Change(proto::SERVER_DRAIN, 1).ok());
  AdvanceSeconds(3);
  proto::ServerChunksRequest request;
  request.set_server(1);
  proto::ServerChunksResponse response;
  ExplainServerChunks(h_.core(), request, &response);
  ASSERT_EQ(response.groups_size(), 1);
  EXPECT_NE(response.groups(0).reason().find("cs1 is being drained; no other server"), std::string::npos)
      << response.groups(0).reason();
  EXPECT_NE(response.groups(0).next_attempt(), "");
  EXPECT_EQ(MembersOf(response.groups(0).example_chunk()).size(), 3u) << "no copy is given up for it";
  h_.StartServer(4);
  AdvanceSeconds(20);
  EXPECT_EQ(ListedOn(1), 0u) << "it goes on by itself when there is room";
}

TEST_F(CoreAdminTest, WhatARemovedServerHadIsReplacedAndItsDeletedChunksAreForgotten) {
  StartServers(4);
  auto client = h_.NewClient();
  client->Hello();
  std::vector<uint64_t> chunks;
  for (int i = 0; i < 12; ++i)
    chunks.push_back(h_.SealedFile(*client, "f" + std::to_string(i)).second.chunk());
  h_.StopServer(3);
  for (int i = 6; i < 12; ++i)
    ASSERT_EQ(client->Unlink(kRootInode.value(), "f" + std::to_string(i)).status().code(), 0u);
  AdvanceSeconds(10);
  const uint64_t stuck = CountersOf(h_.core().txn()).deleting;
  ASSERT_GT(stuck, 0u) << "nobody erased what cs3 has";
  EXPECT_FALSE(Refusals(proto::SERVER_REMOVE, ServerId(3), false, Impact({3})).empty());
  ASSERT_TRUE(Change(proto::SERVER_REMOVE, 3).ok());
  AdvanceSeconds(20);
  EXPECT_EQ(CountersOf(h_.core().txn()).deleting, 0u);
  EXPECT_EQ(ListedOn(3), 0u);
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(MembersOf(chunks[static_cast<size_t>(i)]), (std::vector<uint32_t>{1, 2, 4}));
  EXPECT_EQ(Change(proto::SERVER_UNDRAIN, 3).code(), StatusCode::kFailedPrecondition)
      << "removed is for good";
}

TEST_F(CoreAdminTest, MaintenanceKeepsCopiesInPlaceUntilItIsOver) {
  StartServers(4);
  auto client = h_.NewClient();
  client->Hello();
  uint64_t chunk = 0;
  uint32_t victim = 0;
  for (int i = 0; victim == 0; ++i) {
    chunk = h_.SealedFile(*client, "f" + std::to_string(i)).second.chunk();
    victim = MembersOf(chunk).front();
  }
  ASSERT_TRUE(Change(proto::SERVER_MAINTENANCE, victim, 120).ok());
  h_.StopServer(h_.IndexOf(victim));
  AdvanceSeconds(100);
  EXPECT_EQ(MembersOf(chunk).front(), victim) << "the usual grace of 30 s does not count";
  AdvanceSeconds(40);
  EXPECT_NE(MembersOf(chunk).front(), victim);
  EXPECT_TRUE(HasEvent("maintenance.over"));
}

TEST_F(CoreAdminTest, TheEventLogIsBoundedAndAStormOfOneKindDoesNotPushOutTheRest) {
  StartServers(1);
  for (int i = 0; i < 500; ++i)
    h_.core().events().Add(Severity::kWarning, "storm", "number " + std::to_string(i));
  h_.core().events().Add(Severity::kInfo, "other", "still told");
  AdvanceSeconds(15);
  size_t storm = 0;
  std::string last;
  for (const NumberedEvent& event : EventsAfter(h_.core().txn(), 0, 10'000)) {
    if (event.record.kind() != "storm") continue;
    ++storm;
    last = event.record.text();
  }
  EXPECT_EQ(storm, 21u);
  EXPECT_NE(last.find("480 more"), std::string::npos) << last;
  EXPECT_TRUE(HasEvent("other"));
  for (uint64_t i = 0; i < kMaxEvents + 50; ++i) {
    proto::LogCommand command;
    command.mutable_record_event()->mutable_event()->set_kind("filler");
    h_.core().Apply(command);
  }
  const EventRange range = EventRangeOf(h_.core().txn());
  EXPECT_EQ(range.next - range.first, kMaxEvents);
  EXPECT_EQ(EventsAfter(h_.core().txn(), 0, 1).front().number, range.first);
}

TEST_F(CoreAdminTest, TheOldestTrashIsPurgedEarlyWhenAServerRunsFull) {
  StartServers(3);
  auto client = h_.NewClient();
  client->Hello();
  proto::Request set;
  set.mutable_set_policy()->set_inode(kRootInode.value());
  *set.mutable_set_policy()->mutable_policy() = DefaultPolicy();
  set.mutable_set_policy()->mutable_policy()->set_trash_seconds(86400);
  *set.mutable_credentials() = Root();
  ASSERT_EQ(client->Call(set).status().code(), 0u);
  const uint64_t inode = h_.SealedFile(*client, "f").first;
  ASSERT_EQ(client->Unlink(kRootInode.value(), "f").status().code(), 0u);
  AdvanceSeconds(30);
  EXPECT_EQ(TrashUseOf(h_.core().txn()).inodes, 1u);
  EXPECT_TRUE(InodeExists(h_.core().txn(), InodeId(inode)));
  for (proto::DiskInfo& disk : h_.core().servers().Find(ServerId(2))->disks)
    disk.set_free_bytes(disk.reserve_bytes() + 1);
  h_.Advance(1000);
  AdvanceSeconds(1);
  // Heartbeats of the fakes may tell the old space again; one look at the full disk was enough.
  EXPECT_EQ(TrashUseOf(h_.core().txn()).inodes, 0u);
  EXPECT_TRUE(HasEvent("trash.purged-early"));
  AdvanceSeconds(10);
  EXPECT_FALSE(InodeExists(h_.core().txn(), InodeId(inode)));
  EXPECT_EQ(CountersOf(h_.core().txn()).chunks, 0u);
}

TEST_F(CoreAdminTest, ADiskShortlyAboveItsReserveGetsNoNewChunks) {
  StartServers(3);
  const ServerInfo& server = *h_.core().servers().Find(ServerId(2));
  const auto full = [&] {
    for (const PlacementServer& one : h_.core().servers().ForPlacement("")) {
      if (one.server == ServerId(2)) return one.full;
    }
    ADD_FAILURE() << "not a candidate";
    return false;
  };
  EXPECT_FALSE(full());
  for (const uint64_t above : {0, 1 << 20, 255 << 20}) {
    for (proto::DiskInfo& disk : h_.core().servers().Find(ServerId(2))->disks)
      disk.set_free_bytes(disk.reserve_bytes() + above);  // of 1 GiB
    EXPECT_TRUE(full()) << above;
    proto::StatusResponse status;
    FillStatus(h_.core(), &status);
    const auto& disk = status.servers(1).disks(0);
    EXPECT_EQ(disk.state(), "full") << above;
    EXPECT_TRUE(
        std::any_of(status.warnings().begin(), status.warnings().end(), [](const std::string& warning) {
          return warning.find("it gets no new chunks") != std::string::npos;
        }));
  }
  for (proto::DiskInfo& disk : h_.core().servers().Find(ServerId(2))->disks)
    disk.set_free_bytes(disk.reserve_bytes() + (257 << 20));
  EXPECT_FALSE(full());
  EXPECT_EQ(server.free_bytes(""), 257u << 20) << "it is space all the same";
}

// Peers of another version of the same release line (docs/operations.md, "Versions").
void AddUnknown(google::protobuf::Message* message) {
  message->GetReflection()->MutableUnknownFields(message)->AddLengthDelimited(1234, "of a later version");
}

TEST_F(CoreAdminTest, WhatALaterVersionAddsIsIgnoredOnTheWireAndKeptInTheStore) {
  h_.on_register = [](uint32_t, proto::Register* request) { AddUnknown(request); };
  StartServers(3);
  auto client = h_.NewClient();
  client->Hello();
  // A request that this master does not know is refused, and the session goes on.
  proto::Request unknown;
  AddUnknown(&unknown);
  *unknown.mutable_credentials() = Root();
  EXPECT_EQ(client->Call(unknown).status().code(), static_cast<uint32_t>(StatusCode::kNotSupported));
  proto::Request known;
  known.mutable_get_attr()->set_inode(kRootInode.value());
  AddUnknown(&known);
  *known.mutable_credentials() = Root();
  EXPECT_EQ(client->Call(known).status().code(), 0u);
  // A record that a later master wrote keeps what this one does not know.
  proto::RebalanceRecord record;
  AddUnknown(&record);
  proto::LogCommand command;
  *command.mutable_set_rebalance()->mutable_record() = record;
  ASSERT_TRUE(h_.core().Apply(command).ok());
  h_.Advance(200);
  h_.RestartMaster();
  proto::RebalanceRequest request;
  request.set_action(proto::REBALANCE_PAUSE);
  ASSERT_TRUE(h_.core().rebalancer().Change(request, 0).ok());
  const auto kept = Load<proto::RebalanceRecord>(h_.core().txn(), Family::kMeta, keys::kRebalance);
  ASSERT_TRUE(kept.has_value());
  EXPECT_EQ(kept->state(), "paused");
  EXPECT_EQ(kept->GetReflection()->GetUnknownFields(*kept).field_count(), 1);
}

TEST(RebalanceWindowTest, MayGoOverMidnight) {
  EXPECT_TRUE(InWindow("", 0));
  EXPECT_TRUE(InWindow("22:00-06:00", 23 * 60));
  EXPECT_TRUE(InWindow("22:00-06:00", 5 * 60 + 59));
  EXPECT_FALSE(InWindow("22:00-06:00", 6 * 60));
  EXPECT_TRUE(InWindow("08:30-17:00", 9 * 60));
  EXPECT_FALSE(InWindow("08:30-17:00", 8 * 60));
  EXPECT_FALSE(CheckWindow("25:00-06:00").ok());
  EXPECT_FALSE(CheckWindow("now").ok());
}

}  // namespace
}  // namespace cairn::master
