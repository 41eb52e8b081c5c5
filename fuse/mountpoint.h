// What is mounted at a directory, whether it still answers, and taking it away: for `cairn-mount`, `cairn up`
// and `cairn umount`. Thread-safety: stateless. ProbeMount and Unmount start short-lived child processes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/status.h"

namespace cairn::fuse {

struct MountInfo {
  std::string mountpoint;
  std::string device;  // "0:53"
  std::string root;    // path inside the mounted file system
  std::string type;    // "fuse.cairn"
  std::string source;  // "cairn://host:port"
  std::string options;
};

// Name of the socket, in the abstract namespace, at which a mount tells its state (fuse/mount_status.h); with the leading zero byte.
inline std::string StatusSocketName(const std::string& device) { return std::string(1, '\0') + "cairn-mount-" + device; }

inline constexpr char kMountType[] = "fuse.cairn";

// The topmost mount exactly at `path` (absolute, without symbolic links), as the kernel lists it.
std::optional<MountInfo> FindMount(const std::string& path);
// Every mount of Cairn on this machine.
std::vector<MountInfo> AllMounts();
// The mount that holds `path`.
std::optional<MountInfo> FindMountAbove(const std::string& path);
// Text of /proc/self/mountinfo -> the last line that mounts at `path` (or, with `above`, at its nearest
// ancestor).
std::optional<MountInfo> FindMountIn(const std::string& mountinfo, const std::string& path, bool above);

enum class MountState {
  kNotMounted,  // an ordinary directory
  kAlive,
  kDead,     // its process is gone: every access fails with ENOTCONN
  kHanging,  // no answer in time
};
// Asks the file system at `path` for its statistics, for at most timeout_ms (the question is asked by a child
// process, because it cannot be withdrawn from a file system that hangs).
Result<MountState> ProbeMount(const std::string& path, int timeout_ms);

struct UnmountOptions {
  bool lazy = false;  // detach now, end when the last user is gone
};
// kBusy while files are open there. As root by umount2(2), otherwise through fusermount3.
Status Unmount(const std::string& path, UnmountOptions options);

// Takes a dead mount away (lazily), as often as one is stacked there. kBusy if something alive is mounted at
// `path`.
Status CleanUpDeadMount(const std::string& path);

}  // namespace cairn::fuse
