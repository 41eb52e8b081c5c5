// The Debian packages, installed with apt and used as an administrator would: users and configuration, a cluster run by the very commands of
// the units, a mount, manual pages, completion, upgrade, removal, purge. In every run over a copy (overlay) of this system; with
// CAIRN_LONG_TESTS also in a Debian that debootstrap has just made, so that every dependency is named.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/cluster/harness.h"

namespace cairn::packages_test {
namespace {

namespace fs = std::filesystem;
using cluster_test::Figure;
using cluster_test::NowMillis;
using cluster_test::RunProgram;
using cluster_test::RunResult;
using cluster_test::WaitUntil;

constexpr const char* kPackages = "cairn-common cairn-server cairn-client";

RunResult Shell(const std::string& text, int timeout_s = 300) {
  return RunProgram({"bash", "-c", "set -euo pipefail\n" + text}, {"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}, timeout_s);
}

class PackagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "run it as root";
    if (access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "/dev/fuse is not accessible";
    if (RunProgram({"unshare", "-m", "-n", "true"}).exit_code != 0) GTEST_SKIP() << "namespaces are not allowed here";
    char name[] = "/var/tmp/cairn-packages-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    network_ = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    // Mounts are this process's own and disappear with it, however it ends.
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("tmpfs", name, "tmpfs", 0, nullptr), 0);
    for (const char* folder : {"root", "upper", "work", "debs"}) fs::create_directories(directory_ + "/" + folder);
    root_ = directory_ + "/root";
  }

  void BuildPackages() {
    const RunResult made = Shell("cd " CAIRN_BINARY_DIR " && cpack --config CPackConfig.cmake -B " + directory_ +
                                 "/cpack -D CPACK_DEBIAN_COMPRESSION_TYPE=gzip -D CPACK_PACKAGE_DIRECTORY=" + directory_ + "/debs; rm -r " +
                                 directory_ + "/debs/_CPack_Packages");
    ASSERT_EQ(made.exit_code, 0) << made.Both();
  }

  void TearDown() override {
    for (const auto& [unit, pid] : units_) Stop(pid);
    if (directory_.empty()) return;
    (void)setns(network_, CLONE_NEWNET);
    close(network_);
    (void)Shell("umount -R -l " + directory_ + " 2>/dev/null; rmdir " + directory_);
  }

  void EnterRoot() {
    for (const char* folder : {"/dev", "/proc", "/sys"}) {
      fs::create_directories(root_ + folder);
      ASSERT_EQ(mount(folder, (root_ + folder).c_str(), nullptr, MS_BIND | MS_REC, nullptr), 0) << folder;
    }
    fs::create_directories(root_ + "/debs");
    ASSERT_EQ(mount((directory_ + "/debs").c_str(), (root_ + "/debs").c_str(), nullptr, MS_BIND, nullptr), 0);
    // Pages and documentation are not left out here, no index of pages is made, and nothing has to survive a loss of power.
    (void)Shell("rm -f " + root_ + "/etc/dpkg/dpkg.cfg.d/*docker*; echo force-unsafe-io > " + root_ + "/etc/dpkg/dpkg.cfg.d/test; rm -f " + root_ +
                "/var/lib/man-db/auto-update");
  }

  // Within the root.
  RunResult In(const std::string& text, int timeout_s = 300) const {
    return RunProgram({"chroot", root_, "/bin/bash", "-c", "set -euo pipefail\n" + text},
                      {"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "MANWIDTH=120"},
                      timeout_s);
  }
  void Works(const std::string& text, int timeout_s = 300) const {
    const RunResult result = In(text, timeout_s);
    EXPECT_EQ(result.exit_code, 0) << text << "\n" << result.Both().substr(0, 4000);
  }
  std::string Told(const std::string& text) const {
    const RunResult result = In(text);
    EXPECT_EQ(result.exit_code, 0) << text << "\n" << result.Both().substr(0, 4000);
    return result.out.substr(0, result.out.find_last_not_of('\n') + 1);
  }

  // The command of a unit as its user. `config`: what lies at /etc/cairn/chunkserver.conf on the machine that this one stands for.
  void StartUnit(const std::string& name, const std::string& unit, const std::string& config = "") {
    const std::string user = Told("sed -n 's/^User=//p' /lib/systemd/system/" + unit);
    ASSERT_NE(user, "");
    const std::string command = Told("sed -n 's/^ExecStart=//p' /lib/systemd/system/" + unit);
    ASSERT_NE(command, "");
    const std::string log = directory_ + "/" + name + ".log";
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
      if (out < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || unshare(CLONE_NEWNS) != 0) _exit(126);
      if (!config.empty() &&
          mount((root_ + config).c_str(), (root_ + "/etc/cairn/chunkserver.conf").c_str(), nullptr, MS_BIND, nullptr) != 0)
        _exit(126);
      if (chroot(root_.c_str()) != 0 || chdir("/") != 0) _exit(126);
      const std::string as_user = "exec setpriv --reuid=" + user + " --regid=" + user + " --init-groups --no-new-privs --pdeathsig KILL " + command;
      execl("/bin/sh", "sh", "-c", as_user.c_str(), nullptr);
      _exit(127);
    }
    ASSERT_GT(child, 0);
    units_[name] = child;
  }
  static void Stop(pid_t pid) {
    kill(pid, SIGTERM);
    (void)WaitUntil([pid] { return waitpid(pid, nullptr, WNOHANG) != 0; }, 20'000, 20);
    kill(pid, SIGKILL);
    (void)waitpid(pid, nullptr, 0);
  }
  void StopUnit(const std::string& name) {
    Stop(units_.at(name));
    units_.erase(name);
  }
  bool Healthy() const { return In("cairn status | grep -q '^Health: *healthy' && cairn status | grep -q '3 of 3 up'").exit_code == 0; }

  void InstallAndCheck() {
    Works("apt-get install -y -qq --no-install-recommends /debs/*.deb >/tmp/install.log 2>&1 || { tail -20 /tmp/install.log; exit 1; }", 600);
    CheckWhatIsThere();
    CheckPages();
    CheckCompletion();
    // From here on a network of its own: the default ports are free.
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    ASSERT_EQ(Shell("ip link set lo up").exit_code, 0);
    CheckCluster();
    CheckUpgrade();
    CheckRemoval();
  }

  void CheckWhatIsThere() {
    Works("id cairn; test \"$(getent passwd cairn | cut -d: -f6)\" = /var/lib/cairn");
    Works("for d in /var/lib/cairn /srv/cairn; do test \"$(stat -c '%U:%G %a' $d)\" = 'cairn:cairn 750'; done");
    Works("for f in /etc/cairn/master.conf /etc/cairn/chunkserver.conf; do test \"$(stat -c '%U %a' $f)\" = 'root 644'; done");
    Works(std::string("told=$(dpkg --verify ") + kPackages + "); test -z \"$told\" || { echo \"$told\"; exit 1; }; dpkg --audit");
    Works("test \"$(cairn --version)\" = \"cairn $(dpkg-query -W -f '${Version}' cairn-common)\"");
    Works("for p in cairn cairn-master cairn-chunkserver cairn-mount; do ! ldd /usr/bin/$p | grep 'not found'; done");
    Works("test -x /sbin/mount.fuse.cairn; test -s /usr/share/doc/cairn/operations.md; test -s /usr/share/doc/cairn-server/examples/alerts.yml");
    Works("for p in cairn-common cairn-server cairn-client; do test -s /usr/share/doc/$p/copyright; done");
    if (In("command -v systemd-analyze").exit_code == 0) {
      Works("told=$(systemd-analyze verify /lib/systemd/system/cairn-*.service 2>&1 | grep -i cairn || true); test -z \"$told\" || { echo \"$told\"; exit 1; }");
    }
  }

  void CheckPages() {
    Works(R"sh(
      for page in cairn.1 cairn-master.8 cairn-chunkserver.8 cairn-mount.8; do
        file=$(man -w "${page##*.}" "${page%.*}")
        told=$(man --warnings=w -E UTF-8 -l "$file" 2>&1 >/tmp/page)
        test -z "$told" || { echo "$page: $told"; exit 1; }
        test "$(wc -l < /tmp/page)" -gt 40
      done)sh");
    // Whatever the programs can do is in their pages.
    Works(R"sh(
      man cairn | col -b > /tmp/page
      cairn --help | sed -n '/^Subcommands:/,/^$/p' | awk '/^  [a-z]/ { print $1 }' > /tmp/commands
      test "$(wc -l < /tmp/commands)" -gt 20
      while read -r command; do grep -q "cairn $command" /tmp/page || { echo "cairn $command is not in the page"; exit 1; }; done < /tmp/commands)sh");
    Works(R"sh(
      for program in cairn-master cairn-chunkserver cairn-mount; do
        man $program | col -b > /tmp/page
        for flag in $($program --help | grep -o '^  [^ ]*--[a-z-]*' | grep -o -e '--[a-z-]*'); do
          grep -q -e "$flag" /tmp/page || { echo "$program: $flag is not in the page"; exit 1; }
        done
      done)sh");
  }

  void CheckCompletion() {
    const auto complete = [&](const std::string& line) {
      return Told(R"sh(
        set +u; source /usr/share/bash-completion/bash_completion; set -u
        line=')sh" + line + R"sh('
        program=${line%% *}
        source /usr/share/bash-completion/completions/$program
        COMP_LINE=$line; COMP_POINT=${#line}
        read -ra COMP_WORDS <<< "$line"; case "$line" in *' ') COMP_WORDS+=('');; esac
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
        function=$(complete -p $program | sed 's/.*-F \([^ ]*\).*/\1/')
        set +eu; $function $program "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s ' ${COMPREPLY[@]})sh");
    };
    EXPECT_EQ(complete("cairn reb"), "rebalance ");
    const std::string rebalance = complete("cairn rebalance ");
    for (const char* word : {"plan ", "apply ", "pause ", "cancel "}) EXPECT_NE(rebalance.find(word), std::string::npos) << rebalance;
    EXPECT_EQ(complete("cairn policy set --js"), "--json ");
    EXPECT_EQ(complete("cairn-master --dat"), "--data ");
    EXPECT_NE(complete("cairn-chunkserver --").find("--listen "), std::string::npos);
    EXPECT_NE(complete("cairn-mount --").find("--foreground "), std::string::npos);
  }

  void CheckCluster() {
    // One machine's disks and configuration each, as the comments of the configuration say.
    Works("install -d -o cairn -g cairn /srv/cairn/disk1 /srv/cairn2 /srv/cairn3; install -d -m 0700 -o cairn -g cairn /var/lib/cairn/master");
    for (const std::string n : {"2", "3"}) {
      Works("sed -e 's|/srv/cairn/disk1|/srv/cairn" + n + "|' -e 's|^#listen = .*|listen = \"127.0.0.1:942" + n +
            "\"|' /etc/cairn/chunkserver.conf > /etc/cairn/s" + n + ".conf; grep -q cairn" + n + " /etc/cairn/s" + n +
            ".conf; grep -q '^listen' /etc/cairn/s" + n + ".conf");
    }
    StartAll();
    // As the administrator, root on the master's machine: no flag, no address but the one in /etc/cairn.
    Works("echo 'master = 127.0.0.1:9400' > /etc/cairn/cairn.conf");
    ASSERT_TRUE(WaitUntil([&] { return Healthy(); }, 60'000, 200)) << In("cairn status").Both() << Shell("tail -n 5 " + directory_ + "/*.log").Both();
    Works("cairn mkdir /d && cairn cp /debs/*.deb cairn:/d && cairn cp -r cairn:/d /tmp/back && diff -r /debs /tmp/back && rm -r /tmp/back");
    Works("cairn server maintenance cs2 --for 1m && cairn server undrain cs2");
    Works("curl -sf http://127.0.0.1:9480/ | grep -qi '<title>.*cairn' || { command -v curl && exit 1; true; }");
    Works(R"sh(
      mkdir -p /mnt/cairn; mount -t fuse.cairn 127.0.0.1:9400 /mnt/cairn -o allow_other
      cp /bin/ls /mnt/cairn/ls; cmp /bin/ls /mnt/cairn/ls; diff -r /debs /mnt/cairn/d
      setpriv --reuid=65534 --regid=65534 --clear-groups cat /mnt/cairn/ls > /dev/null
      umount /mnt/cairn; ! mountpoint -q /mnt/cairn; cairn fsck)sh");
  }
  void StartAll() {
    StartUnit("master", "cairn-master.service");
    StartUnit("s1", "cairn-chunkserver.service");
    StartUnit("s2", "cairn-chunkserver.service", "/etc/cairn/s2.conf");
    StartUnit("s3", "cairn-chunkserver.service", "/etc/cairn/s3.conf");
  }

  // A newer package with another default configuration, while the daemons run.
  void CheckUpgrade() {
    const RunResult repacked = Shell("cd " + directory_ + R"sh(/debs
      for deb in cairn-*.deb; do
        dpkg-deb -R "$deb" ../new
        version=$(dpkg-deb -f "$deb" Version)
        sed -i "s/$version/$version+1/g" ../new/DEBIAN/control
        test ! -d ../new/etc/cairn || echo '# of the newer package' | tee -a ../new/etc/cairn/master.conf >> ../new/etc/cairn/chunkserver.conf
        mkdir -p ../newer; dpkg-deb -Znone -b ../new ../newer/"${deb%.deb}-newer.deb" >/dev/null; rm -r ../new
      done
      rm *.deb; mv ../newer/*.deb .)sh");
    ASSERT_EQ(repacked.exit_code, 0) << repacked.Both();
    Works("sed -i 's/^#listen = .*/listen = \"127.0.0.1:9400\"/' /etc/cairn/master.conf");
    const pid_t master = units_.at("master");
    Works("apt-get install -y -qq -o Dpkg::Options::=--force-confold /debs/*-newer.deb >/tmp/upgrade.log 2>&1 || { tail -20 /tmp/upgrade.log; exit 1; }");
    Works("dpkg-query -W -f '${Version}\\n' cairn-server | grep -q +1");
    Works("grep -q '^listen = \"127.0.0.1:9400\"' /etc/cairn/master.conf; ! grep -q 'newer package' /etc/cairn/master.conf");
    Works("grep -q 'newer package' /etc/cairn/chunkserver.conf");
    EXPECT_EQ(kill(master, 0), 0);
    EXPECT_TRUE(Healthy()) << "an upgrade leaves the daemons running";
    for (const std::string name : {"s1", "s2", "s3", "master"}) {  // one at a time, as docs/operations.md says
      StopUnit(name);
      StartUnit(name, name == "master" ? "cairn-master.service" : "cairn-chunkserver.service",
                name == "s2" || name == "s3" ? "/etc/cairn/" + name + ".conf" : "");
      ASSERT_TRUE(WaitUntil([&] { return Healthy(); }, 60'000, 200)) << name << In("cairn status").Both();
    }
    Works("cairn cp cairn:/ls /tmp/ls && cmp /tmp/ls /bin/ls");
  }

  void CheckRemoval() {
    while (!units_.empty()) StopUnit(units_.begin()->first);
    Works(std::string("apt-get remove -y -qq ") + kPackages + " >/dev/null 2>&1; ! command -v cairn; ! command -v cairn-master");
    Works("test -s /etc/cairn/master.conf; test -d /var/lib/cairn/master; test -n \"$(ls /srv/cairn/disk1)\"");
    Works("apt-get install -y -qq --no-install-recommends /debs/*.deb >/dev/null 2>&1; grep -q '^listen' /etc/cairn/master.conf");
    StartAll();
    EXPECT_TRUE(WaitUntil([&] { return In("cairn cp cairn:/ls /tmp/ls2 && cmp /tmp/ls2 /bin/ls").exit_code == 0; }, 60'000, 500))
        << "what was stored is there again";
    while (!units_.empty()) StopUnit(units_.begin()->first);
    Works(std::string("apt-get purge -y -qq ") + kPackages + " >/dev/null 2>&1; test ! -e /etc/cairn/master.conf; test ! -e /etc/cairn/chunkserver.conf");
    Works("test -d /var/lib/cairn/master; test -n \"$(ls /srv/cairn/disk1)\"");  // data is never removed with a package
    Works("test -z \"$(find /usr /sbin /lib -xdev \\( -name 'cairn*' -o -name '*fuse.cairn' \\) 2>/dev/null | head -1)\"");
  }

  std::string directory_, root_;
  int network_ = -1;
  std::map<std::string, pid_t> units_;
};

TEST_F(PackagesTest, AreInstalledUsedUpgradedAndRemovedOverThisSystem) {
  if (Shell("grep -q overlay /proc/filesystems || modprobe overlay").exit_code != 0) GTEST_SKIP() << "no overlay file systems here";
  const std::string options = "lowerdir=/,upperdir=" + directory_ + "/upper,workdir=" + directory_ + "/work";
  if (mount("overlay", root_.c_str(), "overlay", 0, options.c_str()) != 0) GTEST_SKIP() << "no overlay of / is possible here";
  BuildPackages();
  EnterRoot();
  ASSERT_FALSE(HasFatalFailure());
  InstallAndCheck();
}

TEST_F(PackagesTest, AreInstalledUsedUpgradedAndRemovedInACleanDebian) {
  if (!cluster_test::LongTests()) GTEST_SKIP() << "takes minutes: set CAIRN_LONG_TESTS";
  const RunResult mirror = Shell("apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' | grep -v security | grep -m1 /debian");
  if (mirror.exit_code != 0) GTEST_SKIP() << "apt knows no mirror of Debian: " << mirror.Both();
  const int64_t start = NowMillis();
  const RunResult made = Shell("read -r url suite <<< '" + mirror.out.substr(0, mirror.out.find('\n')) + "'; debootstrap --variant=minbase \"$suite\" " +
                                   root_ + " \"$url\" > " + directory_ + "/debootstrap.log 2>&1 || { tail -20 " + directory_ +
                                   "/debootstrap.log; exit 1; }; cp /etc/resolv.conf " + root_ + "/etc/",
                               1800);
  ASSERT_EQ(made.exit_code, 0) << made.Both();
  const int64_t root_made = NowMillis();
  BuildPackages();
  EnterRoot();
  ASSERT_FALSE(HasFatalFailure());
  Works("apt-get update -qq; apt-get install -y -qq --no-install-recommends man-db bsdextrautils bash-completion >/tmp/tools.log 2>&1", 600);
  InstallAndCheck();
  Figure("packages in a clean Debian: root made in " + std::to_string((root_made - start) / 1000) + " s, installed and checked in " +
         std::to_string((NowMillis() - root_made) / 1000) + " s");
}

}  // namespace
}  // namespace cairn::packages_test
