// What `cairn-mount SOURCE MOUNTPOINT -o ...` was asked for. Also what mount(8) and fstab pass on.
//
// SOURCE: host:port (several: separated by commas), or cairn://host:port/directory; port 9400 if none is
// given. Thread-safety: values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "client/types.h"
#include "common/status.h"
#include "fuse/id_map.h"

namespace cairn::fuse {

struct MountOptions {
  std::vector<std::string> masters;
  std::string mountpoint;                   // absolute
  std::string subdirectory;                 // of the cluster, shown as the root; empty: all of it
  std::vector<std::string> kernel_options;  // for libfuse: ro, allow_other, noatime, ...
  bool privileged = false;  // root mounts: set-id programs and devices work unless nosuid, nodev
  bool cache_names = true;
  client::AccessTimes access_times = client::AccessTimes::kRelative;
  bool directory_access_times = true;
  int64_t access_times_ms = 0;     // 0: the client's default
  IdOptions ids;
  unsigned threads = 128;          // requests served at the same time
  unsigned read_ahead_kib = 2048;  // the kernel's; 0: leave as it is
  uint64_t dirty_limit_bytes = 0;  // 0: the client's default
  uint64_t cache_bytes = 0;
  uint64_t read_ahead_bytes = 0;
  int64_t request_timeout_ms = 0;
  int64_t write_timeout_ms = 0;
};

// Sets masters and subdirectory.
Status ParseSource(const std::string& source, MountOptions& options);
// Applies a comma-separated list as after -o. Options that concern only mount(8) and fstab are accepted and
// ignored; an unknown one is an error, not a silent surprise.
Status ParseOptionList(const std::string& list, MountOptions& options);
// Whether `ro` was asked for.
bool ReadOnly(const MountOptions& options);
// All options in one line for libfuse's -o.
std::string LibraryOptions(const MountOptions& options);
// Help for the options that ParseOptionList knows.
const char* OptionHelp();

}  // namespace cairn::fuse
