#include "cli/files/location.h"

#include <gtest/gtest.h>

namespace cairn::cli {
namespace {

TEST(Location, PlainPathsAreLocalForCopiesAndTheClustersOtherwise) {
  EXPECT_FALSE(ParseLocation("/a/b", false)->cluster);
  EXPECT_TRUE(ParseLocation("/a/b", true)->cluster);
  EXPECT_EQ(ParseLocation("relative", true).code(), StatusCode::kInvalidArgument);
}

TEST(Location, ClusterPathsNameTheirMasterOrUseTheDefault) {
  auto location = ParseLocation("cairn://host:1234/a/b", false);
  ASSERT_TRUE(location.ok());
  EXPECT_TRUE(location->cluster);
  EXPECT_EQ(location->masters, "host:1234");
  EXPECT_EQ(location->path, "/a/b");
  for (const char* text : {"cairn:/a", "cairn:///a"}) {
    location = ParseLocation(text, false);
    ASSERT_TRUE(location.ok()) << text;
    EXPECT_EQ(location->masters, "") << text;
    EXPECT_EQ(location->path, "/a") << text;
  }
  EXPECT_EQ(ParseLocation("cairn://[::1]:9400", false)->path, "/");
  EXPECT_EQ(ParseLocation("cairn:relative", false).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseLocation("cairn://host:notaport/a", false).code(), StatusCode::kInvalidArgument);
}

TEST(Location, BaseNameIgnoresTrailingSlashes) {
  EXPECT_EQ(BaseName("a/b/"), "b");
  EXPECT_EQ(BaseName("/"), "/");
  EXPECT_EQ(BaseName("plain"), "plain");
  EXPECT_EQ(JoinPath("/", "a"), "/a");
  EXPECT_EQ(JoinPath("/x", "a"), "/x/a");
}

}  // namespace
}  // namespace cairn::cli
