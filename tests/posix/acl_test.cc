// POSIX access control lists: kept, enforced, inherited, and one with the mode.
#include <sys/xattr.h>

#include "tests/posix/posix_test.h"

namespace cairn::posix {
namespace {

constexpr char kAccess[] = "system.posix_acl_access";
constexpr char kDefault[] = "system.posix_acl_default";
constexpr uint32_t kNoId = 0xffffffff;

struct Entry {
  uint16_t tag, permissions;
  uint32_t id;
};
Entry UserObj(uint16_t p) { return {0x01, p, kNoId}; }
Entry NamedUser(const User& user, uint16_t p) { return {0x02, p, user.uid}; }
Entry GroupObj(uint16_t p) { return {0x04, p, kNoId}; }
Entry NamedGroup(uint32_t gid, uint16_t p) { return {0x08, p, gid}; }
Entry Mask(uint16_t p) { return {0x10, p, kNoId}; }
Entry Other(uint16_t p) { return {0x20, p, kNoId}; }

std::string Encode(const std::vector<Entry>& entries) {
  std::string acl("\2\0\0\0", 4);
  for (const Entry& entry : entries) {
    for (const uint16_t half : {entry.tag, entry.permissions}) {
      acl.push_back(static_cast<char>(half));
      acl.push_back(static_cast<char>(half >> 8));
    }
    for (int shift = 0; shift < 32; shift += 8) acl.push_back(static_cast<char>(entry.id >> shift));
  }
  return acl;
}

class AclTest : public PosixTest {
 protected:
  int64_t Set(const std::string& name, const char* kind, const std::vector<Entry>& entries) {
    const std::string acl = Encode(entries);
    return setxattr(P(name), kind, acl.data(), acl.size(), 0);
  }
  std::string Get(const std::string& name, const char* kind) {
    char value[8192];
    const ssize_t n = getxattr(P(name), kind, value, sizeof value);
    return n < 0 ? "(" + ErrnoName(errno) + ")" : std::string(value, static_cast<size_t>(n));
  }
  bool CanOpen(const std::string& name, int flags) {
    const int fd = open(P(name), flags);
    if (fd < 0 && errno != EACCES) ADD_FAILURE() << ErrnoName(errno);
    if (fd >= 0) close(fd);
    return fd >= 0;
  }
  // What `user` may do with the file, as three bits.
  int Allowed(const User& user, const std::string& name) {
    int bits = 0;
    const char* path = P(name);
    As(user, [&] {
      if (CanOpen(name, O_RDONLY)) bits |= 4;
      if (CanOpen(name, O_WRONLY)) bits |= 2;
      if (access(path, X_OK) == 0) bits |= 1;
    });
    return bits;
  }
};

const User kInGroup{20021, 20050, {}};
const User kStranger{20022, 20022, {}};

TEST_F(AclTest, IsKeptAsSet) {
  MakeFile("f");
  IS("(ENODATA)", Get("f", kAccess));
  const std::vector<Entry> entries = {
      UserObj(6), NamedUser(kAlice, 4), GroupObj(4), NamedGroup(20050, 6), Mask(6), Other(0)};
  OK(Set("f", kAccess, entries));
  IS(Encode(entries), Get("f", kAccess));
  char list[256];
  const ssize_t n = listxattr(P("f"), list, sizeof list);
  HOLDS(std::string(list, n > 0 ? static_cast<size_t>(n) : 0).find(kAccess) != std::string::npos);
  OK(removexattr(P("f"), kAccess));
  IS("(ENODATA)", Get("f", kAccess));
}

TEST_F(AclTest, TheModeShowsTheMask) {
  MakeFile("f", "", 0600);
  OK(Set("f", kAccess, {UserObj(7), NamedUser(kAlice, 7), GroupObj(0), Mask(5), Other(1)}));
  IS(0751u, Mode("f"));
  OK(chmod(P("f"), 0624));
  IS(Encode({UserObj(6), NamedUser(kAlice, 7), GroupObj(0), Mask(2), Other(4)}), Get("f", kAccess));
  IS(0624u, Mode("f"));
}

TEST_F(AclTest, AMinimalOneIsTheMode) {
  MakeFile("f", "", 0600);
  OK(Set("f", kAccess, {UserObj(6), GroupObj(4), Other(4)}));
  IS(0644u, Mode("f"));
  IS("(ENODATA)", Get("f", kAccess));
  OK(Set("f", kAccess, {UserObj(6), NamedUser(kAlice, 7), GroupObj(4), Mask(7), Other(4)}));
  OK(Set("f", kAccess, {UserObj(7), GroupObj(5), Other(0)}));
  IS(0750u, Mode("f"));
  IS("(ENODATA)", Get("f", kAccess));
}

struct Decision {
  const char* name;
  std::vector<Entry> acl;
  User user;
  int allowed;
};
class AclDecisionTest : public AclTest, public testing::WithParamInterface<Decision> {};

TEST_P(AclDecisionTest, IsEnforced) {
  MakeFile("f", "content");
  OK(chown(P("f"), kAlice.uid, 20050));
  OK(Set("f", kAccess, GetParam().acl));
  IS(GetParam().allowed, Allowed(GetParam().user, "f"));
  // Again, from whatever was cached.
  IS(GetParam().allowed, Allowed(GetParam().user, "f"));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, AclDecisionTest,
    testing::Values(
        Decision{"OwnerByOwnerEntry",
                 {UserObj(4), NamedUser(kAlice, 7), GroupObj(7), Mask(7), Other(7)},
                 kAlice,
                 4},
        Decision{
            "OwnerIgnoresMask", {UserObj(7), NamedUser(kBob, 7), GroupObj(7), Mask(1), Other(0)}, kAlice, 7},
        Decision{"NamedUser", {UserObj(7), NamedUser(kBob, 6), GroupObj(0), Mask(7), Other(0)}, kBob, 6},
        Decision{
            "NamedUserMasked", {UserObj(7), NamedUser(kBob, 7), GroupObj(0), Mask(4), Other(7)}, kBob, 4},
        Decision{
            "NamedUserDenied", {UserObj(7), NamedUser(kBob, 0), GroupObj(7), Mask(7), Other(7)}, kBob, 0},
        Decision{"NamedUserBeforeGroups",
                 {UserObj(7), NamedUser(kInGroup, 1), GroupObj(7), Mask(7), Other(7)},
                 kInGroup,
                 1},
        Decision{
            "OwningGroup", {UserObj(7), NamedUser(kBob, 0), GroupObj(5), Mask(7), Other(0)}, kInGroup, 5},
        Decision{"OwningGroupMasked",
                 {UserObj(7), NamedUser(kBob, 0), GroupObj(7), Mask(4), Other(0)},
                 kInGroup,
                 4},
        Decision{
            "NamedGroup", {UserObj(7), GroupObj(0), NamedGroup(20022, 6), Mask(7), Other(0)}, kStranger, 6},
        Decision{"NamedGroupMasked",
                 {UserObj(7), GroupObj(0), NamedGroup(20022, 6), Mask(4), Other(7)},
                 kStranger,
                 4},
        Decision{"NamedGroupSupplementary",
                 {UserObj(7), GroupObj(0), NamedGroup(20001, 3), Mask(7), Other(0)},
                 kCarol,
                 3},
        Decision{"SupplementaryOwningGroup",
                 {UserObj(7), NamedUser(kBob, 7), GroupObj(4), Mask(7), Other(0)},
                 kCarol,
                 4},
        Decision{"AnyGroupThatGrants",
                 {UserObj(7), GroupObj(0), NamedGroup(20001, 4), NamedGroup(20003, 2), Mask(7), Other(0)},
                 kCarol,
                 6},
        Decision{"GroupsBeforeOthers",
                 {UserObj(7), GroupObj(0), NamedGroup(20022, 0), Mask(7), Other(7)},
                 kStranger,
                 0},
        Decision{"Other", {UserObj(0), NamedUser(kBob, 0), GroupObj(0), Mask(7), Other(5)}, kStranger, 5},
        Decision{"OtherIgnoresMask",
                 {UserObj(0), NamedUser(kBob, 7), GroupObj(1), Mask(1), Other(6)},
                 kStranger,
                 6}),
    [](const auto& param) { return std::string(param.param.name); });

TEST_F(AclTest, DirectoriesAreSearchedAndChangedByTheirAcl) {
  OK(mkdir(P("d"), 0700));
  MakeFile("d/f", "x", 0644);
  OK(Set("d", kAccess,
         {UserObj(7), NamedUser(kAlice, 7), NamedUser(kBob, 5), GroupObj(0), Mask(7), Other(0)}));
  As(kAlice, [&] {
    MakeFile("d/hers", "y");
    OK(unlink(P("d/f")));
  });
  As(kBob, [&] {
    IS("y", Content("d/hers"));
    FAILS(EACCES, mkdir(P("d/his"), 0755));
    FAILS(EACCES, unlink(P("d/hers")));
    FAILS(EACCES, rename(P("d/hers"), P("d/z")));
    IS(1u, List("d").size());
  });
  As(kStranger, [&] { FAILS(EACCES, access(P("d/hers"), F_OK)); });
}

TEST_F(AclTest, AChangeTakesEffectAtOnce) {
  MakeFile("f", "x", 0600);
  IS(0, Allowed(kBob, "f"));
  OK(Set("f", kAccess, {UserObj(6), NamedUser(kBob, 4), GroupObj(0), Mask(4), Other(0)}));
  IS(4, Allowed(kBob, "f"));
  OK(Set("f", kAccess, {UserObj(6), NamedUser(kBob, 6), GroupObj(0), Mask(6), Other(0)}));
  IS(6, Allowed(kBob, "f"));
  OK(chmod(P("f"), 0640));
  IS(4, Allowed(kBob, "f"));
  OK(removexattr(P("f"), kAccess));
  IS(0, Allowed(kBob, "f"));
}

TEST_F(AclTest, ADefaultAclIsInherited) {
  OpenToAll();
  OK(mkdir(P("d"), 0777));
  const std::vector<Entry> inherited = {UserObj(7), NamedUser(kBob, 7), GroupObj(5), Mask(7), Other(0)};
  OK(Set("d", kDefault, inherited));
  IS(Encode(inherited), Get("d", kDefault));
  umask(077);  // does not count where a default ACL is
  const int fd = open(P("d/f"), O_WRONLY | O_CREAT, 0666);
  ASSERT_GE(fd, 0);
  close(fd);
  OK(mkdir(P("d/e"), 0777));
  OK(mknod(P("d/n"), S_IFREG | 0640, 0));
  OK(mkfifo(P("d/p"), 0666));
  OK(symlink("x", P("d/l")));
  umask(022);
  IS(Encode({UserObj(6), NamedUser(kBob, 7), GroupObj(5), Mask(6), Other(0)}), Get("d/f", kAccess));
  IS(0660u, Mode("d/f"));
  IS(Encode({UserObj(6), NamedUser(kBob, 7), GroupObj(5), Mask(4), Other(0)}), Get("d/n", kAccess));
  IS(0640u, Mode("d/n"));
  IS(0660u, Mode("d/p"));
  IS(Encode(inherited), Get("d/e", kAccess));
  IS(Encode(inherited), Get("d/e", kDefault));
  IS(0770u, Mode("d/e"));
  IS("(ENODATA)", Get("d/f", kDefault));
  IS(0777u, Mode("d/l"));
  IS(6, Allowed(kBob, "d/f"));
  IS(0, Allowed(kStranger, "d/f"));
  MakeFile("d/e/deep", "", 0600);
  HOLDS(Get("d/e/deep", kAccess) != "(ENODATA)");
}

TEST_F(AclTest, AMinimalDefaultAclReplacesTheUmask) {
  OK(mkdir(P("d"), 0777));
  OK(Set("d", kDefault, {UserObj(7), GroupObj(7), Other(5)}));
  umask(077);
  const int fd = open(P("d/f"), O_WRONLY | O_CREAT, 0666);
  ASSERT_GE(fd, 0);
  close(fd);
  OK(mkdir(P("d/e"), 0777));
  umask(022);
  IS(0664u, Mode("d/f"));
  IS(0775u, Mode("d/e"));
  IS("(ENODATA)", Get("d/f", kAccess));
  OK(removexattr(P("d"), kDefault));
  MakeFile("plain");
  umask(077);
  close(open(P("d/g"), O_WRONLY | O_CREAT, 0666));
  umask(022);
  IS(0600u, Mode("d/g"));
}

TEST_F(AclTest, WhoMayChangeIt) {
  MakeFile("f", "", 0666);
  OK(chown(P("f"), kAlice.uid, kAlice.gid));
  const std::vector<Entry> acl = {UserObj(7), NamedUser(kBob, 7), GroupObj(5), Mask(7), Other(0)};
  As(kBob, [&] {
    FAILS(EPERM, Set("f", kAccess, acl));
    FAILS(EPERM, removexattr(P("f"), kAccess));
  });
  As(kAlice, [&] {
    OK(Set("f", kAccess, acl));
    IS(Encode(acl), Get("f", kAccess));
  });
  As(kBob, [&] { IS(Encode(acl), Get("f", kAccess)); });
}

TEST_F(AclTest, AnOutsiderOfTheGroupLosesSetGroupId) {
  MakeFile("f");
  OK(chown(P("f"), kAlice.uid, 20050));
  OK(chmod(P("f"), 02755));
  As(kAlice, [&] {
    OK(Set("f", kAccess, {UserObj(7), NamedUser(kBob, 7), GroupObj(5), Mask(7), Other(5)}));
  });
  IS(0775u, Mode("f"));
}

TEST_F(AclTest, InvalidOnesAreRefused) {
  MakeFile("f");
  OK(mkdir(P("d"), 0755));
  for (const std::vector<Entry>& bad : std::vector<std::vector<Entry>>{
           {UserObj(7), GroupObj(5)},                                      // no others
           {UserObj(7), NamedUser(kBob, 7), GroupObj(5), Other(0)},        // no mask
           {GroupObj(5), UserObj(7), Other(0)},                            // order
           {UserObj(7), UserObj(7), GroupObj(5), Other(0)},                // twice
           {UserObj(9), GroupObj(5), Other(0)},                            // no such permission
           {UserObj(7), GroupObj(5), Other(0), Entry{0x40, 7, kNoId}}}) {  // no such tag
    FAILS(EINVAL, Set("f", kAccess, bad));
    FAILS(EINVAL, Set("d", kDefault, bad));
  }
  FAILS(EINVAL, setxattr(P("f"), kAccess, "x", 1, 0));
  FAILS(EOPNOTSUPP, setxattr(P("f"), kAccess, "\1\0\0\0\0\0\0\0\0\0\0\0", 12, 0));  // version 1
  FAILS(EACCES, Set("f", kDefault, {UserObj(7), GroupObj(5), Other(0)}));
  OK(symlink("f", P("l")));
  const std::string acl = Encode({UserObj(7), NamedUser(kBob, 7), GroupObj(5), Mask(7), Other(0)});
  FAILS(EOPNOTSUPP, lsetxattr(P("l"), kAccess, acl.data(), acl.size(), 0));
  IS(0644u, Mode("f"));
}

TEST_F(AclTest, AnEmptyOneRemoves) {
  OK(mkdir(P("d"), 0755));
  OK(Set("d", kDefault, {UserObj(7), NamedUser(kBob, 7), GroupObj(5), Mask(7), Other(0)}));
  OK(Set("d", kDefault, {}));
  IS("(ENODATA)", Get("d", kDefault));
  OK(removexattr(P("d"), kDefault));  // not there any more: no error
  OK(removexattr(P("d"), kAccess));
}

TEST_F(AclTest, ManyEntries) {
  MakeFile("f", "x", 0600);
  std::vector<Entry> entries = {UserObj(6)};
  for (uint32_t i = 0; i < 100; ++i) entries.push_back({0x02, 4, 40'000 + i});
  entries.insert(entries.end(), {GroupObj(0), Mask(4), Other(0)});
  OK(Set("f", kAccess, entries));
  IS(Encode(entries), Get("f", kAccess));
  IS(4, Allowed({40'099, 40'099, {}}, "f"));
  IS(0, Allowed({40'100, 40'100, {}}, "f"));
}

TEST_F(AclTest, LinksShareIt) {
  MakeFile("f", "x", 0600);
  OK(link(P("f"), P("g")));
  OK(Set("f", kAccess, {UserObj(6), NamedUser(kBob, 4), GroupObj(0), Mask(4), Other(0)}));
  HOLDS(Get("g", kAccess) == Get("f", kAccess));
  IS(4, Allowed(kBob, "g"));
}

}  // namespace
}  // namespace cairn::posix
