// Vanished clients, restarted masters, lost and returning chunkservers, with clients and chunkservers in
// memory.
#include <gtest/gtest.h>

#include "master/cluster/repair_manager.h"
#include "master/core/admin.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "tests/master/core_fixture.h"

namespace cairn::master {
namespace {

using CoreFailuresTest = CoreFixture;

TEST_F(CoreFailuresTest, AVanishedWritersChunksAreRecoveredAtTheHighestStamp) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  h_.Write(layout, 4, 9000, {layout.members(0), layout.members(1)});
  h_.Write(layout, 2, 5000, {layout.members(2)});  // behind
  a_->Disconnect();
  const uint64_t wants = b_->SendLease(inode, proto::LEASE_READ, 0, 1);
  h_.Advance(9'000);
  EXPECT_FALSE(b_->HasReply(wants)) << "the writer may still be there";
  h_.Advance(3'000);
  const proto::Reply lease = b_->Wait(wants);
  ASSERT_EQ(CodeOf(lease), StatusCode::kOk) << lease.status().message();
  EXPECT_EQ(lease.layout().attr().size(), 9000u);
  const proto::ChunkRecord record = Record(layout.chunk());
  EXPECT_EQ(record.state(), proto::CHUNK_SEALED);
  EXPECT_EQ(record.sealed().seq(), 4u);
  EXPECT_GT(record.sealed().epoch(), layout.epoch()) << "the old writer is fenced";
  EXPECT_GE(record.carriers_size(), 2);
  const Status late = h_.replicas(h_.IndexOf(layout.members(0)))
                          .Mutate(ChunkId(layout.chunk()), Epoch(layout.epoch()), 5, {}, 9999);
  EXPECT_FALSE(late.ok());
}

TEST_F(CoreFailuresTest, AnAnnouncedChunkThatWasNeverBegunIsDropped) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t chunk = created.entry().layout(0).chunk();
  a_->Disconnect();
  h_.Advance(12'000);
  EXPECT_FALSE(ChunkRecordOf(h_.core().txn(), ChunkId(chunk)));
  EXPECT_EQ(b_->Lookup(kRoot, "f").entry().attr().size(), 0u);
}

TEST_F(CoreFailuresTest, RecoveryWithoutAQuorumWaitsAndSaysWhyThenGoesOnByItself) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  h_.Write(layout, 3, 3000);
  const uint32_t one = h_.IndexOf(layout.members(0));
  const uint32_t two = h_.IndexOf(layout.members(1));
  h_.StopServer(one);
  h_.StopServer(two);
  a_->Disconnect();
  h_.Advance(12'000);
  const uint64_t wants = b_->SendLease(inode, proto::LEASE_READ);
  h_.Advance(10'500);
  const proto::Reply refused = b_->Wait(wants);
  EXPECT_EQ(CodeOf(refused), StatusCode::kNoQuorum);
  EXPECT_NE(refused.status().message().find("cs" + std::to_string(layout.members(0))), std::string::npos)
      << refused.status().message();
  h_.StartServer(one);
  h_.Advance(3'000);
  const proto::Reply lease = b_->Wait(b_->SendLease(inode, proto::LEASE_READ));
  EXPECT_EQ(CodeOf(lease), StatusCode::kOk) << lease.status().message();
  EXPECT_EQ(lease.layout().attr().size(), 3000u);
}

TEST_F(CoreFailuresTest, ASessionThatIgnoresARecallLosesItsLeasesOnceItsTermIsOver) {
  const proto::Reply created = a_->Create(kRoot, "f");
  a_->answer_recalls = false;
  const uint64_t stat = b_->SendGetAttr(created.entry().attr().inode(), false);
  h_.Advance(9'000);
  EXPECT_FALSE(b_->HasReply(stat));
  h_.Advance(15'000);
  // The recall is overdue since a moment ago, but the last renewal that was answered is younger than a lease:
  // what is cached under it may still be shown.
  EXPECT_FALSE(b_->HasReply(stat));
  EXPECT_FALSE(a_->closed.has_value());
  EXPECT_EQ(h_.NewClient()->Hello(a_->session).status().code(),
            static_cast<uint32_t>(StatusCode::kSessionUnknown))
      << "a new stream is no way to go on with it";
  h_.Advance(8'000);
  EXPECT_TRUE(b_->HasReply(stat));
  EXPECT_TRUE(a_->closed.has_value());
}

TEST_F(CoreFailuresTest, AWriterBelowTheQuorumGetsANewConfiguration) {
  h_.StartServer(4);
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  h_.Write(layout, 3, 3000);
  h_.StopServer(h_.IndexOf(layout.members(0)));
  proto::Request trouble;
  trouble.mutable_chunk_trouble()->set_inode(inode);
  trouble.mutable_chunk_trouble()->set_chunk(layout.chunk());
  trouble.mutable_chunk_trouble()->set_epoch(layout.epoch());
  trouble.mutable_chunk_trouble()->set_need_replacement(true);
  const proto::Reply reply = a_->Call(trouble);
  ASSERT_EQ(CodeOf(reply), StatusCode::kOk) << reply.status().message();
  ASSERT_EQ(reply.layout().chunks_size(), 1);
  const proto::ChunkLayout& next = reply.layout().chunks(0);
  EXPECT_GT(next.epoch(), layout.epoch());
  EXPECT_EQ(next.base().seq(), 3u);
  EXPECT_EQ(next.members_size(), 3);
  EXPECT_EQ(std::count(next.members().begin(), next.members().end(), layout.members(0)), 0);
  // The writer goes on under the new epoch on the members that hold the base.
  int at_base = 0;
  for (uint32_t member : next.members()) {
    const auto* replica = h_.replicas(h_.IndexOf(member)).Find(ChunkId(layout.chunk()));
    if (replica != nullptr && replica->state.accepted == Stamp{Epoch(next.epoch()), 3}) ++at_base;
  }
  EXPECT_GE(at_base, 2);
  // Also whoever did not ask hears of it.
  ASSERT_EQ(a_->reconfigured.size(), 1u);
  EXPECT_EQ(a_->reconfigured[0].inode(), inode);
  EXPECT_EQ(a_->reconfigured[0].layout().epoch(), next.epoch());
}

TEST_F(CoreFailuresTest, AWriterWhoCannotBeHelpedIsToldWhoIsMissing) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const proto::ChunkLayout layout = created.entry().layout(0);
  h_.Write(layout, 3, 3000);
  h_.StopServer(h_.IndexOf(layout.members(0)));
  h_.StopServer(h_.IndexOf(layout.members(1)));
  proto::Request trouble;
  trouble.mutable_chunk_trouble()->set_inode(created.entry().attr().inode());
  trouble.mutable_chunk_trouble()->set_chunk(layout.chunk());
  trouble.mutable_chunk_trouble()->set_epoch(layout.epoch());
  trouble.mutable_chunk_trouble()->set_need_replacement(true);
  const uint64_t number = a_->Send(trouble);
  h_.Advance(9'500);
  EXPECT_FALSE(a_->HasReply(number));
  h_.Advance(1'000);
  const proto::Reply reply = a_->Wait(number);
  EXPECT_EQ(CodeOf(reply), StatusCode::kNoQuorum);
  for (int i : {0, 1}) {
    EXPECT_NE(reply.status().message().find("cs" + std::to_string(layout.members(i)) + " down since"),
              std::string::npos)
        << reply.status().message();
  }
}

TEST_F(CoreFailuresTest, AfterARestartSessionsComeBackWithTheirLeases) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  const uint64_t lease = created.leases(0).number();
  ASSERT_EQ(b_->Lookup(kRoot, "nothing").leases_size(), 1);
  const uint64_t b_dir_lease =
      h_.core().leases().Find(InodeId(kRoot), SessionId(b_->session))->number.value();
  const uint64_t a_session = a_->session;
  const uint64_t b_session = b_->session;
  h_.RestartMaster();
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);

  auto a = h_.NewClient();
  a->next_number = 100;
  proto::LeaseClaim claim;
  claim.set_inode(inode);
  claim.set_mode(proto::LEASE_WRITE);
  claim.set_number(lease);
  const proto::HelloReply hello = a->Hello(a_session, {claim});
  EXPECT_EQ(hello.status().code(), 0u);
  EXPECT_EQ(hello.rejected_claims_size(), 0);
  EXPECT_GT(hello.grace_left_ms(), 0u);
  // The holder goes on at once; others' changes wait for the session that is still missing.
  h_.Write(layout, 2, 100);
  proto::Request write_back;
  *write_back.mutable_write_back()->add_commits() =
      h_.SealCommit(inode, lease, layout, 2, 100, proto::LEASE_WRITE);
  EXPECT_EQ(CodeOf(a->Call(write_back)), StatusCode::kOk);
  proto::Request mkdir;
  mkdir.mutable_mkdir()->set_parent(kRoot);
  mkdir.mutable_mkdir()->set_name("d");
  mkdir.mutable_mkdir()->set_mode(0755);
  const uint64_t waiting = a->Send(mkdir);
  h_.Advance(1000);
  EXPECT_FALSE(a->HasReply(waiting));

  auto b = h_.NewClient();
  proto::LeaseClaim directory;
  directory.set_inode(kRoot);
  directory.set_mode(proto::LEASE_READ);
  directory.set_number(b_dir_lease);
  const proto::HelloReply back = b->Hello(b_session, {directory});
  EXPECT_EQ(back.grace_left_ms(), 0u) << "everybody is back: the grace period is over";
  EXPECT_EQ(back.rejected_claims_size(), 0);
  EXPECT_EQ(CodeOf(a->Wait(waiting)), StatusCode::kOk);
  ASSERT_EQ(b->recalls.size(), 1u) << "its lease on the directory was honoured";
}

// Found by the simulator of the whole service: the client had flushed, sealed and given the lease back, but its answer met no
// master. Granted again under the same number, its next writes repeated the numbers of those before, and replicas confirmed
// them as duplicates without storing them.
TEST_F(CoreFailuresTest, AfterARestartAWriteLeaseThatItsHolderDoesNotClaimIsAskedBackBeforeItIsGrantedAgain) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  const uint64_t lease = created.leases(0).number();
  const uint64_t session = a_->session;
  b_->Goodbye();
  h_.Write(layout, 3, 300);
  const proto::InodeCommit given_back = h_.SealCommit(inode, lease, layout, 3, 300, proto::LEASE_NONE);
  h_.RestartMaster();
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  auto a = h_.NewClient();
  a->next_number = 100;
  a->answer_recalls = false;
  a->Hello(session);
  const uint64_t wants = a->SendLease(inode, proto::LEASE_WRITE, 0, 1);
  h_.Advance(500);
  EXPECT_FALSE(a->HasReply(wants)) << "the lease that was given back must not come again";
  ASSERT_EQ(a->recalls.size(), 1u);
  EXPECT_EQ(a->recalls[0].number(), lease);
  a->AnswerRecall(a->recalls[0], &given_back);
  const proto::Reply again = a->Wait(wants);
  ASSERT_EQ(CodeOf(again), StatusCode::kOk) << again.status().message();
  EXPECT_GT(again.leases(0).number(), lease);
  EXPECT_EQ(again.layout().chunks(0).base().seq(), 3u) << "on what was sealed";
  EXPECT_EQ(again.layout().attr().size(), 300u);
}

TEST_F(CoreFailuresTest, AfterARestartALoweredWriteLeaseIsAskedForItsSealBeforeItIsRaisedAgain) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  const uint64_t lease = created.leases(0).number();
  const uint64_t session = a_->session;
  b_->Goodbye();
  h_.Write(layout, 2, 200);
  const proto::InodeCommit lowered = h_.SealCommit(inode, lease, layout, 2, 200, proto::LEASE_READ);
  h_.RestartMaster();
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  auto a = h_.NewClient();
  a->next_number = 100;
  a->answer_recalls = false;
  proto::LeaseClaim claim;
  claim.set_inode(inode);
  claim.set_mode(proto::LEASE_READ);
  claim.set_number(lease);
  a->Hello(session, {claim});
  ASSERT_EQ(a->recalls.size(), 1u);
  EXPECT_EQ(a->recalls[0].keep(), proto::LEASE_READ);
  a->AnswerRecall(a->recalls[0], &lowered);
  const proto::Reply again = a->Wait(a->SendLease(inode, proto::LEASE_WRITE, 0, 1));
  ASSERT_EQ(CodeOf(again), StatusCode::kOk) << again.status().message();
  EXPECT_GT(again.leases(0).number(), lease);
  EXPECT_EQ(again.layout().chunks(0).base().seq(), 2u);
}

// Found by the simulator of the whole service: the report of a server that had been down came while the others had not
// answered yet, and was forgotten with their answers. Its copy stayed until it registered again.
TEST_F(CoreFailuresTest, ADeletedChunkIsErasedAlsoFromAServerThatComesBackWhileOthersAreBeingErased) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  const ChunkId chunk(layout.chunk());
  ASSERT_EQ(CodeOf(a_->Unlink(kRoot, "f")), StatusCode::kOk);
  h_.server(1).mute = true;
  h_.StopServer(3);
  h_.Advance(2'500);
  EXPECT_EQ(h_.replicas(2).Find(chunk), nullptr);
  h_.StartServer(3);
  EXPECT_NE(h_.replicas(3).Find(chunk), nullptr);
  h_.server(1).AnswerHeld();
  h_.Advance(6'000);
  EXPECT_EQ(h_.replicas(3).Find(chunk), nullptr);
  EXPECT_FALSE(ChunkRecordOf(h_.core().txn(), chunk));
}

TEST_F(CoreFailuresTest, AfterARestartTheMissingWriterIsRecoveredAtTheEndOfGrace) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  h_.Write(created.entry().layout(0), 2, 1234);
  const uint64_t b_session = b_->session;
  h_.RestartMaster();
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  auto b = h_.NewClient();
  b->next_number = 100;
  b->Hello(b_session);
  const uint64_t wants = b->SendLease(inode, proto::LEASE_READ);
  h_.Advance(8'000);
  EXPECT_FALSE(b->HasReply(wants));
  h_.Advance(4'000);
  const proto::Reply reply = b->Wait(wants);
  ASSERT_EQ(CodeOf(reply), StatusCode::kOk) << reply.status().message();
  EXPECT_EQ(reply.layout().attr().size(), 1234u);
  auto late = h_.NewClient();
  EXPECT_EQ(late->Hello(a_->session).status().code(), static_cast<uint32_t>(StatusCode::kSessionUnknown));
}

TEST_F(CoreFailuresTest, AServerThatWasAwayIsBroughtUpToDate) {
  const proto::Reply created = a_->Create(kRoot, "f");
  const proto::ChunkLayout layout = created.entry().layout(0);
  const uint32_t away = layout.members(2);
  h_.StopServer(h_.IndexOf(away));
  const std::vector<uint32_t> two = {layout.members(0), layout.members(1)};
  h_.Write(layout, 3, 3000, two);
  proto::Request write_back;
  *write_back.mutable_write_back()->add_commits() = h_.SealCommit(
      created.entry().attr().inode(), created.leases(0).number(), layout, 3, 3000, proto::LEASE_NONE, two);
  ASSERT_EQ(CodeOf(a_->Call(write_back)), StatusCode::kOk);
  h_.Advance(1'000);
  EXPECT_EQ(h_.core().repair().counters().below_policy, 1u);
  h_.StartServer(h_.IndexOf(away));
  h_.Advance(2'000);
  EXPECT_EQ(Record(layout.chunk()).carriers_size(), 3);
  EXPECT_EQ(Record(layout.chunk()).epoch(), layout.epoch()) << "the same members: no new configuration";
  EXPECT_EQ(h_.replicas(h_.IndexOf(away)).syncs, 1u);
  EXPECT_EQ(h_.core().repair().counters().below_policy, 0u);
}

TEST_F(CoreFailuresTest, ARepairThatWasOvertakenByAWriterKeepsItOutTheNextTime) {
  proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  proto::ChunkLayout layout = created.entry().layout(0);
  const std::vector<uint32_t> two = {layout.members(0), layout.members(1)};
  FakeServer& behind = h_.server(h_.IndexOf(layout.members(2)));
  behind.mute = true;
  const auto seal = [&](FakeClient& client, uint64_t lease, uint64_t count) {
    h_.Write(layout, count, 1000, two);
    proto::Request request;
    *request.mutable_write_back()->add_commits() =
        h_.SealCommit(inode, lease, layout, count, 1000, proto::LEASE_NONE, two);
    EXPECT_EQ(CodeOf(client.Call(request)), StatusCode::kOk);
  };
  seal(*a_, created.leases(0).number(), 3);
  h_.Advance(200);  // the repair is under way
  ASSERT_TRUE(h_.core().repair().Busy(ChunkId(layout.chunk())));

  // Another client writes to it meanwhile: the copy is of a stamp that nobody has any more.
  const proto::Reply lease = b_->Wait(b_->SendLease(inode, proto::LEASE_WRITE));
  ASSERT_EQ(CodeOf(lease), StatusCode::kOk) << lease.status().message();
  proto::Request announce;
  announce.mutable_announce()->set_inode(inode);
  announce.mutable_announce()->set_lease(lease.leases(0).number());
  announce.mutable_announce()->set_count(1);
  const proto::Reply opened = b_->Call(announce);
  ASSERT_EQ(opened.layout().chunks_size(), 1) << opened.status().message();
  layout = opened.layout().chunks(0);
  h_.Write(layout, 1, 1000, two);
  behind.AnswerHeld();
  h_.Settle();
  behind.mute = true;
  proto::Request request;
  *request.mutable_write_back()->add_commits() =
      h_.SealCommit(inode, lease.leases(0).number(), layout, 1, 1000, proto::LEASE_NONE, two);
  ASSERT_EQ(CodeOf(b_->Call(request)), StatusCode::kOk);
  h_.Advance(1'500);
  ASSERT_TRUE(h_.core().repair().Busy(ChunkId(layout.chunk())));

  // Who would open it now waits until the copy is there.
  const uint64_t wants = a_->SendLease(inode, proto::LEASE_WRITE);
  EXPECT_FALSE(a_->HasReply(wants));
  behind.AnswerHeld();
  EXPECT_EQ(CodeOf(a_->Wait(wants)), StatusCode::kOk);
  EXPECT_EQ(Record(layout.chunk()).carriers_size(), 3);
}

TEST_F(CoreFailuresTest, ADiskThatRefusesCopiesIsNotAskedAgainAndAgain) {
  proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  proto::ChunkLayout layout = created.entry().layout(0);
  const std::vector<uint32_t> two = {layout.members(0), layout.members(1)};
  FakeReplicas& behind = h_.replicas(h_.IndexOf(layout.members(2)));
  behind.refuse_syncs = Status(StatusCode::kNoSpace, "disk /d is full");
  // A file that is written all the time: sealed with two copies, opened again, every second.
  uint64_t lease = created.leases(0).number();
  for (int second = 0; second < 60; ++second) {
    h_.Write(layout, 1, 1000, two);
    proto::Request request;
    *request.mutable_write_back()->add_commits() =
        h_.SealCommit(inode, lease, layout, 1, 1000, proto::LEASE_NONE, two);
    ASSERT_EQ(CodeOf(a_->Call(request)), StatusCode::kOk);
    h_.Advance(500);
    const proto::Reply again = a_->Wait(a_->SendLease(inode, proto::LEASE_WRITE));
    ASSERT_EQ(CodeOf(again), StatusCode::kOk) << again.status().message();
    lease = again.leases(0).number();
    proto::Request announce;
    announce.mutable_announce()->set_inode(inode);
    announce.mutable_announce()->set_lease(lease);
    announce.mutable_announce()->set_count(1);
    const proto::Reply opened = a_->Call(announce);
    ASSERT_EQ(opened.layout().chunks_size(), 1) << opened.status().message();
    layout = opened.layout().chunks(0);
    h_.Advance(500);
  }
  EXPECT_GE(behind.refused_syncs, 2u) << "it is tried again";
  EXPECT_LE(behind.refused_syncs, 7u) << "after 2, 4, 8, 16, 32 seconds";
  // Another server may have the copy at once.
  h_.StartServer(4);
  h_.Write(layout, 1, 1000, two);
  proto::Request request;
  *request.mutable_write_back()->add_commits() =
      h_.SealCommit(inode, lease, layout, 1, 1000, proto::LEASE_NONE, two);
  ASSERT_EQ(CodeOf(a_->Call(request)), StatusCode::kOk);
  h_.Advance(70'000);
  EXPECT_EQ(Record(layout.chunk()).carriers_size(), 3);
  EXPECT_EQ(h_.ReplicasOf(layout.members(2))->Find(ChunkId(layout.chunk())), nullptr);
}

// After a loss of power of everything a writer begins its chunks anew while the servers are still reporting.
// The question after the report is lost: it is asked again, and the replica is missed all the same.
// Found by the simulator of the whole service (seed 720). A report is not compared while a writer has the chunk open; when that writer
// never begins, the seal on record stands with carriers of before.
TEST_F(CoreFailuresTest, AChunkPlacedOnTwoServersIsRaisedToThree) {
  h_.StopServer(3);
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  ASSERT_EQ(layout.members_size(), 2);
  h_.StartServer(3);
  h_.Advance(4'000);
  EXPECT_EQ(Record(layout.chunk()).members_size(), 3);
  EXPECT_EQ(Record(layout.chunk()).carriers_size(), 3);
}

TEST_F(CoreFailuresTest, StatusSaysWhatIsWrong) {
  proto::StatusResponse healthy;
  FillStatus(h_.core(), &healthy);
  EXPECT_EQ(healthy.health(), "healthy");
  h_.StopServer(1);
  proto::StatusResponse degraded;
  FillStatus(h_.core(), &degraded);
  EXPECT_EQ(degraded.health(), "degraded");
  ASSERT_GE(degraded.reasons_size(), 1);
  EXPECT_NE(degraded.reasons(0).find("down since"), std::string::npos);
  h_.StopServer(2);
  proto::StatusResponse unavailable;
  FillStatus(h_.core(), &unavailable);
  EXPECT_EQ(unavailable.health(), "unavailable");
}

// A server that lost power is told a floor for its promises, which may be above the epoch of a delete that is under way.
TEST_F(CoreFailuresTest, ADeleteBelowAPromiseGoesOnInAHigherEpoch) {
  const auto [inode, layout] = h_.SealedFile(*a_, "f");
  const Epoch promised(h_.core().ids().NextEpoch().value() + 2);
  for (uint32_t i = 1; i <= 2; ++i) h_.replicas(i).all().at(ChunkId(layout.chunk())).state.promised = promised;
  const uint64_t unlink = b_->SendUnlink(kRoot, "f");
  h_.Advance(5'000);
  ASSERT_TRUE(b_->HasReply(unlink));
  EXPECT_EQ(CodeOf(b_->Wait(unlink)), StatusCode::kOk);
  h_.Advance(5'000);
  EXPECT_FALSE(ChunkRecordOf(h_.core().txn(), ChunkId(layout.chunk())));
}

TEST_F(CoreFailuresTest, StrangersAreNotRegistered) {
  class Stranger final : public ServerChannel {
   public:
    void Send(proto::MasterToChunkserver message) override { last = std::move(message); }
    void Close(const Status& status) override { closed = status; }
    proto::MasterToChunkserver last;
    std::optional<Status> closed;
  };
  auto refused = [&](auto change) {
    auto message = std::make_shared<proto::ChunkserverMessage>();
    proto::Register* request = message->mutable_register_();
    request->set_wire_version(wire::kWireVersion);
    request->set_server_uuid(Uuid{1, 99}.ToString());
    request->set_data_address("10.0.0.99:9410");
    change(request);
    auto stranger = std::make_shared<Stranger>();
    h_.core().inbox().Push(ServerMessageEvent{stranger, message});
    h_.Settle();
    return stranger->closed ? stranger->closed->code() : StatusCode::kOk;
  };
  EXPECT_EQ(refused([](proto::Register* r) { r->set_wire_version(77); }), StatusCode::kVersionMismatch);
  EXPECT_EQ(refused([](proto::Register* r) { r->set_cluster_id(std::string(32, 'a')); }),
            StatusCode::kWrongCluster);
  EXPECT_EQ(refused([](proto::Register* r) { r->set_server(2); }), StatusCode::kWrongCluster);
  EXPECT_EQ(refused([](proto::Register* r) { r->set_server_uuid("x"); }), StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](proto::Register* r) {
              r->set_server_uuid(Uuid{1, 1}.ToString());
            }),
            StatusCode::kAlreadyExists);
  EXPECT_EQ(h_.core().servers().all().size(), 3u);
}

}  // namespace
}  // namespace cairn::master
