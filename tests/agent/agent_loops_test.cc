// Loops as people write them: closures, several optimizers, accumulation, loss
// scaling, reductions of their own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim/lbfgs.h>

#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "agent/agent_fixture.h"
#include "gradtap/agent.h"

namespace gradtap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr float kInf = std::numeric_limits<float>::infinity();

void Fill(torch::nn::LinearImpl& model, float value) {
  for (torch::Tensor& p : model.parameters()) {
    p.mutable_grad() = torch::full(p.sizes(), value);
  }
}

// ---- Closures --------------------------------------------------------------

TEST_F(AgentTest, LbfgsRecordsTheGradientsOfItsStartingPoint) {
  Attach();
  torch::optim::LBFGS lbfgs(model_.parameters(),
                            torch::optim::LBFGSOptions(0.1).max_iter(5));
  const torch::Tensor x = torch::randn({16, 3});
  int evaluations = 0;
  const auto closure = [&] {
    ++evaluations;
    lbfgs.zero_grad();
    const torch::Tensor loss =
        (model_.forward(x) - x.slice(1, 0, 2)).pow(2).mean();
    loss.backward();
    return loss;
  };
  for (int step = 0; step < 3; ++step) {
    closure();
    const float gradient = model_.weight.grad().mean().item<float>();
    const torch::Tensor before = model_.weight.detach().clone();
    const float expected = closure().item<float>();
    evaluations = 0;
    const torch::Tensor loss = tap_->Step(lbfgs, closure, {{"lr", 0.1}});
    ++expected_steps_;
    EXPECT_GT(evaluations, 1);
    EXPECT_FLOAT_EQ(loss.item<float>(), expected);
    const StepData& data = d().steps.at(static_cast<std::size_t>(step));
    EXPECT_NEAR(d().Get(data, "weight", Role::kGrad)->mean, gradient, 1e-6);
    EXPECT_NEAR(d().Get(data, "weight", Role::kWeight)->mean,
                model_.weight.mean().item<float>(), 1e-6);
    EXPECT_EQ(d().Scalar(data, "lr"), 0.1);
    EXPECT_FALSE(d().HasScalar(data, "loss"));
    if (step == 0) continue;
    EXPECT_NEAR(d().Get(data, "weight", Role::kUpdate)->mean,
                (model_.weight - before).mean().item<float>(), 1e-6);
  }
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(AgentTest, WhatAClosureThrowsPassesThroughAndTheStepIsAGap) {
  Attach();
  const auto fails = []() -> torch::Tensor { throw std::out_of_range("boom"); };
  EXPECT_THROW(tap_->Step(optimizer_, fails), std::out_of_range);
  Backward();
  optimizer_.after = [] { throw std::runtime_error("late"); };
  const auto fine = [] { return torch::ones({}); };
  EXPECT_THROW(tap_->Step(optimizer_, fine), std::runtime_error);
  optimizer_.after = nullptr;
  EXPECT_EQ(tap_->Step(optimizer_, fine).item<float>(), 1);
  expected_steps_ += 3;
  EXPECT_THAT(d().order, ElementsAre("schema 1", "gap 0", "gap 1", "step 2"));
  EXPECT_EQ(d().gaps[0].cause, GapCause::kOptimizerThrew);
  EXPECT_EQ(d().gaps[0].detail, "boom");
  EXPECT_EQ(d().gaps[1].detail, "late");
}

TEST_F(AgentTest, AClosureThatIsNotEvaluatedIsAGapNotAnInventedGradient) {
  Attach();
  optimizer_.evaluations = 0;
  Backward();
  const std::vector<Scalar> scalars = {{"lr", 1}};
  EXPECT_FALSE(tap_->Step(
                       optimizer_, [] { return torch::ones({}); }, scalars)
                   .defined());
  EXPECT_EQ(optimizer_.calls, 1);
  optimizer_.evaluations = 3;
  tap_->Step(
      optimizer_, [] { return torch::ones({}); }, scalars);
  expected_steps_ += 2;
  EXPECT_THAT(d().order, ElementsAre("gap 0", "schema 1", "step 1"));
  EXPECT_EQ(d().gaps[0].cause, GapCause::kCaptureError);
  EXPECT_THAT(d().gaps[0].detail, HasSubstr("did not evaluate its closure"));
}

TEST_F(AgentTest, GradientsAreThoseOfTheFirstEvaluation) {
  Attach();
  optimizer_.evaluations = 4;
  float value = 0;
  tap_->Step(optimizer_, [&] {
    Fill(model_, ++value);
    return torch::full({}, value);
  });
  ++expected_steps_;
  EXPECT_EQ(d().Get(d().steps[0], "bias", Role::kGrad)->mean, 1.0f);
  EXPECT_EQ(value, 4);
}

TEST_F(AgentTest, ClosuresWorkBetweenIntervalsAndWithoutAnAgent) {
  options_.interval_steps = 2;
  Attach();
  const auto closure = [] { return torch::full({}, 3.0f); };
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(tap_->Step(optimizer_, closure).item<float>(), 3);
    ++expected_steps_;
  }
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "step 0", "skipped 1", "step 2"));
  options_.run = "/";
  const auto inert = Agent::Attach(model_, options_);
  EXPECT_EQ(inert->Step(optimizer_, closure).item<float>(), 3);
}

// ---- Several optimizers ----------------------------------------------------

class GanTest : public AgentTest {
 protected:
  void AttachBoth() {
    tap_ = Agent::Attach({NamedModule("G", model_), NamedModule("D", other_)},
                         options_);
    attached_ = true;
  }
  // One step of a GAN: the generator's backward pass adds to the
  // discriminator's gradients after that one's step.
  void GanStep(float d_value, float g_value) {
    Fill(other_, d_value);
    tap_->BeforeOptimizerStep(d_optimizer_);
    d_optimizer_.step(nullptr);
    Fill(other_, d_value + 1000);
    Fill(model_, g_value);
    tap_->BeforeOptimizerStep(optimizer_);
    optimizer_.step(nullptr);
    tap_->AfterOptimizerStep({{"d_loss", d_value}, {"g_loss", g_value}});
    ++expected_steps_;
  }
  float Grad(std::size_t step, const std::string& name) {
    return d().Get(d().steps.at(step), name, Role::kGrad)->mean;
  }

  torch::nn::LinearImpl other_{2, 1};
  Descent d_optimizer_{other_.parameters()};
};

TEST_F(GanTest, EachOptimizersGradientsAreThoseThatItConsumed) {
  options_.histogram_interval_steps = 1;
  AttachBoth();
  for (int i = 0; i < 3; ++i) GanStep(2, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(Grad(i, "D.weight"), 2);
    EXPECT_EQ(Grad(i, "D.bias"), 2);
    EXPECT_EQ(Grad(i, "G.weight"), 3);
    EXPECT_EQ(Grad(i, "G.bias"), 3);
    EXPECT_EQ(d().steps[i].histograms.size(), i == 0 ? 8u : 12u);
  }
  EXPECT_NEAR(d().Get(d().steps[1], "D.weight", Role::kUpdate)->mean, -0.2,
              1e-6);
  EXPECT_NEAR(d().Get(d().steps[1], "G.bias", Role::kUpdate)->mean, -0.3, 1e-6);
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "step 1", "step 2"));
}

// ---- Learning rates --------------------------------------------------------

TEST_F(AgentTest, TheLearningRateOfEachStepIsRecordedAlsoWhereItIsSkipped) {
  options_.interval_steps = 2;
  Attach();
  for (const double rate : {0.1, 0.05, 0.025}) {
    optimizer_.param_groups()[0].options().set_lr(rate);
    Step();
    EXPECT_EQ(d().Scalar(d().steps.back(), "agent.lr"), rate);
    EXPECT_FALSE(d().HasScalar(d().steps.back(), "agent.lr.0"));
  }
  // Which optimizer it is to be is not known.
  Backward();
  tap_->BeforeOptimizerStep();
  tap_->AfterOptimizerStep();
  ++expected_steps_;
  EXPECT_FALSE(d().HasScalar(d().steps.back(), "agent.lr"));
}

TEST_F(AgentTest, EachParameterGroupHasItsLearningRateAtMostSixteen) {
  Attach();
  Descent groups({model_.weight});
  for (int i = 1; i < 20; ++i) {
    groups.add_param_group(torch::optim::OptimizerParamGroup(
        {torch::ones({1})}, std::make_unique<torch::optim::SGDOptions>(i)));
  }
  for (int step = 0; step < 2; ++step) {
    Backward();
    tap_->Step(groups);
    ++expected_steps_;
    const StepData& data = d().steps.back();
    EXPECT_EQ(d().Scalar(data, "agent.lr.0"), 0.1);
    EXPECT_EQ(d().Scalar(data, "agent.lr.15"), 15);
    EXPECT_FALSE(d().HasScalar(data, "agent.lr.16"));
    EXPECT_FALSE(d().HasScalar(data, "agent.lr"));
  }
}

TEST_F(GanTest, OptimizersOfAStepAreNumberedInTheirOrder) {
  AttachBoth();
  d_optimizer_.param_groups()[0].options().set_lr(0.3);
  GanStep(2, 3);
  EXPECT_EQ(d().Scalar(d().steps[0], "agent.lr.0"), 0.3);
  EXPECT_EQ(d().Scalar(d().steps[0], "agent.lr.1"), 0.1);
  EXPECT_FALSE(d().HasScalar(d().steps[0], "agent.lr.2"));
}

TEST_F(GanTest, TheFirstSchemaNamesAllOptimizersOfAStep) {
  AttachBoth();
  torch::optim::SGD sgd(model_.parameters(), 0.1);
  for (int i = 0; i < 2; ++i) {
    tap_->BeforeOptimizerStep(d_optimizer_);
    tap_->BeforeOptimizerStep(sgd);
    tap_->AfterOptimizerStep();
    ++expected_steps_;
  }
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "step 1"));
  EXPECT_THAT(d().schemas[0].optimizers,
              ElementsAre("gradtap::Descent", "torch::optim::SGD"));
}

// OptimizerOptions::get_lr() throws where nobody has overridden it.
TEST_F(AgentTest, AnOptimizerThatDoesNotTellItsRateIsRecordedWithout) {
  struct Silent : torch::optim::OptimizerCloneableOptions<Silent> {
    double get_lr() const override { throw std::logic_error("not overridden"); }
  };
  class Handmade : public torch::optim::Optimizer {
   public:
    explicit Handmade(std::vector<torch::Tensor> parameters)
        : Optimizer({torch::optim::OptimizerParamGroup(std::move(parameters))},
                    std::make_unique<Silent>()) {}
    torch::Tensor step(LossClosure) override { return {}; }
  };
  Attach();
  Handmade handmade(model_.parameters());
  for (int i = 0; i < 2; ++i) {
    Backward();
    tap_->Step(handmade);
    ++expected_steps_;
    EXPECT_FALSE(d().HasScalar(d().steps.back(), "agent.lr"));
    EXPECT_TRUE(d().Get(d().steps.back(), "weight", Role::kGrad).has_value());
  }
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(GanTest, ParametersOfNoOptimizerOfTheStepHaveNoGradient) {
  AttachBoth();
  GanStep(2, 3);
  Fill(other_, 7);
  tap_->BeforeOptimizerStep(d_optimizer_);
  tap_->AfterOptimizerStep();
  tap_->BeforeOptimizerStep();
  tap_->AfterOptimizerStep();
  expected_steps_ += 2;
  EXPECT_EQ(Grad(1, "D.weight"), 7);
  EXPECT_EQ(d().Get(d().steps[1], "G.weight", Role::kGrad), std::nullopt);
  EXPECT_EQ(Grad(2, "G.weight"), 3);
}

TEST_F(GanTest, AParameterOfTwoOptimizersIsRecordedOnceAsTheLastConsumedIt) {
  options_.histogram_interval_steps = 1;
  AttachBoth();
  Descent both({other_.weight, model_.weight});
  for (int i = 0; i < 2; ++i) {
    Fill(other_, 1);
    tap_->BeforeOptimizerStep(d_optimizer_);
    Fill(other_, 4);
    Fill(model_, 5);
    tap_->BeforeOptimizerStep(both);
    tap_->AfterOptimizerStep();
    ++expected_steps_;
  }
  for (const StepData& step : d().steps) {
    EXPECT_EQ(d().Get(step, "D.weight", Role::kGrad)->mean, 4.0f);
    EXPECT_EQ(d().Get(step, "D.bias", Role::kGrad)->mean, 1.0f);
    EXPECT_EQ(d().Get(step, "G.weight", Role::kGrad)->mean, 5.0f);
    std::set<std::pair<Role, std::uint32_t>> seen;
    for (const HistogramData& h : step.histograms) {
      EXPECT_TRUE(seen.emplace(h.role, h.place).second);
    }
  }
}

TEST_F(GanTest, LocalGradientsAreOfOneOptimizerTooIfAskedFor) {
  AttachBoth();
  for (int i = 0; i < 2; ++i) {
    Fill(other_, 2);
    tap_->AfterBackward(d_optimizer_);
    Fill(other_, 1);
    tap_->BeforeOptimizerStep(d_optimizer_);
    Fill(other_, 99);
    Fill(model_, 6);
    tap_->AfterBackward(optimizer_);
    Fill(model_, 3);
    tap_->BeforeOptimizerStep(optimizer_);
    tap_->AfterOptimizerStep();
    ++expected_steps_;
  }
  for (const StepData& step : d().steps) {
    EXPECT_EQ(d().Get(step, "D.bias", Role::kGradLocal)->mean, 2.0f);
    EXPECT_EQ(d().Get(step, "G.bias", Role::kGradLocal)->mean, 6.0f);
    EXPECT_EQ(d().Get(step, "D.bias", Role::kGrad)->mean, 1.0f);
    EXPECT_EQ(d().Get(step, "G.bias", Role::kGrad)->mean, 3.0f);
  }
}

// The first AfterBackward() comes when the columns are filled already: nothing
// of the step is lost, and the role is there from the next step on.
TEST_F(GanTest, ALocalGradientAskedForInTheMiddleOfAStepWaitsForTheNext) {
  AttachBoth();
  for (int i = 0; i < 2; ++i) {
    Fill(other_, 2);
    tap_->BeforeOptimizerStep(d_optimizer_);
    Fill(model_, 6);
    tap_->AfterBackward(optimizer_);
    tap_->BeforeOptimizerStep(optimizer_);
    tap_->AfterOptimizerStep();
    ++expected_steps_;
  }
  EXPECT_EQ(Grad(0, "D.bias"), 2);
  EXPECT_EQ(Grad(0, "G.bias"), 6);
  EXPECT_EQ(d().Get(d().steps[1], "G.bias", Role::kGradLocal)->mean, 6.0f);
  EXPECT_EQ(d().Get(d().steps[1], "D.bias", Role::kGradLocal), std::nullopt);
  EXPECT_EQ(Grad(1, "D.bias"), 2);
}

TEST_F(GanTest, AnOptimizerOfForeignParametersRecordsNothing) {
  AttachBoth();
  torch::nn::LinearImpl foreign(4, 4);
  Descent stranger(foreign.parameters());
  Fill(model_, 3);
  tap_->BeforeOptimizerStep(stranger);
  tap_->AfterOptimizerStep();
  ++expected_steps_;
  EXPECT_EQ(d().Get(d().steps[0], "G.weight", Role::kGrad), std::nullopt);
  EXPECT_NE(d().Get(d().steps[0], "G.weight", Role::kWeight), std::nullopt);
}

TEST_F(GanTest, AModelThatChangesBetweenTheOptimizersKeepsTheStep) {
  AttachBoth();
  GanStep(2, 3);
  other_.weight.set_data(torch::ones({1, 2}));
  GanStep(4, 5);
  EXPECT_EQ(Grad(1, "D.weight"), 4);
  EXPECT_EQ(Grad(1, "G.weight"), 5);
}

// ---- Accumulation, several calls -------------------------------------------

TEST_F(AgentTest, OfAccumulatedGradientsTheSumIsRecorded) {
  Attach();
  const torch::Tensor x = torch::ones({1, 3});
  for (int micro = 0; micro < 4; ++micro) model_.forward(x).sum().backward();
  tap_->Step(optimizer_);
  ++expected_steps_;
  EXPECT_EQ(d().Get(d().steps[0], "bias", Role::kGrad)->mean, 4.0f);
  EXPECT_EQ(d().steps[0].step, 0);
}

TEST_F(AgentTest, CalledAgainWithinAStepBeforeRecordsAllGradientsAgain) {
  options_.histogram_interval_steps = 1;
  Attach();
  Backward(1);
  tap_->BeforeOptimizerStep();
  Backward(2);  // Clipped, say.
  tap_->BeforeOptimizerStep();
  tap_->AfterOptimizerStep();
  ++expected_steps_;
  EXPECT_EQ(d().Get(d().steps[0], "bias", Role::kGrad)->mean, 2.0f);
  EXPECT_THAT(d().steps[0].histograms, SizeIs(4));  // Two of each role.
}

TEST_F(AgentTest, ShardedPatternsAreThePlacementOfTheirParameters) {
  testing::World().environment = {{"GRADTAP_SHARDED", "^weight$"}};
  Attach();
  Step();
  EXPECT_EQ(d().Find("weight").placement, Placement::kSharded);
  EXPECT_EQ(d().Find("bias").placement, Placement::kReplicated);
}

// ---- Loss scaling ----------------------------------------------------------

TEST_F(AgentTest, GradientsAreRecordedWithoutTheLossScale) {
  Attach();
  tap_->SetLossScale(1024);
  Backward(2048);
  tap_->AfterBackward();
  tap_->Step(optimizer_, {{"loss", 1}});
  tap_->SetLossScale(0.5);
  Backward(1);
  tap_->Step(optimizer_, {{"loss_scale", 7}});  // The loop's own one wins.
  tap_->SetLossScale(1);
  Backward(3);
  tap_->Step(optimizer_);
  expected_steps_ += 3;
  const std::vector<StepData>& steps = d().steps;
  EXPECT_EQ(d().Get(steps[0], "weight", Role::kGrad)->mean, 2.0f);
  EXPECT_EQ(d().Get(steps[0], "weight", Role::kGradLocal)->mean, 2.0f);
  EXPECT_EQ(d().Scalar(steps[0], "loss_scale"), 1024);
  EXPECT_EQ(d().Get(steps[1], "weight", Role::kGrad)->mean, 2.0f);
  EXPECT_EQ(d().Scalar(steps[1], "loss_scale"), 7);
  EXPECT_EQ(d().Get(steps[2], "weight", Role::kGrad)->mean, 3.0f);
  EXPECT_FALSE(d().HasScalar(steps[2], "loss_scale"));
  // Weights and updates are as they are.
  EXPECT_NEAR(d().Get(steps[2], "weight", Role::kUpdate)->mean, -0.3, 1e-5);
}

TEST_F(AgentTest, AStepThatTheScalerSkippedIsSkippedWithoutItsGradients) {
  Attach();
  Step();
  tap_->SetLossScale(65536);
  Backward(kInf);
  tap_->BeforeOptimizerStep();
  tap_->StepSkipped("found inf");
  tap_->SetLossScale(32768);
  Backward(32768);
  tap_->Step(optimizer_);
  expected_steps_ += 2;
  EXPECT_THAT(d().order,
              ElementsAre("schema 1", "step 0", "skipped 1", "step 2"));
  const StepData& skipped = d().steps[1];
  EXPECT_EQ(skipped.skipped, GapCause::kLoop);
  EXPECT_THAT(skipped.roles, IsEmpty());
  EXPECT_THAT(skipped.histograms, IsEmpty());
  EXPECT_EQ(d().Scalar(skipped, "loss_scale"), 65536);
  EXPECT_TRUE(d().HasScalar(skipped, "agent.step_seconds"));
  EXPECT_EQ(d().Get(d().steps[2], "weight", Role::kGrad)->mean, 1.0f);
  EXPECT_EQ(d().Get(d().steps[2], "weight", Role::kGrad)->pos_inf, 0u);
  // Nothing has changed in the step that was skipped.
  EXPECT_NEAR(d().Get(d().steps[2], "weight", Role::kUpdate)->mean, -3276.8,
              1e-2);
  EXPECT_THAT(tap_->status().skipped_by_cause, ElementsAre(Pair("loop", 1)));
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(AgentTest, AScaleThatCannotBeIsReportedOnceAndChangesNothing) {
  Attach();
  tap_->SetLossScale(4);
  for (const double scale :
       {0.0, -1.0, std::nan(""), HUGE_VAL, -HUGE_VAL, 1e-320}) {
    tap_->SetLossScale(scale);
    Backward(8);
    tap_->Step(optimizer_);
    ++expected_steps_;
    EXPECT_EQ(d().Get(d().steps.back(), "bias", Role::kGrad)->mean, 2.0f);
    EXPECT_EQ(d().Scalar(d().steps.back(), "loss_scale"), 4);
  }
  EXPECT_THAT(said_, ElementsAre(HasSubstr("SetLossScale(0) is ignored")));
}

}  // namespace
}  // namespace gradtap
