// Plain system calls with their errors, for tests that drive a mount.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace cairn::cluster_test {

// 0, or the errno of the first call that failed.
inline int WriteWhole(int fd, const std::string& data) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = write(fd, data.data() + done, data.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    done += static_cast<size_t>(n);
  }
  return 0;
}

// Creates or truncates `path` and writes `data`; with sync, fsyncs. 0 or errno (also of close).
inline int WriteFile(const std::string& path, const std::string& data, bool sync = false) {
  const int fd = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) return errno;
  int error = WriteWhole(fd, data);
  if (error == 0 && sync && fsync(fd) != 0) error = errno;
  if (close(fd) != 0 && error == 0) error = errno;
  return error;
}

// Reads a whole file; on failure returns "errno: text", which no test content looks like.
inline std::string ReadFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::string("errno: open: ") + std::strerror(errno);
  std::string data;
  std::string buffer(1 << 16, '\0');
  for (;;) {
    const ssize_t n = read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      data = std::string("errno: read: ") + std::strerror(errno);
      break;
    }
    if (n == 0) break;
    data.append(buffer, 0, static_cast<size_t>(n));
  }
  close(fd);
  return data;
}

inline int Remove(const std::string& path) { return unlink(path.c_str()) == 0 ? 0 : errno; }

inline bool Exists(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0;
}

inline std::string Xattr(const std::string& path, const std::string& name) {
  std::string value(65536, '\0');
  const ssize_t n = getxattr(path.c_str(), name.c_str(), value.data(), value.size());
  if (n < 0) return std::string("errno: ") + std::strerror(errno);
  value.resize(static_cast<size_t>(n));
  return value;
}

}  // namespace cairn::cluster_test
