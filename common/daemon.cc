#include "common/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "common/durable_files.h"

namespace cairn {
namespace {

void RaiseOpenFileLimit(uint64_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t target = std::min<rlim_t>(wanted, limit.rlim_max);
  if (limit.rlim_cur >= target) return;
  limit.rlim_cur = target;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    CAIRN_LOG(Warning, "cannot raise the limit of open files to {}", target);
  }
}

// The starter's side of going to the background: waits for one byte (ready) or for the end of the daemon.
[[noreturn]] void WaitForDaemon(int ready_fd, pid_t child) {
  char byte = 0;
  ssize_t got;
  do {
    got = read(ready_fd, &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1) _exit(kExitOk);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  _exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : kExitFailure);
}

}  // namespace

struct Daemon::State {
  DaemonOptions options;
  int signal_fd = -1;
  int wake_fd = -1;
  int ready_fd = -1;
  bool pid_file_written = false;
  std::atomic<bool> shutdown{false};
};

Result<std::unique_ptr<Daemon>> Daemon::Start(const DaemonOptions& options) {
  std::unique_ptr<Daemon> daemon(new Daemon);
  daemon->state_ = std::make_unique<State>();
  State& state = *daemon->state_;
  state.options = options;

  if (options.background) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
    const pid_t child = fork();
    if (child < 0) return ErrnoStatus(errno, "fork");
    if (child > 0) {
      close(fds[1]);
      WaitForDaemon(fds[0], child);
    }
    close(fds[0]);
    state.ready_fd = fds[1];
    setsid();
  }

  CAIRN_RETURN_IF_ERROR(SetUpLogging(options.log));
  RaiseOpenFileLimit(options.max_open_files);

  signal(SIGPIPE, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGUSR1);
  sigaddset(&mask, SIGUSR2);
  if (pthread_sigmask(SIG_BLOCK, &mask, nullptr) != 0) return ErrnoStatus(errno, "block signals");
  state.signal_fd = signalfd(-1, &mask, SFD_CLOEXEC);
  if (state.signal_fd < 0) return ErrnoStatus(errno, "signalfd");
  state.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (state.wake_fd < 0) return ErrnoStatus(errno, "eventfd");
  return daemon;
}

Daemon::~Daemon() {
  if (state_ == nullptr) return;
  if (state_->pid_file_written) unlink(state_->options.pid_file.c_str());
  for (int fd : {state_->signal_fd, state_->wake_fd, state_->ready_fd}) {
    if (fd >= 0) close(fd);
  }
  FlushLog();
}

Status Daemon::Ready() {
  State& state = *state_;
  if (!state.options.pid_file.empty()) {
    CAIRN_RETURN_IF_ERROR(WriteFileAtomically(state.options.pid_file, std::to_string(getpid()) + "\n"));
    state.pid_file_written = true;
  }
  if (state.ready_fd >= 0) {
    // From here on nobody reads our terminal output: let go of the starter's descriptors.
    const int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0) return ErrnoStatus(errno, "open /dev/null");
    dup2(null_fd, STDIN_FILENO);
    dup2(null_fd, STDOUT_FILENO);
    if (!state.options.log.file.empty()) dup2(null_fd, STDERR_FILENO);
    close(null_fd);
    if (chdir("/") != 0) return ErrnoStatus(errno, "chdir /");
    const char byte = 'r';
    while (write(state.ready_fd, &byte, 1) < 0 && errno == EINTR) {
    }
    close(state.ready_fd);
    state.ready_fd = -1;
  }
  return Status::Ok();
}

namespace {
// With SA_RESETHAND: the signal after it has its default effect.
void IgnoreOnce(int) {}
}  // namespace

void Daemon::WaitForShutdown() {
  State& state = *state_;
  pollfd fds[2] = {{state.signal_fd, POLLIN, 0}, {state.wake_fd, POLLIN, 0}};
  bool by_signal = false;
  while (!state.shutdown.load()) {
    if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
    if ((fds[0].revents & POLLIN) != 0) {
      signalfd_siginfo info{};
      if (read(state.signal_fd, &info, sizeof info) == sizeof info) {
        // More in the log while somebody looks for something, and back: also where no master can be asked, as in a mount.
        if (info.ssi_signo == SIGUSR1 || info.ssi_signo == SIGUSR2) {
          const std::string level = info.ssi_signo == SIGUSR1 ? "debug" : state.options.log.level;
          (void)SetLogLevel(level);
          LogLine(LogLevel::kError, "the log level is " + level + " from now on");
          continue;
        }
        CAIRN_LOG(Info, "signal {} received, shutting down", info.ssi_signo);
        by_signal = true;
      }
      state.shutdown.store(true);
    }
  }
  // A second signal ends the process at once, in case the orderly end takes too long for somebody. When the
  // end was not asked for by a signal (a mount that was unmounted), the first one only asks for what is under
  // way already.
  struct sigaction action {};
  action.sa_handler = by_signal ? SIG_DFL : IgnoreOnce;
  action.sa_flags = by_signal ? 0 : static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  pthread_sigmask(SIG_UNBLOCK, &mask, nullptr);
}

void Daemon::RequestShutdown() {
  state_->shutdown.store(true);
  const uint64_t one = 1;
  while (write(state_->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

bool Daemon::ShutdownRequested() const { return state_->shutdown.load(); }

Status WriteFileAtomically(const std::string& path, const std::string& content) {
  const std::string temporary = path + ".tmp." + std::to_string(getpid());
  const int fd = open(temporary.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, "create " + temporary);
  auto fail = [&](const char* what) {
    const Status status = ErrnoStatus(errno, std::string(what) + " " + temporary);
    close(fd);
    unlink(temporary.c_str());
    return status;
  };
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t n = write(fd, content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail("write");
    done += static_cast<size_t>(n);
  }
  if (fsync(fd) != 0) return fail("fsync");
  close(fd);
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    const Status status = ErrnoStatus(errno, "rename " + temporary + " to " + path);
    unlink(temporary.c_str());
    return status;
  }
  std::string directory = std::filesystem::path(path).parent_path().string();
  if (directory.empty()) directory = ".";
  return SyncDirectory(directory);
}

Result<std::string> ReadSmallFile(const std::string& path, size_t max_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "open " + path);
  std::string content;
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const Status status = ErrnoStatus(errno, "read " + path);
      close(fd);
      return status;
    }
    if (n == 0) break;
    content.append(buffer, static_cast<size_t>(n));
    if (content.size() > max_bytes) {
      close(fd);
      return Status(StatusCode::kInvalidArgument,
                    path + " is larger than " + std::to_string(max_bytes) + " bytes");
    }
  }
  close(fd);
  return content;
}

namespace {
std::string FirstLine(const std::string& path) {
  auto content = ReadSmallFile(path, 4096);
  if (!content.ok()) return {};
  return content->substr(0, content->find('\n'));
}
}  // namespace

std::string HostIdentity() {
  std::string id = FirstLine("/etc/machine-id");
  if (!id.empty()) return id;
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) == 0) return name;
  return "unknown-host";
}

std::string BootIdentity() { return FirstLine("/proc/sys/kernel/random/boot_id"); }

}  // namespace cairn
