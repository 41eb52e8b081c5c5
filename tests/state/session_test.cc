// Exactly-once results, sessions, servers, reserved ids and policies.
#include <gmock/gmock.h>

#include "tests/state/state_fixture.h"

namespace cairn::master {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

TEST(ExactlyOnce, ARepeatIsAnsweredFromTheStoredReply) {
  FileSystem fs;
  proto::LogCommand command = fs.Command(kSession);
  command.mutable_mkdir()->set_parent(1);
  command.mutable_mkdir()->set_name("d");
  const ApplyResult first = fs.Apply(command);
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(first.repeated);
  EXPECT_GT(first.reply.log_index(), 0u);
  const ApplyResult again = fs.Apply(command);
  EXPECT_TRUE(again.repeated);
  EXPECT_EQ(again.reply.SerializeAsString(), first.reply.SerializeAsString());
  EXPECT_THAT(again.effects.directories, IsEmpty());
  EXPECT_THAT(fs.Names(kRootInode), ElementsAre("d"));
  EXPECT_TRUE(fs.Preview(command).repeated);
  EXPECT_EQ(LastStoredRequest(fs.txn(), kSession), command.request_number());
  EXPECT_EQ(StoredReply(fs.txn(), kSession, command.request_number())->SerializeAsString(),
            first.reply.SerializeAsString());
}

TEST(ExactlyOnce, AFailureIsRememberedToo) {
  FileSystem fs;
  proto::LogCommand command = fs.Command(kSession);
  command.mutable_unlink()->set_parent(1);
  command.mutable_unlink()->set_name("f");
  EXPECT_EQ(CodeOf(fs.Apply(command)), StatusCode::kNotFound);
  fs.MustCreate(kRootInode, "f");
  const ApplyResult again = fs.Apply(command);
  EXPECT_TRUE(again.repeated);
  EXPECT_EQ(CodeOf(again), StatusCode::kNotFound);
  EXPECT_THAT(fs.Names(kRootInode), ElementsAre("f"));
}

TEST(ExactlyOnce, AskingForGroupsIsNoResult) {
  FileSystem fs;
  proto::SetAttrOp op;
  op.set_inode(1);
  op.set_mode(0770);
  ASSERT_TRUE(fs.SetAttr(op).ok());
  fs.caller = User(5, 50, {}, /*groups_known=*/false);
  proto::LogCommand command = fs.Command(kSession);
  command.mutable_mkdir()->set_parent(1);
  command.mutable_mkdir()->set_name("d");
  EXPECT_EQ(CodeOf(fs.Apply(command)), StatusCode::kNeedGroups);
  *command.mutable_credentials() = User(5, 50, {0});
  EXPECT_TRUE(fs.Apply(command).ok());
}

TEST(ExactlyOnce, ResultsAreForgottenOnceTheirReplyArrivedAndTheyAreBounded) {
  FileSystem fs;
  uint64_t last = 0;
  for (int i = 0; i < 300; ++i) {
    proto::LogCommand command = fs.Command(kSession);
    command.set_acked_through(last);
    command.mutable_mkdir()->set_parent(1);
    command.mutable_mkdir()->set_name("d" + std::to_string(i));
    ASSERT_TRUE(fs.Apply(command).ok());
    last = command.request_number();
  }
  size_t stored = 0;
  for (auto it = fs.txn().Scan(Family::kResults, "", ""); it->Valid(); it->Next()) ++stored;
  EXPECT_LE(stored, 100u);
  EXPECT_GE(stored, 1u);
  proto::LogCommand old = fs.Command(kSession);
  old.set_request_number(1);
  old.mutable_mkdir()->set_parent(1);
  old.mutable_mkdir()->set_name("old");
  EXPECT_EQ(CodeOf(fs.Apply(old)), StatusCode::kMayHaveCommitted) << "its result was acknowledged";
  proto::LogCommand far = fs.Command(kSession);
  far.set_request_number(last + 2 * kMaxOutstandingRequests);
  far.mutable_mkdir()->set_parent(1);
  far.mutable_mkdir()->set_name("far");
  EXPECT_EQ(CodeOf(fs.Apply(far)), StatusCode::kResourceExhausted);
  far.set_acked_through(far.request_number() - 1);
  EXPECT_TRUE(fs.Apply(far).ok());
}

TEST(Sessions, UnknownOnesAreToldSoAndClosingForgetsEverything) {
  FileSystem fs;
  proto::LogCommand command = fs.Command(SessionId(77));
  command.mutable_mkdir()->set_parent(1);
  command.mutable_mkdir()->set_name("d");
  EXPECT_EQ(CodeOf(fs.Apply(command)), StatusCode::kSessionUnknown);
  proto::LogCommand open = fs.Command(SessionId(0));
  open.mutable_open_session()->set_session(kSession.value());
  EXPECT_EQ(CodeOf(fs.Apply(open)), StatusCode::kAlreadyExists);
  open.mutable_open_session()->set_session(77);
  open.mutable_open_session()->set_client_name("host:1:test");
  EXPECT_THAT(fs.Apply(open).effects.sessions_opened, ElementsAre(SessionId(77)));
  EXPECT_EQ(SessionRecordOf(fs.txn(), SessionId(77))->client_name(), "host:1:test");
  EXPECT_TRUE(fs.Apply(command).ok());
  EXPECT_THAT(AllSessions(fs.txn()), SizeIs(3));
  EXPECT_THAT(fs.CloseSession(SessionId(77)).effects.sessions_closed, ElementsAre(SessionId(77)));
  EXPECT_EQ(LastStoredRequest(fs.txn(), SessionId(77)), 0u);
  EXPECT_EQ(CodeOf(fs.Apply(command)), StatusCode::kSessionUnknown);
  EXPECT_THAT(fs.CloseSession(SessionId(77)).effects.sessions_closed, IsEmpty()) << "a repeat";
}

TEST(Servers, KeepTheirNumberAndChangeTheirAddress) {
  FileSystem fs;
  EXPECT_EQ(NextServerId(fs.txn()), ServerId(1));
  proto::LogCommand command = fs.Command(SessionId(0));
  proto::RegisterServerCmd* op = command.mutable_register_server();
  op->set_server(1);
  op->set_server_uuid("aa");
  op->set_address("h:1");
  EXPECT_THAT(fs.Apply(command).effects.servers_changed, ElementsAre(ServerId(1)));
  op->set_address("h:2");
  ASSERT_TRUE(fs.Apply(command).ok());
  EXPECT_EQ(ServerByUuid(fs.txn(), "aa")->record.address(), "h:2");
  op->set_server_uuid("bb");
  EXPECT_EQ(CodeOf(fs.Apply(command)), StatusCode::kWrongCluster) << "the number is another one's";
  op->set_server(2);
  op->set_server_uuid("aa");
  EXPECT_EQ(CodeOf(fs.Apply(command)), StatusCode::kAlreadyExists);
  op->set_server_uuid("bb");
  ASSERT_TRUE(fs.Apply(command).ok());
  EXPECT_EQ(NextServerId(fs.txn()), ServerId(3));
  EXPECT_THAT(AllServers(fs.txn()), SizeIs(2));
}

TEST(ReservedIds, LimitsOnlyRise) {
  FileSystem fs;
  proto::LogCommand command = fs.Command(SessionId(0));
  command.mutable_reserve_ids()->set_chunks_below(500);
  command.mutable_reserve_ids()->set_epochs_below(100);
  ASSERT_TRUE(fs.Apply(command).ok());
  command.mutable_reserve_ids()->set_chunks_below(400);
  command.mutable_reserve_ids()->set_epochs_below(200);
  ASSERT_TRUE(fs.Apply(command).ok());
  EXPECT_EQ(ReservedIds(fs.txn()).chunks_below(), 500u);
  EXPECT_EQ(ReservedIds(fs.txn()).epochs_below(), 200u);
  SetAppliedIndex(42, &fs.txn());
  EXPECT_EQ(AppliedIndex(fs.txn()), 42u);
}

class PolicyTest : public testing::Test {
 protected:
  ApplyResult Set(InodeId inode, const proto::Policy& policy) {
    proto::LogCommand command = fs_.Command(kSession);
    command.mutable_set_policy()->set_inode(inode.value());
    *command.mutable_set_policy()->mutable_policy() = policy;
    return fs_.Apply(command);
  }
  static proto::Policy Make(uint32_t n, uint32_t w, uint64_t bytes = 0, const std::string& domain = "") {
    proto::Policy policy;
    policy.set_replicas(n);
    policy.set_write_quorum(w);
    policy.set_chunk_bytes(bytes);
    policy.set_failure_domain(domain);
    return policy;
  }
  std::string Effective(InodeId inode) {
    const auto policy = EffectivePolicy(fs_.txn(), inode);
    return std::to_string(policy->replicas()) + "/" + std::to_string(policy->write_quorum()) + "/" +
           std::to_string(policy->chunk_bytes() >> 20) + "/" + policy->failure_domain();
  }
  FileSystem fs_;
};

TEST_F(PolicyTest, IsInheritedFieldByField) {
  const InodeId a = fs_.MustMkdir(kRootInode, "a");
  const InodeId b = fs_.MustMkdir(a, "b");
  const InodeId file = fs_.MustCreate(b, "f");
  EXPECT_EQ(Effective(file), "3/2/64/server");
  ASSERT_TRUE(Set(a, Make(5, 0, 1 << 20)).ok());
  EXPECT_EQ(Effective(file), "5/3/1/server") << "W without a value is the majority";
  EXPECT_EQ(fs_.Attr(file).chunk_bytes(), 64ull << 20) << "fixed when the file was made";
  EXPECT_EQ(fs_.Attr(fs_.MustCreate(b, "g")).chunk_bytes(), 1ull << 20);
  ASSERT_TRUE(Set(b, Make(0, 4, 0, "rack")).ok());
  EXPECT_EQ(Effective(file), "5/4/1/rack");
  EXPECT_EQ(GetPolicy(fs_.txn(), b)->own().write_quorum(), 4u);
  EXPECT_EQ(CodeOf(Set(b, Make(0, 6))), StatusCode::kInvalidArgument) << "more than the five inherited";
  ASSERT_TRUE(Set(a, Make(2, 2)).ok());
  EXPECT_EQ(Effective(file), "2/2/64/rack") << "an own W that does not fit any more gives way";
  ASSERT_TRUE(fs_.Rename(a, "b", kRootInode, "b").ok());
  EXPECT_EQ(Effective(file), "3/2/64/rack") << "by place in the tree";
  ASSERT_TRUE(Set(b, Make(0, 0)).ok());
  EXPECT_EQ(Effective(file), "3/2/64/server");
  ASSERT_TRUE(Set(kRootInode, Make(1, 1)).ok());
  EXPECT_EQ(Effective(file), "1/1/64/server");
}

TEST_F(PolicyTest, ValuesAreChecked) {
  const InodeId file = fs_.MustCreate(kRootInode, "f");
  EXPECT_EQ(CodeOf(Set(file, Make(3, 2))), StatusCode::kNotDirectory);
  EXPECT_EQ(CodeOf(Set(kRootInode, Make(3, 4))), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Set(kRootInode, Make(17, 9))), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Set(kRootInode, Make(3, 2, 3 << 20))), StatusCode::kInvalidArgument) << "no power of two";
  EXPECT_EQ(CodeOf(Set(kRootInode, Make(3, 2, 1 << 10))), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Set(kRootInode, Make(3, 2, 0, "planet"))), StatusCode::kInvalidArgument);
  EXPECT_EQ(Effective(file), "3/2/64/server");
  fs_.caller = User(5, 50);
  EXPECT_EQ(CodeOf(Set(kRootInode, Make(3, 3))), StatusCode::kNotPermitted);
}

TEST_F(PolicyTest, GoesWithItsDirectory) {
  const InodeId a = fs_.MustMkdir(kRootInode, "a");
  ASSERT_TRUE(Set(a, Make(2, 2)).ok());
  ASSERT_TRUE(fs_.Rmdir(kRootInode, "a").ok());
  size_t policies = 0;
  for (auto it = fs_.txn().Scan(Family::kPolicies, "", ""); it->Valid(); it->Next()) ++policies;
  EXPECT_EQ(policies, 1u);
}

}  // namespace
}  // namespace cairn::master
