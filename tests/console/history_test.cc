// Samples of the cluster's load, and the ring that keeps them.
#include "master/console/history.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace cairn::master::console {
namespace {

Reading At(int64_t seconds, uint64_t operations, uint64_t read_bytes = 0) {
  Reading reading;
  reading.unix_ms = seconds * 1000;
  auto* operation = reading.status.add_operations();
  operation->set_name("create");
  operation->set_count(operations);
  auto* server = reading.status.add_servers();
  server->set_server(3);
  server->set_state("up");
  server->set_load(250);
  server->mutable_traffic()->set_reads(operations);
  server->mutable_traffic()->set_read_bytes(read_bytes);
  server->mutable_traffic()->set_read_nanos(operations * 2'000'000);
  return reading;
}

TEST(History, WhatGrowsBecomesARate) {
  const Load load = LoadBetween(At(10, 100, 1000), At(12, 300, 5000));
  EXPECT_DOUBLE_EQ(load.operations, 100);
  EXPECT_DOUBLE_EQ(load.read_bps, 2000);
  EXPECT_DOUBLE_EQ(load.read_ms, 2);
  EXPECT_DOUBLE_EQ(load.servers_up, 1);
  EXPECT_DOUBLE_EQ(load.servers.at(3).load, 0.25);
}

TEST(History, ARestartedProcessCountsAsNothingNotAsMinusMillions) {
  const Load load = LoadBetween(At(10, 1'000'000, 1'000'000), At(12, 5, 7));
  EXPECT_DOUBLE_EQ(load.operations, 0);
  EXPECT_DOUBLE_EQ(load.read_bps, 0);
  EXPECT_DOUBLE_EQ(load.read_ms, 0);
}

TEST(History, AServerThatTheMasterHearsOfAfterItsOwnRestartServedItAllBefore) {
  const Load load = LoadBetween(At(10, 0, 0), At(12, 1'000'000, 1 << 30));
  EXPECT_DOUBLE_EQ(load.read_bps, 0);
  EXPECT_DOUBLE_EQ(load.servers.at(3).read_bps, 0);
  EXPECT_DOUBLE_EQ(load.read_ms, 0);
}

TEST(History, QuantilesAreOfTheTimeBetween) {
  metrics::LatencyHistogram histogram;
  for (int i = 0; i < 1000; ++i) histogram.Record(30'000'000'000);  // long ago
  const auto before = histogram.Read();
  for (int i = 0; i < 99; ++i) histogram.Record(900'000);
  histogram.Record(100'000'000);
  const auto now = histogram.Read();
  EXPECT_LT(QuantileMs(before, now, 0.5), 1.1);
  EXPECT_GT(QuantileMs(before, now, 0.5), 0.4);
  EXPECT_GT(QuantileMs(before, now, 0.995), 60);
  EXPECT_LT(QuantileMs(before, now, 0.995), 140);
  EXPECT_EQ(QuantileMs(now, now, 0.5), 0);
}

TEST(History, KeepsAnHourAndTellsWhatIsNew) {
  History history;
  const size_t count = History::kSamples + 50;
  for (size_t i = 0; i <= count; ++i) history.Add(At(static_cast<int64_t>(i) * 2, i * 10));
  const auto all = history.Columns(0, std::nullopt);
  EXPECT_EQ(all["t"].size(), History::kSamples);
  EXPECT_EQ(all["operations"].size(), History::kSamples);
  EXPECT_EQ(all["next"], count);
  EXPECT_EQ(all["t"].back(), count * 2 * 1000);
  const uint64_t next = all["next"];
  EXPECT_EQ(history.Columns(next, std::nullopt)["t"].size(), 0u);
  history.Add(At(static_cast<int64_t>(count + 1) * 2, 7));
  EXPECT_EQ(history.Columns(next, std::nullopt)["t"].size(), 1u);
  EXPECT_EQ(history.Columns(next + 1000, std::nullopt)["t"].size(), 0u) << "a page of a master that ran longer";

  EXPECT_EQ(history.Columns(next, 3)["load"].size(), 1u);
  EXPECT_EQ(history.Columns(next, 3)["load"][0], 0.25);
  EXPECT_TRUE(history.Columns(next, 9)["load"][0].is_null()) << "a server that is not known";
}

}  // namespace
}  // namespace cairn::master::console
