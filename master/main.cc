// cairn-master: the metadata service of a Cairn cluster.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "common/admin_token.h"
#include "common/command_pages.h"
#include "common/daemon.h"
#include "common/log.h"
#include "master/restore.h"
#include "master/service/master_server.h"
#include "master/store/rocksdb_store.h"

namespace {

using cairn::Status;
using cairn::StatusCode;

struct Flags {
  std::string data;
  std::string advertise;
  std::string address_file;
  std::string restore;
  std::string admin_token_file;
  std::string metadata_sync = "periodic";
  uint64_t cache_mib = 64;
  uint64_t min_free_mib = 256;
  cairn::DaemonOptions daemon;
  cairn::master::MasterServerOptions server;
};

// "host:port" with a port of 0 to 65535; the host may be a name, an IPv4 address or [IPv6].
std::string CheckAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  const std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
  const bool number = !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == std::string::npos;
  if (colon == 0 || !number || std::stoi(port) > 65535) return "'" + text + "' is not of the form host:port";
  return {};
}

void AddFlags(CLI::App* app, Flags* flags) {
  auto& core = flags->server.core;
  app->set_config("--config", "", "Read flags from this TOML or INI file (names as on the command line)");
  app->add_option("--data", flags->data, "Data directory; holds the metadata store")->required();
  app->add_option("--listen", flags->server.listen,
                  "Address to listen on, host:port; port 0 takes a free one")
      ->check(CheckAddress)
      ->capture_default_str();
  app->add_option("--advertise", flags->advertise,
                  "host:port that others use; default: the listening address");
  app->add_option("--metrics-address", flags->server.metrics.address,
                  "Serve Prometheus metrics at http://host:port/metrics; default: not at all")
      ->check(CheckAddress);
  app->add_option("--console", flags->server.console.address,
                  "Serve the web console at http://host:port/ (usually 127.0.0.1:9480); default: not at all")
      ->check(CheckAddress);
  app->add_flag("--console-remote", flags->server.console.remote,
                "Let other machines reach the console, unencrypted; reading needs the administrator's token, too");
  app->add_option("--console-host", flags->server.console.hosts,
                  "A further name by which browsers reach the console (repeatable); addresses need none");
  app->add_option("--console-url-file", flags->server.console.url_file, "Write the console's URL to this file");
  app->add_option("--admin-token-file", flags->admin_token_file,
                  "Token of administrators, made (mode 0600) when it is missing; default: admin-token in the data directory");
  app->add_option("--address-file", flags->address_file,
                  "Write the actual host:port to this file once listening");
  app->add_option("--metadata-sync", flags->metadata_sync,
                  "periodic: the log is on disk within --metadata-sync-ms; always: before every answer")
      ->check(CLI::IsMember({"periodic", "always"}))
      ->capture_default_str();
  app->add_option("--metadata-sync-ms", core.metadata_sync_ms, "Longest time between two syncs of the log")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  app->add_option("--session-lease-ms", core.session_lease_ms, "How long a silent client keeps its leases")
      ->check(CLI::Range(1'000, 600'000))
      ->capture_default_str();
  app->add_option("--write-timeout-ms", core.write_timeout_ms,
                  "How long below the write quorum before an error")
      ->check(CLI::Range(100, 600'000))
      ->capture_default_str();
  app->add_option("--repair-grace-ms", core.repair_grace_ms,
                  "How long a missing member is waited for while enough copies exist")
      ->check(CLI::Range(0, 86'400'000))
      ->capture_default_str();
  app->add_option("--delete-grace-ms", core.delete_grace_ms,
                  "Between a durable delete and the erasure of its chunks")
      ->check(CLI::Range(0, 86'400'000))
      ->capture_default_str();
  app->add_option("--server-silence-ms", core.server_silence_ms,
                  "A chunkserver without heartbeat for so long is down")
      ->check(CLI::Range(1'000, 600'000))
      ->capture_default_str();
  app->add_option("--max-repairs", core.max_repairs, "Repairs at a time in the cluster")
      ->capture_default_str();
  app->add_option("--max-repairs-per-server", core.max_repairs_per_server,
                  "Repairs at a time that touch one server")
      ->capture_default_str();
  app->add_option("--repair-bytes-per-second", core.repair_bytes_per_second, "Per repair; 0: no limit")
      ->capture_default_str();
  app->add_option("--max-sessions", core.max_sessions, "Client sessions at a time")->capture_default_str();
  app->add_option("--max-sessions-per-host", core.max_sessions_per_host, "Of them from one address")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app->add_option("--max-write-leases", core.max_write_leases_per_session, "Files that one session may write at a time")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  app->add_option("--max-requests-per-session", core.max_requests_per_session,
                  "Requests outstanding in a session")
      ->capture_default_str();
  app->add_option("--max-read-leases", core.max_read_leases_per_session, "Read leases of one session")
      ->capture_default_str();
  app->add_flag("--root-squash", core.root_squash, "Treat uid 0 of clients as nobody (65534)");
  app->add_option("--cache-mib", flags->cache_mib, "Cache of the metadata store")->capture_default_str();
  app->add_option("--min-free-mib", flags->min_free_mib,
                  "Free space of the data directory below which changes are refused")
      ->capture_default_str();
  app->add_option("--restore", flags->restore, "Put this backup into the (empty) data directory, then exit");
  app->add_option("--log-file", flags->daemon.log.file, "Log to this file, rotated; default: stderr");
  app->add_option("--log-level", flags->daemon.log.level, "debug, info, warning or error")
      ->capture_default_str();
  app->add_option("--pid-file", flags->daemon.pid_file, "Write the process id to this file");
  app->add_flag("--background", flags->daemon.background,
                "Return once the master serves, which goes on in the background");
}

// A directory in which something else lives (a chunkserver's disk, somebody's files) does not become a master's.
Status CheckDataDirectory(const std::string& directory) {
  std::error_code error;
  if (std::filesystem::exists(directory + "/meta", error)) return Status::Ok();
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().filename() == "lost+found") continue;
    return {StatusCode::kWrongCluster, directory + " holds " + entry.path().filename().string() +
                                           ", which is not a master's: give --data an empty directory or a master's own"};
  }
  if (error) return {StatusCode::kIoError, "list " + directory + ": " + error.message()};
  return Status::Ok();
}

int ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case StatusCode::kWrongCluster:
    case StatusCode::kVersionMismatch:
      return cairn::kExitIdentity;
    case StatusCode::kBusy:
      return cairn::kExitInUse;
    case StatusCode::kInvalidArgument:
      return cairn::kExitUsage;
    default:
      return cairn::kExitFailure;
  }
}

int Fail(const Status& status) {
  CAIRN_LOG(Error, "{}", status.ToString());
  cairn::FlushLog();
  return ExitCodeOf(status);
}

// The address that others reach: the advertised one, or the listening one with its actual port.
std::string ActualAddress(const Flags& flags, int port) {
  const std::string& listen = flags.server.listen;
  const std::string host = listen.substr(0, listen.rfind(':'));
  if (flags.advertise.empty()) return host + ":" + std::to_string(port);
  const size_t colon = flags.advertise.rfind(':');
  const bool has_port = colon != std::string::npos && flags.advertise.find(']', colon) == std::string::npos &&
                        colon + 1 < flags.advertise.size();
  if (has_port && flags.advertise.substr(colon + 1) != "0") return flags.advertise;
  return (has_port ? flags.advertise.substr(0, colon) : flags.advertise) + ":" + std::to_string(port);
}

int Run(Flags& flags) {
  auto daemon = cairn::Daemon::Start(flags.daemon);
  if (!daemon.ok()) {
    std::fprintf(stderr, "cairn-master: %s\n", daemon.status().ToString().c_str());
    return ExitCodeOf(daemon.status());
  }
  std::error_code error;
  std::filesystem::create_directories(flags.data, error);
  if (error) return Fail(Status(StatusCode::kIoError, "create " + flags.data + ": " + error.message()));
  if (const Status ours = CheckDataDirectory(flags.data); !ours.ok()) return Fail(ours);
  const std::string store_directory = flags.data + "/meta";
  if (!flags.restore.empty()) {
    const Status restored = cairn::master::RestoreBackup(flags.restore, store_directory);
    if (!restored.ok()) return Fail(restored);
    CAIRN_LOG(Info, "restored {} into {}", flags.restore, store_directory);
    cairn::FlushLog();
    return cairn::kExitOk;
  }
  cairn::master::RocksdbStoreOptions store_options;
  store_options.directory = store_directory;
  store_options.cache_bytes = flags.cache_mib << 20;
  auto store = cairn::master::OpenRocksdbStore(store_options);
  if (!store.ok()) return Fail(store.status());

  const std::string token_file = flags.admin_token_file.empty() ? flags.data + "/admin-token" : flags.admin_token_file;
  const auto token = cairn::LoadOrMakeAdminToken(token_file);
  if (!token.ok()) return Fail(token.status());
  flags.server.admin_token = *token;

  flags.server.core.metadata_sync_always = flags.metadata_sync == "always";
  flags.server.core.min_free_bytes = flags.min_free_mib << 20;
  auto server = cairn::master::MasterServer::Start(flags.server, *std::move(store), cairn::SystemClock::Get(),
                                                   [](const Status&) {
                                                     // What is in memory and what is on disk may differ now:
                                                     // only a fresh start may serve again.
                                                     cairn::FlushLog();
                                                     std::_Exit(cairn::kExitFailure);
                                                   });
  if (!server.ok()) return Fail(server.status());
  const std::string address = ActualAddress(flags, (*server)->port());
  if (!flags.address_file.empty()) {
    const Status written = cairn::WriteFileAtomically(flags.address_file, address + "\n");
    if (!written.ok()) return Fail(written);
  }
  CAIRN_LOG(Info, "serving cluster {} at {}", (*server)->cluster_id(), address);
  const Status ready = (*daemon)->Ready();
  if (!ready.ok()) return Fail(ready);
  (*daemon)->WaitForShutdown();
  CAIRN_LOG(Info, "shutting down");
  (*server)->Stop();
  cairn::FlushLog();
  return cairn::kExitOk;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  flags.daemon.log.program = "master";
  flags.server.core.version = CAIRN_VERSION;
  flags.server.metrics.program = "cairn-master";
  flags.server.metrics.version = CAIRN_VERSION;
  CLI::App app{"The metadata service of a Cairn cluster"};
  app.set_version_flag("--version", flags.server.core.version);
  AddFlags(&app, &flags);
  if (const auto page = cairn::GeneratedPage(app, {"cairn-master", CAIRN_VERSION}, argc, argv)) {
    std::cout << *page;
    return cairn::kExitOk;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? cairn::kExitOk : cairn::kExitUsage;
  }
  return Run(flags);
}
