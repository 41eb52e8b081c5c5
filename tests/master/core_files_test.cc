// Names, leases and chunks through the core, with clients and chunkservers in memory.
#include <gtest/gtest.h>

#include "master/core/admin.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "tests/master/core_fixture.h"

namespace cairn::master {
namespace {

using CoreFilesTest = CoreFixture;

TEST_F(CoreFilesTest, CreateGrantsAWriteLeaseWithAPlacedChunkInOneRoundTrip) {
  const proto::Reply created = a_->Create(kRoot, "f");
  ASSERT_EQ(CodeOf(created), StatusCode::kOk) << created.status().message();
  ASSERT_EQ(created.leases_size(), 1);
  EXPECT_EQ(created.leases(0).mode(), proto::LEASE_WRITE);
  ASSERT_EQ(created.entry().layout_size(), 1);
  const proto::ChunkLayout& layout = created.entry().layout(0);
  EXPECT_EQ(layout.members_size(), 3);
  EXPECT_EQ(layout.epoch(), created.leases(0).number());
  EXPECT_EQ(layout.write_quorum(), 2u);
}

TEST_F(CoreFilesTest, WhatAWriterCommittedAnotherSessionReads) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f", 5000);
  const proto::Reply found = b_->Lookup(kRoot, "f");
  ASSERT_EQ(CodeOf(found), StatusCode::kOk);
  EXPECT_EQ(found.entry().attr().size(), 5000u);
  const proto::Reply lease = b_->Wait(b_->SendLease(inode, proto::LEASE_READ, 0, 1));
  ASSERT_EQ(CodeOf(lease), StatusCode::kOk);
  ASSERT_EQ(lease.layout().chunks_size(), 1);
  EXPECT_EQ(lease.layout().chunks(0).sealed().seq(), 3u);
  EXPECT_EQ(lease.layout().chunks(0).carriers_size(), 3);
}

// What is announced with a lease saves a round trip; where it cannot be, the lease is given all the same, and the holder hears why when
// it announces.
TEST_F(CoreFilesTest, ALeaseIsGrantedAlthoughNothingCanBeAnnouncedWithIt) {
  const proto::Reply created = a_->Create(kRoot, "f", false);
  const uint64_t inode = created.entry().attr().inode();
  const uint64_t beyond = UINT64_MAX / created.entry().attr().chunk_bytes();
  const proto::Reply lease = b_->Wait(b_->SendLease(inode, proto::LEASE_WRITE, beyond, 1));
  ASSERT_EQ(CodeOf(lease), StatusCode::kOk) << lease.status().message();
  ASSERT_EQ(lease.leases_size(), 1);
  EXPECT_EQ(lease.leases(0).mode(), proto::LEASE_WRITE);
  EXPECT_EQ(lease.layout().chunks_size(), 0);
  proto::Request announce;
  announce.mutable_announce()->set_inode(inode);
  announce.mutable_announce()->set_lease(lease.leases(0).number());
  announce.mutable_announce()->set_first(beyond);
  announce.mutable_announce()->set_count(1);
  EXPECT_EQ(CodeOf(b_->Call(announce)), StatusCode::kFileTooLarge);
}

TEST_F(CoreFilesTest, StatWaitsUntilTheWriterElsewhereHasFlushed) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  a_->answer_recalls = false;
  const uint64_t stat = b_->SendGetAttr(inode, true);
  EXPECT_FALSE(b_->HasReply(stat));
  ASSERT_EQ(a_->recalls.size(), 1u);
  EXPECT_EQ(a_->recalls[0].keep(), proto::LEASE_READ);
  h_.Write(layout, 2, 777);
  const proto::InodeCommit commit =
      h_.SealCommit(inode, created.leases(0).number(), layout, 2, 777, proto::LEASE_READ);
  a_->AnswerRecall(a_->recalls[0], &commit);
  const proto::Reply reply = b_->Wait(stat);
  EXPECT_EQ(reply.entry().attr().size(), 777u);
  EXPECT_EQ(reply.leases_size(), 1);
  const HeldLease* kept = h_.core().leases().Find(InodeId(inode), SessionId(a_->session));
  ASSERT_NE(kept, nullptr);
  EXPECT_EQ(kept->mode, LeaseMode::kRead);
}

TEST_F(CoreFilesTest, AMutationWaitsUntilCachesElsewhereAreGone) {
  ASSERT_EQ(CodeOf(b_->Lookup(kRoot, "f")), StatusCode::kNotFound);  // grants a lease on the directory
  b_->answer_recalls = false;
  proto::Request request;
  request.mutable_mkdir()->set_parent(kRoot);
  request.mutable_mkdir()->set_name("f");
  request.mutable_mkdir()->set_mode(0755);
  const uint64_t mkdir = a_->Send(request);
  EXPECT_FALSE(a_->HasReply(mkdir));
  ASSERT_EQ(b_->recalls.size(), 1u);
  EXPECT_EQ(b_->recalls[0].inode(), kRoot);
  // Meanwhile the directory gives no new leases away, but names are answered.
  const proto::Reply during = b_->Lookup(kRoot, "g");
  EXPECT_EQ(CodeOf(during), StatusCode::kNotFound);
  EXPECT_EQ(during.leases_size(), 0);
  b_->AnswerRecall(b_->recalls[0]);
  EXPECT_EQ(CodeOf(a_->Wait(mkdir)), StatusCode::kOk);
}

TEST_F(CoreFilesTest, AReadElsewhereIsToldAndRecallsNothing) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f", 5000);
  const proto::Reply seen = b_->GetAttr(inode, true);
  ASSERT_EQ(seen.leases_size(), 1);
  a_->recalls.clear();
  proto::Request request;
  proto::AccessTime* file = request.mutable_accessed()->add_files();
  file->set_inode(inode);
  file->mutable_atime()->set_seconds(seen.entry().attr().ctime().seconds());
  file->mutable_atime()->set_nanos(seen.entry().attr().ctime().nanos());
  h_.Advance(1);
  file->mutable_atime()->set_nanos(file->atime().nanos() + 1);
  ASSERT_EQ(CodeOf(a_->Call(request)), StatusCode::kOk);
  EXPECT_TRUE(b_->recalls.empty());
  ASSERT_EQ(b_->accessed.size(), 1u);
  EXPECT_EQ(b_->accessed[0].inode(), inode);
  EXPECT_EQ(b_->accessed[0].atime().ShortDebugString(), file->atime().ShortDebugString());
  EXPECT_TRUE(a_->accessed.empty()) << "it knows";
  EXPECT_EQ(b_->GetAttr(inode).entry().attr().atime().ShortDebugString(), file->atime().ShortDebugString());
}

TEST_F(CoreFilesTest, OnesOwnLeasesAreNotRecalledByOnesOwnChanges) {
  ASSERT_EQ(CodeOf(a_->Lookup(kRoot, "x")), StatusCode::kNotFound);
  ASSERT_EQ(CodeOf(a_->Create(kRoot, "x")), StatusCode::kOk);
  EXPECT_TRUE(a_->recalls.empty());
}

TEST_F(CoreFilesTest, WriteLeasesPingPongInOrderOfAsking) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  ASSERT_EQ(CodeOf(a_->Wait(a_->SendLease(inode, proto::LEASE_WRITE))), StatusCode::kOk);
  a_->answer_recalls = false;
  const uint64_t b_wants = b_->SendLease(inode, proto::LEASE_WRITE);
  auto c = h_.NewClient();
  c->Hello();
  const uint64_t c_wants = c->SendLease(inode, proto::LEASE_WRITE);
  EXPECT_FALSE(b_->HasReply(b_wants));
  a_->AnswerRecall(a_->recalls.at(0));
  h_.Settle();
  // b got it first, and gave it back to c at once.
  const proto::Reply to_b = b_->Wait(b_wants);
  const proto::Reply to_c = c->Wait(c_wants);
  EXPECT_LT(to_b.leases(0).number(), to_c.leases(0).number());
  EXPECT_EQ(h_.core().leases().Writer(InodeId(inode)), SessionId(c->session));
}

TEST_F(CoreFilesTest, ThoseBehindARequestThatEndedGoOn) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  ASSERT_EQ(CodeOf(b_->Wait(b_->SendLease(inode, proto::LEASE_READ))), StatusCode::kOk);
  b_->answer_recalls = false;
  a_->SendLease(inode, proto::LEASE_WRITE);
  auto c = h_.NewClient();
  c->Hello();
  const uint64_t read = c->SendLease(inode, proto::LEASE_READ);
  EXPECT_FALSE(c->HasReply(read)) << "readers must not starve the writer who asked first";
  a_->Goodbye();
  EXPECT_EQ(CodeOf(c->Wait(read)), StatusCode::kOk);
}

TEST_F(CoreFilesTest, AMutationRepeatedAfterAReconnectIsAnsweredAndNotRepeated) {
  proto::Request request;
  request.set_number(50);
  request.mutable_mkdir()->set_parent(kRoot);
  request.mutable_mkdir()->set_name("d");
  request.mutable_mkdir()->set_mode(0755);
  const proto::Reply first = a_->Call(request);
  ASSERT_EQ(CodeOf(first), StatusCode::kOk);
  const uint64_t session = a_->session;
  a_->Disconnect();
  auto again = h_.NewClient();
  const proto::HelloReply hello = again->Hello(session);
  EXPECT_EQ(hello.status().code(), 0u);
  EXPECT_EQ(hello.last_request(), 50u);
  const proto::Reply second = again->Call(request);
  EXPECT_EQ(CodeOf(second), StatusCode::kOk) << "not already_exists";
  EXPECT_EQ(second.entry().attr().inode(), first.entry().attr().inode());
}

TEST_F(CoreFilesTest, ARequestThatIsUnderWayIsNotStartedTwice) {
  ASSERT_EQ(CodeOf(b_->Lookup(kRoot, "f")), StatusCode::kNotFound);
  b_->answer_recalls = false;
  proto::Request request;
  request.set_number(9);
  request.mutable_mkdir()->set_parent(kRoot);
  request.mutable_mkdir()->set_name("f");
  request.mutable_mkdir()->set_mode(0755);
  a_->Send(request);
  const uint64_t session = a_->session;
  a_->Disconnect();
  auto again = h_.NewClient();
  again->Hello(session);
  again->Send(request);
  b_->AnswerRecall(b_->recalls.at(0));
  EXPECT_EQ(CodeOf(again->Wait(9)), StatusCode::kOk);
  EXPECT_EQ(CountersOf(h_.core().txn()).inodes, 2u);
}

TEST_F(CoreFilesTest, UnlinkIsCommittedWithTombstonesOnAWriteQuorum) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  const ChunkId chunk(layout.chunk());
  const uint64_t unlink = b_->SendUnlink(kRoot, "f");
  ASSERT_EQ(CodeOf(b_->Wait(unlink)), StatusCode::kOk);
  int tombstones = 0;
  for (uint32_t i = 1; i <= 3; ++i) {
    const auto* replica = h_.replicas(i).Find(chunk);
    if (replica != nullptr && replica->state.tombstone) ++tombstones;
  }
  EXPECT_GE(tombstones, 2);
  EXPECT_EQ(CodeOf(b_->Lookup(kRoot, "f")), StatusCode::kNotFound);
  // Erased after the grace time, and not before.
  h_.Advance(1000);
  EXPECT_TRUE(h_.replicas(1).erased.empty());
  h_.Advance(2000);
  for (uint32_t i = 1; i <= 3; ++i) EXPECT_EQ(h_.replicas(i).erased, std::vector<ChunkId>{chunk});
  EXPECT_FALSE(ChunkRecordOf(h_.core().txn(), chunk));
}

TEST_F(CoreFilesTest, UnlinkWithoutAQuorumFailsAndLeavesTheFileWhole) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  const ChunkId chunk(layout.chunk());
  h_.server(h_.IndexOf(layout.members(0))).mute = true;
  h_.StopServer(h_.IndexOf(layout.members(1)));
  const uint64_t unlink = b_->SendUnlink(kRoot, "f");
  h_.Advance(9'000);
  EXPECT_FALSE(b_->HasReply(unlink));
  h_.Advance(1'500);
  const proto::Reply refused = b_->Wait(unlink);
  EXPECT_EQ(CodeOf(refused), StatusCode::kNoQuorum);
  for (uint32_t member : {layout.members(0), layout.members(1)}) {
    EXPECT_NE(refused.status().message().find("cs" + std::to_string(member)), std::string::npos)
        << refused.status().message();
  }
  EXPECT_NE(refused.status().message().find("down since"), std::string::npos) << refused.status().message();
  EXPECT_EQ(CodeOf(b_->Lookup(kRoot, "f")), StatusCode::kOk);
  // The tombstone on the one that confirmed was taken back.
  EXPECT_FALSE(h_.replicas(h_.IndexOf(layout.members(2))).Find(chunk)->state.tombstone);
  proto::Request xattr;
  xattr.mutable_get_xattr()->set_inode(inode);
  xattr.mutable_get_xattr()->set_name("user.cairn.error");
  EXPECT_NE(b_->Call(xattr).bytes().value().find("no_quorum"), std::string::npos);
  // With the servers back it works, and the late tombstone cannot come back to life.
  h_.server(h_.IndexOf(layout.members(0))).mute = false;
  h_.StartServer(h_.IndexOf(layout.members(1)));
  h_.Advance(2'000);
  for (uint32_t i = 1; i <= 3; ++i) EXPECT_FALSE(h_.replicas(i).Find(chunk)->state.tombstone) << i;
  EXPECT_EQ(CodeOf(b_->Unlink(kRoot, "f")), StatusCode::kOk);
}

TEST_F(CoreFilesTest, AFileThatIsOpenElsewhereBecomesAnOrphanUntilItsLastClose) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  ASSERT_EQ(CodeOf(a_->GetAttr(inode, true)), StatusCode::kOk);
  a_->still_open = true;
  const proto::Reply removed = b_->Unlink(kRoot, "f");
  ASSERT_EQ(CodeOf(removed), StatusCode::kOk);
  EXPECT_TRUE(removed.remove().orphaned());
  EXPECT_EQ(a_->recalls.back().inode(), inode);
  EXPECT_TRUE(a_->recalls.back().deleting());
  EXPECT_EQ(CodeOf(a_->GetAttr(inode)), StatusCode::kOk) << "still there for the one who has it open";
  h_.Advance(5000);
  EXPECT_TRUE(ChunkRecordOf(h_.core().txn(), ChunkId(layout.chunk())));
  proto::Request close;
  close.mutable_close_orphans()->add_inodes(inode);
  ASSERT_EQ(CodeOf(a_->Call(close)), StatusCode::kOk);
  h_.Advance(5000);
  EXPECT_FALSE(InodeExists(h_.core().txn(), InodeId(inode)));
  EXPECT_FALSE(ChunkRecordOf(h_.core().txn(), ChunkId(layout.chunk())));
}

TEST_F(CoreFilesTest, RenameOverAFileDeletesTheTargetByQuorum) {
  const auto [old_inode, old_layout] = h_.SealedFile(*a_, "target");
  h_.SealedFile(*a_, "source", 42);
  proto::Request rename;
  rename.mutable_rename()->set_parent(kRoot);
  rename.mutable_rename()->set_name("source");
  rename.mutable_rename()->set_new_parent(kRoot);
  rename.mutable_rename()->set_new_name("target");
  ASSERT_EQ(CodeOf(b_->Call(rename)), StatusCode::kOk);
  EXPECT_EQ(b_->Lookup(kRoot, "target").entry().attr().size(), 42u);
  EXPECT_TRUE(
      h_.replicas(h_.IndexOf(old_layout.members(0))).Find(ChunkId(old_layout.chunk()))->state.tombstone);
}

TEST_F(CoreFilesTest, EmptyFilesNeedNoTombstones) {
  ASSERT_EQ(CodeOf(a_->Create(kRoot, "e", false)), StatusCode::kOk);
  for (uint32_t i = 1; i <= 3; ++i) h_.StopServer(i);
  EXPECT_EQ(CodeOf(a_->Unlink(kRoot, "e")), StatusCode::kOk);
}

TEST_F(CoreFilesTest, WithoutEnoughServersACreateFailsWithTheNumbers) {
  h_.StopServer(1);
  h_.StopServer(2);
  proto::Request request;
  request.mutable_create()->set_parent(kRoot);
  request.mutable_create()->set_name("f");
  request.mutable_create()->set_want_write(true);
  const uint64_t create = a_->Send(request);
  h_.Advance(10'500);
  const proto::Reply refused = a_->Wait(create);
  EXPECT_EQ(CodeOf(refused), StatusCode::kNoQuorum);
  EXPECT_NE(refused.status().message().find("1 of the 2 servers required"), std::string::npos)
      << refused.status().message();
}

TEST_F(CoreFilesTest, SyncAnswersOnlyWhenTheLogIsOnDisk) {
  ASSERT_EQ(CodeOf(a_->Create(kRoot, "f")), StatusCode::kOk);
  proto::Request request;
  request.mutable_sync();
  const proto::Reply reply = a_->Call(request);
  EXPECT_EQ(CodeOf(reply), StatusCode::kOk);
  EXPECT_LE(reply.log_index(), h_.core().durable_index());
}

TEST_F(CoreFilesTest, ACommitThatAsksForDurabilityIsAnsweredAfterASyncThatItBringsAbout) {
  const proto::Reply created = a_->Create(kRoot, "f");
  ASSERT_EQ(CodeOf(created), StatusCode::kOk);
  uint64_t asked_at = 0;
  h_.core().SetSyncRequest([&] { asked_at = h_.core().committed_index(); });
  proto::Request request;
  proto::InodeCommit* commit = request.mutable_write_back()->add_commits();
  commit->set_inode(created.entry().attr().inode());
  commit->set_lease(created.leases(0).number());
  commit->set_size(4096);
  commit->set_keep(proto::LEASE_WRITE);
  request.mutable_write_back()->set_durable(true);
  const uint64_t number = a_->Enqueue(request);
  ASSERT_TRUE(h_.core().RunOnce(0).ok());
  EXPECT_FALSE(a_->HasReply(number)) << "the log is not on disk yet";
  EXPECT_EQ(asked_at, h_.core().committed_index()) << "asked for after the commit, or the sync would miss it";
  ASSERT_TRUE(h_.core().RunOnce(0).ok());
  EXPECT_FALSE(a_->HasReply(number));
  const proto::Reply reply = a_->Wait(number);
  EXPECT_EQ(CodeOf(reply), StatusCode::kOk) << reply.status().message();
  EXPECT_LE(reply.log_index(), h_.core().durable_index());
  // An ordinary commit waits for nothing.
  asked_at = 0;
  commit->set_size(8192);
  request.mutable_write_back()->set_durable(false);
  const uint64_t ordinary = a_->Enqueue(request);
  ASSERT_TRUE(h_.core().RunOnce(0).ok());
  EXPECT_TRUE(a_->HasReply(ordinary));
  EXPECT_EQ(asked_at, 0u);
}

TEST_F(CoreFilesTest, GarbageIsRefusedWithoutHarm) {
  auto stranger = h_.NewClient();
  proto::Request request;
  request.mutable_stat_fs();
  stranger->Send(request);
  EXPECT_TRUE(stranger->closed.has_value());
  auto wrong = h_.NewClient();
  auto message = std::make_shared<proto::ClientMessage>();
  message->mutable_hello()->set_wire_version(wire::kWireVersion);
  message->mutable_hello()->set_cluster_id("00000000000000000000000000000001");
  h_.core().inbox().Push(SessionMessageEvent{wrong, message});
  h_.Settle();
  ASSERT_TRUE(wrong->closed.has_value());
  EXPECT_EQ(wrong->closed->code(), StatusCode::kWrongCluster);
  proto::Request empty;
  EXPECT_EQ(CodeOf(a_->Call(empty)), StatusCode::kNotSupported);
  EXPECT_EQ(CodeOf(a_->GetAttr(999'999)), StatusCode::kStaleHandle);
}

}  // namespace
}  // namespace cairn::master
