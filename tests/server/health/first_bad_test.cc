#include "server/health/first_bad.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/health/health_testing.h"
#include "server/health/rules_replay.h"
#include "support/manual_clock.h"
#include "support/memory_store.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using namespace testing;  // NOLINT: what health_testing.h has.
using ::gradtap::testing::IsOk;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::MemoryStore;
using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr double kNanD = std::numeric_limits<double>::quiet_NaN();

class FirstBadTest : public ::testing::Test {
 protected:
  FirstBadTest() {
    environment_.store = &store_;
    environment_.clock = &clock_;
  }

  StreamId AddRank(std::uint32_t rank, bool grad_local = false,
                   std::uint32_t world_size = 2) {
    StreamHello hello;
    hello.run = "gpt";
    hello.launch = "first";
    hello.rank = rank;
    hello.world_size = world_size;
    hello.process_nonce = std::string(16, static_cast<char>('a' + rank));
    hello.start_time_unix_ns = kStart;
    const auto stream = store_.OpenStream(hello, kStart);
    EXPECT_THAT(stream, IsOk());
    std::vector<Parameter> parameters = {MakeWeight("a"), MakeWeight("b")};
    for (Parameter& parameter : parameters) {
      if (grad_local) parameter.roles.push_back(Role::kGradLocal);
    }
    schema_ = MakeSchema(parameters);
    store_.AddSchema(stream->id, *schema_);
    return stream->id;
  }

  v1::GetFirstBadResponse Ask(std::uint32_t limit = 0) {
    v1::GetFirstBadRequest request;
    request.set_run("gpt");
    request.set_limit(limit);
    v1::GetFirstBadResponse response;
    EXPECT_THAT(
        FirstBad(
            environment_, "loss", request, [] { return false; }, &response),
        IsOk());
    return response;
  }
  // "1 step 7 rank 1 3:b".
  static std::vector<std::string> Lines(const v1::GetFirstBadResponse& found) {
    std::vector<std::string> lines;
    for (const v1::BadFinding& finding : found.findings()) {
      lines.push_back(absl::StrCat(
          finding.place(), " step ", finding.step(), " rank ", finding.rank(),
          " ", static_cast<int>(finding.kind()), ":", finding.parameter()));
    }
    return lines;
  }

  MemoryStore store_;
  ManualClock clock_;
  QueryEnvironment environment_;
  std::shared_ptr<const Schema> schema_;
};

TEST_F(FirstBadTest, NothingBadIsNothing) {
  const StreamId stream = AddRank(0);
  EXPECT_EQ(Ask().last_step(), -1);
  for (int step = 0; step < 10; ++step) {
    store_.AddStep(stream, 0, QuietStep(*schema_, step));
  }
  const auto found = Ask();
  EXPECT_THAT(found.findings(), IsEmpty());
  EXPECT_EQ(found.last_step(), 9);
}

TEST_F(FirstBadTest, ALocalGradientNamesRankParameterAndStep) {
  const StreamId ranks[] = {AddRank(0, true), AddRank(1, true)};
  for (int step = 0; step < 2000; ++step) {
    for (std::size_t r = 0; r < 2; ++r) {
      StepData data = QuietStep(*schema_, step);
      if (step >= 1234) {
        // It began on rank 1; the reduction brought it to both.
        if (r == 1) SetNan(&data, Role::kGradLocal, 1, 3);
        SetNan(&data, Role::kGrad, 1, 3);
        SetNan(&data, Role::kWeight, 1, 3);
      }
      if (step >= 1235) data.scalars[0].value = kNanD;
      store_.AddStep(ranks[r], 0, data);
    }
  }
  const auto found = Ask();
  EXPECT_THAT(Lines(found),
              ElementsAre("1 step 1234 rank 1 2:b", "2 step 1234 rank 0 3:b",
                          "2 step 1234 rank 1 3:b", "3 step 1234 rank 0 5:b",
                          "3 step 1234 rank 1 5:b",
                          "4 step 1235 rank 0 1:", "4 step 1235 rank 1 1:"));
  EXPECT_EQ(found.findings(0).value(), 3);
  EXPECT_EQ(found.findings(0).numel(), kNumel);
  EXPECT_EQ(found.findings(0).after_step(), 1233);
  EXPECT_EQ(found.findings(0).time_unix_ns(), kStart + 1234 * kSecond);
  EXPECT_FALSE(found.findings(1).origin_unknown());
}

TEST_F(FirstBadTest, ReducedGradientsAloneDoNotTellTheRank) {
  const StreamId ranks[] = {AddRank(0), AddRank(1)};
  for (int step = 0; step < 8; ++step) {
    for (const StreamId stream : ranks) {
      StepData data = QuietStep(*schema_, step);
      if (step >= 5) SetNan(&data, Role::kGrad, 0);
      store_.AddStep(stream, 0, data);
    }
  }
  const auto found = Ask();
  ASSERT_THAT(found.findings(), SizeIs(2));
  EXPECT_TRUE(found.findings(0).origin_unknown());
  EXPECT_EQ(found.findings(0).place(), found.findings(1).place());
}

TEST_F(FirstBadTest, OneProcessAloneIsTheOrigin) {
  const StreamId stream = AddRank(0, false, 1);
  StepData data = QuietStep(*schema_, 0);
  SetNan(&data, Role::kGrad, 0);
  store_.AddStep(stream, 0, data);
  const auto found = Ask();
  ASSERT_THAT(found.findings(), SizeIs(1));
  EXPECT_FALSE(found.findings(0).origin_unknown());
  EXPECT_EQ(found.findings(0).after_step(), -1);
}

TEST_F(FirstBadTest, ALossComesFirstWithinItsStep) {
  const StreamId ranks[] = {AddRank(0), AddRank(1)};
  for (int step = 0; step < 8; ++step) {
    for (std::size_t r = 0; r < 2; ++r) {
      StepData data = QuietStep(*schema_, step);
      if (step == 5) {
        SetNan(&data, Role::kGrad, 0);
        if (r == 1) data.scalars[0].value = kNanD;
      }
      store_.AddStep(ranks[r], 0, data);
    }
  }
  const auto found = Ask();
  EXPECT_THAT(Lines(found),
              ElementsAre("1 step 5 rank 1 1:", "2 step 5 rank 0 3:a",
                          "2 step 5 rank 1 3:a"));
  // The loss tells.
  EXPECT_FALSE(found.findings(1).origin_unknown());
}

TEST_F(FirstBadTest, SkippedStepsMakeItAnInterval) {
  const StreamId stream = AddRank(0);
  for (int step = 0; step < 40; step += 8) {
    StepData data = QuietStep(*schema_, step);
    if (step == 24) SetNan(&data, Role::kGrad, 1);
    store_.AddStep(stream, 0, data);
    store_.AddGap(stream, 0, {GapCause::kInterval, step + 1, step + 7, 7, ""});
  }
  const auto found = Ask();
  ASSERT_THAT(found.findings(), SizeIs(1));
  EXPECT_EQ(found.findings(0).step(), 24);
  EXPECT_EQ(found.findings(0).after_step(), 16);
}

TEST_F(FirstBadTest, ALossThatALossScalerSkippedDoesNotCount) {
  const StreamId stream = AddRank(0);
  for (int step = 0; step < 6; ++step) {
    StepData data = QuietStep(*schema_, step);
    if (step == 2) {
      data.roles.clear();
      data.skipped = GapCause::kLoop;
      data.scalars[0].value = std::numeric_limits<double>::infinity();
    }
    if (step == 4) data.scalars[0].value = kNanD;
    store_.AddStep(stream, 0, data);
  }
  EXPECT_THAT(Lines(Ask()), ElementsAre("1 step 4 rank 0 1:"));
}

TEST_F(FirstBadTest, AMaskFullOfNegativeInfinitiesIsNoFinding) {
  const StreamId stream = AddRank(0);
  Parameter mask = MakeWeight("mask");
  mask.kind = Kind::kBuffer;
  mask.roles = {Role::kBuffer};
  schema_ = MakeSchema({mask}, 2);
  store_.AddSchema(stream, *schema_);
  StepData data = QuietStep(*schema_, 0);
  Record record = RecordOf(1);
  record.neg_inf = 10;
  ColumnsOf(&data, Role::kBuffer)->Set(0, record);
  store_.AddStep(stream, 0, data);
  EXPECT_THAT(Ask().findings(), IsEmpty());
}

TEST_F(FirstBadTest, WhatIsOverTheLimitIsCounted) {
  const StreamId stream = AddRank(0);
  StepData data = QuietStep(*schema_, 0);
  for (const Role role : {Role::kGrad, Role::kWeight, Role::kUpdate}) {
    SetNan(&data, role, 0);
    SetNan(&data, role, 1);
  }
  store_.AddStep(stream, 0, data);
  const auto found = Ask(2);
  EXPECT_THAT(found.findings(), SizeIs(2));
  EXPECT_EQ(found.omitted(), 4U);
}

TEST_F(FirstBadTest, ALossThatIsNotThereIsSaid) {
  const StreamId stream = AddRank(0);
  StepData data = QuietStep(*schema_, 0);
  data.scalars.clear();
  store_.AddStep(stream, 0, data);
  EXPECT_THAT(Ask().notes(), ElementsAre(HasSubstr("scalar.loss")));
}

TEST_F(FirstBadTest, AnUnknownRunOrAttemptIsSaid) {
  AddRank(0);
  v1::GetFirstBadRequest request;
  v1::GetFirstBadResponse response;
  const auto ask = [&] {
    return FirstBad(
        environment_, "loss", request, [] { return false; }, &response);
  };
  request.set_run("gtp");
  EXPECT_THAT(ask(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("gtp")));
  request.set_run("gpt");
  request.set_attempt(7);
  EXPECT_THAT(ask(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("7")));
  request.set_attempt(0);
  request.set_loss(std::string(100'000, 'x'));
  EXPECT_THAT(ask(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("loss")));
}

TEST_F(FirstBadTest, RulesAreReplayedOverWhatIsStored) {
  const StreamId stream = AddRank(0);
  for (int step = 0; step < 60; ++step) {
    StepData data = QuietStep(*schema_, step);
    if (step == 10) SetNan(&data, Role::kGrad, 0);
    if (step >= 50) SetNan(&data, Role::kGrad, 1);
    store_.AddStep(stream, 0, data);
  }
  clock_.Advance(std::chrono::seconds(60));
  v1::TestRulesRequest request;
  request.set_run("gpt");
  v1::TestRulesResponse response;
  const auto test = [&](bool cancelled = false) {
    response.Clear();
    return TestRules(
        environment_, MakeRules("nonfinite { quiet_steps: 5 }"), request,
        [cancelled] { return cancelled; }, &response);
  };
  ASSERT_THAT(test(), IsOk());
  ASSERT_THAT(response.alerts(), SizeIs(2));
  EXPECT_FALSE(response.alerts(0).active());
  EXPECT_EQ(response.alerts(0).first_step(), 10);
  EXPECT_EQ(response.alerts(0).raised_unix_ns(), kStart + 10 * kSecond);
  EXPECT_TRUE(response.alerts(1).active());
  EXPECT_EQ(response.alerts(1).last_step(), 59);
  EXPECT_EQ(response.steps(), 60U);
  EXPECT_EQ(response.records(), 360U);
  request.set_rules("nonfinite { disabled: true }");
  ASSERT_THAT(test(), IsOk());
  EXPECT_THAT(response.alerts(), IsEmpty());
  request.set_rules("nonfinite { disable: true }");
  EXPECT_THAT(test(), StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("rules:1:")));
  request.clear_rules();
  EXPECT_THAT(test(true), StatusIs(absl::StatusCode::kCancelled, _));
}

}  // namespace
}  // namespace gradtap::server
