// cairn-stream-load: steady work on two mounts, with the longest pause of each kind; driven by lines on
// standard input, one line of answer each.
//
//   start MOUNT1 MOUNT2   writer, reader and names on MOUNT1, a register written on MOUNT1 and read on MOUNT2
//                                                     -> started
//   lap                   figures since the last lap  -> lap KIND OPERATIONS ERRORS LONGEST_MS ...
//   stop                  ends it and verifies        -> ok N | bad N, then N lines
//
//   write DIRECTORY VALUE   one write of the register, with fsync   -> 0 | errno, then milliseconds
//   read DIRECTORY          one read                                -> value | errno -N
//   history                 all of these and the register of `start`, judged: ok | bad 1, then why
//
// The writer writes 64 KiB at a steady pace and fsyncs now and then; the reader reads at random in a file
// that no cache holds; names creates, renames and removes. Verified at the end: all that was synced is there,
// no read was stale. A process of its own, so that the test, which forks, holds no open file of a mount.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

#include "tests/cluster/load/register_history.h"

namespace cairn::cluster_test {
namespace {

constexpr size_t kWriteBytes = 64 << 10;
constexpr size_t kReadBytes = 64 << 10;
constexpr uint64_t kFileBlocks = 512;  // of kWriteBytes; then it starts at the beginning again
constexpr auto kPace = std::chrono::milliseconds(5);

int64_t NowMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string Block(uint64_t file, uint64_t block, uint64_t value, size_t bytes) {
  std::string text(bytes, '\0');
  uint64_t state = value * 1000003 + block * 31 + file;
  for (size_t at = 0; at + 8 <= bytes; at += 8) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    std::memcpy(text.data() + at, &state, 8);
  }
  std::memcpy(text.data(), &value, 8);
  return text;
}

struct Figures {
  uint64_t operations = 0;
  uint64_t errors = 0;
  int64_t longest_us = 0;
  int first_error = 0;
};

class StreamLoad {
 public:
  std::string Start(const std::string& one, const std::string& two) {
    directory_ = one;
    if (const int error = MakeStatic(one + "/static"); error != 0) return Say("static file", error);
    if (mkdir((one + "/names").c_str(), 0755) != 0 && errno != EEXIST) return Say("mkdir", errno);
    if (RegisterWrite(one, ++register_value_) != 0) return Say("register", errno);
    stop_ = false;
    threads_.emplace_back([this] { Writer(); });
    threads_.emplace_back([this, one] { Reader(one + "/static"); });
    threads_.emplace_back([this, one] { Names(one + "/names"); });
    threads_.emplace_back([this, one] { RegisterWriter(one); });
    threads_.emplace_back([this, two] { RegisterReader(two); });
    return "started";
  }

  std::string Lap() {
    std::lock_guard lock(mu_);
    std::string text = "lap";
    for (auto& [kind, figures] : figures_) {
      // What is still waiting counts as well.
      const auto begun = begun_.find(kind);
      if (begun != begun_.end() && begun->second != 0)
        figures.longest_us = std::max(figures.longest_us, NowMicros() - begun->second);
      text += " " + kind + " " + std::to_string(figures.operations) + " " + std::to_string(figures.errors) +
              " " + std::to_string(figures.longest_us / 1000);
      if (figures.first_error != 0)
        std::cerr << kind << ": " << std::strerror(figures.first_error) << std::endl;
      figures = Figures();
    }
    return text;
  }

  std::string Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    Verify();
    const std::string history = History();
    if (history != "ok") problems_.push_back(history.substr(history.find('\n') + 1));
    if (problems_.empty()) return "ok " + std::to_string(register_.size());
    std::string text = "bad " + std::to_string(problems_.size());
    for (const std::string& problem : problems_) text += "\n" + problem;
    return text;
  }

  int RegisterWrite(const std::string& directory, uint64_t value) {
    const int64_t begin = NowMicros();
    const std::string data = Block(9, 0, value, 4096);
    const int fd = open((directory + "/register").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int error = fd < 0 ? errno : 0;
    if (error == 0 && pwrite(fd, data.data(), data.size(), 0) != static_cast<ssize_t>(data.size()))
      error = errno;
    if (error == 0 && fsync(fd) != 0) error = errno;
    if (fd >= 0 && close(fd) != 0 && error == 0) error = errno;
    std::lock_guard lock(mu_);
    error == 0 ? register_.Write(value, {begin, NowMicros()}) : register_.FailedWrite(value, begin);
    return error;
  }

  // The value, or -errno; -EBADMSG for bytes that no write left there.
  int64_t RegisterRead(const std::string& directory) {
    const int64_t begin = NowMicros();
    std::string data(4096, '\0');
    const int fd = open((directory + "/register").c_str(), O_RDONLY | O_CLOEXEC);
    int error = fd < 0 ? errno : 0;
    if (error == 0) {
      const ssize_t n = pread(fd, data.data(), data.size(), 0);
      if (n < 0) error = errno;
      if (n >= 0 && n != static_cast<ssize_t>(data.size())) error = EBADMSG;
    }
    if (fd >= 0) close(fd);
    if (error != 0) return -error;
    uint64_t value = 0;
    std::memcpy(&value, data.data(), 8);
    if (data != Block(9, 0, value, 4096)) return -EBADMSG;
    std::lock_guard lock(mu_);
    register_.Read(value, {begin, NowMicros()});
    return static_cast<int64_t>(value);
  }

  std::string History() {
    std::lock_guard lock(mu_);
    const std::string why = register_.Check();
    return why.empty() ? "ok" : "bad 1\n" + why;
  }

 private:
  static std::string Say(const std::string& what, int error) { return what + ": " + std::strerror(error); }

  static int MakeStatic(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return errno;
    for (uint64_t i = 0; i < kFileBlocks; ++i) {
      const std::string data = Block(1, i, 1, kReadBytes);
      if (write(fd, data.data(), data.size()) != static_cast<ssize_t>(data.size())) return errno;
    }
    const int error = fsync(fd) == 0 ? 0 : errno;
    return close(fd) == 0 ? error : errno;
  }

  // Runs one operation and notes how long it took.
  template <typename Operation>
  int Timed(const std::string& kind, const Operation& operation) {
    const int64_t begin = NowMicros();
    {
      std::lock_guard lock(mu_);
      begun_[kind] = begin;
    }
    const int error = operation();
    std::lock_guard lock(mu_);
    begun_[kind] = 0;
    Figures& figures = figures_[kind];
    ++figures.operations;
    if (error != 0) ++figures.errors;
    if (error != 0 && figures.first_error == 0) figures.first_error = error;
    figures.longest_us = std::max(figures.longest_us, NowMicros() - begin);
    return error;
  }

  void Writer() {
    const std::string path = directory_ + "/stream";
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    uint64_t value = 0;
    std::map<uint64_t, uint64_t> since_sync;
    while (!stop_) {
      const uint64_t block = value % kFileBlocks;
      ++value;
      const std::string data = Block(0, block, value, kWriteBytes);
      since_sync[block] = value;
      {
        std::lock_guard lock(mu_);
        attempted_[block] = value;
      }
      Timed("write", [&] {
        const ssize_t n = pwrite(fd, data.data(), data.size(), static_cast<off_t>(block * kWriteBytes));
        return n == static_cast<ssize_t>(data.size()) ? 0 : n < 0 ? errno : EIO;
      });
      if (value % 64 == 0 && Timed("fsync", [&] { return fsync(fd) == 0 ? 0 : errno; }) == 0) {
        std::lock_guard lock(mu_);
        for (const auto& [synced, at] : since_sync) synced_[synced] = at;
        since_sync.clear();
      }
      std::this_thread::sleep_for(kPace);  // the pace, not a wait for anything
    }
    if (fd >= 0) close(fd);
  }

  void Reader(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    std::mt19937_64 random(1);
    void* buffer = std::aligned_alloc(4096, kReadBytes);
    while (!stop_) {
      const uint64_t block = random() % kFileBlocks;
      ssize_t n = 0;
      const int error = Timed("read", [&] {
        n = pread(fd, buffer, kReadBytes, static_cast<off_t>(block * kReadBytes));
        return n == static_cast<ssize_t>(kReadBytes) ? 0 : n < 0 ? errno : EIO;
      });
      if (error == 0 && std::memcmp(buffer, Block(1, block, 1, kReadBytes).data(), kReadBytes) != 0)
        Problem("a read of the static file shows wrong bytes in block " + std::to_string(block));
      std::this_thread::sleep_for(kPace);
    }
    std::free(buffer);
    if (fd >= 0) close(fd);
  }

  void Names(const std::string& directory) {
    for (uint64_t i = 0; !stop_; ++i) {
      const std::string name = directory + "/n" + std::to_string(i % 8);
      const std::string other = directory + "/m" + std::to_string(i % 8);
      Timed("names", [&] {
        const int fd = open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0) return errno;
        if (close(fd) != 0) return errno;
        if (rename(name.c_str(), other.c_str()) != 0) return errno;
        return unlink(other.c_str()) == 0 ? 0 : errno;
      });
      std::this_thread::sleep_for(kPace);
    }
  }

  void RegisterWriter(const std::string& directory) {
    while (!stop_) {
      const uint64_t value = ++register_value_;
      Timed("shared-write", [&] { return RegisterWrite(directory, value); });
      std::this_thread::sleep_for(4 * kPace);
    }
  }
  void RegisterReader(const std::string& directory) {
    while (!stop_) {
      Timed("shared-read", [&] {
        const int64_t value = RegisterRead(directory);
        if (value == -EBADMSG) Problem("the register shows bytes that nobody wrote");
        return value < 0 ? static_cast<int>(-value) : 0;
      });
      std::this_thread::sleep_for(4 * kPace);
    }
  }

  void Verify() {
    const int fd = open((directory_ + "/stream").c_str(), O_RDONLY | O_CLOEXEC);
    std::string data(kWriteBytes, '\0');
    for (const auto& [block, value] : synced_) {
      const ssize_t n = pread(fd, data.data(), data.size(), static_cast<off_t>(block * kWriteBytes));
      uint64_t seen = 0;
      std::memcpy(&seen, data.data(), 8);
      const bool whole = n == static_cast<ssize_t>(data.size()) && data == Block(0, block, seen, kWriteBytes);
      if (!whole || seen < value || seen > attempted_[block])
        Problem("lost: block " + std::to_string(block) + " was synced as " + std::to_string(value) +
                ", shows " + std::to_string(seen) +
                (n < 0 ? std::string(" (") + std::strerror(errno) + ")" : ""));
    }
    if (fd >= 0) close(fd);
  }

  void Problem(const std::string& text) {
    std::lock_guard lock(mu_);
    if (problems_.size() < 20) problems_.push_back(text);
  }

  std::string directory_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> register_value_{0};
  std::vector<std::thread> threads_;
  std::mutex mu_;
  // Guarded by mu_:
  std::map<std::string, Figures> figures_;
  std::map<std::string, int64_t> begun_;
  std::map<uint64_t, uint64_t> synced_, attempted_;
  std::vector<std::string> problems_;
  RegisterHistory register_;
};

int Serve() {
  StreamLoad load;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string command, one, two;
    words >> command >> one >> two;
    if (command == "start") {
      std::cout << load.Start(one, two) << std::endl;
    } else if (command == "lap") {
      std::cout << load.Lap() << std::endl;
    } else if (command == "stop") {
      std::cout << load.Stop() << std::endl;
    } else if (command == "write") {
      const int64_t begin = NowMicros();
      const int error = load.RegisterWrite(one, std::strtoull(two.c_str(), nullptr, 10));
      std::cout << error << " " << (NowMicros() - begin) / 1000 << std::endl;
    } else if (command == "read") {
      std::cout << load.RegisterRead(one) << std::endl;
    } else if (command == "history") {
      std::cout << load.History() << std::endl;
    } else {
      return 2;
    }
  }
  return 0;
}

}  // namespace
}  // namespace cairn::cluster_test

int main() { return cairn::cluster_test::Serve(); }
