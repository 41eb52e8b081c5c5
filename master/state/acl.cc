#include "master/state/acl.h"

#include <optional>

#include "master/state/permissions.h"

namespace cairn::master {
namespace {

constexpr size_t kHeaderBytes = 4;
constexpr size_t kEntryBytes = 8;
constexpr uint32_t kVersion = 2;
// Tags of linux/posix_acl.h, in the order in which a valid ACL has them.
constexpr uint16_t kUserObj = 0x01;
constexpr uint16_t kUser = 0x02;
constexpr uint16_t kGroupObj = 0x04;
constexpr uint16_t kGroup = 0x08;
constexpr uint16_t kMask = 0x10;
constexpr uint16_t kOther = 0x20;

uint16_t Get16(std::string_view bytes, size_t at) {
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[at]) | static_cast<uint8_t>(bytes[at + 1]) << 8);
}
uint32_t Get32(std::string_view bytes, size_t at) {
  return static_cast<uint32_t>(Get16(bytes, at)) | static_cast<uint32_t>(Get16(bytes, at + 2)) << 16;
}

struct AclEntry {
  uint16_t tag;
  uint16_t permissions;
  uint32_t id;
};
size_t EntryCount(std::string_view acl) { return (acl.size() - kHeaderBytes) / kEntryBytes; }
AclEntry EntryAt(std::string_view acl, size_t i) {
  const size_t at = kHeaderBytes + i * kEntryBytes;
  return {Get16(acl, at), Get16(acl, at + 2), Get32(acl, at + 4)};
}
void SetPermissions(std::string* acl, size_t i, uint32_t permissions) {
  (*acl)[kHeaderBytes + i * kEntryBytes + 2] = static_cast<char>(permissions);
}
std::optional<uint32_t> PermissionsOf(std::string_view acl, uint16_t tag) {
  for (size_t i = 0; i < EntryCount(acl); ++i) {
    if (const AclEntry entry = EntryAt(acl, i); entry.tag == tag) return entry.permissions;
  }
  return std::nullopt;
}
// The entry that the group bits of the mode stand for.
uint16_t GroupClassTag(std::string_view acl) { return PermissionsOf(acl, kMask) ? kMask : kGroupObj; }

}  // namespace

Status CheckAcl(std::string_view acl) {
  const Status invalid(StatusCode::kInvalidArgument, "not a valid POSIX ACL");
  if (acl.size() < kHeaderBytes || (acl.size() - kHeaderBytes) % kEntryBytes != 0 ||
      Get32(acl, 0) != kVersion)
    return invalid;
  if (EntryCount(acl) > kMaxAclEntries) {
    return {StatusCode::kArgumentTooBig, "an ACL has at most " + std::to_string(kMaxAclEntries) + " entries"};
  }
  bool needs_mask = false;
  int owners = 0;
  int groups = 0;
  int masks = 0;
  int others = 0;
  AclEntry previous{0, 0, 0};
  for (size_t i = 0; i < EntryCount(acl); ++i) {
    const AclEntry entry = EntryAt(acl, i);
    if (entry.permissions > 7 || entry.tag < previous.tag) return invalid;
    const bool named = entry.tag == kUser || entry.tag == kGroup;
    if (named && entry.tag == previous.tag && entry.id <= previous.id) return invalid;
    needs_mask = needs_mask || named;
    switch (entry.tag) {
      case kUserObj:
        ++owners;
        break;
      case kGroupObj:
        ++groups;
        break;
      case kMask:
        ++masks;
        break;
      case kOther:
        ++others;
        break;
      case kUser:
      case kGroup:
        break;
      default:
        return invalid;
    }
    previous = entry;
  }
  if (owners != 1 || groups != 1 || others != 1 || masks > 1 || (needs_mask && masks == 0)) return invalid;
  return Status::Ok();
}

uint32_t ModeOfAcl(std::string_view acl) {
  return PermissionsOf(acl, kUserObj).value_or(0) << 6 |
         PermissionsOf(acl, GroupClassTag(acl)).value_or(0) << 3 | PermissionsOf(acl, kOther).value_or(0);
}

bool IsMinimalAcl(std::string_view acl) { return EntryCount(acl) == 3; }

bool IsEmptyAcl(std::string_view acl) { return acl.size() == kHeaderBytes && Get32(acl, 0) == kVersion; }

std::string AclWithMode(std::string_view acl, uint32_t mode) {
  std::string changed(acl);
  const uint16_t group_class = GroupClassTag(acl);
  for (size_t i = 0; i < EntryCount(acl); ++i) {
    const uint16_t tag = EntryAt(acl, i).tag;
    if (tag == kUserObj) SetPermissions(&changed, i, mode >> 6 & 7);
    if (tag == group_class) SetPermissions(&changed, i, mode >> 3 & 7);
    if (tag == kOther) SetPermissions(&changed, i, mode & 7);
  }
  return changed;
}

Status CheckByAcl(const proto::InodeRecord& inode, const proto::Credentials& caller, uint32_t mask) {
  const std::string_view acl = inode.access_acl();
  const uint32_t limit = PermissionsOf(acl, kMask).value_or(7);
  const Status denied(StatusCode::kAccessDenied,
                      "the access control list denies it to uid " + std::to_string(caller.uid()));
  const auto grants = [mask](uint32_t permissions) { return (permissions & mask) == mask; };
  bool in_some_group = false;
  bool may_be_in_group = false;  // a group that would decide is not known
  bool unknown_group_grants = false;
  for (size_t i = 0; i < EntryCount(acl); ++i) {
    const AclEntry entry = EntryAt(acl, i);
    if (entry.tag == kUser && entry.id == caller.uid()) {
      return grants(entry.permissions & limit) ? Status::Ok() : denied;
    }
    if (entry.tag == kGroupObj || entry.tag == kGroup) {
      const bool granted = grants(entry.permissions & limit);
      switch (InGroup(caller, entry.tag == kGroupObj ? inode.gid() : entry.id)) {
        case Membership::kYes:
          if (granted) return Status::Ok();
          in_some_group = true;
          break;
        case Membership::kUnknown:
          may_be_in_group = true;
          unknown_group_grants = unknown_group_grants || granted;
          break;
        case Membership::kNo:
          break;
      }
    }
  }
  const bool as_other = !in_some_group && grants(PermissionsOf(acl, kOther).value_or(0));
  // Groups that are not known matter only if they would change the answer.
  if (may_be_in_group && (as_other || unknown_group_grants)) return NeedGroups();
  return as_other ? Status::Ok() : denied;
}

InheritedAcl InheritAcl(std::string_view default_acl, uint32_t mode) {
  const uint16_t group_class = GroupClassTag(default_acl);
  std::string acl(default_acl);
  for (size_t i = 0; i < EntryCount(acl); ++i) {
    const AclEntry entry = EntryAt(acl, i);
    if (entry.tag == kUserObj) SetPermissions(&acl, i, entry.permissions & (mode >> 6));
    if (entry.tag == group_class) SetPermissions(&acl, i, entry.permissions & (mode >> 3));
    if (entry.tag == kOther) SetPermissions(&acl, i, entry.permissions & mode);
  }
  InheritedAcl inherited;
  inherited.mode = (mode & ~0777u) | ModeOfAcl(acl);
  if (!IsMinimalAcl(acl)) inherited.access = std::move(acl);
  return inherited;
}

}  // namespace cairn::master
