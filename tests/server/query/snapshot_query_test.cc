#include "server/query/snapshot_query.h"

#include <cmath>

#include "server/query/query_testing.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SnapshotQueryTest : public QueryTest {
 protected:
  SnapshotQueryTest()
      : schema_(
            MakeSchema(1, {MakeParameter("fc.weight"), MakeBuffer("bn.mean"),
                           MakeParameter("fc.bias")})) {}

  absl::StatusOr<v1::GetSnapshotResponse> Get(
      const v1::GetSnapshotRequest& request) {
    v1::GetSnapshotResponse response;
    absl::Status status = GetSnapshot(environment_, request, {}, &response);
    if (!status.ok()) return status;
    return response;
  }

  static v1::GetSnapshotRequest Ask(std::optional<std::int64_t> step = {}) {
    v1::GetSnapshotRequest request;
    request.set_run("run");
    if (step.has_value()) request.set_step(*step);
    return request;
  }

  const Schema schema_;
};

TEST_F(SnapshotQueryTest, ThousandsOfParametersAreAllThereInOrder) {
  std::vector<Parameter> parameters;
  for (int i = 0; i < 3000; ++i) {
    parameters.push_back(MakeParameter("p" + std::to_string(i)));
  }
  AddRun("wide", MakeSchema(1, parameters), 5);
  v1::GetSnapshotRequest request;
  request.set_run("wide");
  request.set_step(1);
  request.add_statistics("grad.mean");
  request.add_statistics("weight.max");
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->rows_size(), 3000);
  for (int i = 0; i < 3000; ++i) {
    EXPECT_EQ(answer->rows(i).parameter(), "p" + std::to_string(i));
    ASSERT_EQ(answer->rows(i).value_size(), 2);
    EXPECT_EQ(answer->rows(i).value(0), 1 + i + 200);
    EXPECT_EQ(answer->rows(i).value(1), 1 + i + 100 + 2);
  }
}

TEST_F(SnapshotQueryTest, ShowsTheLastStepInTheSchemasOrderWithScalars) {
  AddRun("run", schema_, 5);
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->step(), 4);
  EXPECT_EQ(answer->time_unix_ns(), kStart + 4 * kSecond);
  EXPECT_THAT(
      answer->statistics(),
      ElementsAre("grad.l2", "weight.l2", "update.ratio", "grad.abs_max",
                  "grad.nonfinite", "weight.nonfinite"));
  ASSERT_EQ(answer->rows_size(), 3);
  EXPECT_EQ(answer->rows(0).parameter(), "fc.weight");
  EXPECT_EQ(answer->rows(0).absent_size(), 0);
  EXPECT_EQ(answer->rows(1).kind(), v1::KIND_BUFFER);
  // A buffer has none of these roles.
  EXPECT_THAT(answer->rows(1).absent(), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(answer->scalars_size(), 3);
  EXPECT_EQ(answer->interval_steps(), 1u);
}

TEST_F(SnapshotQueryTest, NegativeStepsCountRecordedOnesFromTheEnd) {
  const StreamId stream = AddRun("run", schema_, 3);
  store_.AddStep(stream, 0, MakeSkipped(3, GapCause::kInterval));
  store_.AddGap(stream, 0, GapOf(GapCause::kInterval, 4, 9));
  EXPECT_EQ(Get(Ask())->step(), 2);
  EXPECT_EQ(Get(Ask(-1))->step(), 2);
  EXPECT_EQ(Get(Ask(-3))->step(), 0);
  EXPECT_THAT(Get(Ask(-4)),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("only 3")));
}

TEST_F(SnapshotQueryTest, AStepThatIsNotThereSaysWhyAndWhatIsNear) {
  const StreamId stream = AddRun("run", schema_, 3);
  store_.AddStep(stream, 0, MakeSkipped(3, GapCause::kBudget));
  store_.AddGap(stream, 0, GapOf(GapCause::kRingFull, 4, 6));
  store_.AddStep(stream, 0, MakeStep(schema_, 7, 1));
  const auto code = absl::StatusCode::kNotFound;
  EXPECT_THAT(Get(Ask(3)), StatusIs(code, AllOf(HasSubstr("skipped: budget"),
                                                HasSubstr("2 and 7"))));
  EXPECT_THAT(Get(Ask(5)), StatusIs(code, AllOf(HasSubstr("lost: ring_full"),
                                                HasSubstr("2 and 7"))));
  EXPECT_THAT(Get(Ask(100)), StatusIs(code, HasSubstr("known: 7")));
  EXPECT_THAT(Get(Ask(std::numeric_limits<std::int64_t>::max())),
              StatusIs(code, HasSubstr("known: 7")));
  EXPECT_THAT(Get(Ask(std::numeric_limits<std::int64_t>::min())),
              StatusIs(code, HasSubstr("only 4")));
}

TEST_F(SnapshotQueryTest, ARunWithoutStepsSaysSo) {
  Open("run");
  EXPECT_THAT(Get(Ask()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no recorded")));
}

TEST_F(SnapshotQueryTest, ScalarsCanBeChosenAndAPatternMustMatch) {
  AddRun("run", schema_, 1);
  v1::GetSnapshotRequest request = Ask();
  request.add_statistics("scalar.loss");
  const auto scalars = Get(request);
  GRADTAP_ASSERT_OK(scalars);
  EXPECT_EQ(scalars->rows_size(), 0);
  ASSERT_EQ(scalars->scalars_size(), 1);
  EXPECT_EQ(scalars->scalars(0).name(), "loss");
  request = Ask();
  request.set_match("fc.wieght");
  EXPECT_THAT(Get(request),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'fc.weight'")));
  request.set_match("bias$");
  EXPECT_EQ(Get(request)->rows_size(), 1);
}

TEST_F(SnapshotQueryTest, AnOlderAttemptStaysReadable) {
  AddRun("run", schema_, 10);
  const StreamId second = Open("run", "two", 0, kStart + 100 * kSecond);
  store_.AddSchema(second, schema_);
  store_.AddStep(second, 0, MakeStep(schema_, 5, 77));
  EXPECT_EQ(Get(Ask())->step(), 5);
  EXPECT_EQ(Get(Ask())->attempt(), 2u);
  EXPECT_THAT(Get(Ask(8)), StatusIs(absl::StatusCode::kNotFound,
                                    HasSubstr("nearest known: 5")));
  v1::GetSnapshotRequest request = Ask(8);
  request.set_attempt(1);
  GRADTAP_ASSERT_OK(Get(request));
  EXPECT_EQ(Get(request)->attempt(), 1u);
}

TEST_F(SnapshotQueryTest, SparseStepCountersAreFoundWithoutReadingAll) {
  const StreamId stream = Open("run");
  store_.AddSchema(stream, schema_);
  for (std::int64_t step = 0; step < 50; ++step) {
    store_.AddStep(stream, 0, MakeStep(schema_, step * 1'000'000'007, 1));
  }
  EXPECT_EQ(Get(Ask(-2))->step(), 48 * 1'000'000'007LL);
}

TEST_F(SnapshotQueryTest, TheSizeOfASnapshotIsLimited) {
  AddRun("run", schema_, 1);
  environment_.limits.max_values = 10;
  EXPECT_THAT(Get(Ask()),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("10"), HasSubstr("--match"))));
}

}  // namespace
}  // namespace gradtap::server::testing
