#include "tests/cluster/harness.h"

#include <cstdlib>
#include <algorithm>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "common/daemon.h"

namespace cairn::cluster_test {
namespace fs = std::filesystem;

namespace {

std::string Binary(const std::string& name) { return std::string(CAIRN_BIN_DIR) + "/" + name; }

pid_t ReadPid(const std::string& path) {
  auto text = ReadSmallFile(path, 64);
  if (!text.ok()) return 0;
  const pid_t pid = static_cast<pid_t>(std::atoi(text->c_str()));
  return pid > 0 && kill(pid, 0) == 0 ? pid : 0;
}

// The letter of /proc/.../stat, or 0.
char StateIn(const std::string& stat_path) {
  std::ifstream stat(stat_path);
  std::string line;
  if (!std::getline(stat, line)) return 0;
  const size_t paren = line.rfind(')');
  return paren != std::string::npos && paren + 2 < line.size() ? line[paren + 2] : 0;
}

// A zombie counts as gone: its parent is somebody else.
bool ProcessGone(pid_t pid) {
  const char state = StateIn("/proc/" + std::to_string(pid) + "/stat");
  return state == 0 || state == 'Z';
}

void LazyUnmount(const std::string& mountpoint) {
  if (umount2(mountpoint.c_str(), MNT_DETACH) == 0 || errno == EINVAL || errno == ENOENT) return;
  RunProgram({"fusermount3", "-u", "-z", mountpoint});
}

}  // namespace

int64_t NowMillis() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool ProcessStopped(pid_t pid) {
  std::error_code gone;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", gone)) {
    const char state = StateIn(task.path() / "stat");
    if (state != 'T' && state != 't' && state != 0) return false;
  }
  return !gone;
}

bool WaitUntil(const std::function<bool()>& condition, int64_t timeout_ms, int64_t poll_ms) {
  const int64_t end = NowMillis() + timeout_ms;
  for (;;) {
    if (condition()) return true;
    if (NowMillis() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(poll_ms));
  }
}

bool LongTests() {
  const char* wanted = std::getenv("CAIRN_LONG_TESTS");
  return wanted != nullptr && std::string(wanted) == "1";
}

int64_t Percentile99(std::vector<int64_t> samples) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  return samples[std::min(samples.size() - 1, samples.size() * 99 / 100)];
}

void Figure(const std::string& text) {
  std::printf("[  FIGURE  ] %s\n", text.c_str());
  std::fflush(stdout);
}

RunResult RunProgram(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                     int timeout_s) {
  RunResult result;
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) return result;
  const pid_t child = fork();
  if (child == 0) {
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    const int null_fd = open("/dev/null", O_RDONLY);
    dup2(null_fd, STDIN_FILENO);
    for (const std::string& variable : environment) putenv(const_cast<char*>(variable.c_str()));
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    std::fprintf(stderr, "cannot run %s: %s\n", argv[0], std::strerror(errno));
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  const int64_t end = NowMillis() + timeout_s * 1000LL;
  bool open_out = true, open_err = true;
  int status = 0;
  bool reaped = false;
  // A daemon that the program started may keep the pipes: stop reading once the program itself is gone and
  // they are idle.
  while (open_out || open_err) {
    pollfd fds[2] = {{open_out ? out[0] : -1, POLLIN, 0}, {open_err ? err[0] : -1, POLLIN, 0}};
    const int ready = poll(fds, 2, 50);
    char buffer[65536];
    for (int i = 0; i < 2; ++i) {
      if (fds[i].revents == 0) continue;
      const ssize_t n = read(fds[i].fd, buffer, sizeof buffer);
      if (n > 0) {
        (i == 0 ? result.out : result.err).append(buffer, static_cast<size_t>(n));
      } else {
        (i == 0 ? open_out : open_err) = false;
      }
    }
    if (!reaped && waitpid(child, &status, WNOHANG) == child) reaped = true;
    if (reaped && ready == 0) break;
    if (!reaped && NowMillis() > end) {
      kill(child, SIGKILL);
      result.err += "\n(killed after " + std::to_string(timeout_s) + " s)\n";
      break;
    }
  }
  close(out[0]);
  close(err[0]);
  if (!reaped) waitpid(child, &status, 0);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::string Sha256OfFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::string("cannot open: ") + std::strerror(errno);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  EVP_DigestInit_ex(context, EVP_sha256(), nullptr);
  std::vector<char> buffer(1 << 20);
  std::string error;
  for (;;) {
    const ssize_t n = read(fd, buffer.data(), buffer.size());
    if (n < 0) error = std::string("cannot read: ") + std::strerror(errno);
    if (n <= 0) break;
    EVP_DigestUpdate(context, buffer.data(), static_cast<size_t>(n));
  }
  close(fd);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context, digest, &size);
  EVP_MD_CTX_free(context);
  if (!error.empty()) return error;
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    char text[3];
    std::snprintf(text, sizeof text, "%02x", digest[i]);
    hex += text;
  }
  return hex;
}

std::string Pattern(uint64_t seed, size_t bytes) {
  std::mt19937_64 random(seed);
  std::string text(bytes, '\0');
  size_t at = 0;
  while (at < bytes) {
    const uint64_t word = random();
    const size_t take = std::min(sizeof word, bytes - at);
    std::memcpy(text.data() + at, &word, take);
    at += take;
  }
  return text;
}

std::unique_ptr<LocalCluster> LocalCluster::Start(const Options& options) {
  std::unique_ptr<LocalCluster> cluster(new LocalCluster);
  char name[] = "/tmp/cairn-cluster-XXXXXX";
  if (mkdtemp(name) == nullptr) {
    ADD_FAILURE() << "mkdtemp: " << std::strerror(errno);
    return nullptr;
  }
  cluster->directory_ = name;
  cluster->mount_ = cluster->directory_ + "/mnt";
  cluster->options_ = options;
  if (!cluster->StartShell()) {
    ADD_FAILURE() << "cannot start a shell";
    return nullptr;
  }
  std::vector<std::string> arguments = {"--chunkservers", std::to_string(options.chunkservers)};
  if (options.mount) {
    arguments.push_back("--mount");
    arguments.push_back(cluster->mount_);
  }
  arguments.insert(arguments.end(), options.up_arguments.begin(), options.up_arguments.end());
  cluster->Up(arguments);
  if (testing::Test::HasFatalFailure() || testing::Test::HasNonfatalFailure()) return nullptr;
  return cluster;
}

LocalCluster::~LocalCluster() {
  if (testing::Test::HasFailure()) {
    for (const auto& entry : fs::directory_iterator(directory_ + "/log")) {
      const RunResult tail = RunProgram({"tail", "-n", "40", entry.path().string()});
      std::printf("---- %s\n%s", entry.path().c_str(), tail.out.c_str());
    }
  }
  for (const ExtraMount& extra : extra_mounts_) {
    if (extra.pid > 0 && !ProcessGone(extra.pid)) kill(extra.pid, SIGTERM);
    WaitUntil([&] { return extra.pid <= 0 || ProcessGone(extra.pid); }, 10'000);
    if (extra.pid > 0 && !ProcessGone(extra.pid)) kill(extra.pid, SIGKILL);
    LazyUnmount(extra.mountpoint);
  }
  for (const char* part : {"mount", "master", "cs1", "cs2", "cs3", "cs4", "cs5"}) {
    const pid_t pid = Pid(part);
    if (pid > 0) kill(pid, SIGCONT);
  }
  for (int fd : {shell_in_, shell_out_}) {
    if (fd >= 0) close(fd);
  }
  RunProgram({Binary("cairn"), "down", "--dir", directory_}, {}, 60);
  LazyUnmount(mount_);
  std::error_code error;
  fs::remove_all(directory_, error);
}

pid_t LocalCluster::Pid(const std::string& name) const {
  return ReadPid(directory_ + "/run/" + name + ".pid");
}

void LocalCluster::Signal(const std::string& name, int signal) {
  const pid_t pid = Pid(name);
  ASSERT_GT(pid, 0) << name << " is not running";
  ASSERT_EQ(kill(pid, signal), 0);
  if (signal == SIGKILL) {
    ASSERT_TRUE(WaitUntil([&] { return ProcessGone(pid); }, 10'000, 1)) << name << " survived SIGKILL";
  }
  if (signal == SIGSTOP) {
    ASSERT_TRUE(WaitUntil([&] { return ProcessStopped(pid); }, 10'000, 1)) << name << " did not stop";
  }
}

void LocalCluster::Kill(const std::string& name) { Signal(name, SIGKILL); }

bool LocalCluster::StartShell() {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) return false;
  const pid_t child = fork();
  if (child < 0) return false;
  if (child == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(out[1], STDERR_FILENO);
    execlp("sh", "sh", "-c", "while read -r line; do eval \"$line\" </dev/null; echo \"@exit $?\"; done",
           nullptr);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  shell_in_ = in[1];
  shell_out_ = out[0];
  return true;
}

RunResult LocalCluster::InShell(const std::vector<std::string>& command) {
  RunResult result;
  std::string line;
  for (const std::string& word : command) line += "'" + word + "' ";
  line += "\n";
  if (write(shell_in_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) return result;
  const int64_t end = NowMillis() + 90'000;
  while (NowMillis() < end) {
    pollfd fd{shell_out_, POLLIN, 0};
    if (poll(&fd, 1, 100) <= 0) continue;
    char buffer[4096];
    const ssize_t n = read(shell_out_, buffer, sizeof buffer);
    if (n <= 0) break;
    result.out.append(buffer, static_cast<size_t>(n));
    const size_t mark = result.out.rfind("@exit ");
    if (mark == std::string::npos || result.out.back() != '\n') continue;
    result.exit_code = std::atoi(result.out.c_str() + mark + 6);
    break;
  }
  return result;
}

void LocalCluster::Up(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {Binary("cairn"), "up", "--dir", directory_};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const RunResult result = InShell(command);
  ASSERT_EQ(result.exit_code, 0) << result.Both();
}

void LocalCluster::Down(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {Binary("cairn"), "down", "--dir", directory_};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const RunResult result = RunProgram(command, {}, 90);
  ASSERT_EQ(result.exit_code, 0) << result.Both();
}

RunResult LocalCluster::Cairn(std::vector<std::string> arguments, int timeout_s) const {
  arguments.insert(arguments.begin(), Binary("cairn"));
  return RunProgram(arguments, {"CAIRN_MASTER=" + MasterAddress(), "CAIRN_ADMIN_TOKEN_FILE=" + DataOf("master") + "/admin-token"}, timeout_s);
}

nlohmann::json LocalCluster::Status() const {
  const RunResult result = RunProgram({Binary("cairn"), "status", "--dir", directory_, "--json"}, {}, 30);
  return nlohmann::json::parse(result.out, nullptr, false);
}

bool LocalCluster::WaitHealthy(int64_t timeout_ms) const {
  return WaitUntil(
      [this] {
        const nlohmann::json status = Status();
        if (!status.is_object() || !status.contains("servers")) return false;
        for (const auto& server : status["servers"]) {
          if (server.value("state", "") != "up") return false;
        }
        for (const char* field : {"chunks_below_policy", "chunks_damaged", "chunks_deleting",
                                  "repairs_running", "repairs_queued"}) {
          if (status.value(field, "?") != "0") return false;
        }
        return true;
      },
      timeout_ms, 200);
}

std::string LocalCluster::MasterAddress() const {
  auto text = ReadSmallFile(directory_ + "/run/master.address", 256);
  return text.ok() ? text->substr(0, text->find('\n')) : "";
}

std::vector<std::string> LocalCluster::ServerAddresses() const {
  std::vector<std::string> addresses;
  const nlohmann::json status = Status();
  if (!status.is_object() || !status.contains("servers")) return addresses;
  for (const auto& server : status["servers"]) addresses.push_back(server.value("address", ""));
  return addresses;
}

std::string LocalCluster::AddMount(const std::string& options) {
  const std::string mountpoint = directory_ + "/mnt" + std::to_string(extra_mounts_.size() + 2);
  fs::create_directories(mountpoint);
  const std::string pid_file = mountpoint + ".pid";
  std::vector<std::string> command = {
      Binary("cairn-mount"),
      MasterAddress(),
      mountpoint,
      "--pid-file",
      pid_file,
      "--log-file",
      directory_ + "/log/" + fs::path(mountpoint).filename().string() + ".log"};
  if (!options.empty()) command.insert(command.end(), {"-o", options});
  const RunResult result = RunProgram(command, {}, 60);
  EXPECT_EQ(result.exit_code, 0) << result.Both();
  extra_mounts_.push_back({mountpoint, ReadPid(pid_file)});
  EXPECT_GT(extra_mounts_.back().pid, 0) << "no pid file " << pid_file;
  return mountpoint;
}

pid_t LocalCluster::MountPid(const std::string& mountpoint) const {
  for (const ExtraMount& extra : extra_mounts_) {
    if (extra.mountpoint == mountpoint) return extra.pid;
  }
  return 0;
}

void LocalCluster::KillMount(const std::string& mountpoint) {
  for (ExtraMount& extra : extra_mounts_) {
    if (extra.mountpoint != mountpoint) continue;
    ASSERT_EQ(kill(extra.pid, SIGKILL), 0);
    ASSERT_TRUE(WaitUntil([&] { return ProcessGone(extra.pid); }, 10'000, 1));
    extra.pid = 0;
    LazyUnmount(mountpoint);
  }
}

}  // namespace cairn::cluster_test
