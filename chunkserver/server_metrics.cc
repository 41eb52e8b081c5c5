#include "chunkserver/server_metrics.h"

namespace cairn::chunkserver {

std::vector<std::unique_ptr<metrics::Registry::Handle>> AddServerMetrics(metrics::Registry& registry,
                                                                         ChunkServer& server) {
  std::vector<std::unique_ptr<metrics::Registry::Handle>> handles;
  const auto gauge = [&](const char* name, const char* help, double (*read)(const DiskStatus&)) {
    handles.push_back(registry.AddGauge(name, help, [&server, read] {
      std::vector<metrics::Sample> samples;
      for (const DiskStatus& disk : server.disks().States())
        samples.push_back({{{"path", disk.path}}, read(disk)});
      return samples;
    }));
  };
  gauge("cairn_chunkserver_disk_size_bytes", "Size of the disk's file system",
        [](const DiskStatus& disk) { return static_cast<double>(disk.usage.total_bytes); });
  gauge("cairn_chunkserver_disk_free_bytes", "Free space of the disk's file system",
        [](const DiskStatus& disk) { return static_cast<double>(disk.usage.free_bytes); });
  gauge("cairn_chunkserver_disk_used_bytes", "Space that the store takes",
        [](const DiskStatus& disk) { return static_cast<double>(disk.usage.used_bytes); });
  gauge("cairn_chunkserver_disk_chunks", "Replicas on the disk",
        [](const DiskStatus& disk) { return static_cast<double>(disk.usage.chunks); });
  gauge("cairn_chunkserver_disk_failed", "1: the disk failed, the log says why",
        [](const DiskStatus& disk) { return disk.failure.ok() ? 0.0 : 1.0; });
  const auto scrub = [&](const char* name, const char* help, double (*read)(const ScrubProgress&)) {
    handles.push_back(registry.AddGauge(name, help, [&server, read] {
      std::vector<metrics::Sample> samples;
      for (const ScrubProgress& disk : server.scrubber().Progress()) samples.push_back({{{"path", disk.path}}, read(disk)});
      return samples;
    }));
  };
  scrub("cairn_chunkserver_scrub_chunks", "Chunks that the present pass of scrubbing has read, or the last one if none runs",
        [](const ScrubProgress& disk) { return static_cast<double>(disk.chunks_done); });
  scrub("cairn_chunkserver_scrub_bytes", "Bytes that it has read",
        [](const ScrubProgress& disk) { return static_cast<double>(disk.bytes_done); });
  scrub("cairn_chunkserver_scrub_bad_blocks", "Blocks that it found damaged",
        [](const ScrubProgress& disk) { return static_cast<double>(disk.bad_blocks); });
  scrub("cairn_chunkserver_scrub_last_complete_seconds", "Unix time at which a pass came to its end; 0: none since the start",
        [](const ScrubProgress& disk) { return static_cast<double>(disk.last_complete_unix_ms) / 1000; });
  handles.push_back(registry.AddGauge(
      "cairn_chunkserver_registered", "1: connected to the master and registered", [&server] {
        return std::vector<metrics::Sample>{{{}, server.registered() ? 1.0 : 0.0}};
      }));
  return handles;
}

}  // namespace cairn::chunkserver
