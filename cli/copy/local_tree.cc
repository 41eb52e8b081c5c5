// The local file system as one side of a copy.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "cli/copy/tree.h"

namespace cairn::cli {
namespace {

using client::FileType;

FileType TypeOf(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return FileType::kDirectory;
    case S_IFLNK:
      return FileType::kSymlink;
    case S_IFIFO:
      return FileType::kFifo;
    case S_IFSOCK:
      return FileType::kSocket;
    case S_IFCHR:
      return FileType::kCharDevice;
    case S_IFBLK:
      return FileType::kBlockDevice;
    default:
      return FileType::kRegular;
  }
}

mode_t TypeBits(FileType type) {
  switch (type) {
    case FileType::kFifo:
      return S_IFIFO;
    case FileType::kSocket:
      return S_IFSOCK;
    case FileType::kCharDevice:
      return S_IFCHR;
    case FileType::kBlockDevice:
      return S_IFBLK;
    default:
      return S_IFREG;
  }
}

Info FromStat(const struct stat& from) {
  auto time = [](const timespec& t) { return client::TimeSpec{t.tv_sec, static_cast<uint32_t>(t.tv_nsec)}; };
  Info info;
  info.device = from.st_dev;
  info.attr.inode = InodeId(from.st_ino);
  info.attr.type = TypeOf(from.st_mode);
  info.attr.mode = from.st_mode & 07777;
  info.attr.nlink = static_cast<uint32_t>(from.st_nlink);
  info.attr.uid = from.st_uid;
  info.attr.gid = from.st_gid;
  info.attr.rdev = from.st_rdev;
  info.attr.size = static_cast<uint64_t>(from.st_size);
  info.attr.blocks_512 = static_cast<uint64_t>(from.st_blocks);
  info.attr.atime = time(from.st_atim);
  info.attr.mtime = time(from.st_mtim);
  info.attr.ctime = time(from.st_ctim);
  return info;
}

class LocalReader final : public Reader {
 public:
  LocalReader(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~LocalReader() override { close(fd_); }
  Result<size_t> Read(uint64_t offset, std::span<std::byte> buffer) override {
    size_t done = 0;
    while (done < buffer.size()) {
      const ssize_t n =
          pread(fd_, buffer.data() + done, buffer.size() - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "read " + path_);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }
  Result<uint64_t> NextData(uint64_t offset) override {
    const off_t at = lseek(fd_, static_cast<off_t>(offset), SEEK_DATA);
    if (at >= 0) return static_cast<uint64_t>(at);
    if (errno != ENXIO) return offset;  // the file system cannot tell
    struct stat info {};
    if (fstat(fd_, &info) != 0) return ErrnoStatus(errno, "stat " + path_);
    return static_cast<uint64_t>(info.st_size);
  }

 private:
  const int fd_;
  const std::string path_;
};

class LocalWriter final : public Writer {
 public:
  LocalWriter(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~LocalWriter() override {
    if (fd_ >= 0) close(fd_);
  }
  Status Write(uint64_t offset, std::span<const std::byte> data) override {
    while (!data.empty()) {
      ssize_t n = pwrite(fd_, data.data(), data.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == ESPIPE) n = write(fd_, data.data(), data.size());  // a pipe or terminal
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "write " + path_);
      data = data.subspan(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    return Status::Ok();
  }
  Status SetSize(uint64_t size) override {
    if (ftruncate(fd_, static_cast<off_t>(size)) == 0) return Status::Ok();
    struct stat info {};
    if (fstat(fd_, &info) == 0 && !S_ISREG(info.st_mode)) return Status::Ok();
    return ErrnoStatus(errno, "truncate " + path_);
  }
  Status Close() override {
    const int result = close(fd_);
    fd_ = -1;
    return result == 0 ? Status::Ok() : ErrnoStatus(errno, "close " + path_);
  }

 private:
  int fd_;
  const std::string path_;
};

class LocalTree final : public Tree {
 public:
  Result<Info> Stat(const std::string& path, bool follow) override {
    struct stat info {};
    if ((follow ? stat(path.c_str(), &info) : lstat(path.c_str(), &info)) != 0) {
      if (errno == ENOTDIR) return Status(StatusCode::kNotDirectory, path + ": Not a directory");
      return ErrnoStatus(errno, path);
    }
    return FromStat(info);
  }

  Status ForEach(const std::string& directory,
                 const std::function<Status(const std::string&, const Info&)>& visit) override {
    DIR* handle = opendir(directory.c_str());
    if (handle == nullptr) return ErrnoStatus(errno, "open " + directory);
    Status status;
    for (;;) {
      errno = 0;
      const dirent* entry = readdir(handle);
      if (entry == nullptr) {
        if (errno != 0) status = ErrnoStatus(errno, "read " + directory);
        break;
      }
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      auto info = Stat(JoinPath(directory, name), false);
      if (info.code() == StatusCode::kNotFound) continue;  // gone meanwhile
      status = info.ok() ? visit(name, *info) : info.status();
      if (!status.ok()) break;
    }
    closedir(handle);
    return status;
  }

  Result<std::string> ReadLink(const std::string& path) override {
    std::string target(4096, '\0');
    const ssize_t n = readlink(path.c_str(), target.data(), target.size());
    if (n < 0) return ErrnoStatus(errno, "readlink " + path);
    target.resize(static_cast<size_t>(n));
    return target;
  }

  Result<std::unique_ptr<Reader>> Open(const std::string& path) override {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus(errno, "open " + path);
    return std::unique_ptr<Reader>(std::make_unique<LocalReader>(fd, path));
  }

  Result<std::unique_ptr<Writer>> Create(const std::string& path, uint32_t mode, bool reuse) override {
    const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC | (reuse ? 0 : O_TRUNC), mode);
    if (fd < 0) return ErrnoStatus(errno, "create " + path);
    return std::unique_ptr<Writer>(std::make_unique<LocalWriter>(fd, path));
  }

  Status Rename(const std::string& from, const std::string& to) override {
    return rename(from.c_str(), to.c_str()) == 0 ? Status::Ok()
                                                 : ErrnoStatus(errno, "rename " + from + " to " + to);
  }
  Status Remove(const std::string& path) override {
    return unlink(path.c_str()) == 0 ? Status::Ok() : ErrnoStatus(errno, "remove " + path);
  }
  Status MakeDirectory(const std::string& path, uint32_t mode) override {
    return mkdir(path.c_str(), mode) == 0 ? Status::Ok() : ErrnoStatus(errno, "mkdir " + path);
  }
  Status MakeSymlink(const std::string& path, const std::string& target) override {
    return symlink(target.c_str(), path.c_str()) == 0 ? Status::Ok() : ErrnoStatus(errno, "symlink " + path);
  }
  Status MakeLink(const std::string& existing, const std::string& path) override {
    return link(existing.c_str(), path.c_str()) == 0 ? Status::Ok() : ErrnoStatus(errno, "link " + path);
  }
  Status MakeNode(const std::string& path, FileType type, uint32_t mode, uint64_t rdev) override {
    return mknod(path.c_str(), TypeBits(type) | mode, rdev) == 0 ? Status::Ok()
                                                                 : ErrnoStatus(errno, "mknod " + path);
  }

  Status SetMetadata(const std::string& path, const Info& info, const Preserve& what) override {
    const bool is_link = info.attr.type == FileType::kSymlink;
    bool owner_set = !what.owner;
    if (what.owner) {
      owner_set = lchown(path.c_str(), info.attr.uid, info.attr.gid) == 0;
      if (!owner_set && errno != EPERM) return ErrnoStatus(errno, "chown " + path);
    }
    if (what.mode && !is_link) {
      // Set-id bits only with the owner that they are meant for.
      const uint32_t mode = owner_set ? info.attr.mode : info.attr.mode & ~06000u;
      if (chmod(path.c_str(), mode) != 0) return ErrnoStatus(errno, "chmod " + path);
    }
    if (what.times) {
      const timespec times[2] = {{info.attr.atime.seconds, info.attr.atime.nanos},
                                 {info.attr.mtime.seconds, info.attr.mtime.nanos}};
      if (utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
        return ErrnoStatus(errno, "set times of " + path);
    }
    return Status::Ok();
  }

  Result<std::vector<std::pair<std::string, std::string>>> Xattrs(const std::string& path) override {
    std::vector<std::pair<std::string, std::string>> all;
    std::string names(65536, '\0');
    const ssize_t n = llistxattr(path.c_str(), names.data(), names.size());
    if (n < 0) {
      if (errno == ENOTSUP) return all;
      return ErrnoStatus(errno, "list extended attributes of " + path);
    }
    for (size_t at = 0; at < static_cast<size_t>(n);) {
      const std::string name = names.c_str() + at;
      at += name.size() + 1;
      std::string value(65536, '\0');
      const ssize_t size = lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
      if (size < 0) continue;  // gone meanwhile, or not ours to read
      value.resize(static_cast<size_t>(size));
      all.emplace_back(name, value);
    }
    return all;
  }
  Status SetXattr(const std::string& path, const std::string& name, const std::string& value) override {
    return lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) == 0
               ? Status::Ok()
               : ErrnoStatus(errno, "set extended attribute " + name + " of " + path);
  }
  std::string Name(const std::string& path) const override { return path; }
};

}  // namespace

std::unique_ptr<Tree> MakeLocalTree() { return std::make_unique<LocalTree>(); }

}  // namespace cairn::cli
