#include "cli/local/layout.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace cairn::cli {
namespace {

constexpr int kFormat = 1;

Status MakeDirectory(const std::string& path, mode_t mode) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  if (mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return ErrnoStatus(errno, "mkdir " + path);
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path);
  if (!S_ISDIR(info.st_mode)) return {StatusCode::kNotDirectory, path + ": not a directory"};
  return Status::Ok();
}

Status WriteReplacing(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus(errno, "open " + temporary);
  const bool written =
      write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fsync(fd) == 0;
  const int error = errno;
  close(fd);
  if (!written) return ErrnoStatus(error, "write " + temporary);
  if (rename(temporary.c_str(), path.c_str()) != 0) return ErrnoStatus(errno, "rename to " + path);
  return Status::Ok();
}

PartKind KindOf(const std::string& name) {
  if (name == "master") return PartKind::kMaster;
  if (name == "mount") return PartKind::kMount;
  return PartKind::kChunkserver;
}

}  // namespace

int ChunkserverNumber(const std::string& name) {
  if (name.size() < 3 || name.size() > 6 || !name.starts_with("cs") || name[2] == '0') return 0;
  const std::string digits = name.substr(2);
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) return 0;
  return std::stoi(digits);
}

const char* BinaryName(PartKind kind) {
  switch (kind) {
    case PartKind::kMaster:
      return "cairn-master";
    case PartKind::kChunkserver:
      return "cairn-chunkserver";
    case PartKind::kMount:
      return "cairn-mount";
  }
  return "";
}

Result<LocalLayout> LocalLayout::Load(const std::string& directory) {
  std::error_code error;
  LocalLayout layout(std::filesystem::absolute(directory, error).lexically_normal().string());
  while (layout.directory_.size() > 1 && layout.directory_.ends_with('/')) layout.directory_.pop_back();
  const std::string path = layout.directory_ + "/cluster.json";
  std::ifstream file(path);
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return Status(StatusCode::kNotFound,
                    "no local cluster in " + layout.directory_ + " (start one with `cairn up`)");
    }
    return ErrnoStatus(errno, "open " + path);
  }
  const auto json = nlohmann::json::parse(file, nullptr, false);
  if (json.is_discarded() || !json.is_object() || json.value("format", 0) != kFormat) {
    return Status(
        StatusCode::kMalformed,
        path + ": damaged, or written by another version (expected format " + std::to_string(kFormat) + ")");
  }
  layout.initialized = json.value("initialized", false);
  layout.metrics = json.value("metrics", false);
  layout.console = json.value("console", true);
  const auto flags = [&json](const char* name) { return json.value(name, std::vector<std::string>()); };
  layout.master_flags = flags("master_flags");
  layout.chunkserver_flags = flags("chunkserver_flags");
  layout.mount_flags = flags("mount_flags");
  for (const auto& item : json.value("parts", nlohmann::json::array())) {
    LocalPart part{.name = item.value("name", ""),
                   .address = item.value("address", ""),
                   .mountpoint = item.value("mountpoint", ""),
                   .metrics = item.value("metrics", ""),
                   .console = item.value("console", "")};
    if (part.name != "master" && part.name != "mount" && ChunkserverNumber(part.name) == 0) {
      return Status(StatusCode::kMalformed, path + ": unknown part '" + part.name + "'");
    }
    part.kind = KindOf(part.name);
    layout.parts_.push_back(std::move(part));
  }
  return layout;
}

Status LocalLayout::Save() const {
  CAIRN_RETURN_IF_ERROR(MakeDirectory(directory_, 0700));
  for (const char* folder : {"run", "log", "data"}) {
    CAIRN_RETURN_IF_ERROR(MakeDirectory(directory_ + "/" + folder, 0700));
  }
  nlohmann::json json;
  json["format"] = kFormat;
  json["initialized"] = initialized;
  if (metrics) json["metrics"] = true;
  if (!console) json["console"] = false;
  if (!master_flags.empty()) json["master_flags"] = master_flags;
  if (!chunkserver_flags.empty()) json["chunkserver_flags"] = chunkserver_flags;
  if (!mount_flags.empty()) json["mount_flags"] = mount_flags;
  json["parts"] = nlohmann::json::array();
  for (const LocalPart& part : parts_) {
    nlohmann::json item{{"name", part.name}};
    if (!part.address.empty()) item["address"] = part.address;
    if (!part.mountpoint.empty()) item["mountpoint"] = part.mountpoint;
    if (!part.metrics.empty()) item["metrics"] = part.metrics;
    if (!part.console.empty()) item["console"] = part.console;
    json["parts"].push_back(std::move(item));
  }
  return WriteReplacing(directory_ + "/cluster.json", json.dump(2) + "\n");
}

Status LocalLayout::SaveMetricsTargets() const {
  auto targets = nlohmann::json::array();
  for (const LocalPart& part : parts_) {
    if (part.metrics.empty()) continue;
    targets.push_back({{"targets", {part.metrics}}, {"labels", {{"part", part.name}}}});
  }
  return WriteReplacing(MetricsTargetsFile(), targets.dump(2) + "\n");
}

const LocalPart* LocalLayout::Find(const std::string& name) const {
  const auto it =
      std::find_if(parts_.begin(), parts_.end(), [&](const LocalPart& p) { return p.name == name; });
  return it == parts_.end() ? nullptr : &*it;
}

LocalPart* LocalLayout::Find(const std::string& name) {
  return const_cast<LocalPart*>(static_cast<const LocalLayout*>(this)->Find(name));
}

LocalPart& LocalLayout::Add(LocalPart part) {
  part.kind = KindOf(part.name);
  parts_.push_back(std::move(part));
  return parts_.back();
}

void LocalLayout::Remove(const std::string& name) {
  std::erase_if(parts_, [&](const LocalPart& part) { return part.name == name; });
}

int LocalLayout::chunkservers() const {
  return static_cast<int>(std::count_if(parts_.begin(), parts_.end(), [](const LocalPart& part) {
    return part.kind == PartKind::kChunkserver;
  }));
}

}  // namespace cairn::cli
