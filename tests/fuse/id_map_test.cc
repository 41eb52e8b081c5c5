// Users and groups that are others in the cluster: the translation itself.
#include "fuse/id_map.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace cairn::fuse {
namespace {

IdMap Map(const std::vector<std::string>& ranges) {
  IdMap map;
  for (const std::string& range : ranges) EXPECT_TRUE(map.Add("uidmap", range).ok()) << range;
  return map;
}

TEST(IdMapTest, WithoutARangeEveryIdIsItself) {
  const IdMap map;
  for (const uint32_t id : {0U, 1U, 1000U, kNoId - 1}) {
    EXPECT_EQ(map.ToCluster(id), id);
    EXPECT_EQ(map.ToLocal(id), id);
  }
}

TEST(IdMapTest, RangesMapBothWaysAndNothingElse) {
  const IdMap map = Map({"1000:5000:10", "0:70", "4294967294:9"});
  EXPECT_EQ(map.ToCluster(1000), 5000U);
  EXPECT_EQ(map.ToCluster(1009), 5009U);
  EXPECT_EQ(map.ToLocal(5009), 1009U);
  EXPECT_EQ(map.ToCluster(0), 70U);
  EXPECT_EQ(map.ToLocal(70), 0U);
  EXPECT_EQ(map.ToCluster(kNoId - 1), 9U);
  for (const uint32_t id : {1U, 999U, 1010U, 5000U, kNoId}) EXPECT_FALSE(map.ToCluster(id)) << id;
  for (const uint32_t id : {0U, 1000U, 4999U, 5010U, kNoId}) EXPECT_FALSE(map.ToLocal(id)) << id;
}

TEST(IdMapTest, WhatCannotBeMeantIsRefused) {
  for (const char* bad : {"", "1", "1:", ":1", "1:2:0", "1:2:3:4", "a:1", "-1:1", "1.5:1", "4294967295:1",
                          "1:4294967295", "4294967294:1:2", "99999999999:1", "0:0:4294967296"}) {
    IdMap map;
    const Status status = map.Add("uidmap", bad);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << bad;
    EXPECT_NE(status.message().find("uidmap"), std::string::npos)
        << "says which option: " << status.message();
  }
  IdMap map = Map({"10:100:10"});
  EXPECT_FALSE(map.Add("uidmap", "19:500").ok()) << "an id here would be two in the cluster";
  EXPECT_FALSE(map.Add("uidmap", "500:109").ok()) << "an id of the cluster would be two here";
  EXPECT_FALSE(map.Add("uidmap", "5:500:6").ok());
  EXPECT_TRUE(map.Add("uidmap", "20:110").ok());
}

TEST(IdMapTest, AFileHasOneRangeInEachLine) {
  char name[] = "/tmp/cairn-ids-XXXXXX";
  close(mkstemp(name));
  std::ofstream(name) << "# local cluster count\n1000 5000 10\n\n  0:70   # root\n";
  IdMap map;
  ASSERT_TRUE(map.Add("gidmap", name).ok());
  EXPECT_EQ(map.ToCluster(1003), 5003U);
  EXPECT_EQ(map.ToLocal(70), 0U);
  std::ofstream(name) << "1 2\nnobody 5\n";
  IdMap bad;
  const Status status = bad.Add("gidmap", name);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find(std::string(name) + ":2"), std::string::npos) << status.message();
  std::ofstream(name) << "# nothing\n";
  EXPECT_EQ(IdMap().Add("gidmap", name).code(), StatusCode::kInvalidArgument);
  unlink(name);
  EXPECT_EQ(IdMap().Add("gidmap", name).code(), StatusCode::kInvalidArgument) << "it is gone";
}

TEST(IdsTest, CallersWithoutACounterpartAreNobodyAndMakeNothing) {
  const Ids ids({.users = Map({"1000:5000"}), .groups = Map({"1000:6000", "27:2700"})});
  const client::Caller known = ids.ToCluster(client::Caller{.uid = 1000, .gid = 1000});
  EXPECT_EQ(known.uid, 5000U);
  EXPECT_EQ(known.gid, 6000U);
  EXPECT_EQ(known.group_map->GroupToCluster(27), 2700U);
  EXPECT_EQ(known.group_map->GroupToCluster(28), kNoId);
  EXPECT_TRUE(ids.MayCreate({.uid = 1000, .gid = 1000}).ok());
  const client::Caller unknown = ids.ToCluster(client::Caller{.uid = 0, .gid = 0});
  EXPECT_EQ(unknown.uid, kNoId) << "root here is not root there";
  EXPECT_EQ(unknown.gid, kNoId);
  EXPECT_EQ(ids.MayCreate({.uid = 0, .gid = 1000}).code(), StatusCode::kOverflow);
  EXPECT_EQ(ids.MayCreate({.uid = 1000, .gid = 0}).code(), StatusCode::kOverflow);
}

TEST(IdsTest, OwnersAreShownAndSetThroughTheMap) {
  const Ids ids({.users = Map({"1000:5000"}), .groups = Map({"1000:6000"})});
  client::Attributes attr;
  attr.uid = 5000;
  attr.gid = 7;
  EXPECT_EQ(ids.ToLocal(attr).uid, 1000U);
  EXPECT_EQ(ids.ToLocal(attr).gid, kOverflowId);
  client::SetAttributes change;
  change.uid = 1000;
  ASSERT_TRUE(ids.ToCluster(&change).ok());
  EXPECT_EQ(change.uid, 5000U);
  EXPECT_FALSE(change.gid);
  change.gid = 0;
  change.uid.reset();
  EXPECT_EQ(ids.ToCluster(&change).code(), StatusCode::kInvalidArgument);
}

TEST(IdsTest, WhatIsShownForAllCannotBeGivenAway) {
  const Ids ids({.users = {}, .groups = {}, .show_uid = 33, .show_gid = {}});
  client::Attributes attr;
  attr.uid = 5000;
  attr.gid = 7;
  EXPECT_EQ(ids.ToLocal(attr).uid, 33U);
  EXPECT_EQ(ids.ToLocal(attr).gid, 7U);
  EXPECT_EQ(ids.ToCluster(client::Caller{.uid = 1000}).uid, 1000U) << "who asks is who asks";
  client::SetAttributes change;
  change.uid = 33;
  change.gid = 8;
  ASSERT_TRUE(ids.ToCluster(&change).ok());
  EXPECT_FALSE(change.uid) << "as it is shown: nothing to do";
  EXPECT_EQ(change.gid, 8U);
  change.uid = 34;
  EXPECT_EQ(ids.ToCluster(&change).code(), StatusCode::kNotPermitted);
}

// "u::rw-,u:ID:rwx,g::r--,g:ID:r-x,m::rwx,o::---" as Linux stores it.
std::string Acl(uint32_t user, uint32_t group) {
  const struct {
    uint16_t tag, perm;
    uint32_t id;
  } entries[] = {{1, 6, UINT32_MAX}, {2, 7, user},        {4, 4, UINT32_MAX},
                 {8, 5, group},      {16, 7, UINT32_MAX}, {32, 0, UINT32_MAX}};
  std::string value("\2\0\0\0", 4);
  for (const auto& entry : entries) {
    for (const uint32_t part : {uint32_t{entry.tag}, uint32_t{entry.perm}}) {
      value += static_cast<char>(part & 255);
      value += static_cast<char>(part >> 8);
    }
    for (int shift = 0; shift < 32; shift += 8) value += static_cast<char>(entry.id >> shift & 255);
  }
  return value;
}

TEST(IdsTest, EntriesOfAclsAreMappedAndTheRestOfThemStays) {
  const Ids ids({.users = Map({"1000:5000"}), .groups = Map({"27:2700"})});
  EXPECT_EQ(*ids.AclToCluster(Acl(1000, 27)), Acl(5000, 2700));
  EXPECT_EQ(ids.AclToLocal(Acl(5000, 2700)), Acl(1000, 27));
  EXPECT_EQ(ids.AclToLocal(Acl(5001, 1)), Acl(kOverflowId, kOverflowId));
  EXPECT_EQ(ids.AclToCluster(Acl(1001, 27)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ids.AclToCluster(Acl(1000, 28)).code(), StatusCode::kInvalidArgument);
  for (const std::string& no_acl :
       {std::string(), std::string("\2\0\0\0\1", 5), std::string("\3\0\0\0", 4)}) {
    EXPECT_EQ(*ids.AclToCluster(no_acl), no_acl) << "the master refuses it";
    EXPECT_EQ(ids.AclToLocal(no_acl), no_acl);
  }
}

}  // namespace
}  // namespace cairn::fuse
