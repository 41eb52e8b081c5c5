// Rebalancing that is limited to servers, a path or a storage class.
#include <functional>
#include <map>

#include "master/cluster/rebalancer.h"
#include "tests/master/core_admin_fixture.h"

namespace cairn::master {
namespace {

// Four servers, one file's chunk on some three of them; cs1 to cs3 nearly full by what they say.
class RebalanceScopeTest : public CoreAdminTest {
 protected:
  void Start(const std::vector<std::string>& racks, const std::vector<std::string>& classes = {}) {
    h_.on_register = [racks, classes](uint32_t index, proto::Register* request) {
      request->set_rack(racks[index - 1]);
      proto::DiskInfo* disk = request->mutable_disks(0);
      disk->set_total_bytes(1'000'000);
      disk->set_reserve_bytes(0);
      disk->set_free_bytes(500'000);
      disk->set_used_bytes(index <= racks.size() / 2 ? 400'000 : 0);
      if (!classes.empty()) disk->set_storage_class(classes[index - 1]);
    };
    StartServers(static_cast<uint32_t>(racks.size()));
    client_ = h_.NewClient();
    client_->Hello();
  }
  proto::RebalanceRequest Apply() {
    proto::RebalanceRequest request;
    request.set_action(proto::REBALANCE_APPLY);
    request.set_threshold_percent(0.5);
    request.set_operator_("tester");
    return request;
  }
  proto::RebalancePlan Plan(const proto::RebalanceRequest& request) {
    return PlanRebalance(h_.core().txn(), h_.core().servers(), BalanceScope(request.scope()), 0.5, 0, 0);
  }
  void Run(const proto::RebalanceRequest& request) {
    ASSERT_TRUE(h_.core().rebalancer().Change(request, 0).ok());
    AdvanceSeconds(30);
    proto::RebalanceStatus status;
    h_.core().rebalancer().FillStatus(&status);
    ASSERT_EQ(status.state(), "idle") << status.yielding();
  }
  uint64_t SetPolicy(uint64_t inode, uint32_t replicas, const std::string& storage_class) {
    proto::Request set;
    set.mutable_set_policy()->set_inode(inode);
    auto* policy = set.mutable_set_policy()->mutable_policy();
    policy->set_replicas(replicas);
    policy->set_write_quorum(1);
    policy->set_storage_class(storage_class);
    *set.mutable_credentials() = Root();
    return client_->Call(set).status().code();
  }

  std::shared_ptr<FakeClient> client_;
};

TEST_F(RebalanceScopeTest, MovesStayInTheRackThatIsNamed) {
  Start({"A", "B", "C", "A", "B", "C"});
  ASSERT_EQ(SetPolicy(kRootInode.value(), 1, ""), 0u);
  for (int i = 0; i < 60; ++i) h_.SealedFile(*client_, "f" + std::to_string(i), 10'000);
  std::map<uint32_t, size_t> before;
  for (uint32_t server = 1; server <= 6; ++server) before[server] = ListedOn(server);
  ASSERT_GT(before[1], 0u);
  proto::RebalanceRequest request = Apply();
  request.mutable_scope()->add_racks("A");
  const proto::RebalancePlan plan = Plan(request);
  EXPECT_EQ(plan.scope(), "between rack A");
  EXPECT_EQ(plan.servers_size(), 2);
  EXPECT_EQ(plan.moves(), before[1]) << "cs1 gives cs4 what it has: 400 kB more are counted there";
  Run(request);
  EXPECT_EQ(ListedOn(1), 0u);
  EXPECT_EQ(ListedOn(4), before[4] + before[1]);
  for (const uint32_t other : {2u, 3u, 5u, 6u}) EXPECT_EQ(ListedOn(other), before[other]);
  bool told = false;
  for (const NumberedEvent& event : EventsAfter(h_.core().txn(), 0, 10'000))
    told |= event.record.text().find("(between rack A)") != std::string::npos;
  EXPECT_TRUE(told);
}

TEST_F(RebalanceScopeTest, OnlyFilesBelowThePathMove) {
  Start({"A", "B"});
  ASSERT_EQ(SetPolicy(kRootInode.value(), 1, ""), 0u);
  std::vector<std::pair<uint64_t, uint64_t>> files;  // inode, chunk
  for (int i = 0; i < 40; ++i) {
    const auto file = h_.SealedFile(*client_, "f" + std::to_string(i), 10'000);
    files.emplace_back(file.first, file.second.chunk());
  }
  // The path of a single file is the smallest there is.
  const auto on_one = std::find_if(files.begin(), files.end(), [&](const auto& file) {
    return MembersOf(file.second) == std::vector<uint32_t>{1};
  });
  ASSERT_NE(on_one, files.end());
  const size_t before = ListedOn(1);
  proto::RebalanceRequest request = Apply();
  request.mutable_scope()->set_inode(on_one->first);
  EXPECT_EQ(Plan(request).moves(), 1u);
  EXPECT_EQ(Plan(request).scope(), "files below /f" + std::to_string(on_one - files.begin()));
  Run(request);
  EXPECT_EQ(ListedOn(1), before - 1);
  EXPECT_EQ(MembersOf(on_one->second), (std::vector<uint32_t>{2}));
  request.mutable_scope()->set_inode(kRootInode.value());
  EXPECT_GT(Plan(request).moves(), 1u) << "everything is below the root";
}

TEST_F(RebalanceScopeTest, AClassIsEvenedOutOverItsOwnDisks) {
  Start({"A", "B", "C", "D"}, {"ssd", "hdd", "ssd", "hdd"});
  ASSERT_EQ(SetPolicy(kRootInode.value(), 1, "ssd"), 0u);
  for (int i = 0; i < 30; ++i) h_.SealedFile(*client_, "f" + std::to_string(i), 10'000);
  proto::RebalanceRequest request = Apply();
  request.mutable_scope()->set_storage_class("hdd");
  EXPECT_EQ(Plan(request).moves(), 0u) << "no file is of that class";
  EXPECT_EQ(Plan(request).servers_size(), 2);
  request.mutable_scope()->set_storage_class("ssd");
  EXPECT_GT(Plan(request).moves(), 0u);
  Run(request);
  EXPECT_EQ(ListedOn(1), 0u);
  EXPECT_EQ(ListedOn(3), 30u);
}

TEST_F(RebalanceScopeTest, AScopeInWhichNothingCanBeEvenedOutIsRefusedWithTheReasons) {
  Start({"A", "A", "B", "B"}, {"", "", "", ""});
  const auto refusal = [&](const std::function<void(proto::RebalanceScope*)>& fill) {
    proto::RebalanceRequest request = Apply();
    fill(request.mutable_scope());
    return h_.core().rebalancer().Change(request, 0);
  };
  EXPECT_EQ(refusal([](auto* scope) { scope->add_servers(9); }).code(), StatusCode::kNotFound);
  EXPECT_EQ(refusal([](auto* scope) { scope->add_racks("Z"); }).code(), StatusCode::kNotFound);
  EXPECT_EQ(refusal([](auto* scope) { scope->set_inode(4711); }).code(), StatusCode::kNotFound);
  const Status one = refusal([](auto* scope) { scope->add_servers(2); });
  EXPECT_EQ(one.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(one.message().find("1 of the 1 server in the scope can take part"), std::string::npos) << one.message();
  h_.StopServer(1);
  const Status down = refusal([](auto* scope) { scope->add_racks("A"); });
  EXPECT_NE(down.message().find("1 of the 2 servers in the scope can take part: cs1 is down"), std::string::npos)
      << down.message();
  const Status no_class = refusal([](auto* scope) { scope->set_storage_class("tape"); });
  EXPECT_NE(no_class.message().find("cs3 has no working disk of class 'tape'"), std::string::npos)
      << no_class.message();
  proto::RebalanceStatus status;
  h_.core().rebalancer().FillStatus(&status);
  EXPECT_EQ(status.state(), "idle") << "what is refused changes nothing";
}

}  // namespace
}  // namespace cairn::master
