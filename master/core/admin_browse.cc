// What the namespace holds at a path, for administrators. The walk over the snapshot runs beside the core.
#include <algorithm>

#include "master/core/admin.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/state_machine.h"

namespace cairn::master {
namespace {

constexpr uint32_t kMaxEntries = 1000;

proto::Credentials Root() {
  proto::Credentials root;
  root.set_groups_known(true);
  return root;
}

// Symbolic links are not followed: what is at the path itself is shown.
Result<InodeId> Resolve(const MetaReader& reader, const std::string& path) {
  if (path.empty() || path.front() != '/')
    return Status(StatusCode::kInvalidArgument, "a path begins with '/': '" + path + "' does not");
  InodeId at = kRootInode;
  for (size_t from = 1; from < path.size();) {
    const size_t end = std::min(path.find('/', from), path.size());
    const std::string name = path.substr(from, end - from);
    from = end + 1;
    if (name.empty()) continue;
    proto::LookupOp op;
    op.set_parent(at.value());
    op.set_name(name);
    const auto found = Lookup(reader, op, Root());
    if (!found.ok()) {
      if (found.code() != StatusCode::kNotFound && found.code() != StatusCode::kNotDirectory) return found.status();
      return Status(StatusCode::kNotFound, "there is nothing at " + path);
    }
    at = InodeId(found->attr().inode());
  }
  return at;
}

bool Empty(const proto::Policy& policy) { return policy.ByteSizeLong() == 0; }

void AddPolicies(const MetaReader& reader, InodeId inode, proto::BrowseResponse* response) {
  if (auto policy = EffectivePolicy(reader, inode); policy.ok()) *response->mutable_policy() = *std::move(policy);
  InodeId at = inode;
  for (int depth = 0; depth < kMaxDepth; ++depth) {
    const auto record = InodeRecordOf(reader, at);
    if (!record) return;
    if (record->type() == proto::DIRECTORY) {
      const auto own = OwnPolicy(reader, at);
      if (own && !Empty(*own)) {
        proto::PolicyOrigin* origin = response->add_policy_origins();
        origin->set_path(PathOf(reader, at));
        origin->set_inode(at.value());
        *origin->mutable_own() = *own;
      }
    }
    if (at == kRootInode || record->parent() == 0) return;
    at = InodeId(record->parent());
  }
}

}  // namespace

Status BrowseSnapshot(const MetaReader& reader, const proto::BrowseRequest& request, proto::BrowseResponse* response) {
  InodeId inode(request.inode());
  if (request.inode() == 0) {
    CAIRN_ASSIGN_OR_RETURN(inode, Resolve(reader, request.path()));
  } else if (!InodeExists(reader, inode)) {
    return {StatusCode::kNotFound, "there is no inode " + ToString(inode)};
  }
  CAIRN_ASSIGN_OR_RETURN(*response->mutable_attr(), Attributes(reader, inode));
  response->set_path(PathOf(reader, inode));
  if (response->attr().type() == proto::SYMLINK) {
    CAIRN_ASSIGN_OR_RETURN(const std::string target, ReadLink(reader, inode));
    response->set_symlink_target(ReadableName(target));
  }
  AddPolicies(reader, inode, response);
  if (const auto lease = WriteLeaseOf(reader, inode); lease && !lease->vanished) {
    response->set_writer_session(lease->session.value());
    if (const auto session = SessionRecordOf(reader, lease->session)) response->set_writer_client(session->client_name());
  }
  response->set_end(true);
  if (response->attr().type() != proto::DIRECTORY || request.max_entries() == 0) return reader.status();
  proto::ReadDirOp op;
  op.set_inode(inode.value());
  op.set_cursor(request.cursor());
  op.set_max_entries(std::min(request.max_entries(), kMaxEntries));
  op.set_with_attrs(true);
  CAIRN_ASSIGN_OR_RETURN(const proto::ReadDirResult page, ReadDir(reader, op, Root()));
  for (const proto::DirEntry& entry : page.entries()) {
    proto::BrowseEntry* one = response->add_entries();
    one->set_name(ReadableName(entry.name()));
    one->set_inode(entry.inode());
    one->set_cursor(entry.cursor());
    *one->mutable_attr() = entry.attr();
    one->mutable_attr()->set_type(entry.type());
  }
  response->set_end(page.end());
  return reader.status();
}

}  // namespace cairn::master
