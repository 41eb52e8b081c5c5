// The part of the metadata check that looks at chunks.
#include "master/state/fsck_checker.h"

#include <algorithm>
#include <string>

#include "common/replication/quorum.h"
#include "master/state/chunk_queries.h"
#include "master/state/queries.h"
#include "master/state/records.h"

namespace cairn::master {

using keys::ChunkList;

void FsckChecker::CheckContent(InodeId inode, const proto::InodeRecord& record) {
  uint64_t allocated = 0;
  const std::string prefix = keys::Key(inode);
  for (auto it = reader_.Scan(Family::kInodeChunks, prefix, keys::After(prefix)); it->Valid(); it->Next()) {
    const uint64_t index = keys::NumberAt(it->key(), 8);
    const ChunkId chunk(keys::NumberAt(it->value(), 0));
    const auto chunk_record = LoadChunk(reader_, chunk);
    if (!chunk_record) continue;  // said by the stage of inode-chunks
    allocated += AllocatedBytes(*chunk_record);
    const bool written = chunk_record->state() == proto::CHUNK_SEALED && chunk_record->length() > 0;
    if (written && record.chunk_bytes() != 0 &&
        index >= (record.size() + record.chunk_bytes() - 1) / record.chunk_bytes()) {
      Report("chunk-beyond-size", inode, chunk,
             "chunk " + std::to_string(index) + " lies beyond the size of " +
                 std::to_string(record.size()) + " bytes");
    }
  }
  if (allocated != record.allocated_bytes()) {
    Report("wrong-allocation", inode, {},
           "the record counts " + std::to_string(record.allocated_bytes()) + " bytes, the chunks have " +
               std::to_string(allocated));
  }
}

void FsckChecker::CheckChunk(ChunkId chunk, const proto::ChunkRecord& record) {
  const InodeId inode(record.inode());
  const bool deleting = record.state() == proto::CHUNK_DELETING;
  ++(deleting ? totals_.deleting : totals_.chunks);
  if (root_ != kRootInode && (deleting || !Covers(inode))) return;
  response_->set_chunks_checked(response_->chunks_checked() + 1);
  if (!deleting && !InodeExists(reader_, inode)) {
    Report("stray-chunk", inode, chunk, "its file, inode " + ToString(inode) + ", does not exist");
  } else if (!deleting && ChunkAtIndex(reader_, inode, record.index()) != chunk) {
    Report("stray-chunk", inode, chunk,
           "the file does not have it as its chunk " + std::to_string(record.index()));
  }
  if (!deleting) {
    const Status valid = replication::ValidateConfiguration(ConfigurationOf(record));
    if (!valid.ok()) Report("bad-configuration", inode, chunk, valid.message());
    for (uint32_t carrier : record.carriers()) {
      if (std::find(record.members().begin(), record.members().end(), carrier) == record.members().end()) {
        Report("bad-configuration", inode, chunk,
               "cs" + std::to_string(carrier) + " is a carrier but no member");
      }
    }
  }
  for (uint32_t member : record.members()) {
    if (!Known(ServerId(member))) {
      Report("unknown-server", inode, chunk, "its member cs" + std::to_string(member) + " never joined this cluster");
    }
    if (!reader_.Get(Family::kServerChunks, keys::ServerChunk(ServerId(member), chunk))) {
      Report("missing-server-entry", inode, chunk,
             "it is not in the list of its member cs" + std::to_string(member));
    }
  }
  for (ChunkList list :
       {ChunkList::kOpen, ChunkList::kReconfiguring, ChunkList::kDamaged, ChunkList::kDeleting}) {
    const InodeId listed_under = list == ChunkList::kOpen ? inode : InodeId{};
    const bool listed =
        reader_.Get(Family::kChunkLists, keys::Listed(list, listed_under, chunk)).has_value();
    if (!listed && BelongsIn(list, record)) {
      Report("wrong-list", inode, chunk, std::string("it is missing in list ") + static_cast<char>(list));
    }
  }
}

// Of a store that no server joined yet, nothing is known.
bool FsckChecker::Known(ServerId server) {
  if (!servers_) {
    servers_.emplace();
    for (auto it = reader_.Scan(Family::kServers, "", ""); it->Valid(); it->Next())
      servers_->insert(ServerId(keys::SmallNumberAt(it->key(), 0)));
  }
  return servers_->empty() || servers_->contains(server);
}

bool FsckChecker::BelongsIn(ChunkList list, const proto::ChunkRecord& record) {
  switch (list) {
    case ChunkList::kOpen:
      // A chunk whose writer vanished stays listed while it waits as damaged.
      return record.writer_lease() != 0;
    case ChunkList::kReconfiguring:
      return record.pending_epoch() != 0 && record.state() != proto::CHUNK_DELETING;
    case ChunkList::kDamaged:
      return record.state() == proto::CHUNK_DAMAGED;
    case ChunkList::kDeleting:
      return record.state() == proto::CHUNK_DELETING;
  }
  return false;
}

void FsckChecker::CheckInodeChunk(InodeId inode, uint64_t index, ChunkId chunk) {
  if (!Covers(inode)) return;
  const auto record = LoadChunk(reader_, chunk);
  if (!record)
    return Report("missing-chunk", inode, chunk,
                  "chunk " + std::to_string(index) + " of the file has no record");
  if (record->inode() != inode.value() || record->index() != index) {
    Report("missing-chunk", inode, chunk,
           "chunk " + std::to_string(index) + " of the file belongs to inode " +
               std::to_string(record->inode()));
  }
}

void FsckChecker::CheckServerChunk(ServerId server, ChunkId chunk) {
  if (root_ != kRootInode) return;
  const auto record = LoadChunk(reader_, chunk);
  if (!record || std::find(record->members().begin(), record->members().end(), server.value()) ==
                     record->members().end()) {
    Report("stray-server-entry", record ? InodeId(record->inode()) : InodeId{}, chunk,
           "it is in the list of " + ToString(server) + ", which is not a member");
  }
}

void FsckChecker::CheckListed(ChunkList list, ChunkId chunk) {
  if (root_ != kRootInode) return;
  const auto record = LoadChunk(reader_, chunk);
  if (!record || !BelongsIn(list, *record)) {
    Report("wrong-list", record ? InodeId(record->inode()) : InodeId{}, chunk,
           std::string("it is in list ") + static_cast<char>(list) + ", where it does not belong");
  }
}

}  // namespace cairn::master
