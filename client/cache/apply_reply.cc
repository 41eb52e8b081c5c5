// What replies say about the namespace, taken into the lease cache.
#include <algorithm>

#include "client/cache/lease_cache.h"
#include "client/session/convert.h"

namespace cairn::client {

void LeaseCache::ApplyReply(const proto::Request& request, const proto::Reply& reply) {
  std::lock_guard lock(mu_);
  for (const proto::Lease& lease : reply.leases()) GrantLocked(lease);
  const auto code = static_cast<StatusCode>(reply.status().code());
  if (request.has_accessed()) {
    // Also when it was refused (an old master, a full disk): it is not told again. What the master made of the time is seen with
    // the next attributes.
    for (const proto::AccessTime& file : request.accessed().files()) {
      Node* node = HeldLocked(InodeId(file.inode()));
      if (node == nullptr || !node->accessed || !node->accessed_told || FromProto(file.atime()) < *node->accessed) continue;
      if (code == StatusCode::kOk) node->attr.atime = std::max(node->attr.atime, *node->accessed);
      node->accessed.reset();
    }
    return;
  }
  if (code != StatusCode::kOk) {
    if (code == StatusCode::kNotFound && request.has_lookup()) {
      StoreNameLocked(request.lookup().parent(), request.lookup().name(), InodeId());
    }
    return;
  }
  // What this client itself changes at the master counts as the answer says.
  if (request.has_lease() && request.lease().truncate_to_zero()) {
    if (Node* node = HeldLocked(InodeId(request.lease().inode()))) node->written.reset();
  }
  if (request.has_set_attr()) {
    const proto::SetAttrOp& op = request.set_attr();
    Node* node = HeldLocked(InodeId(op.inode()));
    if (node != nullptr && op.has_size()) node->written.reset();
    if (node != nullptr && node->written && (op.has_mtime() || op.mtime_now())) node->written->mtime.reset();
  }
  switch (reply.result_case()) {
    case proto::Reply::kEntry:
      ApplyEntryLocked(request, reply.entry());
      break;
    case proto::Reply::kReadDir:
      ApplyListingLocked(request.read_dir(), reply.read_dir());
      break;
    case proto::Reply::kBytes:
      if (request.has_read_link()) {
        if (Node* node = HeldLocked(InodeId(request.read_link().inode())))
          node->symlink = reply.bytes().value();
      }
      break;
    case proto::Reply::kLayout:
      if (reply.layout().has_attr()) StoreAttrLocked(reply.layout().attr());
      if (request.has_lease()) StoreLayoutLocked(request.lease().inode(), reply.layout().chunks());
      break;
    case proto::Reply::kRemove:
      ApplyRemoveLocked(request, reply.remove());
      break;
    default:
      break;
  }
  if (request.has_set_xattr() || request.has_remove_xattr()) {
    // Which of has_xattrs, has_acl and mode changed is not in the reply: asked for again when needed.
    const uint64_t inode =
        request.has_set_xattr() ? request.set_xattr().inode() : request.remove_xattr().inode();
    if (Node* node = HeldLocked(InodeId(inode))) node->doubtful = true;
  }
}

void LeaseCache::GrantLocked(const proto::Lease& lease) {
  LeaseKind kind = LeaseKind::kNone;
  if (lease.mode() == proto::LEASE_WRITE) kind = LeaseKind::kWrite;
  if (lease.mode() == proto::LEASE_READ) kind = LeaseKind::kRead;
  const InodeId inode(lease.inode());
  if (kind == LeaseKind::kNone || !inode) return;
  const auto returned = returned_.find(inode);
  const bool given_back = returned != returned_.end() && returned->second >= lease.number();
  if (given_back && rules_.Hold(ServiceRule::kReturnedStaysReturned)) return;
  auto [it, fresh] = nodes_.try_emplace(inode);
  Node& node = it->second;
  if (fresh) {
    node.age = ages_.insert(ages_.end(), inode);
    node.lease.tenure = next_tenure_++;
  }
  // A write lease covers what a read lease granted beside it would.
  if (!fresh && node.lease.kind == LeaseKind::kWrite && kind == LeaseKind::kRead &&
      lease.number() <= node.lease.number)
    return;
  if (lease.number() > node.lease.number) {
    node.recalled = false;
    node.written.reset();  // the attributes that come with it are newer
  }
  node.lease.kind = kind;
  node.lease.number = std::max(node.lease.number, lease.number());
}

void LeaseCache::StoreAttrLocked(const proto::Attr& attr) {
  Node* node = HeldLocked(InodeId(attr.inode()));
  if (node == nullptr) return;
  node->attr = FromProto(attr);
  // Listings wait for no lease: an answer from before the master was told of what was written may come after it.
  if (node->written) {
    node->attr.size = node->written->size;
    if (node->written->mtime) node->attr.mtime = *node->written->mtime;
    node->attr.ctime = std::max(node->attr.ctime, node->attr.mtime);
  }
  if (node->held) node->held->ApplyTo(&node->attr);
  node->has_attr = true;
  node->doubtful = false;
  node->has_xattrs = attr.has_xattrs() || attr.has_acl();
  node->parent = InodeId(attr.parent());
}

void LeaseCache::StoreLayoutLocked(uint64_t inode,
                                   const google::protobuf::RepeatedPtrField<proto::ChunkLayout>& layout) {
  Node* node = HeldLocked(InodeId(inode));
  if (node == nullptr) return;
  if (layout.empty() && node->layout_lease == node->lease.number) return;
  node->layout = FromProto(layout);
  node->layout_lease = node->lease.number;
}

void LeaseCache::StoreNameLocked(uint64_t parent, const std::string& name, InodeId child) {
  if (name == "." || name == "..") return;
  Node* node = HeldLocked(InodeId(parent));
  if (node == nullptr) return;
  if (!node->directory) {
    node->directory = std::make_unique<Directory>();
    const auto contended = contended_until_ns_.find(InodeId(parent));
    if (contended != contended_until_ns_.end()) {
      node->directory->quiet_from_ns = contended->second;
      if (contended->second <= clock_->NowNanos()) contended_until_ns_.erase(contended);
    }
  }
  const auto [it, fresh] = node->directory->names.try_emplace(name);
  if (fresh) ++names_;
  it->second = child;
}

void LeaseCache::ChangedNameLocked(uint64_t parent, const std::string& name, InodeId child) {
  StoreNameLocked(parent, name, child);
  Node* node = HeldLocked(InodeId(parent));
  if (node != nullptr && node->directory) DropListingLocked(*node->directory);
}

void LeaseCache::ForgetNameLocked(uint64_t parent, const std::string& name) {
  Node* node = HeldLocked(InodeId(parent));
  if (node == nullptr || !node->directory) return;
  names_ -= node->directory->names.erase(name);
  node->directory->complete = false;
  node->directory->known_through = 0;
}

void LeaseCache::DropListingLocked(Directory& directory) {
  names_ -= directory.listing.size();
  directory.listing.clear();
  directory.position.clear();
  directory.listing_end = false;
}

void LeaseCache::ApplyEntryLocked(const proto::Request& request, const proto::EntryResult& entry) {
  const InodeId inode(entry.attr().inode());
  StoreAttrLocked(entry.attr());
  if (entry.has_parent_attr()) StoreAttrLocked(entry.parent_attr());
  if (!entry.layout().empty()) StoreLayoutLocked(inode.value(), entry.layout());
  if (!entry.symlink_target().empty()) {
    if (Node* node = HeldLocked(inode)) node->symlink = entry.symlink_target();
  }
  switch (request.op_case()) {
    case proto::Request::kLookup:
      StoreNameLocked(request.lookup().parent(), request.lookup().name(), inode);
      break;
    case proto::Request::kCreate:
      ChangedNameLocked(request.create().parent(), request.create().name(), inode);
      break;
    case proto::Request::kMkdir:
      ChangedNameLocked(request.mkdir().parent(), request.mkdir().name(), inode);
      // Made by this client a moment ago: whoever else puts something into it has to recall the lease first.
      if (Node* made = HeldLocked(inode); made != nullptr && !made->directory) {
        made->directory = std::make_unique<Directory>();
        made->directory->listing_end = made->directory->complete = true;
      }
      break;
    case proto::Request::kMknod:
      ChangedNameLocked(request.mknod().parent(), request.mknod().name(), inode);
      break;
    case proto::Request::kSymlink:
      ChangedNameLocked(request.symlink().parent(), request.symlink().name(), inode);
      break;
    case proto::Request::kLink:
      ChangedNameLocked(request.link().new_parent(), request.link().new_name(), inode);
      break;
    case proto::Request::kUndelete:
      if (!request.undelete().new_name().empty())
        ChangedNameLocked(entry.parent_attr().inode(), request.undelete().new_name(), inode);
      break;
    default:
      break;
  }
}

void LeaseCache::ApplyRemoveLocked(const proto::Request& request, const proto::RemoveResult& result) {
  if (result.has_parent_attr()) StoreAttrLocked(result.parent_attr());
  if (result.has_new_parent_attr()) StoreAttrLocked(result.new_parent_attr());
  if (result.has_inode_attr()) StoreAttrLocked(result.inode_attr());
  if (result.has_replaced_attr()) StoreAttrLocked(result.replaced_attr());
  if (request.has_unlink()) ChangedNameLocked(request.unlink().parent(), request.unlink().name(), InodeId());
  if (request.has_rmdir()) ChangedNameLocked(request.rmdir().parent(), request.rmdir().name(), InodeId());
  if (request.has_rename()) {
    const proto::RenameOp& op = request.rename();
    const InodeId moved(result.inode_attr().inode());
    constexpr uint32_t kExchange = 2;
    if (op.flags() & kExchange) {
      const InodeId other(result.replaced_attr().inode());
      ChangedNameLocked(op.parent(), op.name(), other);
      ChangedNameLocked(op.new_parent(), op.new_name(), moved);
      if (!other || !moved) {  // which inode is where now was not told
        ForgetNameLocked(op.parent(), op.name());
        ForgetNameLocked(op.new_parent(), op.new_name());
      }
    } else {
      ChangedNameLocked(op.parent(), op.name(), InodeId());
      ChangedNameLocked(op.new_parent(), op.new_name(), moved);
      // Renaming one name of a file onto another name of the same file does nothing, and the reply does not
      // say that it was so.
      if (!moved || (result.inode_attr().type() == proto::REGULAR && result.inode_attr().nlink() > 1)) {
        ForgetNameLocked(op.parent(), op.name());
        ForgetNameLocked(op.new_parent(), op.new_name());
      }
    }
  }
  // An inode without names left is of no use to later lookups (its data, when it is open, does not live
  // here).
  for (const proto::Attr* attr : {&result.inode_attr(), &result.replaced_attr()}) {
    if (attr->inode() == 0 || attr->nlink() != 0 || result.orphaned() || result.in_trash()) continue;
    const auto it = nodes_.find(InodeId(attr->inode()));
    if (it != nodes_.end()) EraseLocked(it);
  }
}

void LeaseCache::ApplyListingLocked(const proto::ReadDirOp& op, const proto::ReadDirResult& result) {
  for (const proto::DirEntry& entry : result.entries()) {
    if (entry.has_attr()) StoreAttrLocked(entry.attr());
    if (!entry.layout().empty()) StoreLayoutLocked(entry.inode(), entry.layout());
    StoreNameLocked(op.inode(), entry.name(), InodeId(entry.inode()));
  }
  Node* node = HeldLocked(InodeId(op.inode()));
  if (node == nullptr) return;
  if (result.parent() != 0) node->parent = InodeId(result.parent());
  if (!node->directory) {
    if (!result.end() || op.cursor() != 0) return;
    node->directory = std::make_unique<Directory>();  // empty
  }
  Directory& directory = *node->directory;
  // Names that were made or removed here since a part was read are among the names: parts that follow one
  // another from the start to the end have all the others.
  if (op.cursor() == directory.known_through) {
    if (!result.entries().empty()) directory.known_through = result.entries().rbegin()->cursor();
    directory.complete = directory.complete || result.end();
  }
  const uint64_t tail = directory.listing.empty() ? 0 : directory.listing.back().cursor;
  if (op.cursor() != tail || directory.listing_end) return;  // not the continuation of what is here
  for (const proto::DirEntry& entry : result.entries()) {
    directory.listing.push_back({.name = entry.name(),
                                 .inode = InodeId(entry.inode()),
                                 .type = FromProto(entry.type()),
                                 .cursor = entry.cursor()});
    directory.position[entry.cursor()] = directory.listing.size();
  }
  names_ += result.entries_size();
  directory.listing_end = result.end();
  directory.complete = directory.complete || result.end();
}

}  // namespace cairn::client
