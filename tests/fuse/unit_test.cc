// The parts of the mount that need no kernel.
#include <gtest/gtest.h>

#include "common/log.h"
#include "fuse/error_log.h"
#include "fuse/interruption.h"
#include "fuse/lookup_counts.h"
#include "fuse/mountpoint.h"
#include "fuse/options.h"

namespace cairn::fuse {
namespace {

TEST(MountOptionsTest, SourcesNameMastersAndADirectory) {
  MountOptions options;
  ASSERT_TRUE(ParseSource("cairn://host:9500,other,[::1]:9401,fe80::1/home/me", options).ok());
  EXPECT_EQ(options.masters,
            (std::vector<std::string>{"host:9500", "other:9400", "[::1]:9401", "[fe80::1]:9400"}));
  EXPECT_EQ(options.subdirectory, "/home/me");
  ASSERT_TRUE(ParseSource("host", options).ok());
  for (const char* bad : {"", "cairn://", ":9400", "host:", "host:0", "host:70000", "host:port", "/path"}) {
    EXPECT_FALSE(ParseSource(bad, options).ok()) << bad;
  }
}

TEST(MountOptionsTest, OptionsOfFstabAreUnderstood) {
  MountOptions options;
  ASSERT_TRUE(ParseSource("h", options).ok());
  ASSERT_TRUE(
      ParseOptionList("rw,_netdev,nofail,allow_other,x-systemd.requires=a,comment=b,noatime,subdir=/a\\b,"
                      "threads=8,dirty_limit=64M,names=uncached",
                      options)
          .ok());
  EXPECT_EQ(options.threads, 8U);
  EXPECT_EQ(options.dirty_limit_bytes, 64ull << 20);
  EXPECT_FALSE(options.cache_names);
  EXPECT_EQ(LibraryOptions(options),
            "default_permissions,subtype=cairn,fsname=cairn://h:9400/a\\\\b,rw,allow_other,noatime");
  options.privileged = true;
  EXPECT_NE(LibraryOptions(options).find(",suid,dev,rw,"), std::string::npos) << "what was asked for comes last";
}

TEST(MountOptionsTest, TheLastRuleForTimesOfAccessCounts) {
  using client::AccessTimes;
  const auto rule = [](const char* list) {
    MountOptions options;
    EXPECT_TRUE(ParseOptionList(list, options).ok()) << list;
    return options;
  };
  EXPECT_EQ(rule("").access_times, AccessTimes::kRelative);
  EXPECT_EQ(rule("noatime,strictatime").access_times, AccessTimes::kAlways);
  EXPECT_EQ(rule("strictatime,noatime").access_times, AccessTimes::kNever);
  EXPECT_EQ(rule("noatime,relatime").access_times, AccessTimes::kRelative);
  EXPECT_TRUE(rule("noatime").directory_access_times);
  EXPECT_FALSE(rule("nodiratime").directory_access_times);
  EXPECT_EQ(rule("nodiratime,strictatime").kernel_options, std::vector<std::string>()) << "libfuse does not know them";
  EXPECT_FALSE(ReadOnly(rule("ro,rw")));
  EXPECT_TRUE(ReadOnly(rule("rw,ro,noatime")));
}

TEST(MountOptionsTest, UnknownAndMalformedOptionsAreErrors) {
  for (const char* bad : {"alow_other", "subdir=relative", "threads=", "threads=2", "threads=x",
                          "dirty_limit=1", "dirty_limit=99999999999999999999", "names=maybe", "foo=bar",
                          "uid=", "uid=4294967295", "gid=x", "uidmap=", "uidmap=1", "gidmap=/absent/file", "atime_delay_ms=0"}) {
    MountOptions options;
    EXPECT_EQ(ParseOptionList(bad, options).code(), StatusCode::kInvalidArgument) << bad;
  }
}

TEST(MountTableTest, TheTopmostMountAtAPathIsFound) {
  const std::string table =
      "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
      "30 21 0:50 / /mnt/a\\040b rw,nosuid shared:7 - fuse.cairn cairn://h:1 rw,user_id=0\n"
      "31 30 0:51 / /mnt/a\\040b rw - fuse.cairn cairn://h:2 rw\n"
      "32 21 0:52 / /mnt/abc rw - tmpfs tmpfs rw\n";
  const auto found = FindMountIn(table, "/mnt/a b", false);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->source, "cairn://h:2");
  EXPECT_EQ(found->device, "0:51");
  EXPECT_EQ(found->type, "fuse.cairn");
  EXPECT_FALSE(FindMountIn(table, "/mnt", false).has_value());
  EXPECT_EQ(FindMountIn(table, "/mnt/a b/c/d", true)->source, "cairn://h:2");
  EXPECT_EQ(FindMountIn(table, "/mnt/abcd", true)->mountpoint, "/");
}

std::string ProcessStatus(const char* pending, const char* shared, const char* blocked, const char* ignored,
                          const char* caught) {
  return std::string("Name:\tx\nSigQ:\t0/1\nSigPnd:\t") + pending + "\nShdPnd:\t" + shared + "\nSigBlk:\t" +
         blocked + "\nSigIgn:\t" + ignored + "\nSigCgt:\t" + caught + "\n";
}

TEST(InterruptionTest, OnlyFatalSignalsCount) {
  const char* const none = "0000000000000000";
  const char* const kill = "0000000000000100";
  const char* const interrupt = "0000000000000002";
  const char* const child = "0000000000010000";
  EXPECT_FALSE(FatalSignalIn(ProcessStatus(none, none, none, none, none)));
  EXPECT_TRUE(FatalSignalIn(ProcessStatus(kill, none, none, none, none)));
  EXPECT_TRUE(FatalSignalIn(ProcessStatus(none, kill, none, none, kill)));
  EXPECT_TRUE(FatalSignalIn(ProcessStatus(none, interrupt, none, none, none)));
  EXPECT_FALSE(FatalSignalIn(ProcessStatus(none, interrupt, none, none, interrupt)));
  EXPECT_FALSE(FatalSignalIn(ProcessStatus(interrupt, none, interrupt, none, none)));
  EXPECT_FALSE(FatalSignalIn(ProcessStatus(interrupt, none, none, interrupt, none)));
  EXPECT_FALSE(FatalSignalIn(ProcessStatus(child, child, none, none, none)));
}

TEST(LookupCountsTest, AnInodeIsForgottenWhenAllItsLookupsAre) {
  LookupCounts counts;
  counts.Add(InodeId{5});
  counts.Add(InodeId{5}, 2);
  EXPECT_FALSE(counts.Remove(InodeId{5}, 2));
  EXPECT_EQ(counts.size(), 1U);
  EXPECT_TRUE(counts.Remove(InodeId{5}, 1));
  EXPECT_FALSE(counts.Remove(InodeId{5}, 1)) << "forgotten twice";
  EXPECT_EQ(counts.size(), 0U);
}

TEST(ErrorLogTest, TheNewestReasonOfAnInodeIsKeptUntilCleared) {
  ASSERT_TRUE(SetUpLogging({.program = "test", .file = "/dev/null"}).ok());
  ManualClock clock;
  ErrorLog errors(&clock);
  EXPECT_FALSE(errors.LastError(InodeId{1}).has_value());
  errors.Report("write", InodeId{1}, {StatusCode::kNoQuorum, "first"});
  errors.Report("fsync", InodeId{1}, {StatusCode::kNoQuorum, "second"});
  EXPECT_EQ(errors.LastError(InodeId{1}), "fsync: no_quorum: second");
  errors.Clear(InodeId{1});
  EXPECT_FALSE(errors.LastError(InodeId{1}).has_value());
  for (uint64_t i = 1; i <= 2000; ++i) errors.Report("read", InodeId{i}, {StatusCode::kCorrupt, "x"});
  EXPECT_FALSE(errors.LastError(InodeId{1}).has_value()) << "memory must be bounded";
  EXPECT_TRUE(errors.LastError(InodeId{2000}).has_value());
}

}  // namespace
}  // namespace cairn::fuse
