// The namespace operations, with every error they can answer.
#include <gmock/gmock.h>

#include "master/state/records.h"
#include "tests/state/state_fixture.h"

namespace cairn::master {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class NamespaceTest : public testing::Test {
 protected:
  Result<proto::EntryResult> LookUp(InodeId parent, const std::string& name,
                                    const proto::Credentials& caller = User(0, 0)) {
    proto::LookupOp op;
    op.set_parent(parent.value());
    op.set_name(name);
    return Lookup(fs_.txn(), op, caller);
  }
  FileSystem fs_;
};

TEST_F(NamespaceTest, CreatedFileHasTheAttributesOfItsMaker) {
  fs_.caller = User(7, 8);
  proto::SetAttrOp open_root;
  fs_.caller = User(0, 0);
  open_root.set_inode(1);
  open_root.set_mode(0777);
  ASSERT_TRUE(fs_.SetAttr(open_root).ok());
  fs_.caller = User(7, 8);
  const uint64_t generation = fs_.Attr(kRootInode).generation();
  const ApplyResult made = fs_.Create(kRootInode, "f", 0640);
  ASSERT_TRUE(made.ok());
  const proto::Attr attr = made.reply.entry().attr();
  EXPECT_EQ(attr.type(), proto::REGULAR);
  EXPECT_EQ(attr.mode(), 0640u);
  EXPECT_EQ(attr.nlink(), 1u);
  EXPECT_EQ(attr.uid(), 7u);
  EXPECT_EQ(attr.gid(), 8u);
  EXPECT_EQ(attr.size(), 0u);
  EXPECT_EQ(attr.chunk_bytes(), 64ull << 20);
  EXPECT_EQ(attr.mtime().seconds(), attr.btime().seconds());
  const proto::Attr parent = made.reply.entry().parent_attr();
  EXPECT_EQ(parent.size(), 1u);
  EXPECT_EQ(parent.mtime().seconds(), attr.btime().seconds());
  EXPECT_EQ(parent.ctime().seconds(), attr.btime().seconds());
  EXPECT_EQ(parent.generation(), generation + 1);
  EXPECT_THAT(made.effects.directories, ElementsAre(kRootInode));
  auto found = LookUp(kRootInode, "f");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->attr().SerializeAsString(), attr.SerializeAsString());
}

TEST_F(NamespaceTest, NamesThatCannotBeAreRefused) {
  const struct {
    std::string name;
    StatusCode code;
  } kCases[] = {{"", StatusCode::kInvalidArgument},
                {".", StatusCode::kInvalidArgument},
                {"..", StatusCode::kInvalidArgument},
                {"a/b", StatusCode::kInvalidArgument},
                {std::string("a\0b", 3), StatusCode::kInvalidArgument},
                {std::string(256, 'x'), StatusCode::kNameTooLong}};
  fs_.MustCreate(kRootInode, "there");
  const std::string before = Dump(fs_.txn());
  for (const auto& test : kCases) {
    EXPECT_EQ(CodeOf(fs_.Create(kRootInode, test.name)), test.code) << test.name;
    EXPECT_EQ(CodeOf(fs_.Mkdir(kRootInode, test.name)), test.code) << test.name;
    EXPECT_EQ(CodeOf(fs_.Mknod(kRootInode, test.name, proto::FIFO)), test.code) << test.name;
    EXPECT_EQ(CodeOf(fs_.Symlink(kRootInode, test.name, "t")), test.code) << test.name;
    EXPECT_EQ(CodeOf(fs_.Unlink(kRootInode, test.name)), test.code) << test.name;
    EXPECT_EQ(CodeOf(fs_.Rmdir(kRootInode, test.name)), test.code) << test.name;
    EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, test.name, kRootInode, "x")), test.code) << test.name;
    EXPECT_EQ(CodeOf(fs_.Rename(kRootInode, "there", kRootInode, test.name)), test.code) << test.name;
  }
  EXPECT_THAT(fs_.Names(kRootInode), ElementsAre("there"));
  EXPECT_TRUE(fs_.Create(kRootInode, std::string(255, 'x')).ok());
}

TEST_F(NamespaceTest, AnExistingNameIsRefusedOrReturned) {
  const InodeId file = fs_.MustCreate(kRootInode, "f");
  fs_.MustMkdir(kRootInode, "d");
  EXPECT_EQ(CodeOf(fs_.Create(kRootInode, "f")), StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(fs_.Mkdir(kRootInode, "f")), StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(fs_.Symlink(kRootInode, "f", "t")), StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(fs_.Mknod(kRootInode, "d", proto::FIFO)), StatusCode::kAlreadyExists);
  const ApplyResult again = fs_.Create(kRootInode, "f", 0600, /*exclusive=*/false, /*want_write=*/true);
  EXPECT_EQ(FileSystem::InodeOf(again), file);
  EXPECT_THAT(again.effects.leases_granted, IsEmpty())
      << "a lease on an existing file needs its recalls first";
  EXPECT_EQ(CodeOf(fs_.Create(kRootInode, "d", 0600, /*exclusive=*/false)), StatusCode::kIsDirectory);
}

TEST_F(NamespaceTest, ParentsThatAreNoDirectoriesAreRefused) {
  const InodeId file = fs_.MustCreate(kRootInode, "f");
  EXPECT_EQ(CodeOf(fs_.Create(file, "x")), StatusCode::kNotDirectory);
  EXPECT_EQ(CodeOf(fs_.Mkdir(file, "x")), StatusCode::kNotDirectory);
  EXPECT_EQ(CodeOf(fs_.Unlink(file, "x")), StatusCode::kNotDirectory);
  EXPECT_EQ(CodeOf(fs_.Create(InodeId(99), "x")), StatusCode::kStaleHandle);
  EXPECT_EQ(LookUp(file, "x").code(), StatusCode::kNotDirectory);
  EXPECT_EQ(LookUp(InodeId(99), "x").code(), StatusCode::kStaleHandle);
  EXPECT_EQ(LookUp(kRootInode, "x").code(), StatusCode::kNotFound);
}

TEST_F(NamespaceTest, DirectoriesCountTheirSubdirectories) {
  const InodeId a = fs_.MustMkdir(kRootInode, "a");
  EXPECT_EQ(fs_.Attr(kRootInode).nlink(), 3u);
  const InodeId b = fs_.MustMkdir(a, "b");
  fs_.MustCreate(a, "f");
  EXPECT_EQ(fs_.Attr(a).nlink(), 3u);
  EXPECT_EQ(fs_.Attr(a).size(), 2u);
  EXPECT_EQ(fs_.Attr(b).parent(), a.value());
  EXPECT_EQ(LookUp(b, "..")->attr().inode(), a.value());
  EXPECT_EQ(LookUp(b, ".")->attr().inode(), b.value());
  EXPECT_EQ(LookUp(kRootInode, "..")->attr().inode(), kRootInode.value());
  EXPECT_EQ(CodeOf(fs_.Rmdir(kRootInode, "a")), StatusCode::kNotEmpty);
  EXPECT_EQ(CodeOf(fs_.Rmdir(a, "f")), StatusCode::kNotDirectory);
  EXPECT_EQ(CodeOf(fs_.Rmdir(a, "x")), StatusCode::kNotFound);
  EXPECT_EQ(CodeOf(fs_.Unlink(a, "b")), StatusCode::kIsDirectory);
  ASSERT_TRUE(fs_.Rmdir(a, "b").ok());
  EXPECT_EQ(fs_.Attr(a).nlink(), 2u);
  ASSERT_TRUE(fs_.Unlink(a, "f").ok());
  const ApplyResult removed = fs_.Rmdir(kRootInode, "a");
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(removed.reply.remove().inode_attr().nlink(), 0u);
  EXPECT_THAT(removed.effects.inodes_removed, ElementsAre(a));
  EXPECT_EQ(fs_.Attr(kRootInode).nlink(), 2u);
  EXPECT_FALSE(InodeExists(fs_.txn(), a));
  EXPECT_EQ(CountersOf(fs_.txn()).inodes, 1u);
}

TEST_F(NamespaceTest, SymlinksKeepTheirTarget) {
  const InodeId link = FileSystem::InodeOf(fs_.Symlink(kRootInode, "l", "../somewhere/else"));
  EXPECT_EQ(*ReadLink(fs_.txn(), link), "../somewhere/else");
  EXPECT_EQ(fs_.Attr(link).size(), 17u);
  EXPECT_EQ(fs_.Attr(link).mode(), 0777u);
  EXPECT_EQ(LookUp(kRootInode, "l")->symlink_target(), "../somewhere/else");
  EXPECT_EQ(CodeOf(fs_.Symlink(kRootInode, "m", "")), StatusCode::kNotFound);
  EXPECT_EQ(CodeOf(fs_.Symlink(kRootInode, "m", std::string(4096, 'x'))), StatusCode::kNameTooLong);
  EXPECT_EQ(CodeOf(fs_.Symlink(kRootInode, "m", std::string("a\0b", 3))), StatusCode::kInvalidArgument);
  EXPECT_TRUE(fs_.Symlink(kRootInode, "m", std::string(4095, 'x')).ok());
  EXPECT_EQ(ReadLink(fs_.txn(), kRootInode).code(), StatusCode::kInvalidArgument);
}

TEST_F(NamespaceTest, OnlyRootMakesDevices) {
  const ApplyResult device = fs_.Mknod(kRootInode, "null", proto::CHAR_DEVICE, 0666, 0x103);
  EXPECT_EQ(device.reply.entry().attr().rdev(), 0x103u);
  const InodeId open = fs_.MustMkdir(kRootInode, "open", 0777);
  (void)open;
  proto::SetAttrOp op;
  op.set_inode(open.value());
  op.set_mode(0777);
  ASSERT_TRUE(fs_.SetAttr(op).ok());
  fs_.caller = User(5, 5);
  EXPECT_EQ(CodeOf(fs_.Mknod(open, "null", proto::BLOCK_DEVICE)), StatusCode::kNotPermitted);
  EXPECT_TRUE(fs_.Mknod(open, "fifo", proto::FIFO).ok());
  EXPECT_TRUE(fs_.Mknod(open, "sock", proto::SOCKET).ok());
  EXPECT_EQ(CodeOf(fs_.Mknod(open, "d", proto::DIRECTORY)), StatusCode::kInvalidArgument);
}

TEST_F(NamespaceTest, AFileHasAMillionNamesAtMost) {
  const InodeId file(fs_.Create(kRootInode, "f").reply.entry().attr().inode());
  auto record = LoadInode(fs_.txn(), file);
  ASSERT_TRUE(record.ok());
  record->set_nlink(kMaxLinks - 1);
  SaveInode(&fs_.txn(), file, *record);
  ASSERT_TRUE(fs_.Link(file, kRootInode, "last").ok());
  EXPECT_EQ(CodeOf(fs_.Link(file, kRootInode, "one too many")), StatusCode::kTooManyLinks);
  EXPECT_EQ(fs_.Attr(file).nlink(), kMaxLinks);
}

TEST_F(NamespaceTest, HardLinksShareTheInodeUntilTheLastNameGoes) {
  const InodeId d = fs_.MustMkdir(kRootInode, "d");
  const InodeId file = fs_.MustCreate(kRootInode, "f");
  ASSERT_TRUE(fs_.Link(file, d, "g").ok());
  const ApplyResult third = fs_.Link(file, kRootInode, "h");
  EXPECT_EQ(third.reply.entry().attr().nlink(), 3u);
  EXPECT_THAT(third.effects.inodes, ElementsAre(file));
  EXPECT_EQ(CodeOf(fs_.Link(file, d, "g")), StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(fs_.Link(d, kRootInode, "x")), StatusCode::kNotPermitted);
  EXPECT_EQ(CodeOf(fs_.Link(InodeId(99), kRootInode, "x")), StatusCode::kStaleHandle);
  EXPECT_EQ(PathOf(fs_.txn(), file), "/f");
  ASSERT_TRUE(fs_.Unlink(kRootInode, "f").ok());
  EXPECT_EQ(fs_.Attr(file).nlink(), 2u);
  EXPECT_EQ(PathOf(fs_.txn(), file), "/h") << "another of its names takes over";
  ASSERT_TRUE(fs_.Unlink(d, "g").ok());
  EXPECT_EQ(PathOf(fs_.txn(), file), "/h");
  const ApplyResult last = fs_.Unlink(kRootInode, "h");
  EXPECT_THAT(last.effects.inodes_removed, ElementsAre(file));
  EXPECT_THAT(last.effects.last_name_gone, ElementsAre(file));
  EXPECT_EQ(last.reply.remove().inode_attr().nlink(), 0u);
  EXPECT_FALSE(last.reply.remove().orphaned());
  EXPECT_EQ(CodeOf(fs_.Unlink(kRootInode, "h")), StatusCode::kNotFound);
}

TEST_F(NamespaceTest, UnlinkUpdatesTimesOfFileAndDirectory) {
  const InodeId file = fs_.MustCreate(kRootInode, "f");
  ASSERT_TRUE(fs_.Link(file, kRootInode, "g").ok());
  const proto::Attr before = fs_.Attr(file);
  ASSERT_TRUE(fs_.Unlink(kRootInode, "g").ok());
  const proto::Attr after = fs_.Attr(file);
  EXPECT_GT(after.ctime().seconds(), before.ctime().seconds());
  EXPECT_EQ(after.mtime().seconds(), before.mtime().seconds());
  EXPECT_EQ(fs_.Attr(kRootInode).mtime().seconds(), after.ctime().seconds());
}

TEST_F(NamespaceTest, AFileUnlinkedWhileOpenIsKeptUntilTheLastClose) {
  const InodeId file = fs_.MustCreate(kRootInode, "f");
  proto::SessionOpens open;
  open.set_session(kOther.value());
  open.set_inode(file.value());
  fs_.opens = {open};
  const ApplyResult removed = fs_.Unlink(kRootInode, "f", /*open_here=*/true);
  fs_.opens.clear();
  EXPECT_TRUE(removed.reply.remove().orphaned());
  EXPECT_THAT(removed.effects.orphans, ElementsAre(file));
  EXPECT_THAT(removed.effects.inodes_removed, IsEmpty());
  EXPECT_THAT(Orphans(fs_.txn(), InodeId(0), 10), ElementsAre(file));
  EXPECT_THAT(HoldersOf(fs_.txn(), file), UnorderedElementsAre(kSession, kOther));
  EXPECT_EQ(CodeOf(fs_.Link(file, kRootInode, "back")), StatusCode::kNotFound)
      << "an orphan gets no new name";
  EXPECT_EQ(PathOf(fs_.txn(), file), "(deleted inode " + ToString(file) + ")");

  proto::LogCommand reclaim = fs_.Command(SessionId(0));
  reclaim.mutable_reclaim_inode()->set_inode(file.value());
  EXPECT_EQ(CodeOf(fs_.Apply(reclaim)), StatusCode::kBusy);
  proto::LogCommand close = fs_.Command(kSession);
  close.mutable_close_orphans()->add_inodes(file.value());
  EXPECT_THAT(fs_.Apply(close).effects.orphans_released, IsEmpty());
  EXPECT_THAT(fs_.CloseSession(kOther).effects.orphans_released, ElementsAre(file));
  EXPECT_THAT(fs_.Apply(reclaim).effects.inodes_removed, ElementsAre(file));
  EXPECT_THAT(Orphans(fs_.txn(), InodeId(0), 10), IsEmpty());
  EXPECT_TRUE(fs_.Apply(reclaim).ok()) << "a repeat changes nothing";
}

TEST_F(NamespaceTest, AHoldFromAnotherSessionKeepsTheFileAndAStaleOneOfOwnDoesNot) {
  const InodeId file = fs_.MustCreate(kRootInode, "f");
  proto::LogCommand hold = fs_.Command(SessionId(0));
  hold.mutable_hold_open()->set_session(kSession.value());
  hold.mutable_hold_open()->add_inodes(file.value());
  ASSERT_TRUE(fs_.Apply(hold).ok());
  EXPECT_THAT(HoldsOfSession(fs_.txn(), kSession), ElementsAre(file));
  const ApplyResult gone = fs_.Unlink(kRootInode, "f", /*open_here=*/false);
  EXPECT_THAT(gone.effects.inodes_removed, ElementsAre(file)) << "this session says now that it is not open";
  const InodeId second = fs_.MustCreate(kRootInode, "g");
  hold.mutable_hold_open()->set_session(kOther.value());
  hold.mutable_hold_open()->set_inodes(0, second.value());
  ASSERT_TRUE(fs_.Apply(hold).ok());
  EXPECT_THAT(fs_.Unlink(kRootInode, "g").effects.orphans, ElementsAre(second));
}

TEST_F(NamespaceTest, AnOpenOfASessionThatEndedDoesNotKeepAFile) {
  const InodeId file = fs_.MustCreate(kRootInode, "f");
  ASSERT_TRUE(fs_.CloseSession(kOther).ok());
  proto::SessionOpens open;
  open.set_session(kOther.value());
  open.set_inode(file.value());
  fs_.opens = {open};
  EXPECT_THAT(fs_.Unlink(kRootInode, "f").effects.inodes_removed, ElementsAre(file));
}

TEST_F(NamespaceTest, PreviewTellsTheOutcomeAndChangesNothing) {
  const InodeId file = fs_.MustCreate(kRootInode, "f");
  const std::string before = Dump(fs_.txn());
  proto::LogCommand command = fs_.Command(kSession);
  command.mutable_unlink()->set_parent(1);
  command.mutable_unlink()->set_name("f");
  const ApplyResult plan = fs_.Preview(command);
  EXPECT_TRUE(plan.ok());
  EXPECT_THAT(plan.effects.last_name_gone, ElementsAre(file));
  EXPECT_THAT(plan.effects.directories, ElementsAre(kRootInode));
  command.mutable_unlink()->set_name("g");
  EXPECT_EQ(CodeOf(fs_.Preview(command)), StatusCode::kNotFound);
  proto::LogCommand create;
  create.mutable_create()->set_parent(1);
  create.mutable_create()->set_name("new");
  create.mutable_create()->set_want_write(true);
  create.set_session(kSession.value());
  create.set_request_number(12345);
  const ApplyResult creation = fs_.Preview(create);
  EXPECT_THAT(creation.effects.placements_needed, ElementsAre(InodeChunk{InodeId(0), 0}));
  ASSERT_EQ(creation.effects.leases_granted.size(), 1u);
  EXPECT_EQ(creation.effects.leases_granted[0].inode, InodeId(0));
  EXPECT_EQ(Dump(fs_.txn()), before);
}

TEST_F(NamespaceTest, ReadDirCursorsStayValidUnderChange) {
  std::vector<std::string> expected;
  for (int i = 0; i < 10; ++i) {
    expected.push_back("f" + std::to_string(i));
    fs_.MustCreate(kRootInode, expected.back());
  }
  proto::ReadDirOp op;
  op.set_inode(1);
  op.set_max_entries(4);
  op.set_with_attrs(true);
  auto first = ReadDir(fs_.txn(), op, User(0, 0));
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->entries_size(), 4);
  EXPECT_FALSE(first->end());
  EXPECT_EQ(first->parent(), 1u);
  EXPECT_EQ(first->entries(0).attr().inode(), first->entries(0).inode());
  std::vector<std::string> seen;
  for (const auto& entry : first->entries()) seen.push_back(entry.name());
  op.set_cursor(first->entries(3).cursor());
  // The entry of the cursor itself goes, an entry not yet shown goes, one is renamed, some are made.
  const std::string gone = [&] {
    for (const std::string& name : expected) {
      if (std::find(seen.begin(), seen.end(), name) == seen.end()) return name;
    }
    return std::string();
  }();
  ASSERT_TRUE(fs_.Unlink(kRootInode, seen[3]).ok());
  ASSERT_TRUE(fs_.Unlink(kRootInode, gone).ok());
  ASSERT_TRUE(fs_.Rename(kRootInode, seen[0], kRootInode, "renamed").ok());
  for (int i = 0; i < 20; ++i) fs_.MustCreate(kRootInode, "late" + std::to_string(i));
  op.set_max_entries(100);
  auto rest = ReadDir(fs_.txn(), op, User(0, 0));
  ASSERT_TRUE(rest.ok());
  EXPECT_TRUE(rest->end());
  std::vector<std::string> later;
  for (const auto& entry : rest->entries()) later.push_back(entry.name());
  std::vector<std::string> rest_expected;
  for (const std::string& name : expected) {
    if (name != gone && std::find(seen.begin(), seen.end(), name) == seen.end())
      rest_expected.push_back(name);
  }
  EXPECT_THAT(later, testing::UnorderedElementsAreArray(rest_expected))
      << "nothing missed, nothing twice, nothing made since";
}

TEST_F(NamespaceTest, AProgramThatRenamesWhatItReadsComesToAnEnd) {
  for (int i = 0; i < 5; ++i) fs_.MustCreate(kRootInode, "f" + std::to_string(i));
  proto::ReadDirOp op;
  op.set_inode(1);
  op.set_max_entries(1);
  int steps = 0;
  for (; steps < 100; ++steps) {
    auto page = ReadDir(fs_.txn(), op, User(0, 0));
    ASSERT_TRUE(page.ok());
    if (page->entries_size() == 0) break;
    op.set_cursor(page->entries(0).cursor());
    ASSERT_TRUE(
        fs_.Rename(kRootInode, page->entries(0).name(), kRootInode, "x" + page->entries(0).name()).ok());
    ASSERT_TRUE(fs_.Create(kRootInode, "copy" + std::to_string(steps)).ok());
  }
  EXPECT_EQ(steps, 5);
}

}  // namespace
}  // namespace cairn::master
