// The public API over a delivery that keeps what it is given.

#include "gradtap/agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>
#include <torch/types.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "agent/fake_world.h"
#include "core/limits.h"
#include "core/names.h"

namespace gradtap {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

// Plain descent that can be told to fail.
class Descent : public torch::optim::Optimizer {
 public:
  explicit Descent(std::vector<torch::Tensor> parameters)
      : Optimizer({torch::optim::OptimizerParamGroup(std::move(parameters))},
                  std::make_unique<torch::optim::SGDOptions>(0.1)) {}

  torch::Tensor step(LossClosure) override {
    const torch::NoGradGuard no_grad;
    ++calls;
    for (torch::Tensor& p : param_groups()[0].params()) {
      if (p.grad().defined()) p.sub_(p.grad(), 0.1);
    }
    if (after) after();
    return {};
  }

  int calls = 0;
  std::function<void()> after;
};

class AgentTest : public ::testing::Test {
 protected:
  AgentTest() {
    testing::ResetWorld();
    torch::manual_seed(7);
    options_.run = "test";
    options_.log = [this](const std::string& m) { said_.push_back(m); };
  }

  // The books balance, and each step that the loop took is in one of them.
  void TearDown() override {
    tap_ = nullptr;
    const agent::DeliveryCounters& c = d().counters;
    EXPECT_EQ(c.steps_seen, c.steps_recorded + c.steps_skipped + c.steps_lost);
    EXPECT_EQ(c.steps_seen, expected_steps_);
    EXPECT_EQ(d().shutdowns, attached_ ? 1 : 0);
  }

  testing::Delivered& d() { return testing::World().delivered; }

  void Attach() {
    tap_ = Agent::Attach(model_, options_);
    attached_ = tap_->status().state != AgentState::kDisabled;
  }

  // Gradients of `value` everywhere; a hundred milliseconds later.
  void Backward(float value = 1) {
    model_.weight.mutable_grad() = torch::full({2, 3}, value);
    model_.bias.mutable_grad() = torch::full({2}, value);
    testing::World().clock.Advance(std::chrono::milliseconds(100));
  }

  void Step(std::initializer_list<Scalar> scalars = {}) {
    Backward();
    tap_->Step(optimizer_, scalars);
    if (attached_) ++expected_steps_;
  }

  torch::nn::LinearImpl model_{3, 2};
  Descent optimizer_{model_.parameters()};
  AgentOptions options_;
  std::vector<std::string> said_;
  std::unique_ptr<Agent> tap_;
  bool attached_ = false;
  std::uint64_t expected_steps_ = 0;
};

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

TEST_F(AgentTest, TheAgentsOwnTimesAreScalarsOfEachStep) {
  Attach();
  Step();
  Step();
  EXPECT_TRUE(d().HasScalar(d().steps[0], "agent.capture_seconds"));
  EXPECT_FALSE(d().HasScalar(d().steps[0], "agent.step_seconds"));
  EXPECT_NEAR(d().Scalar(d().steps[1], "agent.step_seconds"), 0.1, 1e-9);
  EXPECT_EQ(d().Scalar(d().steps[1], "agent.capture_seconds"), 0);
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
  EXPECT_TRUE(tap_->Flush(std::chrono::seconds(1)).delivered);
  s = tap_->status();
  EXPECT_EQ(s.steps_acknowledged, 3u);
  EXPECT_EQ(s.steps_at_hand, 0u);
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
  EXPECT_THAT(d().order, ElementsAre("schema 1", "step 0", "gap 1", "skipped 2",
                                     "step 3"));
  EXPECT_EQ(d().gaps[0].cause, GapCause::kLoop);
  EXPECT_EQ(d().gaps[0].detail, "found \\xff inf");
  EXPECT_EQ(d().steps[1].skipped, GapCause::kLoop);
  EXPECT_EQ(d().steps[1].skipped_detail, "overflow");
  EXPECT_THAT(d().steps[1].roles, IsEmpty());
  EXPECT_EQ(d().Scalar(d().steps[1], "scale"), 1024);
  EXPECT_THAT(tap_->status().skipped_by_cause, ElementsAre(Pair("loop", 2)));
  EXPECT_NEAR(d().Get(d().steps[2], "weight", Role::kUpdate)->mean, -0.1, 1e-6);
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

TEST_F(AgentTest, AFaultIsALostStepAndSixteenSwitchCaptureOff) {
  Attach();
  Step();
  int size = 2;
  optimizer_.after = [&] { model_.bias.set_data(torch::ones({++size})); };
  for (int i = 0; i < 18; ++i) {
    model_.bias.mutable_grad() = torch::Tensor();
    tap_->Step(optimizer_);
  }
  expected_steps_ += 18;
  EXPECT_EQ(optimizer_.calls, 19);
  EXPECT_THAT(tap_->status().lost_by_cause,
              ElementsAre(Pair("capture_error", 18)));
  EXPECT_THAT(d().gaps[0].detail, HasSubstr("'bias' changed within the step"));
  EXPECT_EQ(d().gaps[17].detail, "capture is switched off");
  EXPECT_EQ(std::count(said_.begin(), said_.end(),
                       "capture is switched off after 16 faults"),
            1);
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
  EXPECT_THAT(d().steps[2].scalars, SizeIs(2));  // The agent's own.
  EXPECT_EQ(d().Scalar(d().steps[3], "a"), 5);
}

TEST_F(AgentTest, OptionsReachDelivery) {
  options_.collector = "there";
  options_.tags = {{"k", "v"}};
  options_.ring_bytes = 2 << 20;
  options_.shutdown_deadline = std::chrono::milliseconds(123);
  testing::World().environment = {{"RANK", "1"},
                                  {"WORLD_SIZE", "2"},
                                  {"GRADTAP_LAUNCH", "L"},
                                  {"GRADTAP_RUN", "from-env"}};
  Attach();
  ASSERT_THAT(d().created, SizeIs(1));
  const agent::DeliveryOptions o = d().created[0];
  EXPECT_EQ(o.collector, "there:7317");
  EXPECT_EQ(o.run, "from-env");
  EXPECT_EQ(o.launch, "L");
  EXPECT_EQ(o.rank, 1u);
  EXPECT_EQ(o.world_size, 2u);
  EXPECT_EQ(o.tags, options_.tags);
  EXPECT_EQ(o.ring_bytes, 2u << 20);
  EXPECT_FALSE(o.torch_version.empty());
  Step();
  EXPECT_THAT(d().reserved, IsEmpty());  // The program chose the size.
  tap_ = nullptr;
  EXPECT_EQ(d().shutdown_deadline, std::chrono::milliseconds(123));
}

TEST_F(AgentTest, WhatDeliverySaysIsAProblemLikeAnother) {
  Attach();
  d().created[0].log("gradtap: the collector is away");
  d().created[0].log("the collector is away");
  EXPECT_THAT(said_, ElementsAre("the collector is away"));
  EXPECT_EQ(tap_->status().problems, said_);
}

TEST_F(AgentTest, StepsThatAreNotDeliveredAtTheEndAreSaid) {
  Attach();
  Step();
  Step();
  Step();
  testing::World().undelivered_steps = 2;
  tap_ = nullptr;
  EXPECT_THAT(said_, ElementsAre("2 of 3 recorded steps did not reach the "
                                 "collector at 127.0.0.1:7317 and are lost"));
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
  Step();
  EXPECT_THAT(d().order, ElementsAre("schema 1", "gap 0", "step 1"));
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
  // Those of the loop and the agent's two.
  EXPECT_EQ(d().steps[1].scalars.size(), 1002u);
  EXPECT_LE(d().steps[1].scalars.size(), kMaxStepScalars);
}

TEST_F(AgentTest, BadOptionsTrainOnAndSayWhy) {
  options_.run = "no such/run";
  options_.include = {"("};
  Attach();
  ASSERT_FALSE(attached_);
  Step({{"loss", 1}});
  tap_->BeforeOptimizerStep();
  tap_->AfterOptimizerStep();
  tap_->AfterBackward();
  tap_->StepSkipped("x");
  tap_->SetStep(4);
  tap_->Refresh();
  EXPECT_TRUE(tap_->Flush(std::chrono::seconds(1)).delivered);
  EXPECT_EQ(optimizer_.calls, 1);
  EXPECT_THAT(d().created, IsEmpty());
  const AgentStatus s = tap_->status();
  EXPECT_EQ(s.state, AgentState::kDisabled);
  EXPECT_THAT(s.problems, ElementsAre(HasSubstr("no such/run"),
                                      HasSubstr("nothing is recorded")));
  EXPECT_EQ(s.problems, said_);
}

TEST_F(AgentTest, WhatDeliveryRefusesTrainsOnAndSaysWhy) {
  testing::World().create_status = absl::InvalidArgumentError("no such file");
  Attach();
  ASSERT_FALSE(attached_);
  Step();
  EXPECT_EQ(optimizer_.calls, 1);
  EXPECT_THAT(said_, ElementsAre(HasSubstr("no such file")));
}

TEST_F(AgentTest, DisabledIsInertAndSilent) {
  testing::World().environment = {{"GRADTAP_DISABLED", "1"}};
  options_.run = "///";
  Attach();
  ASSERT_FALSE(attached_);
  Step();
  EXPECT_EQ(optimizer_.calls, 1);
  EXPECT_THAT(d().created, IsEmpty());
  EXPECT_THAT(said_, IsEmpty());
  EXPECT_EQ(tap_->status().state, AgentState::kDisabled);
}

TEST_F(AgentTest, LogOffKeepsTheProblemsAndSaysNothing) {
  testing::World().environment = {{"GRADTAP_LOG", "off"},
                                  {"GRADTAP_INTERVAL", "x"}};
  Attach();
  EXPECT_THAT(said_, IsEmpty());
  EXPECT_THAT(tap_->status().problems,
              ElementsAre(HasSubstr("GRADTAP_INTERVAL")));
}

TEST_F(AgentTest, ALogThatThrowsIsSwallowed) {
  options_.log = [](const std::string&) { throw std::runtime_error("no"); };
  options_.run = "/";
  Attach();
  EXPECT_THAT(tap_->status().problems, SizeIs(1));
}

TEST_F(AgentTest, AFilterThatLeavesNothingIsReportedAndScalarsGoOn) {
  options_.include = {"nothing like it"};
  Attach();
  Step({{"loss", 1}});
  EXPECT_THAT(said_, ElementsAre(HasSubstr("no parameter to record")));
  EXPECT_EQ(d().Scalar(d().steps[0], "loss"), 1);
  EXPECT_THAT(d().steps[0].roles, IsEmpty());
}

TEST_F(AgentTest, ModulesWithPrefixesAndNamedTensorsAreTaken) {
  torch::nn::LinearImpl other(1, 1);
  tap_ = Agent::Attach({NamedModule("G", model_), NamedModule("D", other)},
                       options_);
  attached_ = true;
  Step();
  EXPECT_EQ(d().Find("G.weight").module_path, "G");
  EXPECT_EQ(d().Find("D.bias").numel, 1u);
  tap_ = nullptr;
  testing::ResetWorld();
  expected_steps_ = 0;
  tap_ = Agent::Attach({NamedTensor("w", torch::ones({2}))}, options_);
  Step();
  EXPECT_EQ(d().Get(d().steps[0], "w", Role::kWeight)->mean, 1.0f);
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

TEST_F(AgentTest, AForkedChildIsInertAndTheParentGoesOn) {
  Attach();
  Step();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Counted in the child's copy of the fake: nothing may be added.
    const std::size_t before = d().order.size();
    const int calls = optimizer_.calls;
    tap_->Step(optimizer_);
    tap_->StepSkipped("x");
    tap_->BeforeOptimizerStep();
    tap_->AfterOptimizerStep();
    const bool flushed = tap_->Flush(std::chrono::seconds(1)).delivered;
    const AgentState state = tap_->status().state;
    const auto second = Agent::Attach(model_, options_);
    second->Step(optimizer_);
    const bool fine = d().order.size() == before && !flushed &&
                      state == AgentState::kDisabled &&
                      second->status().state == AgentState::kDisabled &&
                      optimizer_.calls == calls + 2 && d().created.size() == 1;
    tap_ = nullptr;
    ::_exit(fine && d().shutdowns == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  Step();
  EXPECT_THAT(d().steps, SizeIs(2));
}

TEST_F(AgentTest, TenThousandParametersTakeAFewKilobytesEachBesideTheirCopies) {
  struct Wide : torch::nn::Module {
    Wide() {
      for (int i = 0; i < 10'000; ++i) {
        register_parameter("p" + std::to_string(i), torch::ones({1}));
      }
    }
  };
  const Wide model;
  const std::size_t before = ::mallinfo2().uordblks;
  testing::World().keep = false;
  tap_ = Agent::Attach(model, options_);
  attached_ = true;
  for (int i = 0; i < 2; ++i) {
    tap_->BeforeOptimizerStep();
    tap_->AfterOptimizerStep();
    ++expected_steps_;
  }
  const std::size_t after = ::mallinfo2().uordblks;
  EXPECT_LT(after - before, 10'000u * 2048);
  EXPECT_EQ(tap_->status().weight_copy_bytes, 40'000u);
}

struct Network : torch::nn::Module {
  Network() {
    first = register_module("first", torch::nn::Linear(10, 32));
    norm = register_module("norm", torch::nn::BatchNorm1d(32));
    drop = register_module("drop", torch::nn::Dropout(0.3));
    second = register_module("second", torch::nn::Linear(32, 1));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return second->forward(
        drop->forward(torch::relu(norm->forward(first->forward(x)))));
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  torch::nn::Dropout drop{nullptr};
};

// All parameters and buffers, and a random number drawn last.
std::vector<torch::Tensor> Train(bool with_agent, const AgentOptions& options,
                                 std::unique_ptr<Agent>* tap) {
  torch::manual_seed(11);
  const auto model = std::make_shared<Network>();
  torch::optim::SGD optimizer(model->parameters(),
                              torch::optim::SGDOptions(0.05).momentum(0.9));
  if (with_agent) *tap = Agent::Attach(*model, options);
  for (int step = 0; step < 200; ++step) {
    optimizer.zero_grad();
    const torch::Tensor x = torch::randn({16, 10});
    const torch::Tensor loss =
        (model->forward(x) - x.sum(1, true)).pow(2).mean();
    loss.backward();
    if (with_agent) {
      if (step % 3 == 0) (*tap)->AfterBackward();
      (*tap)->Step(optimizer, {{"loss", loss}});
    } else {
      optimizer.step();
    }
  }
  std::vector<torch::Tensor> state;
  for (const auto& p : model->parameters()) state.push_back(p.detach().clone());
  for (const auto& b : model->buffers()) state.push_back(b.detach().clone());
  state.push_back(torch::rand({4}));
  if (with_agent) *tap = nullptr;
  return state;
}

TEST_F(AgentTest, TrainingIsBitIdenticalWithAndWithoutTheAgent) {
  const auto plain = Train(false, options_, &tap_);
  const auto tapped = Train(true, options_, &tap_);
  attached_ = true;
  expected_steps_ = 200;
  ASSERT_EQ(plain.size(), tapped.size());
  for (std::size_t i = 0; i < plain.size(); ++i) {
    EXPECT_TRUE(torch::equal(plain[i], tapped[i])) << i;
  }
  EXPECT_EQ(d().counters.steps_recorded, 200u);
}

}  // namespace
}  // namespace gradtap
