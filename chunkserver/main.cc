// cairn-chunkserver: flags, start and end of the process.
#include <malloc.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "chunkserver/server.h"
#include "chunkserver/server_metrics.h"
#include "chunkserver/store/chunk_store.h"
#include "common/command_pages.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/metrics/endpoint.h"
#include "common/net/address.h"

namespace cairn::chunkserver {
namespace {

constexpr char kVersion[] = CAIRN_VERSION;
constexpr uint16_t kDefaultDataPort = 9410;
constexpr uint16_t kDefaultMasterPort = 9400;
constexpr uint64_t kMiB = 1ull << 20;

constexpr char kFooter[] = R"(Exit codes:
  0  stopped by SIGTERM or SIGINT
  1  failure; the message says why
  2  wrong flags or configuration
  3  the listening address cannot be used because its name is not known
  4  data of another cluster, server or format; the master belongs to another cluster
  5  address or data directory in use

Example:
  cairn-chunkserver --master m1.example:9400 --data /srv/disk1 --data /srv/disk2 \
      --listen 0.0.0.0:9410 --zone z1 --rack r7

A configuration file (--config) holds the same names, one per line, for example
  master = "m1.example:9400"
  data = ["/srv/disk1", "/srv/disk2"])";

struct Flags {
  std::vector<std::string> masters;
  std::vector<std::string> data;
  std::string listen = "127.0.0.1:9410";
  std::string advertise;
  std::string zone;
  std::string rack;
  std::string storage_class;
  std::vector<std::string> disk_tags;
  uint64_t disk_drain_mib = 64;
  std::string address_file;
  metrics::EndpointOptions metrics{.program = "cairn-chunkserver", .version = CAIRN_VERSION};
  bool must_exist = false;
  uint64_t reserve_mib = 0;
  uint64_t index_cache_mib = 32;
  uint64_t direct_kib = StoreOptions{}.direct_bytes / 1024;
  uint64_t scrub_mib = 8;
  uint64_t scrub_interval_hours = 24;
  uint64_t sync_mib = 0;
  size_t max_syncs = 4;
  size_t max_connections = 4096;
  size_t max_connections_per_host = 1024;
  size_t io_threads = 0;
  size_t read_threads = 4;
  DaemonOptions daemon;
};

void AddFlags(CLI::App& app, Flags& f) {
  const auto last = CLI::MultiOptionPolicy::TakeLast;
  app.add_option("--master", f.masters,
                 "address of the master, host:port (port 9400 if left out); may be repeated")
      ->required();
  app.add_option("--data", f.data, "data directory, one per disk; may be repeated")->required();
  app.add_option("--listen", f.listen, "address of the data plane; port 0 takes a free one")
      ->capture_default_str()
      ->multi_option_policy(last);
  app.add_option("--advertise", f.advertise, "host:port that clients are told (default: what --listen says)")
      ->multi_option_policy(last);
  app.add_option("--zone", f.zone, "zone of this server, for placement");
  app.add_option("--rack", f.rack, "rack of this server, for placement");
  app.add_option("--storage-class", f.storage_class, "tags of these disks, with commas, that policies can ask for");
  app.add_option("--disk-tags", f.disk_tags,
                 "tags of one disk instead: DIRECTORY=ssd,fast, the directory as in --data; may be repeated");
  app.add_option("--disk-drain-rate", f.disk_drain_mib,
                 "MiB per second read from disks that are drained to others of this server; 0: no limit")
      ->capture_default_str();
  app.add_option("--metrics-address", f.metrics.address,
                 "serve Prometheus metrics at http://host:port/metrics (default: not at all)")
      ->multi_option_policy(last);
  app.add_option("--address-file", f.address_file,
                 "write the advertised address to this file once it is listening");
  app.add_flag("--data-must-exist", f.must_exist,
               "refuse an empty data directory (its disk may not be mounted)");
  app.add_option("--reserve-mib", f.reserve_mib,
                 "space of each disk kept for deletes and repair (default: 1 % between 64 MiB and 8 GiB)");
  app.add_option("--index-cache-mib", f.index_cache_mib, "memory for the index of each disk")
      ->capture_default_str();
  app.add_option("--direct-kib", f.direct_kib,
                 "writes of at least so many KiB go to disk past the page cache; 0: none do")
      ->capture_default_str();
  app.add_option("--scrub-rate", f.scrub_mib,
                 "MiB per second read to find damaged blocks; 0 switches scrubbing off")
      ->capture_default_str();
  app.add_option("--scrub-interval-hours", f.scrub_interval_hours, "a scrub starts at most this often")
      ->capture_default_str()
      ->check(CLI::Range(1, 24 * 365));
  app.add_option("--sync-rate", f.sync_mib,
                 "MiB per second fetched for repair, all syncs together; 0: no limit")
      ->capture_default_str();
  app.add_option("--max-syncs", f.max_syncs, "syncs at the same time")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  app.add_option("--max-connections", f.max_connections, "connections of the data plane")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000));
  app.add_option("--max-connections-per-host", f.max_connections_per_host, "of them from one address")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000));
  app.add_option("--io-threads", f.io_threads,
                 "event loops of the data plane (default: one per core, at most 4)")
      ->check(CLI::Range(0, 64));
  app.add_option("--read-threads", f.read_threads, "threads for reads from disk")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  app.add_option("--pid-file", f.daemon.pid_file, "write the process id to this file");
  app.add_flag("--background", f.daemon.background, "go to the background once the start has succeeded");
  app.add_option("--max-open-files", f.daemon.max_open_files, "raise the limit of open files to this")
      ->capture_default_str();
  app.add_option("--log-file", f.daemon.log.file, "log to this file, with rotation (default: stderr)");
  app.add_option("--log-level", f.daemon.log.level, "debug, info, warning or error")->capture_default_str();
  app.add_option("--log-name", f.daemon.log.program, "name of this server in its log lines");
}

int ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
      return kExitUsage;
    case StatusCode::kWrongCluster:
    case StatusCode::kVersionMismatch:
    case StatusCode::kFailedPrecondition:
      return kExitIdentity;
    case StatusCode::kBusy:
      return kExitInUse;
    default:
      return kExitFailure;
  }
}

// Equal for directories on one file system of this host, across restarts where the file system has an id of
// its own.
std::string FileSystemId(const std::string& path) {
  struct statvfs fs {};
  struct stat info {};
  if (statvfs(path.c_str(), &fs) == 0 && fs.f_fsid != 0) return "fs-" + std::to_string(fs.f_fsid);
  if (stat(path.c_str(), &info) == 0) return "dev-" + std::to_string(info.st_dev);
  return "";
}

std::string TagsOf(const Flags& flags, const std::string& directory) {
  for (const std::string& one : flags.disk_tags) {
    if (one.substr(0, one.rfind('=')) == directory) return one.substr(one.rfind('=') + 1);
  }
  return flags.storage_class;
}

// Tags are for disks that there are: a misspelt directory must not leave one without.
Status CheckDiskTags(const Flags& flags) {
  for (const std::string& one : flags.disk_tags) {
    const size_t equals = one.rfind('=');
    if (equals == std::string::npos ||
        std::find(flags.data.begin(), flags.data.end(), one.substr(0, equals)) == flags.data.end()) {
      return {StatusCode::kInvalidArgument,
              "--disk-tags " + one + ": expected DIRECTORY=TAG[,TAG] with a directory as given to --data"};
    }
  }
  return Status::Ok();
}

// A disk that cannot be read takes only its own chunks away; one that belongs to somebody else ends the
// start.
Result<std::vector<Disk>> OpenDisks(const Flags& flags) {
  std::vector<Disk> disks;
  for (const std::string& given : flags.data) {
    std::error_code error;
    const std::string path = std::filesystem::absolute(given, error).lexically_normal().string();
    StoreOptions options;
    options.directory = path;
    options.create_if_missing = !flags.must_exist;
    options.reserve_bytes = flags.reserve_mib * kMiB;
    options.index_cache_bytes = flags.index_cache_mib * kMiB;
    options.direct_bytes = flags.direct_kib * 1024;
    Disk disk;
    disk.path = path;
    disk.storage_class = TagsOf(flags, given);
    Result<std::unique_ptr<ChunkStore>> store = ChunkStore::Open(options);
    if (store.ok()) {
      disk.store = *std::move(store);
    } else if (store.code() == StatusCode::kIoError && flags.data.size() > 1) {
      disk.open_error = store.status();
      CAIRN_LOG(Error, "disk {} cannot be used, its chunks are not served: {}", path,
                store.status().message());
    } else {
      return store.status();
    }
    disk.file_system_id = FileSystemId(path);
    disks.push_back(std::move(disk));
  }
  return disks;
}

Status FillOptions(const Flags& flags, ServerOptions* options) {
  CAIRN_RETURN_IF_ERROR(CheckDiskTags(flags));
  options->disk_drain_bytes_per_second = flags.disk_drain_mib * kMiB;
  CAIRN_ASSIGN_OR_RETURN(options->listen, net::ParseHostPort(flags.listen, kDefaultDataPort));
  if (!flags.advertise.empty()) {
    CAIRN_ASSIGN_OR_RETURN(const net::HostPort advertise,
                           net::ParseHostPort(flags.advertise, kDefaultDataPort));
    if (advertise.port == 0)
      return Status(StatusCode::kInvalidArgument, "--advertise needs a port that is not 0");
    options->advertise = advertise.ToString();
  }
  for (const std::string& text : flags.masters) {
    CAIRN_ASSIGN_OR_RETURN(const net::HostPort master, net::ParseHostPort(text, kDefaultMasterPort));
    options->control.masters.push_back(master.ToString());
  }
  options->io_threads = flags.io_threads != 0 ? flags.io_threads
                                              : std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 4);
  options->read_threads = flags.read_threads;
  options->data.max_connections = flags.max_connections;
  options->data.max_connections_per_host = flags.max_connections_per_host;
  options->commands.syncs = flags.max_syncs;
  options->copier.rate_bytes_per_second = flags.sync_mib * kMiB;
  options->scrubber.rate_bytes_per_second = flags.scrub_mib * kMiB;
  options->scrubber.pass_interval_ms = static_cast<int64_t>(flags.scrub_interval_hours) * 3600 * 1000;
  options->control.zone = flags.zone;
  options->control.rack = flags.rack;
  options->control.host_id = HostIdentity();
  options->control.version = kVersion;
  return Status::Ok();
}

int Fail(const Flags& flags, const Status& status, int code) {
  CAIRN_LOG(Error, "{}", status.message());
  FlushLog();
  // Whoever started us by hand is told as well.
  if (!flags.daemon.log.file.empty()) std::cerr << "cairn-chunkserver: " << status.message() << std::endl;
  return code;
}

int Main(int argc, char** argv) {
  CLI::App app("Chunkserver of Cairn: keeps checksummed chunks on local disks and serves them to clients.");
  app.footer(kFooter);
  app.set_config("--config", "", "read flags from this file");
  app.allow_config_extras(CLI::config_extras_mode::error);  // a misspelt name must not pass for the default
  app.set_version_flag("--version", kVersion);
  Flags flags;
  flags.daemon.log.program = "chunkserver";
  AddFlags(app, flags);
  if (const auto page = GeneratedPage(app, {"cairn-chunkserver", CAIRN_VERSION}, argc, argv)) {
    std::cout << *page;
    return kExitOk;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  ServerOptions options;
  if (const Status valid = FillOptions(flags, &options); !valid.ok()) {
    std::cerr << "cairn-chunkserver: " << valid.message() << std::endl;
    return kExitUsage;
  }

  // Payloads are allocated and freed all the time: keep their memory instead of giving it back to the kernel,
  // whose fresh pages are several times slower.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
  mallopt(M_ARENA_MAX, 4);

  Result<std::unique_ptr<Daemon>> daemon = Daemon::Start(flags.daemon);
  if (!daemon.ok()) {
    std::cerr << "cairn-chunkserver: " << daemon.status().message() << std::endl;
    return ExitCodeOf(daemon.status());
  }
  Result<std::vector<Disk>> disks = OpenDisks(flags);
  if (!disks.ok()) return Fail(flags, disks.status(), ExitCodeOf(disks.status()));

  metrics::Registry registry;
  DataMetrics data_metrics(registry);
  options.data.metrics = &data_metrics;  // heartbeats tell the master, whoever scrapes or not
  std::atomic<bool> was_refused{false};
  Result<std::unique_ptr<ChunkServer>> server =
      ChunkServer::Start(options, *std::move(disks), [&](const Status& why) {
        Fail(flags, why, kExitIdentity);
        was_refused = true;
        (*daemon)->RequestShutdown();
      });
  if (!server.ok()) {
    const bool in_use = server.status().message().find("in use") != std::string::npos;
    const bool unknown_name = server.code() == StatusCode::kUnavailable && !in_use;
    return Fail(flags, server.status(),
                in_use         ? kExitInUse
                : unknown_name ? kExitUnavailable
                               : ExitCodeOf(server.status()));
  }
  CAIRN_LOG(Info, "cairn-chunkserver {} serves {} data director{} at {}", kVersion, flags.data.size(),
            flags.data.size() == 1 ? "y" : "ies", (*server)->data_address());
  if (!flags.address_file.empty()) {
    const Status written = WriteFileAtomically(flags.address_file, (*server)->data_address() + "\n");
    if (!written.ok()) return Fail(flags, written, kExitFailure);
  }
  const auto server_metrics = AddServerMetrics(registry, **server);
  const auto endpoint = metrics::Endpoint::Start(flags.metrics, registry);
  if (!endpoint.ok()) return Fail(flags, endpoint.status(), ExitCodeOf(endpoint.status()));
  if (const Status ready = (*daemon)->Ready(); !ready.ok()) return Fail(flags, ready, kExitFailure);
  (*daemon)->WaitForShutdown();
  (*server)->Stop();
  CAIRN_LOG(Info, "stopped");
  return was_refused ? kExitIdentity : kExitOk;
}

}  // namespace
}  // namespace cairn::chunkserver

int main(int argc, char** argv) { return cairn::chunkserver::Main(argc, argv); }
