// The counts that say where every step went.
//
// Layer: agent/delivery. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_BOOKS_H_
#define GRADTAP_AGENT_DELIVERY_BOOKS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "agent/delivery/delivery.h"
#include "core/step_data.h"

namespace gradtap::agent {

inline constexpr int kGapCauses = 32;  // Room for all values of GapCause.

// Thread-safe; no call locks. The training thread counts what it admits and
// what it does not, the delivery thread what the collector has answered.
class Books {
 public:
  // Training thread. A step that was not recorded, by its cause.
  void CountMissing(GapCause cause, std::uint64_t steps = 1) noexcept {
    Add(&missing_[Index(cause)], steps);
  }
  void CountAdmitted(std::uint64_t steps, std::uint64_t bytes) noexcept {
    Add(&admitted_bytes_, bytes);
    Add(&admitted_, steps);
  }
  void SetSchemaFingerprint(std::uint64_t fingerprint) noexcept {
    schema_fingerprint_.store(fingerprint, std::memory_order_relaxed);
  }

  // Training thread: why a step that does not fit is lost.
  GapCause full_cause() const noexcept {
    return full_cause_.load(std::memory_order_relaxed);
  }

  // Delivery thread: kSpoolFull while the spool behind the ring takes no more,
  // kRingFull else.
  void SetFullCause(GapCause cause) noexcept {
    full_cause_.store(cause, std::memory_order_relaxed);
  }

  // Delivery thread. Of what was admitted.
  void CountAcknowledged(std::uint64_t steps, std::uint64_t bytes) noexcept {
    Add(&acknowledged_bytes_, bytes);
    Add(&acknowledged_, steps);
  }
  void CountRejected(std::uint64_t steps, std::uint64_t bytes) noexcept {
    Add(&acknowledged_bytes_, bytes);
    Add(&rejected_, steps);
  }

  // Delivery thread: what a Welcome says of the run.
  void SetLastStepOfRun(std::int64_t step) noexcept {
    last_step_of_run_.store(step < 0 ? -1 : step, std::memory_order_relaxed);
  }
  // Any thread. -1: the run has no step; nullopt: not known yet.
  std::optional<std::int64_t> last_step_of_run() const noexcept {
    const std::int64_t step = last_step_of_run_.load(std::memory_order_relaxed);
    if (step == kUnknown) return std::nullopt;
    return step;
  }

  // Any thread. Balances at every moment: seen = recorded + skipped + lost, and
  // acknowledged <= recorded.
  DeliveryCounters Snapshot() const {
    DeliveryCounters c;
    c.bytes_acknowledged = acknowledged_bytes_.load(std::memory_order_acquire);
    c.steps_acknowledged = acknowledged_.load(std::memory_order_acquire);
    const std::uint64_t rejected = rejected_.load(std::memory_order_acquire);
    c.steps_recorded = admitted_.load(std::memory_order_acquire) - rejected;
    c.bytes_recorded = admitted_bytes_.load(std::memory_order_acquire);
    for (int i = 0; i < kGapCauses; ++i) {
      const auto cause = static_cast<GapCause>(i);
      std::uint64_t steps = missing_[i].load(std::memory_order_relaxed);
      if (cause == GapCause::kRejected) steps += rejected;
      if (steps == 0) continue;
      c.by_cause[cause] = steps;
      (IsLost(cause) ? c.steps_lost : c.steps_skipped) += steps;
    }
    c.steps_seen = c.steps_recorded + c.steps_skipped + c.steps_lost;
    return c;
  }
  std::uint64_t bytes_recorded() const noexcept {
    return admitted_bytes_.load(std::memory_order_relaxed);
  }
  std::uint64_t missing(GapCause cause) const noexcept {
    return missing_[Index(cause)].load(std::memory_order_relaxed);
  }
  std::uint64_t schema_fingerprint() const noexcept {
    return schema_fingerprint_.load(std::memory_order_relaxed);
  }

 private:
  using Counter = std::atomic<std::uint64_t>;
  static constexpr std::int64_t kUnknown = -2;

  static int Index(GapCause cause) {
    const int i = static_cast<int>(cause);
    return i < kGapCauses ? i : 0;
  }
  // Each counter has one writer.
  static void Add(Counter* counter, std::uint64_t n) noexcept {
    counter->store(counter->load(std::memory_order_relaxed) + n,
                   std::memory_order_release);
  }

  std::array<Counter, kGapCauses> missing_{};
  Counter admitted_{0};
  Counter admitted_bytes_{0};
  Counter schema_fingerprint_{0};
  Counter acknowledged_{0};
  Counter acknowledged_bytes_{0};
  Counter rejected_{0};
  std::atomic<std::int64_t> last_step_of_run_{kUnknown};
  std::atomic<GapCause> full_cause_{GapCause::kRingFull};
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_BOOKS_H_
