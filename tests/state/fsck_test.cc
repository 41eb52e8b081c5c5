// The metadata check names one seeded damage of each kind, and nothing on healthy metadata; what can be repaired is repaired.
#include "master/state/fsck.h"

#include <functional>
#include <map>
#include <set>

#include "master/state/fsck_plan.h"
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

  struct Damage {
    const char* kind;
    std::function<void()> seed;
    bool repairable = true;
  };
  std::vector<Damage> Damages();

  // Passes of check and repair until one repairs nothing; what each kind that was not repaired was told.
  std::map<std::string, std::string> RepairAll() {
    std::map<std::string, std::string> refused;
    for (int pass = 0; pass < 8; ++pass) {
      RepairPlan plan;
      std::string cursor;
      do {
        auto page = CheckPage(fs_.txn(), kRootInode, cursor, 7);
        EXPECT_TRUE(page.ok()) << page.status().ToString();
        plan.Add(*page);
        cursor = page->cursor();
      } while (!cursor.empty());
      refused.clear();
      bool repaired = false;
      for (const PlannedRepair& repair : plan.Take(fs_.txn())) {
        proto::LogCommand command = fs_.Command(SessionId(0));
        *command.mutable_repair_metadata() = repair.command;
        const ApplyResult result = fs_.Apply(command);
        EXPECT_NE(result.reply.status().message(), "") << repair.problem.kind();
        if (result.ok()) {
          repaired = true;
          done_ += repair.problem.kind() + ": " + result.reply.status().message() + "\n";
        } else if (CodeOf(result) != StatusCode::kNotFound) {
          EXPECT_EQ(CodeOf(result), StatusCode::kDamaged) << result.reply.status().message();
          refused[repair.problem.kind()] = result.reply.status().message();
        }
      }
      if (!repaired) return refused;
    }
    ADD_FAILURE() << "the repair does not come to an end:\n" << done_;
    return refused;
  }

  // What was acknowledged is where it was.
  void ExpectData() {
    EXPECT_EQ(PathOf(fs_.txn(), file_), "/dir/file");
    EXPECT_EQ(ChunkAtIndex(fs_.txn(), file_, 0), chunk_);
    const auto record = LoadChunk(fs_.txn(), chunk_);
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->length(), 10'000u);
    EXPECT_NE(record->state(), proto::CHUNK_DELETING);
    EXPECT_EQ(fs_.Attr(file_).size(), 10'000u);
    EXPECT_EQ(fs_.Attr(file_).nlink(), 2u);
    EXPECT_EQ(fs_.Attr(file_).blocks_512(), 24u);
    EXPECT_EQ(LoadDentry(fs_.txn(), kRootInode, "hard")->inode(), file_.value());
  }

  FileSystem fs_;
  std::string done_;
  InodeId dir_, sub_, file_, written_, orphan_;
  ChunkId chunk_;
};

TEST_F(FsckTest, HealthyMetadataHasNoProblems) {
  EXPECT_TRUE(Kinds().empty());
  EXPECT_TRUE(Kinds(dir_).empty());
}

std::vector<FsckTest::Damage> FsckTest::Damages() {
  MetaTxn& txn = fs_.txn();
  const uint64_t entry = LoadDentry(txn, dir_, "file")->entry();
  return {
      {"missing-inode", [this, &txn] { txn.Delete(Family::kInodes, keys::Inode(sub_)); }},
      {"wrong-parent", [this, &txn] { EditInode(file_, [](auto* record) { record->set_name("other"); }); }},
      {"wrong-type", [this, &txn] { EditInode(sub_, [](auto* record) { record->set_type(proto::REGULAR); }); }},
      {"wrong-nlink", [this, &txn] { EditInode(file_, [](auto* record) { record->set_nlink(7); }); }},
      {"wrong-entry-count", [this, &txn] { EditInode(dir_, [](auto* record) { record->set_size(9); }); }},
      {"missing-index", [this, &txn, entry] { txn.Delete(Family::kDirIndex, keys::DirIndex(dir_, entry)); }},
      {"stray-index",
       [this, &txn] {
         proto::DirIndexRecord stray;
         stray.set_name("ghost");
         stray.set_inode(file_.value());
         Save(&txn, Family::kDirIndex, keys::DirIndex(dir_, 999), stray);
       }},
      {"missing-link", [this, &txn] { txn.Delete(Family::kLinks, keys::Link(file_, kRootInode, "hard")); }},
      {"stray-link", [this, &txn] { txn.Put(Family::kLinks, keys::Link(file_, dir_, "ghost"), ""); }},
      {"missing-chunk", [this, &txn] { txn.Delete(Family::kChunks, keys::Chunk(chunk_)); }, false},
      {"stray-chunk", [this, &txn] { txn.Delete(Family::kInodeChunks, keys::InodeChunk(file_, 0)); }},
      {"chunk-beyond-size", [this, &txn] { EditInode(file_, [](auto* record) { record->set_size(0); }); }},
      {"wrong-allocation", [this, &txn] { EditInode(file_, [](auto* record) { record->set_allocated_bytes(1); }); }},
      {"bad-configuration", [this, &txn] { EditChunk([](auto* record) { record->set_write_quorum(9); }); }},
      {"missing-server-entry",
       [this, &txn] { txn.Delete(Family::kServerChunks, keys::ServerChunk(ServerId(2), chunk_)); }},
      {"stray-server-entry",
       [this, &txn] { txn.Put(Family::kServerChunks, keys::ServerChunk(ServerId(8), chunk_), ""); }},
      {"wrong-list", [this, &txn] { EditChunk([](auto* record) { record->set_state(proto::CHUNK_DAMAGED); }); }},
      {"missing-hold",
       [this, &txn] { txn.Delete(Family::kSessionRefs, keys::Ref(kSession, keys::SessionRef::kHold, orphan_)); }},
      {"stray-orphan", [this, &txn] { txn.Delete(Family::kOrphans, keys::Inode(orphan_)); }},
      {"wrong-xattr-count", [this, &txn] { txn.Delete(Family::kXattrs, keys::Xattr(file_, "user.a")); }},
      {"stray-trash", [this, &txn] { txn.Put(Family::kTrash, keys::TrashListed(keys::TrashList::kExpiry, 5, file_), ""); }},
      {"stray-xattr", [this, &txn] { txn.Put(Family::kXattrs, keys::Xattr(InodeId(4711), "user.a"), "b"); }},
      {"stray-policy", [this, &txn] { Save(&txn, Family::kPolicies, keys::Inode(file_), DefaultPolicy()); }},
      {"stray-hold", [this, &txn] { txn.Delete(Family::kSessions, keys::Session(kSession)); }},
      {"stray-lease", [this, &txn] { txn.Delete(Family::kSessions, keys::Session(kSession)); }},
      {"stray-result", [this, &txn] { txn.Put(Family::kResults, keys::StoredResult(SessionId(4711), 1), ""); }},
      {"missing-lease-entry",
       [this, &txn] { txn.Delete(Family::kSessionRefs, keys::Ref(kSession, keys::SessionRef::kWriteLease, written_)); }},
      {"stray-session-entry",
       [this, &txn] { txn.Put(Family::kSessionRefs, keys::Ref(kOther, keys::SessionRef::kWriteLease, file_), ""); }},
      {"unknown-server",
       [this, &txn] {
         for (uint32_t server : {1u, 3u})
           Save(&txn, Family::kServers, keys::Server(ServerId(server)), proto::ServerRecord());
       },
       false},
      {"wrong-counter",
       [this, &txn] {
         proto::Counters counters = LoadCounters(txn);
         counters.set_chunks(counters.chunks() + 1);
         Save(&txn, Family::kMeta, keys::kCounters, counters);
       }},
  };
}

TEST_F(FsckTest, EachKindOfDamageIsNamed) {
  MetaTxn& txn = fs_.txn();
  for (const Damage& damage : Damages()) {
    txn.SetSavepoint();
    damage.seed();
    EXPECT_EQ(Kinds().count(damage.kind), 1u) << damage.kind;
    EXPECT_EQ(Kinds(kRootInode, 1), Kinds()) << damage.kind << ": pages must find what one pass finds";
    txn.RollbackToSavepoint();
    EXPECT_TRUE(Kinds().empty()) << damage.kind;
  }
}

// What can be decided is put right, by commands of the log that another master applies alike; what cannot is left as it is, with a reason.
TEST_F(FsckTest, EachKindOfDamageIsRepairedOrSaysWhyNot) {
  MetaTxn& txn = fs_.txn();
  const std::string healthy = Dump(txn);
  for (const Damage& damage : Damages()) {
    SCOPED_TRACE(damage.kind);
    txn.SetSavepoint();
    damage.seed();
    const std::set<std::string> found = Kinds();
    FileSystem other(NewMemoryStore(Uuid{1, 1}));
    other.txn().Clear();
    for (size_t i = 0; i < kFamilyCount; ++i) {
      for (auto it = txn.Scan(static_cast<Family>(i), "", ""); it->Valid(); it->Next())
        other.txn().Put(static_cast<Family>(i), it->key(), it->value());
    }
    const size_t logged = fs_.log.size();
    done_.clear();
    const auto refused = RepairAll();
    if (damage.repairable) {
      EXPECT_TRUE(refused.empty()) << refused.begin()->first << ": " << refused.begin()->second;
      EXPECT_TRUE(Kinds().empty()) << *Kinds().begin() << "\n" << done_;
      EXPECT_FALSE(done_.empty());
      ExpectData();
    } else {
      EXPECT_GT(refused.count(damage.kind), 0u);
      EXPECT_GT(refused.at(damage.kind).size(), 40u) << "says why, and what a person can do";
      EXPECT_EQ(Kinds().count(damage.kind), 1u);
    }
    for (size_t i = logged; i < fs_.log.size(); ++i) other.Apply(fs_.log[i]);
    EXPECT_EQ(Dump(other.txn()), Dump(txn)) << "another master comes to the same";
    txn.RollbackToSavepoint();
    EXPECT_EQ(Dump(txn), healthy);
  }
}

TEST_F(FsckTest, ARepairOfWhatIsNotWrongChangesNothing) {
  const std::string healthy = Dump(fs_.txn());
  proto::LogCommand command = fs_.Command(SessionId(0));
  command.mutable_repair_metadata()->set_kind("wrong-nlink");
  command.mutable_repair_metadata()->set_record(FsckRecord(Family::kInodes, keys::Inode(file_)));
  EXPECT_EQ(CodeOf(fs_.Apply(command)), StatusCode::kNotFound);
  command.mutable_repair_metadata()->set_record("");
  EXPECT_EQ(CodeOf(fs_.Apply(command)), StatusCode::kNotFound);
  EXPECT_EQ(Dump(fs_.txn()), healthy);
}

TEST_F(FsckTest, CountersAreNotCorrectedByACountFromBeforeAnotherRepair) {
  proto::Counters counters = LoadCounters(fs_.txn());
  counters.set_chunks(counters.chunks() + 1);
  counters.set_repairs(7);
  Save(&fs_.txn(), Family::kMeta, keys::kCounters, counters);
  proto::LogCommand command = fs_.Command(SessionId(0));
  proto::RepairMetadataCmd* op = command.mutable_repair_metadata();
  op->set_kind("wrong-counter");
  for (const int64_t delta : {0, -1, 0, 0, 0, 0}) op->add_deltas(delta);
  op->set_repairs(6);
  EXPECT_EQ(CodeOf(fs_.Apply(command)), StatusCode::kNotFound);
  op->set_repairs(7);
  EXPECT_TRUE(fs_.Apply(command).ok());
  EXPECT_TRUE(Kinds().empty());
}

// The name was lost, not its file: the inode itself says where it was.
TEST_F(FsckTest, ALostNameIsMadeAnewWhereTheInodeSaysItWas) {
  fs_.txn().Delete(Family::kDentries, keys::Dentry(dir_, "file"));
  EXPECT_TRUE(RepairAll().empty());
  EXPECT_TRUE(Kinds().empty()) << done_;
  ExpectData();
}

TEST_F(FsckTest, WithoutAPlaceAFileGoesToLostAndFound) {
  const InodeId lone = fs_.MustCreate(sub_, "lone");
  fs_.txn().Delete(Family::kDentries, keys::Dentry(sub_, "lone"));
  EditInode(lone, [](auto* record) { record->set_parent(4711); });
  EXPECT_TRUE(RepairAll().empty());
  EXPECT_TRUE(Kinds().empty()) << done_;
  EXPECT_EQ(PathOf(fs_.txn(), lone), "/lost+found/#" + ToString(lone));
  EXPECT_EQ(fs_.Attr(InodeId(fs_.Attr(lone).inode())).nlink(), 1u);
  EXPECT_EQ(fs_.Attr(InodeId(LoadDentry(fs_.txn(), kRootInode, "lost+found")->inode())).mode(), 0700u);
}

TEST_F(FsckTest, ADirectoryWhoseRecordIsLostKeepsWhatIsInIt) {
  fs_.txn().Delete(Family::kInodes, keys::Inode(dir_));
  EXPECT_TRUE(RepairAll().empty());
  EXPECT_TRUE(Kinds().empty()) << done_;
  ExpectData();
  EXPECT_EQ(fs_.Attr(dir_).mode(), 0700u);
  EXPECT_EQ(fs_.Names(dir_).size(), 3u);
  fs_.MustCreate(dir_, "later");
  EXPECT_TRUE(Kinds().empty());
}

TEST_F(FsckTest, ADirectoryLostWithItsNameIsFoundThroughItsEntries) {
  fs_.txn().Delete(Family::kInodes, keys::Inode(dir_));
  fs_.txn().Delete(Family::kDentries, keys::Dentry(kRootInode, "dir"));
  EXPECT_TRUE(RepairAll().empty());
  EXPECT_TRUE(Kinds().empty()) << done_;
  EXPECT_EQ(PathOf(fs_.txn(), file_), "/lost+found/#" + ToString(dir_) + "/file");
}

TEST_F(FsckTest, DirectoriesThatLieInEachOtherGoToLostAndFound) {
  const InodeId inner = fs_.MustMkdir(sub_, "inner");
  fs_.txn().Delete(Family::kDentries, keys::Dentry(dir_, "sub"));
  EditInode(sub_, [&](auto* record) {
    record->set_parent(inner.value());
    record->set_name("loop");
  });
  EXPECT_TRUE(RepairAll().empty());
  EXPECT_TRUE(Kinds().empty()) << done_;
  EXPECT_EQ(PathOf(fs_.txn(), inner), "/lost+found/#" + ToString(sub_) + "/inner");
}

// Nobody can tell a file's owner, mode and chunk size from its chunks: nothing of it is thrown away.
TEST_F(FsckTest, DataWhoseInodeIsLostIsKept) {
  fs_.txn().Delete(Family::kInodes, keys::Inode(file_));
  const auto refused = RepairAll();
  EXPECT_EQ(refused.count("missing-inode"), 1u);
  EXPECT_EQ(refused.count("stray-chunk"), 1u);
  EXPECT_EQ(LoadChunk(fs_.txn(), chunk_)->state(), proto::CHUNK_SEALED);
  EXPECT_TRUE(LoadDentry(fs_.txn(), dir_, "file").has_value());
}

TEST_F(FsckTest, AChunkToWhoseFileNothingLeadsIsDeleted) {
  fs_.txn().Delete(Family::kInodes, keys::Inode(written_));
  fs_.txn().Delete(Family::kDentries, keys::Dentry(dir_, "written"));
  const ChunkId chunk = *ChunkAtIndex(fs_.txn(), written_, 0);
  EXPECT_TRUE(RepairAll().empty());
  EXPECT_TRUE(Kinds().empty()) << done_;
  EXPECT_EQ(LoadChunk(fs_.txn(), chunk)->state(), proto::CHUNK_DELETING);
  ExpectData();
}

TEST_F(FsckTest, AFileThatHasANameIsNotDeletedForItsLinkCount) {
  EditInode(file_, [](auto* record) { record->set_nlink(0); });
  EXPECT_TRUE(RepairAll().empty());
  EXPECT_TRUE(Kinds().empty()) << done_;
  ExpectData();
}

TEST_F(FsckTest, ALinkCountTellsALostNameFromOneThatNeverWas) {
  fs_.txn().Delete(Family::kDentries, keys::Dentry(kRootInode, "hard"));
  EXPECT_TRUE(RepairAll().empty());
  EXPECT_TRUE(Kinds().empty()) << done_;
  ExpectData();
}

// Where the master has no record of a chunk there are no zeros, and no crash: an error; the rest of the file can be removed.
TEST_F(FsckTest, AChunkWithoutARecordIsAnErrorForWhoeverTouchesIt) {
  fs_.txn().Delete(Family::kChunks, keys::Chunk(chunk_));
  proto::LayoutOp layout;
  layout.set_inode(file_.value());
  const auto shown = Layout(fs_.txn(), layout);
  ASSERT_TRUE(shown.ok());
  ASSERT_EQ(shown->chunks_size(), 1);
  EXPECT_TRUE(shown->chunks(0).damaged());
  EXPECT_FALSE(shown->chunks(0).detail().empty());
  EXPECT_EQ(CodeOf(fs_.Grant(file_, kSession, 0, 1)), StatusCode::kDamaged);
  ASSERT_TRUE(fs_.Unlink(kRootInode, "hard").ok());
  ASSERT_TRUE(fs_.Unlink(dir_, "file").ok());
  EXPECT_FALSE(InodeExists(fs_.txn(), file_));
  EXPECT_TRUE(RepairAll().empty());
  EXPECT_TRUE(Kinds().empty()) << done_;
}

TEST_F(FsckTest, AFileThatListsAnotherOnesChunkDoesNotTakeItAway) {
  const InodeId thief = fs_.MustCreate(dir_, "thief");
  fs_.txn().Put(Family::kInodeChunks, keys::InodeChunk(thief, 0), keys::Chunk(chunk_));
  EXPECT_EQ(RepairAll().count("missing-chunk"), 1u);
  ASSERT_TRUE(fs_.Unlink(dir_, "thief").ok());
  EXPECT_TRUE(Kinds().empty());
  ExpectData();
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
