#include "master/state/records.h"

#include "master/state/state_machine.h"

namespace cairn::master {

Result<proto::InodeRecord> LoadInode(const MetaReader& reader, InodeId inode) {
  std::optional<proto::InodeRecord> record =
      Load<proto::InodeRecord>(reader, Family::kInodes, keys::Inode(inode));
  if (!record)
    return Status(StatusCode::kStaleHandle, "inode " + ToString(inode) + " does not exist any more");
  return *std::move(record);
}

Result<proto::InodeRecord> LoadDirectory(const MetaReader& reader, InodeId inode) {
  Result<proto::InodeRecord> record = LoadInode(reader, inode);
  if (record.ok() && !IsDirectory(*record)) {
    return Status(StatusCode::kNotDirectory, "inode " + ToString(inode) + " is not a directory");
  }
  return record;
}

std::optional<proto::DentryRecord> LoadDentry(const MetaReader& reader, InodeId directory,
                                              std::string_view name) {
  return Load<proto::DentryRecord>(reader, Family::kDentries, keys::Dentry(directory, name));
}

std::optional<proto::ChunkRecord> LoadChunk(const MetaReader& reader, ChunkId chunk) {
  return Load<proto::ChunkRecord>(reader, Family::kChunks, keys::Chunk(chunk));
}

proto::Counters LoadCounters(const MetaReader& reader) {
  return Load<proto::Counters>(reader, Family::kMeta, keys::kCounters).value_or(proto::Counters());
}

void SaveInode(MetaTxn* txn, InodeId inode, const proto::InodeRecord& record) {
  Save(txn, Family::kInodes, keys::Inode(inode), record);
}

void SaveChunk(MetaTxn* txn, ChunkId chunk, const proto::ChunkRecord& record) {
  Save(txn, Family::kChunks, keys::Chunk(chunk), record);
}

proto::Attr ToAttr(InodeId inode, const proto::InodeRecord& record) {
  proto::Attr attr;
  attr.set_inode(inode.value());
  attr.set_type(record.type());
  attr.set_mode(record.mode());
  attr.set_nlink(record.nlink());
  attr.set_uid(record.uid());
  attr.set_gid(record.gid());
  attr.set_rdev(record.rdev());
  attr.set_size(record.type() == proto::SYMLINK ? record.symlink_target().size() : record.size());
  *attr.mutable_atime() = record.atime();
  *attr.mutable_mtime() = record.mtime();
  *attr.mutable_ctime() = record.ctime();
  *attr.mutable_btime() = record.btime();
  attr.set_chunk_bytes(record.chunk_bytes());
  attr.set_blocks_512(record.allocated_bytes() / 512);
  attr.set_generation(record.generation());
  if (IsDirectory(record)) attr.set_parent(record.parent());
  attr.set_has_acl(!record.access_acl().empty());
  attr.set_has_xattrs(record.xattrs() > 0 || attr.has_acl() || !record.default_acl().empty());
  return attr;
}

proto::Stamp ToProto(Stamp stamp) {
  proto::Stamp out;
  out.set_epoch(stamp.epoch.value());
  out.set_seq(stamp.seq);
  return out;
}

Status CheckName(std::string_view name) {
  if (name.size() > kMaxNameBytes) {
    return {StatusCode::kNameTooLong, "a name has " + std::to_string(name.size()) + " bytes, at most " +
                                          std::to_string(kMaxNameBytes) + " are possible"};
  }
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return {StatusCode::kInvalidArgument, "'" + std::string(name) + "' cannot be the name of an entry"};
  }
  return Status::Ok();
}

}  // namespace cairn::master
