// What an agent records of each step.

#include "gradtap/agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "agent/agent_fixture.h"
#include "agent/wrapped_capture.h"
#include "core/limits.h"

namespace gradtap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

TEST_F(AgentTest, StepRecordsGradientsWeightsUpdatesAndScalars) {
  Attach();
  EXPECT_EQ(tap_->status().state, AgentState::kStreaming);
  Step({{"loss", 0.5}});
  const torch::Tensor before = model_.weight.detach().clone();
  Step({{"loss", torch::tensor(0.25f)}, {"epoch", 3}});
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "step 1"));
  const StepData& first = d().steps[0];
  const StepData& second = d().steps[1];
  EXPECT_EQ(first.step, 0);
  EXPECT_EQ(first.interval_steps, 1u);
  EXPECT_EQ(first.schema_id, 1u);
  EXPECT_EQ(d().Get(first, "weight", Role::kGrad)->mean, 1.0f);
  EXPECT_EQ(d().Get(first, "weight", Role::kUpdate), std::nullopt);
  EXPECT_NEAR(d().Get(second, "weight", Role::kUpdate)->mean, -0.1, 1e-6);
  EXPECT_NEAR(d().Get(second, "weight", Role::kWeight)->mean,
              before.mean().item<double>() - 0.1, 1e-6);
  EXPECT_EQ(d().Scalar(first, "loss"), 0.5);
  EXPECT_EQ(d().Scalar(second, "loss"), 0.25);
  EXPECT_EQ(d().Scalar(second, "epoch"), 3);
  EXPECT_GT(second.wall_time_unix_ns, first.wall_time_unix_ns);
  EXPECT_EQ(optimizer_.calls, 2);
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(AgentTest, TheStatusIsDeliverysBooks) {
  Attach();
  for (int i = 0; i < 3; ++i) Step();
  testing::World().ring_full = true;
  Step();
  AgentStatus s = tap_->status();
  EXPECT_EQ(s.run, "test");
  EXPECT_EQ(s.collector, "127.0.0.1:7317");
  EXPECT_EQ(s.steps_seen, 4u);
  EXPECT_EQ(s.steps_recorded, 3u);
  EXPECT_EQ(s.steps_lost, 1u);
  EXPECT_THAT(s.lost_by_cause, ElementsAre(Pair("ring_full", 1)));
  EXPECT_EQ(s.steps_at_hand, 3u);
  EXPECT_EQ(s.parameters, 2u);
  EXPECT_EQ(s.schemas, 1u);
  EXPECT_EQ(s.weight_copy_bytes, 8u * 4);
  EXPECT_EQ(s.ring_bytes, 64u << 20);
  EXPECT_EQ(s.ring, "memory only: a fake");
  EXPECT_EQ(s.spool, "off");
  EXPECT_TRUE(tap_->Flush(std::chrono::seconds(1)).delivered);
  s = tap_->status();
  EXPECT_EQ(s.steps_acknowledged, 3u);
  EXPECT_EQ(s.steps_at_hand, 0u);
}

TEST_F(AgentTest, TheFirstSchemaNamesTheTypeOfAHandWrittenOptimizer) {
  class Lion : public Descent {
    using Descent::Descent;
  };
  Attach();
  Lion lion(model_.parameters());
  for (int i = 0; i < 2; ++i) {
    Backward();
    tap_->Step(lion);
    ++expected_steps_;
  }
  ASSERT_THAT(d().schemas, SizeIs(1));
  EXPECT_THAT(d().schemas[0].optimizers, ElementsAre("Lion"));
}

TEST_F(AgentTest, AnOptimizerOfAnotherTypeComesIntoANewSchemaOfTheSameTable) {
  Attach();
  Step();
  Step();
  torch::optim::SGD sgd(model_.parameters(), 0.1);
  for (int i = 0; i < 2; ++i) {
    Backward();
    tap_->Step(sgd);
    ++expected_steps_;
    Step();  // With the first one: that is no change.
  }
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "step 1", "schema 2",
                                     "step 2", "step 3", "step 4", "step 5"));
  EXPECT_THAT(d().schemas[0].optimizers, ElementsAre("gradtap::Descent"));
  EXPECT_THAT(d().schemas[1].optimizers,
              ElementsAre("gradtap::Descent", "torch::optim::SGD"));
  EXPECT_EQ(d().schemas[0].fingerprint, d().schemas[1].fingerprint);
  EXPECT_EQ(d().steps[1].schema_id, 1u);
  EXPECT_EQ(d().steps[2].schema_id, 2u);
  EXPECT_EQ(d().steps[5].schema_id, 2u);
}

TEST_F(AgentTest, WhatTheOptimizerThrowsPassesThroughAndTheStepIsAGap) {
  Attach();
  Step();
  optimizer_.after = [] { throw std::out_of_range("boom\nbacktrace"); };
  Backward();
  EXPECT_THROW(tap_->Step(optimizer_), std::out_of_range);
  optimizer_.after = [] { throw 42; };  // NOLINT
  EXPECT_THROW(tap_->Step(optimizer_), int);
  optimizer_.after = nullptr;
  expected_steps_ += 2;
  Step();
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "step 0", "gap 1", "gap 2", "step 3"));
  EXPECT_EQ(d().gaps[0].cause, GapCause::kOptimizerThrew);
  EXPECT_EQ(d().gaps[0].detail, "boom");
  EXPECT_EQ(d().gaps[1].detail, "an unknown exception");
  EXPECT_THAT(tap_->status().skipped_by_cause,
              ElementsAre(Pair("optimizer_threw", 2)));
  // What it changed before it threw is not part of the next step's update.
  EXPECT_NEAR(d().Get(d().steps[1], "weight", Role::kUpdate)->mean, -0.1, 1e-6);
}

TEST_F(AgentTest, StepsThatTheLoopSkipsAreGapsWithItsReason) {
  Attach();
  Step();
  tap_->StepSkipped("found \xff inf");
  tap_->StepSkipped("overflow", {{"scale", 1024}});
  expected_steps_ += 2;
  Step();
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "skipped 1",
                                     "skipped 2", "step 3"));
  EXPECT_EQ(d().steps[1].skipped, GapCause::kLoop);
  EXPECT_EQ(d().steps[1].skipped_detail, "found \\xff inf");
  EXPECT_EQ(d().steps[2].skipped, GapCause::kLoop);
  EXPECT_EQ(d().steps[2].skipped_detail, "overflow");
  EXPECT_THAT(d().steps[2].roles, IsEmpty());
  EXPECT_EQ(d().Scalar(d().steps[2], "scale"), 1024);
  EXPECT_THAT(tap_->status().skipped_by_cause, ElementsAre(Pair("loop", 2)));
  EXPECT_NEAR(d().Get(d().steps[3], "weight", Role::kUpdate)->mean, -0.1, 1e-6);
}

TEST_F(AgentTest, StepsBetweenIntervalsSendScalarsAndUpdatesStayOfOneStep) {
  options_.interval_steps = 3;
  Attach();
  for (int i = 0; i < 7; ++i) Step({{"loss", i}});
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "step 0", "skipped 1", "skipped 2",
                          "step 3", "skipped 4", "skipped 5", "step 6"));
  for (const StepData& step : d().steps) {
    EXPECT_EQ(step.interval_steps, 3u);
    EXPECT_EQ(d().Scalar(step, "loss"), static_cast<double>(step.step));
    if (step.skipped != GapCause::kUnspecified) {
      EXPECT_EQ(step.skipped, GapCause::kInterval);
      EXPECT_THAT(step.roles, IsEmpty());
    }
  }
  EXPECT_EQ(d().Get(d().steps[0], "weight", Role::kUpdate), std::nullopt);
  EXPECT_NEAR(d().Get(d().steps[3], "weight", Role::kUpdate)->mean, -0.1, 1e-6);
  EXPECT_NEAR(d().Get(d().steps[6], "weight", Role::kUpdate)->mean, -0.1, 1e-6);
  EXPECT_THAT(tap_->status().skipped_by_cause,
              ElementsAre(Pair("interval", 4)));
}

TEST_F(AgentTest, AStepThatGoesBackIsARollbackAndItsUpdateIsAbsent) {
  Attach();
  tap_->SetStep(100);
  Step();
  Step();
  tap_->SetStep(50);
  tap_->SetStep(60);
  Step();
  Step();
  tap_->SetStep(62);  // Where it is anyway.
  Step();
  tap_->SetStep(500);  // Forward is no rollback.
  Step();
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "step 100", "step 101", "rollback 60",
                          "step 60", "step 61", "step 62", "step 500"));
  EXPECT_EQ(d().Get(d().steps[2], "weight", Role::kUpdate), std::nullopt);
  EXPECT_NE(d().Get(d().steps[3], "weight", Role::kUpdate), std::nullopt);
}

TEST_F(AgentTest, AStepNumberThatCannotBeIsReportedAndIgnored) {
  Attach();
  tap_->SetStep(-1);
  tap_->SetStep(std::numeric_limits<std::int64_t>::max());
  Step();
  EXPECT_EQ(d().steps[0].step, 0);
  EXPECT_THAT(tap_->status().problems, SizeIs(2));
}

TEST_F(AgentTest, TheStepInPiecesIsTheSame) {
  Attach();
  Step();
  Backward(4);
  tap_->AfterBackward();
  model_.weight.mutable_grad().mul_(0.5);
  tap_->BeforeOptimizerStep();
  optimizer_.step(nullptr);
  tap_->AfterOptimizerStep({{"loss", 1}});
  expected_steps_ += 1;
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "step 0", "schema 2", "step 1"));
  const StepData& step = d().steps[1];
  EXPECT_EQ(d().Get(step, "weight", Role::kGradLocal)->mean, 4.0f);
  EXPECT_EQ(d().Get(step, "weight", Role::kGrad)->mean, 2.0f);
  EXPECT_NEAR(d().Get(step, "weight", Role::kUpdate)->mean, -0.2, 1e-6);
  EXPECT_EQ(tap_->status().schemas, 2u);
}

TEST_F(AgentTest, AStepWithoutBeforeIsAGapNotAnInventedGradient) {
  Attach();
  for (int i = 0; i < 20; ++i) tap_->AfterOptimizerStep();
  expected_steps_ += 20;
  Step();
  EXPECT_THAT(d().gaps, SizeIs(20));
  EXPECT_EQ(d().gaps[0].cause, GapCause::kCaptureError);
  EXPECT_THAT(d().gaps[0].detail, HasSubstr("BeforeOptimizerStep"));
  EXPECT_THAT(said_, SizeIs(1));
  EXPECT_EQ(d().steps.back().step, 20);
}

TEST_F(AgentTest, SetStepWithinAStepDropsWhatBeforeHadRead) {
  Attach();
  Backward();
  tap_->BeforeOptimizerStep();
  tap_->SetStep(9);
  tap_->AfterOptimizerStep();
  ++expected_steps_;
  EXPECT_THAT(d().order, ElementsAre("gap 9"));
}

// Has a bug that shows from the second step on.
class FaultyCapture : public testing::WrappedCapture {
 public:
  using WrappedCapture::WrappedCapture;
  absl::Status ReduceWeights() noexcept override {
    const absl::Status real = WrappedCapture::ReduceWeights();
    return steps_++ == 0 ? real : absl::InternalError("a bug");
  }

 private:
  int steps_ = 0;
};

TEST_F(AgentTest, AFaultIsALostStepAndSixteenSwitchCaptureOff) {
  testing::World().adapt_capture = [](std::unique_ptr<agent::Capture> real) {
    return std::make_unique<FaultyCapture>(std::move(real));
  };
  Attach();
  for (int i = 0; i < 19; ++i) Step();
  EXPECT_EQ(optimizer_.calls, 19);
  EXPECT_THAT(tap_->status().lost_by_cause,
              ElementsAre(Pair("capture_error", 18)));
  EXPECT_EQ(d().gaps[0].detail, "a bug");
  EXPECT_EQ(d().gaps[17].detail, "capture is switched off");
  EXPECT_EQ(std::count(said_.begin(), said_.end(),
                       "capture is switched off after 16 faults"),
            1);
}

TEST_F(AgentTest, AParameterThatIsFreedInEachStepCostsItsWeightAlone) {
  Attach();
  optimizer_.after = [&] {
    model_.bias.storage().unsafeGetStorageImpl()->reset();
    model_.bias.storage().set_nbytes(0);
  };
  for (int i = 0; i < 40; ++i) {
    const torch::NoGradGuard no_grad;
    model_.bias.set_data(torch::ones({2}));
    Step();
  }
  ASSERT_THAT(d().steps, SizeIs(40));
  for (const StepData& step : d().steps) {
    EXPECT_EQ(d().Get(step, "bias", Role::kGrad)->mean, 1.0f);
    EXPECT_EQ(d().Get(step, "bias", Role::kWeight), std::nullopt);
    EXPECT_EQ(d().Get(step, "bias", Role::kUpdate), std::nullopt);
    EXPECT_NE(d().Get(step, "weight", Role::kWeight), std::nullopt);
  }
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("'bias' changed within"),
                                       HasSubstr("only its gradient"))));
}

TEST_F(AgentTest, ScalarsHoldTheTensorsThatTheyWereMadeOf) {
  Attach();
  torch::Tensor loss = torch::tensor(0.5f);
  std::vector<Scalar> scalars;
  scalars.emplace_back("loss", loss);
  scalars.emplace_back("twice", loss * 2);
  const std::vector<Scalar> copies = scalars;
  scalars.clear();
  loss = torch::tensor(99.0f);
  Backward();
  tap_->Step(optimizer_, copies);
  ++expected_steps_;
  EXPECT_EQ(d().Scalar(d().steps[0], "loss"), 0.5);
  EXPECT_EQ(d().Scalar(d().steps[0], "twice"), 1);
}

TEST_F(AgentTest, ScalarsThatCannotBeHadAreLeftOutAndReportedOnce) {
  Attach();
  for (int i = 0; i < 3; ++i) {
    Step({{"good", 1},
          {"wide", torch::ones({2})},
          {"good", 2},
          {"agent.mine", 3},
          {"meta", torch::ones({}, torch::device(torch::kMeta))},
          {"nan", torch::tensor(0.0f / 0.0f)},
          {"bytes\xff", 4}});
  }
  for (const StepData& step : d().steps) {
    EXPECT_EQ(d().Scalar(step, "good"), 1);
    EXPECT_TRUE(std::isnan(d().Scalar(step, "nan")));
    EXPECT_EQ(d().Scalar(step, "bytes\\xff"), 4);
    EXPECT_FALSE(d().HasScalar(step, "wide"));
    EXPECT_FALSE(d().HasScalar(step, "meta"));
    EXPECT_FALSE(d().HasScalar(step, "agent.mine"));
  }
  EXPECT_THAT(said_, UnorderedElementsAre(
                         HasSubstr("'wide'"), HasSubstr("'good'"),
                         HasSubstr("'agent.mine'"), HasSubstr("'meta'")));
}

TEST_F(AgentTest, ScalarsMayChangeFromStepToStep) {
  Attach();
  Step({{"a", 1}, {"b", 2}});
  Step({{"c", 3}});
  Step();
  Step({{"b", 4}, {"a", 5}});
  EXPECT_FALSE(d().HasScalar(d().steps[1], "a"));
  EXPECT_EQ(d().Scalar(d().steps[1], "c"), 3);
  EXPECT_THAT(d().steps[2].scalars, SizeIs(5));  // The agent's own.
  EXPECT_EQ(d().Scalar(d().steps[3], "a"), 5);
}

TEST_F(AgentTest, TheRingIsSizedByTheFirstStepAlsoIfThatIsSkipped) {
  options_.interval_steps = 10;
  Attach();
  tap_->SetStep(1);
  Step();
  Step();
  EXPECT_THAT(d().order, ElementsAre("schema 1", "skipped 1", "skipped 2"));
  ASSERT_THAT(d().reserved, SizeIs(1));
  EXPECT_GT(d().reserved[0], 1024u);
}

TEST_F(AgentTest, TheRingIsSizedAlsoIfTheFirstStepIsSkippedWithoutScalars) {
  Attach();
  tap_->StepSkipped("found inf");
  ++expected_steps_;
  Step();  // Only now the optimizer's type is known.
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "skipped 0", "schema 2", "step 1"));
  EXPECT_THAT(d().reserved, SizeIs(1));
}

TEST_F(AgentTest, TheRingIsSizedAlsoIfTheOptimizerThrowsAtTheFirstStep) {
  Attach();
  optimizer_.after = [] { throw std::out_of_range("boom"); };
  Backward();
  EXPECT_THROW(tap_->Step(optimizer_), std::out_of_range);
  optimizer_.after = nullptr;
  ++expected_steps_;
  Step();
  EXPECT_THAT(d().order, ElementsAre("schema 1", "gap 0", "step 1"));
  EXPECT_THAT(d().reserved, SizeIs(1));
}

TEST_F(AgentTest, AsManyScalarsAsTheCollectorTakesAreSent) {
  Attach();
  std::vector<Scalar> many;
  for (int i = 0; i < 1100; ++i) many.emplace_back("s" + std::to_string(i), i);
  for (int step = 0; step < 2; ++step) {
    Backward();
    tap_->Step(optimizer_, many);
    ++expected_steps_;
  }
  // Those of the loop and the agent's five.
  EXPECT_EQ(d().steps[1].scalars.size(), 1005u);
  EXPECT_LE(d().steps[1].scalars.size(), kMaxStepScalars);
}

TEST_F(AgentTest, AFilterThatLeavesNothingIsReportedAndScalarsGoOn) {
  options_.include = {"nothing like it"};
  Attach();
  Step({{"loss", 1}});
  EXPECT_THAT(said_, ElementsAre(HasSubstr("no parameter to record")));
  EXPECT_EQ(d().Scalar(d().steps[0], "loss"), 1);
  EXPECT_THAT(d().steps[0].roles, IsEmpty());
}

TEST_F(AgentTest, AChangeOfTheModelIsASchemaBeforeItsFirstStep) {
  Attach();
  Step();
  model_.register_parameter("late", torch::ones({4}));
  Step();
  tap_->Refresh();
  Step();
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "step 1", "schema 2",
                                     "step 2"));
  EXPECT_EQ(d().Get(d().steps[2], "late", Role::kWeight)->mean, 1.0f);
}

}  // namespace
}  // namespace gradtap
