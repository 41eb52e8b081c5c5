#include "client/data/server_trust.h"

#include <gtest/gtest.h>

namespace cairn::client {
namespace {

constexpr ServerId kServer(1);
constexpr int64_t kSecond = kNanosPerSecond;

TEST(ServerTrustTest, OneThatDidNotAnswerIsTakenBackAfterAWhile) {
  ServerTrust trust;
  EXPECT_FALSE(trust.Distrusted(kServer, 0));
  trust.Disappointed(kServer, 0);
  EXPECT_TRUE(trust.Distrusted(kServer, 4 * kSecond));
  EXPECT_FALSE(trust.Distrusted(kServer, 5 * kSecond));
  EXPECT_FALSE(trust.Distrusted(ServerId(2), 0));
}

TEST(ServerTrustTest, OneThatDisappointsAgainStaysOutLongerUntilItHasProvedItself) {
  ServerTrust trust;
  int64_t now = 0;
  for (const int64_t seconds : {5, 10, 20, 40, 80, 80}) {
    trust.Disappointed(kServer, now);
    trust.Disappointed(kServer, now + kSecond);  // asked before: does not count again
    EXPECT_TRUE(trust.Distrusted(kServer, now + seconds * kSecond - 1)) << seconds;
    now += seconds * kSecond;
    EXPECT_FALSE(trust.Distrusted(kServer, now)) << seconds;
    for (uint32_t i = 0; i + 1 < ServerTrust::kGoodAnswers; ++i) trust.Answered(kServer, now);
  }
  trust.Answered(kServer, now);
  trust.Disappointed(kServer, now);
  EXPECT_TRUE(trust.Distrusted(kServer, now + 5 * kSecond - 1));
  EXPECT_FALSE(trust.Distrusted(kServer, now + 5 * kSecond)) << "what was before is forgotten";
}

TEST(ServerTrustTest, LateAnswersCountWhenThereAreSeveralInARow) {
  ServerTrust trust;
  for (int i = 0; i < 10; ++i) {
    trust.AnsweredLate(kServer, i);
    trust.AnsweredLate(kServer, i);
    EXPECT_FALSE(trust.Distrusted(kServer, i));
    trust.Answered(kServer, i);
  }
  for (uint32_t i = 0; i < ServerTrust::kSlowAnswers; ++i) trust.AnsweredLate(kServer, 100);
  EXPECT_TRUE(trust.Distrusted(kServer, 101));
}

}  // namespace
}  // namespace cairn::client
