#include "master/cluster/disk_roster.h"

#include <gtest/gtest.h>

#include "master/cluster/server_registry.h"

namespace cairn::master {
namespace {

struct Given {
  std::string uuid, path;
  bool amnesic = false;
};

DiskInfos Registered(const std::vector<Given>& disks) {
  DiskInfos out;
  for (const Given& disk : disks) {
    proto::DiskInfo* info = out.Add();
    info->set_disk_uuid(disk.uuid);
    info->set_path(disk.path);
    info->set_failed(disk.uuid.empty());
    info->set_amnesic(disk.amnesic);
  }
  return out;
}

RosterChange Change(const DiskRecords& recorded, const std::vector<Given>& disks) {
  proto::Time now;
  now.set_seconds(100);
  return ReconcileDisks(recorded, Registered(disks), now);
}

std::string Kinds(const RosterChange& change) {
  std::string kinds;
  for (const auto& [kind, text] : change.events) kinds += kind + " ";
  return kinds;
}

TEST(DiskRosterTest, NewDisksAreTakenWithoutAWord) {
  const RosterChange first = Change({}, {{"a", "/1"}, {"b", "/2"}, {"a", "/1"}});
  EXPECT_TRUE(first.changed);
  EXPECT_EQ(first.disks.size(), 2);
  EXPECT_EQ(Kinds(first), "");
  EXPECT_FALSE(Change(first.disks, {{"b", "/2"}, {"a", "/1"}}).changed);
  EXPECT_TRUE(Change(first.disks, {{"b", "/2"}, {"a", "/moved"}}).changed);
}

TEST(DiskRosterTest, ADiskThatIsLeftOutIsMissingUntilItComesBack) {
  const DiskRecords both = Change({}, {{"a", "/1"}, {"b", "/2"}}).disks;
  RosterChange gone = Change(both, {{"a", "/1"}});
  EXPECT_EQ(Kinds(gone), "disk.missing ");
  EXPECT_EQ(gone.missing, std::vector<std::string>{"b"});
  ASSERT_EQ(gone.disks.size(), 2);
  EXPECT_TRUE(gone.disks[1].missing());
  EXPECT_EQ(gone.disks[1].since().seconds(), 100);
  // A restart before the server had the epoch floor: it gets one again, without another event.
  const RosterChange again = Change(gone.disks, {{"a", "/1"}});
  EXPECT_EQ(Kinds(again), "");
  EXPECT_EQ(again.missing, std::vector<std::string>{"b"});
  gone.disks.Mutable(1)->set_absence_settled(true);
  EXPECT_TRUE(Change(gone.disks, {{"a", "/1"}}).missing.empty());
  const RosterChange back = Change(gone.disks, {{"a", "/1"}, {"b", "/elsewhere"}});
  EXPECT_EQ(Kinds(back), "disk.back ");
  EXPECT_FALSE(back.disks[1].missing());
  EXPECT_FALSE(back.disks[1].absence_settled()) << "the next absence is another one";
  EXPECT_EQ(back.disks[1].path(), "/elsewhere");
}

TEST(DiskRosterTest, AnEmptyDiskInItsPlaceReplacesIt) {
  const DiskRecords both = Change({}, {{"a", "/1"}, {"b", "/2"}}).disks;
  const RosterChange replaced = Change(both, {{"a", "/1", true}, {"c", "/2", true}});
  EXPECT_EQ(Kinds(replaced), "disk.replaced ");
  EXPECT_TRUE(replaced.missing.empty()) << "the server itself knows that a new disk stands there";
  ASSERT_EQ(replaced.disks.size(), 2);
  EXPECT_EQ(replaced.disks[1].disk_uuid(), "c");
}

TEST(DiskRosterTest, ADiskInItsPlaceThatTheServerTrustsDoesNotHideTheLoss) {
  // It carries an identity of this server, so the server has no reason to doubt anything: a forgotten disk that came back, for example.
  const DiskRecords both = Change({}, {{"a", "/1"}, {"b", "/2"}}).disks;
  const RosterChange other = Change(both, {{"a", "/1"}, {"c", "/2"}});
  EXPECT_EQ(Kinds(other), "disk.missing ");
  EXPECT_EQ(other.missing, std::vector<std::string>{"b"});
  EXPECT_EQ(other.disks.size(), 3);
}

TEST(DiskRosterTest, ADiskThatCannotBeReadIsNotMissing) {
  const DiskRecords both = Change({}, {{"a", "/1"}, {"b", "/2"}}).disks;
  const RosterChange broken = Change(both, {{"a", "/1"}, {"", "/2"}});
  EXPECT_EQ(Kinds(broken), "");
  EXPECT_FALSE(broken.changed);
}

TEST(DiskRosterTest, ADrainStaysAcrossRestartsButNotWithoutTheDisk) {
  DiskRecords both = Change({}, {{"a", "/1"}, {"b", "/2"}}).disks;
  both.Mutable(1)->set_draining(true);
  EXPECT_TRUE(Change(both, {{"a", "/1"}, {"b", "/2"}}).disks[1].draining());
  EXPECT_FALSE(Change(both, {{"a", "/1"}}).disks[1].draining());
}

TEST(DiskTagsTest, AListOfTagsIsSearchedByWholeTags) {
  EXPECT_TRUE(HasTag("", ""));
  EXPECT_TRUE(HasTag("ssd", ""));
  EXPECT_TRUE(HasTag("ssd", "ssd"));
  EXPECT_TRUE(HasTag("fast,ssd", "ssd"));
  EXPECT_TRUE(HasTag("ssd,fast", "ssd"));
  EXPECT_FALSE(HasTag("ssd2,fast", "ssd"));
  EXPECT_FALSE(HasTag("", "ssd"));
}

}  // namespace
}  // namespace cairn::master
