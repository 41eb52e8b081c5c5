#include "common/ids.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(Stamp, OrdersByEpochThenSeq) {
  EXPECT_LT((Stamp{Epoch(1), 9}), (Stamp{Epoch(2), 0}));
  EXPECT_LT((Stamp{Epoch(2), 0}), (Stamp{Epoch(2), 1}));
}

TEST(Uuid, RoundTripsAndRefusesGarbage) {
  const Uuid id = Uuid::Random();
  Uuid parsed;
  ASSERT_TRUE(Uuid::Parse(id.ToString(), &parsed));
  EXPECT_EQ(parsed, id);
  EXPECT_FALSE(Uuid::Parse("", &parsed));
  EXPECT_FALSE(Uuid::Parse("12", &parsed));
  EXPECT_FALSE(Uuid::Parse(id.ToString() + "0", &parsed));
  EXPECT_FALSE(Uuid::Parse(std::string(32, 'g'), &parsed));
}

}  // namespace
}  // namespace cairn
