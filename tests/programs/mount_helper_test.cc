// mount(8), fstab and mount options, with the real scripts/mount.fuse.cairn.
#include <fstream>

#include "tests/programs/program_test.h"

namespace cairn::programs_test {
namespace {

class MountHelperTest : public ProgramTest {
 protected:
  // Runs in a mount namespace of its own, in which /sbin has the helper as an
  // installation would have it.
  RunResult InNamespace(const std::string& text) {
    const std::string script =
        R"sh(
      set -eu
      sbin=$(readlink -f /sbin); mkdir -p "$L/upper" "$L/work"
      mount -t tmpfs tmpfs "$L/upper"; mkdir "$L/upper/u" "$L/upper/w"
      mount -t overlay overlay -o "lowerdir=$sbin,upperdir=$L/upper/u,workdir=$L/upper/w" "$sbin" || exit 77
      install -m 755 ")sh" CAIRN_SCRIPTS_DIR
        R"sh(/mount.fuse.cairn" /sbin/mount.fuse.cairn
      export CAIRN_MOUNT=")sh" CAIRN_BIN_DIR
        R"sh(/cairn-mount" CAIRN_MOUNT_LOG="$L/helper.log"
      mkdir -p "$L/x"
      )sh" +
        text;
    return RunProgram({"unshare", "-m", "--propagation", "private", "bash", "-c", script},
                      {"M=" + mount_directory(), "L=" + local_, "A=" + cluster_->MasterAddress()}, 60);
  }
};

TEST_F(MountHelperTest, MountsByTypeWithOptions) {
  std::ofstream(cluster_->Path("file")) << "content";
  const RunResult result = InNamespace(R"sh(
    mount -t fuse.cairn "$A" "$L/x" -o ro,noatime,allow_other
    test "$(cat "$L/x/file")" = content
    grep " $L/x " /proc/self/mounts | grep -q 'fuse.cairn ro,.*noatime'
    ! touch "$L/x/new" 2>/dev/null
    df "$L/x" | grep -q cairn
    umount "$L/x"
    mount -t fuse.cairn "cairn://$A/m" "$L/x"; touch "$L/x/in-m"; test -e "$M/in-m"
    umount "$L/x")sh");
  if (result.exit_code == 77) GTEST_SKIP() << "no overlay file system here: " << result.Both();
  EXPECT_EQ(result.exit_code, 0) << result.Both();
}

TEST_F(MountHelperTest, MountsFromFstab) {
  std::ofstream(local_ + "/fstab") << cluster_->MasterAddress() << " " << local_
                                   << "/x fuse.cairn "
                                      "_netdev,nofail,noauto,subdir=/m,nosuid,nodev,x-systemd.automount 0 "
                                      "0\n";
  const RunResult result = InNamespace(R"sh(
    mount -T "$L/fstab" "$L/x"; touch "$L/x/by-fstab"; test -e "$M/by-fstab"
    grep " $L/x " /proc/self/mounts | grep -q 'fuse.cairn rw,nosuid,nodev'
    umount "$L/x")sh");
  if (result.exit_code == 77) GTEST_SKIP() << "no overlay file system here: " << result.Both();
  EXPECT_EQ(result.exit_code, 0) << result.Both();
}

TEST_F(MountHelperTest, SaysWhyItFails) {
  const RunResult unknown = InNamespace(R"sh(mount -t fuse.cairn "$A" "$L/x" -o nonsense=1)sh");
  if (unknown.exit_code == 77) GTEST_SKIP() << "no overlay file system here: " << unknown.Both();
  EXPECT_NE(unknown.exit_code, 0);
  EXPECT_NE(unknown.Both().find("nonsense"), std::string::npos) << unknown.Both();
  const RunResult absent = InNamespace(R"sh(mount -t fuse.cairn "cairn://$A/no/such/directory" "$L/x")sh");
  EXPECT_NE(absent.exit_code, 0);
  EXPECT_NE(absent.Both().find("/no/such/directory"), std::string::npos) << absent.Both();
}

// A directory as the root of a mount: nothing above it is reached, and names
// outside do not exist.
TEST_F(MountHelperTest, ASubdirectoryIsAWholeFileSystem) {
  std::filesystem::create_directories(cluster_->Path("m/a/b"));
  std::ofstream(cluster_->Path("secret")) << "x";
  const std::string mount = cluster_->AddMount("subdir=/m/a");
  EXPECT_TRUE(std::filesystem::exists(mount + "/b"));
  EXPECT_FALSE(std::filesystem::exists(mount + "/secret"));
  const RunResult result = RunProgram({"bash", "-c", R"sh(
    set -eu; cd "$X"; echo hello > f; test "$(cat "$M/a/f")" = hello; echo more >> "$M/a/f"; test "$(wc -l < f)" = 2
    test "$(stat -c %i .)" = 1; test "$(ls -a . | head -2 | tr '\n' ' ')" = '. .. '
    test "$(stat -c %i b/..)" = "$(stat -c %i .)"; mv f b/g; test -e "$M/a/b/g"; df . >/dev/null; rm -r b)sh"},
                                      {"X=" + mount, "M=" + mount_directory()});
  EXPECT_EQ(result.exit_code, 0) << result.Both();
}

TEST_F(MountHelperTest, NoatimeAndReadOnlyMountsLeaveTimesAlone) {
  std::ofstream(cluster_->Path("m/f")) << "content";
  const std::string mount = cluster_->AddMount("noatime") + "/m";
  const RunResult result = RunProgram({"bash", "-c", R"sh(
    set -eu; touch -a -d 2001-01-01 "$X/f"; a=$(stat -c %X "$X/f"); cat "$X/f" >/dev/null; test "$(stat -c %X "$X/f")" = "$a"
    grep " ${X%/m} " /proc/self/mounts | grep -q noatime)sh"},
                                      {"X=" + mount});
  EXPECT_EQ(result.exit_code, 0) << result.Both();
}

}  // namespace
}  // namespace cairn::programs_test
