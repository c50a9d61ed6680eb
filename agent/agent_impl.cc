#include "agent/agent_impl.h"

#include <cxxabi.h>

#include <cmath>
#include <cstdio>
#include <exception>
#include <string_view>
#include <utility>

#include "agent/guest_scope.h"
#include "agent/standard_error.h"
#include "core/limits.h"
#include "core/name_filter.h"
#include "core/names.h"

namespace gradtap {
namespace {

// Unwinding that nobody may stop: whoever catches it has to throw it on, at
// once or the process is aborted.
constexpr char kThreadEnds[] =
    "its thread was cancelled, or called pthread_exit";

std::string FirstLine(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

// What `text()` returns; if there is no memory for it, a string that needs
// none.
template <typename Text>
std::string OrNoMemory(Text text) noexcept {
  try {
    return text();
  } catch (...) {
    return "out of memory";  // Fits into the string itself.
  }
}

std::string DescribeCurrentException() noexcept {
  return OrNoMemory([]() -> std::string {
    try {
      throw;
    } catch (const std::exception& e) {
      return FirstLine(e.what());
    } catch (...) {
      return "an unknown exception";
    }
  });
}

// For a gap's detail: valid UTF-8 of at most 512 bytes.
std::string Detail(const std::string& text) {
  return text.empty() ? text : SafeName(text);
}

NameFilter MustCreate(const std::vector<std::string>& include,
                      const std::vector<std::string>& exclude) {
  auto filter = NameFilter::Create(include, exclude);
  return filter.ok() ? *std::move(filter) : NameFilter();  // Checked before.
}

agent::DeliveryOptions DeliveryOptionsOf(
    const agent::Settings& settings,
    const std::shared_ptr<agent::ProblemLog>& log) {
  const AgentOptions& o = settings.options;
  agent::DeliveryOptions d;
  d.collector = agent::MeantFor(o);
  d.run = o.run;
  d.launch = settings.launch;
  d.rank = static_cast<std::uint32_t>(o.rank);
  d.world_size = static_cast<std::uint32_t>(o.world_size);
  d.tags = o.tags;
  d.torch_version = agent::TorchVersion();
  if (o.ring_bytes != 0) d.ring_bytes = o.ring_bytes;
  if (o.spool != "off") d.spool_folder = o.spool;
  d.spool_bytes = o.spool_bytes;
  d.offline = o.offline;
  d.ring_folder = settings.ring_folder;
  d.tls = o.tls;
  d.tls_ca_file = o.tls_ca_file;
  d.tls_cert_file = o.tls_cert_file;
  d.tls_key_file = o.tls_key_file;
  d.token = o.token;
  d.token_file = o.token_file;
  d.use_proxy = o.use_proxy;
  if (o.stop_on_sigterm) d.sigterm_deadline = o.shutdown_deadline;
  // Delivery's lines begin with the name that ours get when they are written.
  const auto bare = [](std::string_view message) {
    constexpr std::string_view kName = "gradtap: ";
    if (message.substr(0, kName.size()) == kName) {
      message.remove_prefix(kName.size());
    }
    return message;
  };
  d.log = [log, bare](std::string_view m) { log->Report(bare(m)); };
  d.note = [log, bare](std::string_view m) { log->Note(bare(m)); };
  return d;
}

}  // namespace

class Agent::Impl::Call {
 public:
  explicit Call(Impl* impl) : impl_(impl->Inert() ? nullptr : impl) {
    if (impl_ == nullptr) return;
    scope_.emplace();
    impl_->in_call_ = true;
    impl_->times_->BeginCall();
  }
  ~Call() {
    if (impl_ == nullptr) return;
    impl_->times_->EndCall();
    impl_->in_call_ = false;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  explicit operator bool() const { return impl_ != nullptr; }

 private:
  Impl* impl_;
  std::optional<agent::GuestScope> scope_;
};

std::unique_ptr<Agent::Impl> Agent::Impl::Create(
    const MakeCapture& make_capture, AgentOptions options) noexcept {
  const agent::GuestScope scope;
  std::unique_ptr<Impl> impl(new Impl);
  try {
    impl->Start(make_capture, std::move(options));
  } catch (...) {
    impl->delivery_ = nullptr;
    if (impl->log_ == nullptr) impl->MakeLog();
    impl->Report("nothing is recorded: " + DescribeCurrentException());
  }
  return impl;
}

void Agent::Impl::MakeLog() {
  agent::ProblemLog::Sink sink;
  if (!settings_.log_off) {
    sink = settings_.options.log != nullptr ? settings_.options.log
                                            : agent::LogToStderr;
  }
  log_ = std::make_shared<agent::ProblemLog>(std::move(sink));
}

void Agent::Impl::Start(const MakeCapture& make_capture, AgentOptions options) {
  const agent::Surroundings around = agent::GetSurroundings();
  clock_ = around.clock;
  settings_ = agent::ResolveSettings(std::move(options), around.environment,
                                     around.process);
  MakeLog();
  if (settings_.disabled) return;
  for (const std::string& problem : settings_.problems) Report(problem);
  for (const std::string& error : settings_.errors) {
    Report("nothing is recorded: " + error);
  }
  if (!settings_.errors.empty()) return;
  if (agent::IsForkedChild()) {
    Report(
        "nothing is recorded: this process was forked from one with an agent; "
        "start it with exec instead");
    return;
  }
  agent::WatchForForks();

  const AgentOptions& o = settings_.options;
  agent::CaptureOptions capture;
  capture.roles = o.roles;
  capture.filter = MustCreate(o.include, o.exclude);
  capture.sharded = MustCreate(o.sharded, {});
  capture.any_sharded = !o.sharded.empty();
  capture.histogram_interval_steps = o.histogram_interval_steps;
  capture.force_device_path = settings_.force_device_path;
  capture.report = [log = log_](const std::string& m) { log->Report(m); };
  capture_ = make_capture(std::move(capture));
  if (around.adapt_capture) {
    capture_ = around.adapt_capture(std::move(capture_));
  }
  rates_.reserve(kMaxRates);
  times_.emplace(clock_, around.thread_cpu_nanos);
  // An audit compares steps with and without capture: its blocks stay.
  budget_.emplace(o.audit_steps > 0 ? 0 : o.overhead_budget, o.interval_steps,
                  o.histogram_interval_steps);
  interval_.store(o.interval_steps, std::memory_order_relaxed);

  auto delivery = around.make_delivery(DeliveryOptionsOf(settings_, log_));
  if (!delivery.ok()) {
    Report("nothing is recorded: " + std::string(delivery.status().message()));
    return;
  }
  delivery_ = *std::move(delivery);
}

Agent::Impl::~Impl() {
  const agent::GuestScope scope;
  if (delivery_ == nullptr) return;
  FinishHeldStep();
  const agent::FlushOutcome outcome = delivery_->Shutdown(
      EndReason::kFinished, settings_.options.shutdown_deadline);
  if (began_unasked_) TellIfRunHasSteps();
  // What is kept delivery has said itself.
  if (outcome.undelivered_steps == 0 || outcome.kept) return;
  try {
    Report(std::to_string(outcome.undelivered_steps) + " of " +
           std::to_string(delivery_->counters().steps_recorded) +
           " recorded steps did not reach the collector at " +
           settings_.options.collector + " and are lost");
  } catch (...) {  // No memory to say it.
  }
}

// To catch what ends a thread the C++ run-time binds a reference to nothing.
__attribute__((no_sanitize("null"))) void Agent::Impl::Step(
    torch::optim::Optimizer& optimizer, std::span<const Scalar> scalars) {
  Before(nullptr, &optimizer);
  try {
    agent::CallOptimizerStep(optimizer);
  } catch (const abi::__forced_unwind&) {
    Threw(kThreadEnds);
    throw;
  } catch (...) {
    Threw(DescribeCurrentException());
    throw;
  }
  After(scalars);
}

__attribute__((no_sanitize("null"))) void Agent::Impl::Step(
    torch::optim::Optimizer& optimizer,
    const std::function<at::Tensor()>& closure, std::span<const Scalar> scalars,
    at::Tensor* loss) {
  // Before the closure, which may throw.
  if (!Inert()) capture_->NoteOptimizer(optimizer);
  try {
    agent::CallOptimizerStep(
        optimizer, closure, [&] { Before(nullptr, &optimizer); }, loss);
  } catch (const abi::__forced_unwind&) {
    Threw(kThreadEnds);
    throw;
  } catch (...) {
    Threw(DescribeCurrentException());
    throw;
  }
  After(scalars);
}

// Blocks of an audit are by the loop's own counter, so that ranks agree.
GapCause Agent::Impl::NotDue(std::int64_t step) const {
  const AgentOptions& o = settings_.options;
  if (o.audit_steps > 0 && step / o.audit_steps % 2 != 0) {
    return GapCause::kAudit;
  }
  if (step % o.interval_steps != 0) return GapCause::kInterval;
  if (step % budget_->interval_steps() != 0) return GapCause::kBudget;
  return GapCause::kUnspecified;
}

void Agent::Impl::Before(const torch::optim::Optimizer* only,
                         const torch::optim::Optimizer* stepping) noexcept {
  const Call call(this);
  if (!call) return;
  if (stepping != nullptr) {
    capture_->NoteOptimizer(*stepping);
    NoteRates(*stepping);
  }
  before_called_ = true;
  RecordGradients(Role::kGrad, only);
}

void Agent::Impl::AfterBackward(const torch::optim::Optimizer* only) noexcept {
  const Call call(this);
  if (call) RecordGradients(Role::kGradLocal, only);
}

void Agent::Impl::RecordGradients(
    Role role, const torch::optim::Optimizer* only) noexcept {
  if (!Due(next_step_) || !fault_.ok()) return;
  times_->BeginCapture();
  FinishHeldStep();
  if (faults_ >= kMaxFaults) return;
  fault_ = capture_->BeginStep(next_step_);
  if (!fault_.ok()) return;
  fault_ = only == nullptr ? capture_->ReduceGradients(role)
                           : capture_->ReduceGradientsOf(role, *only);
}

void Agent::Impl::After(std::span<const Scalar> scalars) noexcept {
  const Call call(this);
  if (!call) return;
  const std::int64_t step = TakeStepNumber();
  try {
    const GapCause not_due = NotDue(step);
    if (faults_ >= kMaxFaults) {
      delivery_->PutGap(GapCause::kCaptureError, step,
                        "capture is switched off");
    } else if (not_due != GapCause::kUnspecified) {
      KeepOrForgetWeights(step, not_due);
      PutSkipped(not_due, step, scalars, "");
    } else if (!before_called_ && settings_.options.roles.grad) {
      const char why[] =
          "AfterOptimizerStep without BeforeOptimizerStep, or an optimizer "
          "that did not evaluate its closure";
      Report(std::string(why) + ": such steps have no statistics");
      capture_->AbandonStep();
      KeepOrForgetWeights(step, not_due);
      delivery_->PutGap(GapCause::kCaptureError, step, why);
    } else {
      CaptureStep(step, scalars);
    }
  } catch (...) {  // No memory, or a bug: the step was not put.
    absl::Status fault;
    try {
      fault = absl::InternalError(DescribeCurrentException());
    } catch (...) {  // Not even for the text.
    }
    PutFault(step, fault);
  }
  EndStep();
}

void Agent::Impl::CaptureStep(std::int64_t step,
                              std::span<const Scalar> scalars) {
  times_->BeginCapture();
  StepData& data = capture_->step();
  if (fault_.ok()) fault_ = capture_->BeginStep(step);
  if (fault_.ok()) {
    FillScalars(
        scalars,
        [this](const at::Tensor& tensor, std::size_t index) {
          return capture_->LaterScalar(tensor, index);
        },
        &data);
    fault_ = capture_->ReduceWeights();
  }
  weights_current_ = fault_.ok();
  if (!fault_.ok()) {
    PutFault(step, fault_);
    return;
  }
  captured_ = true;
  const std::int64_t every = settings_.options.histogram_interval_steps;
  histograms_ = every > 0 && step % every == 0;
  FillIn(step, &data);
  PutSchemaIfNew();
  if (capture_->deferred()) {
    held_ = step;
  } else {
    PutCaptured();
  }
}

void Agent::Impl::Skipped(const std::string& reason,
                          std::span<const Scalar> scalars) noexcept {
  const Call call(this);
  if (!call) return;
  const std::int64_t step = TakeStepNumber();
  capture_->AbandonStep();
  try {
    // The loop says that nothing changed: the copy of the weights stays as
    // current as it was.
    PutSkipped(GapCause::kLoop, step, scalars, Detail(reason));
  } catch (...) {
    delivery_->PutGap(GapCause::kLoop, step, "");
  }
  EndStep();
}

void Agent::Impl::Threw(const std::string& what) noexcept {
  const Call call(this);
  if (!call) return;
  const std::int64_t step = TakeStepNumber();
  capture_->AbandonStep();
  // It may have changed some weights: the next update is what comes after.
  if (weights_current_ && settings_.options.roles.update) {
    times_->BeginCapture();
    capture_->KeepWeights();
  }
  ReserveRing(step);
  delivery_->PutGap(GapCause::kOptimizerThrew, step,
                    OrNoMemory([&] { return Detail(what); }));
  EndStep();
}

std::int64_t Agent::Impl::TakeStepNumber() noexcept {
  FinishHeldStep();
  const std::int64_t step = next_step_;
  if (last_step_.has_value() && step <= *last_step_) {
    delivery_->Rollback(step);
    capture_->ForgetWeights();
    weights_current_ = false;
  }
  if (!last_step_.has_value()) {
    began_unasked_ = step == 0 && !step_set_;
    ClaimRun();
  }
  last_step_ = step;
  next_step_ = step + 1;
  return step;
}

// An update is of one step: the copy is taken again just before a step that is
// due, and not used where one was passed over. In an audit's block without
// capture it is not taken: the first update after it is absent, and the block's
// last step costs what the others do.
void Agent::Impl::KeepOrForgetWeights(std::int64_t step, GapCause cause) {
  if (!settings_.options.roles.update) return;
  if (cause != GapCause::kAudit && Due(step + 1)) {
    times_->BeginCapture();
    capture_->KeepWeights();
    weights_current_ = true;
  } else if (weights_current_) {
    capture_->ForgetWeights();
    weights_current_ = false;
  }
}

void Agent::Impl::SetLossScale(double scale) noexcept {
  const Call call(this);
  if (!call) return;
  if (!(scale > 0) || !std::isfinite(scale) || !std::isfinite(1 / scale)) {
    if (std::exchange(bad_scale_told_, true)) return;
    Report(OrNoMemory([&] {
      char text[32];
      std::snprintf(text, sizeof(text), "%g", scale);
      return "SetLossScale(" + std::string(text) +
             ") is ignored, as are all that are not finite and above 0: "
             "gradients are divided by what was set before";
    }));
    return;
  }
  loss_scale_ = scale;
  capture_->SetGradientMultiplier(1 / scale);
}

void Agent::Impl::SetStep(std::int64_t n) noexcept {
  const Call call(this);
  if (!call) return;
  if (n < 0 || n > kMaxStep) {
    Report(OrNoMemory([n] {
      return "SetStep(" + std::to_string(n) +
             ") is ignored: steps are 0 to 2^62";
    }));
    return;
  }
  step_set_ = true;
  if (n == next_step_) return;
  FinishHeldStep();
  // What Before() filled is of another step.
  capture_->AbandonStep();
  before_called_ = false;
  rates_.clear();
  fault_ = absl::OkStatus();
  next_step_ = n;
}

void Agent::Impl::Refresh() noexcept {
  const Call call(this);
  if (call) capture_->Refresh();
}

FlushResult Agent::Impl::Flush(std::chrono::milliseconds deadline) noexcept {
  FlushResult result;
  if (agent::IsForkedChild()) return result;
  const agent::GuestScope scope;
  if (delivery_ == nullptr) {
    result.delivered = true;  // Nothing was recorded.
    return result;
  }
  // What is held is the training thread's alone. (That one may be here from a
  // log callback.)
  if (training_thread_.load(std::memory_order_relaxed) ==
          std::this_thread::get_id() &&
      !in_call_) {
    FinishHeldStep();
  }
  const agent::FlushOutcome outcome = delivery_->Flush(deadline);
  result.delivered = outcome.delivered;
  result.undelivered_steps = outcome.undelivered_steps;
  result.undelivered_bytes = outcome.undelivered_bytes;
  return result;
}

}  // namespace gradtap
