#include "tests/power/forgetful_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "common/check.h"

namespace cairn::power {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPageBytes = 4096;

std::mutex g_mu;
std::set<ForgetfulDisk*> g_disks;  // guarded by g_mu
thread_local int t_named = 0;

std::string ReadAll(int fd) {
  struct stat stat {};
  CAIRN_CHECK(fstat(fd, &stat) == 0);
  std::string content(static_cast<size_t>(stat.st_size), '\0');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t n = pread(fd, content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  content.resize(done);
  return content;
}

std::string PathOf(int fd) {
  std::error_code error;
  std::string path = fs::read_symlink("/proc/self/fd/" + std::to_string(fd), error).string();
  constexpr std::string_view kGone = " (deleted)";
  if (path.ends_with(kGone)) path.resize(path.size() - kGone.size());
  return path;
}

// Either, the same for the same seed, name and place.
bool Coin(uint64_t seed, const std::string& name, uint64_t place) {
  uint64_t hash = seed * 0x9E3779B97F4A7C15ull + place * 0xC2B2AE3D27D4EB4Full + std::hash<std::string>()(name);
  hash ^= hash >> 31;
  hash *= 0xBF58476D1CE4E5B9ull;
  return ((hash >> 40) & 1) != 0;
}
// Whether what there is now survived, of something that was not synced since.
bool Kept(uint64_t seed, const std::string& name, uint64_t place) {
  return seed == 0 ? false : seed == 1 ? true : Coin(seed, name, place);
}

}  // namespace

struct ForgetfulDisk::File {
  ~File() { close(fd); }
  int fd = -1;  // keeps the file, also when its name is gone, and its number from being used again
  bool synced = false;
  std::string content;  // as of the last sync
};

NamedSync::NamedSync() { ++t_named; }
NamedSync::~NamedSync() { --t_named; }

ForgetfulDisk::ForgetfulDisk(std::string directory) : directory_(fs::canonical(directory).string()) {
  NoteAll(directory_);
  std::lock_guard lock(g_mu);
  g_disks.insert(this);
}

ForgetfulDisk::~ForgetfulDisk() {
  std::lock_guard lock(g_mu);
  g_disks.erase(this);
}

void ForgetfulDisk::Ignore(std::function<bool(const std::string& path)> ignored) {
  std::lock_guard lock(mu_);
  ignored_ = std::move(ignored);
}

std::vector<std::string> ForgetfulDisk::Unnamed() {
  std::lock_guard lock(mu_);
  std::vector<std::string> paths;
  for (const auto& [path, count] : unnamed_) paths.push_back(path);
  return paths;
}

bool ForgetfulDisk::Note(int fd) {
  const std::string path = PathOf(fd);
  struct stat stat {};
  std::lock_guard all(g_mu);
  for (ForgetfulDisk* disk : g_disks) {
    if (path != disk->directory_ && !path.starts_with(disk->directory_ + "/")) continue;
    std::lock_guard lock(disk->mu_);
    if (t_named == 0) ++disk->unnamed_[path];
    if (disk->ignored_ && disk->ignored_(path)) return true;
    if (fstat(fd, &stat) != 0) return true;
    if (S_ISDIR(stat.st_mode)) {
      disk->names_[path] = disk->Listing(path);
    } else {
      disk->NoteFile(fd, {stat.st_dev, stat.st_ino});
    }
    return true;
  }
  return false;
}

void ForgetfulDisk::NoteFile(int fd, FileKey key) {
  auto& file = files_[key];
  if (file == nullptr) {
    file = std::make_unique<File>();
    file->fd = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC);
    CAIRN_CHECK(file->fd >= 0, "a synced file cannot be opened again");
  }
  file->synced = true;
  file->content = ReadAll(file->fd);
}

// What is there now; its files are known, and kept, from here on.
ForgetfulDisk::Names ForgetfulDisk::Listing(const std::string& directory) {
  Names names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    struct stat stat {};
    if (lstat(entry.path().c_str(), &stat) != 0) continue;  // removed meanwhile
    Entry& found = names[entry.path().filename().string()];
    found.is_directory = S_ISDIR(stat.st_mode);
    found.file = {stat.st_dev, stat.st_ino};
    if (found.is_directory || files_.contains(found.file)) continue;
    auto file = std::make_unique<File>();
    file->fd = open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file->fd >= 0) files_[found.file] = std::move(file);
  }
  return names;
}

void ForgetfulDisk::NoteAll(const std::string& directory) {
  names_[directory] = Listing(directory);
  for (const auto& [name, entry] : names_[directory]) {
    if (entry.is_directory) {
      NoteAll(directory + "/" + name);
    } else if (const auto found = files_.find(entry.file); found != files_.end()) {
      found->second->synced = true;
      found->second->content = ReadAll(found->second->fd);
    }
  }
}

std::string ForgetfulDisk::Contents(FileKey key, uint64_t seed, const std::string& path) {
  const auto found = files_.find(key);
  if (found == files_.end()) return {};
  const std::string& synced = found->second->content;
  if (seed == 0) return synced;
  const std::string now = ReadAll(found->second->fd);
  if (seed == 1) return now;
  std::string left;
  const size_t size = Coin(seed, path, UINT64_MAX) ? now.size() : synced.size();
  for (size_t at = 0; at < size; at += kPageBytes) {
    const std::string& from = Coin(seed, path, at) ? now : synced;
    left.resize(at);
    if (at < from.size()) left += from.substr(at, kPageBytes);
  }
  left.resize(size);
  return left;
}

void ForgetfulDisk::Materialize(const std::string& from, const std::string& to, uint64_t seed) {
  fs::create_directory(to);
  const Names now = Listing(from);
  const Names& synced = names_[from];
  std::set<std::string> all;
  for (const auto& [name, entry] : now) all.insert(name);
  for (const auto& [name, entry] : synced) all.insert(name);
  for (const std::string& name : all) {
    const auto is = now.find(name);
    const auto was = synced.find(name);
    const bool same = is != now.end() && was != synced.end() && is->second.file == was->second.file;
    const bool present = same || Kept(seed, from + "/" + name, 0);
    const Names& names = present ? now : synced;
    const auto entry = names.find(name);
    if (entry == names.end()) continue;
    if (entry->second.is_directory) {
      Materialize(from + "/" + name, to + "/" + name, seed);
    } else {
      std::ofstream(to + "/" + name, std::ios::binary) << Contents(entry->second.file, seed, from + "/" + name);
    }
  }
}

void ForgetfulDisk::Cut(const std::string& to, uint64_t seed) {
  std::lock_guard lock(mu_);
  CAIRN_CHECK(!fs::exists(to), "the place for what is left exists");
  Materialize(directory_, to, seed);
}

std::unique_ptr<ForgetfulDisk> ForgetfulDisk::Copy(const std::string& to) {
  fs::copy(directory_, to, fs::copy_options::recursive);
  auto copy = std::make_unique<ForgetfulDisk>(to);
  std::lock_guard lock(mu_);
  std::lock_guard other(copy->mu_);
  copy->files_.clear();
  copy->names_.clear();
  for (const auto& entry : fs::recursive_directory_iterator(directory_)) {
    const std::string there = copy->directory_ + entry.path().string().substr(directory_.size());
    if (entry.is_directory() || !fs::exists(there)) continue;
    struct stat here {}, stat {};
    if (lstat(entry.path().c_str(), &here) != 0 || lstat(there.c_str(), &stat) != 0) continue;
    const auto known = files_.find({here.st_dev, here.st_ino});
    auto file = std::make_unique<File>();
    file->fd = open(there.c_str(), O_RDONLY | O_CLOEXEC);
    if (known != files_.end()) {
      file->synced = known->second->synced;
      file->content = known->second->content;
    }
    copy->files_[{stat.st_dev, stat.st_ino}] = std::move(file);
  }
  // A name whose file is another one now, or gone, counts as never synced in the copy: nobody needs more yet.
  for (const auto& [path, names] : names_) {
    const std::string there = copy->directory_ + path.substr(directory_.size());
    if (!fs::exists(there)) continue;
    const Names present = copy->Listing(there);
    const Names here = Listing(path);
    for (const auto& [name, entry] : names) {
      const auto still = here.find(name);
      const auto copied = present.find(name);
      if (still != here.end() && still->second.file == entry.file && copied != present.end())
        copy->names_[there][name] = copied->second;
    }
  }
  return copy;
}

}  // namespace cairn::power

extern "C" {
int fsync(int fd) { return cairn::power::ForgetfulDisk::Note(fd) ? 0 : static_cast<int>(syscall(SYS_fsync, fd)); }
int fdatasync(int fd) {
  return cairn::power::ForgetfulDisk::Note(fd) ? 0 : static_cast<int>(syscall(SYS_fdatasync, fd));
}
}
