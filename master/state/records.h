// Typed reading and writing of stored records, and their conversion to what travels on the wire.
// Thread-safety: as the reader or transaction given.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/status.h"
#include "master/state/keys.h"
#include "master/store/meta_txn.h"
#include "proto/cairn/session.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

// A record that cannot be parsed stops the process: it passed RocksDB's checksums, so only a bug can have
// written it.
template <typename Record>
std::optional<Record> Load(const MetaReader& reader, Family family, std::string_view key) {
  const std::optional<std::string> value = reader.Get(family, key);
  if (!value) return std::nullopt;
  Record record;
  CAIRN_CHECK(record.ParseFromString(*value), "a stored metadata record cannot be parsed");
  return record;
}

template <typename Record>
void Save(MetaTxn* txn, Family family, std::string_view key, const Record& record) {
  txn->Put(family, key, record.SerializeAsString());
}

// kStaleHandle if the inode is gone.
Result<proto::InodeRecord> LoadInode(const MetaReader& reader, InodeId inode);
// kNotDirectory besides.
Result<proto::InodeRecord> LoadDirectory(const MetaReader& reader, InodeId inode);
std::optional<proto::DentryRecord> LoadDentry(const MetaReader& reader, InodeId directory,
                                              std::string_view name);
std::optional<proto::ChunkRecord> LoadChunk(const MetaReader& reader, ChunkId chunk);
proto::Counters LoadCounters(const MetaReader& reader);

void SaveInode(MetaTxn* txn, InodeId inode, const proto::InodeRecord& record);
void SaveChunk(MetaTxn* txn, ChunkId chunk, const proto::ChunkRecord& record);

proto::Attr ToAttr(InodeId inode, const proto::InodeRecord& record);
inline Stamp FromProto(const proto::Stamp& stamp) { return {Epoch(stamp.epoch()), stamp.seq()}; }
proto::Stamp ToProto(Stamp stamp);

inline bool IsDirectory(const proto::InodeRecord& record) { return record.type() == proto::DIRECTORY; }
inline bool IsRegular(const proto::InodeRecord& record) { return record.type() == proto::REGULAR; }

// kNameTooLong, or kInvalidArgument for "", ".", ".." and names with '/' or NUL.
Status CheckName(std::string_view name);

}  // namespace cairn::master
