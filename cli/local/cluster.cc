#include "cli/local/cluster.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <thread>

#include "cli/admin/admin_client.h"
#include "cli/core/policy_text.h"
#include "cli/local/process.h"
#include "common/clock.h"
#include "fuse/mountpoint.h"

namespace cairn::cli {
namespace {

constexpr int64_t kStartTimeoutMs = 60'000;  // a large master opens its store, a chunkserver checks its tail
constexpr int kStopPatienceMs = 30'000;
constexpr int kMountStopPatienceMs = 60'000;  // flushes what is dirty
constexpr auto kPollInterval = std::chrono::milliseconds(20);

int PortOf(const std::string& address) {
  const size_t colon = address.rfind(':');
  return colon == std::string::npos ? 0 : std::atoi(address.c_str() + colon + 1);
}

// Calls `done` until it says true; false after timeout_ms, or on Ctrl-C.
template <typename Function>
bool WaitUntil(int64_t timeout_ms, Function done) {
  const Clock* clock = SystemClock::Get();
  const int64_t deadline = clock->NowNanos() + timeout_ms * kNanosPerMilli;
  while (!done()) {
    if (clock->NowNanos() > deadline || Interrupted()) return false;
    std::this_thread::sleep_for(kPollInterval);
  }
  return true;
}

Status PrepareMountpoint(const std::string& path) {
  CAIRN_RETURN_IF_ERROR(fuse::CleanUpDeadMount(path));
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return {StatusCode::kIoError, "create mount point " + path + ": " + error.message()};
  if (!std::filesystem::is_directory(path)) return {StatusCode::kNotDirectory, path + ": not a directory"};
  return Status::Ok();
}

}  // namespace

LocalCluster::~LocalCluster() {
  if (lock_fd_ >= 0) close(lock_fd_);
}

void LocalCluster::Progress(const std::string& name, const std::string& text) {
  if (!context_.json) *context_.out << fmt::format("{:<8} {}", name, text) << std::endl;
}

Status LocalCluster::Lock() {
  const std::string path = layout_.LockFile();
  lock_fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_fd_ < 0) return ErrnoStatus(errno, "open " + path);
  if (flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    return {StatusCode::kBusy, "another `cairn up` or `cairn down` is at work in " + layout_.directory()};
  }
  return Status::Ok();
}

pid_t LocalCluster::Running(const LocalPart& part) const {
  return RunningDaemon(layout_.PidFile(part.name), BinaryName(part.kind));
}

bool LocalCluster::ServesConsole() const {
  // Somebody may have given the master's own flag before there was one of `cairn up`.
  const auto& flags = layout_.master_flags;
  return layout_.console && std::none_of(flags.begin(), flags.end(), [](const std::string& flag) {
           return flag == "--console" || flag.starts_with("--console=") || flag.starts_with("--console-url-file");
         });
}

Status LocalCluster::ChooseAddresses(LocalPart& part) {
  if (part.kind != PartKind::kMount) CAIRN_RETURN_IF_ERROR(ChooseAddress(part.name, part.address));
  if (layout_.metrics) CAIRN_RETURN_IF_ERROR(ChooseAddress(part.name + "'s metrics", part.metrics));
  if (part.kind == PartKind::kMaster && ServesConsole()) CAIRN_RETURN_IF_ERROR(ChooseAddress("the console", part.console));
  return layout_.Save();
}

Status LocalCluster::ChooseAddress(const std::string& whose, std::string& address) {
  if (!address.empty()) {
    if (PortIsFree(PortOf(address))) return Status::Ok();
    Progress(whose, "port of " + address + " was taken by another program meanwhile; choosing a new one");
  }
  std::vector<int> taken;
  for (const LocalPart& other : layout_.parts()) {
    taken.push_back(PortOf(other.address));
    taken.push_back(PortOf(other.metrics));
    taken.push_back(PortOf(other.console));
  }
  CAIRN_ASSIGN_OR_RETURN(const int port, ChooseFreePort(taken));
  address = "127.0.0.1:" + std::to_string(port);
  return Status::Ok();
}

Result<std::vector<std::string>> LocalCluster::CommandLine(const LocalPart& part) const {
  CAIRN_ASSIGN_OR_RETURN(const std::string folder, BinaryDirectory());
  const std::string binary = folder + "/" + BinaryName(part.kind);
  if (access(binary.c_str(), X_OK) != 0) {
    return Status(StatusCode::kNotFound,
                  binary + " is missing: all binaries of Cairn belong into one folder");
  }
  const LocalPart* master = layout_.Find("master");
  if (master == nullptr || master->address.empty()) {
    if (part.kind != PartKind::kMaster)
      return Status(StatusCode::kFailedPrecondition, "the master was never started");
  }
  std::vector<std::string> line{binary};
  const auto add = [&line](std::initializer_list<std::string> more) { line.insert(line.end(), more); };
  if (part.kind == PartKind::kMount) {
    add({master->address, part.mountpoint, "--foreground"});
    if (geteuid() == 0) add({"-o", "allow_other"});
  } else {
    if (part.kind == PartKind::kChunkserver) add({"--master", master->address});
    add({"--data", layout_.DataDirectory(part.name), "--listen", part.address, "--address-file",
         layout_.AddressFile(part.name)});
  }
  add({"--log-file", layout_.LogFile(part.name), "--pid-file", layout_.PidFile(part.name)});
  if (layout_.metrics) add({"--metrics-address", part.metrics});
  if (part.kind == PartKind::kMaster && ServesConsole()) add({"--console", part.console, "--console-url-file", layout_.ConsoleUrlFile()});
  for (const std::string& flag : layout_.FlagsOf(part.kind)) line.push_back(flag);
  return line;
}

Status LocalCluster::StartFailed(const LocalPart& part, const std::string& what) {
  std::string message = part.name + " " + what;
  const std::string errors = TailOf(layout_.ErrorFile(part.name), 10);
  const std::string log = TailOf(layout_.LogFile(part.name), 10);
  if (!errors.empty()) message += "\n  it wrote:\n" + errors;
  if (!log.empty()) message += "\n  end of " + layout_.LogFile(part.name) + ":\n" + log;
  while (message.ends_with('\n')) message.pop_back();
  return {StatusCode::kFailedPrecondition, message};
}

Status LocalCluster::Start(LocalPart& part) {
  if (part.kind == PartKind::kMount) CAIRN_RETURN_IF_ERROR(PrepareMountpoint(part.mountpoint));
  CAIRN_RETURN_IF_ERROR(ChooseAddresses(part));
  CAIRN_ASSIGN_OR_RETURN(const auto line, CommandLine(part));
  if (part.kind != PartKind::kMount) {
    std::error_code error;
    std::filesystem::create_directories(layout_.DataDirectory(part.name), error);
    if (error)
      return {StatusCode::kIoError, "create " + layout_.DataDirectory(part.name) + ": " + error.message()};
  }
  unlink(layout_.AddressFile(part.name).c_str());
  if (part.kind == PartKind::kMaster) unlink(layout_.ConsoleUrlFile().c_str());
  CAIRN_ASSIGN_OR_RETURN(const pid_t pid, Spawn(line, layout_.ErrorFile(part.name)));
  started_.emplace_back(part.name, pid);
  // Written here as well as by the daemon: should this program be killed now, the next `cairn up` still finds
  // the daemon.
  return WriteFileAtomically(layout_.PidFile(part.name), std::to_string(pid) + "\n");
}

Status LocalCluster::Await(const LocalPart& part) {
  const auto child =
      std::find_if(started_.begin(), started_.end(), [&](const auto& c) { return c.first == part.name; });
  if (child == started_.end()) return Status::Ok();
  std::string ended;
  AdminClient admin({layout_.Find("master")->address});
  const bool ready = WaitUntil(kStartTimeoutMs, [&] {
    ended = ChildEnded(child->second);
    if (!ended.empty()) return true;
    if (part.kind == PartKind::kMount) {
      const auto state = fuse::ProbeMount(part.mountpoint, 5'000);
      return state.ok() && *state == fuse::MountState::kAlive;
    }
    if (!std::filesystem::exists(layout_.AddressFile(part.name))) return false;
    return part.kind != PartKind::kMaster || admin.ClusterStatus(2'000).ok();
  });
  if (!ended.empty()) {
    unlink(layout_.PidFile(part.name).c_str());
    return StartFailed(part, ended);
  }
  if (!ready) {
    const auto stopped = StopDaemon(layout_.PidFile(part.name), BinaryName(part.kind), kStopPatienceMs);
    if (Interrupted()) return {StatusCode::kInterrupted, part.name + ": interrupted while starting"};
    return StartFailed(part, fmt::format("was not ready after {} s{}", kStartTimeoutMs / 1000,
                                         stopped.ok() ? "" : " (" + stopped.status().message() + ")"));
  }
  Progress(part.name, part.kind == PartKind::kMount
                          ? fmt::format("mounted at {} (pid {})", part.mountpoint, child->second)
                          : fmt::format("serves at {} (pid {})", part.address, child->second));
  return Status::Ok();
}

Status LocalCluster::AwaitChunkservers() {
  const LocalPart* master = layout_.Find("master");
  AdminClient admin({master->address});
  std::vector<std::string> missing;
  Status last;
  const bool all = WaitUntil(kStartTimeoutMs, [&] {
    const auto status = admin.ClusterStatus(2'000);
    last = status.status();
    missing.clear();
    for (const LocalPart& part : layout_.parts()) {
      if (part.kind != PartKind::kChunkserver || Running(part) == 0) continue;
      const bool up =
          status.ok() && std::any_of(status->servers().begin(), status->servers().end(), [&](const auto& s) {
            return s.address() == part.address && s.state() == "up";
          });
      if (!up) missing.push_back(part.name);
    }
    return missing.empty() && status.ok();
  });
  if (all) return Status::Ok();
  if (!last.ok()) return last.WithContext("the master stopped answering");
  for (const std::string& name : missing)
    return StartFailed(*layout_.Find(name), "did not register with the master");
  return {StatusCode::kInterrupted, "interrupted"};
}

Status LocalCluster::InitializeRoot(const std::string& policy_text) {
  if (layout_.initialized && policy_text.empty()) return Status::Ok();
  client::ClientOptions options;
  options.masters = {layout_.Find("master")->address};
  options.name = "cairn-up";
  CAIRN_ASSIGN_OR_RETURN(const auto session, context_.connect(options));
  const client::Caller root;  // uid 0: the cluster's administrator
  CAIRN_ASSIGN_OR_RETURN(const client::PolicyPair current, session->GetPolicy(root, kRootInode));
  client::Policy wanted = current.own;
  if (!policy_text.empty()) {
    CAIRN_ASSIGN_OR_RETURN(wanted, ParsePolicy(policy_text, current.own));
  } else if (const auto servers = static_cast<uint32_t>(layout_.chunkservers());
             servers < current.effective.replicas) {
    wanted.replicas = servers;
    wanted.write_quorum = servers / 2 + 1;
    Progress("policy",
             fmt::format("only {} chunkserver{}: {}", servers, servers == 1 ? "" : "s", PolicyText(wanted)));
  }
  if (!(wanted == current.own)) {
    CAIRN_ASSIGN_OR_RETURN(const client::PolicyPair now, session->SetPolicy(root, kRootInode, wanted));
    if (!policy_text.empty()) Progress("policy", PolicyText(now.effective));
  }
  if (!layout_.initialized && geteuid() != 0) {
    // An ordinary user's own cluster: the root directory is theirs.
    client::SetAttributes owner;
    owner.uid = geteuid();
    owner.gid = getegid();
    CAIRN_RETURN_IF_ERROR(session->SetAttr(root, kRootInode, owner).status());
  }
  CAIRN_RETURN_IF_ERROR(session->FsyncInode(kRootInode));
  layout_.initialized = true;
  return layout_.Save();
}

Status LocalCluster::Stop(const LocalPart& part, bool force) {
  const bool was_running = Running(part) != 0;
  if (part.kind == PartKind::kMount) {
    CAIRN_ASSIGN_OR_RETURN(const auto state, fuse::ProbeMount(part.mountpoint, 5'000));
    const auto mounted = fuse::FindMount(part.mountpoint);
    if (mounted && mounted->type == fuse::kMountType) {
      const bool alive = state == fuse::MountState::kAlive;
      Status unmounted = fuse::Unmount(part.mountpoint, {.lazy = !alive});
      if (unmounted.code() == StatusCode::kBusy && force)
        unmounted = fuse::Unmount(part.mountpoint, {.lazy = true});
      CAIRN_RETURN_IF_ERROR(unmounted);
    }
  }
  const int patience = part.kind == PartKind::kMount ? kMountStopPatienceMs : kStopPatienceMs;
  CAIRN_ASSIGN_OR_RETURN(const StopResult stopped,
                         StopDaemon(layout_.PidFile(part.name), BinaryName(part.kind), patience));
  Progress(part.name, !was_running     ? "was not running"
                      : stopped.killed ? "killed (it did not end by itself in time)"
                                       : "stopped");
  return Status::Ok();
}

}  // namespace cairn::cli
