// `cairn-mount`: makes a cluster visible as a file system.
#include <fmt/format.h>
#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdarg>
#include <filesystem>
#include <iostream>

#include "client/client.h"
#include "common/command_pages.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/metrics/endpoint.h"
#include "fuse/client_metrics.h"
#include "fuse/file_system.h"
#include "fuse/kernel_cache.h"
#include "fuse/mount_session.h"
#include "fuse/mount_status.h"
#include "fuse/options.h"

namespace cairn::fuse {
namespace {

struct Flags {
  std::string source;
  std::string mountpoint;
  std::vector<std::string> option_lists;
  bool foreground = false;
  std::string log_file;
  std::string log_level = "info";
  std::string pid_file;
  metrics::EndpointOptions metrics{.program = "cairn-mount", .version = CAIRN_VERSION};
  std::string name;
};

void LibraryLog(fuse_log_level level, const char* format, va_list arguments) {
  char text[1024];
  vsnprintf(text, sizeof text, format, arguments);
  std::string line(text);
  while (line.ends_with('\n')) line.pop_back();
  LogLine(level <= FUSE_LOG_ERR ? LogLevel::kError : LogLevel::kInfo, "libfuse: " + line);
}

int ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
      return kExitUsage;
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
      return kExitUnavailable;
    case StatusCode::kWrongCluster:
    case StatusCode::kVersionMismatch:
      return kExitIdentity;
    case StatusCode::kBusy:
      return kExitInUse;
    default:
      return kExitFailure;
  }
}

// Errors reach the terminal (which stays open until the mount is up) and the log file if there is one.
int Fail(const Flags& flags, const Status& status) {
  CAIRN_LOG(Error, "{}", status.ToString());
  if (!flags.log_file.empty()) std::cerr << "cairn-mount: " << status.message() << std::endl;
  return ExitCodeOf(status);
}

client::ClientOptions ToClientOptions(const MountOptions& mount, const Flags& flags) {
  client::ClientOptions options;
  options.masters = mount.masters;
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  options.name =
      flags.name.empty() ? fmt::format("{}:{}:mount:{}", host, getpid(), mount.mountpoint) : flags.name;
  if (mount.dirty_limit_bytes != 0) options.dirty_limit_bytes = mount.dirty_limit_bytes;
  if (mount.cache_bytes != 0) options.cache_bytes = mount.cache_bytes;
  if (mount.read_ahead_bytes != 0) options.read_ahead_bytes = mount.read_ahead_bytes;
  if (mount.request_timeout_ms != 0) options.request_timeout_ms = mount.request_timeout_ms;
  if (mount.write_timeout_ms != 0) options.write_timeout_ms = mount.write_timeout_ms;
  if (!ReadOnly(mount)) options.access_times = mount.access_times;
  if (mount.access_times_ms != 0) options.access_times_ms = mount.access_times_ms;
  return options;
}

Result<InodeId> RootOf(client::Client& client, const MountOptions& options) {
  const client::Caller root;
  const std::string path = options.subdirectory.empty() ? "/" : options.subdirectory;
  const auto entry = client::ResolvePath(client, root, path, true);
  if (!entry.ok()) return entry.status().WithContext("directory " + path + " of the cluster");
  if (entry->attr.type != client::FileType::kDirectory) {
    return Status(StatusCode::kNotDirectory, path + " of the cluster is not a directory");
  }
  return entry->attr.inode;
}

int Serve(const Flags& flags, const MountOptions& options) {
  DaemonOptions process_options;
  process_options.log.program = "cairn-mount";
  process_options.log.file = flags.log_file;
  process_options.log.level = flags.log_level;
  process_options.pid_file = flags.pid_file;
  process_options.background = !flags.foreground;
  auto daemon = Daemon::Start(process_options);
  if (!daemon.ok()) {
    std::cerr << "cairn-mount: " << daemon.status().message() << std::endl;
    return ExitCodeOf(daemon.status());
  }
  fuse_set_log_func(LibraryLog);
  KernelCache cache;  // outlives the client, which calls it
  const Ids ids(options.ids);  // likewise
  auto client = client::Client::Connect(ToClientOptions(options, flags), &cache);
  if (!client.ok()) return Fail(flags, client.status());
  const auto root = RootOf(**client, options);
  if (!root.ok()) return Fail(flags, root.status());

  metrics::Registry registry;
  OperationMetrics operations(registry);
  FileSystem fs(**client, cache, {.root = *root, .cache_names = options.cache_names, .directory_access_times = options.directory_access_times,
                 .ids = &ids}, SystemClock::Get(),
                flags.metrics.address.empty() ? nullptr : &operations);
  Daemon& process = **daemon;
  const auto client_metrics = AddClientMetrics(registry, **client);
  const auto endpoint = metrics::Endpoint::Start(flags.metrics, registry);
  if (!endpoint.ok()) return Fail(flags, endpoint.status());
  auto mount = MountSession::Mount(fs, cache, options, [&process] { process.RequestShutdown(); });
  if (!mount.ok()) return Fail(flags, mount.status());
  CAIRN_LOG(Info, "{} is mounted at {}", options.masters.front(), options.mountpoint);
  if (const Status ready = process.Ready(); !ready.ok()) {
    (*mount)->Stop();
    return Fail(flags, ready);
  }
  auto status = std::make_unique<MountStatus>(fs, options, (*mount)->device(), SystemClock::Get());
  process.WaitForShutdown();
  (*mount)->Stop();
  if (const Status synced = (*client)->SyncAll(); !synced.ok()) {
    CAIRN_LOG(Error, "data written last may be lost: {}", synced.ToString());
    return ExitCodeOf(synced);
  }
  CAIRN_LOG(Info, "unmounted {}", options.mountpoint);
  return kExitOk;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Mounts a Cairn cluster");
  app.footer(OptionHelp());
  app.add_option("source", flags.source, "Master: host:port[,host:port...] or cairn://host:port/directory")
      ->required();
  app.add_option("mountpoint", flags.mountpoint, "An existing directory")->required();
  app.add_option("-o", flags.option_lists, "Mount options, separated by commas")->allow_extra_args(false);
  app.add_flag("-f,--foreground", flags.foreground, "Do not go to the background");
  app.add_option("--log-file", flags.log_file, "Log there instead of standard error");
  app.add_option("--log-level", flags.log_level, "debug, info, warning or error");
  app.add_option("--metrics-address", flags.metrics.address,
                 "Serve Prometheus metrics at http://host:port/metrics (default: not at all)");
  app.add_option("--pid-file", flags.pid_file, "Write the process number there once it is mounted");
  app.add_option("--name", flags.name,
                 "Name shown in `cairn session list` (default host:pid:mount:MOUNTPOINT)");
  app.set_config("--config", "", "Read options from a file (same names as here)");
  app.set_version_flag("--version", std::string("cairn-mount ") + CAIRN_VERSION);
  if (const auto page = GeneratedPage(app, {"cairn-mount", CAIRN_VERSION}, argc, argv)) {
    std::cout << *page;
    return kExitOk;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  MountOptions options;
  options.privileged = geteuid() == 0;
  Status parsed = ParseSource(flags.source, options);
  for (const std::string& list : flags.option_lists) {
    if (parsed.ok()) parsed = ParseOptionList(list, options);
  }
  if (!parsed.ok()) {
    std::cerr << "cairn-mount: " << parsed.message() << std::endl;
    return kExitUsage;
  }
  std::error_code error;
  // Only the parent is resolved: the mount point itself may be a dead mount that answers nothing.
  const auto absolute = std::filesystem::absolute(flags.mountpoint, error).lexically_normal();
  const auto trimmed = absolute.has_filename() ? absolute : absolute.parent_path();
  const auto parent = std::filesystem::canonical(trimmed.parent_path(), error);
  options.mountpoint = error ? trimmed.string() : (parent / trimmed.filename()).string();
  if (const auto target = std::filesystem::canonical(options.mountpoint, error); !error)
    options.mountpoint = target;
  return Serve(flags, options);
}

}  // namespace
}  // namespace cairn::fuse

int main(int argc, char** argv) { return cairn::fuse::Main(argc, argv); }
