// Power is lost at the master: the end of its log comes back from the clients that caused it.
#include "master/core/log_tail.h"

#include <gtest/gtest.h>

#include "master/state/chunk_queries.h"
#include "tests/master/fakes.h"

namespace cairn::master {
namespace {

constexpr uint64_t kRoot = 1;

StatusCode CodeOf(const proto::Reply& reply) { return static_cast<StatusCode>(reply.status().code()); }

class LogTailTest : public ::testing::Test {
 protected:
  void SetUp() override {
    a_ = h_.NewClient();
    a_->Hello();
    b_ = h_.NewClient();
    b_->Hello();
    h_.KeepDisk();  // what comes from now on is in memory only
  }
  // The client of `before`, come back with what it kept.
  std::shared_ptr<FakeClient> Back(const FakeClient& before, std::vector<proto::KeptCommand> kept) {
    auto client = h_.NewClient();
    client->next_number = before.next_number + 100;
    client->SendHello(before.session, {}, std::move(kept));
    if (client->hello) client->session = client->hello->session();
    return client;
  }
  std::shared_ptr<FakeClient> Back(const FakeClient& before) { return Back(before, before.kept); }
  // The inode of a name, 0 when there is none.
  uint64_t Find(FakeClient& client, uint64_t directory, const std::string& name) {
    const proto::Reply reply = client.Lookup(directory, name, false);
    return CodeOf(reply) == StatusCode::kOk ? reply.entry().attr().inode() : 0;
  }
  uint64_t Mkdir(FakeClient& client, const std::string& name) {
    proto::Request request;
    request.mutable_mkdir()->set_parent(kRoot);
    request.mutable_mkdir()->set_name(name);
    request.mutable_mkdir()->set_mode(0755);
    const proto::Reply reply = client.Call(request);
    EXPECT_EQ(CodeOf(reply), StatusCode::kOk) << reply.status().message();
    return reply.entry().attr().inode();
  }

  Harness h_;
  std::shared_ptr<FakeClient> a_;
  std::shared_ptr<FakeClient> b_;
};

TEST_F(LogTailTest, WhatTheLossTookComesBackWhenAllAreBack) {
  const uint64_t d = Mkdir(*a_, "d");
  const uint64_t in_d = b_->Create(d, "of b", false).entry().attr().inode();
  h_.LosePower();
  auto a = Back(*a_);
  EXPECT_FALSE(a->hello) << "b may bring what lies between";
  auto b = Back(*b_);
  ASSERT_TRUE(b->hello);
  ASSERT_TRUE(a->hello);
  EXPECT_EQ(a->hello->lost_commands(), 0u);
  EXPECT_EQ(b->hello->lost_commands(), 0u);
  b->session = b_->session;
  EXPECT_EQ(Find(*b, kRoot, "d"), d);
  EXPECT_EQ(Find(*b, d, "of b"), in_d) << "the same inode as was answered before";
}

TEST_F(LogTailTest, TheOrderIsThatOfTheLogAndNotThatOfComingBack) {
  const uint64_t d = Mkdir(*a_, "d");
  const uint64_t in_d = b_->Create(d, "of b", false).entry().attr().inode();
  h_.LosePower();
  auto b = Back(*b_);  // its command needs that of a
  auto a = Back(*a_);
  ASSERT_TRUE(a->hello && b->hello);
  EXPECT_EQ(b->hello->lost_commands(), 0u);
  a->session = a_->session;
  EXPECT_EQ(Find(*a, d, "of b"), in_d);
}

// Found by the simulator (seed 91): a client that had nothing to bring was told that the name did not exist.
TEST_F(LogTailTest, NobodyIsToldAnythingBeforeAllThatWasLostIsBack) {
  const uint64_t d = Mkdir(*a_, "d");
  h_.LosePower();
  auto b = Back(*b_, {});
  EXPECT_FALSE(b->hello) << "it has nothing to bring, but what it claims is decided by what others bring";
  auto c = h_.NewClient();  // a new session is not waited for, and waits
  c->SendHello(0, {}, {});
  h_.Settle();
  ASSERT_TRUE(c->hello);
  c->session = c->hello->session();
  const auto lookup = [&](FakeClient& client) {
    proto::Request request;
    request.mutable_lookup()->set_parent(kRoot);
    request.mutable_lookup()->set_name("d");
    return client.Send(request);
  };
  const uint64_t early = lookup(*c);
  h_.Settle();
  EXPECT_FALSE(c->HasReply(early));
  auto a = Back(*a_);
  ASSERT_TRUE(a->hello && b->hello);
  EXPECT_EQ(c->Wait(early).entry().attr().inode(), d);

  h_.Advance(1'500);
  // A crash of the process takes nothing away: who is back is served at once.
  h_.RestartMaster();
  b = Back(*b, {});
  ASSERT_TRUE(b->hello);
  EXPECT_TRUE(b->HasReply(lookup(*b)));
}

// The power goes again, or the process ends, before they are: the boot alone does not say that the log is whole.
TEST_F(LogTailTest, ARestartInBetweenDoesNotMakeTheLogWhole) {
  const uint64_t d = Mkdir(*a_, "d");
  h_.LosePower();
  h_.RestartMaster();
  auto b = Back(*b_, {});
  EXPECT_FALSE(b->hello);
  auto a = Back(*a_);
  ASSERT_TRUE(a->hello && b->hello);
  b->session = b_->session;
  EXPECT_EQ(Find(*b, kRoot, "d"), d);
}

// Found by the simulator (seed 198): a session that the master had forgotten came back later than the others, and what it
// brought changed what they had been told meanwhile.
TEST_F(LogTailTest, ANewSessionIsAnsweredWhenItsOpeningIsOnDisk) {
  h_.publish_durable = false;
  auto c = h_.NewClient();
  c->SendHello(0, {}, {});
  EXPECT_FALSE(c->hello);
  h_.SyncLog();
  h_.Settle();
  EXPECT_TRUE(c->hello);
}

// Found by the simulator: a client that only read kept in its cache what was gone with the end of the log.
TEST_F(LogTailTest, ReadLeasesAreRecalledAfterALossOfPower) {
  const proto::Reply read = b_->Lookup(kRoot, "none", true);
  ASSERT_EQ(read.leases_size(), 1);
  proto::LeaseClaim claim;
  claim.set_inode(kRoot);
  claim.set_number(read.leases(0).number());
  claim.set_mode(proto::LEASE_READ);
  h_.RestartMaster();
  auto b = h_.NewClient();
  b->Hello(b_->session, {claim});
  EXPECT_TRUE(b->recalls.empty()) << "a crash of the process takes nothing away";
  h_.LosePower();
  Back(*a_, {});
  b = h_.NewClient();
  EXPECT_EQ(b->Hello(b_->session, {claim}).rejected_claims_size(), 0) << "it is used until its holder hears";
  ASSERT_EQ(b->recalls.size(), 1u);
  EXPECT_EQ(b->recalls[0].inode(), kRoot);
}

// a gave its write lease back, b got a read lease; then the log forgot that a's came back. b reads from its cache until it hears of it.
TEST_F(LogTailTest, AReadLeaseThatTheRecordContradictsIsRecalledAndWaitedFor) {
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  h_.KeepDisk();
  const proto::Reply read = b_->Wait(b_->SendLease(inode, proto::LEASE_READ));
  ASSERT_EQ(CodeOf(read), StatusCode::kOk);
  h_.LosePower();
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  auto b = h_.NewClient();
  b->answer_recalls = false;
  b->next_number = b_->next_number + 100;
  proto::LeaseClaim claim;
  claim.set_inode(inode);
  claim.set_number(read.leases(0).number());
  claim.set_mode(proto::LEASE_READ);
  b->SendHello(b_->session, {claim}, b_->kept);
  b->session = b_->session;
  h_.Settle();
  EXPECT_FALSE(b->hello) << "a may bring what decides about b's claim";
  auto a = Back(*a_);
  ASSERT_TRUE(a->hello);
  ASSERT_TRUE(b->hello);
  EXPECT_EQ(b->hello->rejected_claims_size(), 0);
  a->session = a_->session;
  const uint64_t wants = a->SendLease(inode, proto::LEASE_WRITE, 0, 1);
  h_.Advance(1'000);
  EXPECT_FALSE(a->HasReply(wants)) << "b still reads from its cache";
  ASSERT_FALSE(b->recalls.empty());
  b->AnswerRecall(b->recalls.front());
  h_.Settle();
  EXPECT_EQ(CodeOf(a->Wait(wants)), StatusCode::kOk);
}

// a's seal comes back, but not what b wrote after it, for b is gone: the replicas have it, and said so while the chunk was open.
TEST_F(LogTailTest, WhatReplicasHaveBeyondASealThatCameBackIsFound) {
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  const proto::Reply created = a_->Create(kRoot, "f");
  const uint64_t inode = created.entry().attr().inode();
  const proto::ChunkLayout layout = created.entry().layout(0);
  h_.Write(layout, 3, 3000);
  h_.KeepDisk();
  proto::Request seal;
  *seal.mutable_write_back()->add_commits() =
      h_.SealCommit(inode, created.leases(0).number(), layout, 3, 3000, proto::LEASE_NONE);
  ASSERT_EQ(CodeOf(a_->Call(seal)), StatusCode::kOk);
  const proto::Reply opened = b_->Wait(b_->SendLease(inode, proto::LEASE_WRITE, 0, 1));
  ASSERT_EQ(CodeOf(opened), StatusCode::kOk);
  h_.Write(opened.layout().chunks(0), 2, 4000);
  h_.LosePower();
  for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  h_.Advance(1'000);
  auto a = Back(*a_);
  h_.Advance(20'000);
  const auto record = ChunkRecordOf(h_.core().txn(), ChunkId(layout.chunk()));
  ASSERT_TRUE(record);
  EXPECT_EQ(record->state(), proto::CHUNK_SEALED);
  EXPECT_EQ(FromProto(record->sealed()).seq, h_.replicas(1).Find(ChunkId(layout.chunk()))->state.accepted.seq);
  EXPECT_EQ(record->sealed().seq(), 5u);
}

TEST_F(LogTailTest, WhoDoesNotComeBackIsWaitedForUntilTheGracePeriodEnds) {
  const uint64_t f = a_->Create(kRoot, "f", false).entry().attr().inode();
  h_.LosePower();
  auto a = Back(*a_);
  h_.Advance(5'000);
  EXPECT_FALSE(a->hello);
  h_.Advance(10'000);
  ASSERT_TRUE(a->hello);
  EXPECT_EQ(a->hello->status().code(), 0u);
  EXPECT_EQ(a->hello->lost_commands(), 0u);
  a->session = a_->session;
  EXPECT_EQ(Find(*a, kRoot, "f"), f);
}

TEST_F(LogTailTest, WhatCannotBeAppliedAnyMoreIsCountedForTheNextSync) {
  const uint64_t d = Mkdir(*b_, "d");
  ASSERT_EQ(CodeOf(a_->Create(d, "in d", false)), StatusCode::kOk);
  h_.LosePower();
  auto a = Back(*a_);  // b, and with it the directory, stays away
  h_.Advance(15'000);
  ASSERT_TRUE(a->hello);
  EXPECT_EQ(a->hello->lost_commands(), 1u);
  a->session = a_->session;
  EXPECT_EQ(Find(*a, kRoot, "d"), 0u);
}

TEST_F(LogTailTest, OnlyWhatThisMasterGaveOutIsTaken) {
  a_->Create(kRoot, "f", false);
  h_.LosePower();
  std::vector<proto::KeptCommand> forged = a_->kept;
  ASSERT_FALSE(forged.empty());
  for (proto::KeptCommand& kept : forged) (*kept.mutable_mac())[3] ^= 1;
  auto a = Back(*a_, forged);
  Back(*b_, {});
  ASSERT_TRUE(a->hello);
  a->session = a_->session;
  EXPECT_EQ(Find(*a, kRoot, "f"), 0u);
}

TEST_F(LogTailTest, AnotherSessionsCommandsAreNotTaken) {
  a_->Create(kRoot, "f", false);
  h_.LosePower();
  auto b = Back(*b_, a_->kept);
  Back(*a_, {});
  ASSERT_TRUE(b->hello);
  b->session = b_->session;
  EXPECT_EQ(Find(*b, kRoot, "f"), 0u);
}

TEST_F(LogTailTest, NothingIsHeldOrAppliedTwiceWhenTheLogLostNothing) {
  const uint64_t f = a_->Create(kRoot, "f", false).entry().attr().inode();
  ASSERT_EQ(CodeOf(b_->Unlink(kRoot, "f")), StatusCode::kOk);
  h_.RestartMaster();
  auto a = Back(*a_);
  ASSERT_TRUE(a->hello) << "its log has everything";
  Back(*b_);
  EXPECT_NE(f, 0u);
  EXPECT_EQ(Find(*a, kRoot, "f"), 0u) << "the deleted file is there again";
}

TEST_F(LogTailTest, ARequestThatIsRepeatedAfterwardsIsAnsweredAsBefore) {
  proto::Request mkdir;
  mkdir.mutable_mkdir()->set_parent(kRoot);
  mkdir.mutable_mkdir()->set_name("d");
  mkdir.mutable_mkdir()->set_mode(0755);
  mkdir.set_number(77);
  const proto::Reply first = a_->Call(mkdir);
  ASSERT_EQ(CodeOf(first), StatusCode::kOk);
  h_.LosePower();
  auto a = Back(*a_);
  Back(*b_);
  ASSERT_TRUE(a->hello);
  const proto::Reply again = a->Call(mkdir);
  EXPECT_EQ(CodeOf(again), StatusCode::kOk) << again.status().message();
  EXPECT_EQ(again.entry().attr().inode(), first.entry().attr().inode());
}

}  // namespace
}  // namespace cairn::master
