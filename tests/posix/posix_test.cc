#include "tests/posix/posix_test.h"

#include <grp.h>
#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <thread>

namespace cairn::posix {
namespace {

Target g_target;

}  // namespace

std::atomic<uint64_t> checks{0};

const Target& TheTarget() { return g_target; }
void SetTarget(const Target& target) { g_target = target; }

std::string ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return error == 0 ? "success" : name != nullptr ? name : "errno " + std::to_string(error);
}

std::string Pattern(uint64_t seed, size_t bytes) {
  std::mt19937_64 random(seed);
  std::string text(bytes, '\0');
  for (size_t at = 0; at < bytes; at += 8) {
    const uint64_t word = random();
    std::memcpy(text.data() + at, &word, std::min<size_t>(8, bytes - at));
  }
  return text;
}

void As(const User& user, const std::function<void()>& body) {
  // Credentials belong to a thread in Linux; the functions of the C library would change all threads.
  std::thread thread([&] {
    if (unshare(CLONE_FS) != 0) {
      ADD_FAILURE() << "unshare: " << std::strerror(errno);
      return;
    }
    if (syscall(SYS_setgroups, user.groups.size(), user.groups.data()) != 0 ||
        syscall(SYS_setresgid, user.gid, user.gid, user.gid) != 0 ||
        syscall(SYS_setresuid, user.uid, user.uid, user.uid) != 0) {
      ADD_FAILURE() << "cannot become uid " << user.uid << ": " << std::strerror(errno);
      return;
    }
    body();
  });
  thread.join();
}

bool Succeeds(const char* text, const char* file, int line, const std::function<int64_t()>& call) {
  ++checks;
  errno = 0;
  if (call() != -1) return true;
  ADD_FAILURE_AT(file, line) << text << " failed with " << ErrnoName(errno);
  return false;
}

bool FailsWith(const std::vector<int>& errors, const char* text, const char* file, int line,
               const std::function<int64_t()>& call) {
  ++checks;
  errno = 0;
  const int64_t result = call();
  const int error = errno;
  if (result == -1 && std::find(errors.begin(), errors.end(), error) != errors.end()) return true;
  std::string expected;
  for (const int wanted : errors) expected += (expected.empty() ? "" : " or ") + ErrnoName(wanted);
  ADD_FAILURE_AT(file, line) << text << " should fail with " << expected << ", but "
                             << (result == -1 ? "failed with " + ErrnoName(error)
                                              : "answered " + std::to_string(result));
  return false;
}

void PosixTest::SetUp() {
  if (geteuid() != 0) GTEST_SKIP() << "the suite changes users and makes devices: run it as root";
  static int number = 0;
  umask(022);
  relative_ = "case-" + std::to_string(++number);
  directory_ = TheTarget().directory + "/" + relative_;
  ASSERT_EQ(mkdir(directory_.c_str(), 0755), 0) << directory_ << ": " << std::strerror(errno);
}

void PosixTest::TearDown() {
  for (const int descriptor : descriptors_) close(descriptor);
  if (directory_.empty()) return;
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
  EXPECT_FALSE(error) << "cannot clean up " << directory_ << ": " << error.message();
}

const char* PosixTest::P(const std::string& name) {
  paths_.push_back(std::make_unique<std::string>(name.empty() ? directory_ : directory_ + "/" + name));
  return paths_.back()->c_str();
}

std::string PosixTest::ReadOnly(const std::string& name) const {
  return TheTarget().read_only_directory + "/" + relative_ + "/" + name;
}

void PosixTest::MakeFile(const std::string& name, const std::string& content, mode_t mode) {
  const int fd = open(P(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  ASSERT_GE(fd, 0) << name << ": " << std::strerror(errno);
  ASSERT_EQ(write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
  ASSERT_EQ(fchmod(fd, mode), 0);
  ASSERT_EQ(close(fd), 0);
}

std::string PosixTest::Content(const std::string& name) {
  const int fd = open(P(name), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "(" + ErrnoName(errno) + ")";
  std::string text;
  char buffer[65536];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
  close(fd);
  return text;
}

struct stat PosixTest::Stat(const std::string& name) {
  struct stat info {};
  EXPECT_EQ(stat(P(name), &info), 0) << name << ": " << std::strerror(errno);
  return info;
}

struct stat PosixTest::Lstat(const std::string& name) {
  struct stat info {};
  EXPECT_EQ(lstat(P(name), &info), 0) << name << ": " << std::strerror(errno);
  return info;
}

std::vector<std::string> PosixTest::List(const std::string& name) {
  std::vector<std::string> names;
  DIR* stream = opendir(P(name));
  if (stream == nullptr) return {"(" + ErrnoName(errno) + ")"};
  while (const dirent* entry = readdir(stream)) {
    const std::string found = entry->d_name;
    if (found != "." && found != "..") names.push_back(found);
  }
  closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

int PosixTest::Open(const std::string& name, int flags, mode_t mode) {
  const int fd = open(P(name), flags | O_CLOEXEC, mode);
  EXPECT_GE(fd, 0) << name << ": " << std::strerror(errno);
  if (fd >= 0) descriptors_.push_back(fd);
  return fd;
}

}  // namespace cairn::posix
