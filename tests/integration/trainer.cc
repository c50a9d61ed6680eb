// A training program that does what its standard input says, line by line, and
// answers each command with one line (status: several, then "end"):
//
//   step N              trains N steps            -> stepped NEXT_STEP
//   lbfgs N             N steps with a closure    -> stepped NEXT_STEP NORM
//   LOSS EVALUATIONS
//   accumulate N K      N steps of K backwards    -> stepped NEXT_STEP NORM
//       NORM: of fc2.weight's gradient in the newest step; with a closure, of
//       its first evaluation
//   scale S             gradients are S times as large from now on, until the
//       optimizer needs them                      -> scaled
//   skip REASON         StepSkipped(REASON)       -> skipped NEXT_STEP
//   throw               an optimizer that throws  -> threw WHAT
//   poison WHICH NAME VALUE COUNT                 -> poisoned
//       before the next step: the first COUNT elements (0: all) of the weight
//       ("weight") or of its gradient ("grad") become VALUE
//   setstep N           SetStep(N)                -> set N
//   scalar VALUE        the next step's "extra"   -> scalar
//   flush MS            Flush                     -> flushed DELIVERED STEPS
//   BYTES status                                        -> status K=V ...,
//   problem
//                                                    TEXT ..., end
//   weights FILE        all tensors, as bytes     -> written BYTES
//   openmp              one large operation in two threads
//                                                 -> threads BEFORE AFTER
//   forks N             N steps, a fork after each, whose child calls the agent
//       and exits, with no leave to write         -> forked NEXT_STEP GOOD HOW
//       GOOD: children that exited with 0. HOW: the wait status of another one
//   rss                                           -> rss ANON_KIB SHARED_KIB
//   quit, or the end of input: the agent goes, "bye", exit code 0
//
// usage: trainer MODEL SEED; the agent's options come by environment. With
// TRAINER_PLAIN=1 there is no agent at all, and only step and weights work.

#include <dlfcn.h>
#include <gradtap/agent.h>
#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "integration/forbid_output.h"
#include "integration/models.h"

namespace gradtap::testing {
namespace {

// AddressSanitizer's allocator may have been locked at the fork by a thread
// that the child has not got: exit(), which frees much, would wait for ever.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kMayExit = false;
#else
constexpr bool kMayExit = true;
#endif

class ThrowingOptimizer : public torch::optim::SGD {
 public:
  using torch::optim::SGD::SGD;
  torch::Tensor step(LossClosure = nullptr) override {
    throw std::runtime_error("the optimizer's own words");
  }
};

double Value(const std::string& text) {
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  return std::stod(text);
}

// A line of /proc/self/status, in KiB.
long ResidentKib(const std::string& what) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(what + ":", 0) == 0) {
      return std::stol(line.substr(what.size() + 1));
    }
  }
  return 0;
}

class Trainer {
 public:
  explicit Trainer(const std::string& model)
      : model_(MakeModel(model)),
        sgd_(model_->UniqueParameters(),
             torch::optim::SGDOptions(0.05).momentum(0.5)),
        throwing_(model_->UniqueParameters(), torch::optim::SGDOptions(0.05)),
        tap_(std::getenv("TRAINER_PLAIN") ? nullptr : Agent::Attach(*model_)) {}

  // False: that was the last command.
  bool Do(const std::string& line) {
    std::istringstream in(line);
    std::string command;
    in >> command;
    if (command == "quit") return false;
    if (command == "step") {
      std::int64_t n = 0;
      in >> n;
      for (std::int64_t i = 0; i < n; ++i) Step(sgd_);
      std::cout << "stepped " << step_ << std::endl;
    } else if (command == "lbfgs") {
      std::int64_t n = 0;
      in >> n;
      Lbfgs(n);
    } else if (command == "accumulate") {
      std::int64_t n = 0;
      int backwards = 0;
      in >> n >> backwards;
      Accumulate(n, backwards);
    } else if (command == "scale") {
      in >> loss_scale_;
      tap_->SetLossScale(loss_scale_);
      std::cout << "scaled" << std::endl;
    } else if (command == "skip") {
      std::string reason;
      std::getline(in >> std::ws, reason);
      tap_->StepSkipped(reason);
      std::cout << "skipped " << ++step_ << std::endl;
    } else if (command == "throw") {
      try {
        Step(throwing_);
      } catch (const std::exception& error) {
        ++step_;
        std::cout << "threw " << error.what() << std::endl;
      }
    } else if (command == "poison") {
      Poison poison;
      std::string value;
      in >> poison.which >> poison.name >> value >> poison.count;
      poison.value = Value(value);
      poisons_.push_back(poison);
      std::cout << "poisoned" << std::endl;
    } else if (command == "scalar") {
      std::string value;
      in >> value;
      extra_ = {Value(value)};
      std::cout << "scalar" << std::endl;
    } else if (command == "setstep") {
      in >> step_;
      tap_->SetStep(step_);
      std::cout << "set " << step_ << std::endl;
    } else {
      Ask(command, in);
    }
    return true;
  }

 private:
  struct Poison {
    std::string which, name;
    double value = 0;
    std::int64_t count = 0;
  };

  void Step(torch::optim::Optimizer& optimizer) {
    optimizer.zero_grad();
    const torch::Tensor loss = model_->Backward(step_);
    for (const Poison& poison : poisons_) Apply(poison);
    poisons_.clear();
    std::vector<Scalar> scalars = {{"loss", loss}, {"lr", 0.05}};
    for (const double value : extra_) scalars.emplace_back("extra", value);
    extra_.clear();
    if (loss_scale_ != 1) {
      MultiplyGradients(loss_scale_);
      tap_->BeforeOptimizerStep();
      MultiplyGradients(1 / loss_scale_);
      optimizer.step();
      tap_->AfterOptimizerStep(scalars);
    } else if (tap_) {
      tap_->Step(optimizer, scalars);
    } else {
      optimizer.step();
    }
    ++step_;
  }

  void Lbfgs(std::int64_t n) {
    double norm = 0, loss = 0;
    int evaluations = 0;
    for (std::int64_t i = 0; i < n; ++i, ++step_) {
      // A new one each time: batches are random, and what it remembers of older
      // ones can make it stop at once.
      torch::optim::LBFGS lbfgs(model_->UniqueParameters(),
                                torch::optim::LBFGSOptions(0.01).max_iter(4));
      evaluations = 0;
      const auto closure = [&] {
        lbfgs.zero_grad();
        const torch::Tensor evaluated = model_->Backward(step_);
        if (evaluations++ == 0) norm = GradientNorm();
        return evaluated;
      };
      loss = tap_->Step(lbfgs, closure).item<double>();
    }
    std::cout << "stepped " << step_ << ' ' << norm << ' ' << loss << ' '
              << evaluations << std::endl;
  }

  void Accumulate(std::int64_t n, int backwards) {
    double norm = 0;
    for (std::int64_t i = 0; i < n; ++i, ++step_) {
      sgd_.zero_grad();
      for (int k = 0; k < backwards; ++k) model_->Backward(step_);
      norm = GradientNorm();
      tap_->Step(sgd_);
    }
    std::cout << "stepped " << step_ << ' ' << norm << std::endl;
  }

  double GradientNorm() {
    const torch::Tensor weight = model_->named_parameters()["fc2.weight"];
    return weight.grad().to(torch::kDouble).norm().item<double>();
  }

  void MultiplyGradients(double by) {
    torch::NoGradGuard no_grad;
    for (torch::Tensor weight : model_->UniqueParameters()) {
      if (weight.grad().defined()) weight.mutable_grad().mul_(by);
    }
  }

  void Apply(const Poison& poison) {
    torch::NoGradGuard no_grad;
    torch::Tensor tensor = model_->named_parameters()[poison.name];
    if (poison.which == "grad") tensor = tensor.mutable_grad();
    torch::Tensor flat = tensor.view({-1});
    if (poison.count > 0) flat = flat.narrow(0, 0, poison.count);
    flat.fill_(poison.value);
  }

  void Ask(const std::string& command, std::istringstream& in) {
    if (command == "flush") {
      std::int64_t ms = 0;
      in >> ms;
      const FlushResult result = tap_->Flush(std::chrono::milliseconds(ms));
      std::cout << "flushed " << result.delivered << ' '
                << result.undelivered_steps << ' ' << result.undelivered_bytes
                << std::endl;
    } else if (command == "status") {
      Status();
    } else if (command == "weights") {
      std::string path;
      in >> path;
      Weights(path);
    } else if (command == "openmp") {
      OpenMp();
    } else if (command == "forks") {
      int n = 0;
      in >> n;
      Forks(n);
    } else if (command == "rss") {
      std::cout << "rss " << ResidentKib("RssAnon") << ' '
                << ResidentKib("RssShmem") << std::endl;
    } else {
      std::cout << "unknown " << command << std::endl;
    }
  }

  // Threads that bear the program's name: not those of the agent and of gRPC.
  static int OwnThreads() {
    const auto name = [](const std::filesystem::path& task) {
      std::string line;
      std::getline(std::ifstream(task / "comm"), line);
      return line;
    };
    int threads = 0;
    for (const auto& task :
         std::filesystem::directory_iterator("/proc/self/task")) {
      if (name(task.path()) == name("/proc/self")) ++threads;
    }
    return threads;
  }

  // By OpenMP's own call: at::set_num_threads() makes a second pool too, whose
  // end LibTorch 2.14 awaits for ever in a forked child that calls exit().
  static void OpenMp() {
    const int before = OwnThreads();
    at::get_num_threads();  // LibTorch chooses, at its first question.
    const auto set_threads = reinterpret_cast<void (*)(int)>(
        ::dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
    if (set_threads != nullptr) set_threads(2);
    torch::ones({1 << 22}).exp_();
    std::cout << "threads " << before << ' ' << OwnThreads() << std::endl;
  }

  void Forks(int n) {
    int good = 0, how = 0;
    for (int i = 0; i < n; ++i) {
      Step(sgd_);
      const pid_t child = ::fork();
      if (child == 0) BeInert(i);
      int status = -1;
      ::waitpid(child, &status, 0);
      if (status == 0) {
        ++good;
      } else {
        how = status;
      }
    }
    std::cout << "forked " << step_ << ' ' << good << ' ' << how << std::endl;
  }

  // A child that hangs is ended by the alarm, one that writes by the kernel.
  [[noreturn]] void BeInert(int number) {
    ::alarm(60);
    if (!ForbidOutput()) ::_exit(3);
    if (tap_->status().state != AgentState::kDisabled) ::_exit(4);
    tap_->BeforeOptimizerStep();
    tap_->AfterOptimizerStep({{"loss", 1}});
    tap_->StepSkipped("in the child");
    tap_->SetStep(0);
    tap_->Flush(std::chrono::seconds(30));
    if (number % 2 == 0) tap_ = nullptr;
    // The other way takes LibTorch a second.
    if (number % 5 != 0 || !kMayExit) ::_exit(0);
    std::exit(0);
  }

  void Status() {
    const AgentStatus s = tap_->status();
    std::cout << "status state=" << static_cast<int>(s.state)
              << " seen=" << s.steps_seen << " recorded=" << s.steps_recorded
              << " skipped=" << s.steps_skipped << " lost=" << s.steps_lost
              << " acknowledged=" << s.steps_acknowledged
              << " at_hand=" << s.steps_at_hand
              << " ring_bytes=" << s.ring_bytes
              << " weight_copy_bytes=" << s.weight_copy_bytes
              << " parameters=" << s.parameters << " schemas=" << s.schemas;
    for (const auto& [cause, steps] : s.skipped_by_cause) {
      std::cout << " skipped." << cause << '=' << steps;
    }
    for (const auto& [cause, steps] : s.lost_by_cause) {
      std::cout << " lost." << cause << '=' << steps;
    }
    std::cout << '\n';
    for (const std::string& problem : s.problems) {
      std::cout << "problem " << problem << '\n';
    }
    std::cout << "end" << std::endl;
  }

  void Weights(const std::string& path) {
    std::ofstream file(path, std::ios::binary);
    std::size_t bytes = 0;
    const auto put = [&](const torch::Tensor& tensor) {
      const torch::Tensor dense = tensor.detach().contiguous();
      file.write(static_cast<const char*>(dense.data_ptr()),
                 static_cast<std::streamsize>(dense.nbytes()));
      bytes += dense.nbytes();
    };
    for (const auto& item : model_->named_parameters()) put(item.value());
    for (const auto& item : model_->named_buffers()) put(item.value());
    file.close();
    std::cout << "written " << bytes << std::endl;
  }

  std::shared_ptr<Model> model_;
  torch::optim::SGD sgd_;
  ThrowingOptimizer throwing_;
  double loss_scale_ = 1;
  std::unique_ptr<Agent> tap_;
  std::int64_t step_ = 0;
  std::vector<Poison> poisons_;
  std::vector<double> extra_;  // At most one.
};

}  // namespace
}  // namespace gradtap::testing

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: trainer MODEL SEED\n";
    return 2;
  }
  try {
    torch::manual_seed(std::stoull(argv[2]));
    std::cout.precision(17);
    {
      gradtap::testing::Trainer trainer(argv[1]);
      for (std::string line; std::getline(std::cin, line);) {
        if (!trainer.Do(line)) break;
      }
    }
    std::cout << "bye" << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "trainer: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
