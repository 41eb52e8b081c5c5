#include "common/durable_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace cairn {
namespace {

namespace fs = std::filesystem;

Status SyncPath(const std::string& path, int flags) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  if (fd < 0) return ErrnoStatus(errno, "open " + path);
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  return result == 0 ? Status::Ok() : ErrnoStatus(error, "fsync " + path);
}

std::string Above(const fs::path& path) {
  const fs::path parent = fs::absolute(path).lexically_normal().parent_path();
  return parent.empty() ? std::string(".") : parent.string();
}

// Without the slash that a name may end in.
fs::path Plain(const std::string& path) {
  const fs::path plain = fs::absolute(path).lexically_normal();
  return plain.has_filename() ? plain : plain.parent_path();
}

Status Make(const fs::path& directory) {
  std::error_code error;
  if (fs::is_directory(directory, error)) return Status::Ok();
  if (directory.has_parent_path() && directory.parent_path() != directory)
    CAIRN_RETURN_IF_ERROR(Make(directory.parent_path()));
  fs::create_directory(directory, error);
  if (error) return ErrnoStatus(error.value(), "create directory " + directory.string());
  return SyncDirectory(Above(directory));
}

}  // namespace

Status SyncDirectory(const std::string& directory) { return SyncPath(directory, O_DIRECTORY); }

Status MakeDirectoriesDurably(const std::string& directory) { return Make(Plain(directory)); }

Status SyncTree(const std::string& directory) {
  std::error_code error;
  auto it = fs::recursive_directory_iterator(directory, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const bool is_directory = it->is_directory();
    if (is_directory || it->is_regular_file())
      CAIRN_RETURN_IF_ERROR(SyncPath(it->path().string(), is_directory ? O_DIRECTORY : 0));
  }
  if (error) return ErrnoStatus(error.value(), "read directory " + directory);
  CAIRN_RETURN_IF_ERROR(SyncDirectory(directory));
  return SyncDirectory(Above(Plain(directory)));
}

}  // namespace cairn
