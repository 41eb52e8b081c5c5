#include "master/state/chunk_queries.h"

#include <algorithm>
#include <utility>

#include "common/checksum.h"
#include "master/state/records.h"

namespace cairn::master {
namespace {

using keys::ChunkList;

std::string OnePast(std::string key) {
  key.push_back('\0');
  return key;
}

std::vector<ListedChunk> ReadList(const MetaReader& reader, ChunkList list, const std::string& lower,
                                  const std::string& prefix, size_t limit) {
  std::vector<ListedChunk> out;
  for (auto it = reader.Scan(Family::kChunkLists, std::max(lower, prefix), keys::After(prefix));
       it->Valid() && out.size() < limit; it->Next()) {
    out.push_back({InodeId(keys::NumberAt(it->key(), 1)), ChunkId(keys::NumberAt(it->key(), 9))});
  }
  return out;
}

std::vector<ChunkId> ReadChunkList(const MetaReader& reader, ChunkList list, ChunkId after, size_t limit) {
  std::vector<ChunkId> out;
  const std::string lower = OnePast(keys::Listed(list, InodeId(0), after));
  for (const ListedChunk& listed :
       ReadList(reader, list, lower, std::string(1, static_cast<char>(list)), limit)) {
    out.push_back(listed.chunk);
  }
  return out;
}

WriteLease ToLease(InodeId inode, const proto::WriteLeaseRecord& record) {
  return {inode, SessionId(record.session()), Epoch(record.lease()), record.vanished()};
}

std::vector<InodeId> RefsOf(const MetaReader& reader, SessionId session, keys::SessionRef kind) {
  std::vector<InodeId> out;
  const std::string prefix = keys::Key(session, static_cast<char>(kind));
  for (auto it = reader.Scan(Family::kSessionRefs, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
    out.push_back(InodeId(keys::NumberAt(it->key(), 9)));
  }
  return out;
}

}  // namespace

std::optional<proto::ChunkRecord> ChunkRecordOf(const MetaReader& reader, ChunkId chunk) {
  return LoadChunk(reader, chunk);
}

replication::Configuration ConfigurationOf(const proto::ChunkRecord& record) {
  replication::Configuration configuration;
  configuration.epoch = Epoch(record.epoch());
  for (const uint32_t server : record.members()) configuration.members.emplace_back(server);
  configuration.write_quorum = record.write_quorum();
  configuration.base = FromProto(record.base());
  return configuration;
}

uint32_t ReadQuorumOf(const proto::ChunkRecord& record) {
  return static_cast<uint32_t>(record.members_size()) - record.write_quorum() + 1;
}

uint64_t AllocatedBytes(const proto::ChunkRecord& record) {
  const uint64_t whole = (record.length() + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  return record.has_allocated_bytes() ? std::min(record.allocated_bytes(), whole) : whole;
}

std::string LostRecordDetail(ChunkId chunk) {
  return "the master has no record of chunk " + ToString(chunk) +
         " for this place of the file: restore the metadata from a backup, or remove the file (cairn fsck says more)";
}

proto::ChunkLayout LayoutOf(ChunkId chunk, const proto::ChunkRecord& record) {
  proto::ChunkLayout layout;
  layout.set_index(record.index());
  layout.set_chunk(chunk.value());
  layout.set_epoch(record.epoch());
  *layout.mutable_members() = record.members();
  layout.set_write_quorum(record.write_quorum());
  const bool open = record.writer_lease() != 0;
  *layout.mutable_base() = open ? record.base() : record.sealed();
  if (!open) {
    *layout.mutable_sealed() = record.sealed();
    *layout.mutable_carriers() = record.carriers();
  }
  layout.set_length(record.length());
  layout.set_allocated_bytes(AllocatedBytes(record));
  layout.set_damaged(record.state() == proto::CHUNK_DAMAGED);
  if (layout.damaged()) layout.set_detail(record.detail());
  return layout;
}

std::string ChunkStateName(const proto::ChunkRecord& record) {
  if (record.state() == proto::CHUNK_DELETING) return "deleting";
  if (record.pending_epoch() != 0) return "recovering";
  switch (record.state()) {
    case proto::CHUNK_OPEN:
      return "open";
    case proto::CHUNK_SEALED:
      return "sealed";
    case proto::CHUNK_DAMAGED:
      return "damaged";
    default:
      return "unknown";
  }
}

std::vector<ChunkAt> ChunksOfInode(const MetaReader& reader, InodeId inode, uint64_t first, size_t limit) {
  std::vector<ChunkAt> out;
  for (auto it =
           reader.Scan(Family::kInodeChunks, keys::InodeChunk(inode, first), keys::After(keys::Inode(inode)));
       it->Valid() && out.size() < limit; it->Next()) {
    out.push_back({keys::NumberAt(it->key(), 8), ChunkId(keys::NumberAt(it->value(), 0))});
  }
  return out;
}

std::optional<ChunkId> ChunkAtIndex(const MetaReader& reader, InodeId inode, uint64_t index) {
  const std::optional<std::string> value = reader.Get(Family::kInodeChunks, keys::InodeChunk(inode, index));
  if (!value) return std::nullopt;
  return ChunkId(keys::NumberAt(*value, 0));
}

std::vector<uint64_t> MissingChunks(const MetaReader& reader, InodeId inode, uint64_t first, uint32_t count) {
  std::vector<uint64_t> missing;
  const std::vector<ChunkAt> present = ChunksOfInode(reader, inode, first, count);
  auto next = present.begin();
  for (uint32_t i = 0; i < count; ++i) {
    if (next != present.end() && next->index == first + i) {
      ++next;
    } else {
      missing.push_back(first + i);
    }
  }
  return missing;
}

std::vector<ChunkId> ChunksOfServer(const MetaReader& reader, ServerId server, ChunkId after, size_t limit) {
  std::vector<ChunkId> out;
  for (auto it = reader.Scan(Family::kServerChunks, OnePast(keys::ServerChunk(server, after)),
                             keys::After(keys::Server(server)));
       it->Valid() && out.size() < limit; it->Next()) {
    out.push_back(ChunkId(keys::NumberAt(it->key(), 4)));
  }
  return out;
}

std::vector<ChunkId> AllChunks(const MetaReader& reader, ChunkId after, size_t limit) {
  std::vector<ChunkId> out;
  for (auto it = reader.Scan(Family::kChunks, OnePast(keys::Chunk(after)), "");
       it->Valid() && out.size() < limit; it->Next()) {
    out.push_back(ChunkId(keys::NumberAt(it->key(), 0)));
  }
  return out;
}

std::vector<ListedChunk> OpenChunks(const MetaReader& reader, ListedChunk after, size_t limit) {
  return ReadList(reader, ChunkList::kOpen, OnePast(keys::Listed(ChunkList::kOpen, after.inode, after.chunk)),
                  std::string(1, static_cast<char>(ChunkList::kOpen)), limit);
}

std::vector<ChunkId> OpenChunksOf(const MetaReader& reader, InodeId inode) {
  std::vector<ChunkId> out;
  const std::string prefix = keys::Key(static_cast<char>(ChunkList::kOpen), inode);
  for (const ListedChunk& listed : ReadList(reader, ChunkList::kOpen, prefix, prefix, SIZE_MAX))
    out.push_back(listed.chunk);
  return out;
}

std::vector<ChunkId> ReconfiguringChunks(const MetaReader& reader, ChunkId after, size_t limit) {
  return ReadChunkList(reader, ChunkList::kReconfiguring, after, limit);
}
std::vector<ChunkId> DamagedChunks(const MetaReader& reader, ChunkId after, size_t limit) {
  return ReadChunkList(reader, ChunkList::kDamaged, after, limit);
}
std::vector<ChunkId> DeletingChunks(const MetaReader& reader, ChunkId after, size_t limit) {
  return ReadChunkList(reader, ChunkList::kDeleting, after, limit);
}

std::optional<WriteLease> WriteLeaseOf(const MetaReader& reader, InodeId inode) {
  const auto record = Load<proto::WriteLeaseRecord>(reader, Family::kWriteLeases, keys::Inode(inode));
  if (!record) return std::nullopt;
  return ToLease(inode, *record);
}

std::vector<WriteLease> AllWriteLeases(const MetaReader& reader, InodeId after, size_t limit) {
  std::vector<WriteLease> out;
  for (auto it = reader.Scan(Family::kWriteLeases, OnePast(keys::Inode(after)), "");
       it->Valid() && out.size() < limit; it->Next()) {
    proto::WriteLeaseRecord record;
    CAIRN_CHECK(record.ParseFromArray(it->value().data(), static_cast<int>(it->value().size())),
                "a write lease cannot be parsed");
    out.push_back(ToLease(InodeId(keys::NumberAt(it->key(), 0)), record));
  }
  return out;
}

std::vector<WriteLease> WriteLeasesOfSession(const MetaReader& reader, SessionId session) {
  std::vector<WriteLease> out;
  for (const InodeId inode : RefsOf(reader, session, keys::SessionRef::kWriteLease)) {
    if (const std::optional<WriteLease> lease = WriteLeaseOf(reader, inode)) out.push_back(*lease);
  }
  return out;
}

std::vector<SessionId> HoldersOf(const MetaReader& reader, InodeId inode) {
  std::vector<SessionId> out;
  const std::string prefix = keys::Inode(inode);
  for (auto it = reader.Scan(Family::kHolds, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
    out.push_back(SessionId(keys::NumberAt(it->key(), 8)));
  }
  return out;
}

std::vector<InodeId> HoldsOfSession(const MetaReader& reader, SessionId session) {
  return RefsOf(reader, session, keys::SessionRef::kHold);
}

std::vector<InodeId> Orphans(const MetaReader& reader, InodeId after, size_t limit) {
  std::vector<InodeId> out;
  for (auto it = reader.Scan(Family::kOrphans, OnePast(keys::Inode(after)), "");
       it->Valid() && out.size() < limit; it->Next()) {
    out.push_back(InodeId(keys::NumberAt(it->key(), 0)));
  }
  return out;
}

std::vector<SessionEntry> AllSessions(const MetaReader& reader) {
  std::vector<SessionEntry> out;
  for (auto it = reader.Scan(Family::kSessions, "", ""); it->Valid(); it->Next()) {
    SessionEntry entry{SessionId(keys::NumberAt(it->key(), 0)), {}};
    CAIRN_CHECK(entry.record.ParseFromArray(it->value().data(), static_cast<int>(it->value().size())),
                "a session cannot be parsed");
    out.push_back(std::move(entry));
  }
  return out;
}

std::optional<proto::SessionRecord> SessionRecordOf(const MetaReader& reader, SessionId session) {
  return Load<proto::SessionRecord>(reader, Family::kSessions, keys::Session(session));
}

std::optional<proto::Reply> StoredReply(const MetaReader& reader, SessionId session,
                                        uint64_t request_number) {
  return Load<proto::Reply>(reader, Family::kResults, keys::StoredResult(session, request_number));
}

uint64_t LastStoredRequest(const MetaReader& reader, SessionId session) {
  uint64_t last = 0;
  const std::string prefix = keys::Session(session);
  for (auto it = reader.Scan(Family::kResults, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
    last = keys::NumberAt(it->key(), 8);
  }
  return last;
}

std::vector<ServerEntry> AllServers(const MetaReader& reader) {
  std::vector<ServerEntry> out;
  for (auto it = reader.Scan(Family::kServers, "", ""); it->Valid(); it->Next()) {
    ServerEntry entry{ServerId(keys::SmallNumberAt(it->key(), 0)), {}};
    CAIRN_CHECK(entry.record.ParseFromArray(it->value().data(), static_cast<int>(it->value().size())),
                "a server cannot be parsed");
    out.push_back(std::move(entry));
  }
  return out;
}

std::optional<ServerEntry> ServerByUuid(const MetaReader& reader, const std::string& server_uuid) {
  for (ServerEntry& entry : AllServers(reader)) {
    if (entry.record.server_uuid() == server_uuid) return std::move(entry);
  }
  return std::nullopt;
}

ServerId NextServerId(const MetaReader& reader) {
  const std::vector<ServerEntry> servers = AllServers(reader);
  return ServerId(servers.empty() ? 1 : servers.back().server.value() + 1);
}

proto::IdLimits ReservedIds(const MetaReader& reader) {
  return Load<proto::IdLimits>(reader, Family::kMeta, keys::kIds).value_or(proto::IdLimits());
}

}  // namespace cairn::master
