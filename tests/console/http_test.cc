// The rules of who is answered: host, origin, content type, cookies.
#include "master/console/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn::master::console {
namespace {

using testing::HasSubstr;

Request From(const std::string& host) { return {.method = "GET", .path = "/api/status", .host = host}; }

TEST(ConsoleHttp, AddressesLocalhostAndGivenNamesAreTheOnlyHosts) {
  for (const char* host : {"127.0.0.1:9401", "localhost:9401", "LOCALHOST", "[::1]:9401", "10.0.0.5:80", "cairn.example:9401"})
    EXPECT_TRUE(CheckHost(From(host), {"cairn.example"}).ok()) << host;
  for (const char* host : {"evil.example:9401", "127.0.0.1.evil.example", "cairn.example.evil.example", "", "localhost.evil.example:9401",
                           "localhost:9401:9401", "127.0.0.1@evil.example"}) {
    const Status refused = CheckHost(From(host), {"cairn.example"});
    EXPECT_EQ(refused.code(), StatusCode::kNotPermitted) << host;
    EXPECT_THAT(refused.message(), HasSubstr("--console-host"));
  }
}

TEST(ConsoleHttp, ChangesComeFromTheConsolesOwnPagesAsJson) {
  Request good{.method = "POST", .host = "127.0.0.1:9401", .origin = "http://127.0.0.1:9401", .fetch_site = "same-origin",
               .content_type = "application/json; charset=utf-8"};
  EXPECT_TRUE(CheckSameOrigin(good).ok());
  Request program = good;
  program.origin = program.fetch_site = "";  // no browser
  EXPECT_TRUE(CheckSameOrigin(program).ok());
  Request behind_tls = good;
  behind_tls.origin = "https://127.0.0.1:9401";
  EXPECT_TRUE(CheckSameOrigin(behind_tls).ok());

  for (const char* origin : {"http://evil.example", "http://127.0.0.1:9402", "null", "http://127.0.0.1:9401.evil.example"}) {
    Request request = good;
    request.origin = origin;
    EXPECT_EQ(CheckSameOrigin(request).code(), StatusCode::kNotPermitted) << origin;
  }
  for (const char* site : {"cross-site", "same-site", "none"}) {
    Request request = good;
    request.fetch_site = site;
    EXPECT_EQ(CheckSameOrigin(request).code(), StatusCode::kNotPermitted) << site;
  }
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"}) {
    Request request = good;
    request.content_type = type;
    EXPECT_EQ(CheckSameOrigin(request).code(), StatusCode::kInvalidArgument) << type;
  }
}

TEST(ConsoleHttp, OnlyLoopbackIsLoopback) {
  for (const char* host : {"127.0.0.1", "127.8.9.10", "::1", "localhost"}) EXPECT_TRUE(IsLoopback(host)) << host;
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "example.org", "", "*"}) EXPECT_FALSE(IsLoopback(host)) << host;
}

TEST(ConsoleHttp, ErrorsOfAnyBytesAreJson) {
  const Response response = ErrorResponse(Status(StatusCode::kNotFound, "\xff\"quoted\""));
  EXPECT_EQ(response.status, 404);
  EXPECT_THAT(response.body, HasSubstr("\\\"quoted\\\""));
}

}  // namespace
}  // namespace cairn::master::console
