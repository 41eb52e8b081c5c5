// Leases that are recalled: what is flushed, what the kernel is told, in which order, and that nothing
// deadlocks.
#include <thread>

#include "tests/client/client_fixture.h"

namespace cairn::client::testing {
namespace {

using Op = proto::Request;

class RecallTest : public ClientTest {
 protected:
  RecordingListener listener;
};

TEST_F(RecallTest, WhatIsBufferedIsOnTheReplicasBeforeTheAnswer) {
  auto client = Connect(&listener);
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const uint64_t inode = created->entry.attr.inode.value();
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(master.Recall(inode, proto::LEASE_NONE));
  const proto::RecallReply reply = master.AwaitRecallReply(inode);
  ASSERT_EQ(reply.inode(), inode);
  EXPECT_TRUE(reply.still_open());
  EXPECT_EQ(reply.commit().size(), 5u);
  EXPECT_TRUE(reply.commit().has_mtime());
  EXPECT_EQ(replicas.files[inode], "hello");
  EXPECT_TRUE(listener.Saw("inode " + std::to_string(inode) + " data"));
  // The handle works on, under a new lease.
  ASSERT_TRUE(client->Write(created->handle, 5, Bytes(" again")).ok());
  EXPECT_TRUE(client->Close(created->handle).ok());
  EXPECT_EQ(replicas.files[inode], "hello again");
}

TEST_F(RecallTest, TimesThatWereSetUnderTheLeaseGoBackWithIt) {
  auto client = Connect(&listener);
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const uint64_t inode = created->entry.attr.inode.value();
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(client->Close(created->handle).ok());
  ASSERT_TRUE(client->SetAttr(root, InodeId(inode), {.atime = TimeSpec{7, 0}, .mtime = TimeSpec{9, 0}}).ok());
  EXPECT_EQ(master.Count(Op::kSetAttr), 0);
  ASSERT_TRUE(master.Recall(inode, proto::LEASE_NONE));
  const proto::RecallReply reply = master.AwaitRecallReply(inode);
  EXPECT_EQ(reply.commit().atime().seconds(), 7);
  EXPECT_EQ(reply.commit().mtime().seconds(), 9);
  EXPECT_GT(reply.commit().ctime().seconds(), 9);
}

TEST_F(RecallTest, TheKernelIsInvalidatedBeforeTheAnswer) {
  const InodeId file(master.AddFile(1, "a"));
  auto client = Connect(&listener);
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  ASSERT_TRUE(client->Lookup(root, kRoot, "a").ok());
  bool answered_early = false;
  listener.on_names = [&] { answered_early |= !master.Holds(1); };
  ASSERT_TRUE(master.Recall(1, proto::LEASE_NONE));
  EXPECT_EQ(master.AwaitRecallReply(1).inode(), 1u);
  EXPECT_TRUE(listener.Saw("names 1"));
  EXPECT_FALSE(answered_early);
  const int before = master.Total();
  ASSERT_TRUE(client->Lookup(root, kRoot, "a").ok());
  EXPECT_EQ(master.Total(), before + 1);
}

// Absent names as well, also in a directory of which every name is known, so that none was ever asked for.
TEST_F(RecallTest, AbsentNamesAreTakenFromTheKernelToo) {
  auto client = Connect(&listener);
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  const InodeId asked = client->Mkdir(root, kRoot, "asked", 0755)->attr.inode;
  const InodeId unasked = client->Mkdir(root, kRoot, "unasked", 0755)->attr.inode;
  EXPECT_EQ(client->Lookup(root, asked, "x").code(), StatusCode::kNotFound);
  ASSERT_GT(client->NegativeValidNanos(asked), 0);
  ASSERT_TRUE(master.Recall(asked.value(), proto::LEASE_NONE));
  ASSERT_EQ(master.AwaitRecallReply(asked.value()).inode(), asked.value());
  EXPECT_TRUE(listener.Saw("names " + ToString(asked)));
  ASSERT_TRUE(master.Recall(unasked.value(), proto::LEASE_NONE));
  ASSERT_EQ(master.AwaitRecallReply(unasked.value()).inode(), unasked.value());
  EXPECT_FALSE(listener.Saw("names " + ToString(unasked))) << "the kernel was given none";
}

TEST_F(RecallTest, AContendedDirectoryGivesTheKernelNoNames) {
  master.AddFile(1, "a");
  auto client = Connect(&listener);
  EXPECT_GT(client->Lookup(root, kRoot, "a")->entry_valid_ns, 0);
  ASSERT_TRUE(master.Recall(1, proto::LEASE_NONE));
  EXPECT_EQ(master.AwaitRecallReply(1).inode(), 1u);
  EXPECT_EQ(client->Lookup(root, kRoot, "a")->entry_valid_ns, 0);
}

TEST_F(RecallTest, AnInvalidationThatBlocksInTheKernelDoesNotHoldTheAnswerBackForEver) {
  master.AddFile(1, "a");
  auto client = Connect(&listener);
  ASSERT_TRUE(client->Lookup(root, kRoot, "a").ok());
  // A create of this mount holds the directory's lock in the kernel and waits for the master, which waits for
  // our answer.
  std::mutex mu;
  std::condition_variable changed;
  bool answered = false;
  listener.on_names = [&] {
    std::unique_lock lock(mu);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), [&] { return answered; }));
  };
  ASSERT_TRUE(master.Recall(1, proto::LEASE_NONE));
  EXPECT_EQ(master.AwaitRecallReply(1).inode(), 1u);
  std::lock_guard lock(mu);
  answered = true;
  changed.notify_all();
}

TEST_F(RecallTest, AnOperationThatWaitsForTheLeaseDoesNotBlockTheRecallOfTheOldOne) {
  const uint64_t inode = master.AddFile(1, "a");
  auto client = Connect(&listener);
  auto handle = client->Open(root, InodeId(inode), {.write = true});
  ASSERT_TRUE(handle.ok());
  master.Hold(Op::kLease);  // another client is before us
  // The page being written is locked until the write is done: the kernel cannot drop it earlier.
  std::mutex mu;
  std::condition_variable changed;
  bool written = false;
  listener.on_inode = [&](InodeId) {
    std::unique_lock lock(mu);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), [&] { return written; }));
  };
  std::thread writer([&] {
    EXPECT_TRUE(client->Write(*handle, 0, Bytes("x")).ok());
    std::lock_guard lock(mu);
    written = true;
    changed.notify_all();
  });
  ASSERT_TRUE(master.Recall(inode, proto::LEASE_NONE));
  EXPECT_EQ(master.AwaitRecallReply(inode).inode(), inode);
  master.ReleaseHeld();
  writer.join();
  EXPECT_TRUE(client->Close(*handle).ok());
}

TEST_F(RecallTest, LoweringToReadKeepsTheKernelsPagesAndTheAttributes) {
  auto client = Connect(&listener);
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const uint64_t inode = created->entry.attr.inode.value();
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(master.Recall(inode, proto::LEASE_READ));
  EXPECT_EQ(master.AwaitRecallReply(inode).commit().keep(), proto::LEASE_READ);
  const int before = master.Total();
  EXPECT_EQ(client->GetAttr(root, InodeId(inode))->attr.size, 5u);
  std::string text(5, 0);
  EXPECT_EQ(*client->Read(created->handle, 0, std::as_writable_bytes(std::span(text))), 5u);
  EXPECT_EQ(text, "hello");
  EXPECT_EQ(master.Total(), before);
  EXPECT_FALSE(listener.Saw("inode " + std::to_string(inode) + " data"));
}

TEST_F(RecallTest, ARepeatedRecallIsAnsweredAgainWithTheSameCommit) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const uint64_t inode = created->entry.attr.inode.value();
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(master.Recall(inode, proto::LEASE_NONE));
  const proto::RecallReply first = master.AwaitRecallReply(inode);
  ASSERT_EQ(first.commit().size(), 5u);
  // The stream broke before the answer arrived: the master asks again when the session is resumed.
  proto::MasterMessage again;
  proto::RecallItem* item = again.mutable_recall()->add_items();
  item->set_inode(inode);
  item->set_number(first.number());
  master.Broadcast(again);
  const proto::RecallReply second = master.AwaitRecallReply(inode);
  EXPECT_EQ(second.commit().size(), 5u);
}

TEST_F(RecallTest, ALaterLeaseIsNotTouchedByARecallOfAnEarlierOne) {
  const uint64_t inode = master.AddFile(1, "a");
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, InodeId(inode)).ok());
  proto::MasterMessage stale;
  proto::RecallItem* item = stale.mutable_recall()->add_items();
  item->set_inode(inode);
  item->set_number(1);
  master.Broadcast(stale);
  EXPECT_EQ(master.AwaitRecallReply(inode).number(), 1u);
  const int before = master.Total();
  ASSERT_TRUE(client->GetAttr(root, InodeId(inode)).ok());
  EXPECT_EQ(master.Total(), before);
}

TEST_F(RecallTest, DeletingAnOpenFileElsewhereKeepsItUntilTheLastClose) {
  const uint64_t inode = master.AddFile(1, "a");
  auto client = Connect();
  auto handle = client->Open(root, InodeId(inode), {});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(master.Recall(inode, proto::LEASE_NONE, true));
  EXPECT_TRUE(master.AwaitRecallReply(inode).still_open());
  EXPECT_TRUE(client->Close(*handle).ok());
  EXPECT_EQ(master.closed_orphans(), std::vector<uint64_t>{inode});
}

TEST_F(RecallTest, EvictedLeasesAreReleasedInBatches) {
  for (int i = 0; i < 400; ++i) master.AddFile(1, "f" + std::to_string(i));
  auto client = Connect(&listener, 100);
  for (int i = 0; i < 400; ++i) ASSERT_TRUE(client->Lookup(root, kRoot, "f" + std::to_string(i)).ok());
  ASSERT_TRUE(master.WaitFor([&] { return master.released().size() >= 250; }));
  EXPECT_LT(master.Count(Op::kRelease), static_cast<int>(master.released().size()));
  for (const auto& item : master.released()) EXPECT_FALSE(item.still_open());
}

}  // namespace
}  // namespace cairn::client::testing
