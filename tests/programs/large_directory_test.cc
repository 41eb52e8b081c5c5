// One directory with very many entries: a million with CAIRN_LONG_TESTS, otherwise as many as take seconds.
// How fast they are made, listed, found and removed, and what master and mount need in memory for it, are
// printed as figures.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "tests/programs/program_test.h"

namespace cairn::programs_test {
namespace {

using cluster_test::NowMillis;

class LargeDirectoryTest : public ProgramTest {
 protected:
  static std::string Name(int i) { return fmt::format("entry-{:07}.of-a-usual-length", i); }
  static int IndexOf(const std::string& name) {
    return name.starts_with("entry-") && name.size() == Name(0).size() ? std::atoi(name.c_str() + 6) : -1;
  }
  int64_t MemoryMiB(pid_t pid) const {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmRSS:")) return std::atoll(line.c_str() + 6) / 1024;
    }
    return -1;
  }
  // Runs each(0) .. each(count - 1) in four threads, and prints the rate.
  void Rate(const std::string& what, int count, const std::function<bool(int)>& each) {
    const int64_t start = NowMillis();
    std::atomic<int> next{0}, failed{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = next++; i < count; i = next++) failed += each(i) ? 0 : 1;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(failed, 0) << what;
    Tell(what, count, start);
  }
  void Tell(const std::string& what, int count, int64_t start) const {
    const int64_t ms = std::max<int64_t>(NowMillis() - start, 1);
    Figure(fmt::format("{}: {} in {:.1f} s, {}/s; master {} MiB, mount {} MiB", what, count,
                       static_cast<double>(ms) / 1000, int64_t{count} * 1000 / ms,
                       MemoryMiB(cluster_->Pid("master")), MemoryMiB(cluster_->Pid("mount"))));
  }
  // How often each entry was listed.
  std::vector<uint8_t> List(const std::string& directory, int count) {
    std::vector<uint8_t> seen(static_cast<size_t>(count), 0);
    DIR* const stream = opendir(directory.c_str());
    if (stream == nullptr) return {};
    while (const dirent* entry = readdir(stream)) {
      const int i = IndexOf(entry->d_name);
      if (i >= 0 && i < count) ++seen[static_cast<size_t>(i)];
    }
    closedir(stream);
    return seen;
  }
};

TEST_F(LargeDirectoryTest, IsMadeListedSearchedAndRemoved) {
  const int count = LongTestsWanted() ? 1'000'000 : 4'000;
  const std::string directory = mount_directory() + "/large";
  ASSERT_EQ(mkdir(directory.c_str(), 0755), 0);
  Rate("made", count,
       [&](int i) { return mknod((directory + "/" + Name(i)).c_str(), S_IFREG | 0644, 0) == 0; });

  int64_t start = NowMillis();
  const std::vector<uint8_t> once(static_cast<size_t>(count), 1);
  EXPECT_TRUE(List(directory, count) == once);
  Tell("listed where they were made", count, start);
  const std::string fresh = cluster_->AddMount() + "/m/large";
  start = NowMillis();
  EXPECT_TRUE(List(fresh, count) == once);
  Tell("listed on a fresh mount", count, start);

  std::mt19937 random(7);
  std::vector<int> sample(static_cast<size_t>(std::min(count, 20'000)));
  for (int& i : sample) i = static_cast<int>(random() % static_cast<unsigned>(count));
  const std::string third = cluster_->AddMount() + "/m/large";
  Rate("found on a fresh mount", static_cast<int>(sample.size()), [&](int i) {
    struct stat info {};
    return stat((third + "/" + Name(sample[static_cast<size_t>(i)])).c_str(), &info) == 0;
  });
  Rate("absent", static_cast<int>(sample.size()), [&](int i) {
    return access((third + "/absent-" + std::to_string(i)).c_str(), F_OK) != 0 && errno == ENOENT;
  });

  // Places in the listing stay where they are, whatever comes and goes meanwhile.
  DIR* const stream = opendir(fresh.c_str());
  ASSERT_NE(stream, nullptr);
  struct Place {
    long at = 0;
    std::string next;
  };
  std::vector<Place> places;
  for (int i = 0; i < count; ++i) {
    const long at = telldir(stream);
    const dirent* const entry = readdir(stream);
    ASSERT_NE(entry, nullptr);
    if (i % (count / 20) == 5) places.push_back({at, entry->d_name});
  }
  std::vector<uint8_t> left = once;
  for (int i = 0; i < count; i += std::max(count / 500, 1)) {
    const bool kept = std::any_of(places.begin(), places.end(),
                                  [&](const Place& place) { return IndexOf(place.next) == i; });
    if (kept) continue;
    ASSERT_EQ(unlink((third + "/" + Name(i)).c_str()), 0);
    ASSERT_EQ(mknod((third + "/new-" + std::to_string(i)).c_str(), S_IFREG | 0644, 0), 0);
    left[static_cast<size_t>(i)] = 0;
  }
  for (const Place& place : places) {
    seekdir(stream, place.at);
    // A new name may have come in between.
    const dirent* entry = readdir(stream);
    while (entry != nullptr && std::string_view(entry->d_name).starts_with("new-")) entry = readdir(stream);
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->d_name, place.next);
  }
  closedir(stream);
  EXPECT_TRUE(List(directory, count) == left);

  for (int i = 0; i < count; i += std::max(count / 500, 1))
    unlink((third + "/new-" + std::to_string(i)).c_str());
  Rate("removed", count, [&](int i) {
    return left[static_cast<size_t>(i)] == 0 || unlink((directory + "/" + Name(i)).c_str()) == 0;
  });
  EXPECT_EQ(rmdir(directory.c_str()), 0);
  Tell("in the end", 1, NowMillis());
}

}  // namespace
}  // namespace cairn::programs_test
