// What an agent's work takes, what it says of it, and what the budget and the
// audit make of it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/agent_fixture.h"
#include "agent/capture/allocation_counter.h"
#include "agent/wrapped_capture.h"
#include "gradtap/agent.h"

namespace gradtap {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

// A step takes 100 ms before it is recorded, and what `costs_` and `put_cost`
// say.
class PaceTest : public AgentTest {
 protected:
  PaceTest() {
    testing::World().adapt_capture = [this](
                                         std::unique_ptr<agent::Capture> real) {
      return std::make_unique<testing::SlowCapture>(std::move(real), &costs_);
    };
  }

  double Own(std::size_t step, const std::string& what) {
    return d().Scalar(d().steps.at(step), "agent." + what);
  }

  testing::CaptureCosts costs_;
};

TEST_F(PaceTest, TheAgentsOwnNumbersAreScalarsOfEachStep) {
  options_.overhead_budget = 0;
  options_.interval_steps = 2;
  Attach();
  costs_.gradients = milliseconds(3);
  costs_.weights = milliseconds(5);
  costs_.keep = milliseconds(2);
  testing::World().put_cost = milliseconds(7);
  optimizer_.after = [] {
    testing::World().clock.Advance(milliseconds(20));
    testing::World().thread_cpu_nanos += 11'000'000;
  };
  Step();
  Step();
  Step();
  tap_->StepSkipped("inf");
  ++expected_steps_;
  ASSERT_THAT(d().steps, SizeIs(4));
  const testing::Delivered& got = d();
  EXPECT_NEAR(Own(0, "capture_seconds"), 0.008, 1e-9);
  EXPECT_FALSE(got.HasScalar(got.steps[0], "agent.step_seconds"));
  EXPECT_FALSE(got.HasScalar(got.steps[0], "agent.thread_cpu_seconds"));
  EXPECT_EQ(Own(0, "bytes"), 0);
  // What came after the last step's measure is this one's: its admission.
  EXPECT_NEAR(Own(1, "capture_seconds"), 0.007 + 0.002, 1e-9);
  EXPECT_NEAR(Own(1, "step_seconds"), 0.007 + 0.100 + 0.020 + 0.002, 1e-9);
  EXPECT_NEAR(Own(1, "thread_cpu_seconds"), 0.011, 1e-9);
  EXPECT_EQ(Own(1, "bytes"), 1000);
  EXPECT_NEAR(Own(2, "capture_seconds"), 0.007 + 0.003 + 0.005, 1e-9);
  EXPECT_NEAR(Own(2, "step_seconds"), 0.007 + 0.100 + 0.003 + 0.020 + 0.005,
              1e-9);
  EXPECT_NEAR(Own(3, "capture_seconds"), 0.007, 1e-9);
  EXPECT_NEAR(Own(3, "step_seconds"), 0.007, 1e-9);
  EXPECT_NEAR(Own(3, "thread_cpu_seconds"), 0, 1e-9);
}

TEST_F(PaceTest, TheStatusShowsOwnTimeAndOverheadWithoutTheOptimizer) {
  options_.overhead_budget = 0;
  Attach();
  EXPECT_TRUE(std::isnan(tap_->status().overhead));
  costs_.weights = milliseconds(20);
  optimizer_.after = [] { testing::World().clock.Advance(milliseconds(80)); };
  Step();
  EXPECT_TRUE(std::isnan(tap_->status().overhead));
  for (int i = 0; i < 9; ++i) Step();
  EXPECT_NEAR(tap_->status().overhead, 0.1, 1e-9);
  EXPECT_EQ(tap_->status().own_time, milliseconds(200));
  EXPECT_EQ(tap_->status().own_time_last_step, milliseconds(20));
  costs_.weights = milliseconds(0);
  for (int i = 0; i < 64; ++i) Step();
  EXPECT_EQ(tap_->status().overhead, 0);
}

TEST_F(PaceTest, AStepAllocatesNothingOfItsOwnAfterTheFirstOnes) {
  options_.interval_steps = 3;
  options_.histogram_interval_steps = 6;
  testing::World().keep = false;
  Attach();
  tap_->SetLossScale(2);
  const torch::Tensor loss = torch::ones({});
  const std::vector<Scalar> scalars = {{"loss", loss}, {"lr", 0.1}};
  const auto run = [&](int steps) {
    for (int i = 0; i < steps; ++i) {
      testing::World().clock.Advance(milliseconds(1));
      tap_->AfterBackward();
      tap_->BeforeOptimizerStep();
      tap_->AfterOptimizerStep(scalars);
      ++expected_steps_;
    }
  };
  Backward();
  run(24);
  testing::StartCountingAllocations();
  run(60);
  EXPECT_EQ(testing::StopCountingAllocations(), 0);
}

TEST_F(PaceTest, AScalarAllocatesForATensorAlone) {
  const torch::Tensor loss = torch::ones({});
  testing::StartCountingAllocations();
  {
    const Scalar number("lr", 0.1);
    const Scalar copy = number;
    EXPECT_EQ(copy.tensor(), nullptr);
  }
  EXPECT_EQ(testing::StopCountingAllocations(), 0);
  testing::StartCountingAllocations();
  {
    const Scalar tensor("loss", loss);
    const Scalar copy = tensor;
    EXPECT_NE(copy.tensor(), nullptr);
  }
  EXPECT_EQ(testing::StopCountingAllocations(), 1);
}

TEST_F(PaceTest, AnotherThreadsStepHasNoCpuTime) {
  Attach();
  Step();
  std::thread([&] { Step(); }).join();
  Step();
  std::thread([&] {
    Step();
    Step();
  }).join();
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(d().HasScalar(d().steps[i], "agent.thread_cpu_seconds")) << i;
  }
  EXPECT_TRUE(d().HasScalar(d().steps[4], "agent.thread_cpu_seconds"));
}

TEST_F(PaceTest, OverTheBudgetTheIntervalWidensAndScalarsGoOn) {
  Attach();
  EXPECT_EQ(tap_->status().interval_steps, 1);
  costs_.weights = milliseconds(12);  // 10.7 % of a step: every fourth.
  for (int i = 0; i < 200; ++i) Step({{"loss", i}});
  EXPECT_EQ(tap_->status().interval_steps, 4);
  ASSERT_THAT(d().steps, SizeIs(200));
  std::int64_t before = 1;
  for (const StepData& step : d().steps) {
    const bool due = step.step % step.interval_steps == 0;
    EXPECT_EQ(step.skipped, due ? GapCause::kUnspecified : GapCause::kBudget);
    EXPECT_EQ(d().Scalar(step, "loss"), static_cast<double>(step.step));
    EXPECT_GE(step.interval_steps, before);
    before = step.interval_steps;
  }
  EXPECT_LE(tap_->status().overhead, 0.05);
  EXPECT_THAT(tap_->status().skipped_by_cause,
              ElementsAre(Pair("budget", d().counters.steps_skipped)));
  EXPECT_THAT(said_, ElementsAre(HasSubstr("every 4 steps")));
  // The copy is taken again before each step that is due.
  EXPECT_NEAR(d().Get(d().steps[196], "weight", Role::kUpdate)->mean, -0.1,
              1e-6);
}

TEST_F(PaceTest, TheCopyThatUpdatesNeedCountsToo) {
  Attach();
  costs_.weights = milliseconds(6);
  costs_.keep = milliseconds(6);  // 12 ms every other step are too much.
  for (int i = 0; i < 400; ++i) Step();
  EXPECT_EQ(tap_->status().interval_steps, 4);
}

TEST_F(PaceTest, WhereThereIsRoomAgainTheIntervalNarrows) {
  options_.interval_steps = 3;
  Attach();
  costs_.weights = milliseconds(40);
  for (int i = 0; i < 200; ++i) Step();
  EXPECT_EQ(tap_->status().interval_steps, 12);
  costs_.weights = milliseconds(1);
  for (int i = 0; i < 1000; ++i) Step();
  EXPECT_EQ(tap_->status().interval_steps, 3);
  for (const StepData& step : d().steps) {
    if (step.step % 3 != 0) {
      EXPECT_EQ(step.skipped, GapCause::kInterval);
    }
  }
  // Each interval is told once, also if it comes again.
  const std::size_t told = said_.size();
  EXPECT_EQ(told, 3u);
  costs_.weights = milliseconds(40);
  for (int i = 0; i < 200; ++i) Step();
  EXPECT_EQ(tap_->status().interval_steps, 12);
  EXPECT_THAT(said_, SizeIs(told));
}

TEST_F(PaceTest, WithoutABudgetEveryStepIsCapturedWhateverItCosts) {
  options_.overhead_budget = 0;
  Attach();
  costs_.weights = std::chrono::seconds(10);
  for (int i = 0; i < 50; ++i) Step();
  EXPECT_EQ(d().counters.steps_recorded, 50u);
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(PaceTest, AnAuditTakesBlocksInTurnsAndStartsWithCapture) {
  options_.audit_steps = 3;
  Attach();
  costs_.weights = std::chrono::seconds(10);  // The budget does not mix in.
  for (int i = 0; i < 100; ++i) {
    if (i % 6 == 0) costs_.gradient_calls = costs_.weight_calls = 0;
    Backward();
    tap_->AfterBackward();
    tap_->Step(optimizer_, {{"loss", i}});
    ++expected_steps_;
    if (i % 6 == 5) {
      EXPECT_EQ(costs_.gradient_calls, 6);
      EXPECT_EQ(costs_.weight_calls, 3);
    }
  }
  EXPECT_EQ(costs_.keep_calls, 0);
  for (const StepData& step : d().steps) {
    EXPECT_EQ(step.skipped, step.step / 3 % 2 == 0 ? GapCause::kUnspecified
                                                   : GapCause::kAudit);
    EXPECT_EQ(d().Scalar(step, "loss"), static_cast<double>(step.step));
    EXPECT_TRUE(d().HasScalar(step, "agent.capture_seconds"));
    if (step.skipped != GapCause::kUnspecified || step.step == 0) continue;
    EXPECT_EQ(d().Get(step, "weight", Role::kUpdate).has_value(),
              step.step % 6 != 0);
  }
  EXPECT_THAT(tap_->status().skipped_by_cause, ElementsAre(Pair("audit", 49)));
}

TEST_F(PaceTest, AnAuditsBlocksAreByTheLoopsOwnCounter) {
  options_.audit_steps = 10;
  options_.interval_steps = 4;
  Attach();
  tap_->SetStep(1017);
  for (int i = 0; i < 6; ++i) Step();
  EXPECT_THAT(d().order, ElementsAre("schema 1", "skipped 1017", "skipped 1018",
                                     "skipped 1019", "step 1020",
                                     "skipped 1021", "skipped 1022"));
  EXPECT_EQ(d().steps[0].skipped, GapCause::kAudit);
  EXPECT_EQ(d().steps[4].skipped, GapCause::kInterval);
}

}  // namespace
}  // namespace gradtap
