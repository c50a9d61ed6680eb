// Time, injected into whatever makes decisions.
//
// Layer: core.

#ifndef GRADTAP_CORE_CLOCK_H_
#define GRADTAP_CORE_CLOCK_H_

#include <chrono>
#include <cstdint>

namespace gradtap {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Wall time, nanoseconds since the Unix epoch. May jump.
  virtual std::int64_t UnixNanos() const = 0;

  // Monotonic time.
  virtual std::chrono::steady_clock::time_point Steady() const = 0;
};

// The machine's clocks. Never destroyed.
const Clock& RealClock();

}  // namespace gradtap

#endif  // GRADTAP_CORE_CLOCK_H_
