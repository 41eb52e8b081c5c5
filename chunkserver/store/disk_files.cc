#include "chunkserver/store/disk_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <vector>

#include "common/checksum.h"

namespace cairn::chunkserver {
namespace {

constexpr const char* kIdentity = "IDENTITY";
constexpr const char* kState = "STATE";
constexpr const char* kLock = "LOCK";

using Fields = std::vector<std::pair<std::string, std::string>>;

std::string HexCrc(const std::string& text) {
  char hex[16];
  std::snprintf(hex, sizeof(hex), "%08x", Crc32c(std::as_bytes(std::span(text.data(), text.size()))));
  return hex;
}

Status WriteFields(const std::string& directory, const char* name, const Fields& fields, StoreEnv* env) {
  const std::string path = directory + "/" + name;
  const std::string temporary = path + ".tmp";
  std::string text;
  for (const auto& [key, value] : fields) text += key + " " + value + "\n";
  text += "crc " + HexCrc(text) + "\n";
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (fd < 0) return ErrnoStatus(errno, "create " + temporary);
  const ssize_t wrote = write(fd, text.data(), text.size());
  int error = wrote < 0 ? errno : wrote != static_cast<ssize_t>(text.size()) ? ENOSPC : 0;
  if (error == 0 && env->SyncFile(fd, SyncPoint::kSmallFile) != 0) error = errno;
  close(fd);
  if (error == 0 && rename(temporary.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    unlink(temporary.c_str());
    return ErrnoStatus(error, "write " + path);
  }
  if (env->SyncDirectory(directory, SyncPoint::kSmallFileName) != 0)
    return ErrnoStatus(errno, "fsync of directory " + directory);
  return Status::Ok();
}

Result<std::map<std::string, std::string>> ReadFields(const std::string& directory, const char* name,
                                                      const std::string& kind) {
  const std::string path = directory + "/" + name;
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    if (access(path.c_str(), F_OK) != 0 && errno == ENOENT)
      return Status(StatusCode::kNotFound, path + " does not exist");
    return ErrnoStatus(errno, "open " + path);
  }
  std::ostringstream content;
  content << file.rdbuf();
  const std::string text = content.str();
  const size_t crc_at = text.rfind("crc ");
  if (crc_at == std::string::npos || text.substr(crc_at) != "crc " + HexCrc(text.substr(0, crc_at)) + "\n") {
    return Status(StatusCode::kCorrupt, path + " is damaged (its checksum does not match)");
  }
  std::map<std::string, std::string> fields;
  std::istringstream lines(text.substr(0, crc_at));
  std::string key;
  std::string value;
  while (lines >> key >> value) fields[key] = value;
  const auto format = fields.find(kind);
  if (format == fields.end() || format->second != std::to_string(kStoreFormatVersion)) {
    return Status(StatusCode::kVersionMismatch,
                  path + " has format " + (format == fields.end() ? "unknown" : format->second) +
                      ", this program reads format " + std::to_string(kStoreFormatVersion) +
                      ": use the version of Cairn that wrote it, or an empty directory");
  }
  return fields;
}

bool ParseUuid(const std::map<std::string, std::string>& fields, const char* key, Uuid* out) {
  const auto found = fields.find(key);
  return found != fields.end() && Uuid::Parse(found->second, out);
}

bool ParseFlag(const std::map<std::string, std::string>& fields, const char* key, bool* out) {
  const auto found = fields.find(key);
  if (found == fields.end()) return false;
  *out = found->second == "1";
  return true;
}

Status Incomplete(const std::string& directory, const char* name) {
  return {StatusCode::kCorrupt, directory + "/" + name + " lacks fields"};
}

}  // namespace

Status MakeDirectories(const std::string& directory, StoreEnv* env) {
  for (size_t at = 1; at <= directory.size(); ++at) {
    if (at != directory.size() && directory[at] != '/') continue;
    const std::string part = directory.substr(0, at);
    if (mkdir(part.c_str(), 0750) != 0) {
      if (errno == EEXIST) continue;
      return ErrnoStatus(errno, "create directory " + part);
    }
    const size_t slash = part.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : part.substr(0, slash);
    if (env->SyncDirectory(parent, SyncPoint::kDirectoryName) != 0)
      return ErrnoStatus(errno, "fsync of directory " + parent);
  }
  return Status::Ok();
}

Result<DiskIdentity> ReadIdentity(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(const auto fields, ReadFields(directory, kIdentity, "cairn-disk"));
  DiskIdentity identity;
  identity.format_version = kStoreFormatVersion;
  const auto server = fields.find("server");
  uint32_t number = 0;
  if (!ParseUuid(fields, "disk", &identity.disk) || !ParseUuid(fields, "cluster", &identity.cluster) ||
      !ParseUuid(fields, "server_uuid", &identity.server_uuid) || server == fields.end() ||
      std::from_chars(server->second.data(), server->second.data() + server->second.size(), number).ec !=
          std::errc()) {
    return Incomplete(directory, kIdentity);
  }
  identity.server = ServerId(number);
  return identity;
}

Status WriteIdentity(const std::string& directory, const DiskIdentity& identity, StoreEnv* env) {
  return WriteFields(directory, kIdentity,
                     {{"cairn-disk", std::to_string(kStoreFormatVersion)},
                      {"disk", identity.disk.ToString()},
                      {"cluster", identity.cluster.ToString()},
                      {"server_uuid", identity.server_uuid.ToString()},
                      {"server", std::to_string(identity.server.value())}},
                     env);
}

Result<DiskState> ReadState(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(const auto fields, ReadFields(directory, kState, "cairn-state"));
  DiskState state;
  if (!ParseUuid(fields, "boot", &state.boot) || !ParseFlag(fields, "clean", &state.clean) ||
      !ParseFlag(fields, "amnesic", &state.amnesic) ||
      !ParseFlag(fields, "rebuild_index", &state.rebuild_index)) {
    return Incomplete(directory, kState);
  }
  return state;
}

Status WriteState(const std::string& directory, const DiskState& state, StoreEnv* env) {
  return WriteFields(directory, kState,
                     {{"cairn-state", std::to_string(kStoreFormatVersion)},
                      {"boot", state.boot.ToString()},
                      {"clean", state.clean ? "1" : "0"},
                      {"amnesic", state.amnesic ? "1" : "0"},
                      {"rebuild_index", state.rebuild_index ? "1" : "0"}},
                     env);
}

Status InspectDirectory(const std::string& directory, bool create_if_missing, bool* fresh) {
  static const std::set<std::string> kOurs = {"IDENTITY", "IDENTITY.tmp", "STATE", "STATE.tmp",
                                              "LOCK",     "SPARE",        "segments", "index"};
  *fresh = false;
  DIR* dir = opendir(directory.c_str());
  if (dir == nullptr) {
    if (errno == ENOENT && !create_if_missing) {
      return {StatusCode::kNotFound, "data directory " + directory + " does not exist: is its disk mounted?"};
    }
    return ErrnoStatus(errno, "open data directory " + directory);
  }
  bool identity = false;
  bool data = false;
  std::string foreign;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || name == "lost+found") continue;
    if (name == kIdentity) identity = true;
    if (name == "index" || name == kState) data = true;
    if (!kOurs.contains(name)) foreign = name;
  }
  closedir(dir);
  if (!foreign.empty()) {
    return {StatusCode::kFailedPrecondition,
            "data directory " + directory + " contains '" + foreign +
                "', which no chunk store made: give the chunkserver a directory of its own"};
  }
  if (identity) return Status::Ok();
  if (data) {
    return {StatusCode::kCorrupt, "data directory " + directory +
                                      " holds chunks but its file IDENTITY is missing: put it back "
                                      "from a backup, or empty the directory to start as a new disk"};
  }
  if (!create_if_missing) {
    return {StatusCode::kFailedPrecondition,
            "data directory " + directory +
                " is empty: is its disk mounted? (A new disk must be added explicitly.)"};
  }
  *fresh = true;
  return Status::Ok();
}

DirectoryLock::~DirectoryLock() {
  if (fd_ >= 0) close(fd_);
}

Status DirectoryLock::Take(const std::string& directory) {
  const std::string path = directory + "/" + kLock;
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (fd_ < 0) return ErrnoStatus(errno, "open " + path);
  if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    std::array<char, 32> holder{};
    const ssize_t got = pread(fd_, holder.data(), holder.size() - 1, 0);
    const std::string pid =
        got > 0 ? std::string(holder.data(), static_cast<size_t>(got)) : std::string("unknown");
    return {StatusCode::kBusy, "data directory " + directory + " is in use by another process (pid " + pid +
                                   "): stop it, or use another directory"};
  }
  const std::string pid = std::to_string(getpid());
  if (ftruncate(fd_, 0) != 0 || pwrite(fd_, pid.data(), pid.size(), 0) < 0)
    return ErrnoStatus(errno, "write " + path);
  return Status::Ok();
}

}  // namespace cairn::chunkserver
