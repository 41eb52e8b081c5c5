// Logins of the console, and the file that holds the administrator's token.
#include "master/console/logins.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/admin_token.h"

namespace cairn::master::console {
namespace {

using testing::HasSubstr;

const std::string kToken(64, 'a');

TEST(Logins, TheTokenOpensASessionWhoseSecretAllowsChanges) {
  ManualClock clock;
  Logins logins(kToken, &clock);
  const auto secret = logins.Login(kToken);
  ASSERT_TRUE(secret.ok());
  EXPECT_TRUE(logins.Check(*secret).ok());
  EXPECT_NE(*logins.Login(kToken), *secret);
  EXPECT_EQ(logins.Check(secret->substr(1)).code(), StatusCode::kAccessDenied);
  EXPECT_EQ(logins.Check(kToken).code(), StatusCode::kAccessDenied);
  EXPECT_EQ(logins.Check("").code(), StatusCode::kAccessDenied);
  EXPECT_THAT(logins.Check("").message(), HasSubstr("log in"));
  logins.Logout(*secret);
  EXPECT_EQ(logins.Check(*secret).code(), StatusCode::kAccessDenied);
}

TEST(Logins, ASessionEndsByItself) {
  ManualClock clock;
  Logins logins(kToken, &clock);
  const auto secret = logins.Login(kToken);
  ASSERT_TRUE(secret.ok());
  clock.Advance(Logins::kSessionSeconds * kNanosPerSecond - 1);
  EXPECT_TRUE(logins.Check(*secret).ok());
  clock.Advance(1);
  EXPECT_EQ(logins.Check(*secret).code(), StatusCode::kAccessDenied);
}

TEST(Logins, HoweverManyWrongTokensCameTheAdministratorIsNotLockedOut) {
  ManualClock clock;
  Logins logins(kToken, &clock);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(logins.Login(kToken.substr(1) + "b").code(), StatusCode::kAccessDenied) << i;
    EXPECT_EQ(logins.CheckToken(kToken + "a").code(), StatusCode::kAccessDenied) << i;
  }
  EXPECT_TRUE(logins.CheckToken(kToken).ok());
  EXPECT_TRUE(logins.Login(kToken).ok());
}

TEST(Logins, SessionsAreBounded) {
  ManualClock clock;
  Logins logins(kToken, &clock);
  const auto first = logins.Login(kToken), second = logins.Login(kToken);
  ASSERT_TRUE(first.ok() && second.ok());
  for (size_t i = 1; i < Logins::kMaxSessions; ++i) ASSERT_TRUE(logins.Login(kToken).ok());
  EXPECT_FALSE(logins.Check(*first).ok()) << "the oldest made room";
  EXPECT_TRUE(logins.Check(*second).ok());
}

class TokenFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "token-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string Path() const { return directory_ + "/admin-token"; }
  std::string directory_;
};

TEST_F(TokenFile, IsMadeOnceForItsOwnerOnly) {
  EXPECT_EQ(ReadAdminToken(Path()).code(), StatusCode::kNotFound);
  const auto made = LoadOrMakeAdminToken(Path());
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  EXPECT_EQ(made->size(), kAdminTokenDigits);
  struct stat info {};
  ASSERT_EQ(stat(Path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(*LoadOrMakeAdminToken(Path()), *made);
  EXPECT_EQ(*ReadAdminToken(Path()), *made);
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_)) ++files;
  EXPECT_EQ(files, 1);
}

TEST_F(TokenFile, ThatOthersMayReadIsRefused) {
  ASSERT_TRUE(LoadOrMakeAdminToken(Path()).ok());
  ASSERT_EQ(chmod(Path().c_str(), 0640), 0);
  const auto refused = LoadOrMakeAdminToken(Path());
  EXPECT_EQ(refused.code(), StatusCode::kNotPermitted);
  EXPECT_THAT(refused.status().message(), HasSubstr("chmod 600"));
}

TEST_F(TokenFile, ThatHoldsSomethingElseIsRefused) {
  for (const std::string& content : {std::string(), std::string("secret\n"), std::string(63, 'a'), std::string(64, 'G'), std::string(1000, 'a')}) {
    std::ofstream(Path()) << content;
    ASSERT_EQ(chmod(Path().c_str(), 0600), 0);
    EXPECT_EQ(LoadOrMakeAdminToken(Path()).code(), StatusCode::kMalformed) << content;
  }
}

}  // namespace
}  // namespace cairn::master::console
