// git, rsync, tar, a compiler, fio, dbench, a file system in an image.
#include "tests/programs/program_test.h"

namespace cairn::programs_test {
namespace {

TEST_F(ProgramTest, GitClonesCollectsAndFindsNothingChanged) {
  NEEDS("git");
  Succeeds(R"sh(
    git config --global user.email test@example; git config --global user.name test; git config --global gc.auto 0
    git init -q "$L/origin"; cd "$L/origin"
    for i in $(seq 150); do mkdir -p d$((i % 10)); seq $i $((i + 200)) > d$((i % 10))/f$i; done
    ln -s d1/f1 link; printf '#!/bin/sh\n' > run; chmod +x run
    git add -A; git commit -qm one
    for round in 1 2 3; do for i in $(seq 20); do echo $round >> d$((i % 10))/f$i; done; git commit -qam "round $round"; done
    cd "$M"; git clone -q "$L/origin" clone; cd clone
    test -z "$(git status --porcelain)"
    git gc -q --aggressive --prune=now; git fsck --strict --no-progress
    test -z "$(git status --porcelain)"
    git checkout -qb other HEAD~2; echo more > new; git add new; git commit -qm new; git checkout -q -
    git merge -q -m merged other; git stash list; test -z "$(git status --porcelain)"
    diff -r "$L/origin/d1" d1
    git clone -q . "$M/second"; cd "$M/second"; git fsck --no-progress; test "$(git log --oneline | wc -l)" -eq 6)sh");
}

TEST_F(ProgramTest, RsyncFindsNothingToDoTheSecondTime) {
  NEEDS("rsync");
  Succeeds(R"sh(
    mkdir -p "$L/s/dir/deep"; cd "$L/s"
    seq 10000 > a; ln a hard; ln -s a soft; head -c 300000 /dev/urandom > dir/random; mkfifo fifo; touch -d 1969-07-20T20:17:40.5 old
    touch -d 2099-01-01T00:00:00.123456789 future; chmod 4711 a; chown 1234:5678 dir/random; truncate -s 5M sparse
    setfacl -m u:4321:rwx,g:8765:r dir; setfacl -d -m u:4321:rx dir; setfacl -m u:99:r a; setfattr -n user.note -v hello a
    setfattr -n trusted.secret -v t dir/deep
    rsync -aAXHS "$L/s/" "$M/t/"
    out=$(rsync -aAXHSi --delete "$L/s/" "$M/t/"); test -z "$out" || { echo "second run: $out"; exit 1; }
    out=$(rsync -aAXHSi --checksum "$M/t/" "$L/s/"); test -z "$out" || { echo "back: $out"; exit 1; })sh");
}

TEST_F(ProgramTest, TarKeepsAclsAttributesAndHoles) {
  NEEDS("tar");
  NEEDS("setfacl");
  Succeeds(R"sh(
    mkdir -p t/dir; cd t
    seq 20000 > a; ln a hard; ln -s a soft; chmod 2750 dir; chown 1234:5678 a
    setfacl -m u:4321:rw,g:8765:r a; setfacl -d -m u:4321:rwx,m::rx dir; setfattr -n user.note -v hello a; setfattr -n trusted.x -v y dir
    truncate -s 100M sparse; printf data | dd of=sparse bs=1 seek=50000000 conv=notrunc status=none
    test "$(du -k sparse | cut -f1)" -lt 1000
    touch -d 1950-01-01T00:00:00.25 dir
    cd ..; tar --acls --xattrs --xattrs-include='*' --sparse -cf "$L/t.tar" t
    test "$(stat -c %s "$L/t.tar")" -lt 2000000
    mkdir x; tar --acls --xattrs --xattrs-include='*' -xpf "$L/t.tar" -C x
    diff -r t x/t
    diff <(cd t; find . ! -type l | sort | getfacl -n -) <(cd x/t; find . ! -type l | sort | getfacl -n -)
    diff <(cd t; find . ! -type l | sort | xargs getfattr -dm-) <(cd x/t; find . ! -type l | sort | xargs getfattr -dm-)
    diff <(cd t; find . -printf '%P %m %U:%G %n %T@ %l\n' | sort) <(cd x/t; find . -printf '%P %m %U:%G %n %T@ %l\n' | sort)
    test "$(du -k x/t/sparse | cut -f1)" -lt 1000
    cp -a --sparse=always t y; diff -r t y; cp --reflink=never -a t z; diff -r t z
    test "$(du -k z/sparse | cut -f1)" -lt 1000)sh");
}

TEST_F(ProgramTest, DuAgreesOnAllMounts) {
  const std::string second = cluster_->AddMount() + "/m";
  Succeeds(R"sh(
    head -c 3000000 /dev/urandom > full; truncate -s 1G hole; printf x | dd of=hole bs=1 seek=900000000 conv=notrunc status=none
    head -c 1000 /dev/urandom > small; sync
    for f in full hole small; do
      a=$(stat -c '%b %s' "$M/$f"); b=$(stat -c '%b %s' ')sh" +
           second +
           R"sh('/$f); test "$a" = "$b" || { echo "$f: $a and $b"; exit 1; }
    done
    test $(( $(stat -c %b full) * 512 )) -ge 3000000; test $(( $(stat -c %b full) * 512 )) -lt 3100000
    test $(stat -c %b hole) -le 16; test $(stat -c %b small) -eq 8)sh");
}

TEST_F(ProgramTest, ACxxProjectBuilds) {
  NEEDS("cmake");
  Succeeds(R"sh(
    mkdir p; cd p
    printf 'cmake_minimum_required(VERSION 3.16)\nproject(p CXX)\nadd_library(l STATIC a.cc b.cc c.cc)\nadd_executable(m m.cc)\ntarget_link_libraries(m l)\n' > CMakeLists.txt
    for f in a b c; do printf '#include <string>\nstd::string %s() { return "%s"; }\n' $f $f > $f.cc; done
    printf '#include <iostream>\n#include <string>\nstd::string a(); std::string b(); std::string c();\nint main() { std::cout << a() + b() + c() << std::endl; }\n' > m.cc
    CCACHE_DISABLE=1 cmake -G Ninja -S . -B build -DCMAKE_BUILD_TYPE=Debug >/dev/null; CCACHE_DISABLE=1 cmake --build build -j2 >/dev/null
    test "$(build/m)" = abc
    again=$(cmake --build build -j2); case "$again" in *Building*) echo "built again: $again"; exit 1;; esac
    touch b.cc; again=$(cmake --build build -j2); case "$again" in *b.cc*) ;; *) echo "not built: $again"; exit 1;; esac)sh",
           300);
}

TEST_F(ProgramTest, FioVerifiesWhatItWrote) {
  NEEDS("fio");
  Succeeds(R"sh(
    mkdir f
    fio --directory=f --name=v --rw=randwrite --bs=512-64k --size=6m --numjobs=3 --verify=crc32c --verify_fatal=1 --do_verify=1 \
      --fsync=64 --fallocate=none --group_reporting --output-format=terse >/dev/null
    fio --directory=f --name=m --rw=randrw --bs=4k --size=4m --numjobs=2 --ioengine=mmap --verify=crc32c --verify_fatal=1 \
      --group_reporting --output-format=terse >/dev/null)sh",
           300);
}

TEST_F(ProgramTest, DbenchRuns) {
  NEEDS("dbench");
  const std::string seconds = LongTestsWanted() ? "60" : "3";
  const RunResult result = Script("mkdir b; dbench -D b -t " + seconds + " 2", 180);
  ASSERT_EQ(result.exit_code, 0) << result.Both();
  const size_t line = result.out.rfind("Throughput");
  ASSERT_NE(line, std::string::npos) << result.out;
  Figure("dbench: " + result.out.substr(line, result.out.find('\n', line) - line));
}

// Each stressor checks what it does itself (--verify); a failure is its exit code.
TEST_F(ProgramTest, StressNgFindsNothingWrong) {
  NEEDS("stress-ng");
  std::vector<std::string> sets = {"--rename 1 --xattr 1 --flock 1 --seek 1"};
  std::string seconds = "2";
  if (LongTestsWanted()) {
    seconds = "20";
    sets.insert(
        sets.end(),
        {"--link 1 --dentry 1 --symlink 1",
         "--access 1 --acl 1 --chdir 1 --chmod 1 --chown 1 --fstat 1 --utime 1 --touch 1",
         "--copy-file 1 --dirdeep 1 --dirmany 1 --fallocate 1 --filename 1 --fpunch 1 --punch 1",
         "--hdd 1 --io 1 --locka 1 --lockf 1 --lockofd 1 --mknod 1 --open 1 --sync-file 1 --unlink 1"});
  }
  for (const std::string& set : sets) {
    const RunResult result = Script(
        "mkdir -p s; stress-ng --temp-path s " + set + " --verify --timeout " + seconds + " 2>&1", 180);
    EXPECT_EQ(result.exit_code, 0) << set << ": " << result.Both().substr(0, 4000);
    Figure("stress-ng, verified: " + set);
  }
}

// A package manager's way with files: unpack beside, fsync, link the old one away, rename.
TEST_F(ProgramTest, DpkgInstallsUpgradesAndRemoves) {
  NEEDS("dpkg-deb");
  Succeeds(R"sh(
    for v in 1 2; do
      d="$L/p$v"; mkdir -p "$d/DEBIAN" "$d/etc" "$d/usr/share/cairn-test/many"
      printf 'Package: cairn-test\nVersion: %s\nArchitecture: all\nMaintainer: nobody <n@example>\nDescription: test\n' $v > "$d/DEBIAN/control"
      echo /etc/cairn-test.conf > "$d/DEBIAN/conffiles"; echo setting > "$d/etc/cairn-test.conf"
      for i in $(seq 200); do echo "version $v file $i" > "$d/usr/share/cairn-test/many/f$i"; done
      ln -s many/f1 "$d/usr/share/cairn-test/link"; chmod -R g-s "$d"
      dpkg-deb --root-owner-group -b "$d" "$L/p$v.deb" >/dev/null
    done
    mkdir -p root/var/lib/dpkg/updates root/var/lib/dpkg/info; touch root/var/lib/dpkg/status
    dpkg --root="$M/root" --force-not-root -i "$L/p1.deb" >/dev/null; test "$(cat root/usr/share/cairn-test/many/f200)" = "version 1 file 200"
    echo changed >> root/etc/cairn-test.conf
    dpkg --root="$M/root" -i "$L/p2.deb" >/dev/null; test "$(cat root/usr/share/cairn-test/link)" = "version 2 file 1"
    test "$(tail -1 root/etc/cairn-test.conf)" = changed
    dpkg --root="$M/root" --verify cairn-test | grep -v conf && exit 1
    dpkg --root="$M/root" -r cairn-test >/dev/null; test ! -e root/usr/share/cairn-test; test -e root/etc/cairn-test.conf
    dpkg --root="$M/root" -P cairn-test >/dev/null; test ! -e root/etc/cairn-test.conf)sh");
}

TEST_F(ProgramTest, AnExt4ImageOnTheMountStaysConsistent) {
  NEEDS("mkfs.ext4");
  if (Script("truncate -s 1M probe; d=$(losetup -f --show probe); losetup -d $d").exit_code != 0)
    GTEST_SKIP() << "no loop devices here";
  Succeeds(R"sh(
    truncate -s 48M image; mkfs.ext4 -q image
    d=$(losetup -f --show image); mkdir "$L/i"
    trap 'umount "$L/i" 2>/dev/null || true; losetup -d $d 2>/dev/null || true' EXIT
    mount $d "$L/i"
    for i in $(seq 100); do head -c $((i * 997)) /dev/urandom > "$L/i/f$i"; done
    (cd "$L/i"; sha256sum f*) > "$L/sums"; rm "$L/i/f50"; sync; umount "$L/i"; losetup -d $d
    e2fsck -fn image >/dev/null
    d=$(losetup -f --show image); mount $d "$L/i"
    (cd "$L/i"; grep -v ' f50$' "$L/sums" | sha256sum -c --quiet)
    umount "$L/i"; losetup -d $d
    test "$(du -k image | cut -f1)" -lt 40000)sh",
           300);
}

}  // namespace
}  // namespace cairn::programs_test
