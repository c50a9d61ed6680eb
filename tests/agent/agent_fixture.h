// An agent on a small model, over a delivery that keeps what it is given.

#ifndef GRADTAP_TESTS_AGENT_AGENT_FIXTURE_H_
#define GRADTAP_TESTS_AGENT_AGENT_FIXTURE_H_

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>
#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/fake_world.h"
#include "gradtap/agent.h"

namespace gradtap {

// Plain descent that can be told to fail.
class Descent : public torch::optim::Optimizer {
 public:
  explicit Descent(std::vector<torch::Tensor> parameters)
      : Optimizer({torch::optim::OptimizerParamGroup(std::move(parameters))},
                  std::make_unique<torch::optim::SGDOptions>(0.1)) {}

  torch::Tensor step(LossClosure closure) override {
    ++calls;
    torch::Tensor loss;
    for (int i = 0; closure && i < evaluations; ++i) {
      const torch::Tensor value = closure();
      if (i == 0) loss = value;
    }
    const torch::NoGradGuard no_grad;
    for (torch::Tensor& p : param_groups()[0].params()) {
      if (p.grad().defined()) p.sub_(p.grad(), 0.1);
    }
    if (after) after();
    return loss;
  }

  int calls = 0;
  int evaluations = 1;  // Of a closure, in a step.
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

}  // namespace gradtap

#endif  // GRADTAP_TESTS_AGENT_AGENT_FIXTURE_H_
