// Every place where the chunk store waits for the disk (SyncPoint), left out one at a time on a disk that forgets what was not synced:
// each of them must then be missed. A point without a story here, or a sync without a point, fails the test too.
#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "tests/power/forgetful_disk.h"
#include "tests/store/store_fixture.h"

namespace cairn::chunkserver {
namespace {

namespace fs = std::filesystem;
using power::ForgetfulDisk;

constexpr Uuid kCluster{5, 5};
constexpr int kSeeds = 24;  // 0: nothing unsynced is left, 1: everything is, others: any part of it

class PowerEnv final : public SystemStoreEnv {
 public:
  Uuid BootId() const override { return boot; }
  int SyncFile(int fd, SyncPoint point) override { return Sync(point, [&] { return SystemStoreEnv::SyncFile(fd, point); }); }
  int SyncDirectory(const std::string& directory, SyncPoint point) override {
    return Sync(point, [&] { return SystemStoreEnv::SyncDirectory(directory, point); });
  }

  Uuid boot{1, 1};
  SyncPoint broken = SyncPoint::kCount;
  std::set<SyncPoint> seen;

 private:
  template <typename Do>
  int Sync(SyncPoint point, const Do& perform) {
    std::lock_guard lock(mu_);
    seen.insert(point);
    if (point == broken) return 0;
    power::NamedSync named;
    return perform();
  }
  std::mutex mu_;
};

class StorePowerTest : public StoreFixture {
 protected:
  ~StorePowerTest() override {
    before_.reset();  // both use the environment
    store_.reset();
  }
  // A directory that is on disk, below which the store makes its own.
  void Begin(SyncPoint broken) {
    store_.reset();
    disk_.reset();
    fs::remove_all(root_ + "/a");
    fs::create_directories(root_ + "/a");
    disk_ = std::make_unique<ForgetfulDisk>(root_ + "/a");
    power_env_.seen.clear();
    power_env_.broken = broken;
    power_env_.boot = Uuid{1, 1};
    base_options_.env = &power_env_;
    base_options_.segment_bytes = 64 << 10;
    directory_ = disk_->directory() + "/data/disk1";
    OpenStore();
  }
  // Power is lost and the machine boots. What is wrong with the store then, or nothing.
  std::string Boot(uint64_t seed) {
    const std::string left = root_ + "/left" + std::to_string(++cuts_);
    disk_->Cut(left, seed);
    for (const std::string& path : disk_->Unnamed()) {
      if (path.find("/index") == std::string::npos)  // RocksDB looks after its own
        ADD_FAILURE() << path << " is synced at a place that SyncPoint does not name";
    }
    const SyncPoint broken = std::exchange(power_env_.broken, SyncPoint::kCount);
    power_env_.boot = Uuid{2, ++boots_};
    StoreOptions options = Options();
    options.directory = left + "/data/disk1";
    auto opened = ChunkStore::Open(options);
    power_env_.broken = broken;
    if (!opened.ok()) return opened.status().ToString();
    before_ = std::move(store_);
    store_ = *std::move(opened);
    return "";
  }
  // Goes back to the store that has not lost power, for another seed.
  void Resume() {
    if (before_ == nullptr) return;
    store_ = std::move(before_);
  }
  std::string Holds(ChunkId chunk, const Bytes& expected) {
    if (!Known(chunk)) return "chunk " + ToString(chunk) + " was flushed and is not known";
    const Result<Bytes> found = ReadAll(chunk);
    if (!found.ok()) return "chunk " + ToString(chunk) + ": " + found.status().ToString();
    return *found == expected ? "" : "chunk " + ToString(chunk) + " has other bytes than were flushed";
  }

  // What was flushed is there, also over several segments.
  std::string Flushed(uint64_t seed) {
    std::map<ChunkId, Bytes> flushed;
    for (uint64_t i = 1; i <= 6; ++i) {
      const ChunkId chunk(i);
      flushed[chunk] = Pattern(20'000, i);
      EXPECT_TRUE(Write(chunk, 0, flushed[chunk]).ok());
    }
    EXPECT_TRUE(store_->Flush().ok());
    EXPECT_GE(Segments(directory_).size(), 2u);
    EXPECT_TRUE(Write(ChunkId(7), 0, Pattern(9000, 7)).ok());  // this may be lost
    std::string wrong = Boot(seed);
    for (const auto& [chunk, bytes] : flushed) {
      if (wrong.empty()) wrong = Holds(chunk, bytes);
    }
    Resume();
    return wrong;
  }

  // A process is killed before it flushed; the next one finds the records, and is asked to flush.
  std::string ReadBack(uint64_t seed) {
    const Bytes data = Pattern(20'000, 8);
    EXPECT_TRUE(Write(ChunkId(8), 0, data).ok());
    auto crashed = disk_->Copy(root_ + "/crashed" + std::to_string(++cuts_));
    store_.reset();
    directory_ = crashed->directory() + "/data/disk1";
    disk_ = std::move(crashed);
    OpenStore();
    EXPECT_TRUE(store_->Flush().ok());
    std::string wrong = Boot(seed);
    if (wrong.empty()) wrong = Holds(ChunkId(8), data);
    Resume();
    return wrong;
  }

  // Whose disk it is, and that it may have forgotten something.
  std::string SmallFiles(uint64_t seed) {
    EXPECT_TRUE(store_->SetIdentity(kCluster, Uuid{6, 6}, ServerId(3)).ok());
    std::string wrong = Boot(seed);
    if (wrong.empty() && store_->identity().cluster != kCluster) wrong = "the disk does not know its cluster";
    if (wrong.empty() && !store_->amnesic()) wrong = "a loss of power is not told";
    Resume();
    return wrong;
  }

  // A chunk is erased; its segment is removed, and later the one that says that it was erased. If the first came back without the
  // second, an index that is built again would hold the chunk.
  std::string Removed(uint64_t seed) {
    const ChunkId gone(20), rest(21), large(22), stays(23);
    const Bytes kept = Pattern(30'000, 23);
    EXPECT_TRUE(Write(gone, 0, Pattern(30'000, 20)).ok());
    EXPECT_TRUE(Write(rest, 0, Pattern(20'000, 21)).ok());
    EXPECT_TRUE(Write(large, 0, Pattern(40'000, 22)).ok());  // begins the second segment
    EXPECT_TRUE(Erase(gone).ok());
    EXPECT_TRUE(Erase(rest).ok());
    EXPECT_TRUE(Write(stays, 0, kept).ok());  // begins the third
    EXPECT_TRUE(store_->Flush().ok());
    EXPECT_EQ(Segments(directory_).size(), 3u);
    EXPECT_TRUE(store_->Reclaim().ok());
    EXPECT_EQ(Segments(directory_).size(), 2u);
    EXPECT_TRUE(Erase(large).ok());
    EXPECT_TRUE(store_->Reclaim().ok());
    EXPECT_EQ(Segments(directory_).size(), 1u);
    std::string wrong = Boot(seed);
    if (wrong.empty() && Known(gone)) wrong = "a chunk that was erased is back";
    if (wrong.empty()) wrong = Holds(stays, kept);
    Resume();
    return wrong;
  }

  using Story = std::string (StorePowerTest::*)(uint64_t seed);
  std::string Tell(Story story, SyncPoint broken, uint64_t seed) {
    Begin(broken);
    return HasFatalFailure() ? "" : (this->*story)(seed);
  }

  std::unique_ptr<ForgetfulDisk> disk_;
  PowerEnv power_env_;
  std::unique_ptr<ChunkStore> before_;
  int cuts_ = 0;
  uint64_t boots_ = 0;
};

class StorePowerCanaries : public StorePowerTest {
 protected:
  static constexpr std::array<Story, 4> kStories = {&StorePowerCanaries::Flushed, &StorePowerCanaries::ReadBack,
                                                    &StorePowerCanaries::SmallFiles, &StorePowerCanaries::Removed};
  static constexpr std::array<std::pair<SyncPoint, Story>, 7> kCanaries = {{
      {SyncPoint::kDirectoryName, &StorePowerCanaries::Flushed},
      {SyncPoint::kSmallFile, &StorePowerCanaries::SmallFiles},
      {SyncPoint::kSmallFileName, &StorePowerCanaries::SmallFiles},
      {SyncPoint::kSegmentName, &StorePowerCanaries::Flushed},
      {SyncPoint::kRecords, &StorePowerCanaries::Flushed},
      {SyncPoint::kRecordsReadBack, &StorePowerCanaries::ReadBack},
      {SyncPoint::kSegmentsRemoved, &StorePowerCanaries::Removed},
  }};
};

TEST_F(StorePowerCanaries, ALossOfPowerTakesNothingThatWasFlushedNoMatterWhatElseIsLeft) {
  for (const Story story : kStories) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) EXPECT_EQ(Tell(story, SyncPoint::kCount, seed), "") << "seed " << seed;
  }
}

TEST_F(StorePowerCanaries, EachSyncThatIsLeftOutIsMissed) {
  for (size_t number = 0; number < static_cast<size_t>(SyncPoint::kCount); ++number) {
    const auto point = static_cast<SyncPoint>(number);
    const auto canary = std::find_if(kCanaries.begin(), kCanaries.end(), [&](const auto& one) { return one.first == point; });
    ASSERT_NE(canary, kCanaries.end()) << "sync point " << number << " has no story that shows what it is for";
    std::string wrong;
    for (uint64_t seed = 0; seed < kSeeds && wrong.empty(); ++seed) {
      wrong = Tell(canary->second, point, seed);
      EXPECT_TRUE(power_env_.seen.contains(point)) << "its story does not get to sync point " << number;
    }
    EXPECT_NE(wrong, "") << "nothing misses sync point " << number;
  }
}

}  // namespace
}  // namespace cairn::chunkserver
