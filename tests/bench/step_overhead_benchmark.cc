// What the agent costs a training step, measured within one process.
//
// Blocks of steps alternate: disabled, X, disabled, Y, disabled, ... Each block
// of a mode is compared with the two disabled blocks beside it, so that what
// drifts (clock, neighbours on the machine, the state of the model) cancels.
// The first steps of a block are not counted. See tests/bench/README.md.

#include <time.h>
#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/step_overhead_chain.h"
#include "bench/step_overhead_modes.h"
#include "bench/step_overhead_statistics.h"
#include "bench/step_overhead_workloads.h"
#include "support/temp_dir.h"

namespace gradtap::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;

// Before the steps that count: caches are this mode's own then, and delivery,
// which takes the records of some 200 ms together, is as busy as it will be.
constexpr std::chrono::milliseconds kWarmIn{250};
// No more, so that what a block records does not hang on the machine's speed.
constexpr int kMostWarmInSteps = 125;
// Longer blocks than this end early, so that a slow mode (ATen operations on
// 10,000 parameters) does not take all the time.
constexpr std::chrono::seconds kLongestBlock{2};
constexpr int kLeastSteps = 2;

struct Options {
  std::string collector;
  std::vector<std::string> models = {"fashion_mnist", "char_gpt", "many"};
  std::string device = "cpu";
  std::vector<std::string> modes = {"plain", "pass", "away", "agent", "aten"};
  int steps = 25;        // In a block.
  int blocks = 20;       // Of each mode.
  double seconds = 150;  // For a model.
  int threads = 0;
};

struct Block {
  std::vector<double> step_ms;
  double cpu_ms = 0;  // A step, of all of the process's threads.
  double own_us = 0;  // A step.
};

// The blocks of one mode, and how they differ from their neighbours.
struct Measured {
  std::vector<double> step_ms;
  std::vector<double> own_us;
  std::vector<double> median_percent;
  std::vector<double> mean_percent;
  std::vector<double> cpu_percent;
};

double ProcessCpuMilliseconds() {
  timespec time;
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 +
         static_cast<double>(time.tv_nsec) / 1e6;
}

class Bench {
 public:
  Bench(const std::string& model, const Options& options)
      : options_(options), model_(model), device_(options.device),
        workload_(MakeWorkload(model, device_)) {
    const torch::nn::Module& module = workload_->module();
    disabled_ = DisabledMode(module);
    for (const std::string& mode : options.modes) {
      if (mode == "plain") modes_.push_back(PlainMode());
      if (mode == "aten") modes_.push_back(AtenMode(module));
      if (mode == "pass" && !device_.is_cpu()) {
        throw std::invalid_argument("mode 'pass' reads memory of the CPU alone");
      }
      if (mode == "pass") modes_.push_back(PassMode(module));
      if (mode == "away") {
        modes_.push_back(AwayMode(module, RingFor(options.blocks + 1)));
      }
      if (mode == "agent") {
        modes_.push_back(AgentMode(module, options.collector,
                                   "step-overhead-" + model, RingFor(1)));
      }
    }
  }

  void Run() {
    const auto start = Clock::now();
    for (const auto& mode : modes_) RunBlock(*mode);  // Warm-up.
    Block before = RunBlock(*disabled_);
    for (; cycles_ < options_.blocks; ++cycles_) {
      const std::chrono::duration<double> passed = Clock::now() - start;
      if (passed.count() > options_.seconds) break;
      // No mode always follows the same one.
      std::rotate(modes_.begin(), modes_.begin() + 1, modes_.end());
      for (const auto& mode : modes_) {
        const Block block = RunBlock(*mode);
        const Block after = RunBlock(*disabled_);
        Compare(before, block, after, &measured_[mode->name()]);
        Keep(before, &measured_["disabled"]);
        before = after;
      }
    }
  }

  // False: a number is not what it seems.
  bool Print() {
    const AtenChain chain(workload_->module());
    std::int64_t weights = 0;
    for (const auto& p : workload_->module().parameters()) weights += p.numel();
    std::printf(
        "\n%s: %lld weights, %llu records a step; %d cycles, blocks of %d "
        "steps\n",
        model_.c_str(), static_cast<long long>(weights),
        static_cast<unsigned long long>(chain.records()), cycles_,
        options_.steps);
    std::printf("  %-9s%10s%20s  %-27s%-27s%-27s%9s%10s\n", "mode", "median ms",
                "p25 .. p75", "overhead % (95 %)", "of means % (95 %)",
                "CPU time % (95 %)", "own us", "ns/record");
    PrintLine("disabled", static_cast<double>(chain.records()));
    bool good = true;
    for (const std::string& name : options_.modes) {
      PrintLine(name, static_cast<double>(chain.records()));
      for (const auto& mode : modes_) {
        const std::string trouble = mode->Trouble();
        const std::string said = trouble + mode->Remark();
        if (mode->name() != name || said.empty()) continue;
        std::printf("  %s: %s\n", name.c_str(), said.c_str());
        good = good && trouble.empty();
      }
    }
    std::fflush(stdout);
    return good;
  }

 private:
  // Room for all the steps of so many blocks, twice over: an agent whose ring
  // fills up does less. It is what they record that counts, not how fast.
  std::uint64_t RingFor(int blocks) {
    const auto probe = AwayMode(workload_->module(), std::uint64_t{64} << 20);
    const auto step = [&] {
      const torch::Tensor loss = workload_->Backward();
      probe->Step(workload_->optimizer(), loss);
    };
    step();  // Brings the schema along.
    const double before = probe->Bytes();
    step();
    const double bytes = (probe->Bytes() - before) *
                         (options_.steps + kMostWarmInSteps) * blocks;
    const double ring = std::max(64e6, 2 * bytes + 16e6);
    return static_cast<std::uint64_t>(std::min(ring, 8e9));
  }

  Block RunBlock(Mode& mode) {
    const auto step = [&] {
      const auto start = Clock::now();
      const torch::Tensor loss = workload_->Backward();
      mode.Step(workload_->optimizer(), loss);
      return Milliseconds(Clock::now() - start).count();
    };
    const auto start = Clock::now();
    for (int i = 0; i < kMostWarmInSteps; ++i) {
      step();
      if (Clock::now() - start >= kWarmIn) break;
    }
    Synchronize();
    Block block;
    const double own = mode.OwnSeconds();
    const double cpu = ProcessCpuMilliseconds();
    const auto counted = Clock::now();
    for (int i = 0; i < options_.steps; ++i) {
      if (i >= kLeastSteps && Clock::now() - counted > kLongestBlock) break;
      block.step_ms.push_back(step());
    }
    // Elsewhere than on the CPU the host runs ahead: what is left of the
    // block's steps is the last one's, and means alone say what a step takes.
    const auto left = Clock::now();
    Synchronize();
    block.step_ms.back() += Milliseconds(Clock::now() - left).count();
    const auto steps = static_cast<double>(block.step_ms.size());
    block.cpu_ms = (ProcessCpuMilliseconds() - cpu) / steps;
    block.own_us = (mode.OwnSeconds() - own) * 1e6 / steps;
    mode.EndBlock();
    return block;
  }

  void Synchronize() const {
    if (!device_.is_cpu()) torch::cuda::synchronize(device_.index());
  }

  static void Keep(const Block& block, Measured* measured) {
    measured->step_ms.insert(measured->step_ms.end(), block.step_ms.begin(),
                             block.step_ms.end());
    measured->own_us.push_back(block.own_us);
  }

  static void Compare(const Block& before, const Block& block,
                      const Block& after, Measured* measured) {
    Keep(block, measured);
    const auto percent = [&](auto&& of) {
      return 100 * (2 * of(block) / (of(before) + of(after)) - 1);
    };
    measured->median_percent.push_back(
        percent([](const Block& b) { return Quantile(b.step_ms, 0.5); }));
    measured->mean_percent.push_back(
        percent([](const Block& b) { return Mean(b.step_ms); }));
    measured->cpu_percent.push_back(
        percent([](const Block& b) { return b.cpu_ms; }));
  }

  void PrintLine(const std::string& name, double records) {
    const Measured& m = measured_[name];
    const auto interval = [](const std::vector<double>& percents) {
      if (percents.empty()) return std::string();
      const Estimate e = Center(percents);
      char text[64];
      std::snprintf(text, sizeof(text), "%+.2f (%+.2f .. %+.2f)", e.value,
                    e.low, e.high);
      return std::string(text);
    };
    char spread[64], own[32] = "", record[32] = "";
    std::snprintf(spread, sizeof(spread), "%.3f .. %.3f",
                  Quantile(m.step_ms, 0.25), Quantile(m.step_ms, 0.75));
    const double own_us = Quantile(m.own_us, 0.5);
    if (own_us > 0) {
      std::snprintf(own, sizeof(own), "%.1f", own_us);
      std::snprintf(record, sizeof(record), "%.0f", own_us * 1000 / records);
    }
    std::printf("  %-9s%10.3f%20s  %-27s%-27s%-27s%9s%10s\n", name.c_str(),
                Quantile(m.step_ms, 0.5), spread,
                interval(m.median_percent).c_str(),
                interval(m.mean_percent).c_str(),
                interval(m.cpu_percent).c_str(), own, record);
  }

  const Options options_;
  const std::string model_;
  const torch::Device device_;
  std::unique_ptr<Workload> workload_;
  std::unique_ptr<Mode> disabled_;
  std::vector<std::unique_ptr<Mode>> modes_;
  std::map<std::string, Measured> measured_;
  int cycles_ = 0;
};

void PrintMachine() {
  std::ifstream file("/proc/cpuinfo");
  std::string cpu = "unknown CPU";
  int count = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    cpu = line.substr(std::min(line.size(), line.find(':') + 2));
    ++count;
  }
  std::printf("%d x %s; LibTorch %s with %d threads\n", count, cpu.c_str(),
              TORCH_VERSION, at::get_num_threads());
}

int Run(const Options& options) {
  if (options.threads > 0) torch::set_num_threads(options.threads);
  torch::manual_seed(1);
  PrintMachine();
  const DisabledCalls calls = TimeDisabledCalls(200000);
  std::printf(
      "attached but disabled, ns a call: Step %.0f, Step with a scalar %.0f, "
      "BeforeOptimizerStep and AfterOptimizerStep %.0f each\n",
      calls.step, calls.step_with_scalar, calls.pieces);
  bool good = true;
  for (const std::string& model : options.models) {
    Bench bench(model, options);
    bench.Run();
    good = bench.Print() && good;
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace gradtap::bench

int main(int argc, char** argv) {
  gradtap::bench::Options options;
  CLI::App app(
      "Step time of the examples' models and of 10,000 small parameters, with "
      "the agent and with what else could stand in its place.");
  app.option_defaults()->always_capture_default();
  app.add_option("--collector", options.collector, "A gradtapd, HOST:PORT")
      ->envname("GRADTAP_COLLECTOR")
      ->required();
  app.add_option("--model", options.models, "Which models")
      ->delimiter(',')
      ->check(CLI::IsMember(gradtap::bench::WorkloadNames()));
  app.add_option("--mode", options.modes,
                 "What is compared with the disabled agent")
      ->delimiter(',')
      ->check(CLI::IsMember({"plain", "pass", "away", "agent", "aten"}));
  app.add_option("--steps", options.steps, "Steps counted in a block")
      ->check(CLI::Range(1, 1000000));
  app.add_option("--blocks", options.blocks, "Blocks of each mode")
      ->check(CLI::Range(1, 100000));
  app.add_option("--seconds", options.seconds, "At most so long for a model");
  app.add_option("--device", options.device,
                 "Where to train: cpu, cuda, cuda:1, ... (no `pass` but on cpu)");
  app.add_option("--threads", options.threads,
                 "Threads of LibTorch; 0 leaves the choice to it")
      ->check(CLI::Range(0, 1024));
  CLI11_PARSE(app, argc, argv);
  // These win over options, and the modes have several of each.
  for (const char* name : {"GRADTAP_COLLECTOR", "GRADTAP_RUN",
                           "GRADTAP_DISABLED", "GRADTAP_RING_BYTES"}) {
    ::unsetenv(name);
  }
  // Where rings are, but what is not delivered goes in the end.
  const gradtap::testing::TempDir rings(
      std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp");
  ::setenv("GRADTAP_RING_FOLDER", rings.path().c_str(), 1);
  ::setenv("GRADTAP_SPOOL", "off", 1);
  try {
    return gradtap::bench::Run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "step_overhead: %s\n", error.what());
    return 1;
  }
}
