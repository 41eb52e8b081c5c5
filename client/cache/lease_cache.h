// What this client knows of the namespace, and for how long it may use it: attributes, names (also absent
// ones), symlink targets, listings and the layout of small files, each under the lease of the inode it
// belongs to. A name belongs to its directory.
//
// Filled by the session's reader thread from every reply, in the order of the stream (ApplyReply); asked by
// the threads of callers; emptied by recalls, evictions and the loss of the session. Nothing is ever answered
// after the leases' time is over on the client's own clock.
//
// The kernel may be given what is cached here for a while. Attributes: until the leases' time is over,
// because their invalidation never waits for anybody. Names: at most kNameExposureNanos, because invalidating
// a name waits for the directory's lock in the kernel, and whoever holds that may be waiting for the master,
// who waits for us: a recall then waits for the time to pass instead (see impl/recall.h). A directory whose
// lease was recalled a moment ago exposes no names at all for a while.
//
// Thread-safety: all methods may be called from any thread; none blocks or calls out.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "client/data/file_data.h"
#include "client/session/session.h"
#include "client/types.h"
#include "common/clock.h"
#include "common/service_rules.h"

namespace cairn::client {

inline constexpr int64_t kNameExposureNanos = kNanosPerSecond;

enum class LeaseKind : uint8_t { kNone = 0, kRead = 1, kWrite = 2 };

struct HeldLease {
  LeaseKind kind = LeaseKind::kNone;
  uint64_t number = 0;
  // Equal while some lease on the inode was held without interruption: what was read under one number is
  // still good under the next one.
  uint64_t tenure = 0;
};

// A copy of what is cached of one inode.
struct NodeView {
  HeldLease lease;
  Attributes attr;
  InodeId parent;  // directories
  bool has_xattrs = true;
  int64_t valid_ns = 0;  // how long the kernel may keep attr
};

// What the kernel may have seen of an inode whose lease ends.
struct Exposure {
  InodeId inode;
  FileType type = FileType::kRegular;
  // Names of a directory, present or absent, that are still valid in the kernel: the last becomes invalid by
  // itself then. 0: none are.
  int64_t names_until_ns = 0;
  std::optional<TimeSpec> accessed;  // the master was not told yet
};

struct ListingPage {
  std::vector<DirectoryEntry> entries;
  bool end = false;  // nothing comes after them
};

class LeaseCache {
 public:
  // valid_until_ns: the end of all leases on `clock` (Session::ValidUntilNanos).
  LeaseCache(size_t max_leases, const Clock* clock, std::function<int64_t()> valid_until_ns,
             ServiceRules rules = {});

  // Attributes under a lease that may be used now.
  std::optional<NodeView> Find(InodeId inode);
  // The same, whatever the clock says and also when a change of extended attributes made it doubtful: for
  // sizes.
  std::optional<NodeView> Peek(InodeId inode);
  // The lease itself, whatever the clock says. kNone: not held.
  HeldLease Lease(InodeId inode);
  enum class Name { kUnknown, kAbsent, kPresent };
  Name FindName(InodeId parent, const std::string& name, InodeId* child);
  std::optional<std::string> SymlinkTarget(InodeId inode);
  // The layout that came with the lease `number`; empty when none did.
  std::vector<ChunkPlace> Layout(InodeId inode, uint64_t number);
  // A name of the directory was asked for and is not known. A part of the directory that is worth fetching
  // before the master is asked for the name alone: from the second such name on, and then so rarely that what
  // is fetched in vain costs no more than the names that were asked for
  // (docs/decisions/directories-are-fetched-ahead.md). The caller fetches it and calls EndAhead.
  struct Ahead {
    uint64_t cursor = 0;
    uint32_t max_entries = 0;
  };
  std::optional<Ahead> BeginAhead(InodeId directory);
  void EndAhead(InodeId directory);
  // Up to `max` entries after `cursor`; nullopt: not cached, ask the master from `cursor`.
  std::optional<ListingPage> List(InodeId directory, uint64_t cursor, size_t max);

  // How long the kernel may keep the name that it is being given now; 0 when it does not stand for `child`
  // any more.
  int64_t ExposeName(InodeId parent, const std::string& name, InodeId child);
  // The same for an absent name, whichever: a directory whose names are all known answers without a record of it.
  int64_t ExposeAbsence(InodeId parent);

  // From the stream, in order.
  void ApplyReply(const proto::Request& request, const proto::Reply& reply);

  // The holder of the write lease changed the file locally, or told the master about it.
  // allocated_change: bytes that its space grows by.
  void SetWritten(InodeId inode, uint64_t size, std::optional<TimeSpec> mtime, int64_t allocated_change);
  // A program here read the inode. Its time of last access moves under its lease: at once for whoever asks here; the master is told
  // by TakeAccessed, TakeAccess or Exposure.accessed (the caller sends that before the lease goes). `written`: the time of
  // buffered writes. False: nothing to do, which stays so for a day unless the inode changes.
  bool NoteAccess(InodeId inode, TimeSpec now, TimeSpec written, AccessTimes mode);
  // Data went through here, so that the kernel may have pages of the inode while the lease lasts.
  void NoteData(InodeId inode);
  bool MayHavePages(InodeId inode);
  // At most `max` that the master was not told yet; they are shown here until it answers, whatever older replies say.
  std::vector<std::pair<InodeId, TimeSpec>> TakeAccessed(size_t max);
  // The same for one inode, before its times are changed by something else.
  std::optional<TimeSpec> TakeAccess(InodeId inode);
  // The master, or a program elsewhere that it told us about.
  void ApplyAccessed(const proto::AccessedOp& accessed);
  // The holder of the write lease set times locally. Until it has told the master (HeldTold), what the master says of them is
  // older.
  void SetHeld(InodeId inode, const HeldTimes& times);
  void HeldTold(InodeId inode);
  // The lease `number` goes on as a read lease.
  void Lower(InodeId inode, uint64_t number);

  // A recall of `number` (or of an older one) was received: from now on the kernel is given nothing that
  // outlives the answer. False: that lease is not held.
  bool MarkRecalled(InodeId inode, uint64_t number);
  // The lease `number` ends; a later one is not touched. Grants of it that are still under way are ignored
  // afterwards.
  Exposure Remove(InodeId inode, uint64_t number);
  // What the kernel may have seen of it; without ending it.
  Exposure ExposureOf(InodeId inode);
  // The inode is gone.
  void Forget(InodeId inode);
  // The kernel forgot it: first to be evicted.
  void MakeCold(InodeId inode);

  // More leases or names than the bound: the coldest `max` inodes that may go (`keep` says which may not).
  bool OverBound();
  std::vector<std::pair<InodeId, uint64_t>> Coldest(size_t max, const std::function<bool(InodeId)>& keep);

  // For resuming the session: all write leases and the most recently used of the others, at most `max` of
  // them.
  std::vector<proto::LeaseClaim> Claims(size_t max);
  // The session was resumed at a master that has restarted, or was lost: leases that did not survive are
  // dropped.
  enum class Keep { kClaimed, kClaimedWrite, kNothing };
  std::vector<Exposure> DropExcept(Keep keep, const std::unordered_set<uint64_t>& rejected);

  size_t leases();

 private:
  struct Directory {
    std::unordered_map<std::string, InodeId> names;  // zero: known to be absent
    std::vector<DirectoryEntry> listing;            // contiguous from the start
    std::unordered_map<uint64_t, size_t> position;  // cursor -> index of the entry after it
    bool listing_end = false;
    bool complete = false;  // every name there is, is in `names`: what is not there does not exist
    uint64_t known_through =
        0;  // names with a cursor up to here are in `names`, whatever was changed here since
    uint32_t unknown_asked = 0;  // names that were not known, since the last fetch ahead
    uint32_t fetches_ahead = 0;
    bool fetching_ahead = false;
    int64_t quiet_from_ns = 0;  // exposes no names before
    int64_t kernel_until_ns = 0;  // of all names that the kernel was given, also as absent
  };
  struct Node {
    HeldLease lease;
    bool recalled = false;
    bool claimed = false;
    bool has_attr = false;
    bool doubtful = false;  // attr has to be asked for again
    // What this client told the master under this lease: attributes from before that may still arrive.
    struct Written {
      uint64_t size = 0;
      std::optional<TimeSpec> mtime;
    };
    std::optional<Written> written;
    bool has_xattrs = true;
    InodeId parent;
    Attributes attr;
    std::optional<HeldTimes> held;
    std::optional<std::string> symlink;
    std::vector<ChunkPlace> layout;
    uint64_t layout_lease = 0;
    std::unique_ptr<Directory> directory;
    bool may_have_pages = false;
    // Read here last, as far as the master has not confirmed that it knows; told: it is on its way.
    std::optional<TimeSpec> accessed;
    bool accessed_told = false;
    std::list<InodeId>::iterator age;
  };
  using NodeMap = std::unordered_map<InodeId, Node>;

  bool ValidLocked() const { return clock_->NowNanos() < valid_until_ns_(); }
  NodeView ViewLocked(const Node& node) const;
  Node* UsableLocked(InodeId inode);  // valid now; becomes the youngest
  Node* HeldLocked(InodeId inode);    // whatever the clock says
  void GrantLocked(const proto::Lease& lease);
  void StoreAttrLocked(const proto::Attr& attr);
  void StoreLayoutLocked(uint64_t inode,
                         const google::protobuf::RepeatedPtrField<proto::ChunkLayout>& layout);
  void StoreNameLocked(uint64_t parent, const std::string& name, InodeId child);
  void ChangedNameLocked(uint64_t parent, const std::string& name, InodeId child);
  void ApplyEntryLocked(const proto::Request& request, const proto::EntryResult& entry);
  void ApplyRemoveLocked(const proto::Request& request, const proto::RemoveResult& result);
  void ApplyListingLocked(const proto::ReadDirOp& op, const proto::ReadDirResult& result);
  void ForgetNameLocked(uint64_t parent, const std::string& name);
  void DropListingLocked(Directory& directory);
  int64_t ExposeLocked(Directory& directory) const;
  Exposure ExposureLocked(InodeId inode, const Node& node) const;
  std::optional<TimeSpec> TakeAccessLocked(InodeId inode, Node& node);
  void EraseLocked(NodeMap::iterator it);
  void RememberReturnedLocked(InodeId inode, uint64_t number);

  // Constant after construction.
  const size_t max_leases_;
  const Clock* const clock_;
  const std::function<int64_t()> valid_until_ns_;
  const ServiceRules rules_;

  std::mutex mu_;
  // Guarded by mu_:
  NodeMap nodes_;
  std::list<InodeId> ages_;  // coldest first
  uint64_t next_tenure_ = 1;
  size_t names_ = 0;  // of all directories, with listings
  std::unordered_set<InodeId> accessed_;  // to be told to the master
  // Leases given back: a grant of the same number that was sent before the master knew must not come to life
  // again. Bounded.
  std::unordered_map<InodeId, uint64_t> returned_;
  std::list<InodeId> returned_order_;
  // Directories recalled lately, so that they expose no names (bounded with returned_).
  std::unordered_map<InodeId, int64_t> contended_until_ns_;
};

}  // namespace cairn::client
