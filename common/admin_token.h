// The token of an administrator: a file that the master makes at its first start and that whoever may change
// the cluster can read. The console asks for what is in it.
//
// Thread-safety: functions over the file system.
#pragma once

#include <string>

#include "common/status.h"

namespace cairn {

inline constexpr size_t kAdminTokenDigits = 64;  // hexadecimal, 256 bits
// The metadata of a call of AdminService that carries it (proto/cairn/admin.proto).
inline constexpr char kAdminTokenMetadata[] = "cairn-admin-token";

// The token in `path`. kNotFound: there is no such file; kNotPermitted: others may read it, too, or we may
// not; kMalformed: it is no token.
Result<std::string> ReadAdminToken(const std::string& path);
// The same, and a new token (mode 0600) where there is none yet.
Result<std::string> LoadOrMakeAdminToken(const std::string& path);
// Whether the texts are equal, in a time that tells nothing of where they differ.
bool SameSecret(const std::string& left, const std::string& right);
// `bytes` random bytes as hexadecimal digits.
Result<std::string> RandomHex(size_t bytes);

}  // namespace cairn
