// The trash as the state machine sees it: what goes there, who may take it out, what purging releases.
#include "master/state/trash.h"

#include <gmock/gmock.h>

#include "master/state/fsck.h"
#include "tests/state/state_fixture.h"

namespace cairn::master {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class TrashTest : public testing::Test {
 protected:
  TrashTest() {
    kept_ = fs_.MustMkdir(kRootInode, "kept", 0777);
    SetTrash(kept_, 1000);
  }
  void SetTrash(InodeId directory, std::optional<uint64_t> seconds) {
    proto::LogCommand command = fs_.Command(kSession);
    command.mutable_set_policy()->set_inode(directory.value());
    if (seconds) command.mutable_set_policy()->mutable_policy()->set_trash_seconds(*seconds);
    ASSERT_TRUE(fs_.Apply(command).ok());
  }
  ApplyResult Undelete(InodeId inode, InodeId parent = InodeId{}, const std::string& name = "") {
    proto::LogCommand command = fs_.Command(kSession);
    command.mutable_undelete()->set_inode(inode.value());
    command.mutable_undelete()->set_new_parent(parent.value());
    command.mutable_undelete()->set_new_name(name);
    return fs_.Apply(command);
  }
  ApplyResult Purge(InodeId inode, SessionId session = kSession) {
    proto::LogCommand command = fs_.Command(session);
    command.mutable_trash_purge()->add_inodes(inode.value());
    return fs_.Apply(command);
  }
  size_t Visible(const proto::Credentials& caller) {
    auto list = ListTrash(fs_.txn(), {}, caller);
    return list.ok() ? static_cast<size_t>(list->entries_size()) : SIZE_MAX;
  }
  FileSystem fs_;
  InodeId kept_;
};

TEST_F(TrashTest, ADeleteKeepsTheInodeAndAsksNobodyToDropWhatIsCached) {
  const InodeId file = fs_.MustCreate(kept_, "file");
  const ApplyResult gone = fs_.Unlink(kept_, "file");
  ASSERT_TRUE(gone.ok());
  EXPECT_TRUE(gone.reply.remove().in_trash());
  EXPECT_FALSE(gone.reply.remove().orphaned());
  EXPECT_THAT(gone.effects.last_name_gone, IsEmpty());
  EXPECT_THAT(gone.effects.inodes_removed, IsEmpty());
  EXPECT_THAT(gone.effects.chunks_deleting, IsEmpty());
  EXPECT_THAT(fs_.Names(kept_), IsEmpty());
  EXPECT_EQ(fs_.Attr(file).nlink(), 0u);
  EXPECT_EQ(TrashUseOf(fs_.txn()).inodes, 1u);
  EXPECT_EQ(TrashRecordOf(fs_.txn(), file)->path(), "/kept/file");

  EXPECT_EQ(CodeOf(Undelete(file, InodeId(999), "x")), StatusCode::kNotFound);
  ASSERT_TRUE(Undelete(file).ok());
  EXPECT_THAT(fs_.Names(kept_), ElementsAre("file"));
  EXPECT_EQ(fs_.Attr(file).nlink(), 1u);
  EXPECT_EQ(TrashUseOf(fs_.txn()).inodes, 0u);
  EXPECT_EQ(CodeOf(Undelete(file)), StatusCode::kNotFound);
}

TEST_F(TrashTest, OnlyTheLastNameGoesThereAndOnlyBelowSuchADirectory) {
  const InodeId linked = fs_.MustCreate(kept_, "a");
  ASSERT_TRUE(fs_.Link(linked, kept_, "b").ok());
  EXPECT_FALSE(fs_.Unlink(kept_, "a").reply.remove().in_trash());
  EXPECT_TRUE(fs_.Unlink(kept_, "b").reply.remove().in_trash());
  fs_.MustCreate(kRootInode, "plain");
  EXPECT_THAT(fs_.Unlink(kRootInode, "plain").effects.inodes_removed, testing::SizeIs(1));
  const InodeId off = fs_.MustMkdir(kept_, "off");
  SetTrash(off, 0);
  fs_.MustCreate(off, "x");
  EXPECT_THAT(fs_.Unlink(off, "x").effects.inodes_removed, testing::SizeIs(1)) << "off below it wins";
  EXPECT_TRUE(fs_.Mknod(kept_, "pipe", proto::FIFO).ok());
  EXPECT_FALSE(fs_.Unlink(kept_, "pipe").reply.remove().in_trash()) << "a pipe holds nothing";
}

TEST_F(TrashTest, ARenameOverAFileAndARemovedDirectoryAreKept) {
  const InodeId old = fs_.MustCreate(kept_, "target");
  fs_.MustCreate(kept_, "source");
  const ApplyResult renamed = fs_.Rename(kept_, "source", kept_, "target");
  EXPECT_TRUE(renamed.reply.remove().in_trash());
  EXPECT_EQ(CodeOf(Undelete(old)), StatusCode::kAlreadyExists);
  EXPECT_TRUE(Undelete(old, kept_, "rescued").ok());

  const InodeId sub = fs_.MustMkdir(kept_, "sub", 0750);
  const InodeId deep = fs_.MustCreate(sub, "deep");
  ASSERT_TRUE(fs_.Unlink(sub, "deep").ok());
  ASSERT_TRUE(fs_.Rmdir(kept_, "sub").ok());
  EXPECT_FALSE(fs_.Create(sub, "into a deleted directory").ok());
  EXPECT_EQ(CodeOf(Undelete(deep)), StatusCode::kNotFound) << "its directory first";
  ASSERT_TRUE(Undelete(sub).ok());
  ASSERT_TRUE(Undelete(deep).ok());
  EXPECT_EQ(PathOf(fs_.txn(), deep), "/kept/sub/deep");
  EXPECT_EQ(fs_.Attr(sub).mode(), 0750u);
  EXPECT_EQ(fs_.Attr(sub).nlink(), 2u);
  EXPECT_EQ(fs_.Attr(kept_).nlink(), 3u);
}

TEST_F(TrashTest, FsckFindsWhatWouldStayForever) {
  const InodeId file = fs_.MustCreate(kept_, "file");
  ASSERT_TRUE(fs_.Unlink(kept_, "file").ok());
  const auto problems = [&] {
    auto page = CheckPage(fs_.txn(), kRootInode, "", 10'000);
    return page.ok() ? page->problems_size() : -1;
  };
  EXPECT_EQ(problems(), 0);
  fs_.txn().Delete(Family::kOrphans, keys::Inode(file));
  EXPECT_GT(problems(), 0);
  fs_.txn().Put(Family::kOrphans, keys::Inode(file), "");
  EXPECT_EQ(problems(), 0);
  for (InodeId listed : ExpiredTrash(fs_.txn(), INT64_MAX / 2, 1)) {
    const auto seconds = static_cast<uint64_t>(TrashRecordOf(fs_.txn(), listed)->expires().seconds());
    fs_.txn().Delete(Family::kTrash, keys::TrashListed(keys::TrashList::kExpiry, seconds, listed));
  }
  EXPECT_EQ(problems(), 1);
}

TEST_F(TrashTest, OwnerAndDeleterMayTakeItOutOthersMayNotEvenSeeIt) {
  fs_.caller = User(100, 100);
  const InodeId file = fs_.MustCreate(kept_, "mine");
  ASSERT_TRUE(fs_.Unlink(kept_, "mine").ok());
  EXPECT_EQ(Visible(User(100, 100)), 1u);
  EXPECT_EQ(Visible(User(0, 0)), 1u);
  EXPECT_EQ(Visible(User(101, 100)), 0u);
  fs_.caller = User(101, 100);
  EXPECT_EQ(CodeOf(Undelete(file)), StatusCode::kNotPermitted);
  EXPECT_EQ(CodeOf(Purge(file)), StatusCode::kNotPermitted);
  EXPECT_EQ(TrashUseOf(fs_.txn()).inodes, 1u);
  fs_.caller = User(100, 100);
  EXPECT_TRUE(Undelete(file).ok());
}

TEST_F(TrashTest, PurgingReleasesTheOrphanUnlessItIsStillOpenSomewhere) {
  const InodeId file = fs_.MustCreate(kept_, "file");
  const InodeId open = fs_.MustCreate(kept_, "open");
  ASSERT_TRUE(fs_.Unlink(kept_, "file").ok());
  const ApplyResult held = fs_.Unlink(kept_, "open", /*open_here=*/true);
  EXPECT_TRUE(held.reply.remove().in_trash());
  EXPECT_TRUE(held.reply.remove().orphaned());
  EXPECT_THAT(ExpiredTrash(fs_.txn(), 0, 10), IsEmpty());
  EXPECT_EQ(ExpiredTrash(fs_.txn(), INT64_MAX / 2, 10).size(), 2u);
  EXPECT_THAT(OldestTrash(fs_.txn(), 1), ElementsAre(file));
  EXPECT_THAT(Purge(file).effects.orphans_released, ElementsAre(file));
  EXPECT_THAT(Purge(open).effects.orphans_released, IsEmpty()) << "an application still has it";
  EXPECT_EQ(TrashUseOf(fs_.txn()).inodes, 0u);
  EXPECT_EQ(TrashUseOf(fs_.txn()).bytes, 0u);
  // A reclaim of what is still in the trash would lose it.
  const InodeId other = fs_.MustCreate(kept_, "other");
  ASSERT_TRUE(fs_.Unlink(kept_, "other").ok());
  proto::LogCommand reclaim = fs_.Command(SessionId{});
  reclaim.mutable_reclaim_inode()->set_inode(other.value());
  EXPECT_EQ(CodeOf(fs_.Apply(reclaim)), StatusCode::kBusy);
}

}  // namespace
}  // namespace cairn::master
