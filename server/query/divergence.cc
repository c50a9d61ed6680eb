#include "server/query/divergence.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

namespace gradtap::server {
namespace {

constexpr float kLeastLogRatio = 0.01f;
constexpr double kMadToDeviation = 1.4826;

enum class State { kOrdinary, kZero, kAbsent, kNonfinite };

State StateOf(const Sample& sample) {
  if (sample.absent) return State::kAbsent;
  if (!sample.IsFinite()) return State::kNonfinite;
  return sample.value == 0 ? State::kZero : State::kOrdinary;
}

float LogOf(const Sample& sample) {
  return static_cast<float>(std::log(std::fabs(sample.value)));
}

// Of a copy; the mean of the middle two if their number is even.
float MedianOf(std::span<const float> values) {
  std::array<float, 64> copy{};
  const auto end = std::copy(values.begin(), values.end(), copy.begin());
  const auto middle = copy.begin() + values.size() / 2;
  std::nth_element(copy.begin(), middle, end);
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(copy.begin(), middle)) / 2;
}

}  // namespace

void Divergence::Add(const DivergenceOptions& options, std::int64_t step,
                     const Sample& good, const Sample& other) {
  ++compared_;
  last_step_ = step;
  last_good_ = good;
  last_other_ = other;
  const State state = StateOf(good);
  apart_ = state != StateOf(other);
  Waiting now{step, 0, apart_};
  const bool ratio = !apart_ && state == State::kOrdinary;
  if (state == State::kOrdinary) AddGood(LogOf(good));
  if (ratio) {
    now.d = LogOf(other) - LogOf(good);
    recent_[ratios_++ % kBlock] = now.d;
  }
  if (settled_) {
    Judge(options, now);
    return;
  }
  waiting_.push_back(now);
  if (in_window_ >= kFirstNoise || waiting_.size() >= kMostWaiting) {
    Settle(options);
  }
}

void Divergence::Finish(const DivergenceOptions& options) {
  if (settled_) return;
  if (in_block_ >= kLeastNoise) EndBlock();
  Settle(options);
}

void Divergence::AddGood(float log_good) {
  block_[in_block_++] = log_good;
  if (in_block_ == kBlock) EndBlock();
}

void Divergence::EndBlock() {
  const float median = MedianOf(std::span(block_.data(), in_block_));
  for (std::uint32_t i = 0; i < in_block_; ++i) {
    deviations_[next_deviation_] = std::fabs(block_[i] - median);
    next_deviation_ = (next_deviation_ + 1) % kWindow;
    in_window_ = std::min<std::uint32_t>(in_window_ + 1, kWindow);
  }
  in_block_ = 0;
  const double spread =
      kMadToDeviation * MedianOf(std::span(deviations_.data(), in_window_));
  noise_ =
      static_cast<float>(std::numbers::sqrt2 * spread * (1 + 8.0 / in_window_));
}

void Divergence::Settle(const DivergenceOptions& options) {
  settled_ = true;
  for (const Waiting& step : waiting_) Judge(options, step);
  waiting_ = {};
}

void Divergence::Judge(const DivergenceOptions& options, const Waiting& step) {
  bool beyond = step.apart;
  if (!std::isnan(noise_)) {
    const double most =
        std::max<double>(options.factor * noise_, kLeastLogRatio);
    beyond |= std::fabs(step.d) > most;
  }
  if (!beyond) {
    streak_ = 0;
    return;
  }
  ++beyond_;
  if (streak_++ == 0) streak_step_ = step.step;
  if (!first_step_.has_value() && streak_ >= options.in_a_row) {
    first_step_ = streak_step_;
  }
}

double Divergence::log2_ratio() const {
  if (ratios_ == 0) return std::numeric_limits<double>::quiet_NaN();
  const std::size_t count = std::min<std::uint64_t>(ratios_, kBlock);
  return MedianOf(std::span(recent_.data(), count)) * std::numbers::log2e;
}

double Divergence::noise_log2() const { return noise_ * std::numbers::log2e; }

bool Divergence::apart_by_nonfinite() const {
  return apart_ && (StateOf(last_good_) == State::kNonfinite ||
                    StateOf(last_other_) == State::kNonfinite);
}

}  // namespace gradtap::server
