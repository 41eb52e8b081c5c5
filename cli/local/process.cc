#include "cli/local/process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

namespace cairn::cli {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

int PidfdOpen(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }
int PidfdSignal(int pidfd, int signal) {
  return static_cast<int>(syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

pid_t ReadPid(const std::string& pid_file) {
  std::ifstream file(pid_file);
  pid_t pid = 0;
  return (file >> pid) && pid > 1 ? pid : 0;
}

bool IsZombie(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t end_of_name = line.rfind(')');
  return end_of_name != std::string::npos && line.compare(end_of_name + 1, 2, " Z") == 0;
}

bool IsOurs(pid_t pid, const std::string& pid_file, const std::string& binary) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
  std::vector<std::string> arguments;
  std::string argument;
  while (std::getline(file, argument, '\0')) arguments.push_back(argument);
  if (arguments.empty() || std::filesystem::path(arguments[0]).filename() != binary) return false;
  for (size_t i = 1; i + 1 < arguments.size(); ++i) {
    if (arguments[i] == "--pid-file" && arguments[i + 1] == pid_file) return !IsZombie(pid);
  }
  return false;
}

// In the child: never returns. Reports a failed exec through `report`.
[[noreturn]] void ExecChild(char* const* argv, int output, int report) {
  setsid();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  dup2(report, 3);
  fcntl(3, F_SETFD, FD_CLOEXEC);
  close_range(4, UINT_MAX, 0);
  execv(argv[0], argv);
  const int error = errno;
  if (write(3, &error, sizeof error) < 0) _exit(126);
  _exit(127);
}

}  // namespace

Result<std::string> BinaryDirectory() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Status(StatusCode::kIoError, "read /proc/self/exe: " + error.message());
  return self.parent_path().string();
}

pid_t RunningDaemon(const std::string& pid_file, const std::string& binary) {
  const pid_t pid = ReadPid(pid_file);
  return pid != 0 && IsOurs(pid, pid_file, binary) ? pid : 0;
}

Result<pid_t> Spawn(const std::vector<std::string>& arguments, const std::string& error_file) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const Descriptor output(open(error_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (output.get() < 0) return ErrnoStatus(errno, "open " + error_file);
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  const Descriptor reader(report[0]);
  pid_t pid = 0;
  {
    const Descriptor writer(report[1]);
    pid = fork();
    if (pid == 0) ExecChild(argv.data(), output.get(), writer.get());
  }
  if (pid < 0) return ErrnoStatus(errno, "fork");
  int error = 0;
  if (read(reader.get(), &error, sizeof error) == sizeof error) {
    waitpid(pid, nullptr, 0);
    return ErrnoStatus(error, "start " + arguments[0]);
  }
  return pid;
}

std::string ChildEnded(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, WNOHANG) != pid) return {};
  if (WIFSIGNALED(status)) {
    return "was killed by signal " + std::to_string(WTERMSIG(status)) + " (" + strsignal(WTERMSIG(status)) +
           ")";
  }
  return "exited with code " + std::to_string(WEXITSTATUS(status));
}

Result<StopResult> StopDaemon(const std::string& pid_file, const std::string& binary, int patience_ms) {
  const pid_t pid = ReadPid(pid_file);
  if (pid == 0) return StopResult{};
  const Descriptor pidfd(PidfdOpen(pid));
  if (pidfd.get() < 0 || !IsOurs(pid, pid_file, binary)) {
    unlink(pid_file.c_str());
    return StopResult{};
  }
  StopResult result{.was_running = true};
  if (PidfdSignal(pidfd.get(), SIGTERM) != 0 && errno != ESRCH) {
    return ErrnoStatus(errno, "signal " + binary + " (pid " + std::to_string(pid) + ")");
  }
  pollfd waiter{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  if (poll(&waiter, 1, patience_ms) == 0) {
    result.killed = true;
    PidfdSignal(pidfd.get(), SIGKILL);
    if (poll(&waiter, 1, 10'000) == 0) {
      return Status(StatusCode::kTimeout, binary + " (pid " + std::to_string(pid) +
                                              ") does not end even on SIGKILL: it hangs in the kernel");
    }
  }
  waitpid(pid, nullptr, WNOHANG);  // reaps it if it is a child of this very process
  unlink(pid_file.c_str());
  return result;
}

std::string TailOf(const std::string& path, int lines) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const auto size = static_cast<int64_t>(file.tellg());
  const int64_t from = std::max<int64_t>(0, size - 8192);
  file.seekg(from);
  std::vector<std::string> all;
  std::string line;
  while (std::getline(file, line)) all.push_back(line);
  if (from > 0 && !all.empty()) all.erase(all.begin());
  std::string text;
  const size_t first = all.size() > static_cast<size_t>(lines) ? all.size() - static_cast<size_t>(lines) : 0;
  for (size_t i = first; i < all.size(); ++i) text += "    " + all[i] + "\n";
  return text;
}

bool PortIsFree(int port) {
  const Descriptor socket_fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(socket_fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

Result<int> ChooseFreePort(const std::vector<int>& taken) {
  constexpr int kLowest = 15000;
  int highest = 32767;
  std::ifstream range("/proc/sys/net/ipv4/ip_local_port_range");
  if (int low = 0; range >> low && low > kLowest + 1000) highest = std::min(highest, low - 1);
  std::random_device random;
  std::uniform_int_distribution<int> choose(kLowest, highest);
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const int port = choose(random);
    if (std::find(taken.begin(), taken.end(), port) == taken.end() && PortIsFree(port)) return port;
  }
  return Status(StatusCode::kResourceExhausted, "no free port between " + std::to_string(kLowest) + " and " +
                                                    std::to_string(highest) + " on 127.0.0.1");
}

}  // namespace cairn::cli
