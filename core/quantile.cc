#include "core/quantile.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap {
namespace {

constexpr int kDecimals = 6;

__extension__ using Wide = unsigned __int128;

absl::Status BadQuantile(std::string_view name, std::string_view why) {
  constexpr std::size_t kShown = 40;
  return absl::InvalidArgumentError(
      absl::StrCat("quantile '", EscapeForTerminal(name.substr(0, kShown)),
                   name.size() > kShown ? "...' " : "' ", std::string(why),
                   "; quantiles are p0 to p100, such as p50 or p99.9"));
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// ceil(which / 100% * n), at least 1. n > 0.
std::uint64_t RankOf(MicroPercent which, std::uint64_t n) {
  const Wide rank =
      (Wide{which} * n + (kMaxMicroPercent - 1)) / kMaxMicroPercent;
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(rank));
}

}  // namespace

absl::StatusOr<MicroPercent> ParseQuantile(std::string_view name) {
  if (name.size() < 2 || name.front() != 'p') {
    return BadQuantile(name, "has no number after its p");
  }
  const std::string_view number = name.substr(1);
  const std::size_t dot = number.find('.');
  const std::string_view whole = number.substr(0, dot);
  const std::string_view decimals =
      dot == std::string_view::npos ? "" : number.substr(dot + 1);
  if (whole.empty() || !std::all_of(whole.begin(), whole.end(), IsDigit) ||
      !std::all_of(decimals.begin(), decimals.end(), IsDigit) ||
      (dot != std::string_view::npos && decimals.empty())) {
    return BadQuantile(name, "is not a decimal number after its p");
  }
  if (decimals.size() > kDecimals) {
    return BadQuantile(name, "has more than six decimals");
  }
  if (whole.size() > 1 && whole.front() == '0') {
    return BadQuantile(name, "begins with a needless zero");
  }
  std::uint64_t value = 0;
  for (const char c : whole.substr(0, 4)) {
    value = 10 * value + static_cast<std::uint64_t>(c - '0');
  }
  for (int i = 0; i < kDecimals; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const char c = at < decimals.size() ? decimals[at] : '0';
    value = 10 * value + static_cast<std::uint64_t>(c - '0');
  }
  if (whole.size() > 3 || value > kMaxMicroPercent) {
    return BadQuantile(name, "is above p100");
  }
  return static_cast<MicroPercent>(value);
}

Quantile QuantileOf(const BinCounts& bins, MicroPercent which, double min,
                    double max) {
  const std::uint64_t n = FiniteCount(bins);
  if (n == 0) return {};
  const std::uint64_t rank = RankOf(std::min(which, kMaxMicroPercent), n);
  std::size_t order = 0;
  std::uint64_t below = 0;
  while (bins[FiniteBinAt(order)] < rank - below) {
    below += bins[FiniteBinAt(order++)];
  }
  const std::uint32_t bin = FiniteBinAt(order);
  BinRange range = RangeOf(bin);
  const auto within = [&range](double x) {
    return range.lower <= x && x <= range.upper;
  };
  // The first and the last element are known exactly.
  if (rank == 1 && within(min)) return {min, min, min};
  if (rank == n && within(max)) return {max, max, max};
  if (within(min) && !(max < min)) range.lower = min;
  if (within(max) && !(max < min)) range.upper = max;
  const double place = static_cast<double>(rank - below) - 0.5;
  const double share = place / static_cast<double>(bins[bin]);
  const double value = range.lower + share * (range.upper - range.lower);
  return {std::clamp(value, range.lower, range.upper), range.lower,
          range.upper};
}

}  // namespace gradtap
