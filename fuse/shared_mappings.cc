#include "fuse/shared_mappings.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

namespace cairn::fuse {
namespace {

constexpr size_t kMaxThreads = 8;

// PROCMAP_QUERY of linux/fs.h, Linux 6.11; the headers of Debian 12 do not have it yet.
struct MapQuery {
  uint64_t size, flags, address;
  uint64_t start, end, vma_flags, page_size, offset, inode;
  uint32_t major, minor, name_size, build_id_size;
  uint64_t name_address, build_id_address;
};
constexpr unsigned long kQuery = _IOWR('f', 17, MapQuery);
constexpr uint64_t kWritable = 0x02, kShared = 0x08, kThisOrNext = 0x10, kOfAFile = 0x20;

class MapsFile {
 public:
  explicit MapsFile(pid_t thread)
      : fd_(open(("/proc/" + std::to_string(thread) + "/maps").c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~MapsFile() {
    if (fd_ >= 0) close(fd_);
  }
  MapsFile(const MapsFile&) = delete;
  MapsFile& operator=(const MapsFile&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

Mapped ByText(int fd, const std::string& device, uint64_t inode) {
  std::string maps;
  char buffer[16384];
  for (ssize_t got = 0; (got = read(fd, buffer, sizeof buffer)) > 0;)
    maps.append(buffer, static_cast<size_t>(got));
  if (maps.empty()) return Mapped::kUnknown;
  return HasSharedWritableMapping(maps, device, inode) ? Mapped::kYes : Mapped::kNo;
}

}  // namespace

Mapped LookInMapsText(pid_t thread, const std::string& device, uint64_t inode) {
  const MapsFile file(thread);
  return file.fd() < 0 ? Mapped::kUnknown : ByText(file.fd(), device, inode);
}

Mapped LookForSharedMapping(pid_t thread, const std::string& device, uint64_t inode) {
  unsigned major = 0, minor = 0;
  if (std::sscanf(device.c_str(), "%u:%u", &major, &minor) != 2) return Mapped::kUnknown;
  const MapsFile file(thread);
  if (file.fd() < 0) return Mapped::kUnknown;
  MapQuery query{};
  query.size = sizeof query;
  query.flags = kWritable | kShared | kThisOrNext | kOfAFile;
  while (ioctl(file.fd(), kQuery, &query) == 0) {
    if (query.major == major && query.minor == minor && query.inode == inode) return Mapped::kYes;
    query.address = query.end;
  }
  return errno == ENOENT ? Mapped::kNo : ByText(file.fd(), device, inode);
}

bool HasSharedWritableMapping(const std::string& maps, const std::string& device, uint64_t inode) {
  unsigned major = 0, minor = 0;
  if (std::sscanf(device.c_str(), "%u:%u", &major, &minor) != 2) return true;
  std::istringstream lines(maps);
  for (std::string line; std::getline(lines, line);) {
    char permissions[5] = "";
    unsigned line_major = 0, line_minor = 0;
    unsigned long long line_inode = 0;
    // "from-to rw-s offset major:minor inode path"
    if (std::sscanf(line.c_str(), "%*s %4s %*s %x:%x %llu", permissions, &line_major, &line_minor,
                    &line_inode) != 4)
      continue;
    if (permissions[1] == 'w' && permissions[3] == 's' && line_major == major && line_minor == minor &&
        line_inode == inode)
      return true;
  }
  return false;
}

void SharedMappings::SetDevice(const std::string& device) {
  const std::lock_guard lock(mu_);
  device_ = device;
}

void SharedMappings::Opened(InodeId inode, uint64_t handle) {
  const std::lock_guard lock(mu_);
  if (handles_.emplace(handle, inode).second) ++open_[inode];
}

void SharedMappings::Released(uint64_t handle) {
  const std::lock_guard lock(mu_);
  const auto it = handles_.find(handle);
  if (it == handles_.end()) return;
  const auto open = open_.find(it->second);
  if (--open->second == 0) open_.erase(open);
  handles_.erase(it);
}

void SharedMappings::Before(InodeId inode, uint64_t number_in_kernel, pid_t thread,
                            std::function<void()> then) {
  std::string device;
  {
    const std::lock_guard lock(mu_);
    device = open_.contains(inode) ? device_ : "none";
  }
  if (device == "none" || LookForSharedMapping(thread, device, number_in_kernel) == Mapped::kNo)
    return then();
  const std::lock_guard lock(mu_);
  queue_.push_back({inode, std::move(then)});
  if (idle_ < queue_.size() && threads_.size() < kMaxThreads) threads_.emplace_back([this] { Main(); });
  changed_.notify_one();
}

void SharedMappings::Main() {
  std::unique_lock lock(mu_);
  for (;;) {
    ++idle_;
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (queue_.empty()) return;
    const Work work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    cache_.InvalidateInode(work.inode, true);
    work.then();
    lock.lock();
  }
}

SharedMappings::~SharedMappings() {
  {
    const std::lock_guard lock(mu_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace cairn::fuse
