// Names: lookup, creation, removal, renaming, listings.
#include <algorithm>
#include <utility>

#include "client/impl/client_impl.h"

namespace cairn::client {
namespace {

constexpr size_t kNameBytes = 255;
constexpr uint32_t kListingPrefetch = 1'024;
constexpr uint32_t kListingMax = 4'096;  // the master's bound

Status CheckName(const std::string& name) {
  if (name.size() > kNameBytes) {
    return Status(StatusCode::kNameTooLong, name.substr(0, 32) + "...: longer than 255 bytes");
  }
  return Status::Ok();
}

Status Denied(InodeId directory) {
  return Status(StatusCode::kAccessDenied, "no permission to search directory " + ToString(directory));
}

}  // namespace

Verdict ClientImpl::CheckCached(InodeId inode, const Caller& caller, uint32_t mask) {
  const auto view = cache_->Find(inode);
  if (!view) return Verdict::kAskMaster;
  return CheckPermission(view->attr, caller, mask, session_->squash_root());
}

Entry ClientImpl::EntryOf(InodeId inode, const proto::Attr* fallback) {
  Entry entry;
  if (const auto view = cache_->Find(inode)) {
    entry.attr = view->attr;
    entry.valid_ns = view->valid_ns;
  } else if (fallback != nullptr) {
    entry.attr = FromProto(*fallback);
  }
  entry.attr = WithBuffered(entry.attr);
  return entry;
}

Entry ClientImpl::NamedEntry(InodeId parent, const std::string& name, InodeId inode,
                             const proto::Attr* fallback) {
  Entry entry = EntryOf(inode, fallback);
  entry.entry_valid_ns = cache_->ExposeName(parent, name, inode);
  return entry;
}

std::optional<Result<Entry>> ClientImpl::CachedName(InodeId parent, const std::string& name) {
  InodeId child;
  switch (cache_->FindName(parent, name, &child)) {
    case LeaseCache::Name::kAbsent:
      return Status(StatusCode::kNotFound, name + ": no such file or directory");
    case LeaseCache::Name::kPresent:
      if (cache_->Find(child)) {
        Entry entry = NamedEntry(parent, name, child, nullptr);
        if (entry.attr.inode == child) return entry;  // otherwise its lease went away just now
      }
      return std::nullopt;
    case LeaseCache::Name::kUnknown:
      return std::nullopt;
  }
  return std::nullopt;
}

bool ClientImpl::FetchAhead(const Caller& caller, InodeId directory) {
  if (CheckCached(directory, caller, kMayRead) != Verdict::kAllowed) return false;
  const auto ahead = cache_->BeginAhead(directory);
  if (!ahead) return false;
  proto::Request request;
  proto::ReadDirOp* op = request.mutable_read_dir();
  op->set_inode(directory.value());
  op->set_cursor(ahead->cursor);
  op->set_max_entries(ahead->max_entries);
  op->set_with_attrs(true);
  op->set_want_lease(true);
  op->set_want_layout(true);
  const auto reply = CallAs(caller, std::move(request));
  cache_->EndAhead(directory);
  return reply.ok();  // otherwise the name is asked for as usual, and tells what is wrong
}

Result<Entry> ClientImpl::Lookup(const Caller& caller, InodeId parent, const std::string& name) {
  CAIRN_RETURN_IF_ERROR(CheckName(name));
  const Verdict verdict =
      name == "." || name == ".." ? Verdict::kAskMaster : CheckCached(parent, caller, kMayExecute);
  if (verdict == Verdict::kDenied) return Denied(parent);
  if (verdict == Verdict::kAllowed) {
    auto known = CachedName(parent, name);
    if (!known && FetchAhead(caller, parent)) known = CachedName(parent, name);
    if (known) return *std::move(known);
  }
  proto::Request request;
  proto::LookupOp* op = request.mutable_lookup();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_want_lease(true);
  op->set_want_layout(true);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  const proto::Attr& attr = reply.entry().attr();
  return NamedEntry(parent, name, InodeId(attr.inode()), &attr);
}

int64_t ClientImpl::NegativeValidNanos(InodeId parent) { return cache_->ExposeAbsence(parent); }

Result<std::string> ClientImpl::ReadLink(const Caller& caller, InodeId inode) {
  if (auto target = cache_->SymlinkTarget(inode)) return *std::move(target);
  proto::Request request;
  request.mutable_read_link()->set_inode(inode.value());
  CAIRN_ASSIGN_OR_RETURN(proto::Reply reply, CallAs(caller, std::move(request)));
  return std::move(*reply.mutable_bytes()->mutable_value());
}

Result<Created> ClientImpl::Create(const Caller& caller, InodeId parent, const std::string& name,
                                   CreateMode mode, OpenFlags flags) {
  CAIRN_RETURN_IF_ERROR(CheckName(name));
  for (int attempt = 0;; ++attempt) {
    proto::Request request;
    proto::CreateOp* op = request.mutable_create();
    op->set_parent(parent.value());
    op->set_name(name);
    op->set_mode(mode.mode);
    // Always exclusive on the wire: only so is it certain that permissions of an existing file are not
    // bypassed. A name that exists is opened like any other file then.
    op->set_exclusive(true);
    op->set_want_write(flags.write);
    auto opened = std::make_shared<OpenHandle>();
    // The open file is there before a recall of the lease that the reply grants, which would report the file
    // as not open.
    const auto on_reply = [this, opened](const proto::Reply& reply) {
      opened->file = OpenFileEntry(InodeId(reply.entry().attr().inode()), reply.entry().attr().chunk_bytes());
    };
    auto reply = CallAs(caller, std::move(request), on_reply);
    if (reply.ok()) {
      opened->caller = caller;
      opened->flags = flags;
      opened->errors_seen = opened->file->data->LastWriteError().number;
      if (flags.write) MarkWritten(opened->file);
      const proto::Attr& attr = reply->entry().attr();
      Created created;
      created.entry = NamedEntry(parent, name, InodeId(attr.inode()), &attr);
      created.handle = AddHandle(std::move(opened));
      return created;
    }
    if (reply.code() != StatusCode::kAlreadyExists || mode.exclusive || attempt >= 8) return reply.status();
    auto found = Lookup(caller, parent, name);
    if (found.code() == StatusCode::kNotFound) continue;  // removed in between
    if (!found.ok()) return found.status();
    if (found->attr.type == FileType::kSymlink) return reply.status();
    auto handle = Open(caller, found->attr.inode, flags);
    if (handle.code() == StatusCode::kStaleHandle) continue;
    if (!handle.ok()) return handle.status();
    return Created{.entry = NamedEntry(parent, name, found->attr.inode, nullptr), .handle = *handle};
  }
}

Result<Entry> ClientImpl::MakeEntry(const Caller& caller, proto::Request request, InodeId parent,
                                    const std::string& name) {
  CAIRN_RETURN_IF_ERROR(CheckName(name));
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  const proto::Attr& attr = reply.entry().attr();
  return NamedEntry(parent, name, InodeId(attr.inode()), &attr);
}

Result<Entry> ClientImpl::Mkdir(const Caller& caller, InodeId parent, const std::string& name,
                                uint32_t mode) {
  proto::Request request;
  proto::MkdirOp* op = request.mutable_mkdir();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_mode(mode);
  return MakeEntry(caller, std::move(request), parent, name);
}

Result<Entry> ClientImpl::Mknod(const Caller& caller, InodeId parent, const std::string& name, FileType type,
                                uint32_t mode, uint64_t rdev) {
  proto::Request request;
  proto::MknodOp* op = request.mutable_mknod();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_mode(mode);
  op->set_type(ToProto(type));
  op->set_rdev(rdev);
  return MakeEntry(caller, std::move(request), parent, name);
}

Result<Entry> ClientImpl::Symlink(const Caller& caller, InodeId parent, const std::string& name,
                                  const std::string& target) {
  proto::Request request;
  proto::SymlinkOp* op = request.mutable_symlink();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_target(target);
  return MakeEntry(caller, std::move(request), parent, name);
}

Result<Entry> ClientImpl::Link(const Caller& caller, InodeId inode, InodeId new_parent,
                               const std::string& new_name) {
  proto::Request request;
  proto::LinkOp* op = request.mutable_link();
  op->set_inode(inode.value());
  op->set_new_parent(new_parent.value());
  op->set_new_name(new_name);
  return MakeEntry(caller, std::move(request), new_parent, new_name);
}

Result<bool> ClientImpl::OpenHere(const Caller& caller, InodeId parent, const std::string& name) {
  bool any = false;
  {
    std::lock_guard lock(files_mu_);
    for (const auto& [inode, file] : files_) {
      std::lock_guard file_lock(file->mu);
      if (file->handles > 0) {
        any = true;
        break;
      }
    }
  }
  if (!any) return false;
  InodeId child;
  switch (cache_->FindName(parent, name, &child)) {
    case LeaseCache::Name::kAbsent:
      return false;
    case LeaseCache::Name::kPresent:
      break;
    case LeaseCache::Name::kUnknown: {
      // Whether it is open here decides if its chunks survive: worth the round trip, which callers that
      // looked it up do not pay.
      auto found = Lookup(caller, parent, name);
      if (!found.ok()) return false;
      child = found->attr.inode;
    }
  }
  const FilePtr file = FindFile(child);
  if (!file) return false;
  std::lock_guard lock(file->mu);
  return file->handles > 0;
}

Status ClientImpl::Unlink(const Caller& caller, InodeId parent, const std::string& name) {
  CAIRN_ASSIGN_OR_RETURN(const bool open_here, OpenHere(caller, parent, name));
  proto::Request request;
  proto::UnlinkOp* op = request.mutable_unlink();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_open_here(open_here);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  NameRemoved(reply.remove());
  return Status::Ok();
}

Status ClientImpl::Rmdir(const Caller& caller, InodeId parent, const std::string& name) {
  proto::Request request;
  proto::RmdirOp* op = request.mutable_rmdir();
  op->set_parent(parent.value());
  op->set_name(name);
  return CallAs(caller, std::move(request)).status();
}

Status ClientImpl::Rename(const Caller& caller, InodeId parent, const std::string& name, InodeId new_parent,
                          const std::string& new_name, uint32_t flags) {
  CAIRN_RETURN_IF_ERROR(CheckName(new_name));
  bool target_open_here = false;
  if (flags == 0) {
    CAIRN_ASSIGN_OR_RETURN(target_open_here, OpenHere(caller, new_parent, new_name));
  }
  proto::Request request;
  proto::RenameOp* op = request.mutable_rename();
  op->set_parent(parent.value());
  op->set_name(name);
  op->set_new_parent(new_parent.value());
  op->set_new_name(new_name);
  op->set_flags(flags);
  op->set_target_open_here(target_open_here);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  if (flags == 0) NameRemoved(reply.remove());
  return Status::Ok();
}

void ClientImpl::NameRemoved(const proto::RemoveResult& result) {
  // Rename: the inode that was replaced; unlink: the inode that was removed.
  const proto::Attr& gone = result.has_replaced_attr() ? result.replaced_attr() : result.inode_attr();
  if (gone.inode() == 0 || gone.nlink() != 0) return;
  const InodeId inode(gone.inode());
  const FilePtr file = FindFile(inode);
  if (result.orphaned()) {
    bool closed = true;
    if (file) {
      std::lock_guard lock(file->mu);
      file->orphan = true;
      closed = file->handles == 0;
    }
    if (!closed) return;
    // Closed while the request was under way: nobody else will say so. (Nothing to do about an error: the
    // session's end says it too.)
    proto::Request request;
    request.mutable_close_orphans()->add_inodes(inode.value());
    (void)CallSystem(std::move(request));
  }
  // What is in the trash may be wanted back: what is cached of it is written back as for any other file.
  if (!file || result.in_trash()) return;
  BeginTransition(*file, false, [] {});
  {
    std::lock_guard lock(file->attach_mu);
    file->data->Discard();
    file->data->Detach();
    file->attached = {};
    DropTimes(*file);
  }
  EndTransition(*file);
  {
    std::lock_guard lock(write_back_mu_);
    written_.erase(inode);
  }
  DropIfUnused(file);
}

std::vector<DirectoryEntry> ClientImpl::FromReply(InodeId directory, const proto::ReadDirResult& result,
                                                  bool with_attributes) {
  std::vector<DirectoryEntry> entries;
  entries.reserve(result.entries_size());
  for (const proto::DirEntry& item : result.entries()) {
    DirectoryEntry& entry = entries.emplace_back();
    entry.name = item.name();
    entry.inode = InodeId(item.inode());
    entry.type = FromProto(item.type());
    entry.cursor = item.cursor();
    if (!with_attributes) continue;
    // Without a lease a regular file may be growing at another client: its attributes here are not to be
    // trusted.
    const bool trusted = item.has_attr() && entry.type != FileType::kRegular;
    if (!trusted && !cache_->Find(entry.inode)) continue;
    Entry named = NamedEntry(directory, entry.name, entry.inode, item.has_attr() ? &item.attr() : nullptr);
    if (named.attr.inode == entry.inode) entry.entry = named;
  }
  return entries;
}

Result<std::vector<DirectoryEntry>> ClientImpl::ReadDirectory(const Caller& caller, InodeId inode,
                                                              uint64_t cursor, size_t max,
                                                              bool with_attributes) {
  const Verdict verdict = CheckCached(inode, caller, kMayRead);
  if (verdict == Verdict::kDenied) {
    return Status(StatusCode::kAccessDenied, "no permission to read directory " + ToString(inode));
  }
  if (verdict == Verdict::kAllowed) {
    if (auto page = cache_->List(inode, cursor, max)) {
      if (with_attributes) {
        for (DirectoryEntry& entry : page->entries) {
          if (!cache_->Find(entry.inode)) continue;
          Entry named = NamedEntry(inode, entry.name, entry.inode, nullptr);
          if (named.attr.inode == entry.inode) entry.entry = named;
        }
      }
      return std::move(page->entries);
    }
  }
  proto::Request request;
  proto::ReadDirOp* op = request.mutable_read_dir();
  op->set_inode(inode.value());
  op->set_cursor(cursor);
  // More than asked for pays only where the rest can be kept.
  const bool keeps = cursor == 0 || cache_->Lease(inode).kind != LeaseKind::kNone;
  const auto wanted = static_cast<uint32_t>(std::min<size_t>(std::max<size_t>(max, 1), kListingMax));
  op->set_max_entries(keeps ? std::max(wanted, kListingPrefetch) : wanted);
  op->set_with_attrs(with_attributes);
  op->set_want_lease(true);
  op->set_want_layout(with_attributes);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  std::vector<DirectoryEntry> entries = FromReply(inode, reply.read_dir(), with_attributes);
  if (entries.size() > max) entries.resize(max);
  return entries;
}

}  // namespace cairn::client
