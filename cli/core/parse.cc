// Values as people type them: sizes, modes, owners.
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "cli/core/format.h"

namespace cairn::cli {
namespace {

bool AllDigits(const std::string& text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

Result<uint32_t> ParseId(const std::string& text) {
  if (text.size() > 10 || std::stoull(text) > UINT32_MAX - 1) {
    return Status(StatusCode::kInvalidArgument, "'" + text + "' is not a valid id");
  }
  return static_cast<uint32_t>(std::stoull(text));
}

// One clause "[ugoa]*[+-=][rwxXst]*" (repeatable operators) of a symbolic mode.
Result<uint32_t> ApplyClause(const std::string& clause, uint32_t mode, bool directory, uint32_t umask) {
  const Status bad(StatusCode::kInvalidArgument, "invalid mode clause '" + clause + "'");
  size_t at = 0;
  uint32_t who = 0;
  for (; at < clause.size(); ++at) {
    const char c = clause[at];
    if (c == 'u')
      who |= 04700;
    else if (c == 'g')
      who |= 02070;
    else if (c == 'o')
      who |= 01007;
    else if (c == 'a')
      who |= 07777;
    else
      break;
  }
  const uint32_t allowed = who == 0 ? 07777 & ~umask : who;
  if (at == clause.size()) return bad;
  while (at < clause.size()) {
    const char operation = clause[at++];
    if (operation != '+' && operation != '-' && operation != '=') return bad;
    uint32_t bits = 0;
    for (; at < clause.size() && clause[at] != '+' && clause[at] != '-' && clause[at] != '='; ++at) {
      switch (clause[at]) {
        case 'r':
          bits |= 0444;
          break;
        case 'w':
          bits |= 0222;
          break;
        case 'x':
          bits |= 0111;
          break;
        case 'X':
          bits |= directory || (mode & 0111) != 0 ? 0111U : 0U;
          break;
        case 's':
          bits |= 06000;
          break;
        case 't':
          bits |= 01000;
          break;
        case 'u':
          bits |= (mode >> 6 & 7) * 0111;
          break;
        case 'g':
          bits |= (mode >> 3 & 7) * 0111;
          break;
        case 'o':
          bits |= (mode & 7) * 0111;
          break;
        default:
          return bad;
      }
    }
    bits &= allowed;
    if (operation == '+') mode |= bits;
    if (operation == '-') mode &= ~bits;
    if (operation == '=') {
      // As chmod(1): a directory keeps its set-id bits unless they are named.
      uint32_t cleared = who == 0 ? 07777U : who;
      if (directory) cleared &= ~06000U;
      mode = (mode & ~cleared) | bits;
    }
  }
  return mode;
}

}  // namespace

Result<uint64_t> ParseBytes(const std::string& text) {
  const Status bad(StatusCode::kInvalidArgument,
                   "'" + text + "' is not a size (examples: 4096, 64K, 64MiB, 1G)");
  size_t digits = 0;
  while (digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits])) != 0) ++digits;
  if (digits == 0 || digits > 19) return bad;
  std::string unit = text.substr(digits);
  std::transform(unit.begin(), unit.end(), unit.begin(), [](unsigned char c) { return std::toupper(c); });
  if (unit.ends_with("IB") && unit.size() == 3) unit.resize(1);
  if (unit == "B") unit.clear();
  static const std::string kUnits = "KMGTP";
  uint64_t value = std::stoull(text.substr(0, digits));
  if (unit.empty()) return value;
  const size_t power = kUnits.find(unit);
  if (unit.size() != 1 || power == std::string::npos) return bad;
  const unsigned shift = 10 * (static_cast<unsigned>(power) + 1);
  if (value > (UINT64_MAX >> shift)) return bad;
  return value << shift;
}

Result<uint64_t> ParseDuration(const std::string& text) {
  const Status bad(StatusCode::kInvalidArgument, "'" + text + "' is not a time (examples: 90s, 30m, 2h, 7d)");
  size_t digits = 0;
  while (digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits])) != 0) ++digits;
  if (digits == 0 || digits > 9) return bad;
  const uint64_t value = std::stoull(text.substr(0, digits));
  const std::string unit = text.substr(digits);
  if (unit.empty() || unit == "s") return value;
  if (unit == "m") return value * 60;
  if (unit == "h") return value * 3600;
  if (unit == "d") return value * 86400;
  return bad;
}

Result<uint32_t> ParseMode(const std::string& text, uint32_t mode, bool directory, uint32_t umask) {
  if (!text.empty() && text.find_first_not_of("01234567") == std::string::npos && text.size() <= 5) {
    const auto value = static_cast<uint32_t>(std::stoul(text, nullptr, 8));
    if (value > 07777) return Status(StatusCode::kInvalidArgument, "invalid mode '" + text + "'");
    return value;
  }
  if (text.empty()) return Status(StatusCode::kInvalidArgument, "empty mode");
  std::stringstream clauses(text);
  std::string clause;
  while (std::getline(clauses, clause, ',')) {
    CAIRN_ASSIGN_OR_RETURN(mode, ApplyClause(clause, mode, directory, umask));
  }
  return mode;
}

Result<Ownership> ParseOwnership(const std::string& text) {
  Ownership result;
  const size_t colon = text.find(':');
  const std::string user = text.substr(0, colon);
  if (!user.empty()) {
    result.has_uid = true;
    const passwd* entry = getpwnam(user.c_str());
    if (entry != nullptr) {
      result.uid = entry->pw_uid;
    } else if (AllDigits(user)) {
      CAIRN_ASSIGN_OR_RETURN(result.uid, ParseId(user));
    } else {
      return Status(StatusCode::kInvalidArgument, "unknown user '" + user + "'");
    }
    if (colon != std::string::npos && colon + 1 == text.size()) {
      if (entry == nullptr)
        return Status(StatusCode::kInvalidArgument, "user '" + user + "' has no login group");
      result.has_gid = true;
      result.gid = entry->pw_gid;
    }
  }
  if (colon != std::string::npos && colon + 1 < text.size()) {
    const std::string name = text.substr(colon + 1);
    result.has_gid = true;
    if (const struct group* entry = getgrnam(name.c_str()); entry != nullptr) {
      result.gid = entry->gr_gid;
    } else if (AllDigits(name)) {
      CAIRN_ASSIGN_OR_RETURN(result.gid, ParseId(name));
    } else {
      return Status(StatusCode::kInvalidArgument, "unknown group '" + name + "'");
    }
  }
  if (!result.has_uid && !result.has_gid)
    return Status(StatusCode::kInvalidArgument, "no owner in '" + text + "'");
  return result;
}

}  // namespace cairn::cli
