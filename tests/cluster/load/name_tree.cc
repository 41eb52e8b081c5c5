#include "tests/cluster/load/name_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace cairn::cluster_test {
namespace {

constexpr int kNames = 14;
constexpr size_t kMostStates = 256;  // after failures; more than that says nothing any more

std::string FileValue(uint64_t number) {
  char text[8];
  std::snprintf(text, sizeof text, "f%03llo", static_cast<unsigned long long>(number % 64));
  return text;
}

bool Definite(int error) {
  return error == EEXIST || error == ENOENT || error == ENOTDIR || error == EISDIR || error == ENOTEMPTY;
}

}  // namespace

int NameTree::Open(int mount_fd) {
  Close();
  if (mkdirat(mount_fd, name_.c_str(), 0755) != 0 && errno != EEXIST) return errno;
  fd_ = openat(mount_fd, name_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd_ < 0) return errno;
  return fsync(mount_fd) == 0 ? 0 : errno;  // the directory itself is no part of the question
}

void NameTree::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

// `apply` changes the state and returns 0, or returns the errno that POSIX demands in that state.
template <typename Apply>
int NameTree::Note(int error, const std::string& what, const Apply& apply) {
  States next;
  for (const State& state : current_) {
    State after = state;
    const int expected = apply(after);
    if (error == 0) {
      if (expected == 0) next.insert(after);
    } else if (Definite(error)) {
      if (expected != 0) next.insert(state);
    } else {
      next.insert(state);
      if (expected == 0) next.insert(after);
    }
  }
  if (next.empty()) {
    contradictions_.push_back(name_ + ": " + what + " answered " +
                              (error == 0 ? "success" : std::strerror(error)) + ", but the directory holds " +
                              Show(*current_.begin()));
    next = current_;
  }
  while (next.size() > kMostStates) next.erase(std::prev(next.end()));
  current_ = std::move(next);
  history_.push_back(current_);
  return error;
}

int NameTree::Create(const std::string& name, char kind, uint64_t number, bool sync, LoadCounts& counts) {
  const std::string value = kind == 'l'   ? "l" + std::to_string(number)
                            : kind == 'd' ? "d"
                                          : FileValue(number);
  int error = 0;
  int fd = -1;
  if (kind == 'l') {
    error = symlinkat(value.c_str(), fd_, name.c_str()) == 0 ? 0 : errno;
  } else if (kind == 'd') {
    error = mkdirat(fd_, name.c_str(), 0755) == 0 ? 0 : errno;
  } else {
    const mode_t mode = static_cast<mode_t>(0600 | (number % 64));
    fd = openat(fd_, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    error = fd >= 0 ? 0 : errno;
  }
  Note(error, "create " + name + " as " + value,
       [&](State& state) { return state.emplace(name, value).second ? 0 : EEXIST; });
  if (fd < 0) return error;
  const std::string content(100 + number % 9000, static_cast<char>('a' + number % 26));
  if (write(fd, content.data(), content.size()) < 0) error = errno;
  if (sync && error == 0) {
    error = fsync(fd) == 0 ? 0 : errno;
    ++counts.syncs;
    if (error == 0) Synced();
  }
  if (close(fd) != 0 && error == 0) error = errno;
  return error;
}

int NameTree::Remove(const std::string& name) {
  int error = unlinkat(fd_, name.c_str(), 0) == 0 ? 0 : errno;
  if (error == EISDIR) {
    error = unlinkat(fd_, name.c_str(), AT_REMOVEDIR) == 0 ? 0 : errno;
  }
  return Note(error, "remove " + name, [&](State& state) { return state.erase(name) != 0 ? 0 : ENOENT; });
}

int NameTree::Rename(const std::string& from, const std::string& to) {
  const int error = renameat(fd_, from.c_str(), fd_, to.c_str()) == 0 ? 0 : errno;
  return Note(error, "rename " + from + " to " + to, [&](State& state) {
    const auto source = state.find(from);
    if (source == state.end()) return ENOENT;
    if (from == to) return 0;
    const auto target = state.find(to);
    if (target != state.end() && (target->second == "d") != (source->second == "d"))
      return target->second == "d" ? EISDIR : ENOTDIR;
    state[to] = source->second;
    state.erase(from);
    return 0;
  });
}

int NameTree::Sync() {
  if (fsync(fd_) != 0) return errno;
  Synced();
  return 0;
}

int NameTree::Step(std::mt19937_64& random, LoadCounts& counts) {
  const std::string name = "e" + std::to_string(random() % kNames);
  const std::string other = "e" + std::to_string(random() % kNames);
  const uint64_t dice = random() % 100;
  int error = 0;
  if (dice < 45) {
    const char kinds[] = {'l', 'f', 'f', 'd'};
    error = Create(name, kinds[random() % 4], ++last_number_, random() % 3 == 0, counts);
  } else if (dice < 65) {
    error = Remove(name);
  } else if (dice < 85) {
    error = Rename(name, other);
  } else {
    error = Sync();
    ++counts.syncs;
  }
  ++counts.operations;
  if (Definite(error)) return 0;
  if (error != 0) ++counts.errors;
  return error;
}

int NameTree::Look(int fd, State* state) const {
  const int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (again < 0) return errno;
  DIR* directory = fdopendir(again);
  int error = 0;
  errno = 0;
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat info {};
    if (fstatat(fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      error = errno;
      break;
    }
    std::string value = "d";
    if (S_ISLNK(info.st_mode)) {
      char target[64];
      const ssize_t n = readlinkat(fd, name.c_str(), target, sizeof target);
      value = n < 0 ? "unreadable link" : std::string(target, static_cast<size_t>(n));
    } else if (S_ISREG(info.st_mode)) {
      value = FileValue(info.st_mode & 077);
    }
    (*state)[name] = value;
    errno = 0;
  }
  if (error == 0) error = errno;
  closedir(directory);
  return error;
}

std::string NameTree::Show(const State& state) {
  std::string text = "{";
  for (const auto& [name, value] : state) text += " " + name + "=" + value;
  return text + " }";
}

void NameTree::Check(int mount_fd, Kept kept, bool settle, std::vector<std::string>& problems) {
  problems.insert(problems.end(), contradictions_.begin(), contradictions_.end());
  contradictions_.clear();
  const int fd = openat(mount_fd, name_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  State seen;
  const int error = fd < 0 ? errno : Look(fd, &seen);
  if (error != 0) problems.push_back(name_ + " cannot be listed: " + std::strerror(error));
  bool allowed = current_.contains(seen);
  if (kept == Kept::kSynced) {
    for (const States& states : history_) allowed = allowed || states.contains(seen);
  }
  if (!allowed && error == 0) {
    std::string text = name_ + " holds\n  " + Show(seen) + "\nwhich is none of its " +
                       std::to_string(history_.size()) + " states since the last sync\n  synced " +
                       Show(*history_.front().begin()) + "\n  last   " + Show(*current_.begin());
    problems.push_back(text);
  }
  if (!settle) {
    if (fd >= 0) close(fd);
    return;
  }
  current_ = {seen};
  if (fd >= 0 && fsync(fd) != 0)
    problems.push_back(name_ + ": fsync after the check: " + std::strerror(errno));
  Synced();
  if (fd >= 0) close(fd);
}

}  // namespace cairn::cluster_test
