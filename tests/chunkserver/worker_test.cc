// The small engines: worker pool, rate limiter, group flusher, scrubber.
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "chunkserver/command_executor.h"
#include "chunkserver/copier.h"
#include "chunkserver/group_flusher.h"
#include "chunkserver/rate_limiter.h"
#include "chunkserver/scrubber.h"
#include "chunkserver/worker_pool.h"
#include "tests/chunkserver/data_node.h"

namespace cairn::chunkserver {
namespace {

TEST(WorkerPoolTest, TheQueueIsBoundedAndFinishedBeforeTheEnd) {
  std::promise<void> go;
  std::shared_future<void> gate(go.get_future());
  std::atomic<int> ran{0};
  WorkerPool pool("test", 1, 3);
  std::promise<void> running;
  ASSERT_TRUE(pool.TrySubmit([&] {
    running.set_value();
    gate.wait();
    ++ran;
  }));
  running.get_future().wait();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(pool.TrySubmit([&] { ++ran; }));
  EXPECT_FALSE(pool.TrySubmit([&] { ++ran; }));
  EXPECT_EQ(pool.queued(), 3u);
  go.set_value();
  pool.Stop();
  EXPECT_EQ(ran, 4);
  EXPECT_FALSE(pool.TrySubmit([&] { ++ran; }));
}

// Somebody waits for tombstones, and they are short: no other thread is needed. Whatever may take long goes
// to the pools.
TEST(CommandExecutorTest, OnlyBatchesOfTombstonesRunAtOnce) {
  std::vector<MemoryStore*> stores;
  const auto disks = MemoryDisks(1, &stores);
  Copier copier(disks.get(), nullptr, SystemClock::Get(), {});
  CommandExecutor executor(disks.get(), &copier, {});
  executor.Stop();  // no pool runs any more
  proto::Command batch;
  batch.set_number(7);
  for (uint64_t chunk : {1, 2}) {
    proto::ChunkCommand* command = batch.add_chunks();
    command->set_chunk(chunk);
    command->mutable_prepare_delete()->set_epoch(9);
  }
  proto::CommandResult result;
  ASSERT_TRUE(executor.ExecuteNow(batch, &result));
  EXPECT_EQ(result.number(), 7u);
  ASSERT_EQ(result.results_size(), 2);
  for (const auto& one : result.results()) {
    EXPECT_EQ(one.status().code(), 0u) << one.status().message();
    EXPECT_EQ(one.info().tombstone(), 9u);
  }
  batch.mutable_chunks(0)->mutable_abort_delete()->set_epoch(10);
  result.Clear();
  ASSERT_TRUE(executor.ExecuteNow(batch, &result));
  EXPECT_EQ(result.results(0).info().tombstone(), 0u);

  batch.add_chunks()->mutable_begin()->set_durable(true);
  result.Clear();
  EXPECT_FALSE(executor.ExecuteNow(batch, &result));
  EXPECT_EQ(result.results_size(), 0) << "nothing is done by halves";
}

TEST(RateLimiterTest, WhatWasTakenIsPaidForBeforeTheNext) {
  ManualClock clock;
  RateLimiter limiter(1000, &clock);
  EXPECT_TRUE(limiter.Take(500));  // at once; the next one waits half a second
  std::promise<bool> taken;
  std::thread waiter([&] { taken.set_value(limiter.Take(1)); });
  limiter.Stop();
  EXPECT_FALSE(taken.get_future().get());
  waiter.join();
  EXPECT_FALSE(limiter.Take(1));
}

TEST(RateLimiterTest, WithoutALimitNobodyWaits) {
  ManualClock clock;
  RateLimiter limiter(0, &clock);
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(limiter.Take(UINT32_MAX));
}

TEST(GroupFlusherTest, TheErrorOfTheDiskReachesEverybodyOfTheGroup) {
  MemoryStore store;
  store.HoldFlushes(true);
  std::vector<std::promise<Status>> results(5);
  {
    GroupFlusher flusher(&store);
    for (auto& result : results) {
      flusher.Flush([&result](const Status& status) { result.set_value(status); });
    }
    store.Fail("full of sand");
    store.HoldFlushes(false);
  }
  for (auto& result : results) EXPECT_EQ(result.get_future().get().code(), StatusCode::kIoError);
}

TEST(ScrubberTest, EveryBadBlockIsFoundMarkedAndReported) {
  std::vector<MemoryStore*> stores;
  const auto disks = MemoryDisks(2, &stores);
  for (uint64_t i = 1; i <= 40; ++i) {
    const auto data = Pattern(3 << 20, i);
    replication::ReplicaInfo info;
    for (uint64_t part = 0; part < 3; ++part) {
      const std::vector<std::byte> piece(data.begin() + static_cast<ptrdiff_t>(part << 20),
                                         data.begin() + static_cast<ptrdiff_t>((part + 1) << 20));
      ASSERT_TRUE(
          disks
              ->Mutate(WriteRequest(ChunkId{i}, {Epoch{5}, part + 1},
                                    part == 0 ? std::optional(Stamp{}) : std::nullopt, part << 20, piece),
                       piece, &info)
              .ok());
    }
  }
  const auto damage = [&](uint64_t chunk, uint64_t block) {
    replication::ReplicaInfo info;
    for (MemoryStore* store : stores) {
      if (store->Query(ChunkId{chunk}, &info).ok()) store->DamageBlock(ChunkId{chunk}, block);
    }
  };
  damage(3, 0);
  damage(3, 767);
  damage(38, 300);
  std::vector<std::pair<uint64_t, uint64_t>> reported;
  Scrubber scrubber(disks.get(), SystemClock::Get(),
                    [&](ChunkId chunk, uint64_t offset, uint64_t, const std::string&) {
                      reported.emplace_back(chunk.value(), offset / 4096);
                    },
                    {.rate_bytes_per_second = 0});
  const ScrubResult result = scrubber.ScrubOnce();
  EXPECT_EQ(result.chunks, 40u);
  EXPECT_EQ(result.bad_blocks, 3u);
  uint64_t chunks = 0, bad_blocks = 0;
  ASSERT_EQ(scrubber.Progress().size(), stores.size());
  for (const ScrubProgress& disk : scrubber.Progress()) {
    chunks += disk.chunks_done;
    bad_blocks += disk.bad_blocks;
    EXPECT_GT(disk.last_complete_unix_ms, 0) << disk.path;
  }
  EXPECT_EQ(chunks, 40u);
  EXPECT_EQ(bad_blocks, 3u);
  std::sort(reported.begin(), reported.end());
  EXPECT_EQ(reported, (std::vector<std::pair<uint64_t, uint64_t>>{{3, 0}, {3, 767}, {38, 300}}));
  replication::ReplicaInfo info;
  for (uint64_t i = 1; i <= 40; ++i) {
    ASSERT_TRUE(disks->Query(ChunkId{i}, &info).ok());
    EXPECT_EQ(info.corrupt, i == 3 || i == 38) << i;
  }
}

TEST(ScrubberTest, StoppingCutsAPassShort) {
  std::vector<MemoryStore*> stores;
  const auto disks = MemoryDisks(1, &stores);
  const auto data = Pattern(1 << 20, 1);
  replication::ReplicaInfo info;
  for (uint64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(disks->Mutate(WriteRequest(ChunkId{i}, {Epoch{5}, 1}, Stamp{}, 0, data), data, &info).ok());
  }
  // One byte per second: the pass would take days.
  Scrubber scrubber(disks.get(), SystemClock::Get(), [](ChunkId, uint64_t, uint64_t, const std::string&) {},
                    {.rate_bytes_per_second = 1, .first_pass_after_ms = 0});
  scrubber.Start();
  scrubber.Stop();
}

}  // namespace
}  // namespace cairn::chunkserver
