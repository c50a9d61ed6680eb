#include "server/query/gaps.h"

#include <random>

#include "server/query/query_testing.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;

class GapsTest : public QueryTest {
 protected:
  GapsTest() : schema_(MakeSchema(1, {MakeParameter("w")})) {}

  absl::StatusOr<v1::ListGapsResponse> Get(const v1::ListGapsRequest& request) {
    v1::ListGapsResponse response;
    absl::Status status = ListGaps(environment_, request, {}, &response);
    if (!status.ok()) return status;
    return response;
  }

  static v1::ListGapsRequest Ask() {
    v1::ListGapsRequest request;
    request.set_run("run");
    return request;
  }

  const Schema schema_;
};

TEST_F(GapsTest, NeighboursOfTheSameCauseAreJoined) {
  const StreamId stream = AddRun("run", schema_, 1);
  for (int step = 1; step < 10; ++step) {
    store_.AddStep(stream, 0, MakeSkipped(step, GapCause::kInterval));
  }
  store_.AddGap(stream, 0, GapOf(GapCause::kInterval, 10, 12));
  store_.AddGap(stream, 0, GapOf(GapCause::kRingFull, 13, 13));
  store_.AddStep(stream, 0, MakeSkipped(14, GapCause::kInterval));
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->gaps_size(), 3);
  EXPECT_EQ(answer->gaps(0).gap().first_step(), 1);
  EXPECT_EQ(answer->gaps(0).gap().last_step(), 12);
  EXPECT_EQ(answer->gaps(0).gap().steps(), 12u);
  EXPECT_TRUE(answer->gaps(1).lost());
  EXPECT_EQ(answer->gaps(2).gap().first_step(), 14);
  EXPECT_EQ(answer->skipped_steps(), 13u);
  EXPECT_EQ(answer->lost_steps(), 1u);
}

TEST_F(GapsTest, ARecordedStepOrAnotherReasonSeparatesGaps) {
  const StreamId stream = AddRun("run", schema_, 1);
  store_.AddStep(stream, 0, MakeSkipped(1, GapCause::kLoop));
  store_.AddStep(stream, 0, MakeStep(schema_, 2, 0));
  store_.AddStep(stream, 0, MakeSkipped(3, GapCause::kLoop));
  GapData with_reason = GapOf(GapCause::kLoop, 4, 4);
  with_reason.detail = "found inf";
  store_.AddGap(stream, 0, with_reason);
  const auto answer = Get(Ask());
  ASSERT_EQ(answer->gaps_size(), 3);
  EXPECT_EQ(answer->gaps(2).gap().detail(), "found inf");
}

TEST_F(GapsTest, AScalarsOnlyRowKeepsTheReasonThatTheLoopGave) {
  const StreamId stream = AddRun("run", schema_, 1);
  StepData skipped = MakeSkipped(1, GapCause::kLoop);
  skipped.skipped_detail = "found inf";
  store_.AddStep(stream, 0, skipped);
  skipped.step = 2;
  store_.AddStep(stream, 0, skipped);
  skipped.step = 3;
  skipped.skipped_detail = "warm-up";
  store_.AddStep(stream, 0, skipped);
  const auto answer = Get(Ask());
  ASSERT_EQ(answer->gaps_size(), 2);
  EXPECT_EQ(answer->gaps(0).gap().detail(), "found inf");
  EXPECT_EQ(answer->gaps(0).gap().steps(), 2u);
  EXPECT_EQ(answer->gaps(1).gap().detail(), "warm-up");
}

TEST_F(GapsTest, BooksWithoutScalarsOnlyRowsCostNoReadingOfRows) {
  const StreamId stream = AddRun("run", schema_, 100);
  store_.AddGap(stream, 0, GapOf(GapCause::kInterval, 100, 120));
  const std::uint64_t before = store_.bytes_read();
  EXPECT_EQ(Get(Ask())->gaps_size(), 1);
  EXPECT_EQ(store_.bytes_read(), before);
}

TEST_F(GapsTest, AreFilteredByStepsAttemptAndRankAndNamedSo) {
  const StreamId first = AddRun("run", schema_, 10);
  store_.AddGap(first, 0, GapOf(GapCause::kRingFull, 10, 19));
  const StreamId rank1 = Open("run", "one", 1);
  store_.AddGap(rank1, 0, GapOf(GapCause::kRingFull, 0, 3));
  const StreamId second = Open("run", "two", 0, kStart + kSecond);
  store_.AddGap(second, 0, GapOf(GapCause::kFork, 5, 5));
  store_.AddBranch(second, 1);
  store_.AddGap(second, 1, GapOf(GapCause::kFork, 2, 2));
  auto answer = Get(Ask());
  ASSERT_EQ(answer->gaps_size(), 4);
  EXPECT_EQ(answer->gaps(3).attempt(), 2u);
  EXPECT_EQ(answer->gaps(3).branch(), 1u);
  EXPECT_EQ(answer->gaps(1).rank(), 1u);
  v1::ListGapsRequest request = Ask();
  request.add_ranks(1);
  EXPECT_EQ(Get(request)->gaps_size(), 1);
  request = Ask();
  request.set_attempt(2);
  EXPECT_EQ(Get(request)->gaps_size(), 2);
  request = Ask();
  request.mutable_steps()->set_begin(15);
  EXPECT_EQ(Get(request)->gaps_size(), 1);
  request.mutable_steps()->set_end(16);
  EXPECT_EQ(Get(request)->gaps(0).gap().last_step(), 19);
  request.set_attempt(9);
  EXPECT_THAT(Get(request),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no attempt 9")));
}

TEST_F(GapsTest, MoreGapsThanTheLimitAreRefused) {
  const StreamId stream = AddRun("run", schema_, 1);
  for (int i = 1; i < 20; ++i) {
    store_.AddGap(stream, 0, GapOf(GapCause::kRingFull, 2 * i, 2 * i));
  }
  environment_.limits.max_gaps = 10;
  EXPECT_THAT(Get(Ask()), StatusIs(absl::StatusCode::kResourceExhausted,
                                   HasSubstr("--steps")));
}

TEST_F(GapsTest, CoalescedGapsKeepTheirNumberOfSteps) {
  std::mt19937 rng(5);
  std::vector<v1::GapInfo> gaps;
  std::uint64_t steps = 0;
  std::int64_t at = 0;
  for (int i = 0; i < 10'000; ++i) {
    at += 2 + std::uniform_int_distribution<int>(0, 5)(rng);
    const std::int64_t last =
        at + std::uniform_int_distribution<int>(0, 3)(rng);
    const GapCause cause = i % 3 == 0 ? GapCause::kBudget : GapCause::kInterval;
    gaps.push_back(MakeGap(1, 0, 0, GapOf(cause, at, last)));
    steps += static_cast<std::uint64_t>(last - at + 1);
    at = last;
  }
  Coalesce(100, &gaps);
  EXPECT_LE(gaps.size(), 102u);
  std::uint64_t kept = 0;
  for (const v1::GapInfo& info : gaps) {
    kept += info.gap().steps();
    EXPECT_LE(info.gap().steps(),
              static_cast<std::uint64_t>(info.gap().last_step() -
                                         info.gap().first_step() + 1));
  }
  EXPECT_EQ(kept, steps);
}

}  // namespace
}  // namespace gradtap::server::testing
