// Steps whose results are on another device when the step ends.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace gradtap
