// Random histories: against a plain model of a file system, against the metadata's own check, and replayed
// from the log on another store, which must end up equal to the last byte.
#include <gmock/gmock.h>

#include <functional>
#include <map>
#include <random>
#include <set>

#include "master/store/rocksdb_store.h"
#include "tests/state/state_fixture.h"
#include "tests/state/temp_dir.h"

namespace cairn::master {
namespace {

constexpr uint32_t kNoReplace = 1;
constexpr uint32_t kExchange = 2;

// A file system as one would write it down on a page: what each operation has to answer when root asks.
class Model {
 public:
  struct Node {
    bool directory = false;
    std::map<std::string, uint64_t> entries;
    uint64_t parent = 0;
    uint32_t nlink = 1;
  };

  Model() { nodes_[1] = {true, {}, 1, 2}; }
  const std::map<uint64_t, Node>& nodes() const { return nodes_; }

  StatusCode Make(uint64_t parent, const std::string& name, uint64_t inode, bool directory) {
    if (const StatusCode code = CheckDirectory(parent); code != StatusCode::kOk) return code;
    if (nodes_[parent].entries.contains(name)) return StatusCode::kAlreadyExists;
    nodes_[inode] = {directory, {}, parent, directory ? 2u : 1u};
    Attach(parent, name, inode);
    return StatusCode::kOk;
  }
  StatusCode Link(uint64_t inode, uint64_t parent, const std::string& name) {
    if (!nodes_.contains(inode)) return StatusCode::kStaleHandle;
    if (const StatusCode code = CheckDirectory(parent); code != StatusCode::kOk) return code;
    if (nodes_[parent].entries.contains(name)) return StatusCode::kAlreadyExists;
    if (nodes_[inode].directory) return StatusCode::kNotPermitted;
    ++nodes_[inode].nlink;
    Attach(parent, name, inode);
    return StatusCode::kOk;
  }
  StatusCode Remove(uint64_t parent, const std::string& name, bool directory) {
    if (const StatusCode code = CheckDirectory(parent); code != StatusCode::kOk) return code;
    if (!nodes_[parent].entries.contains(name)) return StatusCode::kNotFound;
    const Node& victim = nodes_[nodes_[parent].entries[name]];
    if (directory && !victim.directory) return StatusCode::kNotDirectory;
    if (!directory && victim.directory) return StatusCode::kIsDirectory;
    if (!victim.entries.empty()) return StatusCode::kNotEmpty;
    Detach(parent, name, /*drop=*/true);
    return StatusCode::kOk;
  }
  StatusCode Rename(uint64_t from, const std::string& name, uint64_t to, const std::string& new_name,
                    uint32_t flags) {
    if (flags == (kNoReplace | kExchange)) return StatusCode::kInvalidArgument;
    if (const StatusCode code = CheckDirectory(from); code != StatusCode::kOk) return code;
    if (const StatusCode code = CheckDirectory(to); code != StatusCode::kOk) return code;
    if (!nodes_[from].entries.contains(name)) return StatusCode::kNotFound;
    const uint64_t source = nodes_[from].entries[name];
    const bool replaces = nodes_[to].entries.contains(new_name);
    const uint64_t target = replaces ? nodes_[to].entries[new_name] : 0;
    if (replaces && flags == kNoReplace) return StatusCode::kAlreadyExists;
    if (!replaces && flags == kExchange) return StatusCode::kNotFound;
    if (source == target) return StatusCode::kOk;
    if (IsAbove(source, to)) return StatusCode::kInvalidArgument;
    if (replaces && IsAbove(target, from))
      return flags == kExchange ? StatusCode::kInvalidArgument : StatusCode::kNotEmpty;
    if (flags == kExchange) {
      Detach(from, name, false);
      Detach(to, new_name, false);
      Attach(from, name, target);
      Attach(to, new_name, source);
      return StatusCode::kOk;
    }
    if (replaces) {
      if (nodes_[source].directory && !nodes_[target].directory) return StatusCode::kNotDirectory;
      if (!nodes_[source].directory && nodes_[target].directory) return StatusCode::kIsDirectory;
      if (!nodes_[target].entries.empty()) return StatusCode::kNotEmpty;
      Detach(to, new_name, true);
    }
    Detach(from, name, false);
    Attach(to, new_name, source);
    return StatusCode::kOk;
  }

 private:
  StatusCode CheckDirectory(uint64_t inode) {
    if (!nodes_.contains(inode)) return StatusCode::kStaleHandle;
    return nodes_[inode].directory ? StatusCode::kOk : StatusCode::kNotDirectory;
  }
  bool IsAbove(uint64_t inode, uint64_t directory) {
    for (;; directory = nodes_[directory].parent) {
      if (directory == inode) return true;
      if (directory == 1) return false;
    }
  }
  void Attach(uint64_t parent, const std::string& name, uint64_t inode) {
    nodes_[parent].entries[name] = inode;
    if (nodes_[inode].directory) {
      ++nodes_[parent].nlink;
      nodes_[inode].parent = parent;
    }
  }
  void Detach(uint64_t parent, const std::string& name, bool drop) {
    const uint64_t inode = nodes_[parent].entries[name];
    nodes_[parent].entries.erase(name);
    if (nodes_[inode].directory) --nodes_[parent].nlink;
    if (drop && (nodes_[inode].directory || --nodes_[inode].nlink == 0)) nodes_.erase(inode);
  }

  std::map<uint64_t, Node> nodes_;
};

std::vector<std::string> Problems(const MetaReader& reader) {
  std::vector<std::string> problems;
  std::string cursor;
  do {
    const auto page = CheckPage(reader, kRootInode, cursor, 100);
    EXPECT_TRUE(page.ok()) << page.status().ToString();
    if (!page.ok()) break;
    for (const auto& problem : page->problems()) problems.push_back(problem.ShortDebugString());
    cursor = page->cursor();
  } while (!cursor.empty());
  return problems;
}

void Compare(FileSystem& fs, const Model& model) {
  ASSERT_EQ(CountersOf(fs.txn()).inodes, model.nodes().size());
  for (const auto& [id, node] : model.nodes()) {
    const InodeId inode(id);
    const proto::Attr attr = fs.Attr(inode);
    ASSERT_EQ(attr.type() == proto::DIRECTORY, node.directory) << id;
    ASSERT_EQ(attr.nlink(), node.nlink) << id;
    if (!node.directory) continue;
    ASSERT_EQ(attr.parent(), node.parent);
    ASSERT_EQ(attr.size(), node.entries.size());
    const std::vector<std::string> names = fs.Names(inode);
    ASSERT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
    ASSERT_EQ(names.size(), node.entries.size());
    for (const std::string& name : names) {
      ASSERT_TRUE(node.entries.contains(name)) << name;
      proto::LookupOp op;
      op.set_parent(id);
      op.set_name(name);
      ASSERT_EQ(Lookup(fs.txn(), op, User(0, 0))->attr().inode(), node.entries.at(name));
    }
  }
}

class RandomHistory : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomHistory, testing::Range(1, 9));

TEST_P(RandomHistory, OfTheNamespaceMatchesTheModel) {
  std::mt19937 random(static_cast<uint32_t>(GetParam()));
  FileSystem fs;
  Model model;
  std::vector<uint64_t> inodes = {1, 1, 1};  // also those that are gone by now
  std::map<StatusCode, int> outcomes;
  const auto pick = [&] { return inodes[random() % inodes.size()]; };
  const auto name = [&] { return std::string(1, static_cast<char>('a' + random() % 6)); };
  for (int step = 0; step < 3000; ++step) {
    const uint64_t parent = pick();
    const uint64_t other = random() % 3 == 0 ? parent : pick();
    const std::string from = name();
    const std::string to = name();
    ApplyResult result;
    StatusCode expected;
    switch (random() % 8) {
      case 0:
      case 1:
        result = fs.Create(InodeId(parent), from);
        expected = model.Make(parent, from, fs.log.back().new_inode(), false);
        break;
      case 2:
      case 3:
        result = fs.Mkdir(InodeId(parent), from);
        expected = model.Make(parent, from, fs.log.back().new_inode(), true);
        break;
      case 4:
        result = fs.Link(InodeId(other), InodeId(parent), from);
        expected = model.Link(other, parent, from);
        break;
      case 5: {
        const bool directory = random() % 2 == 0;
        result = directory ? fs.Rmdir(InodeId(parent), from) : fs.Unlink(InodeId(parent), from);
        expected = model.Remove(parent, from, directory);
        break;
      }
      default: {
        const uint32_t flags = random() % 3 == 0 ? random() % 4 : 0;
        result = fs.Rename(InodeId(parent), from, InodeId(other), to, flags);
        expected = model.Rename(parent, from, other, to, flags);
        break;
      }
    }
    ASSERT_EQ(CodeOf(result), expected) << "step " << step << ": " << fs.log.back().ShortDebugString();
    ++outcomes[expected];
    if (result.ok() && result.reply.has_entry()) inodes.push_back(result.reply.entry().attr().inode());
    if (step % 500 == 499) {
      ASSERT_NO_FATAL_FAILURE(Compare(fs, model));
    }
  }
  EXPECT_THAT(Problems(fs.txn()), testing::IsEmpty());
  for (const StatusCode code :
       {StatusCode::kOk, StatusCode::kNotFound, StatusCode::kAlreadyExists, StatusCode::kNotDirectory,
        StatusCode::kIsDirectory, StatusCode::kNotEmpty, StatusCode::kInvalidArgument,
        StatusCode::kStaleHandle, StatusCode::kNotPermitted}) {
    EXPECT_GT(outcomes[code], 0) << "the history never met " << StatusCodeName(code);
  }
}

// Commands about files, chunks, leases and sessions, many of which do not fit the moment.
class FileHistory {
 public:
  FileHistory(FileSystem& fs, uint32_t seed) : fs_(fs), random_(seed) {}

  void Run(int steps) {
    for (int i = 0; i < steps; ++i) Step();
  }
  int applied() const { return applied_; }

 private:
  uint64_t Any(uint64_t below) { return random_() % below; }
  InodeId File() { return files_.empty() ? InodeId(99) : files_[Any(files_.size())]; }
  std::optional<ChunkId> SomeChunk(InodeId file) {
    const auto chunks = ChunksOfInode(fs_.txn(), file, 0, 10);
    if (chunks.empty()) return std::nullopt;
    return chunks[Any(chunks.size())].chunk;
  }
  void Note(const ApplyResult& result) { applied_ += result.ok() ? 1 : 0; }
  void ApplyAs(SessionId session, const std::function<void(proto::LogCommand*)>& fill, int placements = 0) {
    proto::LogCommand command = fs_.Command(session, placements);
    fill(&command);
    // Previews in between must leave no trace.
    if (Any(4) == 0) (void)fs_.Preview(command);
    Note(fs_.Apply(command));
  }

  void Step() {
    const InodeId file = File();
    const SessionId session = Any(3) == 0 ? kOther : kSession;
    const std::string name = "f" + std::to_string(Any(12));
    const auto lease = WriteLeaseOf(fs_.txn(), file);
    switch (Any(12)) {
      case 0:
      case 1: {
        const ApplyResult made = fs_.Create(kRootInode, name, 0644, true, true);
        if (made.ok()) files_.push_back(FileSystem::InodeOf(made));
        Note(made);
        return;
      }
      case 2:
        return Note(fs_.Unlink(kRootInode, name, Any(2) == 0));
      case 3:
        return Note(fs_.Grant(file, session, Any(4), static_cast<uint32_t>(Any(3))));
      case 4:
        return Note(
            fs_.Announce(file, lease ? lease->lease.value() : 1, Any(4), static_cast<uint32_t>(1 + Any(3))));
      case 5:
        return Note(fs_.Truncate(file, Any(5) * (32ull << 20) + Any(3)));
      case 6:
      case 7:
        return Commit(file, session);
      case 8:
        return Reconfigure(file);
      case 9:
        return Sessions(session);
      case 10:
        return Erase();
      default:
        return Orphan(session);
    }
  }

  void Commit(InodeId file, SessionId session) {
    const auto lease = WriteLeaseOf(fs_.txn(), file);
    proto::InodeCommit commit;
    commit.set_inode(file.value());
    commit.set_lease(lease ? lease->lease.value() : 1);
    commit.set_keep(Any(2) == 0 ? proto::LEASE_WRITE : proto::LEASE_NONE);
    commit.set_still_open(Any(3) == 0);
    const auto attr = Attributes(fs_.txn(), file);
    for (const ChunkId chunk : OpenChunksOf(fs_.txn(), file)) {
      const proto::ChunkRecord record = *ChunkRecordOf(fs_.txn(), chunk);
      if (Any(5) == 0) continue;
      proto::ChunkSeal* seal = commit.add_seals();
      seal->set_chunk(chunk.value());
      if (Any(5) == 0) {
        seal->set_never_begun(true);
        continue;
      }
      *seal->mutable_stamp() = MakeStamp(record.epoch(), record.base().seq() + Any(4));
      seal->set_length(Any(64ull << 20));
      for (int i = 0; i < record.members_size(); ++i) {
        if (i < 2 || Any(2) == 0) seal->add_carriers(record.members(i));
      }
      const uint64_t end = record.index() * attr->chunk_bytes() + seal->length();
      commit.set_size(std::max(commit.size(), end));
    }
    Note(fs_.WriteBack({commit}, lease && Any(10) != 0 ? lease->session : session));
  }

  void Reconfigure(InodeId file) {
    const auto chunk = SomeChunk(file);
    if (!chunk) return;
    const proto::ChunkRecord record = *ChunkRecordOf(fs_.txn(), *chunk);
    if (record.pending_epoch() == 0 || Any(4) == 0) {
      return ApplyAs(SessionId(0), [&](proto::LogCommand* command) {
        command->mutable_begin_reconfiguration()->set_chunk(chunk->value());
        command->mutable_begin_reconfiguration()->set_epoch(command->new_epoch());
      });
    }
    if (Any(6) == 0) {
      return ApplyAs(SessionId(0), [&](proto::LogCommand* command) {
        command->mutable_mark_damaged()->set_chunk(chunk->value());
      });
    }
    ApplyAs(SessionId(0), [&](proto::LogCommand* command) {
      auto* op = command->mutable_activate_configuration();
      op->set_chunk(chunk->value());
      op->set_epoch(record.pending_epoch());
      for (uint32_t i = 0; i < 3; ++i) op->add_members(1 + (static_cast<uint32_t>(Any(2)) * 3 + i));
      op->set_write_quorum(2);
      op->add_carriers(op->members(0));
      op->add_carriers(op->members(1));
      *op->mutable_base() = MakeStamp(record.epoch(), record.base().seq() + Any(3));
      op->set_length(Any(64ull << 20));
      op->set_sealed(Any(3) != 0 || record.writer_lease() == 0);
      op->set_vanished_writer(true);
      op->set_never_begun(Any(5) == 0);
    });
  }

  void Sessions(SessionId session) {
    if (Any(4) != 0) return;
    Note(fs_.CloseSession(session));
    ApplyAs(SessionId(0), [&](proto::LogCommand* command) {
      command->mutable_open_session()->set_session(session.value());
    });
  }

  void Erase() {
    const auto deleting = DeletingChunks(fs_.txn(), ChunkId(0), 100);
    if (deleting.empty()) return;
    const ChunkId chunk = deleting[Any(deleting.size())];
    ApplyAs(SessionId(0), [&](proto::LogCommand* command) {
      command->mutable_chunk_erased()->set_chunk(chunk.value());
      command->mutable_chunk_erased()->set_server(static_cast<uint32_t>(1 + Any(6)));
    });
  }

  void Orphan(SessionId session) {
    const auto orphans = Orphans(fs_.txn(), InodeId(0), 100);
    if (orphans.empty()) return;
    const InodeId orphan = orphans[Any(orphans.size())];
    if (Any(2) == 0) {
      return ApplyAs(session, [&](proto::LogCommand* command) {
        command->mutable_close_orphans()->add_inodes(orphan.value());
      });
    }
    ApplyAs(SessionId(0),
            [&](proto::LogCommand* command) { command->mutable_reclaim_inode()->set_inode(orphan.value()); });
  }

  FileSystem& fs_;
  std::mt19937 random_;
  std::vector<InodeId> files_;
  int applied_ = 0;
};

TEST_P(RandomHistory, OfFilesAndChunksLeavesNoContradiction) {
  FileSystem fs;
  FileHistory history(fs, static_cast<uint32_t>(GetParam()));
  for (int round = 0; round < 10; ++round) {
    history.Run(200);
    ASSERT_THAT(Problems(fs.txn()), testing::IsEmpty()) << "round " << round;
    // What the lists say is what the leases say.
    for (const ListedChunk& open : OpenChunks(fs.txn(), {}, 1000)) {
      EXPECT_TRUE(WriteLeaseOf(fs.txn(), open.inode)) << "a chunk is open and nobody has the lease";
    }
    for (const WriteLease& lease : AllWriteLeases(fs.txn(), InodeId(0), 1000)) {
      EXPECT_TRUE(!lease.vanished || !OpenChunksOf(fs.txn(), lease.inode).empty())
          << "a vanished lease without a chunk to recover";
    }
  }
  EXPECT_GT(history.applied(), 500);
}

// The log decides everything: replayed on RocksDB, in groups, over a restart, it gives the same bytes.
TEST_P(RandomHistory, ReplayedOnAnotherStoreGivesTheSameState) {
  FileSystem original;
  FileHistory(original, static_cast<uint32_t>(GetParam()) + 1000).Run(800);

  TempDir dir;
  RocksdbStoreOptions options;
  options.directory = dir.Sub("meta");
  const StateMachine machine{};
  std::mt19937 random(7);
  size_t next = 0;
  for (const size_t until : {original.log.size() / 2, original.log.size()}) {
    auto store = OpenRocksdbStore(options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    MetaTxn txn((*store)->Latest());
    if (!IsInitialized(txn)) {
      proto::Time start;
      start.set_seconds(1'000'001);
      Initialize(start, &txn);
    }
    for (; next < until; ++next) {
      machine.Apply(original.log[next], next + 1, &txn);
      if (random() % 20 == 0) {
        SetAppliedIndex(next + 1, &txn);
        ASSERT_TRUE((*store)->Commit(&txn).ok());
      }
    }
    SetAppliedIndex(next, &txn);
    ASSERT_TRUE((*store)->Commit(&txn).ok());
    if (next < original.log.size()) continue;
    SetAppliedIndex(next, &original.txn());
    EXPECT_EQ(Dump(*(*store)->Snapshot()), Dump(original.txn()));
    // And once more from the start, as a client that lost every reply would: nothing changes.
    const std::string before = Dump(txn);
    for (const proto::LogCommand& command : original.log) {
      if (command.session() != 0 && SessionRecordOf(txn, SessionId(command.session())) &&
          StoredReply(txn, SessionId(command.session()), command.request_number())) {
        EXPECT_TRUE(machine.Apply(command, ++next, &txn).repeated);
      }
    }
    EXPECT_EQ(Dump(txn), before);
  }
}

}  // namespace
}  // namespace cairn::master
