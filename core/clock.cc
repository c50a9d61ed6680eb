#include "core/clock.h"

namespace gradtap {
namespace {

class MachineClock : public Clock {
 public:
  std::int64_t UnixNanos() const override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
  std::chrono::steady_clock::time_point Steady() const override {
    return std::chrono::steady_clock::now();
  }
};

}  // namespace

const Clock& RealClock() {
  static const Clock* const clock = new MachineClock;
  return *clock;
}

}  // namespace gradtap
