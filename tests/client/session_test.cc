// Reconnecting, exactly once, lost sessions, restarts of the master, and the leases' clock.
#include <thread>

#include "client/interrupt.h"
#include "tests/client/client_fixture.h"

namespace cairn::client::testing {
namespace {

using Op = proto::Request;
using SessionTest = ClientTest;

TEST_F(SessionTest, AMutationWhoseReplyWasLostIsCarriedOutOnce) {
  auto client = Connect();
  master.DropNextReplies(1);
  auto made = client->Mkdir(root, kRoot, "d", 0755);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  EXPECT_EQ(master.Repeats(), 1);  // the second time it was answered from the table of results
  EXPECT_TRUE(master.NameExists(1, "d"));
  ASSERT_GE(master.hellos().size(), 2u);
  EXPECT_EQ(master.hellos()[1].session(), 1u);
}

TEST_F(SessionTest, RequestsUnderWayAreSentAgainInOrderAfterABreak) {
  auto client = Connect();
  master.Hold(Op::kMkdir);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back(
        [&, i] { EXPECT_TRUE(client->Mkdir(root, kRoot, "d" + std::to_string(i), 0755).ok()); });
  }
  client->session_for_tests().BreakStream();
  ASSERT_TRUE(master.WaitFor([&] { return master.hellos().size() >= 2; }));
  master.ReleaseHeld();
  for (auto& thread : threads) thread.join();
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(master.NameExists(1, "d" + std::to_string(i)));
}

TEST_F(SessionTest, ResumingClaimsTheLeasesHeldAndNamesOpenFiles) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  client->session_for_tests().BreakStream();
  ASSERT_TRUE(master.WaitFor([&] { return master.hellos().size() == 2; }));
  const proto::Hello hello = master.hellos()[1];
  bool claimed = false;
  for (const auto& claim : hello.claims()) {
    claimed |= claim.inode() == created->entry.attr.inode.value() && claim.mode() == proto::LEASE_WRITE;
  }
  EXPECT_TRUE(claimed);
}

TEST_F(SessionTest, AfterARestartOfTheMasterWritingGoesOn) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("one")).ok());
  master.Restart();
  ASSERT_TRUE(master.WaitFor([&] { return master.hellos().size() == 2; }));
  EXPECT_TRUE(client->Write(created->handle, 3, Bytes("two")).ok());
  EXPECT_TRUE(client->Fsync(created->handle, false).ok());
  EXPECT_TRUE(client->Close(created->handle).ok());
  EXPECT_EQ(replicas.files[created->entry.attr.inode.value()], "onetwo");
  EXPECT_EQ(master.AttrOf(created->entry.attr.inode.value()).size(), 6u);
}

TEST_F(SessionTest, ALostSessionLosesBufferedWritesAndSaysSoOncePerHandle) {
  RecordingListener listener;
  auto client = Connect(&listener);
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const InodeId inode = created->entry.attr.inode;
  auto second = client->Open(root, inode, {.write = true});
  ASSERT_TRUE(second.ok());
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("buffered")).ok());
  master.ForgetSessions();
  ASSERT_TRUE(master.WaitFor([&] { return replicas.CountOf("detach " + ToString(inode)) > 0; }) ||
              replicas.CountOf("detach " + ToString(inode)) > 0);
  EXPECT_FALSE(client->Flush(created->handle).ok());
  EXPECT_TRUE(client->Flush(created->handle).ok());
  EXPECT_FALSE(client->Close(*second).ok());
  // A new session goes on.
  EXPECT_TRUE(client->Write(created->handle, 0, Bytes("again")).ok());
  EXPECT_TRUE(client->Close(created->handle).ok());
}

TEST_F(SessionTest, NothingCachedIsUsedAfterTheLeaseTimeOnTheClientsOwnClock) {
  const InodeId file(master.AddFile(1, "a"));
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, file).ok());
  const int before = master.Total();
  ASSERT_TRUE(client->GetAttr(root, file).ok());
  ASSERT_EQ(master.Total(), before);
  clock.Advance(9 * kNanosPerSecond);  // below 95 % of the ten seconds
  auto entry = client->GetAttr(root, file);
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(master.Total(), before);
  EXPECT_LE(entry->valid_ns, kNanosPerSecond);
  master.SilenceRenewals(true);
  clock.Advance(kNanosPerSecond);
  ASSERT_TRUE(client->GetAttr(root, file).ok());
  EXPECT_EQ(master.Total(), before + 1);
}

TEST_F(SessionTest, AWriteWaitsForARenewalWhenTheLeaseTimeIsOver) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  clock.Advance(60 * kNanosPerSecond);  // a suspended machine
  // The renewal is asked for at once; until it is answered nothing is written under the old time.
  EXPECT_TRUE(client->Write(created->handle, 0, Bytes("x")).ok());
  EXPECT_TRUE(client->session_for_tests().LeasesValid());
  EXPECT_TRUE(client->Close(created->handle).ok());
}

TEST_F(SessionTest, AnInterruptedCallerLeavesAndItsRequestStillCounts) {
  auto client = Connect();
  master.Hold(Op::kMkdir);
  std::atomic<bool> interrupted{false};
  Status status;
  std::thread caller([&] {
    InterruptScope scope([&] { return interrupted.load(); });
    status = client->Mkdir(root, kRoot, "d", 0755).status();
  });
  interrupted = true;
  caller.join();
  EXPECT_EQ(status.code(), StatusCode::kInterrupted);
  master.ReleaseHeld();
  EXPECT_TRUE(client->Lookup(root, kRoot, "d").ok());
}

TEST_F(SessionTest, FirstContactFailsWithTheReason) {
  master.RefuseConnections(true);
  ClientParts parts;
  parts.options.masters = {"fake:1"};
  parts.options.connect_timeout_ms = 200;
  parts.connector = master.Connector();
  parts.make_data_path = [](const std::string&, MasterPort*, int64_t) { return nullptr; };
  auto client = ClientImpl::Start(std::move(parts));
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.code(), StatusCode::kUnavailable);
  EXPECT_NE(client.status().message().find("refuses"), std::string::npos);
}

}  // namespace
}  // namespace cairn::client::testing
