// readdir, telldir, seekdir, getdents: completeness and stability while the directory changes.
#include <sys/syscall.h>

#include <cstdlib>
#include <map>
#include <set>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

class DirectoryTest : public PosixTest {
 protected:
  void MakeMany(const std::string& name, int count) {
    OK(mkdir(P(name), 0755));
    const int fd = Open(name, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < count; ++i) {
      ASSERT_EQ(mknodat(fd, ("entry-" + std::to_string(i)).c_str(), S_IFREG | 0644, 0), 0)
          << std::strerror(errno);
    }
  }
  std::string Next(DIR* stream) {
    const dirent* entry = readdir(stream);
    return entry == nullptr ? "" : entry->d_name;
  }
};

TEST_F(DirectoryTest, AnEmptyDirectoryHasTheTwoDots) {
  OK(mkdir(P("d"), 0755));
  DIR* stream = opendir(P("d"));
  ASSERT_NE(stream, nullptr);
  std::map<std::string, ino_t> found;
  while (const dirent* entry = readdir(stream)) {
    found[entry->d_name] = entry->d_ino;
    IS(DT_DIR, entry->d_type);
  }
  closedir(stream);
  IS(2u, found.size());
  IS(Stat("d").st_ino, found["."]);
  IS(Stat("").st_ino, found[".."]);
}

TEST_F(DirectoryTest, EntriesHaveTheirTypeAndNumber) {
  MakeFile("file");
  OK(mkdir(P("dir"), 0755));
  OK(symlink("x", P("link")));
  OK(mkfifo(P("fifo"), 0600));
  OK(mknod(P("socket"), S_IFSOCK | 0600, 0));
  OK(mknod(P("char"), S_IFCHR | 0600, 0x103));
  const std::map<std::string, int> types = {{"file", DT_REG},  {"dir", DT_DIR},     {"link", DT_LNK},
                                            {"fifo", DT_FIFO}, {"socket", DT_SOCK}, {"char", DT_CHR}};
  DIR* stream = opendir(P(""));
  ASSERT_NE(stream, nullptr);
  size_t seen = 0;
  while (const dirent* entry = readdir(stream)) {
    const auto type = types.find(entry->d_name);
    if (type == types.end()) continue;
    ++seen;
    IS(type->second, entry->d_type);
    IS(Lstat(entry->d_name).st_ino, entry->d_ino);
  }
  closedir(stream);
  IS(types.size(), seen);
}

TEST_F(DirectoryTest, RewindShowsWhatIsNew) {
  MakeFile("a");
  DIR* stream = opendir(P(""));
  ASSERT_NE(stream, nullptr);
  while (readdir(stream) != nullptr) {
  }
  MakeFile("b");
  OK(unlink(P("a")));
  rewinddir(stream);
  std::set<std::string> names;
  for (std::string name; !(name = Next(stream)).empty();) names.insert(name);
  closedir(stream);
  IS((std::set<std::string>{".", "..", "b"}), names);
}

TEST_F(DirectoryTest, TelldirAndSeekdirReturnToTheSameEntry) {
  MakeMany("d", 500);
  DIR* stream = opendir(P("d"));
  ASSERT_NE(stream, nullptr);
  std::vector<std::pair<long, std::string>> places;
  for (;;) {
    const long place = telldir(stream);
    const std::string name = Next(stream);
    if (name.empty()) break;
    places.emplace_back(place, name);
  }
  IS(502u, places.size());
  for (size_t i = 0; i < places.size(); i += 37) {
    seekdir(stream, places[i].first);
    IS(places[i].second, Next(stream));
  }
  for (size_t i = places.size(); i-- > 490;) {
    seekdir(stream, places[i].first);
    IS(places[i].second, Next(stream));
  }
  closedir(stream);
}

// While others are added and removed, what stays is seen exactly once, also across a seek.
TEST_F(DirectoryTest, WhatStaysIsSeenOnceWhileTheDirectoryChanges) {
  MakeMany("d", 2'000);
  const int fd = Open("d", O_RDONLY | O_DIRECTORY);
  DIR* stream = opendir(P("d"));
  ASSERT_NE(stream, nullptr);
  std::map<std::string, int> seen;
  int step = 0;
  for (std::string name; !(name = Next(stream)).empty(); ++step) {
    ++seen[name];
    if (step % 10 == 0) {
      // Odd numbers go, new names come.
      unlinkat(fd, ("entry-" + std::to_string(step * 2 % 2'000 + 1)).c_str(), 0);
      mknodat(fd, ("new-" + std::to_string(step)).c_str(), S_IFREG | 0600, 0);
    }
    if (step % 300 == 299) {
      const long place = telldir(stream);
      seekdir(stream, place);
    }
    ASSERT_LT(step, 10'000) << "the listing does not end";
  }
  closedir(stream);
  for (int i = 0; i < 2'000; i += 2) {
    const int times = seen["entry-" + std::to_string(i)];
    if (times != 1) ADD_FAILURE() << "entry-" << i << " was seen " << times << " times";
    ++checks;
  }
  for (const auto& [name, times] : seen) {
    if (times > 1) ADD_FAILURE() << name << " was seen " << times << " times";
  }
}

TEST_F(DirectoryTest, RemovingWhatIsReadEmptiesTheDirectory) {
  MakeMany("d", 3'000);
  const int fd = Open("d", O_RDONLY | O_DIRECTORY);
  DIR* stream = opendir(P("d"));
  ASSERT_NE(stream, nullptr);
  int removed = 0;
  for (std::string name; !(name = Next(stream)).empty();) {
    if (name == "." || name == "..") continue;
    ASSERT_EQ(unlinkat(fd, name.c_str(), 0), 0) << name;
    ++removed;
  }
  closedir(stream);
  IS(3'000, removed);
  OK(rmdir(P("d")));
}

TEST_F(DirectoryTest, RenamingWhatIsReadComesToAnEnd) {
  MakeMany("d", 300);
  const int fd = Open("d", O_RDONLY | O_DIRECTORY);
  DIR* stream = opendir(P("d"));
  ASSERT_NE(stream, nullptr);
  int steps = 0;
  for (std::string name; !(name = Next(stream)).empty() && steps < 5'000; ++steps) {
    if (name.starts_with("entry-")) OK(renameat(fd, name.c_str(), fd, ("renamed-" + name).c_str()));
  }
  closedir(stream);
  HOLDS(steps < 1'000);
  IS(300u, List("d").size());
}

// 100,000 by default on a local file system, 20,000 elsewhere; CAIRN_POSIX_ENTRIES sets another number (a million, say).
TEST_F(DirectoryTest, ManyEntries) {
  const char* wanted = std::getenv("CAIRN_POSIX_ENTRIES");
  const int count = wanted != nullptr ? std::atoi(wanted) : TheTarget().local ? 100'000 : 20'000;
  MakeMany("d", count);
  DIR* stream = opendir(P("d"));
  ASSERT_NE(stream, nullptr);
  std::set<std::string> names;
  size_t entries = 0;
  for (std::string name; !(name = Next(stream)).empty(); ++entries) names.insert(name);
  closedir(stream);
  IS(static_cast<size_t>(count) + 2, entries);
  IS(entries, names.size());
  FAILS(ENOTEMPTY, rmdir(P("d")));
  FAILS(EEXIST, mkdir(P("d/entry-" + std::to_string(count / 2)), 0755));
  FAILS(ENOENT, access(P("d/entry-" + std::to_string(count)), F_OK));
  OK(access(P("d/entry-" + std::to_string(count - 1)), F_OK));
}

TEST_F(DirectoryTest, GetdentsErrors) {
  MakeFile("f");
  char buffer[4096];
  FAILS(ENOTDIR, syscall(SYS_getdents64, Open("f", O_RDONLY), buffer, sizeof buffer));
  FAILS(EBADF, syscall(SYS_getdents64, 987654, buffer, sizeof buffer));
  const int fd = Open("", O_RDONLY | O_DIRECTORY);
  FAILS(EINVAL, syscall(SYS_getdents64, fd, buffer, 1));
  const int again = Open("", O_RDONLY | O_DIRECTORY);
  FAILS(EFAULT, syscall(SYS_getdents64, again, 1, 4096));
  OK(mkdir(P("gone"), 0755));
  const int gone = Open("gone", O_RDONLY | O_DIRECTORY);
  OK(rmdir(P("gone")));
  FAILS(ENOENT, syscall(SYS_getdents64, gone, buffer, sizeof buffer));
}

TEST_F(DirectoryTest, AllBufferSizesGiveAllEntries) {
  MakeMany("d", 200);
  for (const size_t size : {64u, 280u, 1'000u, 4'096u, 65'536u}) {
    SCOPED_TRACE(size);
    const int fd = open(P("d"), O_RDONLY | O_DIRECTORY);
    std::vector<char> buffer(size);
    std::set<std::string> names;
    for (;;) {
      const int64_t n = syscall(SYS_getdents64, fd, buffer.data(), size);
      ASSERT_GE(n, 0) << std::strerror(errno);
      if (n == 0) break;
      for (int64_t at = 0; at < n;) {
        const auto* entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
        HOLDS(names.insert(entry->d_name).second);
        at += entry->d_reclen;
      }
    }
    close(fd);
    IS(202u, names.size());
  }
}

TEST_F(DirectoryTest, ADirectoryOpenedBeforeChmodStaysReadable) {
  OK(mkdir(P("d"), 0755));
  MakeFile("d/f");
  OpenToAll();
  As(kAlice, [&] {
    const int fd = open(P("d"), O_RDONLY | O_DIRECTORY);
    ASSERT_GE(fd, 0);
    char buffer[4096];
    HOLDS(syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0);
    close(fd);
  });
  OK(chmod(P("d"), 0700));
  As(kAlice, [&] { FAILS(EACCES, open(P("d"), O_RDONLY | O_DIRECTORY)); });
}

TEST_F(DirectoryTest, DeepTreesAreWalkedAndRemoved) {
  std::string path = "d";
  for (int depth = 0; depth < 60; ++depth) {
    OK(mkdir(P(path), 0755));
    MakeFile(path + "/f", std::to_string(depth));
    path += "/s";
  }
  std::string at = "d";
  for (int depth = 0; depth < 60; ++depth) {
    IS(std::to_string(depth), Content(at + "/f"));
    at += "/s";
  }
}

// Deeper than a path can name: by steps, as fts(3) goes.
TEST_F(DirectoryTest, ThereIsNoLimitToTheDepth) {
  constexpr int kLevels = 3'000;
  OK(mkdir(P("top"), 0755));
  int at = open(P("top"), O_RDONLY | O_DIRECTORY);
  const auto step = [&](const char* name) {
    const int next = openat(at, name, O_RDONLY | O_DIRECTORY);
    close(at);
    at = next;
    return at >= 0;
  };
  for (int level = 0; level < kLevels; ++level) {
    ASSERT_EQ(mkdirat(at, "d", 0755), 0) << level;
    ASSERT_TRUE(step("d")) << level;
  }
  const int file = openat(at, "f", O_CREAT | O_RDWR, 0644);
  IS(5, write(file, "hello", 5));
  close(file);
  FAILS(EINVAL, renameat(AT_FDCWD, P("top"), at, "x"));
  OK(renameat(at, "f", AT_FDCWD, P("f")));
  IS(std::string("hello"), Content("f"));
  ino_t above = 0;
  for (int level = kLevels; level > 0; --level) {
    struct stat here {}, listed {};
    ASSERT_EQ(fstat(at, &here), 0);
    if (level < kLevels) {
      ASSERT_EQ(here.st_ino, above);
    }
    ASSERT_TRUE(step("..")) << level;
    ASSERT_EQ(fstatat(at, "d", &listed, 0), 0);
    ASSERT_EQ(listed.st_ino, here.st_ino);
    ASSERT_EQ(fstat(at, &listed), 0);
    above = listed.st_ino;
    ASSERT_EQ(unlinkat(at, "d", AT_REMOVEDIR), 0) << level;
  }
  close(at);
  OK(rmdir(P("top")));
}

}  // namespace
}  // namespace cairn::posix
