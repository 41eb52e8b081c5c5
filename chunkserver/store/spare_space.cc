#include "chunkserver/store/spare_space.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/log.h"

namespace cairn::chunkserver {

void SpareSpace::Init(std::string path, uint64_t bytes) {
  path_ = std::move(path);
  bytes_ = bytes;
  struct stat stat {};
  uint64_t there = 0;
  if (::stat(path_.c_str(), &stat) == 0) there = static_cast<uint64_t>(stat.st_blocks) * 512;
  missing_bytes_ = bytes_ - std::min(bytes_, there);
}

Status SpareSpace::Take() {
  std::lock_guard lock(mu_);
  if (missing_bytes_ == 0) return Status::Ok();
  const int fd = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
  if (fd < 0) return ErrnoStatus(errno, "create " + path_);
  int error = 0;
  // The size stays 0: who copies or backs up the directory has nothing to read.
  while (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes_)) != 0) {
    error = errno;
    if (error != EINTR) break;
    error = 0;
  }
  close(fd);
  if (error != 0) unlink(path_.c_str());
  if (error == EOPNOTSUPP) {
    CAIRN_LOG(Info, "{}: this file system cannot set space aside; keep some of it free", path_);
  } else if (error != 0) {
    return ErrnoStatus(error, "allocate " + std::to_string(bytes_) + " bytes for " + path_);
  }
  missing_bytes_ = 0;
  return Status::Ok();
}

bool SpareSpace::Give() {
  std::lock_guard lock(mu_);
  if (unlink(path_.c_str()) != 0) return false;
  missing_bytes_ = bytes_;
  return true;
}

}  // namespace cairn::chunkserver
