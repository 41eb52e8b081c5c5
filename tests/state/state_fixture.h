// A file system on the state machine, for tests: builds commands with times, numbers and placements and
// applies them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "master/state/chunk_queries.h"
#include "master/state/fsck.h"
#include "master/state/queries.h"
#include "master/state/state_machine.h"
#include "master/store/memory_store.h"
#include "master/store/meta_txn.h"

namespace cairn::master {

inline constexpr SessionId kSession{10};
inline constexpr SessionId kOther{11};

inline proto::Credentials User(uint32_t uid, uint32_t gid, std::vector<uint32_t> groups = {},
                               bool groups_known = true) {
  proto::Credentials caller;
  caller.set_uid(uid);
  caller.set_gid(gid);
  for (const uint32_t group : groups) caller.add_groups(group);
  caller.set_groups_known(groups_known);
  return caller;
}

inline StatusCode CodeOf(const ApplyResult& result) {
  return static_cast<StatusCode>(result.reply.status().code());
}

inline proto::Stamp MakeStamp(uint64_t epoch, uint64_t seq) {
  proto::Stamp stamp;
  stamp.set_epoch(epoch);
  stamp.set_seq(seq);
  return stamp;
}

class FileSystem {
 public:
  explicit FileSystem(std::unique_ptr<MetaStore> store = NewMemoryStore(Uuid{1, 1}))
      : store_(std::move(store)), txn_(std::make_unique<MetaTxn>(store_->Latest())) {
    if (IsInitialized(*txn_)) return;
    Initialize(Tick(), txn_.get());
    for (const SessionId session : {kSession, kOther}) {
      proto::LogCommand command = Command(SessionId(0));
      command.mutable_open_session()->set_session(session.value());
      EXPECT_TRUE(Apply(command).ok());
    }
  }

  MetaTxn& txn() { return *txn_; }
  MetaStore& store() { return *store_; }
  void Commit() { ASSERT_TRUE(store_->Commit(txn_.get()).ok()); }

  // The acting user of the commands that follow (root at first) and what they carry.
  proto::Credentials caller = User(0, 0);
  std::vector<proto::SessionOpens> opens;
  std::vector<uint32_t> servers = {1, 2, 3};
  // Everything that was applied, in order.
  std::vector<proto::LogCommand> log;

  // A command with the next time, request number, inode, epoch and `placements` placements.
  proto::LogCommand Command(SessionId session, int placements = 0) {
    proto::LogCommand command;
    *command.mutable_now() = Tick();
    command.set_session(session.value());
    if (session) command.set_request_number(++next_request_);
    *command.mutable_credentials() = caller;
    command.set_new_inode(++next_inode_);
    command.set_new_epoch(++next_epoch_);
    for (int i = 0; i < placements; ++i) {
      proto::Placement* placement = command.add_placements();
      placement->set_chunk(++next_chunk_);
      for (const uint32_t server : servers) placement->add_servers(server);
    }
    for (const proto::SessionOpens& open : opens) *command.add_opens() = open;
    return command;
  }
  ApplyResult Apply(const proto::LogCommand& command) {
    log.push_back(command);
    return machine_.Apply(command, ++log_index_, txn_.get());
  }
  ApplyResult Preview(const proto::LogCommand& command) { return machine_.Preview(command, txn_.get()); }

  ApplyResult Create(InodeId parent, const std::string& name, uint32_t mode = 0644, bool exclusive = true,
                     bool want_write = false) {
    proto::LogCommand command = Command(kSession, want_write ? 1 : 0);
    proto::CreateOp* op = command.mutable_create();
    op->set_parent(parent.value());
    op->set_name(name);
    op->set_mode(mode);
    op->set_exclusive(exclusive);
    op->set_want_write(want_write);
    return Apply(command);
  }
  ApplyResult Mkdir(InodeId parent, const std::string& name, uint32_t mode = 0755) {
    proto::LogCommand command = Command(kSession);
    command.mutable_mkdir()->set_parent(parent.value());
    command.mutable_mkdir()->set_name(name);
    command.mutable_mkdir()->set_mode(mode);
    return Apply(command);
  }
  ApplyResult Mknod(InodeId parent, const std::string& name, proto::FileType type, uint32_t mode = 0644,
                    uint64_t rdev = 0) {
    proto::LogCommand command = Command(kSession);
    proto::MknodOp* op = command.mutable_mknod();
    op->set_parent(parent.value());
    op->set_name(name);
    op->set_type(type);
    op->set_mode(mode);
    op->set_rdev(rdev);
    return Apply(command);
  }
  ApplyResult Symlink(InodeId parent, const std::string& name, const std::string& target) {
    proto::LogCommand command = Command(kSession);
    command.mutable_symlink()->set_parent(parent.value());
    command.mutable_symlink()->set_name(name);
    command.mutable_symlink()->set_target(target);
    return Apply(command);
  }
  ApplyResult Link(InodeId inode, InodeId parent, const std::string& name) {
    proto::LogCommand command = Command(kSession);
    command.mutable_link()->set_inode(inode.value());
    command.mutable_link()->set_new_parent(parent.value());
    command.mutable_link()->set_new_name(name);
    return Apply(command);
  }
  ApplyResult Unlink(InodeId parent, const std::string& name, bool open_here = false) {
    proto::LogCommand command = Command(kSession);
    command.mutable_unlink()->set_parent(parent.value());
    command.mutable_unlink()->set_name(name);
    command.mutable_unlink()->set_open_here(open_here);
    return Apply(command);
  }
  ApplyResult Rmdir(InodeId parent, const std::string& name) {
    proto::LogCommand command = Command(kSession);
    command.mutable_rmdir()->set_parent(parent.value());
    command.mutable_rmdir()->set_name(name);
    return Apply(command);
  }
  ApplyResult Rename(InodeId parent, const std::string& name, InodeId new_parent, const std::string& new_name,
                     uint32_t flags = 0) {
    proto::LogCommand command = Command(kSession);
    proto::RenameOp* op = command.mutable_rename();
    op->set_parent(parent.value());
    op->set_name(name);
    op->set_new_parent(new_parent.value());
    op->set_new_name(new_name);
    op->set_flags(flags);
    return Apply(command);
  }
  ApplyResult SetAttr(const proto::SetAttrOp& op) {
    proto::LogCommand command = Command(kSession);
    *command.mutable_set_attr() = op;
    return Apply(command);
  }
  ApplyResult Truncate(InodeId inode, uint64_t size, uint64_t shrink_seq = 0) {
    proto::SetAttrOp op;
    op.set_inode(inode.value());
    op.set_size(size);
    op.set_shrink_seq(shrink_seq);
    return SetAttr(op);
  }
  ApplyResult SetXattr(InodeId inode, const std::string& name, const std::string& value, uint32_t flags = 0) {
    proto::LogCommand command = Command(kSession);
    proto::SetXattrOp* op = command.mutable_set_xattr();
    op->set_inode(inode.value());
    op->set_name(name);
    op->set_value(value);
    op->set_flags(flags);
    return Apply(command);
  }
  ApplyResult RemoveXattr(InodeId inode, const std::string& name) {
    proto::LogCommand command = Command(kSession);
    command.mutable_remove_xattr()->set_inode(inode.value());
    command.mutable_remove_xattr()->set_name(name);
    return Apply(command);
  }
  ApplyResult Grant(InodeId inode, SessionId session, uint64_t first = 0, uint32_t count = 0) {
    proto::LogCommand command = Command(SessionId(0), static_cast<int>(count));
    proto::GrantWriteLeaseCmd* op = command.mutable_grant_write_lease();
    op->set_inode(inode.value());
    op->set_session(session.value());
    op->set_first(first);
    op->set_count(count);
    return Apply(command);
  }
  ApplyResult Announce(InodeId inode, uint64_t lease, uint64_t first, uint32_t count) {
    proto::LogCommand command = Command(kSession, static_cast<int>(count));
    proto::AnnounceOp* op = command.mutable_announce();
    op->set_inode(inode.value());
    op->set_lease(lease);
    op->set_first(first);
    op->set_count(count);
    return Apply(command);
  }
  ApplyResult WriteBack(const std::vector<proto::InodeCommit>& commits, SessionId session = kSession) {
    proto::LogCommand command = Command(session);
    for (const proto::InodeCommit& commit : commits) *command.mutable_write_back()->add_commits() = commit;
    return Apply(command);
  }
  ApplyResult CloseSession(SessionId session) {
    proto::LogCommand command = Command(SessionId(0));
    command.mutable_close_session()->set_session(session.value());
    return Apply(command);
  }

  // Makers that must succeed; they give the new inode.
  InodeId MustMkdir(InodeId parent, const std::string& name, uint32_t mode = 0755) {
    return InodeOf(Mkdir(parent, name, mode));
  }
  InodeId MustCreate(InodeId parent, const std::string& name, uint32_t mode = 0644) {
    return InodeOf(Create(parent, name, mode));
  }
  static InodeId InodeOf(const ApplyResult& result) {
    EXPECT_TRUE(result.ok()) << result.reply.ShortDebugString();
    return InodeId(result.reply.entry().attr().inode());
  }
  proto::Attr Attr(InodeId inode) {
    auto attr = Attributes(*txn_, inode);
    EXPECT_TRUE(attr.ok()) << attr.status().ToString();
    return attr.ok() ? *attr : proto::Attr();
  }
  std::vector<std::string> Names(InodeId directory) {
    proto::ReadDirOp op;
    op.set_inode(directory.value());
    std::vector<std::string> names;
    for (bool end = false; !end;) {
      op.set_max_entries(3);
      auto page = ReadDir(*txn_, op, User(0, 0));
      EXPECT_TRUE(page.ok());
      if (!page.ok()) break;
      for (const proto::DirEntry& entry : page->entries()) {
        names.push_back(entry.name());
        op.set_cursor(entry.cursor());
      }
      end = page->end();
    }
    return names;
  }
  proto::Time Tick() {
    proto::Time time;
    time.set_seconds(1'000'000 + ++ticks_);
    return time;
  }

 private:
  const std::unique_ptr<MetaStore> store_;
  const std::unique_ptr<MetaTxn> txn_;
  const StateMachine machine_{};
  uint64_t next_request_ = 0;
  uint64_t next_inode_ = 100;
  uint64_t next_chunk_ = 1000;
  uint64_t next_epoch_ = 5000;
  uint64_t log_index_ = 0;
  int64_t ticks_ = 0;
};

// Every key and value of all families: equal dumps mean equal stores.
inline std::string Dump(const MetaReader& reader) {
  std::string dump;
  for (size_t i = 0; i < kFamilyCount; ++i) {
    const auto family = static_cast<Family>(i);
    for (auto it = reader.Scan(family, "", ""); it->Valid(); it->Next()) {
      if (it->key().starts_with("store/")) continue;
      dump += std::string(FamilyName(family)) + " " + std::string(it->key()) + " = " +
              std::string(it->value()) + "\n";
    }
  }
  return dump;
}

}  // namespace cairn::master
