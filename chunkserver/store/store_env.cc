#include "chunkserver/store/store_env.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>

namespace cairn::chunkserver {

StoreEnv* StoreEnv::System() {
  static SystemStoreEnv env;
  return &env;
}

Uuid SystemStoreEnv::BootId() const {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  Uuid boot;
  // An unreadable boot id stays zero; Open then trusts nothing but a clean close.
  if (!std::getline(file, text) || !Uuid::Parse(text, &boot)) return {};
  return boot;
}

uint64_t SystemStoreEnv::WallSeconds() const {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count());
}

Result<FileSystemSpace> SystemStoreEnv::Space(const std::string& directory) const {
  struct statvfs stat {};
  if (statvfs(directory.c_str(), &stat) != 0) return ErrnoStatus(errno, "statvfs " + directory);
  FileSystemSpace space;
  space.total_bytes = static_cast<uint64_t>(stat.f_blocks) * stat.f_frsize;
  space.free_bytes = static_cast<uint64_t>(stat.f_bavail) * stat.f_frsize;
  return space;
}

ssize_t SystemStoreEnv::Pwritev(int fd, const iovec* parts, int count, int64_t offset) {
  return pwritev(fd, parts, count, offset);
}

int SystemStoreEnv::SyncFile(int fd, SyncPoint) { return fdatasync(fd); }

int SystemStoreEnv::SyncDirectory(const std::string& directory, SyncPoint) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -1;
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  errno = error;
  return result;
}

}  // namespace cairn::chunkserver
