// Answers that the master gave before it was told of what was written, and that arrive afterwards.
#include <gtest/gtest.h>

#include "client/cache/lease_cache.h"
#include "common/clock.h"

namespace cairn::client::testing {
namespace {

class StaleAttributes : public ::testing::Test {
 protected:
  StaleAttributes() { Answer(proto::LEASE_WRITE, 7); }

  void Answer(proto::LeaseMode mode, uint64_t number, uint64_t size = 0) {
    proto::Request request;
    request.mutable_lease()->set_inode(2);
    proto::Reply reply;
    proto::Lease* lease = reply.add_leases();
    lease->set_inode(2);
    lease->set_mode(mode);
    lease->set_number(number);
    Fill(reply.mutable_layout()->mutable_attr(), size);
    cache.ApplyReply(request, reply);
  }
  // A listing with attributes, which waits for no lease.
  void Listed(uint64_t size) {
    proto::Request request;
    request.mutable_read_dir()->set_inode(1);
    proto::Reply reply;
    proto::DirEntry* entry = reply.mutable_read_dir()->add_entries();
    entry->set_name("a");
    entry->set_inode(2);
    Fill(entry->mutable_attr(), size);
    cache.ApplyReply(request, reply);
  }
  static void Fill(proto::Attr* attr, uint64_t size) {
    attr->set_inode(2);
    attr->set_type(proto::REGULAR);
    attr->set_size(size);
  }
  uint64_t Size() { return cache.Peek(InodeId(2))->attr.size; }

  ManualClock clock;
  LeaseCache cache{100, &clock, [] { return int64_t{1} << 60; }};
};

TEST_F(StaleAttributes, AListingFromBeforeTheCommitDoesNotShortenTheFile) {
  cache.SetWritten(InodeId(2), 5'000, TimeSpec{9, 0}, 0);
  Listed(0);
  EXPECT_EQ(Size(), 5'000u);
  cache.Lower(InodeId(2), 7);
  EXPECT_EQ(Size(), 5'000u);
}

// The answer to a recall is not answered: nothing says when the last such listing has come.
TEST_F(StaleAttributes, NorDoesOneThatComesAfterTheLeaseWasLowered) {
  cache.SetWritten(InodeId(2), 5'000, TimeSpec{9, 0}, 0);
  cache.Lower(InodeId(2), 7);
  Listed(0);
  EXPECT_EQ(Size(), 5'000u);
  EXPECT_EQ(cache.Peek(InodeId(2))->attr.mtime, (TimeSpec{9, 0}));
}

TEST_F(StaleAttributes, ALaterLeaseComesWithTheSizeThatCounts) {
  cache.SetWritten(InodeId(2), 5'000, TimeSpec{9, 0}, 0);
  cache.Lower(InodeId(2), 7);
  Answer(proto::LEASE_READ, 9, 100);
  EXPECT_EQ(Size(), 100u);
}

TEST_F(StaleAttributes, WhatThisClientChangesAtTheMasterCounts) {
  cache.SetWritten(InodeId(2), 5'000, TimeSpec{9, 0}, 0);
  proto::Request request;
  request.mutable_set_attr()->set_inode(2);
  request.mutable_set_attr()->set_size(70);
  proto::Reply reply;
  Fill(reply.mutable_entry()->mutable_attr(), 70);
  cache.ApplyReply(request, reply);
  EXPECT_EQ(Size(), 70u);
  Listed(70);
  EXPECT_EQ(Size(), 70u);
}

TEST_F(StaleAttributes, AnAnswerToAChangeOfTheModeSaysNothingNewOfTheSize) {
  cache.SetWritten(InodeId(2), 5'000, TimeSpec{9, 0}, 0);
  proto::Request request;
  request.mutable_set_attr()->set_inode(2);
  request.mutable_set_attr()->set_mode(0600);
  proto::Reply reply;
  Fill(reply.mutable_entry()->mutable_attr(), 0);
  reply.mutable_entry()->mutable_attr()->set_mode(0600);
  cache.ApplyReply(request, reply);
  EXPECT_EQ(Size(), 5'000u);
  EXPECT_EQ(cache.Peek(InodeId(2))->attr.mode, 0600u);
}

}  // namespace
}  // namespace cairn::client::testing
