// Simulated time: events in order, one seed behind every choice, a trace.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_WORLD_H_
#define GRADTAP_TESTS_SIM_WORLD_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/clock.h"

namespace gradtap::sim {

using Duration = std::chrono::nanoseconds;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// An invariant does not hold.
class Violation : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <typename... Parts>
void Require(bool holds, const Parts&... parts) {
  if (!holds) throw Violation(absl::StrCat(parts...));
}

// splitmix64: the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t Next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t Below(std::uint64_t n) { return Next() % n; }
  bool OneIn(std::uint64_t n) { return Below(n) == 0; }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  Duration Between(Duration low, Duration high) {
    const auto width = static_cast<std::uint64_t>((high - low).count());
    return low + Duration(static_cast<std::int64_t>(Below(width + 1)));
  }

 private:
  std::uint64_t state_;
};

class World {
 public:
  using TraceSink = std::function<void(const std::string& line)>;

  World(std::uint64_t seed, TraceSink trace)
      : random_(seed), trace_(std::move(trace)) {}

  Random& random() { return random_; }
  Duration now() const { return now_; }
  std::uint64_t events() const { return events_; }

  // Events of one time happen in the order in which they were asked for.
  void After(Duration delay, std::function<void()> what) {
    queue_.push_back(
        {now_ + std::max(delay, Duration(0)), ++asked_, std::move(what)});
    std::push_heap(queue_.begin(), queue_.end(), Later);
  }

  // False if nothing will ever happen again.
  bool RunOne() {
    if (queue_.empty()) return false;
    std::pop_heap(queue_.begin(), queue_.end(), Later);
    Event event = std::move(queue_.back());
    queue_.pop_back();
    now_ = event.at;
    ++events_;
    event.what();
    return true;
  }

  template <typename... Parts>
  void Trace(const Parts&... parts) {
    if (!trace_) return;
    trace_(absl::StrFormat("[%12.6f] %s",
                           std::chrono::duration<double>(now_).count(),
                           absl::StrCat(parts...)));
  }

 private:
  struct Event {
    Duration at{0};
    std::uint64_t order = 0;
    std::function<void()> what;
  };
  static bool Later(const Event& a, const Event& b) {
    return a.at != b.at ? a.at > b.at : a.order > b.order;
  }

  Random random_;
  const TraceSink trace_;
  Duration now_{0};
  std::uint64_t asked_ = 0;
  std::uint64_t events_ = 0;
  std::vector<Event> queue_;
};

// The clocks of one host.
class HostClock : public Clock {
 public:
  // `trusts_wall`: a mutant whose steady clock is the wall clock.
  HostClock(World* world, bool trusts_wall)
      : world_(world),
        trusts_wall_(trusts_wall),
        booted_(world->random().Between(seconds(1), seconds(100'000))) {}

  std::int64_t UnixNanos() const override {
    return 1'700'000'000'000'000'000 + (world_->now() + jumped_).count();
  }
  std::chrono::steady_clock::time_point Steady() const override {
    return std::chrono::steady_clock::time_point(
        booted_ + world_->now() + (trusts_wall_ ? jumped_ : Duration(0)));
  }
  // Somebody sets the date.
  void JumpWall(Duration by) { jumped_ += by; }

 private:
  World* const world_;
  const bool trusts_wall_;
  const Duration booted_;
  Duration jumped_{0};
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_WORLD_H_
