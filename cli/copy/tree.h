// One side of a copy: a tree of files, local or in a cluster, behind the few operations that a copy needs.
// Paths are whole paths in that tree. Errors carry the path.
// Thread-safety: all methods may be called from any thread; a Reader or Writer from one thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/files/location.h"
#include "client/types.h"
#include "common/status.h"

namespace cairn::cli {

struct Info {
  client::Attributes attr;
  uint64_t device = 0;  // with attr.inode: identifies a file within its tree
};

class Reader {
 public:
  virtual ~Reader() = default;
  // Fewer bytes than asked for only at the end of the file.
  virtual Result<size_t> Read(uint64_t offset, std::span<std::byte> buffer) = 0;
  // The first offset at or after `offset` that may hold data; the size when only a hole is left.
  virtual Result<uint64_t> NextData(uint64_t offset) = 0;
};

class Writer {
 public:
  virtual ~Writer() = default;
  virtual Status Write(uint64_t offset, std::span<const std::byte> data) = 0;
  // Copies at most `length` bytes from the same offset of `from` without moving them through this process, holes as holes. Answers
  // how many; 0 at its end. Nothing when the two sides have no such way.
  virtual std::optional<Result<uint64_t>> CopyFrom(Reader& from, uint64_t offset, uint64_t length) {
    (void)from, (void)offset, (void)length;
    return std::nullopt;
  }
  virtual Status SetSize(uint64_t size) = 0;
  // Everything written arrived (for a cluster: on its write quorum). Must be called; destruction without it
  // abandons.
  virtual Status Close() = 0;
};

// What -p and -a carry over.
struct Preserve {
  bool mode = false;
  bool owner = false;  // silently left when not permitted, as cp(1) does
  bool times = false;
  bool xattrs = false;
};

class Tree {
 public:
  virtual ~Tree() = default;
  virtual Result<Info> Stat(const std::string& path, bool follow) = 0;
  virtual Status ForEach(const std::string& directory,
                         const std::function<Status(const std::string& name, const Info&)>& visit) = 0;
  virtual Result<std::string> ReadLink(const std::string& path) = 0;
  virtual Result<std::unique_ptr<Reader>> Open(const std::string& path) = 0;
  // `reuse`: keep what is there (to go on with a partial copy) instead of truncating.
  virtual Result<std::unique_ptr<Writer>> Create(const std::string& path, uint32_t mode, bool reuse) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  virtual Status Remove(const std::string& path) = 0;
  virtual Status MakeDirectory(const std::string& path, uint32_t mode) = 0;
  virtual Status MakeSymlink(const std::string& path, const std::string& target) = 0;
  virtual Status MakeLink(const std::string& existing, const std::string& path) = 0;
  virtual Status MakeNode(const std::string& path, client::FileType type, uint32_t mode, uint64_t rdev) = 0;
  // Owner, mode and times of `info` as `what` asks; not following a symlink at `path`.
  virtual Status SetMetadata(const std::string& path, const Info& info, const Preserve& what) = 0;
  virtual Result<std::vector<std::pair<std::string, std::string>>> Xattrs(const std::string& path) = 0;
  virtual Status SetXattr(const std::string& path, const std::string& name, const std::string& value) = 0;
  // For messages: "cairn:" + path, or the path.
  virtual std::string Name(const std::string& path) const = 0;
};

std::unique_ptr<Tree> MakeLocalTree();
std::unique_ptr<Tree> MakeClusterTree(client::Client* client);

}  // namespace cairn::cli
