// The metadata check names one seeded damage of each kind, and nothing on healthy metadata.
#include "master/state/fsck.h"

#include <functional>
#include <set>

#include "master/state/keys.h"
#include "master/state/records.h"
#include "tests/state/state_fixture.h"

namespace cairn::master {
namespace {

class FsckTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs_.MustMkdir(kRootInode, "dir");
    sub_ = fs_.MustMkdir(dir_, "sub");
    const ApplyResult made = fs_.Create(dir_, "file", 0644, true, true);
    ASSERT_TRUE(made.ok());
    file_ = FileSystem::InodeOf(made);
    chunk_ = *ChunkAtIndex(fs_.txn(), file_, 0);
    ASSERT_TRUE(fs_.Link(file_, kRootInode, "hard").ok());
    ASSERT_TRUE(fs_.SetXattr(file_, "user.a", "b").ok());
    Seal(10'000);
    const ApplyResult written = fs_.Create(dir_, "written", 0644, true, true);
    ASSERT_TRUE(written.ok());
    written_ = FileSystem::InodeOf(written);
    orphan_ = fs_.MustCreate(dir_, "orphan");
    ASSERT_TRUE(fs_.Unlink(dir_, "orphan", true).ok());
  }

  void Seal(uint64_t length) {
    const auto record = ChunkRecordOf(fs_.txn(), chunk_);
    proto::InodeCommit commit;
    commit.set_inode(file_.value());
    commit.set_lease(record->writer_lease());
    commit.set_size(length);
    proto::ChunkSeal* seal = commit.add_seals();
    seal->set_chunk(chunk_.value());
    *seal->mutable_stamp() = MakeStamp(record->writer_lease(), 3);
    seal->set_length(length);
    for (uint32_t server : {1u, 2u, 3u}) seal->add_carriers(server);
    const ApplyResult done = fs_.WriteBack({commit});
    ASSERT_TRUE(done.ok()) << done.reply.ShortDebugString();
  }

  std::set<std::string> Kinds(InodeId root = kRootInode, uint32_t page = 1000) {
    std::set<std::string> kinds;
    std::string cursor;
    do {
      auto response = CheckPage(fs_.txn(), root, cursor, page);
      EXPECT_TRUE(response.ok()) << response.status().ToString();
      if (!response.ok()) break;
      for (const proto::FsckProblem& problem : response->problems()) kinds.insert(problem.kind());
      cursor = response->cursor();
    } while (!cursor.empty());
    return kinds;
  }

  void EditInode(InodeId inode, const std::function<void(proto::InodeRecord*)>& edit) {
    auto record = *InodeRecordOf(fs_.txn(), inode);
    edit(&record);
    SaveInode(&fs_.txn(), inode, record);
  }
  void EditChunk(const std::function<void(proto::ChunkRecord*)>& edit) {
    auto record = *LoadChunk(fs_.txn(), chunk_);
    edit(&record);
    SaveChunk(&fs_.txn(), chunk_, record);
  }

  FileSystem fs_;
  InodeId dir_, sub_, file_, written_, orphan_;
  ChunkId chunk_;
};

TEST_F(FsckTest, HealthyMetadataHasNoProblems) {
  EXPECT_TRUE(Kinds().empty());
  EXPECT_TRUE(Kinds(dir_).empty());
}

TEST_F(FsckTest, EachKindOfDamageIsNamed) {
  struct Damage {
    const char* kind;
    std::function<void()> seed;
  };
  MetaTxn& txn = fs_.txn();
  const uint64_t entry = LoadDentry(txn, dir_, "file")->entry();
  const std::vector<Damage> damages = {
      {"missing-inode", [&] { txn.Delete(Family::kInodes, keys::Inode(sub_)); }},
      {"wrong-parent", [&] { EditInode(file_, [](auto* record) { record->set_name("other"); }); }},
      {"wrong-type", [&] { EditInode(sub_, [](auto* record) { record->set_type(proto::REGULAR); }); }},
      {"wrong-nlink", [&] { EditInode(file_, [](auto* record) { record->set_nlink(7); }); }},
      {"wrong-entry-count", [&] { EditInode(dir_, [](auto* record) { record->set_size(9); }); }},
      {"missing-index", [&] { txn.Delete(Family::kDirIndex, keys::DirIndex(dir_, entry)); }},
      {"stray-index",
       [&] {
         proto::DirIndexRecord stray;
         stray.set_name("ghost");
         stray.set_inode(file_.value());
         Save(&txn, Family::kDirIndex, keys::DirIndex(dir_, 999), stray);
       }},
      {"missing-link", [&] { txn.Delete(Family::kLinks, keys::Link(file_, kRootInode, "hard")); }},
      {"stray-link", [&] { txn.Put(Family::kLinks, keys::Link(file_, dir_, "ghost"), ""); }},
      {"missing-chunk", [&] { txn.Delete(Family::kChunks, keys::Chunk(chunk_)); }},
      {"stray-chunk", [&] { txn.Delete(Family::kInodeChunks, keys::InodeChunk(file_, 0)); }},
      {"chunk-beyond-size", [&] { EditInode(file_, [](auto* record) { record->set_size(0); }); }},
      {"wrong-allocation", [&] { EditInode(file_, [](auto* record) { record->set_allocated_bytes(1); }); }},
      {"bad-configuration", [&] { EditChunk([](auto* record) { record->set_write_quorum(9); }); }},
      {"missing-server-entry",
       [&] { txn.Delete(Family::kServerChunks, keys::ServerChunk(ServerId(2), chunk_)); }},
      {"stray-server-entry",
       [&] { txn.Put(Family::kServerChunks, keys::ServerChunk(ServerId(8), chunk_), ""); }},
      {"wrong-list", [&] { EditChunk([](auto* record) { record->set_state(proto::CHUNK_DAMAGED); }); }},
      {"missing-hold",
       [&] { txn.Delete(Family::kSessionRefs, keys::Ref(kSession, keys::SessionRef::kHold, orphan_)); }},
      {"stray-orphan", [&] { txn.Delete(Family::kOrphans, keys::Inode(orphan_)); }},
      {"wrong-xattr-count", [&] { txn.Delete(Family::kXattrs, keys::Xattr(file_, "user.a")); }},
      {"stray-trash", [&] { txn.Put(Family::kTrash, keys::TrashListed(keys::TrashList::kExpiry, 5, file_), ""); }},
      {"stray-xattr", [&] { txn.Put(Family::kXattrs, keys::Xattr(InodeId(4711), "user.a"), "b"); }},
      {"stray-policy", [&] { Save(&txn, Family::kPolicies, keys::Inode(file_), DefaultPolicy()); }},
      {"stray-hold", [&] { txn.Delete(Family::kSessions, keys::Session(kSession)); }},
      {"stray-lease", [&] { txn.Delete(Family::kSessions, keys::Session(kSession)); }},
      {"stray-result", [&] { txn.Put(Family::kResults, keys::StoredResult(SessionId(4711), 1), ""); }},
      {"missing-lease-entry",
       [&] { txn.Delete(Family::kSessionRefs, keys::Ref(kSession, keys::SessionRef::kWriteLease, written_)); }},
      {"stray-session-entry",
       [&] { txn.Put(Family::kSessionRefs, keys::Ref(kOther, keys::SessionRef::kWriteLease, file_), ""); }},
      {"unknown-server",
       [&] {
         for (uint32_t server : {1u, 3u})
           Save(&txn, Family::kServers, keys::Server(ServerId(server)), proto::ServerRecord());
       }},
      {"wrong-counter",
       [&] {
         proto::Counters counters = LoadCounters(txn);
         counters.set_chunks(counters.chunks() + 1);
         Save(&txn, Family::kMeta, keys::kCounters, counters);
       }},
  };
  for (const Damage& damage : damages) {
    txn.SetSavepoint();
    damage.seed();
    EXPECT_EQ(Kinds().count(damage.kind), 1u) << damage.kind;
    EXPECT_EQ(Kinds(kRootInode, 1), Kinds()) << damage.kind << ": pages must find what one pass finds";
    txn.RollbackToSavepoint();
    EXPECT_TRUE(Kinds().empty()) << damage.kind;
  }
}

TEST_F(FsckTest, ASubtreeIsCheckedWithoutItsSurroundings) {
  EditInode(file_, [](auto* record) { record->set_nlink(7); });
  EXPECT_EQ(Kinds(dir_).count("wrong-nlink"), 1u);
  EXPECT_TRUE(Kinds(sub_).empty());
}

TEST_F(FsckTest, ASubtreeIsCheckedHoweverDeepItIs) {
  InodeId at = sub_;
  for (int i = 0; i < 6'000; ++i) at = fs_.MustMkdir(at, "d");
  EXPECT_TRUE(Kinds().empty());
  EditInode(at, [](auto* record) { record->set_nlink(7); });
  EXPECT_EQ(Kinds(dir_).count("wrong-nlink"), 1u);
}

TEST_F(FsckTest, BadCursorsAndInodesAreRefused) {
  EXPECT_EQ(CheckPage(fs_.txn(), InodeId(4711), "", 10).code(), StatusCode::kStaleHandle);
  EXPECT_EQ(CheckPage(fs_.txn(), kRootInode, "\x7f", 10).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace cairn::master
