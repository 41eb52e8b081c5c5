#include "fuse/id_map.h"

#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <sstream>

namespace cairn::fuse {
namespace {

constexpr size_t kMaxRanges = 10'000;

Status Invalid(const std::string& message) { return {StatusCode::kInvalidArgument, message}; }

bool Overlap(uint32_t a, uint32_t b, uint32_t count_a, uint32_t count_b) {
  return uint64_t{a} < uint64_t{b} + count_b && uint64_t{b} < uint64_t{a} + count_a;
}

// Calls visit(tag, id) for every entry of an ACL, and stores the id that it leaves. False when it is none.
template <typename Visit>
bool ForEachAclEntry(std::string& value, Visit visit) {
  posix_acl_xattr_header header;
  if (value.size() < sizeof header || (value.size() - sizeof header) % sizeof(posix_acl_xattr_entry) != 0)
    return false;
  std::memcpy(&header, value.data(), sizeof header);
  if (le32toh(header.a_version) != POSIX_ACL_XATTR_VERSION) return false;
  for (size_t at = sizeof header; at < value.size(); at += sizeof(posix_acl_xattr_entry)) {
    posix_acl_xattr_entry entry;
    std::memcpy(&entry, value.data() + at, sizeof entry);
    uint32_t id = le32toh(entry.e_id);
    visit(static_cast<int>(le16toh(entry.e_tag)), id);
    entry.e_id = htole32(id);
    std::memcpy(value.data() + at, &entry, sizeof entry);
  }
  return true;
}

}  // namespace

bool IsAclName(std::string_view name) {
  return name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

Status IdMap::AddRange(const std::string& where, std::string text) {
  std::replace(text.begin(), text.end(), ':', ' ');
  std::istringstream words(text);
  std::array<uint64_t, 3> numbers{0, 0, 1};
  size_t found = 0;
  for (std::string word; words >> word; ++found) {
    const bool digits =
        !word.empty() && word.size() <= 10 && word.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || found == numbers.size())
      return Invalid(where + ": '" + text + "' is not LOCAL:CLUSTER or LOCAL:CLUSTER:COUNT");
    numbers[found] = std::stoull(word);
  }
  const auto [local, cluster, count] = numbers;
  if (found < 2) return Invalid(where + ": '" + text + "' is not LOCAL:CLUSTER or LOCAL:CLUSTER:COUNT");
  if (count == 0 || std::max(local, cluster) + count > kNoId) {
    return Invalid(where + ": ids are from 0 to " + std::to_string(kNoId - 1) + ", at least one of them");
  }
  const Range range{static_cast<uint32_t>(local), static_cast<uint32_t>(cluster),
                    static_cast<uint32_t>(count)};
  for (const Range& other : ranges_) {
    if (Overlap(range.local, other.local, range.count, other.count))
      return Invalid(where + ": an id of this machine from " + std::to_string(local) +
                     " on is mapped already");
    if (Overlap(range.cluster, other.cluster, range.count, other.count))
      return Invalid(where + ": an id of the cluster from " + std::to_string(cluster) +
                     " on is mapped already");
  }
  if (ranges_.size() >= kMaxRanges)
    return Invalid(where + ": more than " + std::to_string(kMaxRanges) + " ranges");
  ranges_.push_back(range);
  return Status::Ok();
}

Status IdMap::Add(const std::string& option, const std::string& text) {
  if (!text.starts_with('/')) return AddRange("option " + option, text);
  std::ifstream file(text);
  if (!file) return Invalid("option " + option + ": " + ErrnoStatus(errno, text).message());
  const size_t before = ranges_.size();
  size_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    line.resize(std::min(line.size(), line.find('#')));
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    CAIRN_RETURN_IF_ERROR(AddRange("option " + option + ": " + text + ":" + std::to_string(number), line));
  }
  // An empty map means that every id is itself, which nobody who writes a file means by it.
  if (ranges_.size() == before) return Invalid("option " + option + ": " + text + " maps no id");
  return Status::Ok();
}

std::optional<uint32_t> IdMap::ToCluster(uint32_t local) const {
  if (identity()) return local;
  for (const Range& range : ranges_) {
    if (local - range.local < range.count)
      return range.cluster + (local - range.local);  // below wraps to far above
  }
  return std::nullopt;
}

std::optional<uint32_t> IdMap::ToLocal(uint32_t cluster) const {
  if (identity()) return cluster;
  for (const Range& range : ranges_) {
    if (cluster - range.cluster < range.count) return range.local + (cluster - range.cluster);
  }
  return std::nullopt;
}

const Ids& Ids::Same() {
  static const Ids kSame{IdOptions{}};
  return kSame;
}

client::Caller Ids::ToCluster(client::Caller caller) const {
  caller.uid = options_.users.ToCluster(caller.uid).value_or(kNoId);
  caller.gid = options_.groups.ToCluster(caller.gid).value_or(kNoId);
  if (!options_.groups.identity()) caller.group_map = this;
  return caller;
}

uint32_t Ids::GroupToCluster(uint32_t local_gid) const {
  return options_.groups.ToCluster(local_gid).value_or(kNoId);
}

Status Ids::MayCreate(const client::Caller& caller) const {
  if (!options_.users.ToCluster(caller.uid))
    return {StatusCode::kOverflow, "uidmap names no user of the cluster for " + std::to_string(caller.uid)};
  if (!options_.groups.ToCluster(caller.gid))
    return {StatusCode::kOverflow, "gidmap names no group of the cluster for " + std::to_string(caller.gid)};
  return Status::Ok();
}

Status Ids::ToCluster(client::SetAttributes* change) const {
  const auto map = [](std::optional<uint32_t>* id, const std::optional<uint32_t>& shown, const IdMap& map,
                      const char* name) -> Status {
    if (!*id) return Status::Ok();
    if (shown) {
      // What is shown is nobody's property that could be changed; a copy with its owner is.
      if (**id != *shown)
        return {StatusCode::kNotPermitted, std::string("the mount shows one ") + name + " only"};
      id->reset();
      return Status::Ok();
    }
    const auto mapped = map.ToCluster(**id);
    if (!mapped)
      return {StatusCode::kInvalidArgument, std::string(name) + "map does not name " + std::to_string(**id)};
    *id = *mapped;
    return Status::Ok();
  };
  CAIRN_RETURN_IF_ERROR(map(&change->uid, options_.show_uid, options_.users, "uid"));
  return map(&change->gid, options_.show_gid, options_.groups, "gid");
}

client::Attributes Ids::ToLocal(client::Attributes attr) const {
  attr.uid = options_.show_uid ? *options_.show_uid : options_.users.ToLocal(attr.uid).value_or(kOverflowId);
  attr.gid = options_.show_gid ? *options_.show_gid : options_.groups.ToLocal(attr.gid).value_or(kOverflowId);
  return attr;
}

Result<std::string> Ids::AclToCluster(std::string value) const {
  if (options_.users.identity() && options_.groups.identity()) return value;
  Status unmapped;
  ForEachAclEntry(value, [&](int tag, uint32_t& id) {
    if (tag != ACL_USER && tag != ACL_GROUP) return;
    const auto mapped = (tag == ACL_USER ? options_.users : options_.groups).ToCluster(id);
    if (mapped) {
      id = *mapped;
    } else {
      unmapped = {StatusCode::kInvalidArgument,
                  std::string(tag == ACL_USER ? "uid" : "gid") + "map does not name " + std::to_string(id)};
    }
  });
  if (!unmapped.ok()) return unmapped;
  return value;
}

std::string Ids::AclToLocal(std::string value) const {
  if (options_.users.identity() && options_.groups.identity()) return value;
  ForEachAclEntry(value, [&](int tag, uint32_t& id) {
    if (tag == ACL_USER) id = options_.users.ToLocal(id).value_or(kOverflowId);
    if (tag == ACL_GROUP) id = options_.groups.ToLocal(id).value_or(kOverflowId);
  });
  return value;
}

}  // namespace cairn::fuse
