// A device's timing events, by a clock that the test sets.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_FAKE_TIMING_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_FAKE_TIMING_H_

#include <chrono>

#include "agent/capture/device_timer.h"

namespace gradtap::testing {

// What the device does, and what was asked of it.
struct FakeDevice {
  std::chrono::nanoseconds now{0};
  std::chrono::nanoseconds done = std::chrono::hours(1);  // It is so far.
  int most_events = 1'000'000;
  bool records = true;
  bool broken = false;  // No time is to be had of it.

  int events = 0;  // That exist.
  int recorded = 0;
};

class FakeTimingEvents : public agent::TimingEvents {
 public:
  // `device` must outlive it.
  explicit FakeTimingEvents(FakeDevice* device) : device_(*device) {}

  Event Make() noexcept override {
    if (device_.events == device_.most_events) return nullptr;
    ++device_.events;
    return new std::chrono::nanoseconds(0);
  }
  void Free(Event event) noexcept override {
    --device_.events;
    delete At(event);
  }
  bool Record(Event event) noexcept override {
    if (!device_.records) return false;
    ++device_.recorded;
    *At(event) = device_.now;
    return true;
  }
  Reading Between(Event begin, Event end,
                  std::chrono::nanoseconds* took) noexcept override {
    if (device_.broken) return Reading::kNever;
    if (*At(end) > device_.done) return Reading::kNotYet;
    *took = *At(end) - *At(begin);
    return Reading::kKnown;
  }

 private:
  static std::chrono::nanoseconds* At(Event event) {
    return static_cast<std::chrono::nanoseconds*>(event);
  }

  FakeDevice& device_;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_FAKE_TIMING_H_
