#include "server/forward/forwarded_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/name_filter.h"
#include "server/query/query_testing.h"

namespace gradtap::server {
namespace {

using promql::SampledSeries;
using testing::kSecond;
using testing::kStart;
using testing::MakeParameter;
using testing::MakeSchema;
using testing::MakeStep;

constexpr std::int64_t kStartMs = kStart / 1'000'000;

class ForwardedRowsTest : public testing::QueryTest {
 protected:
  ForwardedRowsTest() {
    selection_.statistics = *ParseMetricStatistics("grad.mean");
    selection_.match =
        std::make_shared<const NameFilter>(*NameFilter::Create({"^fc"}, {}));
  }

  // What is in the store of a run, all of it.
  void AddAll(ForwardedRows* rows) {
    GRADTAP_EXPECT_OK(store_.ScanByOrdinal(
        "run", read_, [&](const StepRow* row, const GapRow*) {
          read_ = row->ordinal;
          GRADTAP_EXPECT_OK(rows->Add(*row, 3));
          return true;
        }));
  }

  ForwardedRows Rows() { return {&store_, &selection_, "run"}; }

  static const SampledSeries* Find(const std::vector<SampledSeries>& series,
                                   const std::string& label,
                                   const std::string& value) {
    for (const SampledSeries& one : series) {
      const auto found = one.labels.find(label);
      if (found != one.labels.end() && found->second == value) return &one;
    }
    return nullptr;
  }

  MetricSelection selection_;
  std::uint64_t read_ = 0;
};

TEST_F(ForwardedRowsTest, StepsAreSamplesOfWhatIsChosenAndOfAllScalars) {
  AddRun("run", MakeSchema(1, {MakeParameter("fc"), MakeParameter("conv")}), 2);
  ForwardedRows rows = Rows();
  AddAll(&rows);
  // The step, three scalars, the mean of "fc".
  EXPECT_EQ(rows.waiting(), 10u);
  const std::vector<SampledSeries> taken = rows.Take();
  EXPECT_EQ(taken.size(), 5u);
  const SampledSeries* const fc = Find(taken, "param", "fc");
  ASSERT_NE(fc, nullptr);
  EXPECT_EQ(fc->labels.at("run"), "run");
  EXPECT_EQ(fc->labels.at("rank"), "3");
  ASSERT_EQ(fc->samples.size(), 2u);
  EXPECT_EQ(fc->samples[1].time_ms, kStartMs + 1'000);
  EXPECT_EQ(fc->samples[1].value - fc->samples[0].value, 1);
  EXPECT_EQ(Find(taken, "param", "conv"), nullptr);
  EXPECT_NE(Find(taken, "name", "loss"), nullptr);
  EXPECT_EQ(rows.waiting(), 0u);
  EXPECT_TRUE(rows.Take().empty());
}

TEST_F(ForwardedRowsTest, AValueThatGoesIsMarkedOnce) {
  const Schema schema = MakeSchema(1, {MakeParameter("fc")});
  const StreamId stream = AddRun("run", schema, 1);
  for (int step = 1; step < 3; ++step) {
    StepData data = MakeStep(schema, step, 1, kStart + step * kSecond);
    for (RoleColumns& columns : data.roles) columns.SetAbsent(0);
    store_.AddStep(stream, 0, data);
  }
  ForwardedRows rows = Rows();
  AddAll(&rows);
  const std::vector<SampledSeries> taken = rows.Take();
  const SampledSeries* const fc = Find(taken, "param", "fc");
  ASSERT_NE(fc, nullptr);
  ASSERT_EQ(fc->samples.size(), 2u);
  EXPECT_FALSE(std::isnan(fc->samples[0].value));
  EXPECT_TRUE(promql::IsStale(fc->samples[1].value));
}

TEST_F(ForwardedRowsTest, OfStepsInOneMillisecondTheLastOneStays) {
  const Schema schema = MakeSchema(1, {MakeParameter("fc")});
  const StreamId stream = AddRun("run", schema, 1);
  store_.AddStep(stream, 0, MakeStep(schema, 1, 7, kStart + 999'999));
  ForwardedRows rows = Rows();
  AddAll(&rows);
  const std::vector<SampledSeries> taken = rows.Take();
  const SampledSeries* const loss = Find(taken, "name", "loss");
  ASSERT_NE(loss, nullptr);
  ASSERT_EQ(loss->samples.size(), 1u);
  EXPECT_EQ(loss->samples[0].value, 7);
}

TEST_F(ForwardedRowsTest, ScalarsOfEverNewNamesAreTooManyParametersAreNot) {
  std::vector<Parameter> parameters;
  for (int i = 0; i < 12'000; ++i) {
    parameters.push_back(MakeParameter("fc" + std::to_string(i)));
  }
  const StreamId stream = AddRun("run", MakeSchema(1, parameters), 1);
  ForwardedRows rows = Rows();
  AddAll(&rows);
  EXPECT_GT(rows.Take().size(), 12'000u);
  EXPECT_FALSE(rows.knows_too_many());
  for (int step = 1; step <= 100; ++step) {
    StepData data;
    data.step = step;
    data.wall_time_unix_ns = kStart + step * kSecond;
    for (int i = 0; i < 100; ++i) {
      data.scalars.push_back({"s" + std::to_string(100 * step + i), 1});
    }
    store_.AddStep(stream, 0, data);
  }
  AddAll(&rows);
  EXPECT_EQ(rows.Take().size(), 10'001u);  // And the step.
  EXPECT_TRUE(rows.knows_too_many());
}

// A job that is started again and again: each process has a table of its own,
// and the series of the one before.
TEST_F(ForwardedRowsTest, ProcessesThatHaveEndedAreForgottenTheirValuesAreNot) {
  constexpr int kProcesses = 40;
  constexpr std::size_t kParameters = 2'000;
  std::vector<Parameter> parameters;
  for (std::size_t i = 0; i < kParameters; ++i) {
    parameters.push_back(MakeParameter("fc" + std::to_string(i)));
  }
  const Schema schema = MakeSchema(1, parameters);
  ForwardedRows rows = Rows();
  for (int i = 0; i < kProcesses; ++i) {
    const StreamId stream = Open("run", "launch" + std::to_string(i));
    store_.AddSchema(stream, schema);
    StepData data = MakeStep(schema, i, 1, kStart + i * kSecond);
    for (RoleColumns& columns : data.roles) {
      if (i % 2 == 1) columns.SetAbsent(7);
    }
    store_.AddStep(stream, 0, data);
    AddAll(&rows);
    EXPECT_LT(rows.PlansForTest(), 10u);
  }
  EXPECT_FALSE(rows.knows_too_many());
  const std::vector<SampledSeries> taken = rows.Take();
  EXPECT_EQ(taken.size(), kParameters + 4);  // The step, three scalars.
  const SampledSeries* const seventh = Find(taken, "param", "fc7");
  ASSERT_NE(seventh, nullptr);
  ASSERT_EQ(seventh->samples.size(), static_cast<std::size_t>(kProcesses));
  for (int i = 0; i < kProcesses; ++i) {
    EXPECT_EQ(promql::IsStale(seventh->samples[i].value), i % 2 == 1) << i;
  }
}

// As one after the other has the same parameters there are no more series of
// parameters than of one process.
TEST_F(ForwardedRowsTest, ScalarsAreTooManyHoweverOftenTheProcessCameBack) {
  const Schema schema =
      MakeSchema(1, {MakeParameter("fc0"), MakeParameter("fc1")});
  ForwardedRows rows = Rows();
  for (int i = 0; i < 100; ++i) {
    const StreamId stream = Open("run", "launch" + std::to_string(i));
    store_.AddSchema(stream, schema);
    StepData data = MakeStep(schema, i, 1, kStart + i * kSecond);
    for (int scalar = 0; scalar < 100; ++scalar) {
      data.scalars.push_back({"s" + std::to_string(100 * i + scalar), 1});
    }
    store_.AddStep(stream, 0, data);
  }
  AddAll(&rows);
  EXPECT_TRUE(rows.knows_too_many());
}

}  // namespace
}  // namespace gradtap::server
