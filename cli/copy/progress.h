// Progress of long work: a bar with rate and time left on a terminal, a plain line every few seconds
// otherwise, nothing for work that is over at once. Thread-safety: Add from any thread; Start and Finish from
// one.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <iosfwd>
#include <mutex>
#include <string>
#include <thread>

namespace cairn::cli {

class Progress {
 public:
  Progress(std::ostream& out, bool terminal, std::string what);
  ~Progress();
  void ExpectMore(uint64_t files, uint64_t bytes) {
    expected_files_ += files;
    expected_bytes_ += bytes;
  }
  void ExpectedIsComplete() { complete_ = true; }  // from now on a time left can be told
  void AddBytes(uint64_t bytes) { bytes_ += bytes; }
  void AddFile() { ++files_; }
  void Finish();  // the last line
  uint64_t files() const { return files_; }
  uint64_t bytes() const { return bytes_; }
  double Seconds() const;

 private:
  void Loop();
  std::string Line(bool last) const;

  std::ostream& out_;
  const bool terminal_;
  const std::string what_;
  const int64_t start_ns_;
  std::atomic<uint64_t> expected_files_{0}, expected_bytes_{0}, files_{0}, bytes_{0};
  std::atomic<bool> complete_{false};
  bool printed_ = false;  // by the loop, read after it ended
  std::mutex mu_;
  std::condition_variable wake_;
  bool stop_ = false;  // guarded by mu_
  std::thread thread_;
};

}  // namespace cairn::cli
