// What takes minutes: Cairn's own build on a mount, and a whole Debian system. With CAIRN_LONG_TESTS only; in
// short runs ProgramTest.ACxxProjectBuilds and DpkgInstallsUpgradesAndRemoves stand for them.
#include "tests/programs/program_test.h"

namespace cairn::programs_test {
namespace {

class SystemsTest : public ProgramTest {
 protected:
  void SetUp() override {
    if (!LongTestsWanted()) GTEST_SKIP() << "takes minutes: set CAIRN_LONG_TESTS";
    ProgramTest::SetUp();
  }
  // What the script says at last, among the figures.
  void SucceedsAndTells(const std::string& text, int timeout_s) {
    const int64_t start = cluster_test::NowMillis();
    const RunResult result = Script(text, timeout_s);
    ASSERT_EQ(result.exit_code, 0) << text << "\n" << result.Both().substr(0, 4000);
    std::string said = result.out.substr(0, result.out.find_last_not_of('\n') + 1);
    said.erase(0, said.rfind('\n') + 1);
    Figure(said + ", " + std::to_string((cluster_test::NowMillis() - start) / 1000) + " s");
  }
};

// Sources and build tree on the mount; what was built there is run there. A second run of ninja finds nothing
// to do, which rests on mtimes of a few thousand files.
TEST_F(SystemsTest, CairnBuildsItselfAndItsTestsPass) {
  NEEDS("cmake");
  NEEDS("git");
  SucceedsAndTells(R"sh(
    mkdir src; cd ")sh" CAIRN_SOURCE_DIR
           R"sh("; git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$M/src"; cd "$M"
    export CCACHE_DISABLE=1
    cmake -G Ninja -S src -B build -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS="-O0 -g0" >/dev/null
    ninja -C build -j2 replication_test common_test store_test cairn-chunkserver >/dev/null
    build/tests/replication_test --gtest_brief=1 | tail -1; build/tests/store_test --gtest_brief=1 | tail -1
    build/bin/cairn-chunkserver --version
    again=$(ninja -C build -j2 replication_test store_test cairn-chunkserver); case "$again" in *Building*) echo "built again: $again"; exit 1;; esac
    echo "built: $(find build -name '*.o' | wc -l) objects, $(du -sm build | cut -f1) MiB")sh",
           3 * 3600);
}

TEST_F(SystemsTest, DebootstrapMakesASystemThatRuns) {
  if (!Installed("debootstrap")) GTEST_SKIP() << "debootstrap is not installed";
  const RunResult mirror =
      RunProgram({"bash", "-c",
                  "apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' | "
                  "grep -v security | grep -m1 /debian"});
  if (mirror.exit_code != 0) GTEST_SKIP() << "apt knows no mirror of Debian: " << mirror.Both();
  const RunResult made =
      Script("read -r url suite <<< '" + mirror.out.substr(0, mirror.out.find('\n')) + R"sh('
    wget -q --spider "$url/dists/$suite/Release" || exit 77
    debootstrap --variant=minbase "$suite" root "$url" > "$L/debootstrap.log" 2>&1 || { tail -20 "$L/debootstrap.log"; exit 1; })sh",
             3600);
  if (made.exit_code == 77) GTEST_SKIP() << "the mirror does not answer: " << mirror.out;
  ASSERT_EQ(made.exit_code, 0) << made.Both();
  SucceedsAndTells(R"sh(
    chroot root dpkg --audit; chroot root dpkg --verify
    test "$(chroot root dpkg-query -W | wc -l)" -gt 70
    chroot root /bin/bash -c 'test "$(id -u)" = 0; perl -e "print 6*7" | grep -q 42; apt-get check -qq'
    test -u root/usr/bin/passwd; test "$(stat -c %a root/tmp)" = 1777
    told="debootstrap: $(find root | wc -l) files, $(du -sm root | cut -f1) MiB; checked and removed"
    rm -rf --one-file-system root; test ! -e root; echo "$told")sh",
           1800);
}

}  // namespace
}  // namespace cairn::programs_test
