// The read side of chunks, leases, sessions and servers: what the service needs for repair, recovery,
// deletion and after a restart. Lists that can be long come in pages: pass the last item of a page to get the
// next; a page shorter than `limit` is the last. Thread-safety: one thread at a time per reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/replication/types.h"
#include "common/status.h"
#include "master/store/meta_store.h"
#include "proto/cairn/session.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

// Also chunks that are being deleted. nullopt: no record.
std::optional<proto::ChunkRecord> ChunkRecordOf(const MetaReader& reader, ChunkId chunk);
// The configuration that governs the chunk.
replication::Configuration ConfigurationOf(const proto::ChunkRecord& record);
// R of the governing configuration: members - W + 1.
uint32_t ReadQuorumOf(const proto::ChunkRecord& record);
// What the chunk counts for the space of its file.
uint64_t AllocatedBytes(const proto::ChunkRecord& record);
// Whether the record is that of chunk number `index` of the inode. A file that lists another chunk, or one without a record, is damaged
// there (fsck: missing-chunk): nothing is read or written at that place.
inline bool BelongsTo(const proto::ChunkRecord& record, InodeId inode, uint64_t index) {
  return record.inode() == inode.value() && record.index() == index;
}
std::string LostRecordDetail(ChunkId chunk);
// As clients see it.
proto::ChunkLayout LayoutOf(ChunkId chunk, const proto::ChunkRecord& record);
// "open", "sealed", "recovering", "damaged", "deleting".
std::string ChunkStateName(const proto::ChunkRecord& record);

struct ChunkAt {
  uint64_t index = 0;
  ChunkId chunk;
};
// Chunks of an inode with index >= first.
std::vector<ChunkAt> ChunksOfInode(const MetaReader& reader, InodeId inode, uint64_t first, size_t limit);
std::optional<ChunkId> ChunkAtIndex(const MetaReader& reader, InodeId inode, uint64_t index);
// Indexes in [first, first + count) without a chunk: what an announce of that range allocates, in order.
std::vector<uint64_t> MissingChunks(const MetaReader& reader, InodeId inode, uint64_t first, uint32_t count);
// Chunks that list `server` as a member (deleting ones too), in id order.
std::vector<ChunkId> ChunksOfServer(const MetaReader& reader, ServerId server, ChunkId after, size_t limit);
// All chunks in id order.
std::vector<ChunkId> AllChunks(const MetaReader& reader, ChunkId after, size_t limit);

struct ListedChunk {
  InodeId inode;
  ChunkId chunk;
};
// Chunks open under a write lease; of all inodes, or of one.
std::vector<ListedChunk> OpenChunks(const MetaReader& reader, ListedChunk after, size_t limit);
std::vector<ChunkId> OpenChunksOf(const MetaReader& reader, InodeId inode);
// Chunks with a configuration procedure under way; waiting as damaged; being deleted.
std::vector<ChunkId> ReconfiguringChunks(const MetaReader& reader, ChunkId after, size_t limit);
std::vector<ChunkId> DamagedChunks(const MetaReader& reader, ChunkId after, size_t limit);
std::vector<ChunkId> DeletingChunks(const MetaReader& reader, ChunkId after, size_t limit);

struct WriteLease {
  InodeId inode;
  SessionId session;
  Epoch lease;
  bool vanished = false;  // its open chunks wait for recovery; nobody may use it
};
std::optional<WriteLease> WriteLeaseOf(const MetaReader& reader, InodeId inode);
std::vector<WriteLease> AllWriteLeases(const MetaReader& reader, InodeId after, size_t limit);
std::vector<WriteLease> WriteLeasesOfSession(const MetaReader& reader, SessionId session);

// Sessions that have the inode open without a lease.
std::vector<SessionId> HoldersOf(const MetaReader& reader, InodeId inode);
std::vector<InodeId> HoldsOfSession(const MetaReader& reader, SessionId session);
std::vector<InodeId> Orphans(const MetaReader& reader, InodeId after, size_t limit);

struct SessionEntry {
  SessionId session;
  proto::SessionRecord record;
};
std::vector<SessionEntry> AllSessions(const MetaReader& reader);
std::optional<proto::SessionRecord> SessionRecordOf(const MetaReader& reader, SessionId session);
// Stored reply of a mutation: what a repeat is answered with. nullopt: not applied yet (or forgotten).
std::optional<proto::Reply> StoredReply(const MetaReader& reader, SessionId session, uint64_t request_number);
// Highest request number that has a stored reply; 0: none.
uint64_t LastStoredRequest(const MetaReader& reader, SessionId session);

struct ServerEntry {
  ServerId server;
  proto::ServerRecord record;
};
std::vector<ServerEntry> AllServers(const MetaReader& reader);
std::optional<ServerEntry> ServerByUuid(const MetaReader& reader, const std::string& server_uuid);
// One above the highest id ever registered.
ServerId NextServerId(const MetaReader& reader);

// Limits of the reserved id ranges.
proto::IdLimits ReservedIds(const MetaReader& reader);

}  // namespace cairn::master
