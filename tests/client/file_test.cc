// Open files: handles, appends, truncation, times, errors, unlinked files.
#include "tests/client/client_fixture.h"

namespace cairn::client::testing {
namespace {

using Op = proto::Request;

class FileTest : public ClientTest {
 protected:
  std::string ReadAll(ClientImpl& client, Handle handle) {
    std::string text(1024, 0);
    auto got = client.Read(handle, 0, std::as_writable_bytes(std::span(text)));
    EXPECT_TRUE(got.ok()) << got.status().ToString();
    text.resize(got.ok() ? *got : 0);
    return text;
  }
};

TEST_F(FileTest, AppendsGoToTheEndWhateverTheOffset) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true, .append = true});
  ASSERT_TRUE(created.ok());
  EXPECT_EQ(*client->Write(created->handle, 0, Bytes("one")), 0u);
  EXPECT_EQ(*client->Write(created->handle, 0, Bytes("two")), 3u);
  EXPECT_EQ(ReadAll(*client, created->handle), "onetwo");
}

TEST_F(FileTest, ACopyWithoutExactNamesGoesThroughTheClient) {
  auto client = Connect();
  auto from = client->Create(root, kRoot, "a", {}, {.write = true});
  auto to = client->Create(root, kRoot, "b", {}, {.write = true});
  ASSERT_TRUE(from.ok() && to.ok());
  ASSERT_TRUE(client->Write(from->handle, 0, Bytes("0123456789")).ok());
  ASSERT_TRUE(client->Write(to->handle, 0, Bytes("abcdefghij")).ok());
  EXPECT_EQ(*client->CopyRange(from->handle, 2, to->handle, 5, 3), 3u);
  EXPECT_EQ(ReadAll(*client, to->handle), "abcde234ij");
  EXPECT_EQ(*client->CopyRange(from->handle, 7, to->handle, 9, 100), 3u) << "the source ends";
  EXPECT_EQ(ReadAll(*client, to->handle), "abcde234i789");
  EXPECT_EQ(*client->CopyRange(from->handle, 10, to->handle, 0, 100), 0u);
  EXPECT_EQ(*client->CopyRange(from->handle, 0, from->handle, 10, 4), 4u) << "within one file";
  EXPECT_EQ(ReadAll(*client, from->handle), "01234567890123");
  EXPECT_EQ(client->Stats().bytes_copied_here, 10u);
  EXPECT_EQ(client->Stats().bytes_copied, 0u);
}

TEST_F(FileTest, CopiesThatMakeNoSenseAreRefused) {
  auto client = Connect();
  auto file = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(file.ok());
  const InodeId inode = file->entry.attr.inode;
  ASSERT_TRUE(client->Write(file->handle, 0, Bytes("0123456789")).ok());
  auto other = client->Create(root, kRoot, "b", {}, {.write = true});
  const auto reader = client->Open(root, inode, {});
  const auto writer = client->Open(root, inode, {.read = false, .write = true});
  ASSERT_TRUE(other.ok() && reader.ok() && writer.ok());
  EXPECT_EQ(client->CopyRange(*writer, 0, other->handle, 0, 5).code(), StatusCode::kBadHandle);
  EXPECT_EQ(client->CopyRange(other->handle, 0, *reader, 0, 5).code(), StatusCode::kBadHandle);
  EXPECT_EQ(client->CopyRange(file->handle, 0, static_cast<Handle>(999), 0, 5).code(), StatusCode::kBadHandle);
  EXPECT_EQ(client->CopyRange(file->handle, 0, *writer, 4, 5).code(), StatusCode::kInvalidArgument) << "overlap";
  EXPECT_EQ(client->CopyRange(file->handle, UINT64_MAX, other->handle, 0, 5).code(), StatusCode::kOverflow);
  EXPECT_EQ(*client->CopyRange(file->handle, 0, other->handle, 0, 0), 0u);
}

TEST_F(FileTest, ShrinkingIsLoggedAtTheMasterFirstAndGrowingIsNot) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const InodeId inode = created->entry.attr.inode;
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(client->SetAttr(root, inode, {.size = 10}).ok());
  EXPECT_EQ(master.Count(Op::kSetAttr), 0);
  EXPECT_EQ(client->GetAttr(root, inode)->attr.size, 10u);
  ASSERT_TRUE(client->SetAttr(root, inode, {.size = 2}).ok());
  EXPECT_EQ(master.Count(Op::kSetAttr), 1);
  EXPECT_EQ(ReadAll(*client, created->handle), "he");
}

TEST_F(FileTest, OpeningWithTruncateIsOneRequest) {
  const InodeId inode(master.AddFile(1, "a", 0644, 0, 0, 100));
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, inode).ok());
  const int before = master.Total();
  auto handle = client->Open(root, inode, {.write = true, .truncate = true});
  ASSERT_TRUE(handle.ok()) << handle.status().ToString();
  EXPECT_EQ(master.Total(), before + 1);
  EXPECT_EQ(client->GetAttr(root, inode)->attr.size, 0u);
}

TEST_F(FileTest, ATimeSetAfterAWriteIsNotMovedByItsCommit) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const InodeId inode = created->entry.attr.inode;
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  const TimeSpec old{.seconds = 1000, .nanos = 5};
  ASSERT_TRUE(client->SetAttr(root, inode, {.mtime = old}).ok());
  EXPECT_EQ(client->GetAttr(root, inode)->attr.mtime, old);
  ASSERT_TRUE(client->Fsync(created->handle, false).ok());
  ASSERT_EQ(master.commits().size(), 1u);
  EXPECT_EQ(master.commits()[0].size(), 5u);
  EXPECT_EQ(master.commits()[0].mtime().seconds(), old.seconds);
  EXPECT_EQ(client->GetAttr(root, inode)->attr.mtime, old);
  // A write that comes later moves it again, and its commit says so.
  clock.Advance(kNanosPerSecond);
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("again")).ok());
  const TimeSpec written = client->GetAttr(root, inode)->attr.mtime;
  EXPECT_GT(written, old);
  ASSERT_TRUE(client->Fsync(created->handle, false).ok());
  ASSERT_EQ(master.commits().size(), 2u);
  EXPECT_EQ(master.commits()[1].mtime().seconds(), written.seconds);
  EXPECT_EQ(client->GetAttr(root, inode)->attr.mtime, written);
}

// Whoever set times sees them at once, whatever the master, who was not told yet, says of the file meanwhile.
TEST_F(FileTest, TimesSetUnderTheLeaseAreShownAndKeepWhenTheMasterIsTold) {
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const InodeId inode = created->entry.attr.inode;
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  const TimeSpec atime{.seconds = 2000}, mtime{.seconds = 1000, .nanos = 5};
  auto set = client->SetAttr(root, inode, {.atime = atime, .mtime = mtime});
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set->attr.atime, atime);
  EXPECT_EQ(set->attr.mtime, mtime);
  const TimeSpec ctime = set->attr.ctime;
  EXPECT_GT(ctime, mtime) << "the time of the change itself";
  const auto shown = [&](const char* when) {
    const auto entry = client->GetAttr(root, inode);
    ASSERT_TRUE(entry.ok());
    EXPECT_EQ(entry->attr.atime, atime) << when;
    EXPECT_EQ(entry->attr.mtime, mtime) << when;
    EXPECT_EQ(entry->attr.ctime, ctime) << when;
    EXPECT_EQ(entry->attr.size, 5u) << when;
  };
  shown("at once");
  ASSERT_TRUE(client->ReadDirectory(root, kRoot, 0, 100, true).ok());
  shown("after a listing with older attributes");
  ASSERT_TRUE(client->Fsync(created->handle, false).ok());
  shown("after an fsync");
  ASSERT_EQ(master.commits().size(), 1u);
  EXPECT_EQ(master.commits()[0].atime().seconds(), 2000);
  EXPECT_EQ(master.commits()[0].mtime().seconds(), 1000);
  EXPECT_EQ(master.commits()[0].ctime().seconds(), ctime.seconds);
  ASSERT_TRUE(client->ReadDirectory(root, kRoot, 0, 100, true).ok());
  shown("after a listing with what the master was told");
}

TEST_F(FileTest, WhatTheMasterSetsComesAfterTimesThatAreHeld) {
  const Caller owner{.uid = 7, .gid = 7};
  const Caller writer{.uid = 8, .gid = 8};
  const InodeId inode(master.AddFile(1, "a", 0666, 7, 7, 0));
  auto client = Connect();
  auto handle = client->Open(owner, inode, {.write = true});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(client->Write(*handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(client->SetAttr(owner, inode, {.mtime = TimeSpec{.seconds = 1000}}).ok());
  EXPECT_EQ(master.Count(Op::kSetAttr), 0);
  // Not the owner: whether that is allowed is the master's to say, and the older time is not behind it.
  ASSERT_TRUE(client->SetAttr(writer, inode, {.mtime = TimeSpec{.seconds = 3000}}).ok());
  EXPECT_EQ(master.Count(Op::kSetAttr), 1);
  ASSERT_EQ(master.commits().size(), 1u);
  EXPECT_EQ(master.commits()[0].mtime().seconds(), 1000);
  ASSERT_TRUE(client->Fsync(*handle, false).ok());
  EXPECT_EQ(client->GetAttr(owner, inode)->attr.mtime.seconds, 3000);
  for (size_t i = 1; i < master.commits().size(); ++i) EXPECT_FALSE(master.commits()[i].has_mtime());
}

TEST_F(FileTest, FsyncMakesDataSizeAndMetadataDurable) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(client->Fsync(created->handle, true).ok());
  EXPECT_EQ(replicas.CountOf("durable " + ToString(created->entry.attr.inode)), 1);
  EXPECT_EQ(master.Count(Op::kWriteBack), 1);
  EXPECT_EQ(master.Count(Op::kSync), 0) << "the commit itself asks for durability";
  EXPECT_EQ(master.AttrOf(created->entry.attr.inode.value()).size(), 5u);
}

TEST_F(FileTest, PagesGoWhenAnAppendLandsElsewhereThanTheKernelBelieved) {
  RecordingListener listener;
  auto client = Connect(&listener);
  auto created = client->Create(root, kRoot, "a", {}, {.write = true, .append = true});
  ASSERT_TRUE(created.ok());
  const std::string dropped = "inode " + ToString(created->entry.attr.inode) + " data";
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  EXPECT_FALSE(listener.Saw(dropped));
  const auto written = client->Write(created->handle, 2, Bytes(" world"));
  ASSERT_TRUE(written.ok());
  EXPECT_EQ(*written, 5u);
  client.reset();  // waits for what is under way
  EXPECT_TRUE(listener.Saw(dropped));
}

TEST_F(FileTest, FsyncReachesTheDisksAlsoWhenTheLeaseWasGivenBack) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const uint64_t inode = created->entry.attr.inode.value();
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(master.Recall(inode, proto::LEASE_NONE));
  ASSERT_EQ(master.AwaitRecallReply(inode).inode(), inode);
  ASSERT_TRUE(client->Fsync(created->handle, false).ok());
  EXPECT_EQ(replicas.CountOf("durable " + std::to_string(inode)), 1);
}

TEST_F(FileTest, AFailedFlushIsReportedOncePerHandle) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  auto other = client->Open(root, created->entry.attr.inode, {.write = true});
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  {
    std::lock_guard lock(replicas.mu);
    replicas.flush_error = Status(StatusCode::kNoQuorum, "1 of the 2 confirmations required");
  }
  EXPECT_EQ(client->Flush(created->handle).code(), StatusCode::kNoQuorum);
  {
    std::lock_guard lock(replicas.mu);
    replicas.flush_error = Status::Ok();
  }
  EXPECT_TRUE(client->Flush(created->handle).ok());
  EXPECT_EQ(client->Write(*other, 0, Bytes("x")).code(), StatusCode::kNoQuorum);
  EXPECT_TRUE(client->Write(*other, 0, Bytes("x")).ok());
  EXPECT_TRUE(client->Close(*other).ok());
  EXPECT_TRUE(client->Close(created->handle).ok());
}

TEST_F(FileTest, AFileUnlinkedWhileOpenStaysUsableAndIsGivenUpAtTheLastClose) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const uint64_t inode = created->entry.attr.inode.value();
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(client->Unlink(root, kRoot, "a").ok());
  EXPECT_EQ(ReadAll(*client, created->handle), "hello");
  ASSERT_TRUE(client->Write(created->handle, 5, Bytes("!")).ok());
  EXPECT_EQ(ReadAll(*client, created->handle), "hello!");
  EXPECT_TRUE(client->Close(created->handle).ok());
  EXPECT_EQ(master.closed_orphans(), std::vector<uint64_t>{inode});
  EXPECT_EQ(replicas.CountOf("discard " + std::to_string(inode)), 1);
  EXPECT_FALSE(master.Exists(inode));
}

TEST_F(FileTest, RenamingOverAnOpenFileKeepsItUntilTheLastClose) {
  const uint64_t target = master.AddFile(1, "target");
  master.AddFile(1, "source");
  auto client = Connect();
  ASSERT_TRUE(client->Lookup(root, kRoot, "target").ok());
  auto handle = client->Open(root, InodeId(target), {});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(client->Rename(root, kRoot, "source", kRoot, "target", 0).ok());
  EXPECT_TRUE(master.closed_orphans().empty());
  EXPECT_TRUE(client->Close(*handle).ok());
  EXPECT_EQ(master.closed_orphans(), std::vector<uint64_t>{target});
}

TEST_F(FileTest, UnlinkingAClosedFileDropsWhatIsLeftOfIt) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  ASSERT_TRUE(client->Close(created->handle).ok());
  ASSERT_TRUE(client->Unlink(root, kRoot, "a").ok());
  ASSERT_TRUE(client->SyncAll().ok());
  EXPECT_EQ(replicas.CountOf("discard " + ToString(created->entry.attr.inode)), 1);
  EXPECT_TRUE(master.commits().empty());
}

TEST_F(FileTest, WhatIsBufferedIsSealedWhenTheClientEnds) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const uint64_t inode = created->entry.attr.inode.value();
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
  client.reset();
  EXPECT_EQ(replicas.files[inode], "hello");
  EXPECT_EQ(replicas.CountOf("seal " + std::to_string(inode)), 1);
  ASSERT_FALSE(master.commits().empty());
  EXPECT_EQ(master.commits().back().keep(), proto::LEASE_NONE);
  EXPECT_FALSE(master.Holds(inode));
}

}  // namespace
}  // namespace cairn::client::testing
