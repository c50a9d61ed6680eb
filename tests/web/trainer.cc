// A training program that does what it is told, for tests of the page. Lines on
// standard input, an answer to each on standard output:
//
//   parameter NAME NUMEL   one more; NAME in hexadecimal: it may be anything
//   begin                  attaches the agent (options come from the
//   environment) steps N                N steps pace N MS              N steps,
//   MS milliseconds apart: for eyes and benchmarks nan NAME               the
//   next step's gradient of NAME has a NaN spike NAME FACTOR      the next
//   step's gradient of NAME is so much larger freeze NAME            from now
//   on its weight is not changed skip N                 N steps that the loop
//   skips step N                 the next step is N flush waits until the
//   collector has everything quit                   ends the run
//
// Layer: tests. Sees torch by the agent's header and ATen alone.

#include <ATen/ATen.h>
#include <gradtap/agent.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <limits>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace gradtap::testing {
namespace {

std::string FromHex(const std::string& hex) {
  std::string text;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    text.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return text;
}

struct Parameter {
  std::string name;
  at::Tensor weight;
  at::Tensor shape_of_grad;
  float scale = 1;
  float factor = 1;  // Of the next step alone.
  bool nan = false;  // The same.
  bool frozen = false;
};

class Trainer {
 public:
  void Add(const std::string& name, std::int64_t numel) {
    Parameter& parameter = parameters_.emplace_back();
    parameter.name = name;
    parameter.weight = at::empty({numel}, at::kFloat).fill_(0.1);
    parameter.shape_of_grad = at::empty({numel}, at::kFloat);
    float* grad = parameter.shape_of_grad.data_ptr<float>();
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < numel; ++i) grad[i] = normal(random_);
    parameter.scale =
        std::exp(-2.0F * static_cast<float>(parameters_.size() % 37) / 37.0F);
    parameter.weight.set_requires_grad(true);
    parameter.weight.mutable_grad() = at::zeros({numel}, at::kFloat);
  }

  void Begin() {
    std::vector<NamedTensor> tensors;
    for (const Parameter& parameter : parameters_) {
      tensors.emplace_back(parameter.name, parameter.weight);
    }
    AgentOptions options;
    options.overhead_budget = 0;  // Each step is recorded.
    tap_ = Agent::Attach(std::move(tensors), options);
  }

  void Step() {
    const float level =
        0.05F + 0.95F * std::exp(-static_cast<float>(step_) / 2000.0F);
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      Move(&parameters_[i],
           level * (1 + 0.4F * std::sin(0.03F * static_cast<float>(step_) +
                                        static_cast<float>(i))));
    }
    tap_->BeforeOptimizerStep();
    for (Parameter& parameter : parameters_) Apply(&parameter);
    tap_->AfterOptimizerStep({{"loss", 2.0F * level + 0.1F * noise_(random_)},
                              {"accuracy", 1 - level}});
    ++step_;
  }

  void Skip() {
    tap_->StepSkipped("told to");
    ++step_;
  }

  void SetStep(std::int64_t step) {
    tap_->SetStep(step);
    step_ = step;
  }

  // Null: no such parameter.
  Parameter* Find(const std::string& name) {
    for (Parameter& parameter : parameters_) {
      if (parameter.name == name) return &parameter;
    }
    return nullptr;
  }

  bool Flush() { return tap_->Flush(std::chrono::seconds(60)).delivered; }

 private:
  void Move(Parameter* parameter, float level) {
    const float* from = parameter->shape_of_grad.data_ptr<float>();
    at::Tensor grad = parameter->weight.mutable_grad();
    float* to = grad.data_ptr<float>();
    const float factor = level * parameter->scale * parameter->factor *
                         (1 + 0.2F * noise_(random_));
    for (std::int64_t i = 0; i < grad.numel(); ++i) to[i] = factor * from[i];
    if (parameter->nan) to[0] = std::numeric_limits<float>::quiet_NaN();
  }

  // A NaN stays out of the weights: what is tested is where it was seen.
  void Apply(Parameter* parameter) {
    const at::Tensor grad = parameter->weight.grad();
    const float* from = grad.data_ptr<float>();
    float* to = parameter->weight.data_ptr<float>();
    for (std::int64_t i = 0; i < grad.numel() && !parameter->frozen; ++i) {
      if (std::isfinite(from[i])) to[i] -= 1e-3F * from[i] / parameter->factor;
    }
    parameter->factor = 1;
    parameter->nan = false;
  }

  std::vector<Parameter> parameters_;
  std::unique_ptr<Agent> tap_;
  std::int64_t step_ = 0;
  std::mt19937 random_{7};
  std::uniform_real_distribution<float> noise_{-1, 1};
};

void Pace(Trainer* trainer, std::int64_t steps, std::int64_t ms) {
  auto due = std::chrono::steady_clock::now();
  for (std::int64_t i = 0; i < steps; ++i) {
    trainer->Step();
    due += std::chrono::milliseconds(ms);
    std::this_thread::sleep_until(due);
  }
}

// False: the command makes no sense.
bool Do(Trainer* trainer, const std::string& command, std::istream& words) {
  std::string name;
  std::int64_t n = 0;
  if (command == "parameter" && words >> name >> n) {
    trainer->Add(FromHex(name), n);
  } else if (command == "begin") {
    trainer->Begin();
  } else if (command == "steps" && words >> n) {
    for (; n > 0; --n) trainer->Step();
  } else if (command == "pace") {
    std::int64_t ms = 0;
    if (!(words >> n >> ms)) return false;
    Pace(trainer, n, ms);
  } else if (command == "skip" && words >> n) {
    for (; n > 0; --n) trainer->Skip();
  } else if (command == "step" && words >> n) {
    trainer->SetStep(n);
  } else if (command == "flush") {
    return trainer->Flush();
  } else if (words >> name) {
    Parameter* parameter = trainer->Find(FromHex(name));
    if (parameter == nullptr) return false;
    if (command == "nan") parameter->nan = true;
    if (command == "freeze") parameter->frozen = true;
    if (command == "spike" && !(words >> parameter->factor)) return false;
  } else {
    return false;
  }
  return true;
}

}  // namespace
}  // namespace gradtap::testing

int main() {
  gradtap::testing::Trainer trainer;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "quit") return 0;
    const bool done = gradtap::testing::Do(&trainer, command, words);
    std::cout << (done ? "ok" : "no: " + line) << std::endl;
  }
}
