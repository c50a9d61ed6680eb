#include "client/cli/audit.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gradtap::client {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kConfidence = 0.95;
constexpr double kTrimmed = 0.1;  // At either end.

// Steps of one kind in a row.
struct Block {
  AuditStep::Kind kind = AuditStep::Kind::kNeither;
  std::uint32_t attempt = 0;
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::vector<const AuditStep*> steps;  // Those whose times count.
  // Once it is measured:
  std::uint64_t kept = 0;
  double seconds = 0;
  double own = 0;

  // From the first to the last step of its kind: what says nothing at its end
  // may belong to the next one.
  std::size_t length() const {
    if (steps.empty()) return 0;
    return static_cast<std::size_t>(steps.back()->step - steps.front()->step) +
           1;
  }
  bool IsFollowedBy(const Block& next) const {
    return attempt == next.attempt && last + 1 == next.first;
  }
};

std::vector<Block> BlocksOf(const std::vector<AuditStep>& steps) {
  std::vector<Block> blocks;
  for (const AuditStep& step : steps) {
    Block* block = blocks.empty() ? nullptr : &blocks.back();
    const bool neither = step.kind == AuditStep::Kind::kNeither;
    if (block == nullptr || block->attempt != step.attempt ||
        block->last + 1 != step.step ||
        (!neither && block->kind != AuditStep::Kind::kNeither &&
         block->kind != step.kind)) {
      block = &blocks.emplace_back();
      block->attempt = step.attempt;
      block->first = step.step;
    }
    block->last = step.step;
    if (neither) continue;
    block->kind = step.kind;
    block->steps.push_back(&step);
  }
  return blocks;
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double TrimmedMean(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto cut = static_cast<std::ptrdiff_t>(
      std::floor(kTrimmed * static_cast<double>(values.size())));
  return Mean({values.begin() + cut, values.end() - cut});
}

// What the agent says of itself counts in full, of every step, also when it
// comes in a few large pieces: trimming, or leaving out the first steps, must
// not hide the one step of a block that has histograms. The rest, in which a
// stall of the machine may stand, is trimmed. If the agent named a wrong number
// at every step, the sum would still be the step's time.
void Measure(std::size_t dropped, Block* block) {
  std::vector<double> rest;
  std::vector<double> own;
  for (const AuditStep* step : block->steps) {
    own.push_back(step->capture_seconds);
    if (step->step - block->first < static_cast<std::int64_t>(dropped)) {
      continue;
    }
    rest.push_back(step->seconds - step->capture_seconds);
  }
  block->kept = rest.size();
  if (rest.empty()) return;
  block->own = Mean(own);
  block->seconds = block->own + TrimmedMean(std::move(rest));
}

// The continued fraction of the incomplete beta function, DLMF 8.17.22, by
// Lentz's method as of Thompson and Barnett, 1986.
double BetaFraction(double a, double b, double x) {
  constexpr int kMost = 10'000;
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double v) {
    return std::fabs(v) < kTiny ? kTiny : v;
  };
  double c = 1;
  double d = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
  double fraction = d;
  for (int m = 1; m <= kMost; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away_from_zero(1 + even * d);
    c = away_from_zero(1 + even / c);
    fraction *= d * c;
    const double odd =
        -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away_from_zero(1 + odd * d);
    c = away_from_zero(1 + odd / c);
    fraction *= d * c;
    if (std::fabs(d * c - 1) < 1e-15) break;
  }
  return fraction;
}

// The regularized incomplete beta function I_x(a, b).
double RegularizedBeta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
               a * std::log(x) + b * std::log1p(-x));
  // The fraction converges fast on this side; the other is its mirror.
  if (x < (a + 1) / (a + b + 2)) return front * BetaFraction(a, b, x) / a;
  return 1 - front * BetaFraction(b, a, 1 - x) / b;
}

// What the comparisons say together. Neighbouring ones share a block without
// capture, so that they are correlated: with v for the variance of a block's
// location, a difference has 1.5 v, two that share a block have v / 4 in
// common, and of m differences with `shared` such pairs
//   the mean has the variance   v (1.5 m + shared / 2) / m^2,
//   the sample variance expects v (1.5 - shared / (2 m (m - 1))).
// Their ratio turns the sample variance into the mean's. The correlation of
// 1/6 leaves the sample variance 1 / (1 + 2/36) of its degrees of freedom.
// The interval is Student's, as of the NIST/SEMATECH e-Handbook of Statistical
// Methods, 1.3.5.2.
void Estimate(const std::vector<double>& differences, std::size_t shared,
              AuditResult* result) {
  const auto m = static_cast<double>(differences.size());
  const auto pairs = static_cast<double>(shared);
  result->difference_seconds = Mean(differences);
  if (differences.size() < 2) return;
  double squares = 0;
  for (const double d : differences) {
    squares +=
        (d - result->difference_seconds) * (d - result->difference_seconds);
  }
  const double sample = squares / (m - 1);
  const double variance = sample * (1.5 * m + pairs / 2) / (m * m) /
                          (1.5 - pairs / (2 * m * (m - 1)));
  const double freedom = (m - 1) / (shared > 0 ? 1 + 2.0 / 36 : 1);
  const double half =
      StudentQuantile(kConfidence, freedom) * std::sqrt(variance);
  result->lower_seconds = result->difference_seconds - half;
  result->upper_seconds = result->difference_seconds + half;
}

// Blocks that take part, each once.
void Count(const std::vector<const Block*>& blocks, std::size_t* number,
           std::uint64_t* steps, double* seconds) {
  double sum = 0;
  for (const Block* block : blocks) {
    ++*number;
    *steps += block->kept;
    sum += block->seconds;
  }
  *seconds = sum / static_cast<double>(blocks.size());
}

}  // namespace

std::size_t DroppedSteps(std::size_t block_steps) {
  if (block_steps < 2) return 0;
  return std::clamp<std::size_t>(block_steps / 10, 1, 5);
}

AuditResult Audit(const std::vector<AuditStep>& steps) {
  AuditResult result;
  result.with_seconds = result.without_seconds = result.own_seconds = kNaN;
  result.difference_seconds = kNaN;
  result.lower_seconds = result.upper_seconds = kNaN;
  std::vector<Block> blocks = BlocksOf(steps);
  for (const Block& block : blocks) {
    if (block.kind != AuditStep::Kind::kWithout) continue;
    result.block_steps = std::max(result.block_steps, block.length());
  }
  if (result.block_steps == 0) return result;
  for (Block& block : blocks) Measure(DroppedSteps(result.block_steps), &block);
  const auto usable = [&](const Block& block, AuditStep::Kind kind) {
    return block.kind == kind && block.kept > 0 &&
           2 * block.length() >= result.block_steps;
  };
  std::vector<double> differences;
  std::vector<const Block*> with;
  std::vector<const Block*> without;
  std::vector<double> own;
  std::size_t shared = 0;
  for (std::size_t i = 1; i + 1 < blocks.size(); ++i) {
    const Block& before = blocks[i - 1];
    const Block& block = blocks[i];
    const Block& after = blocks[i + 1];
    if (!usable(before, AuditStep::Kind::kWithout) ||
        !usable(block, AuditStep::Kind::kWith) ||
        !usable(after, AuditStep::Kind::kWithout) ||
        !before.IsFollowedBy(block) || !block.IsFollowedBy(after)) {
      continue;
    }
    differences.push_back(block.seconds - (before.seconds + after.seconds) / 2);
    own.push_back(block.own - (before.own + after.own) / 2);
    with.push_back(&block);
    if (!without.empty() && without.back() == &before) {
      ++shared;
    } else {
      without.push_back(&before);
    }
    without.push_back(&after);
  }
  result.comparisons = differences.size();
  if (differences.empty()) return result;
  Count(with, &result.with_blocks, &result.with_steps, &result.with_seconds);
  Count(without, &result.without_blocks, &result.without_steps,
        &result.without_seconds);
  result.own_seconds = Mean(own);
  Estimate(differences, shared, &result);
  return result;
}

double StudentQuantile(double confidence, double freedom) {
  // P(|T| > t) = I_x(freedom / 2, 1 / 2) with x = freedom / (freedom + t^2)
  // (Abramowitz and Stegun 26.7.1); it falls with t.
  const auto beyond = [freedom](double t) {
    return RegularizedBeta(freedom / 2, 0.5, freedom / (freedom + t * t));
  };
  double low = 0;
  double high = 1;
  while (beyond(high) > 1 - confidence && high < 1e300) high *= 2;
  for (int i = 0; i < 200 && high - low > 1e-15 * high; ++i) {
    const double middle = low + (high - low) / 2;
    (beyond(middle) > 1 - confidence ? low : high) = middle;
  }
  return low + (high - low) / 2;
}

}  // namespace gradtap::client
