#include "tests/power/forgetful_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace cairn::power {
namespace {

namespace fs = std::filesystem;

class ForgetfulDiskTest : public ::testing::Test {
 protected:
  ForgetfulDiskTest() {
    std::string pattern = fs::temp_directory_path() / "cairn-power-XXXXXX";
    root_ = mkdtemp(pattern.data());
    fs::create_directory(root_ + "/disk");
    std::ofstream(Path("old")) << "old";
    disk_ = std::make_unique<ForgetfulDisk>(root_ + "/disk");
  }
  ~ForgetfulDiskTest() override {
    disk_.reset();
    fs::remove_all(root_);
  }
  std::string Path(const std::string& name) const { return root_ + "/disk/" + name; }
  static void Write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
  static void Sync(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(fsync(fd), 0);
    close(fd);
  }
  // What the cut left of a file; "absent" if nothing did.
  std::string After(uint64_t seed, const std::string& name) {
    const std::string left = root_ + "/left" + std::to_string(++cuts_);
    disk_->Cut(left, seed);
    std::ifstream in(left + "/" + name, std::ios::binary);
    if (!in) return "absent";
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  std::string root_;
  std::unique_ptr<ForgetfulDisk> disk_;
  int cuts_ = 0;
};

TEST_F(ForgetfulDiskTest, BytesAndNamesAreSyncedEachForItself) {
  Write(Path("new"), "one");
  EXPECT_EQ(After(0, "new"), "absent");
  Sync(Path("new"));
  EXPECT_EQ(After(0, "new"), "absent") << "its name is not on disk";
  Sync(root_ + "/disk");
  EXPECT_EQ(After(0, "new"), "one");
  Write(Path("new"), "three");
  EXPECT_EQ(After(0, "new"), "one");
  EXPECT_EQ(After(1, "new"), "three");
}

TEST_F(ForgetfulDiskTest, ARenameOverAFileThatIsNotSyncedLeavesTheOldOneOrAnEmptyOne) {
  Write(Path("tmp"), "new");
  fs::rename(Path("tmp"), Path("old"));
  EXPECT_EQ(After(0, "old"), "old");
  Sync(root_ + "/disk");
  EXPECT_EQ(After(0, "old"), "") << "the name was synced, the bytes were not";
}

TEST_F(ForgetfulDiskTest, ARemovedNameIsBackUntilItsDirectoryIsSynced) {
  fs::remove(Path("old"));
  EXPECT_EQ(After(0, "old"), "old");
  Sync(root_ + "/disk");
  EXPECT_EQ(After(0, "old"), "absent");
}

TEST_F(ForgetfulDiskTest, ADirectoryWithoutItsNameTakesEverythingWithIt) {
  fs::create_directory(Path("sub"));
  Write(Path("sub/f"), "x");
  Sync(Path("sub/f"));
  Sync(Path("sub"));
  EXPECT_EQ(After(0, "sub/f"), "absent");
  Sync(root_ + "/disk");
  EXPECT_EQ(After(0, "sub/f"), "x");
}

TEST_F(ForgetfulDiskTest, PagesAreLostOneByOneAndTheSameSeedLosesTheSame) {
  const std::string old_pages(8 * 4096, 'o');
  Write(Path("pages"), old_pages);
  Sync(Path("pages"));
  Sync(root_ + "/disk");
  const int fd = open(Path("pages").c_str(), O_WRONLY);
  const std::string new_pages(8 * 4096, 'n');
  ASSERT_EQ(pwrite(fd, new_pages.data(), new_pages.size(), 0), static_cast<ssize_t>(new_pages.size()));
  close(fd);
  bool mixed = false;
  for (uint64_t seed = 2; seed < 10; ++seed) {
    const std::string left = After(seed, "pages");
    EXPECT_EQ(left, After(seed, "pages"));
    mixed = mixed || (left.find('o') != std::string::npos && left.find('n') != std::string::npos);
  }
  EXPECT_TRUE(mixed);
}

TEST_F(ForgetfulDiskTest, ACrashKeepsEverythingButMakesNothingDurable) {
  Write(Path("new"), "x");
  auto copy = disk_->Copy(root_ + "/copy");
  std::ifstream in(root_ + "/copy/new");
  EXPECT_TRUE(in.good());
  disk_ = std::move(copy);
  EXPECT_EQ(After(0, "new"), "absent");
  EXPECT_EQ(After(0, "old"), "old");
}

TEST_F(ForgetfulDiskTest, IgnoredSyncsDoNothingAndUnnamedOnesAreTold) {
  disk_->Ignore([](const std::string& path) { return path.ends_with("/old"); });
  Write(Path("old"), "newer");
  {
    NamedSync named;
    Sync(Path("old"));
  }
  EXPECT_EQ(After(0, "old"), "old");
  EXPECT_TRUE(disk_->Unnamed().empty());
  Sync(Path("old"));
  EXPECT_EQ(disk_->Unnamed(), std::vector<std::string>{Path("old")});
}

}  // namespace
}  // namespace cairn::power
