// Steps that the operations on chunks and write leases share.
// Thread-safety: one thread per context.
#pragma once

#include <cstdint>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "master/state/context.h"

namespace cairn::master {

// Saves the record and keeps the lists of chunks by state and by server in step with it. `before` is the
// stored record, or nullptr for a new chunk.
void UpdateChunk(Context& c, ChunkId chunk, const proto::ChunkRecord* before,
                 const proto::ChunkRecord& after);
// Removes the record and everything that leads to it.
void DropChunk(Context& c, ChunkId chunk, const proto::ChunkRecord& record);

// Prepares chunks [first, first + count) for the holder of `lease`: missing ones are allocated from the
// command's placements, sealed ones opened. Adds the layouts (also of those open already) to `layouts`.
// kNoQuorum: a placement has fewer than W servers; kBusy: a configuration procedure is under way; kDamaged.
Status AnnounceChunks(Context& c, InodeId inode, const proto::InodeRecord& record, Epoch lease,
                      SessionId session, uint64_t first, uint32_t count,
                      google::protobuf::RepeatedPtrField<proto::ChunkLayout>* layouts);

// Moves a chunk to the deleting queue. The caller corrects the counters.
void DeleteChunk(Context& c, ChunkId chunk, const proto::ChunkRecord& before, bool deleted_by_quorum);
// Moves the chunks of an inode with index >= first to the deleting queue. Returns the bytes that they had
// allocated.
uint64_t DeleteChunks(Context& c, InodeId inode, uint64_t first, bool deleted_by_quorum);

// Corrects the inode's space for a chunk whose recorded length or holes changed. Loads and saves the inode.
void ChangeAllocation(Context& c, InodeId inode, const proto::ChunkRecord& before, const proto::ChunkRecord& after);

// Grants a write lease; the inode must have none.
void GrantWriteLease(Context& c, InodeId inode, SessionId session, Epoch lease);
// Ends the lease of the inode, if there is one.
void EndWriteLease(Context& c, InodeId inode);
// The holder gives the lease back or is gone: ends it, or, while chunks are open under it, marks it vanished
// and reports them for recovery.
void ReleaseWriteLease(Context& c, InodeId inode);
// A vanished lease ends when its last open chunk is resolved.
void EndVanishedLeaseIfResolved(Context& c, InodeId inode);

}  // namespace cairn::master
