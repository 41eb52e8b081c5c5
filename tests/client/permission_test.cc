// Answers from the cache give nobody what the master would refuse.
#include "client/permission.h"

#include "tests/client/client_fixture.h"

namespace cairn::client::testing {
namespace {

using PermissionTest = ClientTest;

Attributes Dir(uint32_t mode, uint32_t uid, uint32_t gid) {
  Attributes attr;
  attr.type = FileType::kDirectory;
  attr.mode = mode;
  attr.uid = uid;
  attr.gid = gid;
  return attr;
}

TEST(CheckPermission, FollowsTheClassOfTheCallerAndNoOther) {
  const Caller owner{.uid = 10, .gid = 20};
  const Caller member{.uid = 11, .gid = 20};
  const Caller supplementary{.uid = 11, .gid = 21, .groups = {5, 20}};
  const Caller stranger{.uid = 11, .gid = 21};
  const Attributes attr = Dir(0750, 10, 20);
  EXPECT_EQ(CheckPermission(attr, owner, kMayWrite), Verdict::kAllowed);
  EXPECT_EQ(CheckPermission(attr, member, kMayExecute), Verdict::kAllowed);
  EXPECT_EQ(CheckPermission(attr, member, kMayWrite), Verdict::kDenied);
  EXPECT_EQ(CheckPermission(attr, supplementary, kMayExecute), Verdict::kAllowed);
  EXPECT_EQ(CheckPermission(attr, stranger, kMayExecute), Verdict::kDenied);
  // The owner's bits count for the owner, also when the others' allow more.
  EXPECT_EQ(CheckPermission(Dir(0077, 10, 20), owner, kMayRead), Verdict::kDenied);
  EXPECT_EQ(CheckPermission(Dir(0707, 10, 20), supplementary, kMayRead), Verdict::kDenied);
}

TEST(CheckPermission, RootMayEverythingUnlessSquashed) {
  EXPECT_EQ(CheckPermission(Dir(0, 10, 20), Caller{}, kMayRead | kMayWrite | kMayExecute), Verdict::kAllowed);
  EXPECT_EQ(CheckPermission(Dir(0, 10, 20), Caller{}, kMayRead, true), Verdict::kAskMaster);
  Attributes file = Dir(0644, 10, 20);
  file.type = FileType::kRegular;
  EXPECT_EQ(CheckPermission(file, Caller{}, kMayExecute), Verdict::kDenied);
}

TEST(CheckPermission, AccessControlListsAreLeftToTheMaster) {
  Attributes attr = Dir(0755, 10, 20);
  attr.has_acl = true;
  EXPECT_EQ(CheckPermission(attr, Caller{.uid = 11, .gid = 21}, kMayRead), Verdict::kAskMaster);
}

TEST_F(PermissionTest, ACachedNameIsNotShownToWhoMayNotSearchTheDirectory) {
  const InodeId secret(master.AddDirectory(1, "secret", 0700, 10, 10));
  master.AddFile(secret.value(), "a", 0644, 10, 10);
  auto client = Connect();
  const Caller owner{.uid = 10, .gid = 10};
  const Caller stranger{.uid = 11, .gid = 11};
  ASSERT_TRUE(client->Lookup(owner, secret, "a").ok());
  ASSERT_TRUE(client->GetAttr(owner, secret).ok());
  const int before = master.Total();
  ASSERT_TRUE(client->Lookup(owner, secret, "a").ok());
  EXPECT_EQ(client->Lookup(stranger, secret, "a").code(), StatusCode::kAccessDenied);
  EXPECT_EQ(client->Lookup(stranger, secret, "absent").code(), StatusCode::kAccessDenied);
  EXPECT_EQ(client->ReadDirectory(stranger, secret, 0, 10, false).code(), StatusCode::kAccessDenied);
  EXPECT_EQ(master.Total(), before);
}

TEST_F(PermissionTest, GroupsAreSentWhenTheMasterAsksForThem) {
  const InodeId shared(master.AddDirectory(1, "shared", 0710, 10, 77));
  master.AddFile(shared.value(), "a");
  auto client = Connect();
  Caller process{.uid = 11, .gid = 11, .pid = static_cast<int32_t>(getpid())};
  const auto groups = GroupsOf(process);
  const bool member = std::find(groups.begin(), groups.end(), 77u) != groups.end();
  EXPECT_EQ(client->Lookup(process, shared, "a").ok(), member);
  EXPECT_EQ(master.Count(proto::Request::kLookup), 2);  // without groups, then with them
  const Caller given{.uid = 11, .gid = 11, .groups = {77}};
  EXPECT_TRUE(client->Lookup(given, shared, "a").ok());
}

TEST_F(PermissionTest, OpeningChecksTheFilesOwnBits) {
  const InodeId file(master.AddFile(1, "a", 0640, 10, 10));
  auto client = Connect();
  const Caller stranger{.uid = 11, .gid = 11};
  EXPECT_EQ(client->Open(stranger, file, {}).code(), StatusCode::kAccessDenied);
  EXPECT_EQ(client->Open(stranger, file, {.read = false, .write = true}).code(), StatusCode::kAccessDenied);
  EXPECT_EQ(client->SetAttr(stranger, file, {.size = 0}).code(), StatusCode::kAccessDenied);
}

TEST_F(PermissionTest, ADescriptorKeepsTheRightItWasOpenedWith) {
  auto client = Connect();
  const Caller owner{.uid = 10, .gid = 10};
  auto created = client->Create(owner, kRoot, "a", {.mode = 0444}, {.write = true});
  ASSERT_TRUE(created.ok());
  EXPECT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  // truncate(2) asks for the mode, ftruncate(2) does not.
  EXPECT_EQ(client->SetAttr(owner, created->entry.attr.inode, {.size = 2}).code(), StatusCode::kAccessDenied);
  EXPECT_TRUE(client->SetAttr(owner, created->entry.attr.inode, {.size = 2, .by_handle = created->handle}).ok());
  EXPECT_TRUE(client->Close(created->handle).ok());
  EXPECT_EQ(client->SetAttr(owner, created->entry.attr.inode, {.size = 0}).code(), StatusCode::kAccessDenied);
}

}  // namespace
}  // namespace cairn::client::testing
