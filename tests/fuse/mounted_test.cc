#include "tests/fuse/mounted_test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "fuse/mountpoint.h"

// libfuse frees its copy of the mount point's path only in fuse_session_unmount, which MountSession::Stop
// must not call.
extern "C" const char* __lsan_default_suppressions() { return "leak:fuse_session_mount\n"; }

namespace cairn::fuse {

void MountedTest::SetUp() {
  if (access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "/dev/fuse is not accessible";
  char pattern[] = "/tmp/cairn-fuse-test.XXXXXX";
  ASSERT_NE(mkdtemp(pattern), nullptr);
  mountpoint_ = pattern;
  client_ = std::make_unique<cairn::testing::FakeClient>(cluster_);
  MountWith("");
}

void MountedTest::MountWith(const std::string& option_list, InodeId root) {
  Unmount();
  MountOptions options;
  options.mountpoint = mountpoint_;
  ASSERT_TRUE(ParseSource("localhost:1", options).ok());
  const Status parsed = ParseOptionList(option_list, options);
  ASSERT_TRUE(parsed.ok()) << parsed.ToString();
  ids_ = std::make_unique<Ids>(options.ids);
  fs_ = std::make_unique<FileSystem>(
      *client_, cache_, FileSystemOptions{.root = root, .cache_names = options.cache_names, .ids = ids_.get()},
      SystemClock::Get());
  auto mount = MountSession::Mount(*fs_, cache_, options, [this] { ++ended_; });
  ASSERT_TRUE(mount.ok()) << mount.status().ToString();
  mount_ = *std::move(mount);
}

void MountedTest::Unmount() {
  if (mount_ != nullptr) mount_->Stop();
  mount_.reset();
  fs_.reset();
}

void MountedTest::TearDown() {
  Unmount();
  if (!mountpoint_.empty()) {
    EXPECT_FALSE(FindMount(mountpoint_).has_value());
    rmdir(mountpoint_.c_str());
  }
}

void MountedTest::WriteFile(const std::string& name, const std::string& content) const {
  std::ofstream file(Path(name), std::ios::binary | std::ios::trunc);
  file << content << std::flush;
  ASSERT_TRUE(file.good()) << name;
}

std::string MountedTest::ReadFile(const std::string& name) const {
  std::ifstream file(Path(name), std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace cairn::fuse
