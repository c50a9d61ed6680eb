// status(): the books as the program sees them.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "agent/agent_impl.h"

namespace gradtap {
namespace {

const char* CauseName(GapCause cause) {
  switch (cause) {
    case GapCause::kUnspecified:
      return "unspecified";
    case GapCause::kInterval:
      return "interval";
    case GapCause::kBudget:
      return "budget";
    case GapCause::kLoop:
      return "loop";
    case GapCause::kOptimizerThrew:
      return "optimizer_threw";
    case GapCause::kAudit:
      return "audit";
    case GapCause::kRingFull:
      return "ring_full";
    case GapCause::kSpoolFull:
      return "spool_full";
    case GapCause::kThinned:
      return "thinned";
    case GapCause::kIoError:
      return "io_error";
    case GapCause::kUnsupported:
      return "unsupported";
    case GapCause::kCaptureError:
      return "capture_error";
    case GapCause::kFork:
      return "fork";
    case GapCause::kRejected:
      return "rejected";
    case GapCause::kShutdown:
      return "shutdown";
    case GapCause::kProcessDied:
      return "process_died";
    case GapCause::kRunDeleted:
      return "run_deleted";
    case GapCause::kRolledUp:  // Only a collector says so.
      return "rolled_up";
  }
  return "unknown";
}

AgentState StateOf(agent::DeliveryState state) {
  switch (state) {
    case agent::DeliveryState::kIdle:
      return AgentState::kIdle;
    case agent::DeliveryState::kConnecting:
      return AgentState::kConnecting;
    case agent::DeliveryState::kStreaming:
      return AgentState::kStreaming;
    case agent::DeliveryState::kOffline:
      return AgentState::kOffline;
    case agent::DeliveryState::kRefused:
    case agent::DeliveryState::kStopped:
      return AgentState::kStopped;
  }
  return AgentState::kStopped;
}

void FillCounters(const agent::DeliveryCounters& counters,
                  AgentStatus* status) {
  status->steps_seen = counters.steps_seen;
  status->steps_recorded = counters.steps_recorded;
  status->steps_skipped = counters.steps_skipped;
  status->steps_lost = counters.steps_lost;
  status->steps_acknowledged = counters.steps_acknowledged;
  status->steps_at_hand = counters.steps_recorded - counters.steps_acknowledged;
  status->bytes_recorded = counters.bytes_recorded;
  status->bytes_acknowledged = counters.bytes_acknowledged;
  for (const auto& [cause, steps] : counters.by_cause) {
    auto& by_cause =
        IsLost(cause) ? status->lost_by_cause : status->skipped_by_cause;
    by_cause[CauseName(cause)] += steps;
  }
}

}  // namespace

// A job that was started again and forgot to say where it goes on.
void Agent::Impl::TellIfRunHasSteps() noexcept {
  const std::optional<std::int64_t> last = delivery_->last_step_of_run();
  if (!last.has_value()) return;
  began_unasked_ = false;
  if (*last < 0) return;
  try {
    Report("run " + settings_.options.run + " has steps up to " +
           std::to_string(*last) +
           " already, and this attempt began at step 0, which replaces them: "
           "after loading a checkpoint call SetStep(n) before the first step, "
           "or give a new run a name of its own (GRADTAP_RUN)");
  } catch (...) {  // No memory to say it.
  }
}

// Not when it is attached: `tap = Agent::Attach(...)` ends the one before only
// then.
void Agent::Impl::ClaimRun() noexcept {
  try {
    const AgentOptions& o = settings_.options;
    claim_.emplace(agent::MeantFor(o) + '\n' + o.run + '\n' +
                   std::to_string(o.rank));
    if (!claim_->shared()) return;
    Report("another agent of this process records run " + o.run +
           " too, and readers are shown the newer one alone: give one of them "
           "another AgentOptions::run, or attach one agent to all models, as "
           "in Attach({{\"G\", *g}, {\"D\", *d}})");
  } catch (...) {  // No memory to say it.
  }
}

AgentStatus Agent::Impl::status() const {
  AgentStatus status;
  status.run = settings_.options.run;
  status.collector = settings_.options.collector;
  status.state = AgentState::kDisabled;
  // In a forked child another thread may have held any lock.
  if (delivery_ != nullptr && agent::IsForkedChild()) return status;
  status.problems = log_->problems();
  if (delivery_ == nullptr) return status;
  status.state = StateOf(delivery_->state());
  FillCounters(delivery_->counters(), &status);
  status.ring_bytes = delivery_->ring_bytes();
  status.ring = delivery_->ring_place();
  status.spool =
      settings_.options.spool.empty() ? "off" : settings_.options.spool;
  status.weight_copy_bytes = weight_copy_bytes_.load(std::memory_order_relaxed);
  status.parameters = parameters_.load(std::memory_order_relaxed);
  status.schemas = schemas_.load(std::memory_order_relaxed);
  status.own_time = times_->own();
  status.own_time_last_step = times_->own_last_step();
  status.overhead = times_->overhead();
  status.interval_steps = interval_.load(std::memory_order_relaxed);
  return status;
}

}  // namespace gradtap
