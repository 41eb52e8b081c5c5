// The namespace operations of FakeClient.
#include <sys/xattr.h>

#include <algorithm>

#include "tests/fake_client/fake_client.h"

namespace cairn::testing {
namespace {

constexpr uint32_t kRenameNoReplace = 1;
constexpr uint32_t kRenameExchange = 2;

}  // namespace

using client::FileType;

Result<client::Entry> FakeClient::Lookup(const Caller&, InodeId parent, const std::string& name) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "lookup"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(parent));
  const auto it = directory->names.find(name);
  if (it == directory->names.end()) return Status(StatusCode::kNotFound, "no such file or directory");
  return cluster_->EntryOf(cluster_->inodes_.at(it->second));
}

int64_t FakeClient::NegativeValidNanos(InodeId) {
  const std::lock_guard lock(cluster_->mu_);
  return cluster_->negative_ns;
}

Result<client::Entry> FakeClient::GetAttr(const Caller&, InodeId id) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "getattr"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  return cluster_->EntryOf(*inode);
}

Result<client::Entry> FakeClient::SetAttr(const Caller&, InodeId id, const client::SetAttributes& change) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "setattr"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  client::Attributes& attr = inode->attr;
  if (change.mode) attr.mode = *change.mode;
  if (change.uid) attr.uid = *change.uid;
  if (change.gid) attr.gid = *change.gid;
  if (change.size) {
    FakeCluster::Resize(*inode, *change.size);
    attr.mtime = FakeCluster::Now();
  }
  if (change.atime) attr.atime = *change.atime;
  if (change.mtime) attr.mtime = *change.mtime;
  if (change.atime_now) attr.atime = FakeCluster::Now();
  if (change.mtime_now) attr.mtime = FakeCluster::Now();
  if (change.kill_priv) attr.mode &= ~06000U;
  attr.ctime = FakeCluster::Now();
  return cluster_->EntryOf(*inode);
}

Status FakeClient::Access(const Caller& caller, InodeId id, uint32_t mask) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "access"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  if (caller.uid == 0) return Status::Ok();
  const uint32_t shift = caller.uid == inode->attr.uid ? 6 : caller.gid == inode->attr.gid ? 3 : 0;
  if ((inode->attr.mode >> shift & mask & 7) == (mask & 7)) return Status::Ok();
  return {StatusCode::kAccessDenied, "permission denied"};
}

Result<std::string> FakeClient::ReadLink(const Caller&, InodeId id) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "readlink"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  if (inode->attr.type != FileType::kSymlink)
    return Status(StatusCode::kInvalidArgument, "not a symbolic link");
  return inode->target;
}

Result<client::Entry> FakeClient::Make(const Caller& caller, InodeId parent, const std::string& name,
                                       FileType type, uint32_t mode,
                                       const std::function<void(FakeInode&)>& fill) {
  CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(parent));
  if (name.size() > 255) return Status(StatusCode::kNameTooLong, "name too long");
  if (directory->names.contains(name)) return Status(StatusCode::kAlreadyExists, "file exists");
  FakeInode& inode = cluster_->NewInode(type, mode, caller);
  if ((directory->attr.mode & 02000) != 0) {
    inode.attr.gid = directory->attr.gid;
    if (type == FileType::kDirectory) inode.attr.mode |= 02000;
  }
  if (fill) fill(inode);
  cluster_->AddName(*directory, name, inode);
  return cluster_->EntryOf(inode);
}

Result<client::Created> FakeClient::Create(const Caller& caller, InodeId parent, const std::string& name,
                                           client::CreateMode mode, client::OpenFlags flags) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "create"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(parent));
  InodeId id;
  if (const auto it = directory->names.find(name); it != directory->names.end()) {
    if (mode.exclusive) return Status(StatusCode::kAlreadyExists, "file exists");
    id = it->second;
  } else {
    CAIRN_ASSIGN_OR_RETURN(const Entry made,
                           Make(caller, parent, name, FileType::kRegular, mode.mode, nullptr));
    id = made.attr.inode;
  }
  FakeInode& inode = cluster_->inodes_.at(id);
  if (inode.attr.type == FileType::kDirectory) return Status(StatusCode::kIsDirectory, "is a directory");
  const Handle handle = NewHandle(inode, flags);
  return client::Created{cluster_->EntryOf(inode), handle};
}

Result<client::Entry> FakeClient::Mkdir(const Caller& caller, InodeId parent, const std::string& name,
                                        uint32_t mode) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "mkdir"));
  return Make(caller, parent, name, FileType::kDirectory, mode, nullptr);
}

Result<client::Entry> FakeClient::Mknod(const Caller& caller, InodeId parent, const std::string& name,
                                        FileType type, uint32_t mode, uint64_t rdev) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "mknod"));
  return Make(caller, parent, name, type, mode, [rdev](FakeInode& inode) { inode.attr.rdev = rdev; });
}

Result<client::Entry> FakeClient::Symlink(const Caller& caller, InodeId parent, const std::string& name,
                                          const std::string& target) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "symlink"));
  return Make(caller, parent, name, FileType::kSymlink, 0777,
              [&target](FakeInode& inode) { inode.target = target; });
}

Result<client::Entry> FakeClient::Link(const Caller&, InodeId id, InodeId new_parent,
                                       const std::string& new_name) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "link"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(new_parent));
  if (inode->attr.type == FileType::kDirectory) return Status(StatusCode::kNotPermitted, "is a directory");
  if (directory->names.contains(new_name)) return Status(StatusCode::kAlreadyExists, "file exists");
  cluster_->AddName(*directory, new_name, *inode);
  return cluster_->EntryOf(*inode);
}

Status FakeClient::Unlink(const Caller&, InodeId parent, const std::string& name) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "unlink"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(parent));
  const auto it = directory->names.find(name);
  if (it == directory->names.end()) return {StatusCode::kNotFound, "no such file or directory"};
  const InodeId id = it->second;
  if (cluster_->inodes_.at(id).attr.type == FileType::kDirectory)
    return {StatusCode::kIsDirectory, "is a directory"};
  cluster_->RemoveName(*directory, name);
  cluster_->DropIfUnused(id);
  return Status::Ok();
}

Status FakeClient::Rmdir(const Caller&, InodeId parent, const std::string& name) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "rmdir"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(parent));
  const auto it = directory->names.find(name);
  if (it == directory->names.end()) return {StatusCode::kNotFound, "no such file or directory"};
  const InodeId id = it->second;
  const FakeInode& inode = cluster_->inodes_.at(id);
  if (inode.attr.type != FileType::kDirectory) return {StatusCode::kNotDirectory, "not a directory"};
  if (!inode.names.empty()) return {StatusCode::kNotEmpty, "directory not empty"};
  cluster_->RemoveName(*directory, name);
  cluster_->DropIfUnused(id);
  return Status::Ok();
}

Status FakeClient::Rename(const Caller&, InodeId parent, const std::string& name, InodeId new_parent,
                          const std::string& new_name, uint32_t flags) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "rename"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * from, cluster_->FindDirectory(parent));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * to, cluster_->FindDirectory(new_parent));
  if ((flags & ~(kRenameNoReplace | kRenameExchange)) != 0)
    return {StatusCode::kInvalidArgument, "rename flags"};
  const auto it = from->names.find(name);
  if (it == from->names.end()) return {StatusCode::kNotFound, "no such file or directory"};
  FakeInode& moved = cluster_->inodes_.at(it->second);
  for (const FakeInode* above = to; above->attr.inode != kRootInode;
       above = &cluster_->inodes_.at(above->parent)) {
    if (above == &moved) return {StatusCode::kInvalidArgument, "into itself"};
  }
  const auto target = to->names.find(new_name);
  if (target == to->names.end()) {
    if ((flags & kRenameExchange) != 0) return {StatusCode::kNotFound, "nothing to exchange with"};
    cluster_->RemoveName(*from, name);
    cluster_->AddName(*to, new_name, moved);
    return Status::Ok();
  }
  FakeInode& existing = cluster_->inodes_.at(target->second);
  if ((flags & kRenameNoReplace) != 0) return {StatusCode::kAlreadyExists, "file exists"};
  if (&existing == &moved) return Status::Ok();
  if ((flags & kRenameExchange) != 0) {
    cluster_->RemoveName(*from, name);
    cluster_->RemoveName(*to, new_name);
    cluster_->AddName(*to, new_name, moved);
    cluster_->AddName(*from, name, existing);
    return Status::Ok();
  }
  const bool directory = moved.attr.type == FileType::kDirectory;
  if (directory && existing.attr.type != FileType::kDirectory)
    return {StatusCode::kNotDirectory, "not a directory"};
  if (!directory && existing.attr.type == FileType::kDirectory)
    return {StatusCode::kIsDirectory, "is a directory"};
  if (!existing.names.empty()) return {StatusCode::kNotEmpty, "directory not empty"};
  const InodeId replaced = existing.attr.inode;
  cluster_->RemoveName(*to, new_name);
  cluster_->DropIfUnused(replaced);
  cluster_->RemoveName(*from, name);
  cluster_->AddName(*to, new_name, moved);
  return Status::Ok();
}

Result<std::vector<client::DirectoryEntry>> FakeClient::ReadDirectory(const Caller&, InodeId id,
                                                                      uint64_t cursor, size_t max,
                                                                      bool with_attributes) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "readdir"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(id));
  std::vector<client::DirectoryEntry> entries;
  for (const auto& [name, at] : directory->cursors) {
    if (at <= cursor) continue;
    const FakeInode& inode = cluster_->inodes_.at(directory->names.at(name));
    client::DirectoryEntry entry{
        .name = name, .inode = inode.attr.inode, .type = inode.attr.type, .cursor = at};
    if (with_attributes && cluster_->attributes_in_listings) entry.entry = cluster_->EntryOf(inode);
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.cursor < b.cursor; });
  if (entries.size() > max) entries.resize(max);
  return entries;
}

Result<InodeId> FakeClient::ParentOf(const Caller&, InodeId id) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "parent_of"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(id));
  return directory->parent;
}

Result<std::string> FakeClient::GetXattr(const Caller&, InodeId id, const std::string& name) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "getxattr"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  const auto it = inode->xattrs.find(name);
  if (it == inode->xattrs.end()) return Status(StatusCode::kNoAttribute, "no such attribute");
  return it->second;
}

Result<std::vector<std::string>> FakeClient::ListXattr(const Caller&, InodeId id) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "listxattr"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  std::vector<std::string> names;
  for (const auto& [name, value] : inode->xattrs) names.push_back(name);
  return names;
}

Status FakeClient::SetXattr(const Caller&, InodeId id, const std::string& name, const std::string& value,
                            uint32_t flags) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "setxattr"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  const bool exists = inode->xattrs.contains(name);
  if ((flags & XATTR_CREATE) != 0 && exists) return {StatusCode::kAlreadyExists, "attribute exists"};
  if ((flags & XATTR_REPLACE) != 0 && !exists) return {StatusCode::kNoAttribute, "no such attribute"};
  inode->xattrs[name] = value;
  return Status::Ok();
}

Status FakeClient::RemoveXattr(const Caller&, InodeId id, const std::string& name) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "removexattr"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * inode, cluster_->Find(id));
  if (inode->xattrs.erase(name) == 0) return {StatusCode::kNoAttribute, "no such attribute"};
  return Status::Ok();
}

Result<client::SpaceUsage> FakeClient::StatFs(InodeId) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "statfs"));
  return client::SpaceUsage{.total_bytes = 1ull << 40,
                            .free_bytes = 1ull << 39,
                            .available_bytes = 1ull << 38,
                            .files = 1000 + cluster_->inodes_.size(),
                            .files_free = 1000};
}

Result<client::PolicyPair> FakeClient::GetPolicy(const Caller&, InodeId id) {
  std::unique_lock lock(cluster_->mu_);
  CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "getpolicy"));
  CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(id));
  client::PolicyPair pair{directory->policy, directory->policy};
  while (true) {
    client::Policy& effective = pair.effective;
    const client::Policy& above = directory->policy;
    if (effective.replicas == 0) {
      effective.replicas = above.replicas;
      effective.write_quorum = above.write_quorum;
    }
    if (effective.chunk_bytes == 0) effective.chunk_bytes = above.chunk_bytes;
    if (effective.failure_domain.empty()) effective.failure_domain = above.failure_domain;
    if (effective.storage_class.empty()) effective.storage_class = above.storage_class;
    if (directory->attr.inode == kRootInode) break;
    directory = &cluster_->inodes_.at(directory->parent);
  }
  if (pair.effective.write_quorum == 0) pair.effective.write_quorum = pair.effective.replicas / 2 + 1;
  return pair;
}

Result<client::PolicyPair> FakeClient::SetPolicy(const Caller& caller, InodeId id,
                                                 const client::Policy& own) {
  {
    std::unique_lock lock(cluster_->mu_);
    CAIRN_RETURN_IF_ERROR(cluster_->Enter(lock, "setpolicy"));
    CAIRN_ASSIGN_OR_RETURN(FakeInode * directory, cluster_->FindDirectory(id));
    if (caller.uid != 0) return Status(StatusCode::kNotPermitted, "only root may set policies");
    directory->policy = own;
  }
  return GetPolicy(caller, id);
}

}  // namespace cairn::testing
