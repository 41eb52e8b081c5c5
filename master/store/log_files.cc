#include "master/store/log_files.h"

#include <fcntl.h>
#include <rocksdb/file_system.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <utility>

#include "common/log.h"
#include "common/status.h"

namespace cairn::master::internal {
namespace {

using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

// Whoever has synced so often, with so little in between, will again.
constexpr int kManySyncs = 4;
constexpr uint64_t kOftenSyncedBytes = 64 << 10;

constexpr std::array<char, 64 << 10> kFilling = [] {
  std::array<char, 64 << 10> bytes{};
  bytes.fill(kLogFilling);
  return bytes;
}();

class LogFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  LogFile(std::unique_ptr<FSWritableFile> file, std::string path)
      : FSWritableFileOwnerWrapper(std::move(file)), path_(std::move(path)) {}
  ~LogFile() override {
    if (fd_ >= 0) ::close(fd_);
  }

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    FillFor(data.size());
    return Appended(data.size(), FSWritableFileOwnerWrapper::Append(data, options, debug));
  }
  IOStatus Append(const Slice& data, const IOOptions& options, const rocksdb::DataVerificationInfo& info,
                  IODebugContext* debug) override {
    FillFor(data.size());
    return Appended(data.size(), FSWritableFileOwnerWrapper::Append(data, options, info, debug));
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
    NoteSync();
    return FSWritableFileOwnerWrapper::Sync(options, debug);
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    NoteSync();
    return FSWritableFileOwnerWrapper::Fsync(options, debug);
  }
  IOStatus Close(const IOOptions& options, IODebugContext* debug) override {
    Cut();
    return FSWritableFileOwnerWrapper::Close(options, debug);
  }

 private:
  void NoteSync() {
    const uint64_t end = end_.load(std::memory_order_relaxed);
    const bool close = end - synced_end_ <= kOftenSyncedBytes;
    close_syncs_.store(close ? close_syncs_.load(std::memory_order_relaxed) + 1 : 0, std::memory_order_relaxed);
    synced_end_ = end;
  }

  // In the thread that appends, so that nothing is filled that was appended meanwhile.
  void FillFor(size_t bytes) {
    const uint64_t end = end_.load(std::memory_order_relaxed) + bytes;
    if (end <= filled_end_ || cannot_fill_ || close_syncs_.load(std::memory_order_relaxed) < kManySyncs) return;
    if (fd_ < 0) fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    uint64_t at = std::max(end - bytes, filled_end_);
    const uint64_t until = end + kLogFillBytes;
    while (fd_ >= 0 && at < until) {
      const ssize_t wrote =
          ::pwrite(fd_, kFilling.data(), std::min<uint64_t>(kFilling.size(), until - at), static_cast<off_t>(at));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) break;
      at += static_cast<uint64_t>(wrote);
      filled_end_ = at;
    }
    if (at >= until) return;
    // A log that is not filled works as well; what the disk lacks is for the log itself.
    CAIRN_LOG(Warning, "{} is not written ahead any more: {}", path_, ErrnoStatus(errno, "write").message());
    cannot_fill_ = true;
    Cut();
  }

  void Cut() {
    const uint64_t end = end_.load(std::memory_order_relaxed);
    if (filled_end_ <= end) return;
    // Failing that, the filling stays as after a crash, which recovery knows.
    if (::ftruncate(fd_, static_cast<off_t>(end)) == 0) filled_end_ = end;
  }

  IOStatus Appended(size_t bytes, IOStatus status) {
    // Of an append that failed any part may be in the file.
    end_.fetch_add(bytes, std::memory_order_relaxed);
    return status;
  }

  const std::string path_;
  std::atomic<uint64_t> end_{0};      // of what was appended
  std::atomic<int> close_syncs_{0};   // in a row
  uint64_t synced_end_ = 0;           // of the thread that syncs
  // Of the thread that appends:
  uint64_t filled_end_ = 0;
  bool cannot_fill_ = false;
  int fd_ = -1;
};

class LogFillingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;
  const char* Name() const override { return "LogFillingFileSystem"; }

  IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file, IODebugContext* debug) override {
    IOStatus status = FileSystemWrapper::NewWritableFile(path, options, file, debug);
    if (status.ok() && path.ends_with(".log")) *file = std::make_unique<LogFile>(std::move(*file), path);
    return status;
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> NewLogFillingEnv() {
  return rocksdb::NewCompositeEnv(std::make_shared<LogFillingFileSystem>(rocksdb::FileSystem::Default()));
}

}  // namespace cairn::master::internal
