// The read side of the namespace: answers of the master that change nothing, over a transaction or a
// snapshot. Permission is checked here where the operation demands it; kNeedGroups asks for the caller's
// supplementary groups, when they decide. kStaleHandle: the inode is gone. Thread-safety: one thread at a
// time per reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "master/store/meta_store.h"
#include "proto/cairn/session.pb.h"
#include "proto/cairn/state.pb.h"

namespace cairn::master {

// Bits as in access(2).
inline constexpr uint32_t kMayExecute = 1;
inline constexpr uint32_t kMayWrite = 2;
inline constexpr uint32_t kMayRead = 4;

// "." and ".." are resolved, too. kNotFound: the name is absent (the caller had permission to know).
Result<proto::EntryResult> Lookup(const MetaReader& reader, const proto::LookupOp& op,
                                  const proto::Credentials& caller);
// With layout: of the first chunks of a regular file.
Result<proto::EntryResult> GetAttr(const MetaReader& reader, InodeId inode, bool with_layout);
Result<proto::Attr> Attributes(const MetaReader& reader, InodeId inode);
// A page of a directory; "." and ".." are not among the entries. Entries made after the first page was read
// do not appear, none that stayed is missed or shown twice.
Result<proto::ReadDirResult> ReadDir(const MetaReader& reader, const proto::ReadDirOp& op,
                                     const proto::Credentials& caller);
Result<std::string> ReadLink(const MetaReader& reader, InodeId inode);
Result<std::string> GetXattr(const MetaReader& reader, const proto::GetXattrOp& op,
                             const proto::Credentials& caller);
Result<proto::ListXattrResult> ListXattr(const MetaReader& reader, InodeId inode,
                                         const proto::Credentials& caller);
// `mask`: kMay* bits; 0 asks only whether the inode exists.
Status CheckAccess(const MetaReader& reader, InodeId inode, uint32_t mask, const proto::Credentials& caller);
// Chunks [first, first + count) that exist; attributes with them. count 0: to the end, at most kMaxAnnounce. existing: `count` of
// those that exist from `first` on.
Result<proto::LayoutResult> Layout(const MetaReader& reader, const proto::LayoutOp& op);

// The policy in force for an inode (its own or inherited, complete), and with the own part.
Result<proto::Policy> EffectivePolicy(const MetaReader& reader, InodeId inode);
std::optional<proto::Policy> OwnPolicy(const MetaReader& reader, InodeId inode);
Result<proto::PolicyResult> GetPolicy(const MetaReader& reader, InodeId inode);

// One of the inode's names, from the root, for people: "/a/b"; bytes that are not UTF-8 appear as \ooo. An orphan gives
// "(deleted inode 7)".
std::string PathOf(const MetaReader& reader, InodeId inode);

// A name may be any bytes, but paths travel in text fields: what is not UTF-8 becomes \ooo.
std::string ReadableName(std::string_view name);
// Whether `ancestor` is the inode itself or on the way from it to the root (of what is in the trash: of the directory it was in).
bool IsBelow(const MetaReader& reader, InodeId inode, InodeId ancestor);

struct NamespaceCounters {
  uint64_t inodes = 0;    // with orphans
  uint64_t chunks = 0;    // without those being deleted
  uint64_t deleting = 0;  // chunks being deleted
};
NamespaceCounters CountersOf(const MetaReader& reader);

bool InodeExists(const MetaReader& reader, InodeId inode);
// The whole record; nullopt if there is none.
std::optional<proto::InodeRecord> InodeRecordOf(const MetaReader& reader, InodeId inode);

}  // namespace cairn::master
