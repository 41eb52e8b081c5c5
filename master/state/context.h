// One command on its way through the state machine: what it is, what it changes, what it answers.
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <string>

#include "common/ids.h"
#include "common/status.h"
#include "master/state/records.h"
#include "master/state/state_machine.h"
#include "master/store/meta_txn.h"
#include "proto/cairn/log.pb.h"

namespace cairn::master {

// Stands for the inode that a preview would make.
inline constexpr InodeId kPlaceholderInode{UINT64_MAX};

class Context {
 public:
  Context(const proto::LogCommand& command, MetaTxn* txn, ApplyResult* result, bool preview)
      : command_(command), txn_(txn), result_(result), preview_(preview) {}

  const proto::LogCommand& command() const { return command_; }
  const proto::Credentials& caller() const { return command_.credentials(); }
  const proto::Time& now() const { return command_.now(); }
  SessionId session() const { return SessionId(command_.session()); }
  MetaTxn& txn() { return *txn_; }
  proto::Reply& reply() { return result_->reply; }
  Effects& effects() { return result_->effects; }
  bool preview() const { return preview_; }

  // The inode number for a new inode: in a preview without one, a number that no inode has.
  Result<InodeId> NewInode();
  // A fresh epoch that came with the command; zero if none did (in a preview, one above all others).
  Epoch NewEpoch() const;
  // The next placement of the command; nullptr if there are no more.
  const proto::Placement* NextPlacement();

  // ctime and generation of an inode whose metadata changes; mtime besides for a directory whose entries
  // change.
  void Touch(proto::InodeRecord* record) const;
  void TouchEntries(proto::InodeRecord* directory) const;
  void ChangeCounters(int64_t inodes, int64_t chunks, int64_t deleting, int64_t policies);

 private:
  const proto::LogCommand& command_;
  MetaTxn* const txn_;
  ApplyResult* const result_;
  const bool preview_;
  int next_placement_ = 0;
};

}  // namespace cairn::master
