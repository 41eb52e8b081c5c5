#include <limits>

#include "master/cluster/placement.h"
#include "master/core/request_op.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/trash.h"

namespace cairn::master {
namespace {

constexpr std::string_view kErrorXattr = "user.cairn.error";
constexpr std::string_view kLayoutXattr = "user.cairn.layout";
constexpr size_t kLayoutXattrChunks = 256;

// For people: one line per chunk.
std::string DescribeLayout(Core& core, InodeId inode) {
  std::string text;
  for (const ChunkAt& at : ChunksOfInode(core.txn(), inode, 0, kLayoutXattrChunks)) {
    auto record = ChunkRecordOf(core.txn(), at.chunk);
    if (!record) continue;
    text += std::to_string(at.index) + " " + ToString(at.chunk) + " " + ChunkStateName(*record) + " epoch " +
            std::to_string(record->epoch()) + " W " + std::to_string(record->write_quorum()) + " on";
    for (uint32_t member : record->members()) text += " " + ToString(ServerId(member));
    text += "\n";
  }
  return text;
}

}  // namespace

Progress ReadOp::Try(Core& core) {
  proto::Reply reply;
  switch (request_.op_case()) {
    case proto::Request::kLookup:
      return TryLookup(core);
    case proto::Request::kGetAttr:
      return TryGetAttr(core);
    case proto::Request::kReadDir:
      return TryReadDir(core);
    case proto::Request::kLayout:
      return TryLayout(core);
    case proto::Request::kGetXattr:
      return TryGetXattr(core);
    case proto::Request::kStatFs:
      return TryStatFs(core);
    case proto::Request::kReadLink: {
      auto target = ReadLink(core.txn(), InodeId(request_.read_link().inode()));
      if (!target.ok()) return Fail(core, target.status());
      reply.mutable_bytes()->set_value(*target);
      return Reply(core, std::move(reply));
    }
    case proto::Request::kListXattr: {
      auto names = ListXattr(core.txn(), InodeId(request_.list_xattr().inode()), request_.credentials());
      if (!names.ok()) return Fail(core, names.status());
      *reply.mutable_list_xattr() = *std::move(names);
      return Reply(core, std::move(reply));
    }
    case proto::Request::kAccess:
      return Fail(core, CheckAccess(core.txn(), InodeId(request_.access().inode()), request_.access().mask(),
                                    request_.credentials()));
    case proto::Request::kGetPolicy: {
      auto policy = GetPolicy(core.txn(), InodeId(request_.get_policy().inode()));
      if (!policy.ok()) return Fail(core, policy.status());
      *reply.mutable_policy() = *std::move(policy);
      return Reply(core, std::move(reply));
    }
    case proto::Request::kTrashList: {
      auto list = ListTrash(core.txn(), request_.trash_list(), request_.credentials());
      if (!list.ok()) return Fail(core, list.status());
      *reply.mutable_trash_list() = *std::move(list);
      return Reply(core, std::move(reply));
    }
    default:
      return Fail(core, Status(StatusCode::kNotSupported, "this master does not know the request"));
  }
}

Progress ReadOp::TryLookup(Core& core) {
  const proto::LookupOp& op = request_.lookup();
  const InodeId parent(op.parent());
  auto entry = Lookup(core.txn(), op, request_.credentials());
  proto::Reply reply;
  if (!entry.ok()) {
    *reply.mutable_status() = ToProto(entry.status());
    if (op.want_lease() && entry.code() == StatusCode::kNotFound)
      core.OfferReadLease(parent, session, &reply);
    return Reply(core, std::move(reply));
  }
  const InodeId inode(entry->attr().inode());
  if (!core.OthersAtMost(inode, session, LeaseMode::kRead, false, id)) return Progress::kWaiting;
  // When that takes too long the name is told all the same: whoever decides about the file has to find it.
  // Its size and data are asked for separately, because no lease goes with this answer.
  if (Status failure; !Recovered(core, inode, &failure) && failure.ok()) return Progress::kWaiting;
  *reply.mutable_entry() = *std::move(entry);
  if (op.want_lease()) {
    core.OfferReadLease(inode, session, &reply);
    core.OfferReadLease(parent, session, &reply);
  }
  return Reply(core, std::move(reply));
}

Progress ReadOp::TryGetAttr(Core& core) {
  const InodeId inode(request_.get_attr().inode());
  if (!core.OthersAtMost(inode, session, LeaseMode::kRead, false, id)) return Progress::kWaiting;
  if (Status failure; !Recovered(core, inode, &failure)) {
    return failure.ok() ? Progress::kWaiting : Fail(core, failure);
  }
  auto entry = GetAttr(core.txn(), inode, request_.get_attr().want_layout());
  if (!entry.ok()) return Fail(core, entry.status());
  proto::Reply reply;
  *reply.mutable_entry() = *std::move(entry);
  if (request_.get_attr().want_lease()) core.OfferReadLease(inode, session, &reply);
  return Reply(core, std::move(reply));
}

Progress ReadOp::TryReadDir(Core& core) {
  const proto::ReadDirOp& op = request_.read_dir();
  auto page = ReadDir(core.txn(), op, request_.credentials());
  if (!page.ok()) return Fail(core, page.status());
  proto::Reply reply;
  *reply.mutable_read_dir() = *std::move(page);
  if (op.want_lease()) {
    core.OfferReadLease(InodeId(op.inode()), session, &reply);
    // A file that another session writes gets no lease here: its entry is not cached, and a stat of it asks
    // again.
    if (op.with_attrs()) {
      for (const proto::DirEntry& entry : reply.read_dir().entries()) {
        core.OfferReadLease(InodeId(entry.inode()), session, &reply);
      }
    }
  }
  return Reply(core, std::move(reply));
}

Progress ReadOp::TryLayout(Core& core) {
  const InodeId inode(request_.layout().inode());
  if (!core.OthersAtMost(inode, session, LeaseMode::kRead, false, id)) return Progress::kWaiting;
  if (Status failure; !Recovered(core, inode, &failure)) {
    return failure.ok() ? Progress::kWaiting : Fail(core, failure);
  }
  auto layout = Layout(core.txn(), request_.layout());
  if (!layout.ok()) return Fail(core, layout.status());
  proto::Reply reply;
  *reply.mutable_layout() = *std::move(layout);
  return Reply(core, std::move(reply));
}

Progress ReadOp::TryGetXattr(Core& core) {
  const proto::GetXattrOp& op = request_.get_xattr();
  const InodeId inode(op.inode());
  proto::Reply reply;
  if (op.name() == kErrorXattr || op.name() == kLayoutXattr) {
    const auto record = InodeRecordOf(core.txn(), inode);
    if (!record) return Fail(core, Status(StatusCode::kStaleHandle, "inode " + ToString(inode) + " is gone"));
    if (op.name() == kErrorXattr) {
      auto refusal = core.RefusalOf(inode);
      if (!refusal)
        return Fail(core, Status(StatusCode::kNoAttribute, "no operation on this inode was refused"));
      reply.mutable_bytes()->set_value(*refusal);
    } else {
      if (record->type() != proto::REGULAR) {
        return Fail(core, Status(StatusCode::kNoAttribute, "only regular files have a layout"));
      }
      reply.mutable_bytes()->set_value(DescribeLayout(core, inode));
    }
    return Reply(core, std::move(reply));
  }
  auto value = GetXattr(core.txn(), op, request_.credentials());
  if (!value.ok()) return Fail(core, value.status());
  reply.mutable_bytes()->set_value(*std::move(value));
  return Reply(core, std::move(reply));
}

Progress ReadOp::TryStatFs(Core& core) {
  InodeId inode(request_.stat_fs().inode());
  if (!inode) inode = kRootInode;
  auto policy = EffectivePolicy(core.txn(), inode);
  if (!policy.ok()) return Fail(core, policy.status());
  const uint64_t replicas = std::max<uint64_t>(1, policy->replicas());
  const ClusterSpace space = core.servers().Space();
  proto::Reply reply;
  proto::StatFsResult* result = reply.mutable_stat_fs();
  result->set_total_bytes(space.total_bytes / replicas);
  result->set_free_bytes(space.free_bytes / replicas);
  result->set_available_bytes(space.free_bytes / replicas);
  result->set_trash_bytes(TrashUseOf(core.txn()).bytes);
  const uint64_t inodes = CountersOf(core.txn()).inodes;
  // Inodes cost metadata only; what is left of the master's disk, at a generous kilobyte each, bounds them.
  const uint64_t inodes_free = core.store().free_bytes() / 1024;
  result->set_files(inodes + inodes_free);
  result->set_files_free(inodes_free);
  return Reply(core, std::move(reply));
}

}  // namespace cairn::master
