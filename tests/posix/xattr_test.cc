// Extended attributes in all namespaces.
#include <sys/xattr.h>

#include <algorithm>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

class XattrTest : public PosixTest {
 protected:
  std::string Get(const char* path, const char* name) {
    std::string value(65536, '\0');
    const ssize_t n = lgetxattr(path, name, value.data(), value.size());
    if (n < 0) return "(" + ErrnoName(errno) + ")";
    value.resize(static_cast<size_t>(n));
    return value;
  }
  std::vector<std::string> Names(const char* path) {
    std::string list(65536, '\0');
    const ssize_t n = llistxattr(path, list.data(), list.size());
    if (n < 0) return {"(" + ErrnoName(errno) + ")"};
    std::vector<std::string> names;
    for (ssize_t at = 0; at < n; at += static_cast<ssize_t>(names.back().size()) + 1)
      names.emplace_back(list.c_str() + at);
    // security.* of a security module is not of our making.
    std::erase_if(names, [](const std::string& name) { return name == "security.selinux"; });
    std::sort(names.begin(), names.end());
    return names;
  }
};

struct Space {
  const char* name;
  const char* attribute;
};
class XattrSpaceTest : public XattrTest, public testing::WithParamInterface<Space> {};

TEST_P(XattrSpaceTest, SetGetListReplaceRemove) {
  const char* name = GetParam().attribute;
  MakeFile("f");
  OK(mkdir(P("d"), 0755));
  for (const char* file : {"f", "d"}) {
    SCOPED_TRACE(file);
    const char* path = P(file);
    FAILS(ENODATA, getxattr(path, name, nullptr, 0));
    FAILS(ENODATA, removexattr(path, name));
    FAILS(ENODATA, setxattr(path, name, "v", 1, XATTR_REPLACE));
    OK(setxattr(path, name, "value", 5, XATTR_CREATE));
    IS("value", Get(path, name));
    FAILS(EEXIST, setxattr(path, name, "v", 1, XATTR_CREATE));
    OK(setxattr(path, name, "other", 5, XATTR_REPLACE));
    IS("other", Get(path, name));
    OK(setxattr(path, name, "", 0, 0));
    IS("", Get(path, name));
    OK(setxattr(path, name, std::string("a\0b", 3).data(), 3, 0));
    IS(std::string("a\0b", 3), Get(path, name));
    IS(std::vector<std::string>{name}, Names(path));
    IS(3, getxattr(path, name, nullptr, 0));
    char small[2];
    FAILS(ERANGE, getxattr(path, name, small, sizeof small));
    FAILS(ERANGE, listxattr(path, small, sizeof small));
    IS(static_cast<ssize_t>(std::strlen(name)) + 1, listxattr(path, nullptr, 0));
    OK(removexattr(path, name));
    FAILS(ENODATA, getxattr(path, name, nullptr, 0));
    IS(0, listxattr(path, nullptr, 0));
  }
  const int fd = Open("f", O_RDWR);
  OK(fsetxattr(fd, name, "fd", 2, 0));
  char value[4];
  IS(2, fgetxattr(fd, name, value, sizeof value));
  IS(static_cast<ssize_t>(std::strlen(name)) + 1, flistxattr(fd, nullptr, 0));
  OK(fremovexattr(fd, name));
  FAILS(EBADF, fsetxattr(987654, name, "x", 1, 0));
  FAILS(EBADF, fgetxattr(987654, name, value, 1));
  FAILS(EBADF, flistxattr(987654, value, 1));
  FAILS(EBADF, fremovexattr(987654, name));
}

INSTANTIATE_TEST_SUITE_P(Spaces, XattrSpaceTest,
                         testing::Values(Space{"User", "user.test"}, Space{"Trusted", "trusted.test"},
                                         Space{"Security", "security.cairn_test"}),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_F(XattrTest, TrustedAttributesAreForRoot) {
  MakeFile("f", "", 0666);
  OK(setxattr(P("f"), "trusted.secret", "v", 1, 0));
  OK(setxattr(P("f"), "user.open", "v", 1, 0));
  As(kAlice, [&] {
    FAILS(ENODATA, getxattr(P("f"), "trusted.secret", nullptr, 0));
    FAILS(EPERM, setxattr(P("f"), "trusted.secret", "w", 1, 0));
    FAILS(EPERM, setxattr(P("f"), "trusted.new", "w", 1, 0));
    FAILS(EPERM, removexattr(P("f"), "trusted.secret"));
    IS(std::vector<std::string>{"user.open"}, Names(P("f")));
  });
  IS((std::vector<std::string>{"trusted.secret", "user.open"}), Names(P("f")));
}

TEST_F(XattrTest, UserAttributesFollowTheMode) {
  MakeFile("none", "", 0600);
  MakeFile("read", "", 0644);
  MakeFile("write", "", 0666);
  for (const char* file : {"none", "read", "write"}) OK(setxattr(P(file), "user.a", "v", 1, 0));
  As(kAlice, [&] {
    FAILS(EACCES, getxattr(P("none"), "user.a", nullptr, 0));
    IS(1, getxattr(P("read"), "user.a", nullptr, 0));
    FAILS(EACCES, setxattr(P("none"), "user.a", "w", 1, 0));
    FAILS(EACCES, setxattr(P("read"), "user.a", "w", 1, 0));
    FAILS(EACCES, removexattr(P("read"), "user.a"));
    OK(setxattr(P("write"), "user.a", "w", 1, 0));
    OK(removexattr(P("write"), "user.a"));
    // Names are listed to whoever reaches the file.
    IS(std::vector<std::string>{"user.a"}, Names(P("none")));
  });
}

TEST_F(XattrTest, SecurityAttributesAreSetByRoot) {
  MakeFile("f", "", 0666);
  OK(setxattr(P("f"), "security.cairn", "v", 1, 0));
  As(kAlice, [&] {
    IS(1, getxattr(P("f"), "security.cairn", nullptr, 0));
    FAILS(EPERM, setxattr(P("f"), "security.cairn", "w", 1, 0));
    FAILS(EPERM, removexattr(P("f"), "security.cairn"));
  });
}

TEST_F(XattrTest, CapabilitiesAreDroppedByWrites) {
  MakeFile("f", "program", 0777);
  // vfs_cap_data, revision 2: cap_net_raw.
  const unsigned char capability[20] = {1, 0, 0, 2, 0, 0x20};
  OK(setxattr(P("f"), "security.capability", capability, sizeof capability, 0));
  IS(20, getxattr(P("f"), "security.capability", nullptr, 0));
  As(kAlice, [&] {
    const int fd = open(P("f"), O_WRONLY);
    ASSERT_GE(fd, 0);
    IS(1, write(fd, "x", 1));
    close(fd);
  });
  FAILS(ENODATA, getxattr(P("f"), "security.capability", nullptr, 0));
  OK(setxattr(P("f"), "security.capability", capability, sizeof capability, 0));
  OK(chown(P("f"), 5, 5));
  FAILS(ENODATA, getxattr(P("f"), "security.capability", nullptr, 0));
  FAILS(EINVAL, setxattr(P("f"), "security.capability", "bad", 3, 0));
}

TEST_F(XattrTest, UserAttributesExistOnFilesAndDirectoriesOnly) {
  MakeFile("f");
  OK(symlink("f", P("l")));
  OK(mkfifo(P("p"), 0666));
  FAILS(EPERM, lsetxattr(P("l"), "user.a", "v", 1, 0));
  FAILS(EPERM, setxattr(P("p"), "user.a", "v", 1, 0));
  FAILS(ENODATA, lgetxattr(P("l"), "user.a", nullptr, 0));
  FAILS(ENODATA, getxattr(P("p"), "user.a", nullptr, 0));
  OK(lsetxattr(P("l"), "trusted.a", "v", 1, 0));
  IS("v", Get(P("l"), "trusted.a"));
  OK(setxattr(P("l"), "user.a", "followed", 8, 0));
  IS("followed", Get(P("f"), "user.a"));
  OK(lremovexattr(P("l"), "trusted.a"));
}

TEST_F(XattrTest, StickyDirectoriesKeepUserAttributesForTheOwner) {
  OK(mkdir(P("d"), 0777));
  OK(chmod(P("d"), 01777));
  As(kAlice, [&] { FAILS(EPERM, setxattr(P("d"), "user.a", "v", 1, 0)); });
  OK(chmod(P("d"), 0777));
  As(kAlice, [&] { OK(setxattr(P("d"), "user.a", "v", 1, 0)); });
}

TEST_F(XattrTest, NamesAndNamespaces) {
  MakeFile("f");
  const std::string longest = "user." + std::string(250, 'n');
  OK(setxattr(P("f"), longest.c_str(), "v", 1, 0));
  IS("v", Get(P("f"), longest.c_str()));
  FAILS(ERANGE, setxattr(P("f"), (longest + "x").c_str(), "v", 1, 0));
  FAILS(ERANGE, getxattr(P("f"), (longest + "x").c_str(), nullptr, 0));
  FAILS(ERANGE, setxattr(P("f"), "", "v", 1, 0));
  FAILS_EITHER(EINVAL, EOPNOTSUPP, setxattr(P("f"), "user.", "v", 1, 0));
  for (const char* name : {"unknown.a", "usr.a", "a", "system.a"}) {
    FAILS(EOPNOTSUPP, setxattr(P("f"), name, "v", 1, 0));
    FAILS(EOPNOTSUPP, getxattr(P("f"), name, nullptr, 0));
  }
  OK(setxattr(P("f"), "user.\xff\x01 odd", "v", 1, 0));
  IS("v", Get(P("f"), "user.\xff\x01 odd"));
  FAILS(EINVAL, setxattr(P("f"), "user.a", "v", 1, 4));
  FAILS(EFAULT, setxattr(P("f"), "user.a", BadAddress(), 10, 0));
}

TEST_F(XattrTest, Sizes) {
  MakeFile("f");
  for (const size_t size : {1u, 100u, 1'000u, 3'000u}) {
    const std::string value = Pattern(size, size);
    OK(setxattr(P("f"), "user.a", value.data(), size, 0));
    HOLDS(Get(P("f"), "user.a") == value);
  }
  const std::string largest = Pattern(1, 65'536);
  if (setxattr(P("f"), "user.a", largest.data(), largest.size(), 0) == 0) {
    HOLDS(Get(P("f"), "user.a") == largest);
  } else {
    HOLDS(errno == ENOSPC || errno == E2BIG);  // a local file system may keep them in one block
    HOLDS(TheTarget().local);
  }
  FAILS(E2BIG, setxattr(P("f"), "user.b", largest.data(), 65'537, 0));
}

TEST_F(XattrTest, ManyNames) {
  MakeFile("f");
  std::vector<std::string> expected;
  for (int i = 0; i < 100; ++i) {
    expected.push_back("user." + std::to_string(1000 + i));
    OK(setxattr(P("f"), expected.back().c_str(), "v", 1, 0));
  }
  IS(expected, Names(P("f")));
  for (int i = 0; i < 100; i += 2) OK(removexattr(P("f"), expected[i].c_str()));
  IS(50u, Names(P("f")).size());
}

TEST_F(XattrTest, TheyFollowTheInode) {
  MakeFile("f");
  OK(setxattr(P("f"), "user.a", "v", 1, 0));
  OK(link(P("f"), P("g")));
  OK(rename(P("f"), P("h")));
  IS("v", Get(P("g"), "user.a"));
  OK(setxattr(P("g"), "user.a", "w", 1, 0));
  IS("w", Get(P("h"), "user.a"));
  OK(unlink(P("g")));
  OK(unlink(P("h")));
  MakeFile("h");
  FAILS(ENODATA, getxattr(P("h"), "user.a", nullptr, 0));
  const int fd = Open("h", O_RDWR);
  OK(unlink(P("h")));
  OK(fsetxattr(fd, "user.late", "v", 1, 0));
  IS(1, fgetxattr(fd, "user.late", nullptr, 0));
}

}  // namespace
}  // namespace cairn::posix
