// Which interval keeps capture within its share of step time.
//
// What a captured step costs, and how long a step takes without it, are medians
// over the newest cycles; a cycle goes from one captured step to the next, so
// that a copy of the weights taken for a later step counts too. From these
// follows the share at any interval. The interval widens when that share is
// above the budget, at once as far as it must; it narrows by one power of two
// after a long time in which the share at half of it was clearly below. Each
// narrowing that has to be taken back doubles that time.
//
// Layer: agent. This file: std. Pure: no clock, no thread.

#ifndef GRADTAP_AGENT_OVERHEAD_BUDGET_H_
#define GRADTAP_AGENT_OVERHEAD_BUDGET_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace gradtap::agent {

// Where the time of one step went. What capture costs is the larger of what it
// takes of the training thread and of another device: they work side by side.
struct StepCost {
  std::chrono::nanoseconds capture{0};  // What widening would save.
  std::chrono::nanoseconds device{0};   // The same, of another device.
  std::chrono::nanoseconds wall{0};     // The whole step, capture included.
  bool captured = false;                // Statistics were taken,
  bool histograms = false;              // and histograms.
};

// One thread at a time. Never allocates, never throws.
class OverheadBudget {
 public:
  static constexpr int kMaxPower = 20;
  // What an interval in force may become: the wire has 32 bits for it.
  static constexpr std::int64_t kMaxInterval = std::int64_t{1} << 31;
  // Captured steps at the start that say nothing yet about the others.
  static constexpr int kWarmUpCycles = 2;
  // Cycles of evidence since the last change, before the interval widens; and
  // cycles in a row below the limit, before it narrows.
  static constexpr int kWidenCycles = 8;
  static constexpr std::int64_t kNarrowCycles = 16;
  static constexpr std::int64_t kMaxNarrowCycles = 1024;
  // Narrows if the share would be at most this part of the budget.
  static constexpr double kNarrowBelow = 0.7;

  // `budget` 0: the interval is always the user's. Ranges are AgentOptions'.
  OverheadBudget(double budget, std::int64_t interval_steps,
                 std::int64_t histogram_interval_steps);

  // A step has ended. True if interval_steps() is another now.
  bool Observe(const StepCost& step) noexcept;

  // In force: the user's interval times a power of two.
  std::int64_t interval_steps() const { return user_interval_ << power_; }
  int power() const { return power_; }

  // What capture takes of step time at the user's interval times 2^power, as
  // far as is known: 0 to 1.
  double ShareAt(int power) const noexcept;

 private:
  // The median of the newest values.
  class Window {
   public:
    void Add(double value);
    void Clear() { size_ = 0; }
    std::size_t size() const { return size_; }
    double Median() const;  // Of at least one.

   private:
    static constexpr std::size_t kSize = 16;
    std::array<double, kSize> values_{};
    std::size_t size_ = 0;
    std::size_t next_ = 0;
  };

  void CloseCycle(bool histograms);
  bool Decide();
  void ChangeTo(int power);
  double CycleCost(std::int64_t interval) const;

  const double budget_;
  const std::int64_t user_interval_;
  const std::int64_t histogram_interval_;
  int max_power_ = 0;

  int power_ = 0;
  // The cycle that is open.
  double cycle_host_ = 0;
  double cycle_device_ = 0;
  double cycle_wall_ = 0;
  std::int64_t cycle_steps_ = 0;

  int warm_up_ = kWarmUpCycles;
  Window plain_;       // Cost of a cycle without histograms,
  Window histograms_;  // and with.
  Window base_;        // Time of a step without capture.

  int evidence_ = 0;       // Cycles since the last change, up to a few.
  std::int64_t calm_ = 0;  // Cycles in a row that speak for narrowing.
  std::int64_t patience_ = kNarrowCycles;  // Of them, before it is done.
  bool narrowed_ = false;                  // The last change was a narrowing.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_OVERHEAD_BUDGET_H_
