// What one query may cost the threads that all share.

#include "server/service/query_backend.h"

#include <gmock/gmock.h>

#include <chrono>
#include <future>
#include <latch>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/match_limit.h"
#include "core/name_filter.h"
#include "core/sync.h"
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
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Every byte of a name costs as much as this is long.
constexpr char kDear[] = "[ab]*a[ab]{500}c";
constexpr unsigned kNames = 300;
// So long that only a hang is ever cut off.
constexpr std::chrono::seconds kPatience{120};

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
        "Test", "me", [] { return false; },
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
        "Test", "me", [] { return false; },
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
      "Test", "me", [] { return false; },
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
      "Test", "me", [] { return false; },
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

// 64 may wait, of one client three quarters; those that run do not count.
TEST_F(QueryBackendTest, WhoFillsItsPartOfTheQueueLeavesOthersTheirs) {
  Start({});
  Mutex mu;
  std::vector<absl::Status> told;
  const auto take = [&] {
    MutexLock lock(mu);
    return std::exchange(told, {});
  };
  const auto submit = [&](int count, const std::string& client,
                          const QueryBackend::Task& task) {
    for (int i = 0; i < count; ++i) {
      backend_->Submit(
          "Test", client, [] { return false; }, task,
          [&](const absl::Status& status) {
            MutexLock lock(mu);
            told.push_back(status);
          });
    }
    return take();  // What is refused is told at once.
  };
  const auto quick = [](const Cancelled&) { return absl::OkStatus(); };
  for (std::uint64_t round = 1; round <= 2; ++round) {
    std::latch begun(2);
    std::latch go(1);
    submit(2, "me", [&](const Cancelled&) {
      begun.count_down();
      go.wait();
      return absl::OkStatus();
    });
    begun.wait();
    EXPECT_THAT(submit(48, "me", quick), IsEmpty());
    EXPECT_THAT(submit(1, "me", quick),
                ElementsAre(StatusIs(absl::StatusCode::kResourceExhausted,
                                     HasSubstr("48 of the 64 queries that may "
                                               "wait are yours"))));
    EXPECT_THAT(submit(16, "other", quick), IsEmpty());
    EXPECT_THAT(submit(1, "third", quick),
                ElementsAre(StatusIs(absl::StatusCode::kResourceExhausted,
                                     HasSubstr("64 queries wait already"))));
    EXPECT_EQ(refused_.refused(Limit::kWaitingQueries), 2 * round);
    go.count_down();
    backend_->WaitIdle(std::chrono::steady_clock::now() + kPatience);
    const std::vector<absl::Status> answers = take();
    EXPECT_EQ(answers.size(), 66u);
    EXPECT_THAT(answers, Each(gradtap::testing::IsOk()));
  }
}

TEST_F(QueryBackendTest, WhoHasGoneIsNotListedFor) {
  AddDearRun();
  Start({});
  v1::ListParametersRequest request;
  request.set_run("run");
  v1::ListParametersResponse response;
  const absl::Status status = backend_->Run(
      "Test", "me", [] { return true; },
      [&](const Cancelled& cancelled) {
        return Answer(backend_.get(), request, cancelled, &response);
      });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled, _));
}

}  // namespace
}  // namespace gradtap::server::testing
