// A file that this client and others use in turn: which leases are asked for, and how long they stay.
#include <atomic>
#include <thread>

#include "tests/client/client_fixture.h"

namespace cairn::client::testing {
namespace {

using Op = proto::Request;

class HandoverTest : public ClientTest {
 protected:
  static constexpr uint64_t kChunk = 4096;

  Handle OpenIt(Client& client, uint64_t inode, OpenFlags flags) {
    auto handle = client.Open(root, InodeId(inode), flags);
    EXPECT_TRUE(handle.ok()) << handle.status().ToString();
    return *handle;
  }
  // Somebody else wants to write it.
  proto::RecallReply TakeAway(uint64_t inode) {
    EXPECT_TRUE(master.Recall(inode, proto::LEASE_NONE));
    return master.AwaitRecallReply(inode);
  }
  std::vector<proto::LeaseOp> Asked() { return master.lease_requests(); }
  void ReadAndWrite(Client& client, Handle handle) {
    std::string text(4, 0);
    ASSERT_TRUE(client.Read(handle, 0, std::as_writable_bytes(std::span(text))).ok());
    ASSERT_TRUE(client.Write(handle, 0, Bytes("next")).ok());
  }
};

// Otherwise the chunk is announced when the lease is recalled: a round trip that the next one waits for, too.
TEST_F(HandoverTest, TheChunkThatWillBeWrittenIsAnnouncedWithTheLeaseAlsoAfterItWasAway) {
  const uint64_t inode = master.AddFile(1, "a", 0644, 0, 0, 5 * kChunk + 7);
  master.SetChunkBytes(inode, kChunk);
  auto client = Connect();
  const Handle handle = OpenIt(*client, inode, {.write = true});
  const Handle appends = OpenIt(*client, inode, {.write = true, .append = true});
  ASSERT_TRUE(client->Write(handle, 3 * kChunk + 1, Bytes("x")).ok());
  EXPECT_EQ(Asked().back().first(), 3u);
  EXPECT_EQ(Asked().back().count(), 1u);
  TakeAway(inode);
  ASSERT_TRUE(client->Write(appends, 0, Bytes("x")).ok());
  EXPECT_EQ(Asked().back().first(), 5u) << "where the file ended last";
  EXPECT_EQ(Asked().back().count(), 1u);
  EXPECT_EQ(Asked().size(), 2u);
}

TEST_F(HandoverTest, AReadAsksForTheLayoutWhereItReads) {
  const uint64_t inode = master.AddFile(1, "a", 0644, 0, 0, 40 * kChunk);
  master.SetChunkBytes(inode, kChunk);
  auto client = Connect();
  const Handle handle = OpenIt(*client, inode, {.write = true});
  TakeAway(inode);
  std::string text(4, 0);
  ASSERT_TRUE(client->Read(handle, 33 * kChunk, std::as_writable_bytes(std::span(text))).ok());
  ASSERT_FALSE(Asked().empty());
  EXPECT_EQ(Asked().back().first(), 33u);
}

TEST_F(HandoverTest, WhoReadsBeforeWritingTakesOneLeaseForBoth) {
  const uint64_t inode = master.AddFile(1, "a", 0644, 0, 0, 4);
  auto client = Connect();
  const Handle handle = OpenIt(*client, inode, {.write = true});
  TakeAway(inode);
  ReadAndWrite(*client, handle);
  EXPECT_EQ(master.Count(Op::kLease), 2) << "a read lease, which is exchanged";
  for (int turn = 0; turn < 3; ++turn) {
    TakeAway(inode);
    master.ResetCounts();
    ReadAndWrite(*client, handle);
    EXPECT_EQ(master.Count(Op::kLease), 1);
    EXPECT_EQ(Asked().back().mode(), proto::LEASE_WRITE);
  }
  // It only reads now: taken in vain once, then no more.
  std::string text(4, 0);
  for (int turn = 0; turn < 2; ++turn) {
    TakeAway(inode);
    ASSERT_TRUE(client->Read(handle, 0, std::as_writable_bytes(std::span(text))).ok());
    EXPECT_EQ(Asked().back().mode(), turn == 0 ? proto::LEASE_WRITE : proto::LEASE_READ);
  }
}

// The kernel asks for security.capability before each write: answered from the lease that the write needs anyway.
TEST_F(HandoverTest, WhatTheKernelAsksForBeforeAWriteCostsNothingOnTop) {
  const uint64_t inode = master.AddFile(1, "a", 0644, 0, 0, 4);
  auto client = Connect();
  const Handle handle = OpenIt(*client, inode, {.write = true});
  ASSERT_TRUE(client->Write(handle, 0, Bytes("next")).ok());
  TakeAway(inode);
  master.ResetCounts();
  EXPECT_EQ(client->GetXattr(root, InodeId(inode), "security.capability").code(), StatusCode::kNoAttribute);
  ASSERT_TRUE(client->Write(handle, 0, Bytes("more")).ok());
  EXPECT_EQ(master.Total(), 1);
  EXPECT_EQ(master.Count(Op::kLease), 1);
}

TEST_F(HandoverTest, AReaderNeverTakesTheWriteLease) {
  const uint64_t inode = master.AddFile(1, "a", 0644, 0, 0, 4);
  auto client = Connect();
  const Handle writes = OpenIt(*client, inode, {.write = true});
  const Handle reads = OpenIt(*client, inode, {});
  TakeAway(inode);
  ReadAndWrite(*client, writes);
  TakeAway(inode);
  std::string text(4, 0);
  ASSERT_TRUE(client->Read(reads, 0, std::as_writable_bytes(std::span(text))).ok());
  EXPECT_EQ(Asked().back().mode(), proto::LEASE_READ);
}

// As long as one write follows the other the lease stays, up to a bound: here an hour, so that it is the pause that ends it.
TEST_F(HandoverTest, ABurstGoesOnUnderTheLeaseThatIsWanted) {
  burst_us = burst_gap_us = 3'600'000'000;
  const uint64_t inode = master.AddFile(1, "a");
  auto client = Connect();
  const Handle handle = OpenIt(*client, inode, {.write = true, .append = true});
  ASSERT_TRUE(client->Write(handle, 0, Bytes("first")).ok());
  ASSERT_EQ(master.Count(Op::kLease), 1);
  ASSERT_TRUE(master.Recall(inode, proto::LEASE_NONE));
  while (client->Stats().lease_recalls == 0) std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(client->Write(handle, 0, Bytes("more")).ok());
  EXPECT_EQ(master.Count(Op::kLease), 1);
}

TEST_F(HandoverTest, WhoIsNotAtItGivesTheLeaseBackAtOnce) {
  burst_us = 3'600'000'000;
  burst_gap_us = 0;
  const uint64_t inode = master.AddFile(1, "a");
  auto client = Connect();
  const Handle handle = OpenIt(*client, inode, {.write = true});
  ASSERT_TRUE(client->Write(handle, 0, Bytes("first")).ok());
  EXPECT_EQ(TakeAway(inode).commit().size(), 5u);
}

// However busy it is: a lease that is older than the bound goes when it is wanted.
TEST_F(HandoverTest, ABurstDoesNotKeepTheLeaseForEver) {
  burst_us = 1;
  burst_gap_us = 3'600'000'000;
  const uint64_t inode = master.AddFile(1, "a");
  auto client = Connect();
  const Handle handle = OpenIt(*client, inode, {.write = true, .append = true});
  ASSERT_TRUE(client->Write(handle, 0, Bytes("first")).ok());
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) EXPECT_TRUE(client->Write(handle, 0, Bytes("more")).ok());
  });
  TakeAway(inode);
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace cairn::client::testing
