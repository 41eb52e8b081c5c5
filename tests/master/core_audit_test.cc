// What chunkservers report and answer, compared with the records: missing, stale, damaged, surplus and unknown replicas.
#include <gtest/gtest.h>

#include <algorithm>

#include "master/cluster/event_log.h"
#include "master/cluster/repair_manager.h"
#include "master/core/admin.h"
#include "tests/master/core_fixture.h"

namespace cairn::master {
namespace {

using CoreAuditTest = CoreFixture;

TEST_F(CoreAuditTest, AMissingMemberIsReplacedAfterTheGraceTimeAndErasedWhenItComesBack) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  h_.StartServer(4);
  const uint32_t gone = h_.IndexOf(layout.members(1));
  h_.StopServer(gone);
  h_.Advance(20'000);
  EXPECT_EQ(Record(layout.chunk()).epoch(), layout.epoch()) << "within the grace time";
  h_.Advance(15'000);
  const proto::ChunkRecord record = Record(layout.chunk());
  EXPECT_GT(record.epoch(), layout.epoch());
  EXPECT_EQ(std::count(record.members().begin(), record.members().end(), layout.members(1)), 0);
  EXPECT_EQ(record.members_size(), 3);
  EXPECT_EQ(record.carriers_size(), 3);
  h_.StartServer(gone);
  h_.Advance(10'000);
  EXPECT_EQ(h_.replicas(gone).erased, std::vector<ChunkId>{ChunkId(layout.chunk())});
}

TEST_F(CoreAuditTest, ARestartedMasterWaitsForReportsBeforeItCopies) {
  h_.StartServer(4);
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  uint32_t outside = 0;
  for (uint32_t i = 1; i <= 4; ++i) {
    if (h_.replicas(i).Find(ChunkId(layout.chunk())) == nullptr) outside = i;
  }
  ASSERT_NE(outside, 0u);
  h_.RestartMaster();
  h_.StartServer(outside);
  h_.StartServer(h_.IndexOf(layout.members(0)));  // one valid copy of three so far
  h_.Advance(3'000);
  h_.StartServer(h_.IndexOf(layout.members(1)));
  h_.StartServer(h_.IndexOf(layout.members(2)));
  h_.Advance(15'000);
  EXPECT_EQ(h_.replicas(outside).syncs, 0u);
  EXPECT_EQ(Record(layout.chunk()).epoch(), layout.epoch());
  EXPECT_EQ(h_.core().repair().counters().below_policy, 0u);
}

TEST_F(CoreAuditTest, AReplicaThatCameAfterItsServersReportIsNotMissing) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  const ChunkId chunk(layout.chunk());
  h_.RestartMaster();
  for (uint32_t i = 1; i <= 3; ++i) {
    h_.replicas(i).not_yet_there.insert(chunk);
    h_.StartServer(i);
  }
  h_.Advance(15'000);
  EXPECT_EQ(h_.core().repair().counters().below_policy, 0u);
  for (uint32_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(h_.replicas(i).syncs, 0u);
  }
}

TEST_F(CoreAuditTest, AServerThatDoesNotAnswerIsAskedAgainForWhatItDidNotReport) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  const uint32_t lost = h_.IndexOf(layout.members(0));
  h_.StopServer(lost);
  h_.replicas(lost).all().clear();
  h_.StartServer(lost, /*mute=*/true);
  h_.Advance(2 * h_.core().options().command_timeout_ms);
  EXPECT_FALSE(h_.replicas(lost).Find(ChunkId(layout.chunk())));
  h_.server(lost).mute = false;
  h_.Advance(2 * h_.core().options().command_timeout_ms);
  EXPECT_TRUE(h_.replicas(lost).Find(ChunkId(layout.chunk())));
  EXPECT_EQ(h_.core().repair().counters().below_policy, 0u);
}

TEST_F(CoreAuditTest, WhatServersReportedOfAnOpenChunkCountsWhenItsWriterNeverBegan) {
  const auto lost_end = [](FakeReplicas& replicas, ChunkId chunk) { --replicas.all().at(chunk).state.accepted.seq; };
  const auto lost_all = [](FakeReplicas& replicas, ChunkId chunk) { replicas.all().erase(chunk); };
  int files = 0;
  for (const std::function<void(FakeReplicas&, ChunkId)>& lose : {std::function(+lost_end), std::function(+lost_all)}) {
    const auto [inode, layout] = h_.SealedFile(*a_, "f" + std::to_string(++files));
    const ChunkId chunk(layout.chunk());
    const uint32_t away = h_.IndexOf(layout.members(2));
    h_.StopServer(away);
    lose(h_.replicas(away), chunk);
    const proto::Reply opened = a_->Wait(a_->SendLease(inode, proto::LEASE_WRITE, 0, 1));
    ASSERT_EQ(CodeOf(opened), StatusCode::kOk) << opened.status().message();
    ASSERT_EQ(Record(chunk.value()).state(), proto::CHUNK_OPEN);
    h_.StartServer(away);
    h_.Advance(1'000);
    proto::Request write_back;
    proto::InodeCommit* commit = write_back.mutable_write_back()->add_commits();
    commit->set_inode(inode);
    commit->set_lease(opened.leases(0).number());
    commit->set_size(1000);
    commit->set_keep(proto::LEASE_NONE);
    commit->add_seals()->set_chunk(chunk.value());
    commit->mutable_seals(0)->set_never_begun(true);
    ASSERT_EQ(CodeOf(a_->Call(write_back)), StatusCode::kOk);
    ASSERT_EQ(Record(chunk.value()).state(), proto::CHUNK_SEALED);
    h_.Advance(3'000);
    const auto* replica = h_.replicas(away).Find(chunk);
    ASSERT_NE(replica, nullptr) << files;
    EXPECT_EQ(replica->state.accepted, FromProto(Record(chunk.value()).sealed())) << files;
  }
}

TEST_F(CoreAuditTest, ALostReplicaAndADamagedOneAreRepairedAtOnce) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  const uint32_t lost = h_.IndexOf(layout.members(0));
  h_.StopServer(lost);
  h_.replicas(lost).all().clear();
  h_.StartServer(lost);
  h_.Advance(2'000);
  EXPECT_TRUE(h_.replicas(lost).Find(ChunkId(layout.chunk())));
  const uint32_t damaged = h_.IndexOf(layout.members(1));
  h_.replicas(damaged).all()[ChunkId(layout.chunk())].corrupt = true;
  auto message = std::make_shared<proto::ChunkserverMessage>();
  message->mutable_damage()->set_chunk(layout.chunk());
  message->mutable_damage()->set_detail("flipped");
  h_.core().inbox().Push(ServerMessageEvent{h_.server(damaged).shared_from_this(), message});
  h_.Advance(2'000);
  EXPECT_FALSE(h_.replicas(damaged).Find(ChunkId(layout.chunk()))->corrupt);
  proto::ExplainChunkRequest ask;
  ask.set_chunk(layout.chunk());
  proto::ExplainChunkResponse story;
  ExplainChunk(h_.core(), ask, [&](proto::ExplainChunkResponse response) { story = std::move(response); });
  h_.Settle();
  EXPECT_EQ(story.path(), "/f");
  EXPECT_EQ(story.members_size(), 3);
  for (const proto::ReplicaStatus& member : story.members())
    EXPECT_EQ(member.state(), "current") << member.detail();
  std::string history;
  for (const std::string& line : story.history()) history += line + "\n";
  EXPECT_NE(history.find("corrupt"), std::string::npos) << history;
  EXPECT_NE(history.find("sync of"), std::string::npos) << history;
}

TEST_F(CoreAuditTest, ReplicasOfDeletedFilesAreErasedWhenTheirServerReports) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  const uint32_t away = h_.IndexOf(layout.members(2));
  h_.StopServer(away);
  ASSERT_EQ(CodeOf(b_->Unlink(kRoot, "f")), StatusCode::kOk);
  h_.Advance(4'000);
  EXPECT_TRUE(h_.replicas(away).Find(ChunkId(layout.chunk())));
  h_.StartServer(away);
  h_.Advance(6'000);
  EXPECT_FALSE(h_.replicas(away).Find(ChunkId(layout.chunk())));
  EXPECT_FALSE(ChunkRecordOf(h_.core().txn(), ChunkId(layout.chunk())))
      << "erased everywhere: the record goes";
}

TEST_F(CoreAuditTest, ANewStampAboveTheRecordIsDecidedByTheProcedure) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  // As if the master had lost the tail of its log: a later lease, begun and written on two members.
  h_.RestartMaster();
  for (uint32_t member : {layout.members(0), layout.members(1)}) {
    ASSERT_TRUE(h_.replicas(h_.IndexOf(member))
                    .Mutate(ChunkId(layout.chunk()), Epoch(layout.epoch() + 1), 4,
                            Stamp{Epoch(layout.epoch()), 3}, 2000)
                    .ok());
  }
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  h_.Advance(15'000);
  EXPECT_EQ(Record(layout.chunk()).sealed().seq(), 4u);
  EXPECT_EQ(Record(layout.chunk()).state(), proto::CHUNK_SEALED);
}

// One command too many for its queue is not a lost replica.
TEST_F(CoreAuditTest, AServerThatIsTooBusyToAnswerIsAskedAgain) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  const ChunkId chunk(layout.chunk());
  h_.RestartMaster();
  for (uint32_t i = 1; i <= 3; ++i) {
    h_.replicas(i).not_yet_there.insert(chunk);
    h_.replicas(i).refuse_queries = Status(StatusCode::kResourceExhausted, "too many commands are queued");
    h_.StartServer(i);
  }
  h_.Advance(5'000);
  EXPECT_EQ(h_.core().repair().counters().below_policy, 0u);
  // One of them lost it: that comes to light when they answer.
  h_.replicas(1).all().erase(chunk);
  for (uint32_t i = 1; i <= 3; ++i) h_.replicas(i).refuse_queries.reset();
  h_.Advance(15'000);
  EXPECT_TRUE(h_.replicas(1).Find(chunk));
  EXPECT_EQ(h_.replicas(1).syncs, 1u);
  EXPECT_EQ(h_.replicas(2).syncs + h_.replicas(3).syncs, 0u);
}

TEST_F(CoreAuditTest, AServerWhoseDiskFailedDoesNotHaveWhatItDidNotReport) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  h_.StartServer(4);
  const uint32_t broken = h_.IndexOf(layout.members(0));
  h_.StopServer(broken);
  h_.replicas(broken).not_yet_there.insert(ChunkId(layout.chunk()));
  h_.replicas(broken).refuse_queries = Status(StatusCode::kIoError, "the disk failed");
  h_.replicas(broken).refuse_syncs = *h_.replicas(broken).refuse_queries;
  h_.StartServer(broken);
  h_.Advance(60'000);
  const proto::ChunkRecord record = Record(layout.chunk());
  EXPECT_EQ(std::count(record.members().begin(), record.members().end(), layout.members(0)), 0);
  EXPECT_EQ(record.carriers_size(), 3);
}

// Nobody reads or writes its chunks, so that nobody would find out one by one.
TEST_F(CoreAuditTest, WhatAFailedDiskHeldIsCopiedAtOnce) {
  h_.StartServer(4);
  std::vector<uint64_t> chunks;
  for (int i = 0; i < 20; ++i) chunks.push_back(h_.SealedFile(*a_, "f" + std::to_string(i)).second.chunk());
  h_.Advance(3'000);
  const uint32_t broken = 1;
  const uint32_t server = h_.server(broken).id;
  const Status failure(StatusCode::kIoError, "the disk failed");
  h_.replicas(broken).refuse_queries = failure;
  h_.replicas(broken).refuse_syncs = failure;
  h_.on_heartbeat = [&](uint32_t index, proto::Heartbeat* heartbeat) {
    proto::DiskInfo* disk = heartbeat->add_disks();
    disk->set_disk_uuid(Uuid{2, index}.ToString());
    disk->set_path("/disk");
    disk->set_total_bytes(1ull << 40);
    disk->set_free_bytes(1ull << 39);
    disk->set_reserve_bytes(1ull << 30);
    disk->set_failed(index == broken);
    disk->set_problem(index == broken ? "it was pulled out" : "");
  };
  h_.Advance(30'000);
  for (const uint64_t chunk : chunks) {
    const proto::ChunkRecord record = Record(chunk);
    EXPECT_EQ(std::count(record.members().begin(), record.members().end(), server), 0) << chunk;
    EXPECT_EQ(record.carriers_size(), 3) << chunk;
  }
  EXPECT_EQ(h_.replicas(2).all().size() + h_.replicas(3).all().size() + h_.replicas(4).all().size(), 60u);
  int told = 0;
  for (const NumberedEvent& event : EventsAfter(h_.core().txn(), 0, 10'000)) {
    if (event.record.kind() != "disk.failed") continue;
    ++told;
    EXPECT_NE(event.record.text().find("it was pulled out"), std::string::npos) << event.record.text();
  }
  EXPECT_EQ(told, 1);
}

class CoreSurplusTest : public CoreAuditTest {
 protected:
  // A file with three copies on servers 1 to 3 and its copy of before on a fourth, which is down.
  void SetUp() override {
    CoreAuditTest::SetUp();
    layout_ = h_.SealedFile(*a_, "f").second;
    chunk_ = ChunkId(layout_.chunk());
    const uint32_t left = h_.IndexOf(layout_.members(0));
    h_.StopServer(left);
    h_.StartServer(4);
    h_.Advance(40'000);
    const proto::ChunkRecord record = Record(layout_.chunk());
    ASSERT_EQ(record.carriers_size(), 3);
    ASSERT_EQ(std::count(record.members().begin(), record.members().end(), layout_.members(0)), 0);
    outside_ = left;
  }

  proto::ChunkLayout layout_;
  ChunkId chunk_;
  uint32_t outside_ = 0;
};

// Its space is needed now: a disk that is emptied because it is full.
TEST_F(CoreSurplusTest, ACopyThatIsNotNeededIsErasedAtOnce) {
  h_.StartServer(outside_);
  h_.Advance(10'000);
  EXPECT_FALSE(h_.replicas(outside_).Find(chunk_));
  EXPECT_TRUE(h_.replicas(outside_).quarantined.empty());
}

TEST_F(CoreSurplusTest, WhatIsNewerThanTheRecordIsKeptInQuarantine) {
  Stamp newer = FromProto(Record(layout_.chunk()).sealed());
  ++newer.seq;
  h_.replicas(outside_).all().at(chunk_).state.accepted = newer;
  h_.StartServer(outside_);
  h_.Advance(10'000);
  EXPECT_EQ(h_.replicas(outside_).quarantined, std::vector<ChunkId>{chunk_});
}

TEST_F(CoreSurplusTest, ItStaysUntilTheOthersAreKnownToBeThere) {
  h_.RestartMaster();
  const proto::ChunkRecord record = Record(layout_.chunk());
  for (uint32_t member : record.members()) {
    const uint32_t index = h_.IndexOf(member);
    h_.replicas(index).not_yet_there.insert(chunk_);
    h_.replicas(index).refuse_queries = Status(StatusCode::kResourceExhausted, "too many commands are queued");
    h_.StartServer(index);
  }
  h_.StartServer(outside_);
  h_.Advance(30'000);
  EXPECT_TRUE(h_.replicas(outside_).Find(chunk_));
  for (uint32_t member : record.members()) h_.replicas(h_.IndexOf(member)).refuse_queries.reset();
  h_.Advance(30'000);
  EXPECT_FALSE(h_.replicas(outside_).Find(chunk_));
}

TEST_F(CoreSurplusTest, AnErasureThatWasRefusedIsTriedAgain) {
  h_.replicas(outside_).refuse_erasures = Status(StatusCode::kResourceExhausted, "too many commands are queued");
  h_.StartServer(outside_);
  h_.Advance(10'000);
  EXPECT_TRUE(h_.replicas(outside_).Find(chunk_));
  h_.replicas(outside_).refuse_erasures.reset();
  h_.Advance(15'000);
  EXPECT_FALSE(h_.replicas(outside_).Find(chunk_));
}

}  // namespace
}  // namespace cairn::master
