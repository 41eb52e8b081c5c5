#include "tests/cluster/machines.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace cairn::cluster_test {
namespace fs = std::filesystem;

namespace {

constexpr char kBootId[] = "/proc/sys/kernel/random/boot_id";

std::string Binary(const std::string& name) { return std::string(CAIRN_BIN_DIR) + "/" + name; }

std::string Errno(const std::string& what) { return what + ": " + std::strerror(errno); }

// Runs commands until one fails; what failed.
std::string RunAll(const std::vector<std::vector<std::string>>& commands) {
  for (const auto& command : commands) {
    const RunResult result = RunProgram(command, {}, 30);
    if (result.exit_code == 0) continue;
    std::string text;
    for (const std::string& word : command) text += word + " ";
    return text + "failed: " + result.Both();
  }
  return {};
}

}  // namespace

std::string Machines::WhyNot() {
  if (geteuid() != 0) return "needs root";
  for (const char* program : {"ip", "nft", "mkfs.ext4", "xfs_io", "mount", "nsenter"}) {
    if (RunProgram({"sh", "-c", "command -v " + std::string(program)}).exit_code != 0)
      return std::string(program) + " is not installed";
  }
  if (RunProgram({"unshare", "-m", "-n", "true"}).exit_code != 0) return "namespaces are not allowed here";
  if (access("/dev/loop-control", R_OK | W_OK) != 0) return "no loop devices";
  return {};
}

std::unique_ptr<Machines> Machines::Start(const Options& options) {
  std::unique_ptr<Machines> machines(new Machines);
  machines->options_ = options;
  std::string why = machines->Prepare();
  if (why.empty()) why = machines->StartServers(machines->servers());
  if (why.empty()) why = machines->WaitHealthy(30'000);
  if (!why.empty()) {
    ADD_FAILURE() << why;
    return nullptr;
  }
  return machines;
}

std::string Machines::Prepare() {
  char name[] = "/var/tmp/cairn-machines-XXXXXX";
  if (mkdtemp(name) == nullptr) return Errno("mkdtemp");
  directory_ = name;
  if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) return Errno("unshare");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Errno("mount / private");
  // Shared within this test only, so that a disk that is unmounted here disappears from the namespaces of the
  // servers too: a file system that somebody still holds would not forget anything.
  if (mount(name, name, nullptr, MS_BIND, nullptr) != 0) return Errno("bind");
  if (mount(nullptr, name, nullptr, MS_SHARED, nullptr) != 0) return Errno("mount shared");
  for (const char* folder : {"log", "run", "disk", "image", "boot"})
    fs::create_directories(directory_ + "/" + folder);
  std::string why = RunAll({{"ip", "link", "set", "lo", "up"},
                            {"ip", "link", "add", "br0", "type", "bridge"},
                            {"ip", "link", "set", "br0", "up"},
                            {"ip", "addr", "add", "10.77.0.254/24", "dev", "br0"}});
  if (why.empty()) why = AddNode("master", "10.77.0.1");
  if (why.empty()) why = AddDisk("master");
  for (int i = 1; i <= options_.chunkservers && why.empty(); ++i) {
    const std::string server = "cs" + std::to_string(i);
    why = AddNode(server, "10.77.0." + std::to_string(10 + i));
    if (why.empty()) why = AddDisk(server);
  }
  return why;
}

std::string Machines::AddNode(const std::string& name, const std::string& ip) {
  // A namespace lives as long as somebody holds it: a child makes it, we keep its file.
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return Errno("pipe");
  const pid_t child = fork();
  if (child == 0) {
    const char ok = unshare(CLONE_NEWNET) == 0 ? 1 : 0;
    (void)!write(ready[1], &ok, 1);
    pause();
    _exit(0);
  }
  char ok = 0;
  const bool answered = read(ready[0], &ok, 1) == 1 && ok == 1;
  Node node;
  node.name = name;
  node.ip = ip;
  if (answered)
    node.net_fd = open(("/proc/" + std::to_string(child) + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC);
  const std::string link = "v-" + name;
  std::string why = node.net_fd < 0 ? "no network namespace for " + name : "";
  if (why.empty()) {
    why = RunAll(
        {{"ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", std::to_string(child)},
         {"ip", "link", "set", link, "master", "br0"},
         {"ip", "link", "set", link, "up"}});
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  nodes_[name] = node;
  for (const auto& command : std::vector<std::vector<std::string>>{
           {"ip", "link", "set", "lo", "up"},
           {"ip", "link", "set", "eth0", "up"},
           {"ip", "addr", "add", ip + "/24", "dev", "eth0"},
           {"nft", "add table inet chaos; add chain inet chaos in { type filter hook input priority 0; }"}}) {
    if (!why.empty()) return why;
    const RunResult result = RunAt(name, command);
    if (result.exit_code != 0) why = name + ": " + command[0] + ": " + result.Both();
  }
  return why;
}

std::string Machines::AddDisk(const std::string& name) {
  const std::string image = directory_ + "/image/" + name;
  fs::create_directories(DiskOf(name));
  NewBoot(name);
  std::string why = RunAll({{"truncate", "-s", std::to_string(options_.disk_mib) + "M", image},
                            {"mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", image},
                            {"mount", "-o", "loop", image, DiskOf(name)}});
  if (!why.empty()) return why;
  fs::create_directories(DiskOf(name) + "/data");
  return RunAll({{"sync", "-f", DiskOf(name)}});
}

void Machines::NewBoot(const std::string& name) {
  char text[64];
  std::snprintf(text, sizeof text, "%08x-0000-4000-8000-%012llx\n", static_cast<unsigned>(getpid()),
                static_cast<unsigned long long>(++boots_));
  // In place: the servers have this very file mounted.
  std::ofstream(directory_ + "/boot/" + name, std::ios::trunc) << text;
}

Machines::~Machines() {
  if (testing::Test::HasFailure() && fs::exists(directory_ + "/log")) {
    for (const auto& entry : fs::directory_iterator(directory_ + "/log")) {
      const RunResult tail = RunProgram({"tail", "-n", "30", entry.path().string()});
      std::printf("---- %s\n%s", entry.path().c_str(), tail.out.c_str());
    }
  }
  for (auto& [name, node] : nodes_) {
    if (!node.mountpoint.empty()) KillMount(name);
  }
  for (auto& [name, node] : nodes_) {
    if (node.pid > 0) kill(node.pid, SIGKILL);
  }
  for (auto& [name, node] : nodes_) {
    Reap(node);
    if (node.net_fd >= 0) close(node.net_fd);
    if (fs::exists(DiskOf(name))) umount2(DiskOf(name).c_str(), MNT_DETACH);
  }
  RunProgram({"ip", "link", "del", "br0"});
  umount2(directory_.c_str(), MNT_DETACH);
  std::error_code error;
  if (std::getenv("CAIRN_KEEP_MACHINES") == nullptr) fs::remove_all(directory_, error);
}

Machines::Node& Machines::Of(const std::string& name) { return nodes_.at(name); }
const Machines::Node& Machines::Of(const std::string& name) const { return nodes_.at(name); }

std::vector<std::string> Machines::chunkservers() const {
  std::vector<std::string> names;
  for (int i = 1; i <= options_.chunkservers; ++i) names.push_back("cs" + std::to_string(i));
  return names;
}

std::vector<std::string> Machines::servers() const {
  std::vector<std::string> names = chunkservers();
  names.insert(names.begin(), "master");
  return names;
}

std::string Machines::AddressOf(const std::string& node) const {
  return Of(node).ip + (node == "master" ? ":9400" : ":9410");
}

bool Machines::Running(const std::string& node) const { return Of(node).pid > 0; }
pid_t Machines::Pid(const std::string& node) const { return Of(node).pid; }

RunResult Machines::RunAt(const std::string& node, std::vector<std::string> arguments) const {
  const std::string file = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(Of(node).net_fd);
  arguments.insert(arguments.begin(), {"nsenter", "--net=" + file});
  return RunProgram(arguments, {}, 30);
}

std::string Machines::StartProcess(Node& node, const std::vector<std::string>& arguments, bool own_boot) {
  const std::string log = directory_ + "/log/" + node.name + ".err";
  const std::string boot = directory_ + "/boot/" + node.name;
  const pid_t child = fork();
  if (child < 0) return Errno("fork");
  if (child == 0) {
    const auto give_up = [](const char* what) {
      std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
      _exit(126);
    };
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    const int null_fd = open("/dev/null", O_RDONLY);
    dup2(null_fd, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // nothing outlives the test
    if (setns(node.net_fd, CLONE_NEWNET) != 0) give_up("setns");
    if (own_boot) {
      if (unshare(CLONE_NEWNS) != 0) give_up("unshare");
      if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) give_up("mount / as a slave");
      if (mount(boot.c_str(), kBootId, nullptr, MS_BIND, nullptr) != 0) give_up("mount of the boot id");
    }
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    give_up(argv[0]);
  }
  node.pid = child;
  return {};
}

std::vector<std::string> Machines::CommandLine(const Node& node) const {
  const bool master = node.name == "master";
  std::vector<std::string> line = {Binary(master ? "cairn-master" : "cairn-chunkserver"),
                                   "--data",
                                   DiskOf(node.name) + "/data",
                                   "--listen",
                                   AddressOf(node.name),
                                   "--address-file",
                                   directory_ + "/run/" + node.name + ".address",
                                   "--log-file",
                                   LogOf(node.name)};
  if (master) {
    line.insert(line.end(), {"--min-free-mib", "8"});
    line.insert(line.end(), options_.master_flags.begin(), options_.master_flags.end());
  } else {
    line.insert(line.end(), {"--master", AddressOf("master"), "--reserve-mib", "8"});
    line.insert(line.end(), options_.chunkserver_flags.begin(), options_.chunkserver_flags.end());
  }
  return line;
}

std::string Machines::StartServers(const std::vector<std::string>& nodes) {
  for (const std::string& name : nodes) {
    unlink((directory_ + "/run/" + name + ".address").c_str());
    const std::string why = StartProcess(Of(name), CommandLine(Of(name)), true);
    if (!why.empty()) return why;
  }
  std::string why;
  for (const std::string& name : nodes) {
    Node& node = Of(name);
    const bool listens = WaitUntil(
        [&] {
          int status = 0;
          if (waitpid(node.pid, &status, WNOHANG) == node.pid) {
            node.pid = 0;
            why += name + " ended with status " + std::to_string(status) + "\n";
            return true;
          }
          return fs::exists(directory_ + "/run/" + name + ".address");
        },
        60'000, 5);
    if (!listens) why += name + " did not listen within 60 s\n";
  }
  return why;
}

void Machines::Signal(const std::string& node, int signal) {
  ASSERT_GT(Of(node).pid, 0) << node << " is not running";
  ASSERT_EQ(kill(Of(node).pid, signal), 0);
  if (signal == SIGSTOP) {
    ASSERT_TRUE(WaitUntil([&] { return ProcessStopped(Of(node).pid); }, 10'000, 1))
        << node << " did not stop";
  }
}

void Machines::Reap(Node& node) {
  if (node.pid <= 0) return;
  int status = 0;
  while (waitpid(node.pid, &status, 0) < 0 && errno == EINTR) {
  }
  node.pid = 0;
}

void Machines::Kill(const std::string& node) {
  Signal(node, SIGKILL);
  Reap(Of(node));
}

void Machines::CutPower(const std::vector<std::string>& nodes) {
  for (const std::string& name : nodes) {
    if (Of(name).pid > 0) kill(Of(name).pid, SIGKILL);
  }
  for (const std::string& name : nodes) Reap(Of(name));
  for (const std::string& name : nodes) {
    const std::string why = RunAll({{"xfs_io", "-x", "-c", "shutdown", DiskOf(name)},
                                    {"umount", DiskOf(name)},
                                    {"mount", "-o", "loop", directory_ + "/image/" + name, DiskOf(name)}});
    ASSERT_EQ(why, "") << name;
    NewBoot(name);
  }
}

void Machines::BreakDisk(const std::string& node) {
  ASSERT_EQ(RunAll({{"xfs_io", "-x", "-c", "shutdown", DiskOf(node)}}), "");
}

void Machines::FreezeDisk(const std::string& node, bool frozen) {
  ASSERT_EQ(RunAll({{"fsfreeze", frozen ? "--freeze" : "--unfreeze", DiskOf(node)}}), "");
}

void Machines::FillDisk(const std::string& node, int64_t keep_bytes) {
  // Piece by piece: the server writes meanwhile, and an allocation that fails takes all that was left.
  constexpr int64_t kPieceBytes = 4 << 20;
  const int file = open((DiskOf(node) + "/filling").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0) << std::strerror(errno);
  int64_t filled = 0;
  int error = 0;
  for (;;) {
    struct statvfs space {};
    if (fstatvfs(file, &space) != 0) error = errno;
    const int64_t take = static_cast<int64_t>(space.f_bavail * space.f_frsize) - keep_bytes;
    if (error != 0 || take <= 0) break;
    const int64_t piece = std::min(take, kPieceBytes);
    if (fallocate(file, 0, filled, piece) != 0) error = errno;
    filled += piece;
  }
  close(file);
  ASSERT_EQ(error, 0) << std::strerror(error);
}

void Machines::EmptyDisk(const std::string& node) { unlink((DiskOf(node) + "/filling").c_str()); }

void Machines::Drop(const std::string& from, const std::string& to) {
  const RunResult result =
      RunAt(to, {"nft", "add", "rule", "inet", "chaos", "in", "ip", "saddr", Of(from).ip, "drop"});
  ASSERT_EQ(result.exit_code, 0) << result.Both();
}

void Machines::Lose(const std::string& node, int percent) {
  const RunResult result =
      RunAt(node, {"nft", "add", "rule", "inet", "chaos", "in", "iifname", "eth0", "numgen", "random", "mod",
                   "100", "<", std::to_string(percent), "drop"});
  ASSERT_EQ(result.exit_code, 0) << result.Both();
}

void Machines::HealNetwork() {
  for (const auto& [name, node] : nodes_) {
    const RunResult result = RunAt(name, {"nft", "flush", "chain", "inet", "chaos", "in"});
    ASSERT_EQ(result.exit_code, 0) << result.Both();
  }
}

std::string Machines::Mount(const std::string& name, const std::string& options) {
  if (!nodes_.contains(name)) {
    const std::string why = AddNode(name, "10.77.0." + std::to_string(100 + std::stoi(name.substr(1))));
    EXPECT_EQ(why, "");
    if (!why.empty()) return {};
  }
  Node& node = Of(name);
  node.mountpoint = directory_ + "/" + name;
  fs::create_directories(node.mountpoint);
  std::vector<std::string> line = {Binary("cairn-mount"), AddressOf("master"), node.mountpoint,
                                   "--foreground",        "--log-file",        LogOf(name)};
  if (!options.empty()) line.insert(line.end(), {"-o", options});
  std::string why = StartProcess(node, line, false);
  struct stat parent {
  }, root{};
  stat(directory_.c_str(), &parent);
  const bool mounted = WaitUntil(
      [&] {
        int status = 0;
        if (waitpid(node.pid, &status, WNOHANG) == node.pid) {
          node.pid = 0;
          why = "it ended with status " + std::to_string(status);
          return true;
        }
        return stat(node.mountpoint.c_str(), &root) == 0 && root.st_dev != parent.st_dev;
      },
      60'000, 10);
  if (mounted && why.empty()) return node.mountpoint;
  ADD_FAILURE() << name << " cannot mount: " << (why.empty() ? "not within 60 s" : why);
  return {};
}

void Machines::KillMount(const std::string& name) {
  Node& node = Of(name);
  if (node.pid > 0) kill(node.pid, SIGKILL);
  Reap(node);
  umount2(node.mountpoint.c_str(), MNT_DETACH);
  node.mountpoint.clear();
}

RunResult Machines::Cairn(std::vector<std::string> arguments, int timeout_s) const {
  arguments.insert(arguments.begin(), Binary("cairn"));
  return RunProgram(arguments, {"CAIRN_MASTER=" + AddressOf("master"), "CAIRN_ADMIN_TOKEN_FILE=" + DiskOf("master") + "/data/admin-token"}, timeout_s);
}

nlohmann::json Machines::Status() const {
  return nlohmann::json::parse(Cairn({"status", "--json"}, 20).out, nullptr, false);
}

nlohmann::json Machines::ServerStatus(const std::string& node) const {
  const auto status = Status();
  if (!status.is_object()) return {};
  for (const auto& server : status["servers"]) {
    if (server.value("address", "") == AddressOf(node)) return server;
  }
  return {};
}

std::string Machines::ServerName(const std::string& node) const {
  const auto server = ServerStatus(node);
  return server.is_object() ? "cs" + std::to_string(server.value("server", 0)) : "";
}

uint64_t Machines::ChunksOnRecord(const std::string& node) const {
  const RunResult run = Cairn({"server", "show", ServerName(node), "--json"});
  return run.exit_code == 0 ? Number(nlohmann::json::parse(run.out)["chunks"], "chunks") : UINT64_MAX;
}

std::string Machines::WhyNotHealthy(bool under_load) const {
  const nlohmann::json status = Status();
  if (!status.is_object() || !status.contains("servers")) return "the master does not answer";
  size_t up = 0;
  for (const auto& server : status["servers"]) up += server.value("state", "") == "up" ? 1 : 0;
  if (up != chunkservers().size()) return std::to_string(up) + " chunkservers are up";
  for (const char* field :
       {"chunks_below_policy", "chunks_damaged", "chunks_deleting", "repairs_running", "repairs_queued"}) {
    if (under_load && std::string(field) == "chunks_deleting") continue;
    if (status.value(field, "?") != "0") return std::string(field) + " is " + status.value(field, "?");
  }
  return {};
}

std::string Machines::WaitHealthy(int64_t timeout_ms, bool under_load) const {
  std::string why;
  WaitUntil([&] { return (why = WhyNotHealthy(under_load)).empty(); }, timeout_ms, 50);
  return why;
}

}  // namespace cairn::cluster_test
