// The trash: deleted files that are kept for a while.
#include "client/impl/client_impl.h"
#include "client/session/convert.h"

namespace cairn::client {

Result<std::vector<TrashEntry>> ClientImpl::ListTrash(const Caller& caller, InodeId after) {
  proto::Request request;
  request.mutable_trash_list()->set_after(after.value());
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  std::vector<TrashEntry> entries;
  for (const proto::TrashEntry& item : reply.trash_list().entries()) {
    entries.push_back({.inode = InodeId(item.inode()),
                       .path = item.path(),
                       .type = FromProto(item.type()),
                       .size = item.size(),
                       .owner = item.owner(),
                       .deleted_by = item.deleted_by(),
                       .deleted = FromProto(item.deleted()),
                       .expires = FromProto(item.expires()),
                       .parent = InodeId(item.parent())});
  }
  return entries;
}

Result<Entry> ClientImpl::Undelete(const Caller& caller, InodeId inode, InodeId new_parent,
                                   const std::string& new_name) {
  proto::Request request;
  proto::UndeleteOp* op = request.mutable_undelete();
  op->set_inode(inode.value());
  op->set_new_parent(new_parent.value());
  op->set_new_name(new_name);
  CAIRN_ASSIGN_OR_RETURN(const proto::Reply reply, CallAs(caller, std::move(request)));
  Entry entry;
  entry.attr = FromProto(reply.entry().attr());
  return entry;
}

Status ClientImpl::PurgeTrash(const Caller& caller, const std::vector<InodeId>& inodes) {
  proto::Request request;
  for (InodeId inode : inodes) request.mutable_trash_purge()->add_inodes(inode.value());
  return CallAs(caller, std::move(request)).status();
}

}  // namespace cairn::client
