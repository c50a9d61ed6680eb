// What one query may cost the threads that all share.

#include "server/service/query_backend.h"

#include <gmock/gmock.h>

#include <chrono>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/match_limit.h"
#include "core/name_filter.h"
#include "server/promql/evaluator.h"
#include "server/promql/parser.h"
#include "server/query/metric_series.h"
#include "server/query/query_testing.h"
#include "server/service/query_methods.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Every byte of a name costs as much as this is long.
constexpr char kDear[] = "[ab]*a[ab]{500}c";
constexpr unsigned kNames = 300;

std::string DearName(unsigned number) {
  std::mt19937 random(number);
  std::string name;
  for (int i = 0; i < 500; ++i) name += random() % 2 == 0 ? 'a' : 'b';
  return name;
}

class QueryBackendTest : public QueryTest {
 protected:
  QueryBackendTest() { environment_.guards.refused = &refused_; }

  void Start(const QueryBackendOptions& options) {
    backend_ = std::make_unique<QueryBackend>(environment_, options);
  }

  void AddDearRun() {
    std::vector<Parameter> parameters;
    for (unsigned i = 0; i < kNames; ++i) {
      parameters.push_back(MakeParameter(DearName(i)));
    }
    AddRun("run", MakeSchema(1, std::move(parameters)), 2);
  }

  template <typename Request, typename Response>
  absl::Status Ask(const Request& request, Response* response) {
    return backend_->Run(
        "Test", [] { return false; },
        [&](const Cancelled& cancelled) {
          return Answer(backend_.get(), request, cancelled, response);
        });
  }
  template <typename Response, typename Request>
  absl::Status AskFor(Request request) {
    request.set_run("run");
    request.set_match(kDear);
    Response response;
    return Ask(request, &response);
  }

  absl::Status AskPromql(const std::string& query) {
    return backend_->Run(
        "Test", [] { return false; },
        [&](const Cancelled& cancelled) {
          const auto parsed = promql::Parse(query);
          if (!parsed.ok()) return parsed.status();
          MetricSeries source(backend_->environment(), cancelled);
          const std::int64_t now = kStart / 1'000'000;
          return promql::Evaluate(**parsed, {now, now, 1}, &source).status();
        });
  }

  LimitCounters refused_;
  std::unique_ptr<QueryBackend> backend_;
};

TEST_F(QueryBackendTest, APatternThatTakesTooLongEndsItsQueryWhicheverItIs) {
  AddDearRun();
  QueryBackendOptions options;
  options.max_match_time = std::chrono::milliseconds(20);
  Start(options);
  v1::GetSeriesRequest series;
  series.add_runs("run");
  series.add_statistics("grad.l2");
  series.set_match(kDear);
  v1::GetSeriesResponse of_series;
  v1::GetSeriesRequest merged = series;
  merged.clear_match();
  merged.add_merge_match(kDear);
  v1::CompareRunsRequest compare;
  compare.set_good_run("run");
  compare.set_other_run("run");
  compare.set_match(kDear);
  v1::CompareRunsResponse of_compare;
  v1::GetHeatMapRequest map;
  map.set_statistic("grad.l2");
  v1::GetTopRequest top;
  top.set_statistic("grad.l2");
  v1::GetHeatMapRequest merged_map = map;
  merged_map.set_merged(true);
  const std::vector<absl::Status> answers = {
      AskFor<v1::ListParametersResponse>(v1::ListParametersRequest()),
      AskFor<v1::GetSnapshotResponse>(v1::GetSnapshotRequest()),
      AskFor<v1::GetHeatMapResponse>(map),
      AskFor<v1::GetHeatMapResponse>(merged_map),
      AskFor<v1::GetTopResponse>(top),
      Ask(series, &of_series),
      Ask(merged, &of_series),
      Ask(compare, &of_compare),
      AskPromql("{param=~\"" + std::string(kDear) + "\"}"),
      AskPromql("{param!~\"" + std::string(kDear) + "\",run=\"run\"}"),
  };
  for (std::size_t i = 0; i < answers.size(); ++i) {
    EXPECT_THAT(answers[i], StatusIs(absl::StatusCode::kResourceExhausted,
                                     AllOf(HasSubstr("[ab]*a[ab]{500}c"),
                                           HasSubstr("instructions"))))
        << i;
  }
  EXPECT_EQ(refused_.refused(Limit::kQueryWork), answers.size());
  v1::ListParametersRequest all;
  all.set_run("run");
  v1::ListParametersResponse listed;
  GRADTAP_EXPECT_OK(Ask(all, &listed));
  EXPECT_EQ(listed.parameters_size(), static_cast<int>(kNames));
}

TEST_F(QueryBackendTest, ManyMatchersTogetherMayTakeNoLongerThanOne) {
  AddDearRun();
  QueryBackendOptions options;
  options.max_match_time = std::chrono::milliseconds(200);
  Start(options);
  // Each passes all names, the last one none.
  std::string query = "{run=\"run\",param=~\".*\"";
  for (int i = 0; i < 40; ++i) query += ",param!~\"[ab]*a[ab]{300}c\"";
  EXPECT_THAT(AskPromql(query + "}"),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("matching names took longer than 0.2 s")));
}

TEST_F(QueryBackendTest, WhatTakesTooLongIsToldToGiveUpAndSaidSo) {
  QueryBackendOptions options;
  options.max_time = std::chrono::milliseconds(1);
  Start(options);
  const absl::Status status = backend_->Run(
      "Test", [] { return false; },
      [](const Cancelled& cancelled) {
        while (!cancelled()) std::this_thread::yield();
        return absl::CancelledError("the caller has gone");
      });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDeadlineExceeded,
                               AllOf(HasSubstr("longer than 0.001 s"),
                                     HasSubstr("--steps A:B, --match"))));
  EXPECT_EQ(refused_.refused(Limit::kQueryWork), 1u);
}

TEST_F(QueryBackendTest, AStopEndsAQueryInTheMidstOfMatching) {
  QueryBackendOptions options;
  options.max_time = options.max_match_time = std::chrono::hours(1);
  Start(options);
  const auto filter = NameFilter::Create({kDear});
  GRADTAP_ASSERT_OK(filter);
  std::promise<void> begun;
  std::promise<absl::Status> ended;
  backend_->Submit(
      "Test", [] { return false; },
      [&](const Cancelled&) {
        begun.set_value();
        for (unsigned i = 0; MatchLimit::OfThread().ok(); ++i) {
          filter->Matches(DearName(i));
        }
        return absl::OkStatus();
      },
      [&](const absl::Status& status) { ended.set_value(status); });
  begun.get_future().get();
  backend_->Stop();
  EXPECT_THAT(ended.get_future().get(),
              StatusIs(absl::StatusCode::kUnavailable, _));
}

TEST_F(QueryBackendTest, WhoHasGoneIsNotListedFor) {
  AddDearRun();
  Start({});
  v1::ListParametersRequest request;
  request.set_run("run");
  v1::ListParametersResponse response;
  const absl::Status status = backend_->Run(
      "Test", [] { return true; },
      [&](const Cancelled& cancelled) {
        return Answer(backend_.get(), request, cancelled, &response);
      });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled, _));
}

}  // namespace
}  // namespace gradtap::server::testing
