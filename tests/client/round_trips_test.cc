// What operations cost in requests to the master.
#include "tests/client/client_fixture.h"

namespace cairn::client::testing {
namespace {

using Op = proto::Request;

class RoundTrips : public ClientTest {
 protected:
  int Cost(const std::function<void()>& operation) {
    const int before = master.Total();
    operation();
    return master.Total() - before;
  }
};

TEST_F(RoundTrips, AFirstLookupIsOneAndUnderTheLeaseNone) {
  const InodeId file(master.AddFile(1, "a"));
  auto client = Connect();
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Lookup(root, kRoot, "a").ok()); }), 1);
  EXPECT_EQ(Cost([&] {
              EXPECT_TRUE(client->Lookup(root, kRoot, "a").ok());
              EXPECT_TRUE(client->GetAttr(root, file).ok());
            }),
            1);  // the root's own attributes are not known yet: its x permission has to be checked
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  EXPECT_EQ(Cost([&] {
              EXPECT_TRUE(client->Lookup(root, kRoot, "a").ok());
              EXPECT_TRUE(client->GetAttr(root, file).ok());
              auto handle = client->Open(root, file, {});
              ASSERT_TRUE(handle.ok());
              EXPECT_TRUE(client->Close(*handle).ok());
            }),
            0);
}

TEST_F(RoundTrips, AFailedLookupUnderTheDirectoryLeaseIsNone) {
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  EXPECT_EQ(Cost([&] { EXPECT_EQ(client->Lookup(root, kRoot, "x").code(), StatusCode::kNotFound); }), 1);
  EXPECT_EQ(Cost([&] { EXPECT_EQ(client->Lookup(root, kRoot, "x").code(), StatusCode::kNotFound); }), 0);
  EXPECT_GT(client->NegativeValidNanos(kRoot), 0);
}

// What a program makes and fills itself it need not be told about: neither that a name is free nor that one
// is gone.
TEST_F(RoundTrips, ADirectoryMadeHereIsKnownWhole) {
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  auto made = client->Mkdir(root, kRoot, "d", 0755);
  ASSERT_TRUE(made.ok());
  const InodeId dir = made->attr.inode;
  EXPECT_EQ(Cost([&] { EXPECT_EQ(client->Lookup(root, dir, "a").code(), StatusCode::kNotFound); }), 0);
  ASSERT_TRUE(client->Mkdir(root, dir, "a", 0755).ok());
  EXPECT_EQ(Cost([&] {
              EXPECT_TRUE(client->Lookup(root, dir, "a").ok());
              EXPECT_EQ(client->Lookup(root, dir, "b").code(), StatusCode::kNotFound);
            }),
            0);
  // Others may change it only after its lease was given back.
  ASSERT_TRUE(master.Recall(dir.value(), proto::LEASE_NONE));
  ASSERT_EQ(master.AwaitRecallReply(dir.value()).inode(), dir.value());
  EXPECT_GE(Cost([&] { EXPECT_EQ(client->Lookup(root, dir, "b").code(), StatusCode::kNotFound); }), 1);
}

TEST_F(RoundTrips, CreateWriteCloseIsOne) {
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  EXPECT_EQ(Cost([&] {
              auto created = client->Create(root, kRoot, "a", {}, {.write = true});
              ASSERT_TRUE(created.ok());
              EXPECT_TRUE(client->Write(created->handle, 0, Bytes(std::string(4096, 'x'))).ok());
              EXPECT_TRUE(client->Close(created->handle).ok());
              EXPECT_EQ(client->GetAttr(root, created->entry.attr.inode)->attr.size, 4096u);
            }),
            1);
}

// As tar sets them on each file that it made. The mode is at the master before chmod returns: what was forbidden stays so.
TEST_F(RoundTrips, TimesAndAnOwnerThatStaysAreNoneAndAModeIsOne) {
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  auto created = client->Create(root, kRoot, "a", {.mode = 0600}, {.write = true});
  ASSERT_TRUE(created.ok());
  const InodeId inode = created->entry.attr.inode;
  ASSERT_TRUE(client->Write(created->handle, 0, Bytes(std::string(4096, 'x'))).ok());
  EXPECT_EQ(Cost([&] {
              EXPECT_TRUE(client->SetAttr(root, inode, {.atime = TimeSpec{1, 0}, .mtime = TimeSpec{2, 0}}).ok());
              EXPECT_TRUE(client->SetAttr(root, inode, {.uid = 0, .gid = 0}).ok());
              EXPECT_TRUE(client->SetAttr(root, inode, {.atime_now = true}).ok());
            }),
            0);
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->SetAttr(root, inode, {.mode = 0644}).ok()); }), 1);
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->SetAttr(root, inode, {.uid = 5}).ok()); }), 1);
  EXPECT_EQ(client->GetAttr(root, inode)->attr.mtime, (TimeSpec{2, 0}));
  EXPECT_EQ(client->GetAttr(root, inode)->attr.mode, 0644u);
  EXPECT_EQ(master.Count(Op::kWriteBack), 0);
  EXPECT_TRUE(client->Close(created->handle).ok());
}

// The commit asks for durability itself, and where the master's disk has everything nobody is asked.
TEST_F(RoundTrips, FsyncIsOneRequestAndNoneWhenTheMasterHasNothingNewToWrite) {
  auto client = Connect();
  auto created = client->Create(root, kRoot, "a", {}, {.write = true});
  ASSERT_TRUE(created.ok());
  const Handle file = created->handle;
  const auto write = [&](uint64_t offset) {
    ASSERT_TRUE(client->Write(file, offset, Bytes(std::string(4096, 'x'))).ok());
  };
  write(0);
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Fsync(file, false).ok()); }), 1);
  EXPECT_EQ(master.Count(Op::kWriteBack), 1);
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Fsync(file, false).ok()); }), 0) << "nothing changed";
  write(0);
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Fsync(file, true).ok()); }), 1)
      << "what recovery must not go below";
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Fsync(file, false).ok()); }), 0) << "which told everything";
  write(4096);
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Fsync(file, true).ok()); }), 1) << "the size changed";
  SetAttributes change;
  change.mode = 0600;
  ASSERT_TRUE(client->SetAttr(root, created->entry.attr.inode, change).ok());
  master.HoldBackDurability(true);
  change.mode = 0640;
  ASSERT_TRUE(client->SetAttr(root, created->entry.attr.inode, change).ok());
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Fsync(file, true).ok()); }), 1) << "the mode is not on disk yet";
  EXPECT_TRUE(client->Close(file).ok());
}

TEST_F(RoundTrips, WriteBackOfManyFilesIsSharedAndLowersTheirLeases) {
  constexpr int kFiles = 128;
  auto client = Connect(nullptr, 10'000, 0, 50);
  for (int i = 0; i < kFiles; ++i) {
    auto created = client->Create(root, kRoot, "f" + std::to_string(i), {}, {.write = true});
    ASSERT_TRUE(created.ok());
    ASSERT_TRUE(client->Write(created->handle, 0, Bytes("hello")).ok());
    ASSERT_TRUE(client->Close(created->handle).ok());
  }
  ASSERT_TRUE(master.WaitFor([&] {
    std::set<uint64_t> lowered;
    for (const auto& commit : master.commits()) {
      if (commit.keep() == proto::LEASE_READ) lowered.insert(commit.inode());
    }
    return lowered.size() == kFiles;
  }));
  EXPECT_LT(master.Count(Op::kWriteBack), kFiles / 2);
  for (const auto& commit : master.commits()) EXPECT_EQ(master.AttrOf(commit.inode()).size(), 5u);
}

TEST_F(RoundTrips, UnlinkAndRenameAreOneEach) {
  master.AddFile(1, "a");
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  ASSERT_TRUE(client->Lookup(root, kRoot, "a").ok());
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Rename(root, kRoot, "a", kRoot, "b", 0).ok()); }), 1);
  EXPECT_EQ(Cost([&] {
              EXPECT_EQ(client->Lookup(root, kRoot, "a").code(), StatusCode::kNotFound);
              EXPECT_TRUE(client->Lookup(root, kRoot, "b").ok());
            }),
            0);
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Unlink(root, kRoot, "b").ok()); }), 1);
  EXPECT_EQ(Cost([&] { EXPECT_EQ(client->Lookup(root, kRoot, "b").code(), StatusCode::kNotFound); }), 0);
}

TEST_F(RoundTrips, AListingIsFetchedAheadAndAnswersLookupsAndStats) {
  for (int i = 0; i < 300; ++i) master.AddFile(1, "f" + std::to_string(i));
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  size_t seen = 0;
  EXPECT_EQ(Cost([&] {
              uint64_t cursor = 0;
              while (true) {
                auto page = client->ReadDirectory(root, kRoot, cursor, 50, true);
                ASSERT_TRUE(page.ok());
                if (page->empty()) break;
                for (const auto& entry : *page) EXPECT_TRUE(entry.entry.has_value()) << entry.name;
                seen += page->size();
                cursor = page->back().cursor;
              }
              EXPECT_TRUE(client->Lookup(root, kRoot, "f7").ok());
              EXPECT_EQ(client->Lookup(root, kRoot, "absent").code(), StatusCode::kNotFound);
            }),
            1);
  EXPECT_EQ(seen, 300u);
}

// A program that looks at one file after another, without listing the directory first.
TEST_F(RoundTrips, ADirectoryOfWhichSeveralNamesAreAskedForIsFetchedAhead) {
  for (int i = 0; i < 300; ++i) master.AddFile(1, "f" + std::to_string(i));
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  EXPECT_EQ(Cost([&] { EXPECT_TRUE(client->Lookup(root, kRoot, "f0").ok()); }), 1);
  EXPECT_EQ(master.Count(Op::kReadDir), 0) << "one name is no reason to fetch more";
  EXPECT_LE(Cost([&] {
              for (int i = 1; i < 300; ++i) {
                auto entry = client->Lookup(root, kRoot, "f" + std::to_string(i));
                ASSERT_TRUE(entry.ok());
                EXPECT_TRUE(client->GetAttr(root, entry->attr.inode).ok());
              }
            }),
            20);
  EXPECT_EQ(master.Count(Op::kReadDir), 2);
  EXPECT_EQ(Cost([&] { EXPECT_EQ(client->Lookup(root, kRoot, "absent").code(), StatusCode::kNotFound); }), 0);
}

TEST_F(RoundTrips, WhatIsFetchedAheadIsBoundedByWhatIsAskedFor) {
  for (int i = 0; i < 3'000; ++i) master.AddFile(1, "f" + std::to_string(10'000 + i));
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  for (int i = 0; i < 12; ++i) {
    EXPECT_TRUE(client->Lookup(root, kRoot, "f" + std::to_string(12'988 + i)).ok());
  }
  EXPECT_EQ(master.Count(Op::kReadDir), 1);
  EXPECT_LE(client->Stats().leases, 256u + 16u);
}

TEST_F(RoundTrips, AGuessDisplacesNoLeases) {
  for (int i = 0; i < 300; ++i) master.AddFile(1, "f" + std::to_string(i));
  auto client = Connect(nullptr, /*max_leases=*/500);
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(client->Lookup(root, kRoot, "f" + std::to_string(i)).ok());
  EXPECT_EQ(master.Count(Op::kReadDir), 0);
}

TEST_F(RoundTrips, WhoMayNotListADirectoryFetchesNothingAhead) {
  const uint64_t dir = master.AddDirectory(1, "d", 0711);
  for (int i = 0; i < 20; ++i) master.AddFile(dir, "f" + std::to_string(i));
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, InodeId(dir)).ok());
  const Caller other{.uid = 1000, .gid = 1000};
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(client->Lookup(other, InodeId(dir), "f" + std::to_string(i)).ok());
  EXPECT_EQ(master.Count(Op::kReadDir), 0);
}

// Parts of a directory are fetched while this client changes names in it: what it knows at the end is the
// whole of it.
TEST_F(RoundTrips, NamesChangedBetweenTwoFetchesAreKnown) {
  for (int i = 0; i < 300; ++i) master.AddFile(1, "f" + std::to_string(10'000 + i));
  auto client = Connect();
  ASSERT_TRUE(client->GetAttr(root, kRoot).ok());
  const auto ask = [&](int i) {
    return client->Lookup(root, kRoot, "f" + std::to_string(10'000 + i)).code();
  };
  EXPECT_EQ(ask(290), StatusCode::kOk);
  EXPECT_EQ(ask(291), StatusCode::kOk);  // the first 256 are known now
  ASSERT_EQ(master.Count(Op::kReadDir), 1);
  ASSERT_TRUE(client->Mkdir(root, kRoot, "z", 0755).ok());
  ASSERT_TRUE(client->Rename(root, kRoot, "f10299", kRoot, "y", 0).ok());
  for (int i = 256; i < 290; ++i) EXPECT_EQ(ask(i), StatusCode::kOk);
  ASSERT_EQ(master.Count(Op::kReadDir), 2);
  EXPECT_EQ(Cost([&] {
              EXPECT_EQ(ask(298), StatusCode::kOk);
              EXPECT_EQ(ask(299), StatusCode::kNotFound);
              EXPECT_TRUE(client->Lookup(root, kRoot, "z").ok());
              EXPECT_TRUE(client->Lookup(root, kRoot, "y").ok());
              EXPECT_EQ(client->Lookup(root, kRoot, "x").code(), StatusCode::kNotFound);
            }),
            0);
}

}  // namespace
}  // namespace cairn::client::testing
