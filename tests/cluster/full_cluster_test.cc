// Every disk of the cluster full, seen through a mount: writing fails with ENOSPC, everything else goes on,
// and space that is given back is there again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "tests/cluster/file_ops.h"
#include "tests/cluster/harness.h"

namespace cairn::cluster_test {
namespace {

namespace fs = std::filesystem;

// Each chunkserver on a file system of its own of 192 MiB.
class FullClusterTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounts file systems: run it as root";
    cluster_ = LocalCluster::Start();
    ASSERT_NE(cluster_, nullptr);
    for (const std::string name : {"cs1", "cs2", "cs3"}) {
      cluster_->Down({"--only", name});
      const std::string data = cluster_->DataOf(name);
      fs::copy(data, data + ".moved", fs::copy_options::recursive);
      if (mount("tmpfs", data.c_str(), "tmpfs", 0, "size=192m") != 0)
        GTEST_SKIP() << "no permission to mount a tmpfs";
      fs::copy(data + ".moved", data, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
      cluster_->Up({"--only", name});
    }
    ASSERT_TRUE(cluster_->WaitHealthy(30'000));
  }
  void TearDown() override {
    if (cluster_ == nullptr) return;
    cluster_->Down();
    for (const char* name : {"cs1", "cs2", "cs3"}) umount2(cluster_->DataOf(name).c_str(), MNT_DETACH);
  }
  // Writes files of 4 MiB until one fails; the errno of the first write, fsync or close that did, 0 after 100
  // files.
  int Fill(const std::string& prefix, int* files) {
    const std::string content = Pattern(7, 4 << 20);
    for (*files = 0; *files < 100; ++*files) {
      const int fd =
          open(cluster_->Path(prefix + std::to_string(*files)).c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644);
      if (fd < 0) return errno;
      int error = 0;
      if (write(fd, content.data(), content.size()) < 0) error = errno;
      if (error == 0 && fsync(fd) != 0) error = errno;
      if (close(fd) != 0 && error == 0) error = errno;
      if (error != 0) return error;
    }
    return 0;
  }
  std::unique_ptr<LocalCluster> cluster_;
};

TEST_F(FullClusterTest, WritingFailsWithENOSPCAndDeletingHelps) {
  ASSERT_EQ(WriteFile(cluster_->Path("kept"), Pattern(1, 300'000)), 0);
  int files = 0;
  const int64_t start = NowMillis();
  EXPECT_EQ(Fill("a", &files), ENOSPC);
  Figure(std::to_string(files) + " files of 4 MiB until ENOSPC, " + std::to_string(NowMillis() - start) +
         " ms");
  ASSERT_GT(files, 3);
  // What needs no space goes on, and nothing of what was there is lost.
  EXPECT_EQ(ReadFile(cluster_->Path("kept")), Pattern(1, 300'000));
  EXPECT_EQ(ReadFile(cluster_->Path("a0")), Pattern(7, 4 << 20));
  EXPECT_EQ(mkdir(cluster_->Path("dir").c_str(), 0755), 0);
  EXPECT_EQ(rename(cluster_->Path("kept").c_str(), cluster_->Path("dir/kept").c_str()), 0);
  EXPECT_EQ(chmod(cluster_->Path("dir/kept").c_str(), 0600), 0);
  struct statvfs space {};
  ASSERT_EQ(statvfs(cluster_->mount().c_str(), &space), 0);
  EXPECT_LT(space.f_bavail * space.f_frsize, 32u << 20) << "df says so";
  for (int i = 0; i <= files; ++i) EXPECT_EQ(unlink(cluster_->Path("a" + std::to_string(i)).c_str()), 0) << i;
  EXPECT_TRUE(
      WaitUntil([&] { return WriteFile(cluster_->Path("after"), Pattern(9, 8 << 20)) == 0; }, 60'000, 500));
  EXPECT_EQ(ReadFile(cluster_->Path("after")), Pattern(9, 8 << 20));
  EXPECT_EQ(ReadFile(cluster_->Path("dir/kept")), Pattern(1, 300'000));
}

}  // namespace
}  // namespace cairn::cluster_test
