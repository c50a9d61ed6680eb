#include "bench/step_overhead_modes.h"

#include <gradtap/agent.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <utility>

#include "bench/step_overhead_chain.h"
#include "bench/step_overhead_pass.h"

namespace gradtap::bench {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

AgentOptions Options(const std::string& collector, const std::string& run) {
  AgentOptions options;
  options.collector = collector;
  options.run = run;
  options.overhead_budget = 0;
  return options;
}

std::unique_ptr<Agent> AttachDisabled(const torch::nn::Module& module) {
  ::setenv("GRADTAP_DISABLED", "1", 1);
  auto tap = Agent::Attach(module, Options("127.0.0.1", "disabled"));
  ::unsetenv("GRADTAP_DISABLED");
  return tap;
}

class Plain : public Mode {
 public:
  Plain() : Mode("plain") {}
  void Step(torch::optim::Optimizer& optimizer, const torch::Tensor&) override {
    optimizer.step();
  }
};

class Tapped : public Mode {
 public:
  Tapped(std::string name, std::unique_ptr<Agent> tap, bool delivers)
      : Mode(std::move(name)), tap_(std::move(tap)), delivers_(delivers) {}

  void Step(torch::optim::Optimizer& optimizer,
            const torch::Tensor& loss) override {
    tap_->Step(optimizer, {{"loss", loss}});
  }
  void EndBlock() override {
    if (!delivers_) return;
    const auto start = Clock::now();
    undelivered_ = !tap_->Flush(std::chrono::minutes(2)).delivered;
    flush_seconds_ += Seconds(Clock::now() - start);
    ++blocks_;
  }
  double OwnSeconds() const override {
    return Seconds(tap_->status().own_time);
  }
  double Bytes() const override {
    return static_cast<double>(tap_->status().bytes_recorded);
  }
  std::string Trouble() const override {
    const AgentStatus status = tap_->status();
    std::string trouble;
    if (status.steps_skipped + status.steps_lost > 0) {
      trouble += std::to_string(status.steps_skipped + status.steps_lost) +
                 " of " + std::to_string(status.steps_seen) +
                 " steps were not recorded; ";
    }
    if (delivers_ && undelivered_) {
      trouble += "the collector at " + status.collector +
                 " does not take the records; ";
    }
    return trouble;
  }
  std::string Remark() const override {
    if (blocks_ == 0 || flush_seconds_ / blocks_ <= 0.5) return "";
    return "delivery lags behind by " +
           std::to_string(flush_seconds_ / blocks_) + " s a block; ";
  }

 private:
  std::unique_ptr<Agent> tap_;
  const bool delivers_;
  bool undelivered_ = false;
  double flush_seconds_ = 0;
  int blocks_ = 0;
};

// Something of our own before and after the optimizer's step.
template <typename Work>
class Around : public Mode {
 public:
  Around(std::string name, const torch::nn::Module& module)
      : Mode(std::move(name)), work_(module) {}

  void Step(torch::optim::Optimizer& optimizer, const torch::Tensor&) override {
    const auto start = Clock::now();
    work_.BeforeOptimizerStep();
    const auto before = Clock::now();
    optimizer.step();
    const auto after = Clock::now();
    work_.AfterOptimizerStep();
    own_ += (before - start) + (Clock::now() - after);
  }
  double OwnSeconds() const override { return Seconds(own_); }

 private:
  Work work_;
  Clock::duration own_{0};
};

class IdleOptimizer : public torch::optim::SGD {
 public:
  using torch::optim::SGD::SGD;
  torch::Tensor step(LossClosure = nullptr) override { return {}; }
};

template <typename Call>
double NanosecondsACall(std::int64_t calls, Call call) {
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < 7; ++round) {
    const auto start = Clock::now();
    for (std::int64_t i = 0; i < calls; ++i) call();
    least = std::min(least, Seconds(Clock::now() - start) * 1e9 /
                                static_cast<double>(calls));
  }
  return least;
}

}  // namespace

std::unique_ptr<Mode> PlainMode() { return std::make_unique<Plain>(); }

std::unique_ptr<Mode> DisabledMode(const torch::nn::Module& module) {
  return std::make_unique<Tapped>("disabled", AttachDisabled(module), false);
}

std::unique_ptr<Mode> AgentMode(const torch::nn::Module& module,
                                const std::string& collector,
                                const std::string& run,
                                std::uint64_t ring_bytes) {
  AgentOptions options = Options(collector, run);
  options.ring_bytes = ring_bytes;
  return std::make_unique<Tapped>("agent", Agent::Attach(module, options),
                                  true);
}

std::unique_ptr<Mode> AwayMode(const torch::nn::Module& module,
                               std::uint64_t ring_bytes) {
  AgentOptions options = Options("127.0.0.1:1", "away");
  options.ring_bytes = ring_bytes;
  options.shutdown_deadline = std::chrono::milliseconds(1);
  options.log = [](const std::string&) {};
  return std::make_unique<Tapped>("away", Agent::Attach(module, options),
                                  false);
}

std::unique_ptr<Mode> AtenMode(const torch::nn::Module& module) {
  return std::make_unique<Around<AtenChain>>("aten", module);
}

std::unique_ptr<Mode> PassMode(const torch::nn::Module& module) {
  return std::make_unique<Around<PlainPass>>("pass", module);
}

DisabledCalls TimeDisabledCalls(std::int64_t calls) {
  const torch::nn::Linear model(4, 4);
  IdleOptimizer idle(model->parameters(), torch::optim::SGDOptions(0.1));
  torch::optim::Optimizer& optimizer = idle;
  const torch::Tensor loss = torch::ones({});
  const auto tap = AttachDisabled(*model);
  const double bare = NanosecondsACall(calls, [&] { optimizer.step(); });
  DisabledCalls times;
  times.step = NanosecondsACall(calls, [&] { tap->Step(optimizer); }) - bare;
  times.step_with_scalar =
      NanosecondsACall(calls,
                       [&] {
                         tap->Step(optimizer, {{"loss", loss}});
                       }) -
      bare;
  times.pieces = NanosecondsACall(calls,
                                  [&] {
                                    tap->BeforeOptimizerStep();
                                    tap->AfterOptimizerStep();
                                  }) /
                 2;
  return times;
}

}  // namespace gradtap::bench
