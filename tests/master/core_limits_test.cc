// What one client, or one machine full of them, may take from the master, and that the others do not notice.
#include <gtest/gtest.h>

#include "master/core/core.h"
#include "tests/master/fakes.h"

namespace cairn::master {
namespace {

constexpr uint64_t kRoot = 1;

StatusCode CodeOf(const proto::Reply& reply) { return static_cast<StatusCode>(reply.status().code()); }

CoreOptions Small() {
  CoreOptions options = Harness::DefaultOptions();
  options.max_sessions = 10;
  options.max_sessions_per_host = 3;
  options.max_write_leases_per_session = 2;
  return options;
}

class CoreLimitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
  }
  std::shared_ptr<FakeClient> ClientOn(const std::string& machine) {
    auto client = h_.NewClient();
    client->machine = machine;
    return client;
  }
  static StatusCode Code(const proto::HelloReply& reply) { return static_cast<StatusCode>(reply.status().code()); }

  Harness h_{Small()};
};

TEST_F(CoreLimitsTest, OneMachineDoesNotTakeAllSessions) {
  std::vector<std::shared_ptr<FakeClient>> crowd;
  for (int i = 0; i < 3; ++i) {
    crowd.push_back(ClientOn("10.0.0.1"));
    EXPECT_EQ(Code(crowd.back()->Hello()), StatusCode::kOk);
  }
  auto refused = ClientOn("10.0.0.1");
  const proto::HelloReply reply = refused->Hello();
  EXPECT_EQ(Code(reply), StatusCode::kResourceExhausted);
  EXPECT_NE(reply.status().message().find("10.0.0.1"), std::string::npos) << reply.status().message();
  EXPECT_TRUE(refused->closed.has_value()) << "a refused one keeps no place";
  EXPECT_EQ(Code(ClientOn("10.0.0.2")->Hello()), StatusCode::kOk);
  crowd[0]->Goodbye();
  EXPECT_EQ(Code(ClientOn("10.0.0.1")->Hello()), StatusCode::kOk) << "a place became free";
}

TEST_F(CoreLimitsTest, OneStreamHasOneSession) {
  auto client = ClientOn("10.0.0.1");
  client->Hello();
  client->hello.reset();
  client->SendHello(0, {}, {});
  ASSERT_TRUE(client->closed.has_value());
  EXPECT_EQ(client->closed->code(), StatusCode::kMalformed);
  EXPECT_EQ(h_.core().sessions().all().size(), 1u);
}

TEST_F(CoreLimitsTest, ASessionWritesOnlySoManyFilesAtATime) {
  auto client = ClientOn("10.0.0.1");
  client->Hello();
  std::vector<uint64_t> inodes;
  for (const char* name : {"a", "b", "c"}) {
    const proto::Reply made = client->Create(kRoot, name);
    ASSERT_EQ(CodeOf(made), StatusCode::kOk) << "the file is made all the same";
    inodes.push_back(made.entry().attr().inode());
  }
  const proto::Reply refused = client->Wait(client->SendLease(inodes[2], proto::LEASE_WRITE));
  EXPECT_EQ(CodeOf(refused), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.status().message().find("--max-write-leases"), std::string::npos);
  auto other = ClientOn("10.0.0.2");
  other->Hello();
  EXPECT_EQ(CodeOf(other->Wait(other->SendLease(inodes[2], proto::LEASE_WRITE))), StatusCode::kOk);
}

}  // namespace
}  // namespace cairn::master
