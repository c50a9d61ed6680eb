// A clock that moves only when a test says so.

#ifndef GRADTAP_TESTS_SUPPORT_MANUAL_CLOCK_H_
#define GRADTAP_TESTS_SUPPORT_MANUAL_CLOCK_H_

#include <atomic>
#include <chrono>
#include <cstdint>

#include "core/clock.h"

namespace gradtap::testing {

class ManualClock : public Clock {
 public:
  explicit ManualClock(std::int64_t unix_ns = 1'700'000'000'000'000'000)
      : unix_ns_(unix_ns) {}

  std::int64_t UnixNanos() const override { return unix_ns_; }
  std::chrono::steady_clock::time_point Steady() const override {
    return std::chrono::steady_clock::time_point(
        std::chrono::nanoseconds(steady_ns_.load()));
  }

  // Both clocks.
  void Advance(std::chrono::nanoseconds by) {
    unix_ns_ += by.count();
    steady_ns_ += by.count();
  }
  // Wall time alone, as when somebody sets the date.
  void JumpWall(std::chrono::nanoseconds by) { unix_ns_ += by.count(); }

 private:
  std::atomic<std::int64_t> unix_ns_;
  std::atomic<std::int64_t> steady_ns_{1'000'000'000};
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SUPPORT_MANUAL_CLOCK_H_
