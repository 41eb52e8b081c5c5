#include "common/net/address.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cairn::net {
namespace {

TEST(AddressTest, NamesIpv4AndIpv6AreUnderstood) {
  EXPECT_EQ(*ParseHostPort("storage-3.example:9410"), (HostPort{"storage-3.example", 9410}));
  EXPECT_EQ(*ParseHostPort("127.0.0.1:1"), (HostPort{"127.0.0.1", 1}));
  EXPECT_EQ(*ParseHostPort("[::1]:65535"), (HostPort{"::1", 65535}));
  EXPECT_EQ(*ParseHostPort("*:0"), (HostPort{"*", 0}));
}

TEST(AddressTest, TheDefaultPortFillsIn) {
  EXPECT_EQ(*ParseHostPort("host", 9400), (HostPort{"host", 9400}));
  EXPECT_EQ(*ParseHostPort("[fe80::1]", 9400), (HostPort{"fe80::1", 9400}));
  EXPECT_EQ(*ParseHostPort("::1", 9400), (HostPort{"::1", 9400}));
  EXPECT_EQ(*ParseHostPort("host:1", 9400), (HostPort{"host", 1}));
}

TEST(AddressTest, NonsenseIsRefusedWithTheText) {
  for (const char* text :
       {"", ":", ":9410", "host", "host:", "host:x", "host:65536", "host:-1", "host: 1", "[::1", "[::1]9410",
        "[]:1", "[host]:1", "a b:1", "http://h:1", "host:1x", "99999999999999:9"}) {
    const auto parsed = ParseHostPort(text);
    if (std::string_view(text) == "99999999999999:9") {
      EXPECT_TRUE(parsed.ok()) << "a name may consist of digits";
      continue;
    }
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(parsed.status().message().find("'" + std::string(text) + "'"), std::string::npos);
  }
}

TEST(AddressTest, TextAndSocketAddressAgree) {
  for (const char* text : {"127.0.0.1:9410", "[::1]:9410", "[2001:db8::7]:1"}) {
    SocketAddress address;
    ASSERT_TRUE(ParseNumeric(*ParseHostPort(text), &address)) << text;
    EXPECT_EQ(address.ToString(), text);
    EXPECT_EQ(ParseHostPort(text)->ToString(), text);
  }
  SocketAddress address;
  EXPECT_FALSE(ParseNumeric({"localhost", 1}, &address));
}

TEST(AddressTest, NamesAreResolved) {
  const auto found = Resolve({"localhost", 9410});
  ASSERT_TRUE(found.ok()) << found.status().ToString();
  ASSERT_FALSE(found->empty());
  EXPECT_NE(found->front().ToString().find(":9410"), std::string::npos);
  const auto missing = Resolve({"no-such-host.invalid", 1});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.code(), StatusCode::kUnavailable);
  EXPECT_NE(missing.status().message().find("no-such-host.invalid"), std::string::npos);
}

// A minimal root (debootstrap, small containers) has no /etc/hosts.
TEST(AddressTest, LocalhostNeedsNoHostsFile) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can hide /etc/hosts in a mount namespace of its own";
  if (::access("/etc/hosts", F_OK) != 0)
    GTEST_SKIP() << "there is no /etc/hosts here: NamesAreResolved shows it";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("/dev/null", "/etc/hosts", nullptr, MS_BIND, nullptr) != 0) {
      ::_exit(77);
    }
    ::_exit(Resolve({"localhost", 9410}).ok() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no mount namespaces here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace cairn::net
