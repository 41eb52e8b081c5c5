#include "client/cache/lease_cache.h"

#include <algorithm>

#include "client/session/convert.h"

namespace cairn::client {
namespace {

constexpr int64_t kContendedNanos = 10 * kNanosPerSecond;
constexpr size_t kReturnedKept = 65'536;
// Names are small beside leases. A directory that is made entry by entry is known whole until then; beyond, each new name costs a lookup.
constexpr size_t kNamesPerLease = 9;
// Fetching ahead: the first time 256 entries on the second unknown name, later 1,024 for every 64 unknown
// ones. An entry of a listing costs the master about a tenth of a request of its own.
constexpr uint32_t kFirstAhead = 256;
constexpr uint32_t kNextAhead = 1'024;
constexpr uint32_t kUnknownPerFetch[] = {1, 16, 64};

}  // namespace

LeaseCache::LeaseCache(size_t max_leases, const Clock* clock, std::function<int64_t()> valid_until_ns,
                       ServiceRules rules)
    : max_leases_(max_leases),
      clock_(clock),
      valid_until_ns_(std::move(valid_until_ns)),
      rules_(rules) {}

LeaseCache::Node* LeaseCache::HeldLocked(InodeId inode) {
  const auto it = nodes_.find(inode);
  return it == nodes_.end() ? nullptr : &it->second;
}

LeaseCache::Node* LeaseCache::UsableLocked(InodeId inode) {
  if (!ValidLocked()) return nullptr;
  Node* node = HeldLocked(inode);
  if (node != nullptr) ages_.splice(ages_.end(), ages_, node->age);
  return node;
}

std::optional<NodeView> LeaseCache::Find(InodeId inode) {
  std::lock_guard lock(mu_);
  const Node* node = UsableLocked(inode);
  if (node == nullptr || !node->has_attr || node->doubtful) return std::nullopt;
  return ViewLocked(*node);
}

std::optional<NodeView> LeaseCache::Peek(InodeId inode) {
  std::lock_guard lock(mu_);
  const Node* node = HeldLocked(inode);
  if (node == nullptr || !node->has_attr) return std::nullopt;
  return ViewLocked(*node);
}

NodeView LeaseCache::ViewLocked(const Node& node) const {
  const int64_t left_ns = std::max<int64_t>(0, valid_until_ns_() - clock_->NowNanos());
  NodeView view{node.lease, node.attr, node.parent, node.has_xattrs, node.recalled ? 0 : left_ns};
  if (node.accessed) view.attr.atime = std::max(view.attr.atime, *node.accessed);
  return view;
}

HeldLease LeaseCache::Lease(InodeId inode) {
  std::lock_guard lock(mu_);
  const Node* node = HeldLocked(inode);
  return node == nullptr ? HeldLease{} : node->lease;
}

LeaseCache::Name LeaseCache::FindName(InodeId parent, const std::string& name, InodeId* child) {
  std::lock_guard lock(mu_);
  Node* node = UsableLocked(parent);
  if (node == nullptr || node->directory == nullptr) return Name::kUnknown;
  const auto it = node->directory->names.find(name);
  if (it == node->directory->names.end()) {
    return node->directory->complete ? Name::kAbsent : Name::kUnknown;
  }
  if (!it->second) return Name::kAbsent;
  *child = it->second;
  return Name::kPresent;
}

std::optional<std::string> LeaseCache::SymlinkTarget(InodeId inode) {
  std::lock_guard lock(mu_);
  const Node* node = UsableLocked(inode);
  return node == nullptr ? std::nullopt : node->symlink;
}

std::vector<ChunkPlace> LeaseCache::Layout(InodeId inode, uint64_t number) {
  std::lock_guard lock(mu_);
  const Node* node = HeldLocked(inode);
  if (node == nullptr || node->layout_lease != number) return {};
  return node->layout;
}

std::optional<LeaseCache::Ahead> LeaseCache::BeginAhead(InodeId directory) {
  std::lock_guard lock(mu_);
  const Node* node = UsableLocked(directory);
  if (node == nullptr || node->recalled || node->directory == nullptr) return std::nullopt;
  Directory& dir = *node->directory;
  // Where others change names, what is fetched is recalled again at once.
  if (dir.complete || dir.fetching_ahead || clock_->NowNanos() < dir.quiet_from_ns) return std::nullopt;
  const size_t stage = std::min<size_t>(dir.fetches_ahead, std::size(kUnknownPerFetch) - 1);
  if (++dir.unknown_asked < kUnknownPerFetch[stage]) return std::nullopt;
  const Ahead ahead{.cursor = dir.known_through,
                    .max_entries = dir.fetches_ahead == 0 ? kFirstAhead : kNextAhead};
  // A guess displaces nothing that was asked for.
  if (nodes_.size() + ahead.max_entries > max_leases_ / 2) return std::nullopt;
  if (names_ + ahead.max_entries > max_leases_ * kNamesPerLease / 2) return std::nullopt;
  dir.unknown_asked = 0;
  ++dir.fetches_ahead;
  dir.fetching_ahead = true;
  return ahead;
}

void LeaseCache::EndAhead(InodeId directory) {
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(directory);
  if (node != nullptr && node->directory) node->directory->fetching_ahead = false;
}

std::optional<ListingPage> LeaseCache::List(InodeId directory, uint64_t cursor, size_t max) {
  std::lock_guard lock(mu_);
  Node* node = UsableLocked(directory);
  if (node == nullptr || node->directory == nullptr) return std::nullopt;
  const Directory& dir = *node->directory;
  size_t at = 0;
  if (cursor != 0) {
    const auto it = dir.position.find(cursor);
    if (it == dir.position.end()) return std::nullopt;
    at = it->second;
  }
  if (at == dir.listing.size() && !dir.listing_end) return std::nullopt;
  ListingPage page;
  const size_t end = std::min(dir.listing.size(), at + max);
  page.entries.assign(dir.listing.begin() + at, dir.listing.begin() + end);
  page.end = end == dir.listing.size() && dir.listing_end;
  return page;
}

int64_t LeaseCache::ExposeName(InodeId parent, const std::string& name, InodeId child) {
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(parent);
  if (node == nullptr || node->recalled || node->directory == nullptr) return 0;
  const auto it = node->directory->names.find(name);
  if (it == node->directory->names.end() || it->second != child) return 0;
  return ExposeLocked(*node->directory);
}

int64_t LeaseCache::ExposeAbsence(InodeId parent) {
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(parent);
  if (node == nullptr || node->recalled || node->directory == nullptr) return 0;
  return ExposeLocked(*node->directory);
}

int64_t LeaseCache::ExposeLocked(Directory& directory) const {
  const int64_t now = clock_->NowNanos();
  if (now < directory.quiet_from_ns) return 0;
  const int64_t valid_ns = std::min(valid_until_ns_() - now, kNameExposureNanos);
  if (valid_ns <= 0) return 0;
  directory.kernel_until_ns = std::max(directory.kernel_until_ns, now + valid_ns);
  return valid_ns;
}

void LeaseCache::SetWritten(InodeId inode, uint64_t size, std::optional<TimeSpec> mtime,
                            int64_t allocated_change) {
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(inode);
  if (node == nullptr || !node->has_attr) return;
  const int64_t blocks = static_cast<int64_t>(node->attr.blocks_512) + allocated_change / 512;
  node->attr.blocks_512 = static_cast<uint64_t>(std::max<int64_t>(blocks, 0));
  node->attr.size = size;
  node->written = {size, mtime ? mtime : node->written ? node->written->mtime : std::nullopt};
  if (!mtime) return;
  node->attr.mtime = *mtime;
  node->attr.ctime = std::max(node->attr.ctime, *mtime);
  if (node->held) node->held->mtime.reset();  // written since
}

void LeaseCache::SetHeld(InodeId inode, const HeldTimes& times) {
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(inode);
  if (node == nullptr || !node->has_attr) return;
  if (times.atime) {  // reads before this do not count any more
    node->accessed.reset();
    accessed_.erase(inode);
  }
  if (times.mtime && node->written) node->written->mtime.reset();
  if (!node->held) node->held.emplace();
  node->held->Merge(times);
  node->held->ApplyTo(&node->attr);
}

void LeaseCache::HeldTold(InodeId inode) {
  std::lock_guard lock(mu_);
  if (Node* node = HeldLocked(inode)) node->held.reset();
}

bool LeaseCache::NoteAccess(InodeId inode, TimeSpec now, TimeSpec written, AccessTimes mode) {
  constexpr int64_t kDaySeconds = 86'400;
  constexpr int64_t kClockSkewSeconds = 60;
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(inode);
  if (node == nullptr || !node->has_attr || mode == AccessTimes::kNever) return false;
  const TimeSpec atime = node->accessed ? std::max(node->attr.atime, *node->accessed) : node->attr.atime;
  const TimeSpec changed = std::max({node->attr.mtime, node->attr.ctime, written});
  // As Linux: also when they are equal, as after the creation.
  if (mode == AccessTimes::kRelative && atime > changed && now.seconds - atime.seconds < kDaySeconds) return false;
  // The change may have come from a machine whose clock is ahead, and was seen all the same.
  if (now < changed && changed.seconds - now.seconds < kClockSkewSeconds) now = changed;
  if (node->accessed && now <= *node->accessed) return false;
  node->accessed = now;
  node->accessed_told = false;
  accessed_.insert(inode);
  return true;
}

void LeaseCache::NoteData(InodeId inode) {
  std::lock_guard lock(mu_);
  if (Node* node = HeldLocked(inode)) node->may_have_pages = true;
}

bool LeaseCache::MayHavePages(InodeId inode) {
  std::lock_guard lock(mu_);
  const Node* node = HeldLocked(inode);
  return node != nullptr && node->may_have_pages;
}

std::optional<TimeSpec> LeaseCache::TakeAccessLocked(InodeId inode, Node& node) {
  if (accessed_.erase(inode) == 0 || !node.accessed) return std::nullopt;
  node.accessed_told = true;
  return node.accessed;
}

std::vector<std::pair<InodeId, TimeSpec>> LeaseCache::TakeAccessed(size_t max) {
  std::lock_guard lock(mu_);
  std::vector<std::pair<InodeId, TimeSpec>> taken;
  while (!accessed_.empty() && taken.size() < max) {
    const InodeId inode = *accessed_.begin();
    if (const auto time = TakeAccessLocked(inode, nodes_.at(inode))) taken.emplace_back(inode, *time);
  }
  return taken;
}

std::optional<TimeSpec> LeaseCache::TakeAccess(InodeId inode) {
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(inode);
  return node == nullptr ? std::nullopt : TakeAccessLocked(inode, *node);
}

void LeaseCache::ApplyAccessed(const proto::AccessedOp& accessed) {
  std::lock_guard lock(mu_);
  for (const proto::AccessTime& file : accessed.files()) {
    Node* node = HeldLocked(InodeId(file.inode()));
    if (node == nullptr || !node->has_attr) continue;
    const TimeSpec time = FromProto(file.atime());
    node->attr.atime = std::max(node->attr.atime, time);
    if (node->accessed && node->accessed_told && *node->accessed <= time) node->accessed.reset();
  }
}

void LeaseCache::Lower(InodeId inode, uint64_t number) {
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(inode);
  if (node == nullptr || node->lease.number != number) return;
  node->lease.kind = LeaseKind::kRead;
  node->held.reset();  // it went with the lease
  node->recalled = false;
  node->layout.clear();
  node->layout_lease = 0;
}

bool LeaseCache::MarkRecalled(InodeId inode, uint64_t number) {
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(inode);
  if (node == nullptr || node->lease.number > number) {
    RememberReturnedLocked(inode, number);
    return false;
  }
  node->recalled = true;
  return true;
}

Exposure LeaseCache::Remove(InodeId inode, uint64_t number) {
  std::lock_guard lock(mu_);
  RememberReturnedLocked(inode, number);
  const auto it = nodes_.find(inode);
  if (it == nodes_.end() || it->second.lease.number > number) return {.inode = inode};
  Exposure exposure = ExposureLocked(inode, it->second);
  exposure.accessed = TakeAccessLocked(inode, it->second);
  if (!rules_.Hold(ServiceRule::kRecallDropsCache)) return exposure;
  if (it->second.directory) contended_until_ns_[inode] = clock_->NowNanos() + kContendedNanos;
  EraseLocked(it);
  return exposure;
}

Exposure LeaseCache::ExposureOf(InodeId inode) {
  std::lock_guard lock(mu_);
  const auto it = nodes_.find(inode);
  return it == nodes_.end() ? Exposure{.inode = inode} : ExposureLocked(inode, it->second);
}

void LeaseCache::Forget(InodeId inode) {
  std::lock_guard lock(mu_);
  const auto it = nodes_.find(inode);
  if (it != nodes_.end()) EraseLocked(it);
}

void LeaseCache::MakeCold(InodeId inode) {
  std::lock_guard lock(mu_);
  Node* node = HeldLocked(inode);
  if (node != nullptr) ages_.splice(ages_.begin(), ages_, node->age);
}

bool LeaseCache::OverBound() {
  std::lock_guard lock(mu_);
  return nodes_.size() > max_leases_ || names_ > max_leases_ * kNamesPerLease;
}

std::vector<std::pair<InodeId, uint64_t>> LeaseCache::Coldest(size_t max,
                                                              const std::function<bool(InodeId)>& keep) {
  std::lock_guard lock(mu_);
  std::vector<std::pair<InodeId, uint64_t>> out;
  size_t names = names_;
  for (const InodeId inode : ages_) {
    if (out.size() >= max) break;
    const Node& node = nodes_.at(inode);
    const bool too_many_nodes = nodes_.size() - out.size() > max_leases_ - max_leases_ / 16;
    const bool too_many_names = names > max_leases_ * kNamesPerLease;
    if (!too_many_nodes && !(too_many_names && node.directory)) continue;
    if (node.recalled || node.lease.kind == LeaseKind::kWrite || inode == kRootInode || keep(inode)) continue;
    if (node.directory)
      names -= std::min(names, node.directory->names.size() + node.directory->listing.size());
    out.emplace_back(inode, node.lease.number);
  }
  return out;
}

std::vector<proto::LeaseClaim> LeaseCache::Claims(size_t max) {
  std::lock_guard lock(mu_);
  std::vector<proto::LeaseClaim> claims;
  const auto add = [&](InodeId inode, Node& node) {
    node.claimed = true;
    proto::LeaseClaim& claim = claims.emplace_back();
    claim.set_inode(inode.value());
    claim.set_mode(node.lease.kind == LeaseKind::kWrite ? proto::LEASE_WRITE : proto::LEASE_READ);
    claim.set_number(node.lease.number);
  };
  for (auto& [inode, node] : nodes_) {
    node.claimed = false;
    if (node.lease.kind == LeaseKind::kWrite) add(inode, node);
  }
  for (auto it = ages_.rbegin(); it != ages_.rend() && claims.size() < max; ++it) {
    Node& node = nodes_.at(*it);
    if (!node.claimed) add(*it, node);
  }
  return claims;
}

std::vector<Exposure> LeaseCache::DropExcept(Keep keep, const std::unordered_set<uint64_t>& rejected) {
  std::lock_guard lock(mu_);
  std::vector<Exposure> dropped;
  if (!rules_.Hold(ServiceRule::kForgetfulMasterEndsReads) && keep == Keep::kClaimedWrite) keep = Keep::kClaimed;
  for (auto it = nodes_.begin(); it != nodes_.end();) {
    const auto next = std::next(it);
    const Node& node = it->second;
    const bool stays = keep != Keep::kNothing && node.claimed && !rejected.contains(it->first.value()) &&
                       (keep == Keep::kClaimed || node.lease.kind == LeaseKind::kWrite);
    if (!stays) {
      dropped.push_back(ExposureLocked(it->first, node));
      EraseLocked(it);
    }
    it = next;
  }
  // Another session or another life of the master: its numbers have nothing to do with what was returned
  // before.
  returned_.clear();
  returned_order_.clear();
  return dropped;
}

size_t LeaseCache::leases() {
  std::lock_guard lock(mu_);
  return nodes_.size();
}

Exposure LeaseCache::ExposureLocked(InodeId inode, const Node& node) const {
  Exposure exposure{.inode = inode, .type = node.attr.type};
  if (node.directory == nullptr) return exposure;
  exposure.type = FileType::kDirectory;
  if (node.directory->kernel_until_ns > clock_->NowNanos())
    exposure.names_until_ns = node.directory->kernel_until_ns;
  return exposure;
}

void LeaseCache::EraseLocked(NodeMap::iterator it) {
  if (it->second.directory)
    names_ -= it->second.directory->names.size() + it->second.directory->listing.size();
  accessed_.erase(it->first);
  ages_.erase(it->second.age);
  nodes_.erase(it);
}

void LeaseCache::RememberReturnedLocked(InodeId inode, uint64_t number) {
  const auto [it, fresh] = returned_.try_emplace(inode, number);
  it->second = std::max(it->second, number);
  if (!fresh) return;
  returned_order_.push_back(inode);
  if (returned_order_.size() > kReturnedKept) {
    returned_.erase(returned_order_.front());
    contended_until_ns_.erase(returned_order_.front());
    returned_order_.pop_front();
  }
}

}  // namespace cairn::client
