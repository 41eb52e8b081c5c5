// Whole chunkservers in this process, on disks in memory or on the real store.
#pragma once

#include <atomic>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/server.h"
#include "common/check.h"
#include "tests/chunkserver/data_node.h"

namespace cairn::chunkserver {

// A directory that goes away with it.
class TempDirectory {
 public:
  TempDirectory() {
    char path[] = "/tmp/cairn-chunkserver-test-XXXXXX";
    CAIRN_CHECK(mkdtemp(path) != nullptr, "mkdtemp");
    path_ = path;
  }
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct TestChunkServer {
  std::vector<MemoryStore*> stores;
  std::unique_ptr<ChunkServer> server;
  std::promise<Status> refused;
  std::atomic<int> refusals{0};

  static ServerOptions Options(const std::string& master) {
    ServerOptions options;
    options.listen = {"127.0.0.1", 0};
    options.control.masters = {master};
    options.control.zone = "z1";
    options.control.rack = "r1";
    options.control.host_id = "host";
    options.control.version = "test";
    options.control.backoff_min_ms = 10;
    options.control.backoff_max_ms = 50;
    options.scrubber.rate_bytes_per_second = 0;
    options.maintenance_interval_ms = 10;
    return options;
  }

  void Start(const ServerOptions& options, std::vector<Disk> disks) {
    auto started = ChunkServer::Start(options, std::move(disks), [this](const Status& why) {
      if (refusals++ == 0) refused.set_value(why);
    });
    CAIRN_CHECK(started.ok(), started.status().ToString());
    server = *std::move(started);
  }

  std::vector<Disk> MemoryDisksFor(size_t count) {
    std::vector<Disk> disks;
    for (size_t i = 0; i < count; ++i) {
      auto store = std::make_unique<MemoryStore>();
      stores.push_back(store.get());
      Disk disk;
      disk.path = "/disk" + std::to_string(i);
      disk.file_system_id = "fs";
      disk.store = std::move(store);
      disks.push_back(std::move(disk));
    }
    return disks;
  }
};

}  // namespace cairn::chunkserver
