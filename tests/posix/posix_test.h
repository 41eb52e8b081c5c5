// The conformance suite's harness: a fresh directory per case below the directory under test, checks that are
// counted, and other users.
//
//   TEST_F(NameTest, MkdirRefusesAnExistingName) {
//     OK(mkdir(P("d"), 0755));
//     FAILS(EEXIST, mkdir(P("d"), 0755));
//     As(kAlice, [&] { FAILS(EACCES, mkdir(P("e"), 0755)); });
//   }
// The suite knows nothing of Cairn: main.cc gives it a directory, of a local file system or of a mount. What
// file systems may decide differently is a property of the target that is probed or written down (Target).
// Thread-safety: As() runs its function in another thread and waits for it; otherwise one thread.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cairn::posix {

struct Target {
  std::string directory;            // writable by root, of the file system under test
  std::string read_only_directory;  // the same directory through a read-only mount; empty: none
  std::string other_file_system;    // a directory elsewhere, for EXDEV
  bool local = false;               // an ordinary local file system
};
const Target& TheTarget();
void SetTarget(const Target& target);

// Expectations evaluated so far.
extern std::atomic<uint64_t> checks;

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};
inline const User kAlice{20001, 20001, {}};
inline const User kBob{20002, 20002, {}};
inline const User kCarol{20003, 20003, {20001, 20050}};  // in Alice's group, and in one of her own

// Runs `body` with the credentials of `user` (of its thread only: others go on as root), without
// capabilities, and with its own umask and working directory.
void As(const User& user, const std::function<void()>& body);

std::string ErrnoName(int error);
std::string Pattern(uint64_t seed, size_t bytes);

class PosixTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // A path in this case's directory. The text lives as long as the case.
  const char* P(const std::string& name);
  const std::string& directory() const { return directory_; }
  // The same path through the read-only mount.
  std::string ReadOnly(const std::string& name) const;
  // The directory is root's and 0755; this lets everybody write to it.
  void OpenToAll() { ASSERT_EQ(chmod(directory_.c_str(), 0777), 0); }
  void MakeFile(const std::string& name, const std::string& content = "", mode_t mode = 0644);
  std::string Content(const std::string& name);
  struct stat Stat(const std::string& name);
  struct stat Lstat(const std::string& name);
  mode_t Mode(const std::string& name) { return Lstat(name).st_mode & 07777; }
  std::vector<std::string> List(const std::string& name);  // without "." and "..", sorted
  // An open descriptor, closed at the end of the case. Fails the case and gives -1 if it cannot be opened.
  int Open(const std::string& name, int flags, mode_t mode = 0644);

 private:
  std::string directory_;
  std::string relative_;
  std::vector<std::unique_ptr<std::string>> paths_;
  std::vector<int> descriptors_;
};

// An address that no process has mapped, for EFAULT.
inline void* BadAddress() {
  static void* volatile address = reinterpret_cast<void*>(1);
  return address;
}

// What the macros below call.
bool Succeeds(const char* text, const char* file, int line, const std::function<int64_t()>& call);
bool FailsWith(const std::vector<int>& errors, const char* text, const char* file, int line,
               const std::function<int64_t()>& call);

}  // namespace cairn::posix

// The call does not answer -1.
#define OK(...)                                              \
  ::cairn::posix::Succeeds(#__VA_ARGS__, __FILE__, __LINE__, \
                           [&]() -> int64_t { return (int64_t)(__VA_ARGS__); })
// The call answers -1 with this errno.
#define FAILS(error, ...)                                              \
  ::cairn::posix::FailsWith({error}, #__VA_ARGS__, __FILE__, __LINE__, \
                            [&]() -> int64_t { return (int64_t)(__VA_ARGS__); })
// POSIX or the man page leaves the choice between two.
#define FAILS_EITHER(error, other, ...)                                       \
  ::cairn::posix::FailsWith({error, other}, #__VA_ARGS__, __FILE__, __LINE__, \
                            [&]() -> int64_t { return (int64_t)(__VA_ARGS__); })
#define IS(expected, actual) (++::cairn::posix::checks, [&] { EXPECT_EQ(actual, expected); }())
#define HOLDS(condition) (++::cairn::posix::checks, [&] { EXPECT_TRUE(condition); }())
