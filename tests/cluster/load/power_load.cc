// cairn-power-load: mixed load on a mount, driven by lines on standard input; one line of answer each.
//
//   run DIRECTORY            starts the threads on this mount               -> running
//   stop                     ends them                                      -> stopped OPERATIONS SYNCS
//   ERRORS check DIRECTORY synced   everything that a sync covered is there        -> ok | bad N, then N
//   lines check DIRECTORY all      everything that was acknowledged is there look DIRECTORY ...       the
//   same check; but what was not synced may still appear afterwards quit
//
// A process of its own, so that the test, which forks and waits, holds no open file of a mount.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <thread>

#include "tests/cluster/load/block_file.h"
#include "tests/cluster/load/name_tree.h"

namespace cairn::cluster_test {
namespace {

constexpr int kBlockThreads = 2;
constexpr int kNameThreads = 2;
constexpr int kFilesPerThread = 3;

class PowerLoad {
 public:
  explicit PowerLoad(uint64_t seed) {
    for (int i = 0; i < kBlockThreads * kFilesPerThread; ++i)
      files_.push_back(std::make_unique<BlockFile>("blocks" + std::to_string(i), i + 1));
    for (int i = 0; i < kNameThreads; ++i)
      trees_.push_back(std::make_unique<NameTree>("names" + std::to_string(i)));
    for (int i = 0; i < kBlockThreads + kNameThreads; ++i) random_.emplace_back(seed * 100 + i);
  }

  std::string Run(const std::string& directory) {
    stop_ = false;
    counts_.assign(kBlockThreads + kNameThreads, LoadCounts());
    const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return std::string("open: ") + std::strerror(errno);
    std::string failed;
    for (const auto& file : files_) {
      if (const int error = file->Open(fd); error != 0) failed = std::string("file: ") + std::strerror(error);
    }
    for (const auto& tree : trees_) {
      if (const int error = tree->Open(fd); error != 0) failed = std::string("tree: ") + std::strerror(error);
    }
    close(fd);
    if (!failed.empty()) return failed;
    for (int i = 0; i < kBlockThreads; ++i) {
      threads_.emplace_back([this, i] {
        Loop(i, [this, i](LoadCounts& counts) {
          return files_[i * kFilesPerThread + random_[i]() % kFilesPerThread]->Step(random_[i], counts);
        });
      });
    }
    for (int i = 0; i < kNameThreads; ++i) {
      const int thread = kBlockThreads + i;
      threads_.emplace_back([this, i, thread] {
        Loop(thread,
             [this, i, thread](LoadCounts& counts) { return trees_[i]->Step(random_[thread], counts); });
      });
    }
    return "running";
  }

  std::string Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    for (const auto& file : files_) file->Close();
    for (const auto& tree : trees_) tree->Close();
    LoadCounts sum;
    for (const LoadCounts& counts : counts_) {
      sum.operations += counts.operations;
      sum.syncs += counts.syncs;
      sum.errors += counts.errors;
      sum.longest_us = std::max(sum.longest_us, counts.longest_us);
    }
    return "stopped " + std::to_string(sum.operations) + " " + std::to_string(sum.syncs) + " " +
           std::to_string(sum.errors) + " " + std::to_string(sum.longest_us / 1000);
  }

  std::string Check(const std::string& directory, Kept kept, bool settle) {
    std::vector<std::string> problems;
    const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
      problems.push_back(std::string("open: ") + std::strerror(errno));
    } else {
      for (const auto& file : files_) file->Check(fd, kept, settle, problems);
      for (const auto& tree : trees_) tree->Check(fd, kept, settle, problems);
      close(fd);
    }
    if (problems.empty()) return "ok";
    std::string text;
    for (const std::string& problem : problems) text += problem + "\n";
    text.pop_back();
    return "bad " + std::to_string(std::count(text.begin(), text.end(), '\n') + 1) + "\n" + text;
  }

 private:
  template <typename Step>
  void Loop(int thread, const Step& step) {
    LoadCounts& counts = counts_[static_cast<size_t>(thread)];
    while (!stop_) {
      const auto start = std::chrono::steady_clock::now();
      const int error = step(counts);
      const auto took =
          std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start);
      counts.longest_us = std::max(counts.longest_us, static_cast<uint64_t>(took.count()));
      if (MountIsGone(error)) return;
    }
  }

  std::vector<std::unique_ptr<BlockFile>> files_;
  std::vector<std::unique_ptr<NameTree>> trees_;
  std::vector<std::mt19937_64> random_;
  std::vector<LoadCounts> counts_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_{false};
};

int Serve(uint64_t seed) {
  umask(0);  // permission bits are part of what is compared
  PowerLoad load(seed);
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string command, directory, kept;
    words >> command >> directory >> kept;
    if (command == "run") {
      std::cout << load.Run(directory) << std::endl;
    } else if (command == "stop") {
      std::cout << load.Stop() << std::endl;
    } else if (command == "check" || command == "look") {
      const Kept wanted = kept == "all" ? Kept::kAll : Kept::kSynced;
      std::cout << load.Check(directory, wanted, command == "check") << std::endl;
    } else {
      return command == "quit" ? 0 : 2;
    }
  }
  return 0;
}

}  // namespace
}  // namespace cairn::cluster_test

int main(int argc, char** argv) {
  return cairn::cluster_test::Serve(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1);
}
