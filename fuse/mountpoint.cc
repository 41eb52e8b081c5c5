#include "fuse/mountpoint.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>

namespace cairn::fuse {
namespace {

// The kernel writes space, tab, newline and backslash as \ooo.
std::string Unescape(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      const int value = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
      result += static_cast<char>(value);
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

bool IsAncestor(const std::string& mountpoint, const std::string& path) {
  if (mountpoint == "/" || mountpoint == path) return true;
  return path.starts_with(mountpoint) && path[mountpoint.size()] == '/';
}

std::string MountTable() {
  std::ifstream file("/proc/self/mountinfo");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Waits for a child; false if it did not end in time (it is killed then, and reaped by init's rules later).
bool WaitForChild(pid_t pid, int timeout_ms, int* status) {
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  bool ended = true;
  if (pidfd >= 0) {
    pollfd waiter{.fd = pidfd, .events = POLLIN, .revents = 0};
    int ready = 0;
    do {
      ready = poll(&waiter, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    ended = ready > 0;
    close(pidfd);
  }
  if (!ended) {
    kill(pid, SIGKILL);
    return waitpid(pid, status, WNOHANG) == pid && false;
  }
  while (waitpid(pid, status, 0) < 0 && errno == EINTR) {
  }
  return true;
}

Status RunFusermount(const std::string& path, UnmountOptions options) {
  int output[2];
  if (pipe2(output, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  const char* argv[6] = {"fusermount3", "-u", nullptr};
  int count = 2;
  if (options.lazy) argv[count++] = "-z";
  argv[count++] = "--";
  argv[count++] = path.c_str();
  argv[count] = nullptr;
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "fork");
  if (pid == 0) {
    dup2(output[1], STDERR_FILENO);
    execvp(argv[0], const_cast<char* const*>(argv));
    _exit(127);
  }
  close(output[1]);
  std::string message;
  char buffer[512];
  ssize_t got = 0;
  while ((got = read(output[0], buffer, sizeof buffer)) > 0) message.append(buffer, static_cast<size_t>(got));
  close(output[0]);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return Status::Ok();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    return {StatusCode::kNotFound,
            "unmount " + path + ": fusermount3 is not installed (Debian package fuse3)"};
  }
  while (message.ends_with('\n')) message.pop_back();
  const bool busy = message.find("busy") != std::string::npos;
  return {busy ? StatusCode::kBusy : StatusCode::kIoError, "unmount " + path + ": " + message};
}

}  // namespace

std::optional<MountInfo> FindMountIn(const std::string& mountinfo, const std::string& path, bool above) {
  std::optional<MountInfo> found;
  std::stringstream lines(mountinfo);
  std::string line;
  while (std::getline(lines, line)) {
    // id parent major:minor root mountpoint options [optional...] - type source super-options
    std::stringstream fields(line);
    std::string skip, device, root, mountpoint, options;
    fields >> skip >> skip >> device >> root >> mountpoint >> options;
    mountpoint = Unescape(mountpoint);
    if (above ? !IsAncestor(mountpoint, path) : mountpoint != path) continue;
    if (found && mountpoint.size() < found->mountpoint.size()) continue;
    const size_t separator = line.find(" - ");
    if (separator == std::string::npos) continue;
    std::stringstream rest(line.substr(separator + 3));
    MountInfo info{.mountpoint = mountpoint, .device = device, .root = Unescape(root), .options = options};
    rest >> info.type >> info.source;
    info.source = Unescape(info.source);
    found = std::move(info);
  }
  return found;
}

std::optional<MountInfo> FindMount(const std::string& path) { return FindMountIn(MountTable(), path, false); }
std::optional<MountInfo> FindMountAbove(const std::string& path) {
  return FindMountIn(MountTable(), path, true);
}

std::vector<MountInfo> AllMounts() {
  std::vector<MountInfo> mounts;
  const std::string table = MountTable();
  std::stringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    std::stringstream fields(line);
    std::string skip, mountpoint;
    fields >> skip >> skip >> skip >> skip >> mountpoint;
    const auto mount = FindMountIn(line, Unescape(mountpoint), false);
    if (mount && mount->type == kMountType) mounts.push_back(*mount);
  }
  return mounts;
}

Result<MountState> ProbeMount(const std::string& path, int timeout_ms) {
  if (!FindMount(path)) return MountState::kNotMounted;
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "fork");
  if (pid == 0) {
    struct statvfs info {};
    if (statvfs(path.c_str(), &info) == 0) _exit(0);
    _exit(errno == ENOTCONN || errno == ECONNABORTED ? 1 : 2);
  }
  int status = 0;
  if (!WaitForChild(pid, timeout_ms, &status)) return MountState::kHanging;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 2;
  if (code == 0) return MountState::kAlive;
  if (code == 1) return MountState::kDead;
  // It answers, although with an error (permission, or EIO while the cluster is away).
  return MountState::kAlive;
}

Status Unmount(const std::string& path, UnmountOptions options) {
  if (geteuid() != 0) return RunFusermount(path, options);
  if (umount2(path.c_str(), UMOUNT_NOFOLLOW | (options.lazy ? MNT_DETACH : 0)) == 0) return Status::Ok();
  const int error = errno;
  if (error == EBUSY)
    return {StatusCode::kBusy, "unmount " + path + ": files are open there (see `fuser -vm " + path + "`)"};
  if (error == EINVAL) return {StatusCode::kInvalidArgument, path + ": nothing is mounted there"};
  return ErrnoStatus(error, "unmount " + path);
}

Status CleanUpDeadMount(const std::string& path) {
  constexpr int kMaxStacked = 16;
  for (int i = 0; i < kMaxStacked; ++i) {
    CAIRN_ASSIGN_OR_RETURN(const MountState state, ProbeMount(path, 5'000));
    switch (state) {
      case MountState::kNotMounted:
        return Status::Ok();
      case MountState::kAlive:
        return {StatusCode::kBusy,
                path + ": already mounted (" + FindMount(path).value_or(MountInfo{}).source + ")"};
      case MountState::kHanging:
        return {StatusCode::kBusy, path + ": something is mounted there that does not answer; `umount -l " +
                                       path + "` takes it away"};
      case MountState::kDead:
        CAIRN_RETURN_IF_ERROR(Unmount(path, {.lazy = true}));
        break;
    }
  }
  return {StatusCode::kBusy, path + ": dead mounts are stacked there; unmount them by hand"};
}

}  // namespace cairn::fuse
