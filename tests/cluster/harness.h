// Real processes for tests: a local cluster made by `cairn up` in a temporary directory, exactly as a person
// starts it.
//
// Everything that a LocalCluster started is stopped by its destructor: the cluster through `cairn down`,
// further mounts and processes by their own pid. Nothing is ever signalled by name. Thread-safety: one
// thread, except where a method says otherwise.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/replication/types.h"
#include "common/status.h"

namespace cairn::cluster_test {

struct RunResult {
  int exit_code = -1;  // 128 + signal when a signal ended it
  std::string out;
  std::string err;
  std::string Both() const { return out + err; }
};
// Runs a program to its end, at most timeout_s seconds (then it is killed and exit_code is 137).
RunResult RunProgram(const std::vector<std::string>& arguments,
                     const std::vector<std::string>& environment = {}, int timeout_s = 120);

int64_t NowMillis();
// Polls `condition` until it holds or the time is over; answers whether it held.
bool WaitUntil(const std::function<bool()>& condition, int64_t timeout_ms, int64_t poll_ms = 50);
// Whether every thread is stopped: SIGSTOP reaches them a little after kill() returned.
bool ProcessStopped(pid_t pid);
// One line per figure that a test measured, kept apart from the log for people who read the output.
void Figure(const std::string& text);

// CAIRN_LONG_TESTS=1: the sizes at which a claim is to be shown, once in a while, instead of those for every run.
bool LongTests();
// The time below which 99 % of the samples are; 0 without any.
int64_t Percentile99(std::vector<int64_t> samples);

std::string Sha256OfFile(const std::string& path);
// Deterministic bytes: the same seed gives the same content.
std::string Pattern(uint64_t seed, size_t bytes);

class LocalCluster {
 public:
  struct Options {
    int chunkservers = 3;
    bool mount = true;
    std::vector<std::string> up_arguments;  // further arguments of `cairn up`
  };
  static std::unique_ptr<LocalCluster> Start(const Options& options);
  static std::unique_ptr<LocalCluster> Start() { return Start(Options()); }
  ~LocalCluster();

  const std::string& directory() const { return directory_; }
  const std::string& mount() const { return mount_; }
  std::string Path(const std::string& name) const { return mount_ + "/" + name; }
  std::string LogOf(const std::string& name) const { return directory_ + "/log/" + name + ".log"; }
  std::string DataOf(const std::string& name) const { return directory_ + "/data/" + name; }

  pid_t Pid(const std::string& name) const;  // 0: not running
  // SIGKILL waits until the process is gone.
  void Signal(const std::string& name, int signal);
  void Kill(const std::string& name);
  // `cairn up` for one part or for all; fails the test when it fails.
  void Up(const std::vector<std::string>& arguments = {});
  void Down(const std::vector<std::string>& arguments = {});
  // The CLI with this cluster as its default.
  RunResult Cairn(std::vector<std::string> arguments, int timeout_s = 120) const;
  nlohmann::json Status() const;  // `cairn status --json`; null when it failed
  // All servers up, no chunk below its policy, none deleting and no repair under way.
  bool WaitHealthy(int64_t timeout_ms) const;
  std::string MasterAddress() const;
  std::vector<std::string> ServerAddresses() const;  // of the data planes, in order of server id

  // Another mount of the same cluster; returns its mount point. Pid of the mount process:
  // MountPid(mountpoint).
  std::string AddMount(const std::string& options = "");  // as after -o
  pid_t MountPid(const std::string& mountpoint) const;
  void KillMount(const std::string& mountpoint);  // SIGKILL, then lazily unmounts the dead mount point

 private:
  LocalCluster() = default;
  // A shell started before the test opens anything on a mount. A process forked later would hold the test's
  // open files, and closing them on its exec waits for the very daemon that it is to start.
  bool StartShell();
  RunResult InShell(const std::vector<std::string>& command);
  struct ExtraMount {
    std::string mountpoint;
    pid_t pid = 0;
  };
  std::string directory_;
  std::string mount_;
  Options options_;
  std::vector<ExtraMount> extra_mounts_;
  int shell_in_ = -1;
  int shell_out_ = -1;
};

// Asks one chunkserver over its data plane what it holds of a chunk, independently of the master.
Result<replication::ReplicaInfo> QueryReplica(const std::string& address, ChunkId chunk);

}  // namespace cairn::cluster_test
