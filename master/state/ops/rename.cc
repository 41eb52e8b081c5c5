// rename, with RENAME_NOREPLACE and RENAME_EXCHANGE.
#include <optional>

#include "master/state/namespace_ops.h"
#include "master/state/ops/ops.h"
#include "master/state/permissions.h"
#include "master/state/queries.h"

namespace cairn::master {
namespace {

constexpr uint32_t kNoReplace = 1;
constexpr uint32_t kExchange = 2;

struct End {
  proto::DentryRecord dentry;
  proto::InodeRecord record;
  InodeId inode() const { return InodeId(dentry.inode()); }
};

// One rename under way. Both directories may be the same one: then only `from` is used.
class Rename {
 public:
  Rename(Context& c, const proto::RenameOp& op) : c_(c), op_(op) {}

  Status Run() {
    CAIRN_RETURN_IF_ERROR(Open());
    if (target_ && source_.inode() == target_->inode()) {
      Answer();  // two names of one file: nothing happens, as POSIX has it
      return Status::Ok();
    }
    CAIRN_RETURN_IF_ERROR(CheckAncestors());
    CAIRN_RETURN_IF_ERROR(CheckPermissions());
    if (exchange()) {
      Exchange();
    } else {
      CAIRN_RETURN_IF_ERROR(CheckTypes());
      if (target_) RemoveTarget();
      Move();
    }
    c_.TouchEntries(&from_.record);
    if (!same_directory()) {
      c_.TouchEntries(&to_.record);
      SaveDirectory(c_, to_);
    }
    SaveDirectory(c_, from_);
    Answer();
    return Status::Ok();
  }

 private:
  bool exchange() const { return (op_.flags() & kExchange) != 0; }
  bool same_directory() const { return op_.parent() == op_.new_parent(); }
  Directory& to() { return same_directory() ? from_ : to_; }

  Status Open() {
    if ((op_.flags() & ~(kNoReplace | kExchange)) != 0 || op_.flags() == (kNoReplace | kExchange)) {
      return {StatusCode::kInvalidArgument,
              "rename flags " + std::to_string(op_.flags()) + " are not supported"};
    }
    CAIRN_ASSIGN_OR_RETURN(from_, OpenDirectory(c_.txn(), InodeId(op_.parent())));
    if (!same_directory()) {
      CAIRN_ASSIGN_OR_RETURN(to_, OpenDirectory(c_.txn(), InodeId(op_.new_parent())));
    }
    CAIRN_RETURN_IF_ERROR(CheckName(op_.name()));
    CAIRN_RETURN_IF_ERROR(CheckName(op_.new_name()));
    CAIRN_RETURN_IF_ERROR(CheckMode(from_.record, c_.caller(), kMayExecute));
    CAIRN_RETURN_IF_ERROR(CheckMode(to().record, c_.caller(), kMayExecute));
    CAIRN_ASSIGN_OR_RETURN(std::optional<End> source, Find(from_, op_.name()));
    if (!source) return {StatusCode::kNotFound, "no entry '" + op_.name() + "'"};
    source_ = *std::move(source);
    CAIRN_ASSIGN_OR_RETURN(target_, Find(to(), op_.new_name()));
    if (target_ && (op_.flags() & kNoReplace) != 0)
      return {StatusCode::kAlreadyExists, "'" + op_.new_name() + "' exists already"};
    if (!target_ && exchange())
      return {StatusCode::kNotFound, "no entry '" + op_.new_name() + "' to exchange with"};
    return Status::Ok();
  }

  Result<std::optional<End>> Find(const Directory& directory, const std::string& name) {
    const std::optional<proto::DentryRecord> dentry = LoadDentry(c_.txn(), directory.inode, name);
    if (!dentry) return std::optional<End>();
    CAIRN_ASSIGN_OR_RETURN(proto::InodeRecord record, LoadInode(c_.txn(), InodeId(dentry->inode())));
    return std::optional<End>(End{*dentry, std::move(record)});
  }

  // Whether `inode` is `directory` itself or above it.
  Result<bool> IsAbove(InodeId inode, const Directory& directory) {
    if (inode == directory.inode) return true;
    InodeId at(directory.record.parent());
    InodeId previous = directory.inode;
    for (int depth = 0; at != previous; ++depth) {  // the root is its own parent
      if (at == inode) return true;
      // Whether it would move into itself cannot be told without the whole walk.
      if (depth == kMaxDepth) {
        return Status(StatusCode::kNameTooLong, "a directory cannot be moved to below more than " +
                                                    std::to_string(kMaxDepth) + " directories");
      }
      CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(c_.txn(), at));
      previous = at;
      at = InodeId(record.parent());
    }
    return false;
  }

  Status CheckAncestors() {
    if (same_directory()) return Status::Ok();
    if (IsDirectory(source_.record)) {
      CAIRN_ASSIGN_OR_RETURN(const bool above, IsAbove(source_.inode(), to_));
      if (above) return {StatusCode::kInvalidArgument, "'" + op_.name() + "' cannot move into itself"};
    }
    if (target_ && IsDirectory(target_->record)) {
      CAIRN_ASSIGN_OR_RETURN(const bool above, IsAbove(target_->inode(), from_));
      if (above && exchange())
        return {StatusCode::kInvalidArgument, "'" + op_.new_name() + "' cannot move into itself"};
      if (above) return {StatusCode::kNotEmpty, "'" + op_.new_name() + "' is not empty"};
    }
    return Status::Ok();
  }

  Status CheckPermissions() {
    CAIRN_RETURN_IF_ERROR(CheckRemoveEntry(from_.record, source_.record, c_.caller()));
    if (target_) {
      CAIRN_RETURN_IF_ERROR(CheckRemoveEntry(to().record, target_->record, c_.caller()));
    } else {
      CAIRN_RETURN_IF_ERROR(CheckAddEntry(to().record, c_.caller()));
    }
    if (same_directory()) return Status::Ok();
    // A directory's ".." changes: that is a write to it.
    if (IsDirectory(source_.record)) CAIRN_RETURN_IF_ERROR(CheckMode(source_.record, c_.caller(), kMayWrite));
    if (exchange() && IsDirectory(target_->record))
      CAIRN_RETURN_IF_ERROR(CheckMode(target_->record, c_.caller(), kMayWrite));
    return Status::Ok();
  }

  Status CheckTypes() {
    if (!target_) return Status::Ok();
    if (IsDirectory(source_.record) && !IsDirectory(target_->record)) {
      return {StatusCode::kNotDirectory, "'" + op_.new_name() + "' is not a directory"};
    }
    if (!IsDirectory(source_.record) && IsDirectory(target_->record)) {
      return {StatusCode::kIsDirectory, "'" + op_.new_name() + "' is a directory"};
    }
    if (IsDirectory(target_->record) && target_->record.size() > 0) {
      return {StatusCode::kNotEmpty,
              "'" + op_.new_name() + "' has " + std::to_string(target_->record.size()) + " entries"};
    }
    return Status::Ok();
  }

  void Exchange() {
    ReplaceEntry(c_, &from_, op_.name(), source_.dentry, target_->inode(), target_->record.type());
    ReplaceEntry(c_, &to(), op_.new_name(), target_->dentry, source_.inode(), source_.record.type());
    MoveLink(c_, source_.inode(), &source_.record, from_.inode, op_.name(), to().inode, op_.new_name());
    MoveLink(c_, target_->inode(), &target_->record, to().inode, op_.new_name(), from_.inode, op_.name());
    SaveEnd(&source_);
    SaveEnd(&*target_);
  }

  void RemoveTarget() {
    RemoveEntry(c_, &to(), op_.new_name(), target_->dentry);
    if (!IsDirectory(target_->record)) {
      DropName(c_, target_->inode(), &target_->record, to().inode, op_.new_name(), op_.target_open_here());
      return;
    }
    target_->record.set_nlink(0);
    c_.Touch(&target_->record);
    RemoveInode(c_, target_->inode(), target_->record, /*deleted_by_quorum=*/false);
    c_.effects().directories.push_back(target_->inode());
  }

  void Move() {
    if (same_directory()) {
      RenameEntry(c_, &from_, op_.name(), source_.dentry, op_.new_name());
    } else {
      RemoveEntry(c_, &from_, op_.name(), source_.dentry);
      AddEntry(c_, &to_, op_.new_name(), source_.inode(), source_.record.type());
    }
    MoveLink(c_, source_.inode(), &source_.record, from_.inode, op_.name(), to().inode, op_.new_name());
    SaveEnd(&source_);
  }

  void SaveEnd(End* end) {
    c_.Touch(&end->record);
    SaveInode(&c_.txn(), end->inode(), end->record);
    c_.effects().inodes.push_back(end->inode());
  }

  void Answer() {
    proto::RemoveResult* result = c_.reply().mutable_remove();
    *result->mutable_parent_attr() = ToAttr(from_.inode, from_.record);
    *result->mutable_new_parent_attr() = ToAttr(to().inode, to().record);
    *result->mutable_inode_attr() = ToAttr(source_.inode(), source_.record);
    if (target_) *result->mutable_replaced_attr() = ToAttr(target_->inode(), target_->record);
    SetKept(c_, target_ ? target_->inode() : InodeId{}, result);
  }

  Context& c_;
  const proto::RenameOp& op_;
  Directory from_;
  Directory to_;
  End source_;
  std::optional<End> target_;
};

}  // namespace

Status ApplyRename(Context& c, const proto::RenameOp& op) { return Rename(c, op).Run(); }

}  // namespace cairn::master
