// Writable shared mappings at lock and unlock. The kernel tells a mount of no page being dirtied, so what a
// program writes through such a mapping would stay in this kernel when it gives its lock to a program on
// another mount. Before a lock request of a process that maps the file so goes on, its pages are written back
// and dropped: whoever has the lock next reads what was written under it, and this process sees afterwards
// what others wrote.
//
// Looking costs more than an uncontended lock. So it is done only while a file is open here in a way that lets it be mapped so: for
// reading and writing, through the kernel's pages. A mapping keeps its file open, so that none is missed. Then the kernel is asked
// for the process' first writable shared mapping of a file, of which most have none (Linux 6.11; before, all of /proc/PID/maps is read).
//
//   Before(inode, thread, [..] { client.RunLock(ticket); })
//
// What is written back are whole pages, so programs on several mounts that lock parts of one page and write
// them through mappings at the same time still overwrite each other.
//
// The writing back needs threads of its own: it waits for requests that the session's threads serve.
// Thread-safety: any thread.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fuse/kernel_cache.h"

namespace cairn::fuse {

enum class Mapped : uint8_t { kNo, kYes, kUnknown };

// Does the process map the file shared and writable?
Mapped LookForSharedMapping(pid_t thread, const std::string& device, uint64_t inode);
// The same by the text alone, as before Linux 6.11.
Mapped LookInMapsText(pid_t thread, const std::string& device, uint64_t inode);

// Is the file mapped shared and writable, according to a text like that of /proc/PID/maps? `device` is
// "major:minor" in decimal digits, as in mountinfo.
bool HasSharedWritableMapping(const std::string& maps, const std::string& device, uint64_t inode);

class SharedMappings {
 public:
  explicit SharedMappings(KernelCache& cache) : cache_(cache) {}
  ~SharedMappings();
  // Of the mount; before it is known, and when a process cannot be looked into, files count as mapped.
  void SetDevice(const std::string& device);
  // A file was opened for reading and writing through the kernel's pages; Released: for any handle.
  void Opened(InodeId inode, uint64_t handle);
  void Released(uint64_t handle);
  // Calls `then` once: at once when nobody can map the file so, or `thread`'s process has no such mapping.
  void Before(InodeId inode, uint64_t number_in_kernel, pid_t thread, std::function<void()> then);

 private:
  struct Work {
    InodeId inode;
    std::function<void()> then;
  };
  void Main();

  KernelCache& cache_;
  std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_:
  std::string device_;
  std::deque<Work> queue_;  // bounded by the kernel's requests in flight
  std::unordered_map<uint64_t, InodeId> handles_;
  std::unordered_map<InodeId, size_t> open_;  // how many of these handles
  size_t idle_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace cairn::fuse
