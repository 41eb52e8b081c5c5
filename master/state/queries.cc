#include "master/state/queries.h"

#include <algorithm>
#include <string_view>

#include "master/state/chunk_queries.h"
#include "master/state/permissions.h"
#include "master/state/records.h"
#include "master/state/state_machine.h"
#include "master/state/trash.h"
#include "master/state/xattrs.h"

namespace cairn::master {
namespace {

// Chunks whose layout travels with attributes, so that opening a small file for reading needs no further
// request.
constexpr uint32_t kInlineChunks = 4;
constexpr uint32_t kMaxReadDirEntries = 4096;
// Of a path in a message.
constexpr size_t kMaxShownPathBytes = 64 << 10;

// sparse: count only what exists.
void AddLayout(const MetaReader& reader, InodeId inode, uint64_t first, uint32_t count, bool sparse,
               google::protobuf::RepeatedPtrField<proto::ChunkLayout>* layouts) {
  for (const ChunkAt& at : ChunksOfInode(reader, inode, first, count)) {
    if (!sparse && at.index - first >= count) break;
    const std::optional<proto::ChunkRecord> record = LoadChunk(reader, at.chunk);
    if (record && BelongsTo(*record, inode, at.index)) {
      *layouts->Add() = LayoutOf(at.chunk, *record);
      continue;
    }
    proto::ChunkLayout* lost = layouts->Add();  // an error for whoever reads there, never a hole
    lost->set_index(at.index);
    lost->set_chunk(at.chunk.value());
    lost->set_damaged(true);
    lost->set_detail(LostRecordDetail(at.chunk));
  }
}

proto::EntryResult EntryOf(const MetaReader& reader, InodeId inode, const proto::InodeRecord& record,
                           bool with_layout) {
  proto::EntryResult entry;
  *entry.mutable_attr() = ToAttr(inode, record);
  if (record.type() == proto::SYMLINK) entry.set_symlink_target(record.symlink_target());
  if (with_layout && IsRegular(record)) AddLayout(reader, inode, 0, kInlineChunks, false, entry.mutable_layout());
  return entry;
}

// Takes from `source` what is not set in `policy` yet.
void Inherit(const proto::Policy& source, proto::Policy* policy) {
  if (policy->replicas() == 0) {
    policy->set_replicas(source.replicas());
    // W belongs to the N it was set with: an own W without an own N stays.
    if (policy->write_quorum() == 0) policy->set_write_quorum(source.write_quorum());
  }
  if (policy->chunk_bytes() == 0) policy->set_chunk_bytes(source.chunk_bytes());
  if (policy->failure_domain().empty()) policy->set_failure_domain(source.failure_domain());
  if (policy->storage_class().empty()) policy->set_storage_class(source.storage_class());
  if (!policy->has_trash_seconds() && source.has_trash_seconds())
    policy->set_trash_seconds(source.trash_seconds());
  if (!policy->has_scatter_width() && source.has_scatter_width()) policy->set_scatter_width(source.scatter_width());
}

bool IsComplete(const proto::Policy& policy) {
  return policy.replicas() != 0 && policy.chunk_bytes() != 0 && !policy.failure_domain().empty() &&
         !policy.storage_class().empty() && policy.has_trash_seconds() && policy.has_scatter_width();
}

}  // namespace

Result<proto::EntryResult> Lookup(const MetaReader& reader, const proto::LookupOp& op,
                                  const proto::Credentials& caller) {
  const InodeId parent(op.parent());
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord directory, LoadDirectory(reader, parent));
  CAIRN_RETURN_IF_ERROR(CheckMode(directory, caller, kMayExecute));
  InodeId inode = parent;
  if (op.name() == "..") {
    inode = InodeId(directory.parent());
  } else if (op.name() != ".") {
    CAIRN_RETURN_IF_ERROR(CheckName(op.name()));
    const std::optional<proto::DentryRecord> dentry = LoadDentry(reader, parent, op.name());
    if (!dentry) return Status(StatusCode::kNotFound, "no entry '" + op.name() + "'");
    inode = InodeId(dentry->inode());
  }
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(reader, inode));
  return EntryOf(reader, inode, record, op.want_layout());
}

Result<proto::EntryResult> GetAttr(const MetaReader& reader, InodeId inode, bool with_layout) {
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(reader, inode));
  return EntryOf(reader, inode, record, with_layout);
}

Result<proto::Attr> Attributes(const MetaReader& reader, InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(reader, inode));
  return ToAttr(inode, record);
}

Result<proto::ReadDirResult> ReadDir(const MetaReader& reader, const proto::ReadDirOp& op,
                                     const proto::Credentials& caller) {
  const InodeId directory(op.inode());
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadDirectory(reader, directory));
  CAIRN_RETURN_IF_ERROR(CheckMode(record, caller, kMayRead));
  const uint32_t limit =
      op.max_entries() == 0 ? kMaxReadDirEntries : std::min(op.max_entries(), kMaxReadDirEntries);
  proto::ReadDirResult result;
  result.set_parent(record.parent());
  auto it = reader.Scan(Family::kDirIndex,
                        keys::DirIndex(directory, op.cursor() == UINT64_MAX ? UINT64_MAX : op.cursor() + 1),
                        keys::After(keys::Inode(directory)));
  for (; it->Valid() && static_cast<uint32_t>(result.entries_size()) < limit; it->Next()) {
    proto::DirIndexRecord index;
    CAIRN_CHECK(index.ParseFromArray(it->value().data(), static_cast<int>(it->value().size())),
                "an entry cannot be parsed");
    proto::DirEntry* entry = result.add_entries();
    entry->set_name(index.name());
    entry->set_inode(index.inode());
    entry->set_type(index.type());
    entry->set_cursor(keys::NumberAt(it->key(), 8));
    if (!op.with_attrs()) continue;
    const Result<proto::InodeRecord> inode = LoadInode(reader, InodeId(index.inode()));
    if (!inode.ok()) continue;  // fsck reports it; the listing shows the name
    *entry->mutable_attr() = ToAttr(InodeId(index.inode()), *inode);
    if (op.want_layout() && IsRegular(*inode))
      AddLayout(reader, InodeId(index.inode()), 0, 1, false, entry->mutable_layout());
  }
  result.set_end(!it->Valid());
  return result;
}

Result<std::string> ReadLink(const MetaReader& reader, InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(reader, inode));
  if (record.type() != proto::SYMLINK) {
    return Status(StatusCode::kInvalidArgument, "inode " + ToString(inode) + " is not a symbolic link");
  }
  return record.symlink_target();
}

Result<std::string> GetXattr(const MetaReader& reader, const proto::GetXattrOp& op,
                             const proto::Credentials& caller) {
  const InodeId inode(op.inode());
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(reader, inode));
  CAIRN_RETURN_IF_ERROR(CheckXattrRead(record, caller, op.name()));
  std::optional<std::string> value;
  if (IsAcl(op.name())) {
    const std::string& acl = op.name() == kAccessAcl ? record.access_acl() : record.default_acl();
    if (!acl.empty()) value = acl;
  } else if (record.xattrs() > 0) {
    value = reader.Get(Family::kXattrs, keys::Xattr(inode, op.name()));
  }
  if (!value) return Status(StatusCode::kNoAttribute, "no attribute '" + op.name() + "'");
  return *std::move(value);
}

Result<proto::ListXattrResult> ListXattr(const MetaReader& reader, InodeId inode,
                                         const proto::Credentials& caller) {
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(reader, inode));
  proto::ListXattrResult result;
  if (!record.access_acl().empty()) result.add_names(std::string(kAccessAcl));
  if (!record.default_acl().empty()) result.add_names(std::string(kDefaultAcl));
  if (record.xattrs() == 0) return result;
  const std::string prefix = keys::Inode(inode);
  for (auto it = reader.Scan(Family::kXattrs, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
    const std::string_view name = it->key().substr(prefix.size());
    if (name.starts_with("trusted.") && !IsRoot(caller)) continue;
    result.add_names(std::string(name));
  }
  return result;
}

Status CheckAccess(const MetaReader& reader, InodeId inode, uint32_t mask, const proto::Credentials& caller) {
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(reader, inode));
  return CheckMode(record, caller, mask);
}

Result<proto::LayoutResult> Layout(const MetaReader& reader, const proto::LayoutOp& op) {
  const InodeId inode(op.inode());
  CAIRN_ASSIGN_OR_RETURN(const proto::InodeRecord record, LoadInode(reader, inode));
  if (!IsRegular(record))
    return Status(StatusCode::kInvalidArgument, "inode " + ToString(inode) + " is not a regular file");
  proto::LayoutResult result;
  *result.mutable_attr() = ToAttr(inode, record);
  const uint32_t limit = op.count() == 0 ? kMaxAnnounce : std::min(op.count(), kMaxAnnounce);
  AddLayout(reader, inode, op.first(), limit, op.existing(), result.mutable_chunks());
  return result;
}

Result<proto::Policy> EffectivePolicy(const MetaReader& reader, InodeId inode) {
  proto::Policy policy;
  const auto root = Load<proto::Policy>(reader, Family::kPolicies, keys::Inode(kRootInode));
  // Usually only the root has a policy: then the walk, one read per level, is not needed.
  if (LoadCounters(reader).policies() > (root ? 1 : 0)) {
    InodeId at = inode;
    for (int depth = 0; depth < kMaxDepth && at != kRootInode && at && !IsComplete(policy); ++depth) {
      const Result<proto::InodeRecord> record = LoadInode(reader, at);
      if (!record.ok()) {
        if (at == inode) return record.status();
        break;  // of what is in the trash the directory may be purged already: the root's policy holds then
      }
      if (IsDirectory(*record)) {
        if (const auto own = Load<proto::Policy>(reader, Family::kPolicies, keys::Inode(at)))
          Inherit(*own, &policy);
      }
      const auto trash = record->nlink() == 0 ? TrashRecordOf(reader, at) : std::nullopt;
      at = InodeId(trash ? trash->parent() : record->parent());
    }
  }
  if (root) Inherit(*root, &policy);
  Inherit(DefaultPolicy(), &policy);
  // The inherited or own W may not fit the N in force; then N's majority does.
  if (policy.write_quorum() == 0 || policy.write_quorum() > policy.replicas())
    policy.set_write_quorum(policy.replicas() / 2 + 1);
  return policy;
}

std::optional<proto::Policy> OwnPolicy(const MetaReader& reader, InodeId inode) {
  return Load<proto::Policy>(reader, Family::kPolicies, keys::Inode(inode));
}

Result<proto::PolicyResult> GetPolicy(const MetaReader& reader, InodeId inode) {
  CAIRN_RETURN_IF_ERROR(LoadInode(reader, inode).status());
  proto::PolicyResult result;
  CAIRN_ASSIGN_OR_RETURN(*result.mutable_effective(), EffectivePolicy(reader, inode));
  if (const auto own = OwnPolicy(reader, inode)) *result.mutable_own() = *own;
  return result;
}

namespace {

// Length of the UTF-8 sequence at the start of `text`; 0 when there is none (RFC 3629: no overlong forms, no surrogates).
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const size_t length = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : 2;
  if (byte(0) < 0xC2 || byte(0) > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (byte(0) == 0xE0 && byte(1) < 0xA0) || (byte(0) == 0xF0 && byte(1) < 0x90);
  const bool beyond = (byte(0) == 0xED && byte(1) > 0x9F) || (byte(0) == 0xF4 && byte(1) > 0x8F);
  return overlong || beyond ? 0 : length;
}

}  // namespace

std::string ReadableName(std::string_view name) {
  std::string text;
  while (!name.empty()) {
    const size_t length = Utf8Length(name);
    if (length != 0) {
      text += name.substr(0, length);
      name.remove_prefix(length);
      continue;
    }
    const auto byte = static_cast<unsigned char>(name[0]);
    text += {'\\', static_cast<char>('0' + (byte >> 6)), static_cast<char>('0' + ((byte >> 3) & 7)),
             static_cast<char>('0' + (byte & 7))};
    name.remove_prefix(1);
  }
  return text;
}

std::string PathOf(const MetaReader& reader, InodeId inode) {
  std::vector<std::string> names;
  InodeId at = inode;
  size_t bytes = 0;
  for (int depth = 0; depth < kMaxDepth && bytes < kMaxShownPathBytes && at != kRootInode; ++depth) {
    const Result<proto::InodeRecord> record = LoadInode(reader, at);
    if (!record.ok() || record->parent() == 0) return "(deleted inode " + ToString(inode) + ")";
    names.push_back(record->name());
    bytes += record->name().size() + 1;
    at = InodeId(record->parent());
  }
  if (names.empty()) return "/";
  std::string path = at == kRootInode ? "" : "(far below)";
  for (auto it = names.rbegin(); it != names.rend(); ++it) path += "/" + ReadableName(*it);
  return path;
}

bool IsBelow(const MetaReader& reader, InodeId inode, InodeId ancestor) {
  InodeId at = inode;
  for (int depth = 0; depth < kMaxDepth && at; ++depth) {
    if (at == ancestor) return true;
    if (at == kRootInode) return false;
    const Result<proto::InodeRecord> record = LoadInode(reader, at);
    if (!record.ok()) return false;
    const auto trash = record->nlink() == 0 ? TrashRecordOf(reader, at) : std::nullopt;
    at = InodeId(trash ? trash->parent() : record->parent());
  }
  return false;
}

NamespaceCounters CountersOf(const MetaReader& reader) {
  const proto::Counters counters = LoadCounters(reader);
  return {counters.inodes(), counters.chunks(), counters.deleting()};
}

bool InodeExists(const MetaReader& reader, InodeId inode) {
  return reader.Get(Family::kInodes, keys::Inode(inode)).has_value();
}

std::optional<proto::InodeRecord> InodeRecordOf(const MetaReader& reader, InodeId inode) {
  return Load<proto::InodeRecord>(reader, Family::kInodes, keys::Inode(inode));
}

}  // namespace cairn::master
