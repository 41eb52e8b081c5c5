// Operations of the master that get into each other's way, with clients and chunkservers in memory: what one decided while another
// was under way.
#include <gtest/gtest.h>

#include "master/core/delete_procedure.h"
#include "master/core/reconfigure_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "tests/master/core_fixture.h"

namespace cairn::master {
namespace {

using CoreRacesTest = CoreFixture;

TEST_F(CoreRacesTest, NobodyIsToldTheSizeFromBeforeTheRecoveryOfAVanishedWriter) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  h_.Write(layout, 4, 9000);  // closed by its program: acknowledged, and not reported to the master yet
  a_->Disconnect();
  const uint64_t stat = b_->SendGetAttr(inode, false);
  proto::Request look;
  look.mutable_lookup()->set_parent(kRoot);
  look.mutable_lookup()->set_name("f");
  const uint64_t lookup = b_->Send(look);
  h_.Advance(12'000);
  EXPECT_EQ(b_->Wait(stat).entry().attr().size(), 9000u);
  EXPECT_EQ(b_->Wait(lookup).entry().attr().size(), 9000u);
}

TEST_F(CoreRacesTest, WhileARecoveryCannotBeDecidedNamesAreFoundButNoSizeIsTold) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const proto::ChunkLayout layout = created.entry().layout(0);
  h_.Write(layout, 3, 3000);
  h_.StopServer(h_.IndexOf(layout.members(0)));
  h_.StopServer(h_.IndexOf(layout.members(1)));
  a_->Disconnect();
  h_.Advance(12'000);
  const uint64_t stat = b_->SendGetAttr(created.entry().attr().inode(), false);
  proto::Request look;
  look.mutable_lookup()->set_parent(kRoot);
  look.mutable_lookup()->set_name("f");
  const uint64_t lookup = b_->Send(look);
  h_.Advance(9'000);
  EXPECT_FALSE(b_->HasReply(stat));
  EXPECT_FALSE(b_->HasReply(lookup));
  h_.Advance(1'500);
  EXPECT_EQ(CodeOf(b_->Wait(stat)), StatusCode::kNoQuorum);
  EXPECT_EQ(CodeOf(b_->Wait(lookup)), StatusCode::kOk);
}

TEST_F(CoreRacesTest, ARepairGivesWayToAWriterWhoOpensTheChunkFirst) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  ASSERT_EQ(CodeOf(b_->GetAttr(inode, true)), StatusCode::kOk);
  b_->answer_recalls = false;
  const uint64_t wants = a_->SendLease(inode, proto::LEASE_WRITE, 0, 1);
  ASSERT_FALSE(a_->HasReply(wants));
  // In one round: what the writer waits for comes, and somebody finds that the chunk needs the procedure.
  std::optional<Status> outcome;
  h_.core().Post([&, inode = inode, layout = layout](Core& core) {
    const HeldLease* held = core.leases().Find(InodeId(inode), SessionId(b_->session));
    ASSERT_NE(held, nullptr);
    core.LeaseReturned(InodeId(inode), SessionId(b_->session), held->number, LeaseMode::kNone);
    ReconfigureRequest request;
    request.chunk = ChunkId(layout.chunk());
    request.purpose = replication::ReconfigurePurpose::kRepair;
    request.reason = "test";
    ReconfigureOp::Start(core, std::move(request), [&](const Status& status) { outcome = status; });
  });
  const proto::Reply granted = a_->Wait(wants);
  ASSERT_EQ(CodeOf(granted), StatusCode::kOk) << granted.status().message();
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->code(), StatusCode::kBusy);
  EXPECT_EQ(Record(layout.chunk()).state(), proto::CHUNK_OPEN);
  h_.Write(granted.layout().chunks(0), 2, 2000);  // its epoch is still good
}

TEST_F(CoreRacesTest, AWriterWhoSealsWhileItsReplacementIsUnderWayEndsThat) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  h_.Write(layout, 3, 3000);
  for (uint32_t i = 1; i <= 3; ++i) h_.server(i).mute = true;
  proto::Request trouble;
  trouble.mutable_chunk_trouble()->set_inode(inode);
  trouble.mutable_chunk_trouble()->set_chunk(layout.chunk());
  trouble.mutable_chunk_trouble()->set_epoch(layout.epoch());
  trouble.mutable_chunk_trouble()->set_need_replacement(true);
  const uint64_t asked = a_->Send(trouble);
  proto::Request seal;
  *seal.mutable_write_back()->add_commits() =
      h_.SealCommit(inode, created.leases(0).number(), layout, 3, 3000, proto::LEASE_WRITE);
  ASSERT_EQ(CodeOf(a_->Call(seal)), StatusCode::kOk);
  for (uint32_t i = 1; i <= 3; ++i) {
    h_.StopServer(i);
    h_.StartServer(i);
  }
  EXPECT_EQ(CodeOf(a_->Wait(asked)), StatusCode::kLeaseLost);
  h_.Advance(3'000);
  const proto::ChunkRecord record = Record(layout.chunk());
  EXPECT_EQ(record.state(), proto::CHUNK_SEALED);
  EXPECT_EQ(record.pending_epoch(), 0u);
  for (uint32_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(h_.replicas(i).Find(ChunkId(layout.chunk()))->state.accepted, FromProto(record.sealed()));
  }
}

TEST_F(CoreRacesTest, AnOrphanThatIsOpenAfterAllIsNotLeftHalfDeleted) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  ASSERT_EQ(CodeOf(a_->GetAttr(inode, true)), StatusCode::kOk);
  a_->still_open = true;
  ASSERT_EQ(CodeOf(b_->Unlink(kRoot, "f")), StatusCode::kOk);
  for (uint32_t i = 1; i <= 3; ++i) h_.server(i).mute = true;
  proto::Request close;
  close.mutable_close_orphans()->add_inodes(inode);
  ASSERT_EQ(CodeOf(a_->Call(close)), StatusCode::kOk);
  ASSERT_TRUE(DeleteProcedure::Concerns(h_.core(), ChunkId(layout.chunk())));
  // The session comes back on another stream and has it open.
  auto again = std::make_shared<proto::ClientMessage>();
  again->mutable_hello()->set_wire_version(wire::kWireVersion);
  again->mutable_hello()->set_session(a_->session);
  again->mutable_hello()->add_open_inodes(inode);
  h_.core().inbox().Push(SessionMessageEvent{a_, again});
  h_.Settle();
  for (uint32_t i = 1; i <= 3; ++i) {
    h_.StopServer(i);
    h_.StartServer(i);
  }
  h_.Advance(3'000);
  EXPECT_TRUE(InodeExists(h_.core().txn(), InodeId(inode)));
  EXPECT_FALSE(DeleteProcedure::Concerns(h_.core(), ChunkId(layout.chunk())));
  ASSERT_EQ(CodeOf(a_->Call(close)), StatusCode::kOk);
  h_.Advance(8'000);
  EXPECT_FALSE(InodeExists(h_.core().txn(), InodeId(inode)));
  EXPECT_FALSE(ChunkRecordOf(h_.core().txn(), ChunkId(layout.chunk())));
}

TEST_F(CoreRacesTest, WhatAClientBringsBackIsAppliedAfterTheEndOfThoseWhoDoNotComeBack) {
  const proto::Reply created = b_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  h_.Write(layout, 2, 100);
  proto::Request seal;
  *seal.mutable_write_back()->add_commits() =
      h_.SealCommit(inode, created.leases(0).number(), layout, 2, 100, proto::LEASE_WRITE);
  ASSERT_EQ(CodeOf(b_->Call(seal)), StatusCode::kOk);
  h_.KeepDisk();
  // Lost: the end of the writer's session, and the lease that another one was given then.
  b_->Goodbye();
  const proto::Reply granted = a_->Wait(a_->SendLease(inode, proto::LEASE_WRITE, 0, 1));
  ASSERT_EQ(CodeOf(granted), StatusCode::kOk);
  h_.LosePower();
  auto again = h_.NewClient();
  proto::LeaseClaim claim;
  claim.set_inode(inode);
  claim.set_mode(proto::LEASE_WRITE);
  claim.set_number(granted.leases(0).number());
  again->SendHello(a_->session, {claim}, a_->kept);
  h_.Advance(10'200);
  ASSERT_FALSE(again->hello.has_value()) << "the writer may still come back";
  // The first thing that happens after the grace period.
  h_.core().Post([](Core&) {});
  h_.clock().Advance(200 * kNanosPerMilli);
  h_.Settle();
  ASSERT_TRUE(again->hello.has_value());
  EXPECT_EQ(again->hello->lost_commands(), 0u);
  EXPECT_EQ(again->hello->rejected_claims_size(), 0);
}

}  // namespace
}  // namespace cairn::master
