#include "tests/cluster/load/block_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace cairn::cluster_test {
namespace {

constexpr uint32_t kBlockBytes = 4096;
constexpr uint64_t kUnreadable = ~0ull;
constexpr uint64_t kGarbage = ~0ull - 1;

struct Header {
  uint64_t magic;
  uint32_t file;
  uint32_t block;
  uint64_t value;
};
constexpr uint64_t kMagic = 0x43616972'6e424c4bull;

void Fill(char* at, uint32_t file, uint32_t block, uint64_t value) {
  std::array<uint64_t, kBlockBytes / 8> words;
  uint64_t state = (value << 20) ^ (static_cast<uint64_t>(file) << 50) ^ block;
  for (uint64_t& word : words) word = state = state * 6364136223846793005ull + 1442695040888963407ull;
  std::memcpy(at, words.data(), kBlockBytes);
  const Header header{kMagic, file, block, value};
  std::memcpy(at, &header, sizeof header);
}

// The value that a block shows; kGarbage when it is no block of ours, whole and in its place.
uint64_t Parse(const char* at, uint32_t file, uint32_t block) {
  if (std::all_of(at, at + kBlockBytes, [](char c) { return c == 0; })) return 0;
  Header header;
  std::memcpy(&header, at, sizeof header);
  std::array<char, kBlockBytes> expected;
  Fill(expected.data(), file, block, header.value);
  return std::memcmp(expected.data(), at, kBlockBytes) == 0 ? header.value : kGarbage;
}

std::string Show(uint64_t value) {
  if (value == kUnreadable) return "unreadable";
  if (value == kGarbage) return "garbage";
  return value == 0 ? "zeros" : "write " + std::to_string(value);
}

}  // namespace

bool MountIsGone(int error) {
  return error == ENOTCONN || error == ECONNABORTED || error == ENODEV || error == EBADF;
}

BlockFile::BlockFile(std::string name, uint32_t id) : name_(std::move(name)), id_(id), blocks_(kBlocks) {}

int BlockFile::Open(int directory_fd) {
  Close();
  fd_ = openat(directory_fd, name_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) return errno;
  sync_fd_ = openat(directory_fd, name_.c_str(), O_RDWR | O_SYNC | O_CLOEXEC);
  return sync_fd_ < 0 ? errno : 0;
}

void BlockFile::Close() {
  for (int* fd : {&fd_, &sync_fd_}) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
  }
}

void BlockFile::Settle(Block& block) {
  if (!block.failed) block.allowed.erase(block.allowed.begin(), block.allowed.end() - 1);
}

void BlockFile::Put(uint32_t block, uint64_t value, bool failed) {
  blocks_[block].allowed.push_back(value);
  blocks_[block].failed = failed;
}

void BlockFile::Remember(const std::string& what, int error, uint32_t first, uint32_t end) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  char time[32];
  std::snprintf(time, sizeof time, "%02ld.%03ld ", now.tv_sec % 60, now.tv_nsec / 1'000'000);
  journal_.push_back({time + what + (error == 0 ? "" : std::string(": ") + std::strerror(error)), first, end});
  if (journal_.size() > 5000) journal_.pop_front();
}

int BlockFile::Write(std::mt19937_64& random, bool sync) {
  const uint32_t first = static_cast<uint32_t>(random() % kBlocks);
  const uint32_t count = std::min(1 + static_cast<uint32_t>(random() % 16), kBlocks - first);
  const uint64_t value = ++last_value_;
  std::vector<char> data(static_cast<size_t>(count) * kBlockBytes);
  for (uint32_t i = 0; i < count; ++i) Fill(data.data() + i * kBlockBytes, id_, first + i, value);
  const ssize_t written =
      pwrite(sync ? sync_fd_ : fd_, data.data(), data.size(), static_cast<off_t>(first) * kBlockBytes);
  const int error = written == static_cast<ssize_t>(data.size()) ? 0 : written < 0 ? errno : EIO;
  Remember((sync ? "sync write " : "write ") + std::to_string(value) + " to " + std::to_string(first) + ".." +
               std::to_string(first + count - 1),
           error, first, first + count);
  for (uint32_t i = 0; i < count; ++i) {
    Put(first + i, value, error != 0);
    if (sync && error == 0) Settle(blocks_[first + i]);
  }
  return error;
}

int BlockFile::Truncate(uint32_t blocks) {
  const int error = ftruncate(fd_, static_cast<off_t>(blocks) * kBlockBytes) == 0 ? 0 : errno;
  Remember("truncate to " + std::to_string(blocks), error, blocks, kBlocks);
  for (uint32_t i = blocks; i < kBlocks; ++i) Put(i, 0, error != 0);
  return error;
}

int BlockFile::Sync() {
  const int error = fsync(fd_) == 0 ? 0 : errno;
  Remember("fsync", error);
  for (Block& block : blocks_) {
    // An error is told once and takes what was buffered with it: a later fsync says nothing about these.
    if (error != 0 && block.allowed.size() > 1) block.failed = true;
    if (error == 0) Settle(block);
  }
  return error;
}

int BlockFile::Step(std::mt19937_64& random, LoadCounts& counts) {
  const uint64_t dice = random() % 100;
  int error = 0;
  if (dice < 65) {
    error = Write(random, false);
  } else if (dice < 75) {
    error = Write(random, true);
    ++counts.syncs;
  } else if (dice < 78) {
    error = Truncate(static_cast<uint32_t>(random() % kBlocks));
  } else {
    error = Sync();
    ++counts.syncs;
  }
  ++counts.operations;
  if (error != 0) ++counts.errors;
  return error;
}

void BlockFile::Check(int directory_fd, Kept kept, bool settle, std::vector<std::string>& problems) {
  const int fd = openat(directory_fd, name_.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    const bool empty = std::all_of(blocks_.begin(), blocks_.end(), [](const Block& block) {
      return std::find(block.allowed.begin(), block.allowed.end(), 0u) != block.allowed.end();
    });
    if (errno != ENOENT || !empty) problems.push_back(name_ + ": open: " + std::strerror(errno));
    if (settle && errno == ENOENT && empty) blocks_.assign(kBlocks, Block());
    return;
  }
  const size_t before = problems.size();
  uint32_t first_bad = kBlocks;
  std::vector<char> data(kBlockBytes);
  for (uint32_t i = 0; i < kBlocks; ++i) {
    std::fill(data.begin(), data.end(), 0);
    const ssize_t n = pread(fd, data.data(), kBlockBytes, static_cast<off_t>(i) * kBlockBytes);
    const int error = n < 0 ? errno : 0;
    const uint64_t seen = n < 0 ? kUnreadable : Parse(data.data(), id_, i);
    Block& block = blocks_[i];
    const bool ok = kept == Kept::kAll && !block.failed
                        ? seen == block.allowed.back()
                        : std::find(block.allowed.begin(), block.allowed.end(), seen) != block.allowed.end();
    if (!ok && problems.size() < 20) {
      std::string allowed;
      for (uint64_t value : block.allowed) allowed += (allowed.empty() ? "" : ", ") + Show(value);
      if (problems.size() == before) first_bad = i;
      problems.push_back(name_ + " block " + std::to_string(i) + " shows " + Show(seen) +
                         (error != 0 ? std::string(" (") + std::strerror(error) + ")" : "") +
                         ", allowed: " + allowed + (block.failed ? " (the last failed)" : ""));
    }
    if (settle) block = Block{.allowed = {seen}, .failed = false};
  }
  if (problems.size() > before) {
    // What changed the first bad block, what stands between these, and the last operations.
    std::string text = name_ + ", operations that concern block " + std::to_string(first_bad) + ", and the last ones:";
    for (size_t i = 0; i < journal_.size(); ++i) {
      const Operation& operation = journal_[i];
      const bool concerns = operation.first <= first_bad && first_bad < operation.end;
      if (concerns || i + 40 >= journal_.size()) text += "\n  " + std::to_string(i) + ": " + operation.text;
    }
    problems.push_back(text);
  }
  Remember(settle ? "check" : "look", 0);
  if (settle && fsync(fd) != 0)
    problems.push_back(name_ + ": fsync after the check: " + std::strerror(errno));
  close(fd);
}

}  // namespace cairn::cluster_test
