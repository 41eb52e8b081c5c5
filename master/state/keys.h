// Keys of the metadata families: big-endian numbers, so that byte order is numeric order; names and lists
// come last.
//
//   inodes, policies, write-leases, orphans   inode:8
//   dentries                                  directory:8 name
//   dir-index                                 directory:8 entry:8
//   links                                     inode:8 directory:8 name
//   xattrs                                    inode:8 name
//   chunks                                    chunk:8
//   inode-chunks                              inode:8 index:8
//   server-chunks                             server:4 chunk:8
//   chunk-lists                               list:1 inode:8 chunk:8      (inode 0 except in the list of open
//   chunks) sessions                                  session:8 results session:8 request:8 session-refs
//   session:8 kind:1 inode:8 events event:8 trash 'I' inode:8 | 'E' or 'D' seconds:8 inode:8 servers                                   server:4 holds inode:8 session:8
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/ids.h"

namespace cairn::master::keys {

// On disk: do not change the values.
enum class ChunkList : char { kOpen = 'O', kReconfiguring = 'R', kDamaged = 'X', kDeleting = 'D' };
enum class SessionRef : char { kWriteLease = 'L', kHold = 'H' };
enum class TrashList : char { kDeleted = 'D', kExpiry = 'E', kInode = 'I' };

// Appends fixed-width numbers and bytes.
class KeyBuilder {
 public:
  KeyBuilder& Add(uint64_t value);
  KeyBuilder& Add(ServerId server);
  KeyBuilder& Add(char tag) {
    key_.push_back(tag);
    return *this;
  }
  KeyBuilder& Add(std::string_view bytes) {
    key_.append(bytes);
    return *this;
  }
  KeyBuilder& Add(InodeId id) { return Add(id.value()); }
  KeyBuilder& Add(ChunkId id) { return Add(id.value()); }
  KeyBuilder& Add(SessionId id) { return Add(id.value()); }
  std::string Take() { return std::move(key_); }

 private:
  std::string key_;
};

template <typename... Parts>
std::string Key(Parts... parts) {
  KeyBuilder builder;
  (builder.Add(parts), ...);
  return builder.Take();
}

inline std::string Inode(InodeId id) { return Key(id); }
inline std::string Dentry(InodeId directory, std::string_view name) { return Key(directory, name); }
inline std::string DirIndex(InodeId directory, uint64_t entry) { return Key(directory, entry); }
inline std::string Link(InodeId inode, InodeId directory, std::string_view name) {
  return Key(inode, directory, name);
}
inline std::string Xattr(InodeId inode, std::string_view name) { return Key(inode, name); }
inline std::string Chunk(ChunkId id) { return Key(id); }
inline std::string InodeChunk(InodeId inode, uint64_t index) { return Key(inode, index); }
inline std::string ServerChunk(ServerId server, ChunkId chunk) { return Key(server, chunk); }
inline std::string Listed(ChunkList list, InodeId inode, ChunkId chunk) {
  return Key(static_cast<char>(list), inode, chunk);
}
inline std::string Session(SessionId id) { return Key(id); }
inline std::string StoredResult(SessionId session, uint64_t request) { return Key(session, request); }
inline std::string Ref(SessionId session, SessionRef kind, InodeId inode) {
  return Key(session, static_cast<char>(kind), inode);
}
inline std::string Server(ServerId id) { return Key(id); }
inline std::string Trash(InodeId inode) { return Key(static_cast<char>(TrashList::kInode), inode); }
inline std::string TrashListed(TrashList list, uint64_t seconds, InodeId inode) {
  return Key(static_cast<char>(list), seconds, inode);
}
inline std::string Hold(InodeId inode, SessionId session) { return Key(inode, session); }

inline constexpr std::string_view kIds = "state/ids";
inline constexpr std::string_view kCounters = "state/counters";
inline constexpr std::string_view kAppliedIndex = "state/applied";
inline constexpr std::string_view kEventRange = "state/events";
inline constexpr std::string_view kRebalance = "state/rebalance";

// The number at byte `offset` of a key. Precondition: the key is long enough.
uint64_t NumberAt(std::string_view key, size_t offset);
uint32_t SmallNumberAt(std::string_view key, size_t offset);
// The smallest key above all keys that begin with `prefix`; empty (no bound) if there is none.
std::string After(std::string_view prefix);

}  // namespace cairn::master::keys
