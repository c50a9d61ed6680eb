// How long an agent can be without its collector: said once, at the beginning.
//
// Layer: agent/delivery. This file: std, absl; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_HOLDING_H_
#define GRADTAP_AGENT_DELIVERY_HOLDING_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace gradtap::agent {

struct Holding {
  double minutes = 0;          // Of every step.
  double minutes_thinned = 0;  // Until nothing fits any more.
};

// Of a job whose steps take `step_bytes`, `steps_per_second` of them. A ring is
// thinned from its half on (thinning.h), a spool is not.
Holding HoldingOf(double step_bytes, double steps_per_second,
                  std::uint64_t ring_bytes, std::uint64_t spool_bytes);

// "a step takes 12 KB, 30 steps/s: while the collector is away ...". A spool of
// 0 bytes is none.
std::string DescribeHolding(double step_bytes, double steps_per_second,
                            std::uint64_t ring_bytes,
                            std::uint64_t spool_bytes);

// When the size and the rate of steps are known: after 16 steps and `soon`, or
// a minute and one step. Counted from the second look on: the first steps of a
// job are slow, and a schema is with them.
class HoldingWatch {
 public:
  static constexpr std::chrono::milliseconds kSoon{5000};

  using TimePoint = std::chrono::steady_clock::time_point;

  explicit HoldingWatch(std::chrono::milliseconds soon = kSoon) : soon_(soon) {}

  // What has been recorded until `now`; the line, once.
  std::optional<std::string> Observe(TimePoint now, std::uint64_t steps,
                                     std::uint64_t bytes,
                                     std::uint64_t ring_bytes,
                                     std::uint64_t spool_bytes);
  bool said() const { return said_; }

 private:
  struct Look {
    TimePoint at;
    std::uint64_t steps = 0;
    std::uint64_t bytes = 0;
  };

  const std::chrono::milliseconds soon_;
  std::optional<Look> first_;
  bool said_ = false;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_HOLDING_H_
