#include "server/http/request_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "gradtap/v1/compare.pb.h"
#include "gradtap/v1/query.pb.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename Message>
absl::Status Set(const UrlParameters& parameters, Message* message) {
  return SetFields(parameters, message);
}

template <typename Message>
void ExpectBad(const UrlParameters& parameters, const std::string& what,
               const std::string& wanted) {
  Message message;
  EXPECT_THAT(Set(parameters, &message),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(what), HasSubstr(wanted))));
}

TEST(RequestFieldsTest, EveryKindOfFieldIsSet) {
  v1::GetSeriesRequest series;
  GRADTAP_ASSERT_OK(Set({{"runs", "a"},
                         {"runs", "b&c"},
                         {"statistics", "grad.l2"},
                         {"since_unix_ns", "-5"},
                         {"maxPoints", "2000"},
                         {"ranks", "3"},
                         {"ranks", "4"},
                         {"merged", "true"}},
                        &series));
  EXPECT_THAT(series.runs(), ElementsAre("a", "b&c"));
  EXPECT_THAT(series.statistics(), ElementsAre("grad.l2"));
  EXPECT_EQ(series.since_unix_ns(), -5);
  EXPECT_EQ(series.max_points(), 2000u);
  EXPECT_THAT(series.ranks(), ElementsAre(3u, 4u));
  EXPECT_TRUE(series.merged());
  v1::CompareRunsRequest compare;
  GRADTAP_ASSERT_OK(Set({{"noise_factor", "2.5"}}, &compare));
  EXPECT_EQ(compare.noise_factor(), 2.5);
  v1::WatchRequest watch;
  GRADTAP_ASSERT_OK(Set({{"afterOrdinal", "18446744073709551615"}}, &watch));
  EXPECT_EQ(watch.after_ordinal(), ~std::uint64_t{0});
}

TEST(RequestFieldsTest, FieldsOfAFieldStandBehindADot) {
  v1::GetSeriesRequest request;
  GRADTAP_ASSERT_OK(
      Set({{"steps.begin", "-100"}, {"steps.end", "7"}}, &request));
  EXPECT_EQ(request.steps().begin(), -100);
  EXPECT_EQ(request.steps().end(), 7);
}

TEST(RequestFieldsTest, EnumsHaveShortNames) {
  for (const char* name : {"RUN_STATE_LOST", "lost", "Lost"}) {
    v1::ListRunsRequest request;
    GRADTAP_ASSERT_OK(Set({{"state", name}}, &request));
    EXPECT_EQ(request.state(), v1::RUN_STATE_LOST) << name;
  }
  ExpectBad<v1::ListRunsRequest>({{"state", "dead"}}, "state=dead",
                                 "running, finished, stopped, lost");
}

TEST(RequestFieldsTest, WhatDoesNotFitIsNamed) {
  using Series = v1::GetSeriesRequest;
  ExpectBad<Series>({{"stat", "x"}}, "no parameter 'stat'", "statistics");
  ExpectBad<Series>({{"max_points", "-1"}}, "max_points=-1", "a number of 0");
  ExpectBad<Series>({{"max_points", "4294967296"}}, "max_points=4294967296",
                    "a number");
  ExpectBad<Series>({{"since_unix_ns", "now"}}, "since_unix_ns=now",
                    "a number");
  ExpectBad<Series>({{"merged", "maybe"}}, "merged=maybe", "true or false");
  ExpectBad<Series>({{"match", "a\xff"}}, "match=a", "UTF-8");
  ExpectBad<Series>({{"steps", "1:2"}}, "'steps'", "steps.begin, steps.end");
  ExpectBad<Series>({{"steps.first", "1"}}, "'steps.first'", "steps.begin");
  ExpectBad<Series>({{"match.x", "1"}}, "'match.x'", "match");
  ExpectBad<Series>({{"", "1"}}, "''", "runs");
  ExpectBad<Series>({{"match", "a"}, {"match", "b"}}, "match", "once");
  ExpectBad<v1::GetStatusRequest>({{"x", "1"}}, "'x'", "none");
  ExpectBad<v1::ListRunsRequest>({{"tags", "a=b"}}, "tags", "JSON");
}

TEST(RequestFieldsTest, HostileTextIsEscapedAndCut) {
  v1::GetRunRequest request;
  const absl::Status status =
      Set({{"\x1b[31m" + std::string(100'000, 'x'), "1"}}, &request);
  const std::string message(status.message());
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
  EXPECT_LT(message.size(), 400u);
}

}  // namespace
}  // namespace gradtap::server
