// The same random sequence of calls on a local directory and on Cairn, through
// one mount and through several in turn. After each step outcome and errno
// agree, and what the call touched looks the same through another mount; now
// and then the whole trees are compared: names, types, modes, owners, links,
// sizes, contents, targets, attributes.
//
// CAIRN_MODEL_SEED (first seed), CAIRN_MODEL_RUNS, CAIRN_MODEL_STEPS for longer
// runs. A failure names the seed and the step.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <sstream>

#include "tests/cluster/harness.h"

namespace cairn::posix {
namespace {
namespace fs = std::filesystem;
using cluster_test::Figure;
using cluster_test::LocalCluster;
using cluster_test::Pattern;

int NumberFrom(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::atoi(text) : otherwise;
}

std::string ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return error == 0 ? "success" : name != nullptr ? name : std::to_string(error);
}

std::string ContentOf(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "(" + ErrnoName(errno) + ")";
  std::string text;
  char buffer[65536];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
  close(fd);
  return text;
}

// What one inode looks like; times are the file system's own affair.
std::string Describe(const std::string& path, bool content) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return ErrnoName(errno);
  std::ostringstream text;
  text << std::oct << info.st_mode << std::dec << " links " << info.st_nlink << " owner " << info.st_uid
       << ":" << info.st_gid;
  if (!S_ISDIR(info.st_mode)) text << " size " << info.st_size;
  if (S_ISLNK(info.st_mode)) text << " -> " << fs::read_symlink(path).string();
  if (!S_ISLNK(info.st_mode)) {
    char list[4096];
    const ssize_t n = listxattr(path.c_str(), list, sizeof list);
    std::vector<std::string> names;
    for (ssize_t at = 0; at < n; at += static_cast<ssize_t>(names.back().size()) + 1)
      names.emplace_back(list + at);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      char value[4096];
      const ssize_t bytes = getxattr(path.c_str(), name.c_str(), value, sizeof value);
      text << " " << name << "=" << std::string(value, bytes > 0 ? static_cast<size_t>(bytes) : 0);
    }
  }
  if (content && S_ISREG(info.st_mode)) text << " content " << std::hash<std::string>()(ContentOf(path));
  return text.str();
}

std::string DescribeTree(const std::string& root) {
  std::vector<std::string> lines;
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(root, error);
       !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    lines.push_back(it->path().string().substr(root.size()) + " " + Describe(it->path().string(), true));
  }
  if (error) return "listing failed: " + error.message();
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// An outcome as it is compared.
std::string Outcome(int64_t result) {
  const int error = errno;
  return result < 0 ? ErrnoName(error) : std::to_string(result);
}

class Model {
 public:
  Model(uint64_t seed, std::string reference, std::vector<std::string> mounts)
      : random_(seed), reference_(std::move(reference)), mounts_(std::move(mounts)) {}
  ~Model() { CloseAll(); }

  // False after a difference, which is reported.
  bool Step(int number) {
    touched_.clear();
    const std::string* mount = &mounts_[random_() % mounts_.size()];
    const std::string difference = handles_.empty() || random_() % 3 != 0 ? NameStep(*mount) : HandleStep();
    if (!difference.empty()) {
      ADD_FAILURE() << "step " << number << " through " << *mount << ": " << difference;
      return false;
    }
    const std::string& viewer = mounts_[random_() % mounts_.size()];
    for (const std::string& path : touched_) {
      const std::string expected = Describe(reference_ + path, true), got = Describe(viewer + path, true);
      if (expected == got) continue;
      ADD_FAILURE() << "step " << number << ": " << what_ << "\n"
                    << path << " through " << viewer << " is\n  " << got << "\nand should be\n  " << expected;
      return false;
    }
    if (number % 100 == 99) {
      const std::string expected = DescribeTree(reference_), got = DescribeTree(viewer);
      if (expected != got) {
        ADD_FAILURE() << "step " << number << ": the tree through " << viewer << " is\n"
                      << got << "and should be\n"
                      << expected;
        return false;
      }
    }
    return true;
  }

  void CloseAll() {
    for (const Handle& handle : handles_) {
      close(handle.reference);
      close(handle.cairn);
    }
    handles_.clear();
  }

 private:
  struct Handle {
    int reference, cairn;
    std::string path;
  };

  // Few names, so that they meet.
  std::string Path() {
    std::string path;
    const int depth = static_cast<int>(random_() % 3);
    for (int i = 0; i < depth; ++i) path += "/d" + std::to_string(random_() % 3);
    const char* kinds[] = {"/f", "/f", "/f", "/d", "/l"};
    return path + kinds[random_() % 5] + std::to_string(random_() % 4);
  }
  off_t Offset() {
    switch (random_() % 4) {
      case 0:
        return static_cast<off_t>(random_() % 10);
      case 1:
        return static_cast<off_t>(random_() % 64) * 4096;
      default:
        return static_cast<off_t>(random_() % 200'000);
    }
  }

  // The same call on both sides; "" if outcome and errno agree.
  std::string Both(const std::string& what, const std::string& mount,
                   const std::function<int64_t(const std::string& root)>& call) {
    what_ = what;
    const std::string expected = Outcome(call(reference_)), got = Outcome(call(mount));
    return expected == got ? "" : what + " answered " + got + ", should be " + expected;
  }

  std::string NameStep(const std::string& mount) {
    const std::string a = Path(), b = Path();
    touched_ = {a};
    switch (random_() % 17) {
      case 0:
      case 1:
      case 2:
        return OpenStep(a, mount);
      case 3:
        return Both("mkdir " + a, mount, [&](const std::string& r) { return mkdir((r + a).c_str(), 0755); });
      case 4:
        return Both("rmdir " + a, mount, [&](const std::string& r) { return rmdir((r + a).c_str()); });
      case 5:
        return Both("unlink " + a, mount, [&](const std::string& r) { return unlink((r + a).c_str()); });
      case 6:
      case 7: {
        touched_.push_back(b);
        const unsigned flags = random_() % 3 == 0 ? 1 + random_() % 2 : 0;  // NOREPLACE, EXCHANGE
        return Both("rename " + a + " " + b + " flags " + std::to_string(flags), mount,
                    [&](const std::string& r) {
                      return renameat2(AT_FDCWD, (r + a).c_str(), AT_FDCWD, (r + b).c_str(), flags);
                    });
      }
      case 8:
        touched_.push_back(b);
        return Both("link " + a + " " + b, mount,
                    [&](const std::string& r) { return link((r + a).c_str(), (r + b).c_str()); });
      case 9:
        return Both("symlink " + a, mount,
                    [&](const std::string& r) { return symlink(("." + b).c_str(), (r + a).c_str()); });
      case 10: {
        const mode_t mode = random_() % 07777;
        return Both("chmod " + a, mount,
                    [&](const std::string& r) { return chmod((r + a).c_str(), mode | 0700); });
      }
      case 11: {
        const uid_t uid = static_cast<uid_t>(random_() % 3);
        return Both("lchown " + a, mount,
                    [&](const std::string& r) { return lchown((r + a).c_str(), uid, uid); });
      }
      case 12: {
        const off_t size = Offset();
        return Both("truncate " + a + " to " + std::to_string(size), mount,
                    [&](const std::string& r) { return truncate((r + a).c_str(), size); });
      }
      case 13: {
        const std::string name = "user.x" + std::to_string(random_() % 3),
                          value = std::to_string(random_() % 1000);
        const int flags = static_cast<int>(random_() % 3);
        return Both("setxattr " + a, mount, [&](const std::string& r) {
          return setxattr((r + a).c_str(), name.c_str(), value.data(), value.size(), flags);
        });
      }
      case 14:
        return Both("removexattr " + a, mount,
                    [&](const std::string& r) { return removexattr((r + a).c_str(), "user.x0"); });
      case 15: {
        const mode_t kinds[] = {S_IFREG, S_IFIFO, S_IFSOCK};
        const mode_t kind = kinds[random_() % 3];
        return Both("mknod " + a, mount,
                    [&](const std::string& r) { return mknod((r + a).c_str(), kind | 0644, 0); });
      }
      default:
        return Both("stat " + a, mount, [&](const std::string& r) {
          struct stat info {};
          const int result = stat((r + a).c_str(), &info);
          return result == 0 ? static_cast<int64_t>(info.st_mode) : -1;
        });
    }
  }

  std::string OpenStep(const std::string& a, const std::string& mount) {
    const int access[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR};
    int flags = access[random_() % 5] | O_NONBLOCK | O_CLOEXEC;  // not blocking: FIFOs
    if (random_() % 2 == 0) flags |= O_CREAT;
    if (random_() % 6 == 0) flags |= O_EXCL;
    if (random_() % 6 == 0) flags |= O_TRUNC;
    if (random_() % 4 == 0) flags |= O_APPEND;
    if (random_() % 12 == 0) flags |= O_NOFOLLOW;
    what_ = "open " + a + " flags " + std::to_string(flags);
    const int expected = open((reference_ + a).c_str(), flags, 0644);
    const std::string reference = expected < 0 ? ErrnoName(errno) : "a descriptor";
    const int fd = open((mount + a).c_str(), flags, 0644);
    const std::string got = fd < 0 ? ErrnoName(errno) : "a descriptor";
    struct stat info {};
    const bool keep = expected >= 0 && fd >= 0 && fstat(expected, &info) == 0 && S_ISREG(info.st_mode) &&
                      handles_.size() < 6;
    if (keep) {
      handles_.push_back({expected, fd, a});
    } else {
      if (expected >= 0) close(expected);
      if (fd >= 0) close(fd);
    }
    return reference == got ? "" : what_ + " gave " + got + ", should be " + reference;
  }

  std::string OnHandle(const Handle& handle, const std::string& what,
                       const std::function<int64_t(int fd)>& call) {
    what_ = what + " of " + handle.path;
    const std::string expected = Outcome(call(handle.reference)), got = Outcome(call(handle.cairn));
    return expected == got ? "" : what_ + " answered " + got + ", should be " + expected;
  }

  std::string HandleStep() {
    const size_t index = random_() % handles_.size();
    const Handle handle = handles_[index];
    const off_t at = Offset();
    const size_t length = 1 + random_() % (random_() % 4 == 0 ? 150'000 : 5'000);
    switch (random_() % 10) {
      case 0:
      case 1: {
        const std::string data = Pattern(random_(), length);
        return OnHandle(handle, "pwrite " + std::to_string(length) + " at " + std::to_string(at),
                        [&](int fd) { return pwrite(fd, data.data(), data.size(), at); });
      }
      case 2: {
        const std::string data = Pattern(random_(), length);
        return OnHandle(handle, "write", [&](int fd) { return write(fd, data.data(), data.size()); });
      }
      case 3:
        return OnHandle(handle, "ftruncate to " + std::to_string(at),
                        [&](int fd) { return ftruncate(fd, at); });
      case 4: {
        const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                             FALLOC_FL_ZERO_RANGE};
        const int mode = modes[random_() % 4];
        return OnHandle(handle, "fallocate " + std::to_string(mode),
                        [&](int fd) { return fallocate(fd, mode, at, static_cast<off_t>(length)); });
      }
      case 5:
        return OnHandle(handle, "fsync", [](int fd) { return fsync(fd); });
      case 6: {
        const std::string difference = OnHandle(handle, "close", [](int fd) { return close(fd); });
        handles_.erase(handles_.begin() + static_cast<ptrdiff_t>(index));
        return difference;
      }
      case 7:
        return OnHandle(handle, "fstat", [](int fd) {
          struct stat info {};
          return fstat(fd, &info) == 0 ? info.st_size * 100 + static_cast<int64_t>(info.st_nlink) : -1;
        });
      default: {
        std::string expected(length, '\0'), got(length, '\0');
        const std::string difference =
            OnHandle(handle, "pread " + std::to_string(length) + " at " + std::to_string(at), [&](int fd) {
              return pread(fd, fd == handle.reference ? expected.data() : got.data(), length, at);
            });
        return difference.empty() && expected != got ? what_ + ": other bytes" : difference;
      }
    }
  }

  std::mt19937_64 random_;
  const std::string reference_;
  const std::vector<std::string> mounts_;
  std::vector<Handle> handles_;
  std::vector<std::string> touched_;
  std::string what_;
};

class ModelTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "changes owners: run it as root";
    if (access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "/dev/fuse is not accessible";
    umask(022);
    char name[] = "/var/tmp/cairn-model-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    reference_ = name;
    cluster_ = LocalCluster::Start();
    ASSERT_NE(cluster_, nullptr);
  }
  void TearDown() override {
    cluster_.reset();
    std::error_code error;
    if (!reference_.empty()) fs::remove_all(reference_, error);
  }
  void RunSeeds(const std::vector<std::string>& mounts, int otherwise_steps) {
    const int first = NumberFrom("CAIRN_MODEL_SEED", 1), runs = NumberFrom("CAIRN_MODEL_RUNS", 2);
    const int steps = NumberFrom("CAIRN_MODEL_STEPS", otherwise_steps);
    for (int seed = first; seed < first + runs; ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      const std::string name = "/run" + std::to_string(seed);
      fs::create_directories(reference_ + name);
      fs::create_directories(mounts[0] + name);
      std::vector<std::string> roots;
      for (const std::string& mount : mounts) roots.push_back(mount + name);
      Model model(static_cast<uint64_t>(seed), reference_ + name, roots);
      for (int step = 0; step < steps; ++step) {
        if (!model.Step(step)) return;
      }
      model.CloseAll();
      ASSERT_EQ(DescribeTree(roots[0]), DescribeTree(reference_ + name));
    }
    Figure(std::to_string(runs) + " seeds of " + std::to_string(steps) + " steps through " +
           std::to_string(mounts.size()) + " mounts: no difference");
  }

  std::string reference_;
  std::unique_ptr<LocalCluster> cluster_;
};

TEST_F(ModelTest, OneMountDoesWhatALocalFileSystemDoes) { RunSeeds({cluster_->mount()}, 3'000); }

TEST_F(ModelTest, ThreeMountsInTurnDoToo) {
  RunSeeds({cluster_->mount(), cluster_->AddMount("allow_other"), cluster_->AddMount("allow_other")}, 1'500);
}

}  // namespace
}  // namespace cairn::posix
