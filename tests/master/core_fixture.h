// Three chunkservers and two clients in memory around a master's core.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "master/state/chunk_queries.h"
#include "tests/master/fakes.h"

namespace cairn::master {

inline constexpr uint64_t kRoot = 1;

inline StatusCode CodeOf(const proto::Reply& reply) { return static_cast<StatusCode>(reply.status().code()); }

class CoreFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    for (uint32_t i = 1; i <= 3; ++i) h_.StartServer(i);
    a_ = h_.NewClient();
    a_->Hello();
    b_ = h_.NewClient();
    b_->Hello();
  }
  proto::ChunkRecord Record(uint64_t chunk) {
    auto record = ChunkRecordOf(h_.core().txn(), ChunkId(chunk));
    EXPECT_TRUE(record.has_value());
    return record.value_or(proto::ChunkRecord{});
  }

  Harness h_;
  std::shared_ptr<FakeClient> a_;
  std::shared_ptr<FakeClient> b_;
};

}  // namespace cairn::master
