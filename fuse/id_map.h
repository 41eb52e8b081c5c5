// Users and groups of this machine and those of the cluster, where a mount says that they differ:
//
//   uidmap=1000:5000:10   users 1000 to 1009 here are 5000 to 5009 in the cluster; likewise gidmap
//   uid=1000              every file is shown as belonging to 1000, whoever owns it
//
// As in the kernel's user namespaces: without a map every id is itself; with one, an id that it does not name
// has no counterpart. Such an owner is shown as 65534; such a caller is nobody in the cluster, may use what
// everybody may, and makes nothing (EOVERFLOW); such an id cannot be set (EINVAL). Everything that comes from
// or goes to the kernel passes here, and nothing behind this knows of it. Thread-safety: values; constant
// after construction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/types.h"
#include "common/status.h"

namespace cairn::fuse {

inline constexpr uint32_t kOverflowId = 65534;  // of the kernel: /proc/sys/kernel/overflowuid
inline constexpr uint32_t kNoId = UINT32_MAX;   // owns nothing: chown(2) takes it for "as it is"

class IdMap {
 public:
  // LOCAL:CLUSTER or LOCAL:CLUSTER:COUNT, or /FILE with one of these in each line (separated by colons or
  // spaces; # begins a comment). `option` names it in errors. Adds to what is there; no id may be named
  // twice.
  Status Add(const std::string& option, const std::string& text);

  bool identity() const { return ranges_.empty(); }
  std::optional<uint32_t> ToCluster(uint32_t local) const;
  std::optional<uint32_t> ToLocal(uint32_t cluster) const;

 private:
  struct Range {
    uint32_t local = 0;
    uint32_t cluster = 0;
    uint32_t count = 0;
  };
  Status AddRange(const std::string& where, std::string text);

  std::vector<Range> ranges_;
};

struct IdOptions {
  IdMap users, groups;
  std::optional<uint32_t> show_uid, show_gid;
};

class Ids final : public client::GroupMap {
 public:
  explicit Ids(IdOptions options) : options_(std::move(options)) {}
  static const Ids& Same();  // every id is itself

  // Towards the cluster.
  client::Caller ToCluster(client::Caller caller) const;
  uint32_t GroupToCluster(uint32_t local_gid) const override;
  // kInvalidArgument: an id without a counterpart; kNotPermitted: another one than uid= and gid= show.
  Status ToCluster(client::SetAttributes* change) const;
  // kOverflow when what `caller` (of this machine) makes would have no owner.
  Status MayCreate(const client::Caller& caller) const;
  // The value of an ACL's extended attribute (linux/posix_acl_xattr.h); one that is none stays as it is, for
  // the master to refuse.
  Result<std::string> AclToCluster(std::string value) const;

  // Towards the kernel.
  client::Attributes ToLocal(client::Attributes attr) const;
  std::string AclToLocal(std::string value) const;

 private:
  const IdOptions options_;
};

// Is this the name of an extended attribute that holds an ACL?
bool IsAclName(std::string_view name);

}  // namespace cairn::fuse
