// Permissions, setattr and extended attributes, as Linux has them.
#include <gmock/gmock.h>

#include "master/state/permissions.h"
#include "master/state/xattrs.h"
#include "tests/state/state_fixture.h"

namespace cairn::master {
namespace {

using testing::ElementsAre;

proto::InodeRecord Inode(proto::FileType type, uint32_t mode, uint32_t uid, uint32_t gid) {
  proto::InodeRecord record;
  record.set_type(type);
  record.set_mode(mode);
  record.set_uid(uid);
  record.set_gid(gid);
  return record;
}

TEST(Permissions, TruthTable) {
  const struct {
    const char* what;
    uint32_t mode;
    proto::Credentials caller;
    uint32_t mask;
    StatusCode code;
  } kCases[] = {
      {"owner reads", 0400, User(5, 9), kMayRead, StatusCode::kOk},
      {"owner class decides even if others may more", 0077, User(5, 9), kMayRead, StatusCode::kAccessDenied},
      {"primary group", 0040, User(6, 7), kMayRead, StatusCode::kOk},
      {"group class decides even if others may more", 0004, User(6, 7), kMayRead, StatusCode::kAccessDenied},
      {"supplementary group", 0040, User(6, 9, {7}), kMayRead, StatusCode::kOk},
      {"not in the group", 0040, User(6, 9, {8}), kMayRead, StatusCode::kAccessDenied},
      {"groups would decide", 0040, User(6, 9, {}, false), kMayRead, StatusCode::kNeedGroups},
      {"groups could take it away", 0004, User(6, 9, {}, false), kMayRead, StatusCode::kNeedGroups},
      {"groups do not matter: both may", 0044, User(6, 9, {}, false), kMayRead, StatusCode::kOk},
      {"groups do not matter: none may", 0400, User(6, 9, {}, false), kMayRead, StatusCode::kAccessDenied},
      {"others", 0004, User(6, 9), kMayRead, StatusCode::kOk},
      {"all bits are needed", 0005, User(6, 9), kMayRead | kMayWrite, StatusCode::kAccessDenied},
      {"existence only", 0000, User(6, 9), 0, StatusCode::kOk},
      {"root reads and writes anything", 0000, User(0, 0), kMayRead | kMayWrite, StatusCode::kOk},
      {"root executes what somebody may", 0001, User(0, 0), kMayExecute, StatusCode::kOk},
      {"root does not execute what nobody may", 0666, User(0, 0), kMayExecute, StatusCode::kAccessDenied},
  };
  for (const auto& test : kCases) {
    EXPECT_EQ(CheckMode(Inode(proto::REGULAR, test.mode, 5, 7), test.caller, test.mask).code(), test.code)
        << test.what;
  }
  EXPECT_TRUE(CheckMode(Inode(proto::DIRECTORY, 0, 5, 7), User(0, 0), kMayExecute).ok())
      << "root searches any directory";
}

TEST(Permissions, StickyDirectoriesProtectTheEntriesOfOthers) {
  const proto::InodeRecord directory = Inode(proto::DIRECTORY, 01777, 5, 5);
  const proto::InodeRecord victim = Inode(proto::REGULAR, 0666, 6, 6);
  EXPECT_TRUE(CheckRemoveEntry(directory, victim, User(5, 5)).ok()) << "the directory's owner";
  EXPECT_TRUE(CheckRemoveEntry(directory, victim, User(6, 6)).ok()) << "the file's owner";
  EXPECT_TRUE(CheckRemoveEntry(directory, victim, User(0, 0)).ok());
  EXPECT_EQ(CheckRemoveEntry(directory, victim, User(7, 7)).code(), StatusCode::kNotPermitted);
}

class AttributesTest : public testing::Test {
 protected:
  AttributesTest() {
    proto::SetAttrOp op;
    op.set_inode(1);
    op.set_mode(0777);
    EXPECT_TRUE(fs_.SetAttr(op).ok());
    fs_.caller = User(5, 50, {51});
    file_ = fs_.MustCreate(kRootInode, "f", 0644);
    op_.set_inode(file_.value());
  }
  StatusCode Set() {
    const StatusCode code = CodeOf(fs_.SetAttr(op_));
    op_.Clear();
    op_.set_inode(file_.value());
    return code;
  }
  uint32_t Mode() { return fs_.Attr(file_).mode(); }
  FileSystem fs_;
  InodeId file_;
  proto::SetAttrOp op_;
};

TEST_F(AttributesTest, OperationsAskForTheParentsPermissions) {
  fs_.caller = User(0, 0);
  const InodeId dir = fs_.MustMkdir(kRootInode, "closed", 0700);
  const InodeId readable = fs_.MustMkdir(kRootInode, "readable", 0755);
  fs_.MustCreate(readable, "x");
  fs_.caller = User(5, 50);
  EXPECT_EQ(CodeOf(fs_.Create(dir, "x")), StatusCode::kAccessDenied);
  EXPECT_EQ(CodeOf(fs_.Mkdir(dir, "x")), StatusCode::kAccessDenied);
  EXPECT_EQ(CodeOf(fs_.Unlink(readable, "x")), StatusCode::kAccessDenied);
  EXPECT_EQ(CodeOf(fs_.Rmdir(kRootInode, "closed")), StatusCode::kOk)
      << "0777 parent, the victim's mode does not matter";
  EXPECT_EQ(CodeOf(fs_.Mkdir(readable, "x")), StatusCode::kAlreadyExists)
      << "existence is told before permission, as on Linux";
  EXPECT_EQ(CodeOf(fs_.Link(file_, readable, "y")), StatusCode::kAccessDenied);
  proto::ReadDirOp list;
  list.set_inode(readable.value());
  EXPECT_TRUE(ReadDir(fs_.txn(), list, fs_.caller).ok());
  EXPECT_EQ(CheckAccess(fs_.txn(), readable, kMayWrite, fs_.caller).code(), StatusCode::kAccessDenied);
}

class AccessedTest : public AttributesTest {
 protected:
  ApplyResult Accessed(SessionId session, const proto::Time& time) {
    proto::LogCommand command = fs_.Command(session);
    proto::AccessTime* file = command.mutable_accessed()->add_files();
    file->set_inode(file_.value());
    *file->mutable_atime() = time;
    now_ = command.now();
    return fs_.Apply(command);
  }
  proto::Time After(proto::Time time, int64_t seconds) {
    time.set_seconds(time.seconds() + seconds);
    return time;
  }
  std::string Atime() { return fs_.Attr(file_).atime().ShortDebugString(); }
  proto::Time now_;
};

TEST_F(AccessedTest, TheTimeGrowsAndNothingElseChanges) {
  const proto::Attr before = fs_.Attr(file_);
  const proto::Time later = After(before.ctime(), 0);
  proto::Time read = later;
  read.set_nanos(later.nanos() + 1);
  const ApplyResult done = Accessed(kOther, read);
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done.effects.accessed, std::vector<InodeId>{file_});
  EXPECT_TRUE(done.effects.inodes.empty()) << "nobody's lease is to be recalled";
  proto::Attr expected = before;
  *expected.mutable_atime() = read;
  EXPECT_EQ(fs_.Attr(file_).ShortDebugString(), expected.ShortDebugString());
  // An older one that arrives late.
  const ApplyResult late = Accessed(kSession, before.atime());
  ASSERT_TRUE(late.ok());
  EXPECT_TRUE(late.effects.accessed.empty());
  EXPECT_EQ(Atime(), read.ShortDebugString());
}

TEST_F(AccessedTest, NobodySetsATimeThatIsYetToCome) {
  ASSERT_TRUE(Accessed(kOther, After(now_, 1'000'000'000'000)).ok());
  EXPECT_EQ(Atime(), now_.ShortDebugString());
  // The last change was made by a clock that is ahead: what saw it is not before it.
  const proto::Time ahead = After(now_, 3'600);
  *op_.mutable_mtime() = ahead;
  ASSERT_EQ(Set(), StatusCode::kOk);
  ASSERT_TRUE(Accessed(kOther, After(ahead, 5)).ok());
  EXPECT_EQ(Atime(), ahead.ShortDebugString());
}

TEST_F(AccessedTest, WhatIsGoneIsSkippedAndTooManyAreRefused) {
  proto::LogCommand command = fs_.Command(kOther);
  command.mutable_accessed()->add_files()->set_inode(999'999);
  EXPECT_TRUE(fs_.Apply(command).ok());
  command = fs_.Command(kOther);
  command.mutable_accessed()->add_files()->mutable_atime()->set_nanos(1'000'000'000);
  EXPECT_EQ(CodeOf(fs_.Apply(command)), StatusCode::kInvalidArgument);
  command = fs_.Command(kOther);
  for (int i = 0; i <= kMaxAccessed; ++i) command.mutable_accessed()->add_files()->set_inode(file_.value());
  EXPECT_EQ(CodeOf(fs_.Apply(command)), StatusCode::kInvalidArgument);
}

TEST_F(AttributesTest, OnlyTheOwnerChangesTheMode) {
  op_.set_mode(0600);
  EXPECT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(Mode(), 0600u);
  fs_.caller = User(6, 50);
  op_.set_mode(0666);
  EXPECT_EQ(Set(), StatusCode::kNotPermitted);
  fs_.caller = User(0, 0);
  op_.set_mode(06755);
  EXPECT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(Mode(), 06755u);
}

TEST_F(AttributesTest, SetGidNeedsMembership) {
  fs_.caller = User(0, 0);
  op_.set_gid(70);
  EXPECT_EQ(Set(), StatusCode::kOk);
  fs_.caller = User(5, 50, {}, /*groups_known=*/false);
  op_.set_mode(02755);
  EXPECT_EQ(Set(), StatusCode::kNeedGroups);
  fs_.caller = User(5, 50, {51});
  op_.set_mode(02755);
  EXPECT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(Mode(), 0755u) << "the bit is dropped silently";
  fs_.caller = User(5, 50, {70});
  op_.set_mode(02755);
  EXPECT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(Mode(), 02755u);
}

TEST_F(AttributesTest, OwnersAndGroupsChangeByTheRules) {
  op_.set_uid(6);
  EXPECT_EQ(Set(), StatusCode::kNotPermitted);
  op_.set_uid(5);
  EXPECT_EQ(Set(), StatusCode::kOk) << "to oneself";
  op_.set_gid(51);
  EXPECT_EQ(Set(), StatusCode::kOk) << "to a group of one's own";
  op_.set_gid(52);
  EXPECT_EQ(Set(), StatusCode::kNotPermitted);
  fs_.caller = User(5, 50, {}, false);
  op_.set_gid(52);
  EXPECT_EQ(Set(), StatusCode::kNeedGroups);
  fs_.caller = User(6, 51, {});
  op_.set_gid(51);
  EXPECT_EQ(Set(), StatusCode::kNotPermitted) << "not the owner";
  fs_.caller = User(0, 0);
  op_.set_uid(6);
  op_.set_gid(60);
  EXPECT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(fs_.Attr(file_).uid(), 6u);
  EXPECT_EQ(fs_.Attr(file_).gid(), 60u);
}

TEST_F(AttributesTest, ChangingTheOwnerOrWritingTakesSetIdBits) {
  fs_.caller = User(0, 0);
  for (const bool write : {false, true}) {
    op_.set_mode(06755);
    ASSERT_EQ(Set(), StatusCode::kOk);
    if (write) {
      op_.set_kill_priv(true);
    } else {
      op_.set_uid(5);
    }
    ASSERT_EQ(Set(), StatusCode::kOk);
    EXPECT_EQ(Mode(), 0755u);
  }
  op_.set_mode(02644);
  ASSERT_EQ(Set(), StatusCode::kOk);
  op_.set_uid(5);
  ASSERT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(Mode(), 02644u) << "without group execution it is no privilege";
  op_.set_uid(5);
  op_.set_mode(04755);
  ASSERT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(Mode(), 04755u) << "a mode given along wins";
  const InodeId dir = fs_.MustMkdir(kRootInode, "d");
  proto::SetAttrOp op;
  op.set_inode(dir.value());
  op.set_mode(06755);
  ASSERT_TRUE(fs_.SetAttr(op).ok());
  op.clear_mode();
  op.set_uid(7);
  ASSERT_TRUE(fs_.SetAttr(op).ok());
  EXPECT_EQ(fs_.Attr(dir).mode(), 06755u);
}

TEST_F(AttributesTest, TimesAreSetByOwnersAndTouchedByWriters) {
  proto::Time time;
  time.set_seconds(-5);
  time.set_nanos(7);
  *op_.mutable_mtime() = time;
  const proto::Time ctime = fs_.Attr(file_).ctime();
  EXPECT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(fs_.Attr(file_).mtime().seconds(), -5);
  EXPECT_EQ(fs_.Attr(file_).mtime().nanos(), 7u);
  EXPECT_GT(fs_.Attr(file_).ctime().seconds(), ctime.seconds());
  fs_.caller = User(6, 60);
  *op_.mutable_atime() = time;
  EXPECT_EQ(Set(), StatusCode::kNotPermitted);
  op_.set_mtime_now(true);
  EXPECT_EQ(Set(), StatusCode::kAccessDenied) << "0644, not the owner";
  fs_.caller = User(5, 50);
  op_.set_mode(0666);
  ASSERT_EQ(Set(), StatusCode::kOk);
  fs_.caller = User(6, 60);
  op_.set_mtime_now(true);
  EXPECT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(fs_.Attr(file_).mtime().seconds(), fs_.Attr(file_).ctime().seconds());
  fs_.caller = User(0, 0);
  op_.mutable_atime()->set_nanos(1'000'000'000);
  EXPECT_EQ(Set(), StatusCode::kInvalidArgument);
}

TEST_F(AttributesTest, SetGidDirectoriesPassTheirGroupOn) {
  fs_.caller = User(0, 0);
  const InodeId dir = fs_.MustMkdir(kRootInode, "team", 0777);
  proto::SetAttrOp op;
  op.set_inode(dir.value());
  op.set_mode(02777);
  op.set_gid(77);
  ASSERT_TRUE(fs_.SetAttr(op).ok());
  fs_.caller = User(5, 50);
  const InodeId sub = fs_.MustMkdir(dir, "sub", 0755);
  EXPECT_EQ(fs_.Attr(sub).gid(), 77u);
  EXPECT_EQ(fs_.Attr(sub).mode(), 02755u);
  EXPECT_EQ(fs_.Attr(fs_.MustCreate(dir, "f")).gid(), 77u);
  EXPECT_EQ(fs_.Attr(fs_.MustCreate(dir, "g", 02755)).mode(), 0755u)
      << "no set-gid program for a group that is not one's own";
  fs_.caller = User(5, 50, {77});
  EXPECT_EQ(fs_.Attr(fs_.MustCreate(dir, "h", 02755)).mode(), 02755u);
  fs_.caller = User(5, 50, {}, false);
  EXPECT_EQ(CodeOf(fs_.Create(dir, "i", 02755)), StatusCode::kNeedGroups);
}

TEST_F(AttributesTest, SizeIsRefusedWhereThereIsNone) {
  EXPECT_EQ(CodeOf(fs_.Truncate(kRootInode, 0)), StatusCode::kIsDirectory);
  const InodeId fifo = FileSystem::InodeOf(fs_.Mknod(kRootInode, "fifo", proto::FIFO));
  EXPECT_EQ(CodeOf(fs_.Truncate(fifo, 0)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(fs_.Truncate(file_, 1ull << 63)), StatusCode::kFileTooLarge);
  EXPECT_EQ(CodeOf(fs_.Truncate(file_, 5)), StatusCode::kLeaseLost) << "only under the write lease";
  EXPECT_EQ(CodeOf(fs_.Truncate(InodeId(99), 5)), StatusCode::kStaleHandle);
  ASSERT_TRUE(fs_.Grant(file_, kSession).ok());
  EXPECT_TRUE(fs_.Truncate(file_, 5).ok());
  EXPECT_EQ(fs_.Attr(file_).size(), 5u);
  fs_.caller = User(6, 60);
  EXPECT_EQ(CodeOf(fs_.Truncate(file_, 6)), StatusCode::kAccessDenied);
  op_.set_size(6);
  op_.set_open_for_write(true);
  EXPECT_EQ(Set(), StatusCode::kOk) << "ftruncate: permission was checked at open";
}

TEST_F(AttributesTest, XattrsAreSetFoundListedAndRemoved) {
  EXPECT_FALSE(fs_.Attr(file_).has_xattrs());
  ASSERT_TRUE(fs_.SetXattr(file_, "user.a", "1").ok());
  ASSERT_TRUE(fs_.SetXattr(file_, "user.b", std::string("\0x", 2)).ok());
  ASSERT_TRUE(fs_.SetXattr(file_, "user.a", "22").ok());
  EXPECT_TRUE(fs_.Attr(file_).has_xattrs());
  proto::GetXattrOp get;
  get.set_inode(file_.value());
  get.set_name("user.a");
  EXPECT_EQ(*GetXattr(fs_.txn(), get, fs_.caller), "22");
  get.set_name("user.c");
  EXPECT_EQ(GetXattr(fs_.txn(), get, fs_.caller).code(), StatusCode::kNoAttribute);
  EXPECT_THAT(ListXattr(fs_.txn(), file_, fs_.caller)->names(), ElementsAre("user.a", "user.b"));
  EXPECT_EQ(CodeOf(fs_.SetXattr(file_, "user.a", "x", 1)), StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(fs_.SetXattr(file_, "user.c", "x", 2)), StatusCode::kNoAttribute);
  EXPECT_EQ(CodeOf(fs_.SetXattr(file_, "user.c", "x", 3)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(fs_.RemoveXattr(file_, "user.c")), StatusCode::kNoAttribute);
  ASSERT_TRUE(fs_.RemoveXattr(file_, "user.a").ok());
  ASSERT_TRUE(fs_.RemoveXattr(file_, "user.b").ok());
  EXPECT_FALSE(fs_.Attr(file_).has_xattrs());
}

TEST_F(AttributesTest, XattrNamespacesAndLimits) {
  const InodeId fifo = FileSystem::InodeOf(fs_.Mknod(kRootInode, "fifo", proto::FIFO));
  const struct {
    const char* what;
    InodeId inode;
    std::string name;
    size_t bytes;
    StatusCode code;
  } kCases[] = {
      {"user on a FIFO", fifo, "user.a", 1, StatusCode::kNotPermitted},
      {"trusted by a user", file_, "trusted.a", 1, StatusCode::kNotPermitted},
      {"security by a user", file_, "security.capability", 1, StatusCode::kNotPermitted},
      {"unknown namespace", file_, "foo.a", 1, StatusCode::kNotSupported},
      {"unknown system attribute", file_, "system.foo", 1, StatusCode::kNotSupported},
      {"empty name", file_, "", 1, StatusCode::kBufferTooSmall},
      {"bare prefix", file_, "user.", 1, StatusCode::kInvalidArgument},
      {"long name", file_, "user." + std::string(251, 'x'), 1, StatusCode::kBufferTooSmall},
      {"longest name", file_, "user." + std::string(250, 'x'), 1, StatusCode::kOk},
      {"large value", file_, "user.l", 65537, StatusCode::kArgumentTooBig},
      {"largest value", file_, "user.l", 65536, StatusCode::kOk},
      {"not one's file", kRootInode, "user.a", 1, StatusCode::kOk},
  };
  for (const auto& test : kCases) {
    EXPECT_EQ(CodeOf(fs_.SetXattr(test.inode, test.name, std::string(test.bytes, 'v'))), test.code)
        << test.what;
  }
  fs_.caller = User(6, 60);
  EXPECT_EQ(CodeOf(fs_.SetXattr(file_, "user.a", "1")), StatusCode::kAccessDenied);
  fs_.caller = User(0, 0);
  ASSERT_TRUE(fs_.SetXattr(file_, "trusted.a", "1").ok());
  ASSERT_TRUE(fs_.SetXattr(fifo, "trusted.a", "1").ok());
  proto::GetXattrOp get;
  get.set_inode(fifo.value());
  get.set_name("trusted.a");
  EXPECT_TRUE(GetXattr(fs_.txn(), get, User(0, 0)).ok());
  EXPECT_EQ(GetXattr(fs_.txn(), get, User(5, 50)).code(), StatusCode::kNoAttribute);
  EXPECT_EQ(ListXattr(fs_.txn(), fifo, User(5, 50))->names_size(), 0);
}

TEST_F(AttributesTest, CapabilitiesGoWithAWrite) {
  fs_.caller = User(0, 0);
  ASSERT_TRUE(fs_.SetXattr(file_, "security.capability", "cap").ok());
  op_.set_kill_priv(true);
  ASSERT_EQ(Set(), StatusCode::kOk);
  EXPECT_FALSE(fs_.Attr(file_).has_xattrs());
}

std::string Acl(std::initializer_list<std::array<uint32_t, 3>> entries) {
  std::string acl("\2\0\0\0", 4);
  for (const auto& [tag, permissions, id] : entries) {
    const uint32_t first = tag | permissions << 16;
    for (const uint32_t word : {first, id}) {
      for (int shift = 0; shift < 32; shift += 8) acl.push_back(static_cast<char>(word >> shift));
    }
  }
  return acl;
}
constexpr uint32_t kNoId = 0xffffffff;

TEST_F(AttributesTest, AclsAndTheModeFollowEachOther) {
  const std::string acl = Acl({{1, 6, kNoId}, {2, 6, 1000}, {4, 4, kNoId}, {16, 6, kNoId}, {32, 0, kNoId}});
  ASSERT_TRUE(fs_.SetXattr(file_, "system.posix_acl_access", acl).ok());
  EXPECT_TRUE(fs_.Attr(file_).has_acl());
  EXPECT_EQ(Mode(), 0660u) << "the group bits are the mask";
  op_.set_mode(0604);
  ASSERT_EQ(Set(), StatusCode::kOk);
  proto::GetXattrOp get;
  get.set_inode(file_.value());
  get.set_name("system.posix_acl_access");
  EXPECT_EQ(*GetXattr(fs_.txn(), get, fs_.caller),
            Acl({{1, 6, kNoId}, {2, 6, 1000}, {4, 4, kNoId}, {16, 0, kNoId}, {32, 4, kNoId}}));
  ASSERT_TRUE(
      fs_.SetXattr(file_, "system.posix_acl_access", Acl({{1, 7, kNoId}, {4, 5, kNoId}, {32, 1, kNoId}}))
          .ok());
  EXPECT_FALSE(fs_.Attr(file_).has_acl()) << "no more than a mode can say";
  EXPECT_EQ(Mode(), 0751u);
  EXPECT_EQ(CodeOf(fs_.SetXattr(file_, "system.posix_acl_default", acl)), StatusCode::kAccessDenied);
  for (const std::string& bad : {std::string(), acl.substr(1), acl + "x",
                                 Acl({{1, 6, kNoId}, {2, 6, 1000}, {4, 4, kNoId}, {32, 0, kNoId}}),
                                 Acl({{1, 9, kNoId}, {4, 4, kNoId}, {32, 0, kNoId}}),
                                 Acl({{4, 4, kNoId}, {1, 6, kNoId}, {32, 0, kNoId}})}) {
    EXPECT_EQ(CodeOf(fs_.SetXattr(file_, "system.posix_acl_access", bad)), StatusCode::kInvalidArgument);
  }
  fs_.caller = User(6, 60);
  EXPECT_EQ(CodeOf(fs_.SetXattr(file_, "system.posix_acl_access", acl)), StatusCode::kNotPermitted);
}

// Whether uid:gid with these groups may do `mask` with the file; "?" when the groups are asked for.
std::string MayBy(FileSystem& fs, InodeId file, uint32_t uid, uint32_t gid, std::optional<std::vector<uint32_t>> groups,
                  uint32_t mask) {
  proto::Credentials caller;
  caller.set_uid(uid);
  caller.set_gid(gid);
  caller.set_groups_known(groups.has_value());
  for (const uint32_t group : groups.value_or(std::vector<uint32_t>())) caller.add_groups(group);
  const Status status = CheckAccess(fs.txn(), file, mask, caller);
  if (status.code() == StatusCode::kNeedGroups) return "?";
  return status.ok() ? "yes" : "no";
}

TEST_F(AttributesTest, AccessAclsDecide) {
  const std::string acl = Acl({{1, 6, kNoId}, {2, 7, 1000}, {4, 4, kNoId}, {8, 7, 70}, {16, 6, kNoId}, {32, 1, kNoId}});
  ASSERT_TRUE(fs_.SetXattr(file_, "system.posix_acl_access", acl).ok());
  EXPECT_EQ(MayBy(fs_, file_, 1000, 1, {{}}, kMayRead | kMayWrite), "yes");
  EXPECT_EQ(MayBy(fs_, file_, 1000, 1, {{}}, kMayExecute), "no") << "the mask";
  EXPECT_EQ(MayBy(fs_, file_, 1001, 70, {{}}, kMayWrite), "yes");
  EXPECT_EQ(MayBy(fs_, file_, 1001, 1, {{70}}, kMayWrite), "yes");
  EXPECT_EQ(MayBy(fs_, file_, 1001, 1, std::nullopt, kMayWrite), "?");
  EXPECT_EQ(MayBy(fs_, file_, 1001, 1, {{}}, kMayExecute), "yes") << "others have no mask";
  EXPECT_EQ(MayBy(fs_, file_, 1001, 70, {{}}, kMayExecute), "no") << "a group that denies keeps others from deciding";
  EXPECT_EQ(MayBy(fs_, file_, 0, 0, {{}}, kMayRead | kMayWrite), "yes");
  op_.set_mode(0600);
  ASSERT_EQ(Set(), StatusCode::kOk);
  EXPECT_EQ(MayBy(fs_, file_, 1000, 1, {{}}, kMayRead), "no") << "chmod took the mask away";
}

TEST_F(AttributesTest, DefaultAclsAreInheritedInPlaceOfTheUmask) {
  fs_.caller = User(0, 0);
  const std::string acl = Acl({{1, 7, kNoId}, {2, 7, 1000}, {4, 5, kNoId}, {16, 7, kNoId}, {32, 0, kNoId}});
  ASSERT_TRUE(fs_.SetXattr(kRootInode, "system.posix_acl_default", acl).ok());
  fs_.caller.set_umask(077);
  const InodeId made = FileSystem::InodeOf(fs_.Create(kRootInode, "made", 0640));
  EXPECT_EQ(fs_.Attr(made).mode(), 0640u);
  EXPECT_TRUE(fs_.Attr(made).has_acl());
  EXPECT_EQ(MayBy(fs_, made, 1000, 1, {{}}, kMayRead), "yes");
  EXPECT_EQ(MayBy(fs_, made, 1000, 1, {{}}, kMayWrite), "no");
  ASSERT_TRUE(fs_.SetXattr(kRootInode, "system.posix_acl_default", std::string("\2\0\0\0", 4)).ok());
  const InodeId plain = FileSystem::InodeOf(fs_.Create(kRootInode, "plain", 0644));
  EXPECT_EQ(fs_.Attr(plain).mode(), 0600u);
}

}  // namespace
}  // namespace cairn::master
