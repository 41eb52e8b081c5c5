#include "cli/core/format.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <array>
#include <ctime>

namespace cairn::cli {
namespace {

using client::FileType;

std::string Scaled(uint64_t bytes, const char* unit_suffix, const char* separator) {
  static constexpr std::array<const char*, 7> kUnits = {"", "K", "M", "G", "T", "P", "E"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{}{}{}", bytes, separator, *unit_suffix == '\0' ? "" : "B");
  return fmt::format("{:.{}f}{}{}{}", value, value < 10 ? 1 : 0, separator, kUnits[unit], unit_suffix);
}

}  // namespace

std::string HumanBytes(uint64_t bytes) { return Scaled(bytes, "iB", " "); }
std::string HumanSize(uint64_t bytes) { return Scaled(bytes, "", ""); }

std::string HumanDuration(int64_t seconds) {
  if (seconds >= 3600) return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
}

std::string ModeString(FileType type, uint32_t mode) {
  static constexpr char kTypes[] = "?-dlpscb";
  std::string text(10, '-');
  text[0] = kTypes[static_cast<int>(type)];
  for (int i = 0; i < 9; ++i) {
    if ((mode & (0400U >> i)) != 0) text[static_cast<size_t>(i) + 1] = "rwx"[i % 3];
  }
  if ((mode & 04000) != 0) text[3] = text[3] == 'x' ? 's' : 'S';
  if ((mode & 02000) != 0) text[6] = text[6] == 'x' ? 's' : 'S';
  if ((mode & 01000) != 0) text[9] = text[9] == 'x' ? 't' : 'T';
  return text;
}

const char* TypeName(FileType type) {
  static constexpr const char* kNames[] = {"unknown", "regular file", "directory",        "symbolic link",
                                           "fifo",    "socket",       "character device", "block device"};
  return kNames[static_cast<int>(type)];
}

const char* TypeWord(FileType type) {
  static constexpr const char* kNames[] = {"unknown", "file",   "directory", "symlink",
                                           "fifo",    "socket", "char",      "block"};
  return kNames[static_cast<int>(type)];
}

std::string IsoTime(const client::TimeSpec& time) {
  const time_t seconds = time.seconds;
  tm parts{};
  localtime_r(&seconds, &parts);
  char text[64];
  strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

std::string FullTime(const client::TimeSpec& time) {
  const time_t seconds = time.seconds;
  tm parts{};
  localtime_r(&seconds, &parts);
  char zone[16];
  strftime(zone, sizeof zone, "%z", &parts);
  return fmt::format("{}.{:09} {}", IsoTime(time), time.nanos, zone);
}

std::string UserName(uint32_t uid) {
  passwd entry{};
  passwd* found = nullptr;
  char buffer[4096];
  if (getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr) return found->pw_name;
  return std::to_string(uid);
}

std::string GroupName(uint32_t gid) {
  group entry{};
  group* found = nullptr;
  char buffer[16384];
  if (getgrgid_r(gid, &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr) return found->gr_name;
  return std::to_string(gid);
}

std::string Printable(const std::string& name) {
  std::string text;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      text += fmt::format("\\{:03o}", byte);
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace cairn::cli
