// rename with its flags: what moves, what is refused, what happens to link counts, times and names.
#include <gmock/gmock.h>

#include "tests/state/state_fixture.h"

namespace cairn::master {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr uint32_t kNoReplace = 1;
constexpr uint32_t kExchange = 2;

class RenameTest : public testing::Test {
 protected:
  RenameTest() {
    a_ = fs_.MustMkdir(kRootInode, "a");
    b_ = fs_.MustMkdir(kRootInode, "b");
    sub_ = fs_.MustMkdir(a_, "sub");
    deep_ = fs_.MustMkdir(sub_, "deep");
    file_ = fs_.MustCreate(a_, "file");
    other_ = fs_.MustCreate(b_, "other");
  }
  FileSystem fs_;
  InodeId a_, b_, sub_, deep_, file_, other_;
};

TEST_F(RenameTest, MovesAFileBetweenDirectories) {
  const proto::Attr before = fs_.Attr(file_);
  const ApplyResult moved = fs_.Rename(a_, "file", b_, "moved");
  ASSERT_TRUE(moved.ok());
  EXPECT_THAT(fs_.Names(a_), ElementsAre("sub"));
  EXPECT_THAT(fs_.Names(b_), UnorderedElementsAre("other", "moved"));
  EXPECT_EQ(PathOf(fs_.txn(), file_), "/b/moved");
  EXPECT_GT(fs_.Attr(file_).ctime().seconds(), before.ctime().seconds());
  EXPECT_EQ(fs_.Attr(file_).mtime().seconds(), before.mtime().seconds());
  EXPECT_EQ(fs_.Attr(a_).mtime().seconds(), fs_.Attr(b_).mtime().seconds());
  EXPECT_EQ(moved.reply.remove().parent_attr().inode(), a_.value());
  EXPECT_EQ(moved.reply.remove().new_parent_attr().inode(), b_.value());
  EXPECT_EQ(moved.reply.remove().inode_attr().inode(), file_.value());
  EXPECT_THAT(moved.effects.directories, UnorderedElementsAre(a_, b_));
}

TEST_F(RenameTest, MovesADirectoryWithItsParentAndLinkCounts) {
  ASSERT_TRUE(fs_.Rename(a_, "sub", b_, "sub2").ok());
  EXPECT_EQ(fs_.Attr(a_).nlink(), 2u);
  EXPECT_EQ(fs_.Attr(b_).nlink(), 3u);
  EXPECT_EQ(fs_.Attr(sub_).parent(), b_.value());
  EXPECT_EQ(fs_.Attr(sub_).nlink(), 3u);
  EXPECT_EQ(PathOf(fs_.txn(), deep_), "/b/sub2/deep");
}

// Directories may lie deeper than anybody looks: what walks towards the root ends there, and guesses nothing.
TEST_F(RenameTest, BelowTooManyDirectoriesNoDirectoryIsMoved) {
  const InodeId top = fs_.MustMkdir(kRootInode, "top");
  const auto below = [&](InodeId at, int levels) {
    for (int i = 0; i < levels; ++i) {
      proto::LogCommand command = fs_.Command(kSession);
      command.set_acked_through(command.request_number() - 1);
      command.mutable_mkdir()->set_parent(at.value());
      command.mutable_mkdir()->set_name("d");
      command.mutable_mkdir()->set_mode(0755);
      const ApplyResult made = fs_.Apply(command);
      EXPECT_TRUE(made.ok()) << i;
      at = FileSystem::InodeOf(made);
    }
    return at;
  };
  const InodeId bottom = below(top, kMaxDepth - 1);
  EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "top", bottom, "x")), StatusCode::kInvalidArgument) << "into itself";
  ASSERT_TRUE(fs_.Rename(kRootInode, "b", bottom, "b").ok());
  EXPECT_EQ(PathOf(fs_.txn(), b_).substr(0, 10), "(far below");
  EXPECT_LT(PathOf(fs_.txn(), b_).size(), 70'000u);
  const InodeId deeper = below(bottom, 3);
  EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "a", deeper, "a")), StatusCode::kNameTooLong);
  EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "top", deeper, "x")), StatusCode::kNameTooLong);
  // Anything else works there as everywhere.
  const InodeId file = fs_.MustCreate(deeper, "file");
  EXPECT_TRUE(fs_.Rename(deeper, "file", kRootInode, "file").ok());
  EXPECT_EQ(PathOf(fs_.txn(), file), "/file");
  EXPECT_TRUE(EffectivePolicy(fs_.txn(), deeper).ok());
  EXPECT_TRUE(fs_.Rename(InodeId(fs_.Attr(deeper).parent()), "d", kRootInode, "out").ok());
  EXPECT_EQ(PathOf(fs_.txn(), deeper), "/out");
}

TEST_F(RenameTest, RefusesToMoveADirectoryIntoItself) {
  EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "a", a_, "x")), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "a", sub_, "x")), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "a", deep_, "x")), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", kRootInode, "a")), StatusCode::kNotEmpty)
      << "the target is above the source";
  EXPECT_EQ(CodeOf(fs_.Rename(sub_, "deep", kRootInode, "a", kExchange)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "a", sub_, "deep", kExchange)), StatusCode::kInvalidArgument);
}

TEST_F(RenameTest, ReplacesAFileAndEndsIt) {
  const ApplyResult moved = fs_.Rename(a_, "file", b_, "other");
  ASSERT_TRUE(moved.ok());
  EXPECT_THAT(moved.effects.last_name_gone, ElementsAre(other_));
  EXPECT_THAT(moved.effects.inodes_removed, ElementsAre(other_));
  EXPECT_EQ(moved.reply.remove().replaced_attr().nlink(), 0u);
  EXPECT_THAT(fs_.Names(b_), ElementsAre("other"));
  EXPECT_EQ(fs_.Attr(b_).size(), 1u);
  EXPECT_FALSE(InodeExists(fs_.txn(), other_));
}

TEST_F(RenameTest, ReplacesAFileInTheSameDirectory) {
  const InodeId second = fs_.MustCreate(a_, "second");
  ASSERT_TRUE(fs_.Rename(a_, "file", a_, "second").ok());
  EXPECT_THAT(fs_.Names(a_), UnorderedElementsAre("sub", "second"));
  EXPECT_FALSE(InodeExists(fs_.txn(), second));
  EXPECT_EQ(PathOf(fs_.txn(), file_), "/a/second");
}

TEST_F(RenameTest, AReplacedFileThatIsOpenBecomesAnOrphan) {
  proto::LogCommand command = fs_.Command(kSession);
  proto::RenameOp* op = command.mutable_rename();
  op->set_parent(a_.value());
  op->set_name("file");
  op->set_new_parent(b_.value());
  op->set_new_name("other");
  op->set_target_open_here(true);
  const ApplyResult moved = fs_.Apply(command);
  EXPECT_TRUE(moved.reply.remove().orphaned());
  EXPECT_THAT(moved.effects.orphans, ElementsAre(other_));
  EXPECT_TRUE(InodeExists(fs_.txn(), other_));
}

TEST_F(RenameTest, ReplacesOnlyEmptyDirectoriesAndOnlyByDirectories) {
  EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "b", a_, "sub")), StatusCode::kNotEmpty);
  EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "b", a_, "file")), StatusCode::kNotDirectory);
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", sub_, "deep")), StatusCode::kIsDirectory);
  const ApplyResult moved = fs_.Rename(kRootInode, "b", sub_, "deep");
  ASSERT_TRUE(moved.ok());
  EXPECT_THAT(moved.effects.inodes_removed, ElementsAre(deep_));
  EXPECT_EQ(fs_.Attr(sub_).nlink(), 3u);
  EXPECT_EQ(fs_.Attr(kRootInode).nlink(), 3u);
  EXPECT_EQ(PathOf(fs_.txn(), other_), "/a/sub/deep/other");
}

TEST_F(RenameTest, ExchangeSwapsWhateverTheyAre) {
  ASSERT_TRUE(fs_.Rename(a_, "file", kRootInode, "b", kExchange).ok());
  EXPECT_EQ(PathOf(fs_.txn(), file_), "/b");
  EXPECT_EQ(PathOf(fs_.txn(), other_), "/a/file/other");
  EXPECT_EQ(fs_.Attr(kRootInode).nlink(), 3u);
  EXPECT_EQ(fs_.Attr(a_).nlink(), 4u);
  EXPECT_EQ(fs_.Attr(b_).parent(), a_.value());
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", a_, "absent", kExchange)), StatusCode::kNotFound);
  ASSERT_TRUE(fs_.Rename(a_, "file", a_, "sub", kExchange).ok());
  EXPECT_EQ(PathOf(fs_.txn(), sub_), "/a/file");
}

TEST_F(RenameTest, FlagsAreChecked) {
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", b_, "other", kNoReplace)), StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", b_, "x", kNoReplace | kExchange)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", b_, "x", 4)), StatusCode::kInvalidArgument);
  EXPECT_TRUE(fs_.Rename(a_, "file", b_, "x", kNoReplace).ok());
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", b_, "x")), StatusCode::kNotFound);
}

TEST_F(RenameTest, TwoNamesOfOneFileStayAsTheyAre) {
  ASSERT_TRUE(fs_.Link(file_, b_, "link").ok());
  const ApplyResult nothing = fs_.Rename(a_, "file", b_, "link");
  EXPECT_TRUE(nothing.ok());
  EXPECT_THAT(nothing.effects.directories, IsEmpty());
  EXPECT_EQ(fs_.Attr(file_).nlink(), 2u);
  EXPECT_TRUE(fs_.Rename(a_, "file", a_, "file").ok());
  ASSERT_TRUE(fs_.Rename(b_, "link", kRootInode, "away").ok());
  ASSERT_TRUE(fs_.Unlink(a_, "file").ok());
  EXPECT_EQ(PathOf(fs_.txn(), file_), "/away");
}

TEST_F(RenameTest, PermissionsAreThoseOfRemovingAndAdding) {
  const auto chmod = [&](InodeId inode, uint32_t mode, uint32_t uid) {
    proto::SetAttrOp op;
    op.set_inode(inode.value());
    op.set_mode(mode);
    op.set_uid(uid);
    ASSERT_TRUE(fs_.SetAttr(op).ok());
  };
  chmod(a_, 0755, 5);
  chmod(b_, 0755, 6);
  fs_.caller = User(5, 5);
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", b_, "x")), StatusCode::kAccessDenied)
      << "no write permission on the target directory";
  fs_.caller = User(6, 6);
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", b_, "x")), StatusCode::kAccessDenied)
      << "nor on the source directory";
  fs_.caller = User(0, 0);
  chmod(b_, 01777, 6);
  fs_.caller = User(5, 5);
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "file", b_, "other")), StatusCode::kNotPermitted)
      << "sticky: the victim is root's";
  EXPECT_EQ(CodeOf(fs_.Rename(a_, "sub", b_, "sub")), StatusCode::kAccessDenied) << "its '..' would change";
  EXPECT_TRUE(fs_.Rename(a_, "sub", a_, "sub2").ok()) << "its '..' stays";
  EXPECT_TRUE(fs_.Rename(a_, "file", b_, "x").ok());
}

}  // namespace
}  // namespace cairn::master
