// What a local cluster consists of, as remembered in D/cluster.json, and the paths below D.
//
//   D/cluster.json     this
//   D/run/NAME.pid     pid of a running part (written by the daemon), D/run/NAME.address where it listens
//   D/log/NAME.log     its log; D/log/NAME.err what it wrote to standard error
//   D/data/NAME/       its data
//
// Names: `master`, `cs1`, `cs2`, ..., `mount`. Thread-safety: values.
#pragma once

#include <string>
#include <vector>

#include "common/status.h"

namespace cairn::cli {

enum class PartKind { kMaster, kChunkserver, kMount };

struct LocalPart {
  std::string name;
  PartKind kind = PartKind::kChunkserver;
  std::string address;     // host:port; empty for the mount
  std::string mountpoint;  // mount only
  std::string metrics;     // host:port of its metrics; empty: it serves none
  std::string console;     // master only: host:port of the web console
};

class LocalLayout {
 public:
  // An empty layout below an absolute directory.
  explicit LocalLayout(std::string directory) : directory_(std::move(directory)) {}

  // kNotFound: there is no local cluster in `directory`.
  static Result<LocalLayout> Load(const std::string& directory);
  // Replaces D/cluster.json in one step. Creates D and its folders (readable by the owner only).
  Status Save() const;

  const std::string& directory() const { return directory_; }
  const std::vector<LocalPart>& parts() const { return parts_; }
  const LocalPart* Find(const std::string& name) const;
  LocalPart* Find(const std::string& name);
  LocalPart& Add(LocalPart part);
  void Remove(const std::string& name);
  int chunkservers() const;

  // Further flags of the daemons, by kind; given to `cairn up` and remembered.
  std::vector<std::string> master_flags, chunkserver_flags, mount_flags;
  const std::vector<std::string>& FlagsOf(PartKind kind) const {
    return kind == PartKind::kMaster  ? master_flags
           : kind == PartKind::kMount ? mount_flags
                                      : chunkserver_flags;
  }

  // Whether the first start finished (owner and policy of the root directory are set).
  bool initialized = false;
  // Whether the parts serve metrics.
  bool metrics = false;
  // Whether the master serves the web console.
  bool console = true;

  std::string PidFile(const std::string& name) const { return directory_ + "/run/" + name + ".pid"; }
  std::string AddressFile(const std::string& name) const { return directory_ + "/run/" + name + ".address"; }
  std::string LogFile(const std::string& name) const { return directory_ + "/log/" + name + ".log"; }
  std::string ErrorFile(const std::string& name) const { return directory_ + "/log/" + name + ".err"; }
  std::string DataDirectory(const std::string& name) const { return directory_ + "/data/" + name; }
  // Where the parts serve metrics, in the form that Prometheus reads (file_sd_configs).
  std::string MetricsTargetsFile() const { return directory_ + "/run/metrics-targets.json"; }
  Status SaveMetricsTargets() const;
  // Made by the master at its first start; whoever can read it may change the cluster.
  std::string AdminTokenFile() const { return DataDirectory("master") + "/admin-token"; }
  // Where the master that runs serves the web console; written by it.
  std::string ConsoleUrlFile() const { return directory_ + "/run/console-url"; }
  std::string LockFile() const { return directory_ + "/run/lock"; }

 private:
  std::string directory_;
  std::vector<LocalPart> parts_;
};

// "cs3" -> 3; 0 for anything else.
int ChunkserverNumber(const std::string& name);
const char* BinaryName(PartKind kind);

}  // namespace cairn::cli
