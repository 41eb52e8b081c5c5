// Clients over a FakeMaster and files in memory.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "client/impl/client_impl.h"
#include "tests/client/fake_file_data.h"
#include "tests/client/fake_master.h"

namespace cairn::client::testing {

inline std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

class RecordingListener final : public CacheListener {
 public:
  void InvalidateInode(InodeId inode, bool data) override {
    if (on_inode) on_inode(inode);
    Note("inode " + ToString(inode) + (data ? " data" : ""));
  }
  void InvalidateNames(InodeId directory) override {
    if (on_names) on_names();
    Note("names " + ToString(directory));
  }
  std::vector<std::string> events() {
    std::lock_guard lock(mu_);
    return events_;
  }
  bool Saw(const std::string& event) {
    const auto all = events();
    return std::find(all.begin(), all.end(), event) != all.end();
  }
  // Set before use.
  std::function<void(InodeId)> on_inode;
  std::function<void()> on_names;

 private:
  void Note(std::string event) {
    std::lock_guard lock(mu_);
    events_.push_back(std::move(event));
  }
  std::mutex mu_;
  std::vector<std::string> events_;
};

class ClientTest : public ::testing::Test {
 protected:
  std::unique_ptr<ClientImpl> Connect(CacheListener* listener = nullptr, size_t max_leases = 10'000,
                                      int64_t idle_lease_ms = 3'600'000, int64_t write_back_ms = 3'600'000) {
    ClientParts parts;
    parts.options.masters = {"fake:1"};
    parts.options.max_leases = max_leases;
    parts.options.request_timeout_ms = 20'000;
    parts.options.access_times = access_times;
    parts.options.access_times_ms = access_times_ms;
    parts.connector = master.Connector();
    parts.listener = listener;
    parts.clock = &clock;
    parts.idle_lease_ms = idle_lease_ms;
    parts.write_back_ms = write_back_ms;
    parts.lock_hold_back_ms = lock_hold_back_ms;
    parts.burst_us = burst_us;
    parts.burst_gap_us = burst_gap_us;
    parts.servers = &servers;
    parts.make_data_path = [this](const std::string&, MasterPort*, int64_t) {
      return [this](InodeId inode, uint64_t) -> std::unique_ptr<FileData> {
        return std::make_unique<FakeFileData>(&replicas, inode);
      };
    };
    auto client = ClientImpl::Start(std::move(parts));
    EXPECT_TRUE(client.ok()) << client.status().ToString();
    return std::move(client).value();
  }

  static constexpr InodeId kRoot = kRootInode;
  int64_t lock_hold_back_ms = 3'000;  // before Connect
  int64_t burst_us = 0;                // likewise; leases go when they are recalled
  int64_t burst_gap_us = 0;
  AccessTimes access_times = AccessTimes::kNever;  // before Connect
  int64_t access_times_ms = 10'000;
  ManualClock clock;
  Replicas replicas;
  FakeMaster master;
  ServerDirectory servers;
  const Caller root{};
};

}  // namespace cairn::client::testing
