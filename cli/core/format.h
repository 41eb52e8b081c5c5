// Numbers and times as people read them. Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "client/types.h"
#include "common/status.h"

namespace cairn::cli {

std::string HumanBytes(uint64_t bytes);                        // "1.5 GiB"
std::string HumanSize(uint64_t bytes);                         // "1.5G", as ls -h
std::string HumanDuration(int64_t seconds);                    // "1:02:03", "0:05"
std::string ModeString(client::FileType type, uint32_t mode);  // "drwxr-xr-x"
const char* TypeName(client::FileType type);                   // "regular file"
const char* TypeWord(client::FileType type);                   // "file", for --json
std::string IsoTime(const client::TimeSpec& time);             // local time "2026-11-20 21:45:03"
std::string FullTime(const client::TimeSpec& time);            // with nanoseconds and zone
std::string UserName(uint32_t uid);                            // name or number
std::string GroupName(uint32_t gid);
// A name for one line of a terminal: control characters as \ooo.
std::string Printable(const std::string& name);

// "90s", "30m", "2h", "1d", "45" (seconds) -> seconds.
Result<uint64_t> ParseDuration(const std::string& text);
// "64M", "1GiB", "4096" -> bytes.
Result<uint64_t> ParseBytes(const std::string& text);
// "u+rw,go-w", "a=rX" or octal, applied to `mode` of a file or directory; `umask` counts where no class is
// named.
Result<uint32_t> ParseMode(const std::string& text, uint32_t mode, bool directory, uint32_t umask);
// "user", "user:group", ":group", "user:" (the user's login group), numbers too. Absent parts stay untouched.
struct Ownership {
  bool has_uid = false, has_gid = false;
  uint32_t uid = 0, gid = 0;
};
Result<Ownership> ParseOwnership(const std::string& text);

}  // namespace cairn::cli
