#include "server/limits/request_rate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/manual_clock.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::ManualClock;
using ::gradtap::testing::StatusIs;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class RequestRateTest : public ::testing::Test {
 protected:
  // Ten a second, twenty at once.
  static RateLimit Few() {
    RateLimit limit;
    limit.per_second = 10;
    limit.burst_seconds = 2;
    limit.max_clients = 3;
    return limit;
  }
  int TakeAll(const std::string& client) {
    int taken = 0;
    while (!rate_.Take(client).has_value()) ++taken;
    return taken;
  }

  ManualClock clock_;
  LimitCounters refused_;
  RequestRate rate_{Few(), &clock_, &refused_};
};

TEST_F(RequestRateTest, ABurstIsTakenAndThenThePace) {
  EXPECT_EQ(TakeAll("a"), 20);
  EXPECT_EQ(refused_.refused(Limit::kClientRequests), 1u);
  clock_.Advance(milliseconds(100));
  EXPECT_EQ(TakeAll("a"), 1);
  clock_.Advance(seconds(1));
  EXPECT_EQ(TakeAll("a"), 10);
  clock_.Advance(seconds(3600));
  EXPECT_EQ(TakeAll("a"), 20);
  EXPECT_EQ(refused_.refused(Limit::kClientRequests), 4u);
}

TEST_F(RequestRateTest, WhoIsRefusedIsToldWhenToComeAgainAndIsTakenThen) {
  EXPECT_EQ(TakeAll("a"), 20);
  const auto wait = rate_.Take("a");
  ASSERT_TRUE(wait.has_value());
  clock_.Advance(*wait);
  EXPECT_FALSE(rate_.Take("a").has_value());
  EXPECT_TRUE(rate_.Take("a").has_value());
}

TEST_F(RequestRateTest, ASessionCountsForMoreAndForNoMoreThanThereCanBe) {
  RateLimit limit = Few();
  limit.of_a_session = 8;
  RequestRate rate(limit, &clock_, nullptr);
  EXPECT_FALSE(rate.Take("a", true).has_value());
  EXPECT_FALSE(rate.Take("a", true).has_value());
  EXPECT_TRUE(rate.Take("a", true).has_value());
  limit.of_a_session = 1'000;
  RequestRate dear(limit, &clock_, nullptr);
  EXPECT_FALSE(dear.Take("a", true).has_value());
  EXPECT_TRUE(dear.Take("a", true).has_value());
}

TEST_F(RequestRateTest, WhoAsksWithoutEndKeepsNoSessionOut) {
  EXPECT_EQ(TakeAll("a"), 20);
  EXPECT_FALSE(rate_.Take("a", true).has_value());
  EXPECT_TRUE(rate_.Take("a").has_value());
}

TEST_F(RequestRateTest, OneClientTakesNothingFromAnother) {
  EXPECT_EQ(TakeAll("a"), 20);
  EXPECT_EQ(TakeAll("b"), 20);
  EXPECT_TRUE(rate_.Take("a").has_value());
}

TEST_F(RequestRateTest, AFullTableForgetsWhoseBucketIsFullAndNobodyElse) {
  EXPECT_EQ(TakeAll("a"), 20);
  rate_.Take("b");
  rate_.Take("c");
  EXPECT_EQ(rate_.clients(), 3u);
  // The strangers have one bucket.
  EXPECT_EQ(TakeAll("d"), 20);
  EXPECT_EQ(TakeAll("e"), 0);
  EXPECT_EQ(rate_.clients(), 3u);
  EXPECT_EQ(TakeAll("b"), 19);
  clock_.Advance(seconds(1));
  EXPECT_EQ(TakeAll("f"), 20);  // In the place of c.
  EXPECT_EQ(rate_.clients(), 3u);
  EXPECT_EQ(TakeAll("a"), 10);
}

TEST_F(RequestRateTest, TheTableNeverGrowsBeyondItsSize) {
  for (int i = 0; i < 1'000; ++i) {
    rate_.Take(std::to_string(i));
    clock_.Advance(milliseconds(7));
    EXPECT_LE(rate_.clients(), 3u);
  }
}

TEST_F(RequestRateTest, TheRefusalNamesTheClientTheLimitAndTheTime) {
  EXPECT_THAT(rate_.TooOften("127.0.0.1", milliseconds(1'200)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("more than 10 requests a second"),
                             HasSubstr("127.0.0.1"), HasSubstr("in 2 s"),
                             HasSubstr("--max-requests"))));
  EXPECT_THAT(std::string(rate_
                              .TooOften("\x1b[31m" + std::string(100'000, 'x'),
                                        milliseconds(1))
                              .message()),
              AllOf(HasSubstr("in 1 s"), Not(HasSubstr("\x1b"))));
  EXPECT_LT(
      rate_.TooOften(std::string(100'000, 'x'), seconds(1)).message().size(),
      400u);
}

}  // namespace
}  // namespace gradtap::server
