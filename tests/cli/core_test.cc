// Finding the cluster, and values as people type and read them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cli/core/config.h"
#include "cli/core/format.h"
#include "cli/core/policy_text.h"
#include "cli/local/layout.h"

namespace cairn::cli {
namespace {

TEST(AddressTest, TheDefaultPortIsAdded) {
  EXPECT_EQ(*NormalizeAddress("host"), "host:9400");
  EXPECT_EQ(*NormalizeAddress(" host:1 "), "host:1");
  EXPECT_EQ(*NormalizeAddress("[::1]:65535"), "[::1]:65535");
  EXPECT_EQ(*NormalizeAddress("[::1]"), "[::1]:9400");
  EXPECT_EQ(*NormalizeAddress("fe80::1"), "[fe80::1]:9400");
  for (const char* bad :
       {"", " ", "host:", "host:0", "host:65536", "host:x", ":1", "a b", "[]:1", "[::1", "[::1]x", "a/b"}) {
    EXPECT_EQ(NormalizeAddress(bad).code(), StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_EQ(*ParseMasters("a,b:2"), (std::vector<std::string>{"a:9400", "b:2"}));
  EXPECT_FALSE(ParseMasters("").ok());
}

TEST(ConfigTest, ValuesAreFoundBesideComments) {
  const std::string text =
      "# master = wrong:1\n[section]\n name=x # y\n master = \"right:2\"  # which\nmaster = later:3\n";
  EXPECT_EQ(ConfigValue(text, "master"), "right:2");
  EXPECT_EQ(ConfigValue(text, "name"), "x");
  EXPECT_EQ(ConfigValue(text, "absent"), "");
}

class FindMastersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/cairn-cli-test.XXXXXX";
    ASSERT_NE(mkdtemp(pattern), nullptr);
    home_ = pattern;
    setenv("XDG_CONFIG_HOME", (home_ + "/config").c_str(), 1);
    setenv("XDG_DATA_HOME", (home_ + "/data").c_str(), 1);
    unsetenv("CAIRN_MASTER");
  }
  void TearDown() override {
    unsetenv("CAIRN_MASTER");
    std::filesystem::remove_all(home_);
  }
  std::string home_;
};

TEST_F(FindMastersTest, TheNearestAnswerCounts) {
  Context context;
  context.directory = home_ + "/local";
  EXPECT_EQ(FindMasters(context).code(), StatusCode::kUnavailable);
  LocalLayout layout(context.directory);
  layout.Add({.name = "master", .address = "127.0.0.1:1"});
  ASSERT_TRUE(layout.Save().ok());
  EXPECT_EQ(FindMasters(context)->front(), "127.0.0.1:1");

  setenv("CAIRN_MASTER", "env:2", 1);
  EXPECT_EQ(FindMasters(context)->front(), "127.0.0.1:1") << "--dir names the cluster that is meant";
  context.directory.clear();
  EXPECT_EQ(FindMasters(context)->front(), "env:2");
  unsetenv("CAIRN_MASTER");
  std::filesystem::create_directories(home_ + "/config/cairn");
  std::ofstream(home_ + "/config/cairn/config") << "master = file:3\n";
  EXPECT_EQ(FindMasters(context)->front(), "file:3");
  context.master = "option:4";
  EXPECT_EQ(FindMasters(context)->front(), "option:4");
}

class FindAdminTokenTest : public FindMastersTest {
 protected:
  void SetUp() override {
    FindMastersTest::SetUp();
    unsetenv("CAIRN_ADMIN_TOKEN_FILE");
    std::filesystem::create_directories(home_ + "/config/cairn");
  }
  void TearDown() override {
    unsetenv("CAIRN_ADMIN_TOKEN_FILE");
    FindMastersTest::TearDown();
  }
  // A token of its own in a file of that name.
  std::string Make(const std::string& name, char digit) const {
    const std::string path = home_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << std::string(64, digit) << "\n";
    std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    return path;
  }
  // The digit of the token that is found; '-': none.
  static char Find(const Context& context, const std::vector<std::string>& masters) {
    const auto token = FindAdminToken(context, masters);
    return token.ok() ? token->front() : '-';
  }
};

TEST_F(FindAdminTokenTest, TheNearestAnswerCounts) {
  Context context;
  context.directory = home_ + "/local";
  LocalLayout other(context.directory);
  other.Add({.name = "master", .address = "127.0.0.1:7002"});
  ASSERT_TRUE(other.Save().ok());
  Make("local/data/master/admin-token", '1');
  EXPECT_EQ(Find(context, {"127.0.0.1:7002"}), '1');
  EXPECT_EQ(Find(context, {"localhost:7002"}), '1') << "the same machine under another name";

  std::ofstream(home_ + "/config/cairn/config") << "admin_token_file = " << Make("configured", '2') << "\n";
  EXPECT_EQ(Find(context, {"127.0.0.1:7002"}), '2');
  setenv("CAIRN_ADMIN_TOKEN_FILE", Make("environment", '3').c_str(), 1);
  EXPECT_EQ(Find(context, {"127.0.0.1:7002"}), '3');
  context.admin_token_file = Make("option", '4');
  EXPECT_EQ(Find(context, {"127.0.0.1:7002"}), '4');
  std::filesystem::permissions(context.admin_token_file, std::filesystem::perms(0644));
  EXPECT_EQ(FindAdminToken(context, {"127.0.0.1:7002"}).code(), StatusCode::kNotPermitted);
  context.admin_token_file = home_ + "/absent";
  EXPECT_EQ(FindAdminToken(context, {"127.0.0.1:7002"}).code(), StatusCode::kNotFound) << "what was asked for, or nothing";
}

TEST_F(FindAdminTokenTest, ATokenIsShownToNoMasterThatItIsNotOf) {
  Context context;
  context.directory = home_ + "/local";
  LocalLayout layout(context.directory);
  layout.Add({.name = "master", .address = "127.0.0.1:7002"});
  ASSERT_TRUE(layout.Save().ok());
  Make("local/data/master/admin-token", '1');
  std::ofstream(home_ + "/config/cairn/config") << "master = m1.example\nadmin_token_file = " << Make("configured", '2') << "\n";
  EXPECT_EQ(Find(context, {"m1.example:9400"}), '2');
  EXPECT_EQ(Find(context, {"127.0.0.1:7002"}), '1');
  EXPECT_EQ(Find(context, {"127.0.0.1:7003"}), '-') << "another master of this machine";
  EXPECT_EQ(Find(context, {"192.0.2.1:7002"}), '-') << "another machine, the same port";
  EXPECT_EQ(Find(context, {"127.0.0.1:7002", "192.0.2.1:7002"}), '-') << "one of several";
  const auto none = FindAdminToken(context, {"192.0.2.1:7002"});
  EXPECT_EQ(none.code(), StatusCode::kNotFound);
  EXPECT_NE(none.status().message().find("--admin-token-file"), std::string::npos);
}

TEST(FormatTest, BytesAreParsedAndShown) {
  EXPECT_EQ(*ParseBytes("4096"), 4096U);
  EXPECT_EQ(*ParseBytes("64M"), 64ull << 20);
  EXPECT_EQ(*ParseBytes("64MiB"), 64ull << 20);
  EXPECT_EQ(*ParseBytes("1g"), 1ull << 30);
  for (const char* bad : {"", "M", "1X", "1 M", "-1", "99999999999999999999", "16777216T", "1MB2"}) {
    EXPECT_FALSE(ParseBytes(bad).ok()) << bad;
  }
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanSize(200ull << 30), "200G");
}

TEST(FormatTest, ModesAreAppliedAsChmodDoes) {
  const auto mode = [](const char* text, uint32_t before, bool directory = false) {
    const auto result = ParseMode(text, before, directory, 022);
    return result.ok() ? static_cast<int>(*result) : -1;
  };
  EXPECT_EQ(mode("640", 0777), 0640);
  EXPECT_EQ(mode("4755", 0), 04755);
  EXPECT_EQ(mode("u+x,go-r", 0644), 0700);
  EXPECT_EQ(mode("a=rX", 0640), 0444);
  EXPECT_EQ(mode("a=rX", 0740), 0555);
  EXPECT_EQ(mode("a=rX", 0600, true), 0555);
  EXPECT_EQ(mode("+w", 0444), 0644) << "the umask counts where no class is named";
  EXPECT_EQ(mode("g=u", 0604), 0664);
  EXPECT_EQ(mode("u+s,+t", 0755), 05755);
  for (const char* bad : {"", "8", "u", "u+z", "u?x", "77777"}) EXPECT_EQ(mode(bad, 0), -1) << bad;
  EXPECT_EQ(ModeString(client::FileType::kDirectory, 01777), "drwxrwxrwt");
  EXPECT_EQ(ModeString(client::FileType::kRegular, 04644), "-rwSr--r--");
}

TEST(FormatTest, OwnersAreNamesOrNumbers) {
  const auto both = ParseOwnership("root:4711");
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(both->uid, 0U);
  EXPECT_EQ(both->gid, 4711U);
  const auto group = ParseOwnership(":0");
  ASSERT_TRUE(group.ok());
  EXPECT_FALSE(group->has_uid);
  EXPECT_TRUE(group->has_gid);
  EXPECT_TRUE(ParseOwnership("root:")->has_gid);
  for (const char* bad : {"", ":", "no-such-user-here", "0:no-such-group-here", "4711:"}) {
    EXPECT_FALSE(ParseOwnership(bad).ok()) << bad;
  }
}

TEST(FormatTest, ControlCharactersOfNamesDoNotReachTheTerminal) {
  EXPECT_EQ(Printable("a\nb\x1b[1m\x7f\xc3\xa4"), "a\\012b\\033[1m\\177\xc3\xa4");
}

TEST(PolicyTextTest, KeysAreChecked) {
  const auto policy = ParsePolicy("replicas=3,write_quorum=2,chunk_bytes=64MiB,failure_domain=rack", {});
  ASSERT_TRUE(policy.ok());
  EXPECT_EQ(PolicyText(*policy), "replicas=3,write_quorum=2,chunk_bytes=64MiB,failure_domain=rack");
  EXPECT_EQ(PolicyText(*ParsePolicy("failure_domain=inherit,chunk_bytes=128K", *policy)),
            "replicas=3,write_quorum=2,chunk_bytes=128KiB");
  for (const char* bad : {"", "replicas", "replicas=2,write_quorum=3", "chunk_bytes=3M", "chunk_bytes=4096",
                          "failure_domain=moon", "colour=blue", "replicas=99", "replicas=x"}) {
    EXPECT_FALSE(ParsePolicy(bad, {}).ok()) << bad;
  }
}

}  // namespace
}  // namespace cairn::cli
