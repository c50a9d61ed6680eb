#include "agent/agent_impl.h"

#include <exception>
#include <string_view>
#include <utility>

#include "core/codec.h"
#include "core/name_filter.h"
#include "core/names.h"

namespace gradtap {
namespace {

// Room for a counter's next step, and for any sum of it with an interval.
constexpr std::int64_t kMaxStep = std::int64_t{1} << 62;

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
  d.collector = o.collector;
  d.run = o.run;
  d.launch = settings.launch;
  d.rank = static_cast<std::uint32_t>(o.rank);
  d.world_size = static_cast<std::uint32_t>(o.world_size);
  d.tags = o.tags;
  d.torch_version = agent::TorchVersion();
  if (o.ring_bytes != 0) d.ring_bytes = o.ring_bytes;
  d.tls = o.tls;
  d.tls_ca_file = o.tls_ca_file;
  d.tls_cert_file = o.tls_cert_file;
  d.tls_key_file = o.tls_key_file;
  d.token = o.token;
  d.use_proxy = o.use_proxy;
  // Delivery's lines begin with the name that ours get when they are written.
  d.log = [log](std::string_view message) {
    constexpr std::string_view kName = "gradtap: ";
    if (message.substr(0, kName.size()) == kName) {
      message.remove_prefix(kName.size());
    }
    log->Report(message);
  };
  return d;
}

}  // namespace

class Agent::Impl::Call {
 public:
  explicit Call(Impl* impl) : impl_(impl->Inert() ? nullptr : impl) {
    if (impl_ != nullptr) impl_->call_start_ = impl_->clock_->Steady();
  }
  ~Call() {
    if (impl_ == nullptr) return;
    const auto took = impl_->clock_->Steady() - impl_->call_start_;
    impl_->own_time_ns_.fetch_add(took.count(), std::memory_order_relaxed);
    impl_->step_time_ += took;
    if (impl_->step_ended_) {
      impl_->own_time_last_step_ns_.store(impl_->step_time_.count(),
                                          std::memory_order_relaxed);
      impl_->step_time_ = std::chrono::nanoseconds(0);
      impl_->step_ended_ = false;
    }
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  explicit operator bool() const { return impl_ != nullptr; }

 private:
  Impl* impl_;
};

std::unique_ptr<Agent::Impl> Agent::Impl::Create(
    const MakeCapture& make_capture, AgentOptions options) noexcept {
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
  capture.report = [log = log_](const std::string& m) { log->Report(m); };
  capture_ = make_capture(std::move(capture));

  auto delivery = around.make_delivery(DeliveryOptionsOf(settings_, log_));
  if (!delivery.ok()) {
    Report("nothing is recorded: " + std::string(delivery.status().message()));
    return;
  }
  delivery_ = *std::move(delivery);
}

Agent::Impl::~Impl() {
  if (delivery_ == nullptr) return;
  const agent::FlushOutcome outcome = delivery_->Shutdown(
      EndReason::kFinished, settings_.options.shutdown_deadline);
  if (outcome.undelivered_steps == 0) return;
  try {
    Report(std::to_string(outcome.undelivered_steps) + " of " +
           std::to_string(delivery_->counters().steps_recorded) +
           " recorded steps did not reach the collector at " +
           settings_.options.collector + " and are lost");
  } catch (...) {  // No memory to say it.
  }
}

void Agent::Impl::Step(torch::optim::Optimizer& optimizer,
                       std::span<const Scalar> scalars) {
  Before();
  try {
    agent::CallOptimizerStep(optimizer);
  } catch (...) {
    Threw(DescribeCurrentException());
    throw;
  }
  After(scalars);
}

void Agent::Impl::Before() noexcept {
  const Call call(this);
  if (!call) return;
  before_called_ = true;
  if (!Due(next_step_) || faults_ >= kMaxFaults || !fault_.ok()) return;
  fault_ = capture_->BeginStep(next_step_);
  if (fault_.ok()) fault_ = capture_->ReduceGradients(Role::kGrad);
}

void Agent::Impl::AfterBackward() noexcept {
  const Call call(this);
  if (!call) return;
  if (!Due(next_step_) || faults_ >= kMaxFaults || !fault_.ok()) return;
  fault_ = capture_->BeginStep(next_step_);
  if (fault_.ok()) fault_ = capture_->ReduceGradients(Role::kGradLocal);
}

void Agent::Impl::After(std::span<const Scalar> scalars) noexcept {
  const Call call(this);
  if (!call) return;
  try {
    const std::int64_t step = TakeStepNumber();
    if (faults_ >= kMaxFaults) {
      delivery_->PutGap(GapCause::kCaptureError, step,
                        "capture is switched off");
    } else if (!Due(step)) {
      KeepOrForgetWeights(step);
      PutSkipped(GapCause::kInterval, step, scalars, "");
    } else if (!before_called_ && settings_.options.roles.grad) {
      const char why[] = "AfterOptimizerStep without BeforeOptimizerStep";
      Report(std::string(why) + ": such steps have no statistics");
      capture_->AbandonStep();
      KeepOrForgetWeights(step);
      delivery_->PutGap(GapCause::kCaptureError, step, why);
    } else {
      if (fault_.ok()) fault_ = capture_->BeginStep(step);
      if (fault_.ok()) fault_ = capture_->ReduceWeights();
      weights_current_ = fault_.ok();
      fault_.ok() ? PutCaptured(step, scalars) : PutFault(step);
    }
  } catch (...) {  // No memory, or a bug: the step was not put.
    try {
      fault_ = absl::InternalError(DescribeCurrentException());
    } catch (...) {  // Not even for the text.
      fault_ = absl::Status();
    }
    PutFault(*last_step_);
  }
  EndStep();
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
    if (scalars.empty()) {
      ReserveRing(step);
      delivery_->PutGap(GapCause::kLoop, step, Detail(reason));
    } else {
      PutSkipped(GapCause::kLoop, step, scalars, Detail(reason));
    }
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
    capture_->KeepWeights();
  }
  ReserveRing(step);
  delivery_->PutGap(GapCause::kOptimizerThrew, step,
                    OrNoMemory([&] { return Detail(what); }));
  EndStep();
}

std::int64_t Agent::Impl::TakeStepNumber() {
  const std::int64_t step = next_step_;
  if (last_step_.has_value() && step <= *last_step_) {
    delivery_->Rollback(step);
    capture_->ForgetWeights();
    weights_current_ = false;
  }
  last_step_ = step;
  next_step_ = step + 1;
  return step;
}

void Agent::Impl::EndStep() {
  before_called_ = false;
  fault_ = absl::OkStatus();
  last_end_ = call_start_;
  step_ended_ = true;
  weight_copy_bytes_.store(capture_->weight_copy_bytes(),
                           std::memory_order_relaxed);
}

// An update is of one step: the copy is taken again just before a step that is
// due, and not used where one was passed over.
void Agent::Impl::KeepOrForgetWeights(std::int64_t step) {
  if (!settings_.options.roles.update) return;
  if (Due(step + 1)) {
    capture_->KeepWeights();
    weights_current_ = true;
  } else if (weights_current_) {
    capture_->ForgetWeights();
    weights_current_ = false;
  }
}

void Agent::Impl::PutCaptured(std::int64_t step,
                              std::span<const Scalar> scalars) {
  StepData& data = capture_->step();
  FillIn(step, scalars, &data);
  PutSchemaIfNew();
  ReserveOnce();
  delivery_->PutStep(data);
}

void Agent::Impl::PutSkipped(GapCause cause, std::int64_t step,
                             std::span<const Scalar> scalars,
                             const std::string& detail) {
  ReserveRing(step);
  FillIn(step, scalars, &skipped_);
  skipped_.schema_id = capture_->schema().schema_id;
  skipped_.skipped = cause;
  skipped_.skipped_detail = detail;
  delivery_->PutStep(skipped_);
}

void Agent::Impl::PutFault(std::int64_t step) noexcept {
  capture_->AbandonStep();
  capture_->ForgetWeights();
  weights_current_ = false;
  ++faults_;
  std::string why;
  try {
    why = Detail(std::string(fault_.message()));
    Report("step " + std::to_string(step) + " was not captured: " + why);
    if (faults_ == kMaxFaults) {
      Report("capture is switched off after " + std::to_string(kMaxFaults) +
             " faults");
    }
  } catch (...) {  // No memory to say it.
  }
  delivery_->PutGap(GapCause::kCaptureError, step, why);
}

void Agent::Impl::PutSchemaIfNew() {
  if (!capture_->TakeNewSchema()) return;
  const Schema& schema = capture_->schema();
  if (schema.parameters.empty()) {
    Report(
        "there is no parameter to record: the model has none, or include "
        "and exclude leave none");
  }
  delivery_->PutSchema(schema);
  parameters_.store(schema.parameters.size(), std::memory_order_relaxed);
  schemas_.fetch_add(1, std::memory_order_relaxed);
}

void Agent::Impl::FillIn(std::int64_t step, std::span<const Scalar> scalars,
                         StepData* data) {
  data->step = step;
  data->wall_time_unix_ns = clock_->UnixNanos();
  data->interval_steps =
      static_cast<std::uint32_t>(settings_.options.interval_steps);
  scalars_.Fill(
      scalars, [this](const std::string& m) { Report(m); }, &data->scalars);
  const std::chrono::duration<double> own =
      step_time_ + (clock_->Steady() - call_start_);
  scalars_.Append("agent.capture_seconds", own.count(), &data->scalars);
  if (last_end_.has_value()) {
    const std::chrono::duration<double> since = call_start_ - *last_end_;
    scalars_.Append("agent.step_seconds", since.count(), &data->scalars);
  }
  scalars_.Finish(&data->scalars);
}

// Before a step without statistics that may be the first record: that is to be
// a schema, and the ring's size needs one.
void Agent::Impl::ReserveRing(std::int64_t step) noexcept {
  if (reserved_) return;
  try {
    if (!capture_->BeginStep(step).ok()) return;
    capture_->AbandonStep();
    PutSchemaIfNew();
    ReserveOnce();
  } catch (...) {  // No memory: the ring stays as large as it is.
  }
}

// Only where the size was left to the agent. A quarter more than the first
// step takes: counts of zeros and of non-finite elements come and go.
void Agent::Impl::ReserveOnce() {
  if (reserved_) return;
  reserved_ = true;
  if (settings_.options.ring_bytes != 0) return;
  const std::size_t bytes = EncodedStepSize(capture_->step());
  delivery_->ReserveForSteps(bytes + bytes / 4 + 1024);
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
  if (n == next_step_) return;
  // What Before() filled is of another step.
  capture_->AbandonStep();
  before_called_ = false;
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
  if (delivery_ == nullptr) {
    result.delivered = true;  // Nothing was recorded.
    return result;
  }
  const agent::FlushOutcome outcome = delivery_->Flush(deadline);
  result.delivered = outcome.delivered;
  result.undelivered_steps = outcome.undelivered_steps;
  result.undelivered_bytes = outcome.undelivered_bytes;
  return result;
}

}  // namespace gradtap
