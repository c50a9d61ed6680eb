// Steps whose results are on another device when the step ends.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>

#include "agent/agent_fixture.h"
#include "agent/wrapped_capture.h"
#include "gradtap/agent.h"

namespace gradtap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

class DeferralTest : public AgentTest {
 protected:
  DeferralTest() {
    testing::World().adapt_capture = [this](
                                         std::unique_ptr<agent::Capture> real) {
      return std::make_unique<testing::LateCapture>(std::move(real), &script_);
    };
  }

  testing::LateCapture::Script script_;
};

TEST_F(DeferralTest, AStepIsPutWhenTheNextOneBegins) {
  Attach();
  Step({{"loss", torch::tensor(0.5f)}, {"lr", 0.1}});
  EXPECT_THAT(d().order, ElementsAre("schema 1"));
  EXPECT_EQ(tap_->status().steps_seen, 0u);
  Backward();
  tap_->BeforeOptimizerStep();
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0"));
  optimizer_.step(nullptr);
  tap_->AfterOptimizerStep({{"loss", torch::tensor(0.25f)}});
  ++expected_steps_;
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0"));
  EXPECT_TRUE(tap_->Flush(std::chrono::seconds(1)).delivered);
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "step 1"));
  const StepData& first = d().steps[0];
  EXPECT_EQ(d().Get(first, "weight", Role::kGrad)->mean, 1.0f);
  EXPECT_EQ(d().Scalar(first, "loss"), 0.5);
  EXPECT_EQ(d().Scalar(first, "lr"), 0.1);
  EXPECT_EQ(d().Scalar(d().steps[1], "loss"), 0.25);
  EXPECT_NEAR(d().Get(d().steps[1], "weight", Role::kUpdate)->mean, -0.1, 1e-6);
  EXPECT_EQ(tap_->status().steps_seen, 2u);
}

TEST_F(DeferralTest, TheLastStepIsPutAtTheEnd) {
  Attach();
  Step();
  Step();
  tap_ = nullptr;
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "step 1", "end"));
  EXPECT_EQ(d().Get(d().steps[1], "weight", Role::kGrad)->mean, 1.0f);
}

TEST_F(DeferralTest, WhateverComesNextComesAfterTheHeldStep) {
  options_.interval_steps = 2;
  Attach();
  Step();  // 0, held.
  Step();  // Not due.
  Step();  // 2, held.
  tap_->StepSkipped("inf");
  Step();  // 4, held.
  optimizer_.after = [] { throw std::runtime_error("boom"); };
  Backward();
  EXPECT_THROW(tap_->Step(optimizer_), std::runtime_error);
  optimizer_.after = nullptr;
  Step();  // 6, held.
  expected_steps_ += 2;
  tap_->SetStep(2);
  Step();  // 2 again.
  tap_ = nullptr;
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "skipped 1",
                                     "step 2", "skipped 3", "step 4", "gap 5",
                                     "step 6", "rollback 2", "step 2", "end"));
}

TEST_F(DeferralTest, AStepThatCannotBeFinishedIsAGap) {
  Attach();
  Step();
  script_.finish = absl::InternalError("device lost");
  Step();
  EXPECT_THAT(d().order, ElementsAre("schema 1", "gap 0"));
  script_.finish = absl::OkStatus();
  tap_->Flush(std::chrono::seconds(1));
  EXPECT_THAT(d().order, ElementsAre("schema 1", "gap 0", "step 1"));
  EXPECT_THAT(d().gaps[0].detail, HasSubstr("device lost"));
  EXPECT_THAT(tap_->status().lost_by_cause,
              ElementsAre(Pair("capture_error", 1)));
  EXPECT_THAT(said_, ElementsAre(HasSubstr("step 0 was not captured")));
}

TEST_F(DeferralTest, SixteenSuchStepsSwitchCaptureOff) {
  Attach();
  script_.finish = absl::InternalError("device lost");
  for (int i = 0; i < 20; ++i) Step();
  tap_->Flush(std::chrono::seconds(1));
  EXPECT_EQ(script_.finished, 16);
  EXPECT_THAT(tap_->status().lost_by_cause,
              ElementsAre(Pair("capture_error", 20)));
}

TEST_F(DeferralTest, AnotherThreadsFlushLeavesTheTrainingThreadsStepAlone) {
  Attach();
  Step();
  std::thread([&] { tap_->Flush(std::chrono::seconds(1)); }).join();
  EXPECT_EQ(script_.finished, 0);
  tap_->Flush(std::chrono::seconds(1));
  EXPECT_EQ(script_.finished, 1);
}

TEST_F(DeferralTest, AFlushFromTheLogIsNoTurnWithinATurn) {
  options_.log = [this](const std::string& m) {
    said_.push_back(m);
    tap_->Flush(std::chrono::seconds(1));
  };
  Attach();
  Step();
  Step({{"wide", torch::ones({2})}});
  EXPECT_THAT(said_, SizeIs(1));
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0"));
  EXPECT_THAT(d().gaps, IsEmpty());
}

TEST_F(DeferralTest, AStepWithoutStatisticsWaitsForItsScalarsAlone) {
  options_.interval_steps = 4;
  Attach();
  Step({{"loss", torch::tensor(0.5f)}});
  Step({{"lr", 0.1}, {"loss", torch::tensor(0.25f)}, {"steps", 7}});
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0"));
  Step({{"lr", 0.2}});  // Nothing of it is on its way.
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "step 0", "skipped 1", "skipped 2"));
  tap_->StepSkipped("inf", {{"loss", torch::tensor(0.125f)}});
  ++expected_steps_;
  EXPECT_THAT(d().order, SizeIs(4));
  Step({{"loss", torch::tensor(2.0f)}});
  tap_ = nullptr;
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "step 0", "skipped 1", "skipped 2",
                          "skipped 3", "step 4", "end"));
  const StepData& second = d().steps[1];
  EXPECT_EQ(second.skipped, GapCause::kInterval);
  EXPECT_EQ(d().Scalar(second, "loss"), 0.25);
  EXPECT_EQ(d().Scalar(second, "lr"), 0.1);
  EXPECT_EQ(d().Scalar(second, "steps"), 7);
  EXPECT_FALSE(d().HasScalar(d().steps[2], "loss"));
  EXPECT_EQ(d().steps[3].skipped, GapCause::kLoop);
  EXPECT_EQ(d().steps[3].skipped_detail, "inf");
  EXPECT_EQ(d().Scalar(d().steps[3], "loss"), 0.125);
  EXPECT_EQ(d().Scalar(d().steps[4], "loss"), 2);
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(DeferralTest, ScalarsThatDoNotArriveAreLeftOutOfASkippedStep) {
  options_.interval_steps = 100;
  Attach();
  Step();
  const auto step = [&] {
    Step({{"a", torch::tensor(1.0f)}, {"lr", 3}, {"b", torch::tensor(2.0f)}});
  };
  script_.send = absl::InternalError("no stream");
  step();
  script_.send = absl::OkStatus();
  step();
  script_.finish = absl::InternalError("device lost");
  step();  // Now the second is to be finished.
  script_.finish = absl::OkStatus();
  step();
  tap_ = nullptr;
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "step 0", "skipped 1", "skipped 2",
                          "skipped 3", "skipped 4", "end"));
  for (int i = 1; i <= 4; ++i) {
    const StepData& got = d().steps[i];
    EXPECT_EQ(d().HasScalar(got, "a"), i > 2) << i;
    EXPECT_EQ(d().HasScalar(got, "b"), i > 2) << i;
    EXPECT_EQ(d().Scalar(got, "lr"), 3) << i;
    EXPECT_TRUE(d().HasScalar(got, "agent.capture_seconds")) << i;
  }
  EXPECT_EQ(d().Scalar(d().steps[3], "a"), 1);
  EXPECT_EQ(d().Scalar(d().steps[4], "b"), 2);
  EXPECT_THAT(d().gaps, IsEmpty());
  EXPECT_THAT(said_, ElementsAre("scalar 'b' is left out: no stream",
                                 "scalar 'a' is left out: no stream",
                                 "scalar 'b' is left out: device lost",
                                 "scalar 'a' is left out: device lost"));
}

// A step is 100 ms of the loop, of which it waits for `wait` in our call.
TEST_F(DeferralTest, WaitingForResultsIsNotTheAgentsTime) {
  options_.overhead_budget = 0.05;
  script_.wait = std::chrono::milliseconds(300);
  Attach();
  for (int i = 0; i < 100; ++i) Step();
  EXPECT_EQ(tap_->status().own_time, std::chrono::milliseconds(0));
  EXPECT_EQ(tap_->status().overhead, 0);
  EXPECT_EQ(tap_->status().interval_steps, 1);
  EXPECT_EQ(d().Scalar(d().steps[50], "agent.capture_seconds"), 0);
  EXPECT_NEAR(d().Scalar(d().steps[50], "agent.step_seconds"), 0.4, 1e-9);
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(DeferralTest, WhatTheDeviceTakesIsBudgeted) {
  script_.device = std::chrono::milliseconds(12);  // Of 100: every fourth.
  Attach();
  EXPECT_EQ(tap_->status().interval_steps, 1);
  for (int i = 0; i < 8; ++i) Step();
  EXPECT_NEAR(tap_->status().overhead, 0.12, 0.001);
  for (int i = 8; i < 400; ++i) Step({{"loss", torch::tensor(1.0f)}});
  EXPECT_EQ(tap_->status().interval_steps, 4);
  EXPECT_NEAR(tap_->status().overhead, 0.03, 0.001);
  EXPECT_EQ(tap_->status().own_time, std::chrono::milliseconds(0));
  EXPECT_THAT(said_, ElementsAre(HasSubstr("every 4 steps")));
}

// Of the step that took it, not of the one in which it became known.
TEST_F(DeferralTest, WhatHistogramsTakeOfTheDeviceIsTheirs) {
  options_.histogram_interval_steps = 8;
  Attach();
  for (int i = 0; i < 200; ++i) {
    script_.device = std::chrono::milliseconds(i % 8 == 0 ? 60 : 1);
    Step();
  }
  // 60 of 800 ms are too much, of 1,600 they are not.
  EXPECT_EQ(tap_->status().interval_steps, 16);
}

TEST_F(AgentTest, OnADeviceALossIsRecordedAtEveryStepThatIsLeftOut) {
  testing::World().environment["GRADTAP_FORCE_DEVICE_PATH"] = "1";
  options_.interval_steps = 3;
  Attach();
  torch::Tensor loss = torch::zeros({});
  for (int i = 0; i < 10; ++i) {
    loss.fill_(i == 5 ? std::nan("") : 0.5 * i);
    Backward();
    if (i == 7) tap_->BeforeOptimizerStep();  // And the scaler skips.
    if (i == 7) {
      tap_->StepSkipped("inf", {{"loss", loss}, {"lr", 0.1}});
    } else {
      tap_->Step(optimizer_, {{"loss", loss}, {"lr", 0.1}});
    }
    ++expected_steps_;
    loss.fill_(-1);
  }
  tap_ = nullptr;
  ASSERT_THAT(d().steps, SizeIs(10));
  for (int i = 0; i < 10; ++i) {
    const StepData& step = d().steps[i];
    EXPECT_EQ(step.step, i);
    EXPECT_EQ(step.skipped, i % 3 == 0 ? GapCause::kUnspecified
                            : i == 7   ? GapCause::kLoop
                                       : GapCause::kInterval);
    EXPECT_EQ(d().Scalar(step, "lr"), 0.1);
    const double got = d().Scalar(step, "loss");
    if (i == 5) {
      EXPECT_TRUE(std::isnan(got));
    } else {
      EXPECT_EQ(got, 0.5 * i);
    }
    if (i == 0 || i % 3 != 0) continue;
    EXPECT_NEAR(d().Get(step, "weight", Role::kUpdate)->mean, -0.1, 1e-6);
    EXPECT_EQ(d().Get(step, "bias", Role::kGrad)->mean, 1);
  }
  EXPECT_THAT(said_, IsEmpty());
}

}  // namespace
}  // namespace gradtap
