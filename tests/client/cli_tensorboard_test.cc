// gradtap export --format tensorboard, read by a reader of its own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "client/cli/export_tensorboard.h"
#include "client/cli_run.h"
#include "client/tfevents_reader.h"
#include "core/histogram.h"
#include "support/temp_dir.h"

namespace gradtap::client::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// The event file of a folder, which has one.
std::vector<TfEvent> EventsIn(const std::string& folder) {
  std::vector<TfEvent> events;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_directory()) continue;
    EXPECT_THAT(entry.path().filename().string(), HasSubstr("tfevents"));
    ++files;
    std::ifstream in(entry.path(), std::ios::binary);
    std::ostringstream bytes;
    bytes << in.rdbuf();
    events = TfReader::ReadFile(bytes.str());
  }
  EXPECT_EQ(files, 1) << folder;
  return events;
}

// Steps and values of a tag, as they come.
std::vector<std::pair<std::int64_t, float>> PointsOf(
    const std::vector<TfEvent>& events, const std::string& tag) {
  std::vector<std::pair<std::int64_t, float>> points;
  for (const TfEvent& event : events) {
    for (const TfValue& value : event.values) {
      if (value.tag == tag && value.simple_value.has_value()) {
        points.emplace_back(event.step, *value.simple_value);
      }
    }
  }
  return points;
}

class CliTensorboardTest : public ::testing::Test {
 protected:
  void Start() { collector_.Start(); }
  CliResult Export(std::vector<std::string> args) {
    args.insert(args.begin(), {"export"});
    args.insert(args.end(), {"--format", "tensorboard", folder_.path()});
    return RunCli(collector_, args);
  }

  gradtap::testing::TempDir folder_;
  FakeCollector collector_;
};

TEST_F(CliTensorboardTest, EachRankGetsTheNormsAndAllScalars) {
  collector_.service.runs["mnist"] = MakeMnist();
  Start();
  const CliResult result = Export({"mnist", "--stat", "grad.l2,scalar.*"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("tensorboard --logdir"));
  const auto first = EventsIn(folder_.path() + "/mnist/rank-0");
  ASSERT_FALSE(first.empty());
  EXPECT_EQ(first[0].file_version, "brain.Event:2");
  const auto norms = PointsOf(first, "grad.l2/encoder/0/weight");
  ASSERT_EQ(norms.size(), 4u);
  EXPECT_EQ(norms[1], std::make_pair(std::int64_t{1}, 0.25f));
  EXPECT_TRUE(std::isnan(norms[2].second));
  EXPECT_TRUE(std::isinf(norms[3].second));
  EXPECT_THAT(PointsOf(first, "scalar/loss"),
              ElementsAre(std::make_pair(0, 2.25f), std::make_pair(1, 2.0f),
                          std::make_pair(2, 1.75f), std::make_pair(4, 1.5f)));
  // Absent at each step: no point.
  EXPECT_THAT(PointsOf(first, "grad.l2/encoder/0/bias"), ElementsAre());
  const auto second = EventsIn(folder_.path() + "/mnist/rank-1");
  EXPECT_EQ(PointsOf(second, "grad.l2/encoder/0/weight").size(), 4u);
}

TEST_F(CliTensorboardTest, ARunOfOneRankHasNoFolderOfRanksAndIsReplaced) {
  collector_.service.runs["long"] = MakeValues("long", {0, 0.5, 1, 1.5});
  Start();
  for (int i = 0; i < 2; ++i) {
    const CliResult result = Export({"long", "--stat", "weight.mean"});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(
        PointsOf(EventsIn(folder_.path() + "/long"), "weight.mean/w").size(),
        4u);
  }
}

// Four steps, of which one has a histogram.
FakeRun WithHistogram(v1::RunState state) {
  FakeRun run = MakeValues("h", {0, 0.5, 1, 1.5});
  run.info.mutable_run()->set_state(state);
  v1::Series median;
  median.set_run("h");
  median.set_parameter("w");
  median.set_statistic("weight.p50");
  median.add_attempt(1);
  median.add_step(1);
  median.add_time_unix_ns(kFakeStart);
  median.add_value(0);
  run.series.push_back(median);
  // A role without any.
  run.series.emplace_back().set_statistic("grad.p50");
  run.histograms.set_run("h");
  run.histograms.set_step(1);
  v1::ParameterHistogram& one = *run.histograms.add_histograms();
  one.set_parameter("w");
  one.set_role(v1::ROLE_WEIGHT);
  one.set_min(-1.5);
  one.set_max(5);
  one.set_sum(17);
  one.set_l2(4);
  for (const auto& [bin, count] : std::map<std::uint32_t, std::uint64_t>{
           {BinOf(-1.5), 2}, {kBinZero, 3}, {BinOf(5), 4}, {kBinNan, 9}}) {
    one.add_bin(bin);
    one.add_count(count);
  }
  return run;
}

std::vector<std::pair<std::int64_t, TfHistogram>> HistogramsOf(
    const std::vector<TfEvent>& events) {
  std::vector<std::pair<std::int64_t, TfHistogram>> found;
  for (const TfEvent& event : events) {
    for (const TfValue& value : event.values) {
      if (!value.histogram.has_value()) continue;
      EXPECT_EQ(value.tag, "weight/w");
      found.emplace_back(event.step, *value.histogram);
    }
  }
  return found;
}

TEST_F(CliTensorboardTest, HistogramsHaveTheirBinsBetweenTheirEnds) {
  collector_.service.runs["h"] = WithHistogram(v1::RUN_STATE_FINISHED);
  Start();
  const CliResult result = Export({"h", "--stat", "weight.mean"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto found = HistogramsOf(EventsIn(folder_.path() + "/h"));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].first, 1);
  const TfHistogram& histogram = found[0].second;
  EXPECT_EQ(histogram.num, 9);  // What is not finite is in no bin.
  EXPECT_EQ(histogram.sum, 17);
  EXPECT_EQ(histogram.sum_squares, 16);
  EXPECT_EQ(histogram.min, -1.5);
  // [-2, -1], nothing, zeros, nothing, [4, 8].
  EXPECT_THAT(histogram.limit, ElementsAre(-1, 0, 4, 8));
  EXPECT_THAT(histogram.bucket, ElementsAre(2, 3, 0, 4));
  // One question a step.
  EXPECT_EQ(collector_.service.histogram_calls, 1);
  EXPECT_EQ(collector_.service.Last<v1::GetSnapshotRequest>().run(), "");
}

TEST_F(CliTensorboardTest, ACollectorThatGoesAwayInBetweenDoublesNothing) {
  auto& runs = collector_.service.runs;
  runs["h"] = WithHistogram(v1::RUN_STATE_RUNNING);
  // The scalars of these steps have been written by then.
  collector_.service.histograms_end = [](int number) {
    return number == 0 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "away")
                       : grpc::Status::OK;
  };
  collector_.service.before_get_run = [&runs](int number) {
    if (number == 2)
      runs["h"].info.mutable_run()->set_state(v1::RUN_STATE_FINISHED);
  };
  Start();
  const CliResult result = Export({"h", "--stat", "weight.mean", "--follow"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto events = EventsIn(folder_.path() + "/h");
  EXPECT_THAT(PointsOf(events, "weight.mean/w"),
              ElementsAre(std::make_pair(0, 0.f), std::make_pair(1, 0.5f),
                          std::make_pair(2, 1.f), std::make_pair(3, 1.5f)));
  EXPECT_EQ(HistogramsOf(events).size(), 1u);
  EXPECT_GE(collector_.service.histogram_calls, 2);
}

// A run of so many steps, whose value is its step.
FakeRun Grown(int steps, v1::RunState state) {
  std::vector<double> values;
  for (int i = 0; i < steps; ++i) values.push_back(i);
  FakeRun run = MakeValues("live", values);
  run.info.mutable_run()->set_state(state);
  return run;
}

TEST_F(CliTensorboardTest, FollowWritesEachStepOnceUntilTheRunHasEnded) {
  auto& runs = collector_.service.runs;
  runs["live"] = Grown(2, v1::RUN_STATE_RUNNING);
  collector_.service.before_get_run = [&runs](int number) {
    if (number == 1) runs["live"] = Grown(5, v1::RUN_STATE_RUNNING);
    if (number == 2) runs["live"] = Grown(6, v1::RUN_STATE_FINISHED);
  };
  Start();
  const CliResult result =
      Export({"live", "--stat", "weight.mean", "--follow"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto points =
      PointsOf(EventsIn(folder_.path() + "/live"), "weight.mean/w");
  ASSERT_EQ(points.size(), 6u);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(points[i], std::make_pair(std::int64_t{i}, float(i)));
  }
  EXPECT_EQ(collector_.service.get_run_calls, 3);
}

TEST_F(CliTensorboardTest, StepsThatComeAgainReplaceTheOldOnes) {
  auto& runs = collector_.service.runs;
  runs["live"] = Grown(6, v1::RUN_STATE_RUNNING);
  collector_.service.before_get_run = [&runs](int number) {
    if (number != 1) return;
    // A newer attempt, from a checkpoint at step 3.
    FakeRun run = Grown(6, v1::RUN_STATE_FINISHED);
    v1::AttemptInfo& attempt = *run.info.add_attempts();
    attempt = run.info.attempts(0);
    attempt.set_attempt(2);
    attempt.mutable_streams(0)->set_start_time_unix_ns(kFakeStart + 1);
    attempt.mutable_streams(0)->set_first_step(3);
    for (int i = 3; i < 6; ++i) run.series[0].set_value(i, 100 + i);
    runs["live"] = run;
  };
  Start();
  const CliResult result =
      Export({"live", "--stat", "weight.mean", "--follow"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto events = EventsIn(folder_.path() + "/live");
  // As TensorBoard reads it: what stands from a restart's step on goes.
  std::map<std::int64_t, float> seen;
  int restarts = 0;
  for (const TfEvent& event : events) {
    if (event.session_status == 1) {
      ++restarts;
      EXPECT_EQ(event.step, 3);
      seen.erase(seen.lower_bound(event.step), seen.end());
    }
    for (const TfValue& value : event.values) {
      EXPECT_TRUE(seen.emplace(event.step, *value.simple_value).second);
    }
  }
  EXPECT_EQ(restarts, 1);
  EXPECT_THAT(seen, UnorderedElementsAre(
                        std::make_pair(0, 0.f), std::make_pair(1, 1.f),
                        std::make_pair(2, 2.f), std::make_pair(3, 103.f),
                        std::make_pair(4, 104.f), std::make_pair(5, 105.f)));
}

TEST_F(CliTensorboardTest, WhatMakesNoSenseSaysWhatToDo) {
  collector_.service.runs["mnist"] = MakeMnist();
  Start();
  const auto error_of = [&](const std::vector<std::string>& args, int code) {
    const CliResult result = RunCli(collector_, args);
    EXPECT_EQ(result.code, code) << result.err;
    return result.err;
  };
  EXPECT_THAT(error_of({"export", "mnist", "--format", "tensorboard"}, 2),
              HasSubstr("--format tensorboard DIR"));
  EXPECT_THAT(error_of({"export", "mnist", "--format", "tensorboard", "--file",
                        "x", "logs"},
                       2),
              HasSubstr("bad file 'x'"));
  EXPECT_THAT(error_of({"export", "mnist", "logs"}, 2),
              HasSubstr("bad folder 'logs'"));
  EXPECT_THAT(error_of({"export", "mnist", "--follow"}, 2),
              HasSubstr("bad option --follow"));
  const std::string file = folder_.path() + "/file";
  std::ofstream(file) << "x";
  EXPECT_THAT(error_of({"export", "mnist", "--stat", "grad.l2", "--format",
                        "tensorboard", file},
                       1),
              HasSubstr("cannot create '" + file));
}

TEST(TensorboardTagTest, ModulesUnfoldBelowTheStatistic) {
  EXPECT_EQ(TensorboardTag("grad.l2", "encoder.0.weight"),
            "grad.l2/encoder/0/weight");
  EXPECT_EQ(TensorboardTag("scalar.loss", ""), "scalar/loss");
  EXPECT_EQ(TensorboardTag("scalar.lr.head", ""), "scalar/lr.head");
}

}  // namespace
}  // namespace gradtap::client::testing
