// A cluster of "machines" for fault tests: every server and every client has a network namespace of its own
// (joined by a bridge), every server a disk of its own (ext4 in a loop-mounted file) and a boot id of its
// own.
//
//   CutPower({"cs1", "master"})   kills the processes, forgets what their disks were not told to keep,
//   "boots" Drop("cs1", "m1")             nothing that cs1 sends reaches m1 BreakDisk("cs2") every later
//   access to that disk is an I/O error, until CutPower mends it
//
// How: the test program moves into private mount and network namespaces, so that everything disappears with
// it, however it ends. Power is cut by SIGKILL, `xfs_io -x -c shutdown` (drops unsynced data, creates and
// renames), unmounting and mounting again. The boot id is a file mounted over /proc/sys/kernel/random/boot_id
// in the namespace of the process: the programs take the very path that they take after a real boot.
//
// Nodes: "master" (10.77.0.1), "cs1".. (10.77.0.11..), mounts "m1".. (10.77.0.101..). The test itself is
// 10.77.0.254. Needs root. One cluster per process at a time. Thread-safety: none.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cluster/harness.h"

namespace cairn::cluster_test {

// A 64-bit field of `--json`, which is text there; UINT64_MAX when there was no answer.
inline uint64_t Number(const nlohmann::json& object, const char* field) {
  return object.is_object() ? std::stoull(object.value(field, std::string("0"))) : UINT64_MAX;
}

class Machines {
 public:
  struct Options {
    int chunkservers = 3;
    int disk_mib = 256;
    std::vector<std::string> master_flags;
    std::vector<std::string> chunkserver_flags;
  };
  // Why such a cluster cannot be made here (not root, a program is missing); empty when it can.
  static std::string WhyNot();
  static std::unique_ptr<Machines> Start(const Options& options);
  ~Machines();

  const std::string& directory() const { return directory_; }
  std::vector<std::string> servers() const;  // "master", "cs1", ...
  std::vector<std::string> chunkservers() const;
  std::string LogOf(const std::string& node) const { return directory_ + "/log/" + node + ".log"; }
  std::string DiskOf(const std::string& node) const { return directory_ + "/disk/" + node; }
  std::string AddressOf(const std::string& node) const;  // host:port
  bool Running(const std::string& node) const;
  pid_t Pid(const std::string& node) const;

  // Starts these servers and waits until they listen; says what failed.
  std::string StartServers(const std::vector<std::string>& nodes);
  void Signal(const std::string& node, int signal);
  void Kill(const std::string& node);  // waits until it is gone

  // All of them at the same moment. The servers stay off until StartServers.
  void CutPower(const std::vector<std::string>& nodes);
  void BreakDisk(const std::string& node);
  void FreezeDisk(const std::string& node, bool frozen);
  // Leaves about `keep_bytes` free, or takes the filling away again.
  void FillDisk(const std::string& node, int64_t keep_bytes);
  void EmptyDisk(const std::string& node);

  // Packets of `from` do not reach `to` any more (the other direction is not touched).
  void Drop(const std::string& from, const std::string& to);
  // Of the packets that reach `node`, so many in a hundred are lost.
  void Lose(const std::string& node, int percent);
  void HealNetwork();

  // Mounts under this node's name ("m1", ...); answers the mount point, or "" with a test failure.
  std::string Mount(const std::string& node, const std::string& options = "");
  void KillMount(const std::string& node);  // SIGKILL, and the dead mount point is taken away

  RunResult Cairn(std::vector<std::string> arguments, int timeout_s = 60) const;
  nlohmann::json Status() const;
  // The chunkserver of a node as `status` has it, and its name ("cs4"): numbers are given in the order in which they registered.
  nlohmann::json ServerStatus(const std::string& node) const;
  std::string ServerName(const std::string& node) const;
  // How many chunks the master has on record there; what a server says of itself (status) is up to a second old.
  uint64_t ChunksOnRecord(const std::string& node) const;
  // Empty when all servers are up and every chunk satisfies its policy; else why not. under_load: chunks whose
  // deletion is under way are no trouble, for there always are some.
  std::string WhyNotHealthy(bool under_load = false) const;
  std::string WaitHealthy(int64_t timeout_ms, bool under_load = false) const;
  // Runs a program inside a node's network.
  RunResult RunAt(const std::string& node, std::vector<std::string> arguments) const;

 private:
  struct Node {
    std::string name;
    std::string ip;
    int net_fd = -1;
    pid_t pid = 0;
    std::string mountpoint;  // of mounts
  };
  Machines() = default;
  std::string Prepare();
  std::string AddNode(const std::string& name, const std::string& ip);
  std::string AddDisk(const std::string& name);
  void NewBoot(const std::string& name);
  std::string StartProcess(Node& node, const std::vector<std::string>& arguments, bool own_boot);
  std::vector<std::string> CommandLine(const Node& node) const;
  void Reap(Node& node);
  Node& Of(const std::string& name);
  const Node& Of(const std::string& name) const;

  Options options_;
  std::string directory_;
  std::map<std::string, Node> nodes_;
  uint64_t boots_ = 0;
};

}  // namespace cairn::cluster_test
