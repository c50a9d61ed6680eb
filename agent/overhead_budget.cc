#include "agent/overhead_budget.h"

#include <algorithm>
#include <numeric>

namespace gradtap::agent {
namespace {

// One outlier among so few costs of histograms does not decide.
constexpr std::size_t kMinHistograms = 3;

}  // namespace

void OverheadBudget::Window::Add(double value) {
  values_[next_] = value;
  next_ = (next_ + 1) % kSize;
  size_ = std::min(size_ + 1, kSize);
}

double OverheadBudget::Window::Median() const {
  // The newest `size_` values, in any order.
  std::array<double, kSize> sorted{};
  for (std::size_t i = 0; i < size_; ++i) {
    sorted[i] = values_[(next_ + kSize - 1 - i) % kSize];
  }
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(size_ / 2);
  std::nth_element(sorted.begin(), middle,
                   sorted.begin() + static_cast<std::ptrdiff_t>(size_));
  return *middle;
}

OverheadBudget::OverheadBudget(double budget, std::int64_t interval_steps,
                               std::int64_t histogram_interval_steps)
    : budget_(budget),
      user_interval_(interval_steps),
      histogram_interval_(histogram_interval_steps) {
  if (budget_ <= 0) return;
  while (max_power_ < kMaxPower &&
         user_interval_ << (max_power_ + 1) <= kMaxInterval) {
    ++max_power_;
  }
}

bool OverheadBudget::Observe(const StepCost& step) noexcept {
  if (max_power_ == 0) return false;
  cycle_host_ += static_cast<double>(step.capture.count());
  cycle_device_ += static_cast<double>(step.device.count());
  cycle_wall_ += static_cast<double>(step.wall.count());
  ++cycle_steps_;
  if (!step.captured) return false;
  CloseCycle(step.histograms);
  return warm_up_ == 0 && Decide();
}

void OverheadBudget::CloseCycle(bool histograms) {
  const double cost = std::max(cycle_host_, cycle_device_);
  if (warm_up_ > 0) {
    --warm_up_;
  } else {
    (histograms ? histograms_ : plain_).Add(cost);
    base_.Add(std::max(0.0, cycle_wall_ - cost) /
              static_cast<double>(cycle_steps_));
    evidence_ = std::min(evidence_ + 1, 1 << 20);
  }
  cycle_host_ = 0;
  cycle_device_ = 0;
  cycle_wall_ = 0;
  cycle_steps_ = 0;
}

// Histograms are taken at the captured steps that their interval divides: of
// all captured ones, the share gcd(interval, histogram interval) / histogram
// interval.
double OverheadBudget::CycleCost(std::int64_t interval) const {
  const bool any_plain = plain_.size() > 0;
  const double plain = any_plain ? plain_.Median() : histograms_.Median();
  if (histogram_interval_ == 0) return plain;
  if (histograms_.size() < kMinHistograms) return plain;
  const double share =
      static_cast<double>(std::gcd(interval, histogram_interval_)) /
      static_cast<double>(histogram_interval_);
  return plain + share * (histograms_.Median() - plain);
}

double OverheadBudget::ShareAt(int power) const noexcept {
  if (base_.size() == 0) return 0;
  const std::int64_t interval = user_interval_ << power;
  const double cost = CycleCost(interval);
  if (cost <= 0) return 0;
  return cost / (cost + base_.Median() * static_cast<double>(interval));
}

bool OverheadBudget::Decide() {
  if (evidence_ < kWidenCycles) return false;
  if (ShareAt(power_) > budget_) {
    calm_ = 0;
    int power = power_;
    while (power < max_power_ && ShareAt(power) > budget_) ++power;
    if (power == power_) return false;
    if (narrowed_) patience_ = std::min(2 * patience_, kMaxNarrowCycles);
    ChangeTo(power);
    narrowed_ = false;
    return true;
  }
  if (power_ == 0) return false;
  const bool calm = ShareAt(power_ - 1) <= kNarrowBelow * budget_;
  calm_ = calm ? calm_ + 1 : 0;
  if (calm_ < patience_) return false;
  ChangeTo(power_ - 1);
  narrowed_ = true;
  return true;
}

// A cycle is another thing now. What histograms cost is rarely seen, and kept.
void OverheadBudget::ChangeTo(int power) {
  power_ = power;
  plain_.Clear();
  base_.Clear();
  evidence_ = 0;
  calm_ = 0;
}

}  // namespace gradtap::agent
