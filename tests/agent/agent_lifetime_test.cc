// How an agent comes, what it needs, and how it goes.

#include <fenv.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/dropout.h>
#include <unistd.h>

#include <cfenv>
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "agent/agent_fixture.h"
#include "gradtap/agent.h"

namespace gradtap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

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

TEST_F(AgentTest, StepsThatAFileKeepsAreNotCalledLost) {
  Attach();
  Step();
  testing::World().undelivered_steps = 1;
  testing::World().undelivered_are_kept = true;
  tap_ = nullptr;
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(AgentTest, BeginningAtZeroInARunWithStepsIsSaidOnce) {
  Attach();
  Step();  // Not connected yet.
  EXPECT_THAT(said_, IsEmpty());
  testing::World().last_step_of_run = 4711;
  for (int i = 0; i < 3; ++i) Step();
  EXPECT_THAT(said_,
              ElementsAre(AllOf(HasSubstr("run test has steps up to 4711"),
                                HasSubstr("SetStep(n)"))));
}

TEST_F(AgentTest, BeginningAtZeroIsSaidEvenIfTheCollectorAnswersAtTheEnd) {
  Attach();
  Step();
  testing::World().last_step_of_run = 0;
  tap_ = nullptr;
  EXPECT_THAT(said_, ElementsAre(HasSubstr("steps up to 0")));
}

TEST_F(AgentTest, ANewRunASetStepAndAnAgentWithoutAStepAreNotWarned) {
  testing::World().last_step_of_run = -1;
  Attach();
  Step();
  Step();
  tap_ = nullptr;
  for (const std::int64_t first : {100, 0}) {
    testing::ResetWorld();
    testing::World().last_step_of_run = 100;
    expected_steps_ = 0;
    Attach();
    tap_->SetStep(first);
    Step();
    Step();
    tap_ = nullptr;
  }
  testing::ResetWorld();
  testing::World().last_step_of_run = 100;
  expected_steps_ = 0;
  Attach();
  tap_ = nullptr;
  EXPECT_THAT(said_, IsEmpty());
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

TEST_F(AgentTest, NamedTensorsHoldWhatTheyWereMadeOf) {
  std::vector<NamedTensor> named;
  for (const float value : {1.0f, 2.0f}) {
    torch::Tensor passing = torch::full({3}, value);
    named.emplace_back("w" + std::to_string(named.size()), passing);
    passing = torch::full({3}, 99.0f);
  }
  tap_ = Agent::Attach(std::move(named), options_);
  attached_ = true;
  Step();
  EXPECT_EQ(d().Get(d().steps[0], "w0", Role::kWeight)->mean, 1.0f);
  EXPECT_EQ(d().Get(d().steps[0], "w1", Role::kWeight)->mean, 2.0f);
}

TEST_F(AgentTest, AFewElementsAgainAndAgainAreNotReadAsMany) {
  const torch::Tensor often = torch::ones({1}).expand({std::int64_t{1} << 32});
  const torch::Tensor few = torch::ones({1}).expand({1000});
  tap_ = Agent::Attach({NamedTensor("often", often), NamedTensor("few", few)},
                       options_);
  attached_ = true;
  Step();
  EXPECT_EQ(d().Find("often").unsupported_reason,
            "it has 4294967296 elements in 4 bytes of memory");
  EXPECT_EQ(d().Get(d().steps[0], "few", Role::kWeight)->mean, 1.0f);
  EXPECT_LT(tap_->status().weight_copy_bytes, 10'000u);
}

#if defined(__x86_64__)

// Where a program traps what IEEE 754 calls invalid, or too large.
TEST_F(AgentTest, ValuesThatWouldTrapAreRecordedAndTheTrapsStay) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  // Of one chunk, and of many on LibTorch's pool.
  const torch::Tensor mask = torch::full({100}, -3.4e38f);
  const torch::Tensor large = torch::full({1 << 21}, -3.4e38f);
  const torch::Tensor vast = torch::full({9}, 1e308, torch::kFloat64);
  const torch::Tensor lost = torch::full({9}, nan);
  tap_ = Agent::Attach(
      {NamedTensor("mask", mask, true), NamedTensor("large", large, true),
       NamedTensor("vast", vast), NamedTensor("lost", lost)},
      options_);
  attached_ = true;
  const torch::Tensor loss = torch::tensor(nan);
  std::feclearexcept(FE_ALL_EXCEPT);
  std::feraiseexcept(FE_UNDERFLOW);
  ::feenableexcept(FE_INVALID | FE_OVERFLOW | FE_DIVBYZERO);
  const unsigned before = __builtin_ia32_stmxcsr();
  for (int i = 0; i < 2; ++i) {
    tap_->BeforeOptimizerStep();
    tap_->AfterOptimizerStep({{"loss", loss}});
    ++expected_steps_;
  }
  const unsigned after = __builtin_ia32_stmxcsr();
  ::fedisableexcept(FE_ALL_EXCEPT);
  EXPECT_EQ(after, before);
  const StepData& step = d().steps.at(1);
  EXPECT_EQ(d().Get(step, "mask", Role::kBuffer)->min, -3.4e38f);
  EXPECT_EQ(d().Get(step, "large", Role::kBuffer)->max, -3.4e38f);
  EXPECT_EQ(d().Get(step, "vast", Role::kWeight)->max,
            std::numeric_limits<float>::max());
  EXPECT_EQ(d().Get(step, "lost", Role::kUpdate)->nan, 9u);
  EXPECT_TRUE(std::isnan(d().Scalar(step, "loss")));
}

#endif

TEST_F(AgentTest, TwoAgentsOfOneRunAreToldSoWhenBothRecord) {
  Attach();
  Step();
  auto second = Agent::Attach(model_, options_);
  EXPECT_THAT(said_, IsEmpty());
  for (int i = 0; i < 2; ++i) second->Step(optimizer_);
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("records run test too"),
                                       HasSubstr("AgentOptions::run"))));
  EXPECT_EQ(second->status().problems, said_);
  second = nullptr;
  tap_ = nullptr;
  testing::ResetWorld();
  expected_steps_ = 0;
  Attach();
}

TEST_F(AgentTest, AgentsOfOtherRunsOrRanksOrAfterOneAnotherAreNotTold) {
  testing::World().environment = {{"GRADTAP_LAUNCH", "L"}};
  Attach();
  Step();
  AgentOptions other = options_;
  other.run = "another";
  AgentOptions of_rank = options_;
  of_rank.rank = 1;
  of_rank.world_size = 2;
  for (const AgentOptions& options : {other, of_rank}) {
    Agent::Attach(model_, options)->Step(optimizer_);
  }
  tap_ = Agent::Attach(model_, options_);  // The one before ends here.
  tap_->Step(optimizer_);
  EXPECT_THAT(said_, IsEmpty());
  tap_ = nullptr;
  testing::ResetWorld();
  expected_steps_ = 0;
  Attach();
}

TEST_F(AgentTest, AThreadThatEndsInTheOptimizerLeavesAGap) {
  Attach();
  Step();
  optimizer_.after = [] { ::pthread_exit(nullptr); };
  std::thread([&] { Step(); }).join();
  std::thread([&] {
    Backward();
    tap_->Step(optimizer_, [] { return torch::ones({}); });
  }).join();
  optimizer_.after = [] {
    ::pthread_cancel(::pthread_self());
    ::pthread_testcancel();
  };
  std::thread([&] { Step(); }).join();
  optimizer_.after = nullptr;
  Step();
  expected_steps_ += 3;
  ASSERT_THAT(d().gaps, SizeIs(3));
  for (const auto& gap : d().gaps) {
    EXPECT_EQ(gap.cause, GapCause::kOptimizerThrew);
    EXPECT_THAT(gap.detail, HasSubstr("thread"));
  }
  EXPECT_THAT(d().steps, SizeIs(2));
}

TEST_F(AgentTest, AThreadIsCancelledAfterTheCallAndNotWithinIt) {
  options_.log = [this](const std::string& m) {
    said_.push_back(m);
    ::pthread_testcancel();
  };
  Attach();
  bool returned = false;
  bool went_on = false;
  std::thread([&] {
    ::pthread_cancel(::pthread_self());
    tap_->SetStep(-1);  // It is said that this is ignored.
    returned = true;
    ::pthread_testcancel();
    went_on = true;
  }).join();
  EXPECT_THAT(said_, SizeIs(1));
  EXPECT_TRUE(returned);
  EXPECT_FALSE(went_on);
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
