#include "common/metrics/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

namespace cairn::metrics {
namespace {

using testing::HasSubstr;

class EndpointTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started =
        Endpoint::Start({.address = "127.0.0.1:0", .program = "tested", .version = "1.2"}, registry_);
    ASSERT_TRUE(started.ok()) << started.status().ToString();
    endpoint_ = *std::move(started);
  }
  httplib::Client Browser() const { return httplib::Client("127.0.0.1", endpoint_->port()); }

  Registry registry_;
  std::unique_ptr<Endpoint> endpoint_;
};

TEST_F(EndpointTest, ServesWhatTheRegistryHolds) {
  Counter& counter = registry_.GetCounter("cairn_test_total", "things");
  counter.Add(41);
  auto browser = Browser();
  const auto first = browser.Get("/metrics");
  ASSERT_TRUE(first);
  EXPECT_EQ(first->status, 200);
  EXPECT_THAT(first->get_header_value("Content-Type"), HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(first->body, HasSubstr("cairn_test_total 41\n"));
  counter.Add();
  EXPECT_THAT(browser.Get("/metrics")->body, HasSubstr("cairn_test_total 42\n"));
  EXPECT_EQ(browser.Get("/health")->body, "ok\n");
  EXPECT_THAT(browser.Get("/metrics")->body,
              HasSubstr("cairn_build_info{program=\"tested\",version=\"1.2\"} 1\n"));
}

TEST_F(EndpointTest, WithoutAnAddressThereIsNone) {
  const auto none = Endpoint::Start({}, registry_);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(*none, nullptr);
}

TEST_F(EndpointTest, NothingElseIsAnswered) {
  auto browser = Browser();
  EXPECT_EQ(browser.Get("/")->status, 404);
  EXPECT_EQ(browser.Get("/../../etc/passwd")->status, 404);
  EXPECT_EQ(browser.Post("/metrics", "x", "text/plain")->status, 404);
  const std::string big(1 << 20, 'x');
  const auto refused = browser.Post("/metrics", big, "text/plain");
  EXPECT_TRUE(!refused || refused->status >= 400);
  EXPECT_EQ(browser.Get("/health")->status, 200);
}

TEST_F(EndpointTest, ABusyPortIsRefusedByName) {
  const std::string address = "127.0.0.1:" + std::to_string(endpoint_->port());
  const auto second = Endpoint::Start({.address = address}, registry_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.code(), StatusCode::kBusy);
  EXPECT_THAT(second.status().message(), HasSubstr(address));
}

TEST_F(EndpointTest, ABadAddressIsExplained) {
  const auto wrong = Endpoint::Start({.address = "nonsense"}, registry_);
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.status().message(), HasSubstr("'nonsense'"));
}

}  // namespace
}  // namespace cairn::metrics
