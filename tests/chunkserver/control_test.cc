// The control stream against a master that only listens: registration, reports, heartbeats, commands.
#include <gtest/gtest.h>

#include <thread>

#include "tests/chunkserver/fake_master.h"
#include "tests/chunkserver/test_server.h"

namespace cairn::chunkserver {
namespace {

constexpr ServerId kFirst{1};
constexpr ChunkId kChunk{42};

void WriteTo(DiskSet& disks, ChunkId chunk, Stamp stamp, size_t bytes) {
  const auto data = Pattern(bytes, chunk.value());
  replication::ReplicaInfo info;
  const Status status = disks.Mutate(WriteRequest(chunk, stamp, Stamp{}, 0, data), data, &info);
  ASSERT_TRUE(status.ok()) << status.ToString();
}

class ControlTest : public testing::Test {
 protected:
  FakeMaster& master() {
    if (!master_) {
      options_.cluster = kTestCluster;
      master_ = std::make_unique<FakeMaster>(options_);
    }
    return *master_;
  }
  void StartServer(size_t disks = 1) {
    auto prepared = server_.MemoryDisksFor(disks);
    if (prepare_) prepare_();
    server_.Start(TestChunkServer::Options(master().address()), std::move(prepared));
  }
  static proto::ChunkCommand On(ChunkId chunk) {
    proto::ChunkCommand command;
    command.set_chunk(chunk.value());
    return command;
  }
  static StatusCode CodeOf(const proto::ChunkResult& result) {
    return static_cast<StatusCode>(result.status().code());
  }

  FakeMaster::Options options_;
  std::unique_ptr<FakeMaster> master_;
  std::function<void()> prepare_;
  TestChunkServer server_;
};

TEST_F(ControlTest, AFreshServerJoinsAndRemembersIt) {
  StartServer(2);
  const proto::Register request = master().WaitForRegistration();
  EXPECT_EQ(request.cluster_id(), "");
  EXPECT_EQ(request.server(), 0u);
  EXPECT_EQ(request.server_uuid().size(), 32u);
  EXPECT_EQ(request.data_address(), server_.server->data_address());
  EXPECT_EQ(request.zone(), "z1");
  EXPECT_EQ(request.rack(), "r1");
  ASSERT_EQ(request.disks_size(), 2);
  EXPECT_EQ(request.disks(1).path(), "/disk1");
  EXPECT_EQ(request.disks(1).file_system_id(), "fs");
  EXPECT_GT(request.disks(1).total_bytes(), 0u);
  master().WaitForReport(kFirst);
  for (MemoryStore* store : server_.stores) {
    EXPECT_EQ(store->identity().cluster, kTestCluster);
    EXPECT_EQ(store->identity().server, kFirst);
    EXPECT_EQ(store->identity().server_uuid.ToString(), request.server_uuid());
  }
  // From now on the data plane serves the cluster.
  Caller caller({kFirst, server_.server->data_address()});
  EXPECT_TRUE(caller.Query({{kChunk}}).ok());
}

TEST_F(ControlTest, EveryReplicaIsReported) {
  prepare_ = [&] {
    for (uint64_t i = 1; i <= 2500; ++i) {
      replication::ReplicaInfo info;
      ASSERT_TRUE(server_.stores[i % 2]->Fence(ChunkId{i}, Epoch{i + 100}, &info).ok());
    }
  };
  StartServer(2);
  const auto report = master().WaitForReport(kFirst);
  ASSERT_EQ(report.size(), 2500u);
  std::map<uint64_t, uint64_t> promised;
  for (const auto& replica : report) promised[replica.chunk()] = replica.promised();
  EXPECT_EQ(promised.size(), 2500u);
  EXPECT_EQ(promised[1234], 1334u);
}

TEST_F(ControlTest, HeartbeatsTellSpaceAndFailures) {
  StartServer(2);
  master().WaitForHeartbeat(kFirst);
  WriteTo(server_.server->disks(), kChunk, {Epoch{5}, 1}, 5000);
  proto::Heartbeat heartbeat;
  size_t number = 1;
  do {
    heartbeat = master().WaitForHeartbeat(kFirst, ++number);
  } while (heartbeat.disks(0).chunks() + heartbeat.disks(1).chunks() != 1);
  server_.stores[1]->Fail("worn out");
  do {
    heartbeat = master().WaitForHeartbeat(kFirst, ++number);
  } while (!heartbeat.disks(1).failed());
  ASSERT_EQ(heartbeat.disks_size(), 2);
  EXPECT_FALSE(heartbeat.disks(0).failed());
  EXPECT_NE(heartbeat.disks(1).problem().find("worn out"), std::string::npos);
  EXPECT_LE(heartbeat.load(), 1000u);
  EXPECT_GT(heartbeat.wall_nanos(), 0);
  EXPECT_EQ(heartbeat.number(), number);
}

TEST_F(ControlTest, AMasterOfAnotherClusterIsRefusedForGood) {
  prepare_ = [&] { ASSERT_TRUE(server_.stores[0]->SetIdentity(Uuid{8, 8}, Uuid{1, 1}, ServerId{3}).ok()); };
  StartServer();
  const Status why = server_.refused.get_future().get();
  EXPECT_EQ(why.code(), StatusCode::kWrongCluster);
  EXPECT_NE(why.message().find(kTestCluster.ToString()), std::string::npos) << why.ToString();
  EXPECT_NE(why.message().find((Uuid{8, 8}).ToString()), std::string::npos) << why.ToString();
  EXPECT_EQ(server_.stores[0]->identity().cluster, (Uuid{8, 8}));
}

TEST_F(ControlTest, ARefusalOfTheMasterIsPassedOn) {
  options_.refuse = Status(StatusCode::kVersionMismatch, "too old");
  StartServer();
  const Status why = server_.refused.get_future().get();
  EXPECT_EQ(why.code(), StatusCode::kVersionMismatch);
  EXPECT_NE(why.message().find("too old"), std::string::npos) << why.ToString();
}

TEST_F(ControlTest, AMasterThatIsBusyIsAskedAgain) {
  options_.refuse = Status(StatusCode::kAlreadyExists, "connected already");
  StartServer();
  master().WaitForRegistration(4);
  EXPECT_EQ(server_.refusals, 0);
}

TEST_F(ControlTest, TheServerComesBackToARestartedMasterAndServesMeanwhile) {
  StartServer();
  WriteTo(server_.server->disks(), kChunk, {Epoch{5}, 1}, 5000);
  master().WaitForReport(kFirst);
  options_.port = master().port();
  Caller caller({kFirst, server_.server->data_address()});
  master_.reset();
  EXPECT_TRUE(caller.Read({kChunk, {Epoch{5}, 1}, true, 0, 5000})->first.status.ok());
  const proto::Register again = master().WaitForRegistration();
  EXPECT_EQ(again.cluster_id(), kTestCluster.ToString());
  EXPECT_EQ(again.server(), kFirst.value());
  const auto report = master().WaitForReport(kFirst);
  ASSERT_EQ(report.size(), 1u);
  EXPECT_EQ(report[0].chunk(), kChunk.value());
  EXPECT_EQ(report[0].length(), 5000u);
}

TEST_F(ControlTest, AMasterThatFallsSilentIsLeft) {
  options_.answer_heartbeats = false;
  auto disks = server_.MemoryDisksFor(1);
  ServerOptions options = TestChunkServer::Options(master().address());
  options.control.silence_ms = 100;
  server_.Start(options, std::move(disks));
  master().WaitForRegistration(3);
}

TEST_F(ControlTest, AnAmnesicDiskGetsTheFloor) {
  options_.epoch_floor = 1000;
  prepare_ = [&] { ASSERT_TRUE(server_.stores[1]->SetAmnesic().ok()); };
  StartServer(2);
  EXPECT_TRUE(master().WaitForRegistration().disks(1).amnesic());
  master().WaitForReport(kFirst);
  EXPECT_EQ(server_.stores[0]->floor(), Epoch{});
  EXPECT_EQ(server_.stores[1]->floor(), Epoch{1000});
  EXPECT_FALSE(server_.stores[1]->amnesic());
}

TEST_F(ControlTest, AServerThatMissesADiskDoubtsAllOfThemAndSaysSo) {
  options_.epoch_floor = 1000;
  options_.missing_disks = {"0123456789abcdef0123456789abcdef"};
  StartServer(2);
  EXPECT_TRUE(master().WaitForHeartbeat(kFirst).missing_disks_taken());
  for (const MemoryStore* store : server_.stores) {
    EXPECT_EQ(store->floor(), Epoch{1000}) << "what is absent may have promised anything below";
    EXPECT_FALSE(store->amnesic()) << "the master knows now";
  }
  replication::ReplicaInfo info;
  EXPECT_EQ(server_.server->disks().Begin(kChunk, Epoch{999}, {}, &info).code(), StatusCode::kFenced);
}

TEST_F(ControlTest, WithoutAMissingDiskNothingIsSaidOfOne) {
  StartServer(2);
  EXPECT_FALSE(master().WaitForHeartbeat(kFirst).missing_disks_taken());
  EXPECT_EQ(server_.stores[0]->floor(), Epoch{});
}

TEST_F(ControlTest, AServerThatJoinedBeforePromisesNothingForAbsentChunksBeforeTheMasterAnswers) {
  options_.refuse = Status(StatusCode::kUnavailable, "not now");
  prepare_ = [&] {
    ASSERT_TRUE(server_.stores[0]->SetIdentity(kTestCluster, Uuid{1, 2}, kFirst).ok());
    replication::ReplicaInfo info;
    ASSERT_TRUE(server_.stores[0]->Begin(ChunkId{1}, Epoch{5}, {}, &info).ok());
  };
  StartServer();
  master().WaitForRegistration(1);
  DiskSet& disks = server_.server->disks();
  replication::ReplicaInfo info;
  EXPECT_EQ(disks.Begin(ChunkId{2}, Epoch{5}, {}, &info).code(), StatusCode::kUnavailable);
  EXPECT_EQ(disks.Fence(ChunkId{2}, Epoch{5}, &info).code(), StatusCode::kUnavailable);
  EXPECT_TRUE(disks.Fence(ChunkId{1}, Epoch{6}, &info).ok()) << "what is here goes on";
  options_.port = master().port();
  options_.refuse = Status::Ok();
  master_.reset();
  master().WaitForReport(kFirst);
  EXPECT_TRUE(disks.Begin(ChunkId{2}, Epoch{7}, {}, &info).ok());
}

TEST_F(ControlTest, CommandsAreCarriedOutAndAnsweredInOrder) {
  StartServer();
  WriteTo(server_.server->disks(), ChunkId{1}, {Epoch{5}, 1}, 5000);
  proto::Command batch;
  *batch.add_chunks() = On(ChunkId{1});
  batch.mutable_chunks(0)->mutable_query();
  *batch.add_chunks() = On(ChunkId{1});
  batch.mutable_chunks(1)->mutable_fence()->set_epoch(9);
  *batch.add_chunks() = On(ChunkId{2});
  batch.mutable_chunks(2)->mutable_query();
  const proto::CommandResult result = master().Execute(kFirst, batch);
  ASSERT_EQ(result.results_size(), 3);
  EXPECT_EQ(CodeOf(result.results(0)), StatusCode::kOk);
  EXPECT_EQ(result.results(0).info().accepted().epoch(), 5u);
  EXPECT_EQ(result.results(0).info().length(), 5000u);
  EXPECT_EQ(CodeOf(result.results(1)), StatusCode::kOk);
  EXPECT_EQ(result.results(1).info().promised(), 9u);
  EXPECT_EQ(CodeOf(result.results(2)), StatusCode::kUnknownChunk);
  EXPECT_EQ(result.results(2).info().chunk(), 2u);
}

TEST_F(ControlTest, ADurableBeginIsOnDiskWhenItIsAnswered) {
  StartServer();
  WriteTo(server_.server->disks(), kChunk, {Epoch{5}, 1}, 5000);
  auto begin = On(kChunk);
  begin.mutable_begin()->set_epoch(9);
  begin.mutable_begin()->mutable_base()->set_epoch(5);
  begin.mutable_begin()->mutable_base()->set_seq(1);
  begin.mutable_begin()->set_durable(true);
  const proto::ChunkResult result = master().Execute(kFirst, begin);
  EXPECT_EQ(CodeOf(result), StatusCode::kOk) << result.status().message();
  EXPECT_EQ(result.info().durable().epoch(), 9u);
  EXPECT_EQ(result.info().durable().seq(), 1u);
  // Another one does not sync.
  const int flushes = server_.stores[0]->flushes();
  begin.mutable_begin()->set_durable(false);
  begin.mutable_begin()->mutable_base()->set_epoch(9);
  begin.mutable_begin()->set_epoch(10);
  EXPECT_EQ(CodeOf(master().Execute(kFirst, begin)), StatusCode::kOk);
  EXPECT_EQ(server_.stores[0]->flushes(), flushes);
}

TEST_F(ControlTest, DeletesArePreparedAbortedAndCarriedOut) {
  StartServer();
  WriteTo(server_.server->disks(), kChunk, {Epoch{5}, 1}, 5000);
  auto prepare = On(kChunk);
  prepare.mutable_prepare_delete()->set_epoch(9);
  EXPECT_EQ(master().Execute(kFirst, prepare).info().tombstone(), 9u);
  auto abort = On(kChunk);
  abort.mutable_abort_delete()->set_epoch(10);
  EXPECT_EQ(master().Execute(kFirst, abort).info().tombstone(), 0u);
  // Late, and refused: the present state comes with the refusal.
  const proto::ChunkResult late = master().Execute(kFirst, prepare);
  EXPECT_EQ(CodeOf(late), StatusCode::kFenced);
  EXPECT_EQ(late.info().promised(), 10u);
  auto erase = On(kChunk);
  erase.mutable_erase()->set_epoch(9);
  EXPECT_EQ(CodeOf(master().Execute(kFirst, erase)), StatusCode::kFenced);
  erase.mutable_erase()->set_epoch(11);
  EXPECT_EQ(CodeOf(master().Execute(kFirst, erase)), StatusCode::kOk);
  EXPECT_EQ(CodeOf(master().Execute(kFirst, erase)), StatusCode::kOk) << "carried out before";
  auto query = On(kChunk);
  query.mutable_query();
  EXPECT_EQ(CodeOf(master().Execute(kFirst, query)), StatusCode::kUnknownChunk);
}

TEST_F(ControlTest, NonsenseInCommandsIsAnsweredNotObeyed) {
  StartServer();
  proto::Command batch;
  batch.add_chunks()->mutable_fence()->set_epoch(9);  // no chunk
  *batch.add_chunks() = On(kChunk);                   // no command
  *batch.add_chunks() = On(kChunk);
  auto* sync = batch.mutable_chunks(2)->mutable_sync();
  sync->set_epoch(9);
  sync->mutable_base()->set_epoch(5);
  sync->add_sources()->set_address("not an address");
  *batch.add_chunks() = On(kChunk);
  batch.mutable_chunks(3)->mutable_sync()->set_length(UINT64_MAX);
  *batch.add_chunks() = On(kChunk);
  batch.mutable_chunks(4)->mutable_sync();  // no base
  const proto::CommandResult result = master().Execute(kFirst, batch);
  ASSERT_EQ(result.results_size(), 5);
  EXPECT_EQ(CodeOf(result.results(0)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(result.results(1)), StatusCode::kNotSupported);
  EXPECT_EQ(CodeOf(result.results(2)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(result.results(3)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(result.results(4)), StatusCode::kInvalidArgument);
  EXPECT_EQ(master().Execute(kFirst, proto::Command{}).results_size(), 0);
  proto::Command huge;
  for (int i = 0; i < 70'000; ++i) *huge.add_chunks() = On(kChunk);
  const proto::CommandResult refused = master().Execute(kFirst, huge);
  ASSERT_EQ(refused.results_size(), 70'000);
  EXPECT_EQ(CodeOf(refused.results(69'999)), StatusCode::kResourceExhausted);
}

TEST_F(ControlTest, DamageFoundByTheScrubberReachesTheMaster) {
  StartServer();
  WriteTo(server_.server->disks(), kChunk, {Epoch{5}, 1}, 50'000);
  master().WaitForReport(kFirst);
  server_.stores[0]->DamageBlock(kChunk, 3);
  while (!server_.server->registered()) std::this_thread::yield();
  EXPECT_EQ(server_.server->scrubber().ScrubOnce().bad_blocks, 1u);
  const proto::DamageReport damage = master().WaitForDamage(kFirst);
  EXPECT_EQ(damage.chunk(), kChunk.value());
  EXPECT_EQ(damage.offset(), 3u * 4096);
}

TEST_F(ControlTest, SpaceIsReclaimedInTheBackground) {
  StartServer();
  while (server_.stores[0]->reclaims() < 3) std::this_thread::yield();
}

}  // namespace
}  // namespace cairn::chunkserver
