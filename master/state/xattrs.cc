#include "master/state/xattrs.h"

#include <cstring>

#include "master/state/permissions.h"
#include "master/state/queries.h"
#include "master/state/records.h"
#include "master/state/state_machine.h"

namespace cairn::master {
namespace {

constexpr size_t kAclHeaderBytes = 4;
constexpr size_t kAclEntryBytes = 8;
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
size_t EntryCount(std::string_view acl) { return (acl.size() - kAclHeaderBytes) / kAclEntryBytes; }
AclEntry EntryAt(std::string_view acl, size_t i) {
  const size_t at = kAclHeaderBytes + i * kAclEntryBytes;
  return {Get16(acl, at), Get16(acl, at + 2), Get32(acl, at + 4)};
}
bool HasTag(std::string_view acl, uint16_t tag) {
  for (size_t i = 0; i < EntryCount(acl); ++i) {
    if (EntryAt(acl, i).tag == tag) return true;
  }
  return false;
}

Status CheckXattrName(std::string_view name) {
  if (name.empty() || name.size() > kMaxXattrNameBytes) {
    return {StatusCode::kBufferTooSmall,
            "the name of an attribute has 1 to " + std::to_string(kMaxXattrNameBytes) + " bytes"};
  }
  if (name.find('\0') != std::string_view::npos)
    return {StatusCode::kInvalidArgument, "a NUL in the name of an attribute"};
  return Status::Ok();
}

bool IsAcl(std::string_view name) { return name == kAccessAcl || name == kDefaultAcl; }
bool AllowsUserXattrs(const proto::InodeRecord& inode) {
  return inode.type() == proto::REGULAR || inode.type() == proto::DIRECTORY;
}
Status UnknownNamespace(std::string_view name) {
  return {StatusCode::kNotSupported,
          "attribute '" + std::string(name) + "' is in no namespace that exists here"};
}

}  // namespace

Status CheckXattrRead(const proto::InodeRecord& inode, const proto::Credentials& caller,
                      std::string_view name) {
  CAIRN_RETURN_IF_ERROR(CheckXattrName(name));
  if (name.starts_with("user.")) {
    if (!AllowsUserXattrs(inode))
      return {StatusCode::kNoAttribute, "no attribute '" + std::string(name) + "'"};
    return CheckMode(inode, caller, kMayRead);
  }
  if (name.starts_with("trusted.")) {
    if (IsRoot(caller)) return Status::Ok();
    return {StatusCode::kNoAttribute, "no attribute '" + std::string(name) + "'"};
  }
  if (name.starts_with("security.") || IsAcl(name)) return Status::Ok();
  return UnknownNamespace(name);
}

Status CheckXattrWrite(const proto::InodeRecord& inode, const proto::Credentials& caller,
                       std::string_view name) {
  CAIRN_RETURN_IF_ERROR(CheckXattrName(name));
  if (name.starts_with("user.")) {
    if (name == "user.") return {StatusCode::kInvalidArgument, "'user.' is not the name of an attribute"};
    if (!AllowsUserXattrs(inode)) {
      return {StatusCode::kNotPermitted, "user attributes exist on regular files and directories only"};
    }
    if (IsDirectory(inode) && (inode.mode() & kSticky) != 0 && !IsOwnerOrRoot(inode, caller)) {
      return {StatusCode::kNotPermitted, "user attributes of a sticky directory belong to its owner"};
    }
    return CheckMode(inode, caller, kMayWrite);
  }
  if (name.starts_with("trusted.") || name.starts_with("security.")) {
    if (IsRoot(caller)) return Status::Ok();
    return {StatusCode::kNotPermitted, "only root changes '" + std::string(name) + "'"};
  }
  if (IsAcl(name)) {
    if (inode.type() == proto::SYMLINK) return {StatusCode::kNotSupported, "a symbolic link has no ACL"};
    if (!IsOwnerOrRoot(inode, caller)) return {StatusCode::kNotPermitted, "only the owner changes an ACL"};
    if (name == kDefaultAcl && !IsDirectory(inode))
      return {StatusCode::kAccessDenied, "only directories have a default ACL"};
    return Status::Ok();
  }
  return UnknownNamespace(name);
}

Status CheckAcl(std::string_view acl) {
  const Status invalid(StatusCode::kInvalidArgument, "not a valid POSIX ACL");
  if (acl.size() < kAclHeaderBytes || (acl.size() - kAclHeaderBytes) % kAclEntryBytes != 0 ||
      Get32(acl, 0) != 2)
    return invalid;
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
  uint32_t mode = 0;
  const bool has_mask = HasTag(acl, kMask);
  for (size_t i = 0; i < EntryCount(acl); ++i) {
    const AclEntry entry = EntryAt(acl, i);
    if (entry.tag == kUserObj) mode |= static_cast<uint32_t>(entry.permissions) << 6;
    if (entry.tag == (has_mask ? kMask : kGroupObj)) mode |= static_cast<uint32_t>(entry.permissions) << 3;
    if (entry.tag == kOther) mode |= entry.permissions;
  }
  return mode;
}

bool IsMinimalAcl(std::string_view acl) { return EntryCount(acl) == 3; }

std::string AclWithMode(std::string_view acl, uint32_t mode) {
  std::string changed(acl);
  const bool has_mask = HasTag(acl, kMask);
  for (size_t i = 0; i < EntryCount(acl); ++i) {
    const AclEntry entry = EntryAt(acl, i);
    uint32_t permissions = entry.permissions;
    if (entry.tag == kUserObj) permissions = mode >> 6 & 7;
    if (entry.tag == (has_mask ? kMask : kGroupObj)) permissions = mode >> 3 & 7;
    if (entry.tag == kOther) permissions = mode & 7;
    changed[kAclHeaderBytes + i * kAclEntryBytes + 2] = static_cast<char>(permissions);
  }
  return changed;
}

}  // namespace cairn::master
