#include "server/store/tile/planner.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>

#include "server/store/tile/kernels.h"

namespace gradtap::server::tile {
namespace {

// Filters worth trying, as indexes into kFilters. Trends that are damped less
// would win 0.002 B a value of all fields, and take a third longer to read.
constexpr std::array<std::uint8_t, 7> kOrderedFilters = {0, 1, 2, 3, 4, 5, 6};
constexpr std::array<std::uint8_t, 5> kFixedFilters = {0, 4, 5, 7, 8};
constexpr std::array<std::uint8_t, 3> kGridFilters = {0, 4, 5};
constexpr std::array<std::uint8_t, 2> kSumFilters = {7, 0};

std::span<const std::uint8_t> FiltersOf(Kind kind) {
  switch (kind) {
    case Kind::kOrdered:
    case Kind::kScaled:
      return kOrderedFilters;
    case Kind::kGrid:
      return kGridFilters;
    case Kind::kFixed:
      return kFixedFilters;
    case Kind::kAdded:
    case Kind::kSubtracted:
      return kSumFilters;
    default:
      return {};
  }
}

// How many of them are tried after the survey. A second one wins 0.001 B a
// value and takes a third of the time.
constexpr std::size_t kFiltersKept = 1;

// By how many bits the mean logarithm of the residuals is above the shift. So
// symbols are some 20 different ones: of more, Huffman's table costs what they
// win; of fewer, whole bits lose.
constexpr double kSymbolBits = 0.3;
// What a coded residual costs beyond its mean logarithm.
constexpr double kSymbolCost = 3.0;
// What a grid has to save to be looked at.
constexpr double kLeastGridGain = 1.0;
// What fixed point has to gain to be chosen: it takes longer to read.
constexpr double kFixedPointCost = 0.1;

double AsNumber(std::uint32_t residual) {
  return static_cast<double>(static_cast<std::int32_t>(residual));
}

// The least-squares share of `by` in `of`, but for what lies far out.
double ShareOf(std::span<const std::uint32_t> by,
               std::span<const std::uint32_t> of) {
  double scale = 0;
  for (const std::uint32_t r : by) scale += std::abs(AsNumber(r));
  const double margin = 4 * scale / static_cast<double>(by.size());
  double product = 0;
  double square = 0;
  for (std::size_t i = 0; i < by.size(); ++i) {
    const double x = AsNumber(by[i]);
    const double kept = std::abs(x) > margin ? 0 : x;
    product += kept * AsNumber(of[i]);
    square += kept * x;
  }
  return square == 0 ? 0 : product / square;
}

// As ordered integers values of one sign lie close together; others do not.
bool ChangesSign(std::span<const std::uint32_t> values) {
  std::uint32_t differences = 0;
  for (const std::uint32_t bits : values) differences |= bits ^ values[0];
  return (differences >> 31) != 0;
}

// Whether far more values than by chance, one in 16, have four low zeros.
bool OftenEndsInZeros(std::span<const std::uint32_t> values) {
  std::size_t often = 0;
  for (const std::uint32_t bits : values) often += (bits & 15) == 0 ? 1 : 0;
  return often > values.size() / 6;
}

// -p log2(p), which is 0 for 0.
double Entropy(double p) { return p > 0 ? -p * std::log2(p) : 0; }

// A grid's unit, by exponent + 150; the bits a value that marks and what is
// finer take, and those that are saved all in all.
struct Grid {
  int unit = 0;
  double finer = 0;
  double saved = 0;
};

// With the unit one higher every value has one bit less above it. Below it are
// none, two, four, or as many as come until the last place.
Grid BestGrid(const std::array<double, 256>& lowest, double last_place,
              double count) {
  std::array<double, 257> below = {};  // below[e]: how many lie below e.
  for (std::size_t e = 0; e < lowest.size(); ++e) {
    below[e + 1] = below[e] + lowest[e];
  }
  const auto share = [&](int from, int to) {
    const auto at = [&](int e) {
      return below[static_cast<std::size_t>(std::clamp(e, 0, 256))];
    };
    return (at(to) - at(from)) / count;
  };
  Grid best;
  for (int unit = static_cast<int>(last_place) + 1; unit < 256; ++unit) {
    const double depth = unit - last_place;
    if (depth > 20) break;
    const double two = share(unit - 2, unit);
    const double four = share(unit - 4, unit - 2);
    const double all = share(0, unit - 4);
    const double finer = Entropy(share(unit, 256)) + Entropy(two) +
                         Entropy(four) + Entropy(all) + 2 * two + 4 * four +
                         depth * all;
    if (depth - finer > best.saved) best = {unit, finer, depth - finer};
  }
  return best;
}

}  // namespace

Planner::Planner() { EndSurvey(); }

Planner::Choice& Planner::ChoiceOf(Kind kind) {
  return choices_[static_cast<std::size_t>(kind)];
}

void Planner::BeginSurvey() {
  surveying_ = true;
  for (int kind = 0; kind < kKinds; ++kind) {
    const auto filters = FiltersOf(static_cast<Kind>(kind));
    choices_[static_cast<std::size_t>(kind)] = {
        .filters = {filters.begin(), filters.end()}};
  }
}

void Planner::EndSurvey() {
  surveying_ = false;
  for (Choice& choice : choices_) {
    std::stable_sort(choice.filters.begin(), choice.filters.end(),
                     [&](std::uint8_t a, std::uint8_t b) {
                       return choice.bits[a] < choice.bits[b];
                     });
    if (choice.filters.size() > kFiltersKept) {
      choice.filters.resize(kFiltersKept);
    }
  }
}

void Planner::Filtered(std::uint8_t filter,
                       std::span<const std::uint32_t> values,
                       std::vector<std::uint32_t>* residuals) const {
  residuals->resize(values.size() - 1);
  Predictor predictor(kFilters[filter], values[0]);
  FilterResiduals(filter, &predictor, values.data() + 1, values.size() - 1,
                  residuals->data());
}

void Planner::Offer(const SeriesPlan& plan, double residual_bits, double beside,
                    double room) {
  const double bits = residual_bits + kSymbolCost + beside;
  if (surveying_) ChoiceOf(plan.kind).bits[plan.filter] += bits;
  if (bits >= best_.bits) return;
  const double shift = std::floor(residual_bits - kSymbolBits + room);
  best_ = {plan, bits};
  best_.plan.shift = static_cast<std::uint8_t>(
      std::clamp(shift, 0.0, static_cast<double>(kMaxShift)));
}

void Planner::TryFilters(SeriesPlan plan, double beside, double room) {
  for (const std::uint8_t filter : ChoiceOf(plan.kind).filters) {
    Filtered(filter, values_, &residuals_);
    plan.filter = filter;
    Offer(plan, MeanLog(residuals_.data(), residuals_.size()), beside, room);
  }
}

void Planner::TryIncrement(const SeriesView& series, Kind kind) {
  const std::size_t n = series.bits.size();
  SeriesPlan plan = {.kind = kind, .start = series.bits[0]};
  // Where the sum should have started: the mean of what it is off by.
  RunningSum sum(plan.start, 0);
  double off = 0;
  for (std::size_t i = 1; i < n; ++i) {
    sum.Next(series.increment[i], kind == Kind::kSubtracted);
    off += std::bit_cast<float>(series.bits[i]) - sum.sum();
  }
  RunningSum unit(plan.start, 1);
  const double share = off / static_cast<double>(n - 1) /
                       (unit.sum() - std::bit_cast<float>(plan.start));
  if (!(std::abs(share) < 2000)) return;
  plan.aux = static_cast<std::int16_t>(std::lround(share));
  terms_.resize(n + kLanePadding);
  SumTerms(plan, series.increment.data(), n, terms_.data());
  values_.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    values_[i] = ToOrdered(series.bits[i]) - terms_[i];
  }
  TryFilters(plan, 0, 0);
}

void Planner::TryScaled(const SeriesView& series) {
  scales_.resize(series.scale.size());
  std::transform(series.scale.begin(), series.scale.end(), scales_.begin(),
                 ToOrdered);
  for (const std::uint8_t filter : ChoiceOf(Kind::kScaled).filters) {
    Filtered(filter, values_, &residuals_);
    Offer({.kind = Kind::kOrdered, .filter = filter},
          MeanLog(residuals_.data(), residuals_.size()), 0, 0);
    Filtered(filter, scales_, &scale_residuals_);
    const double share =
        std::clamp(std::round(32 * ShareOf(scale_residuals_, residuals_)),
                   -4096.0, 4096.0);
    SeriesPlan plan = {.kind = Kind::kScaled, .filter = filter};
    plan.aux = static_cast<std::int16_t>(share);
    Offer(plan,
          MeanLogWithout(residuals_.data(), scale_residuals_.data(),
                         static_cast<float>(share / 32), residuals_.size()),
          0, 0);
  }
}

void Planner::TryOrdered(const SeriesView& series) {
  values_.resize(series.bits.size());
  std::transform(series.bits.begin(), series.bits.end(), values_.begin(),
                 ToOrdered);
  if (series.scale.empty()) {
    TryFilters({.kind = Kind::kOrdered}, 0, 0);
  } else {
    TryScaled(series);
  }
}

bool Planner::FillFixed(const SeriesView& series, int unit, double* finer) {
  std::uint64_t bits_below = 0;
  values_.clear();
  for (const std::uint32_t bits : series.bits) {
    FixedPoint fixed;
    const bool has_form = ToFixedPoint(bits, unit, &fixed);
    bits_below += has_form ? fixed.tail_bits : 32;
    if (has_form) values_.push_back(fixed.head);
  }
  *finer =
      static_cast<double>(bits_below) / static_cast<double>(series.bits.size());
  return values_.size() > series.bits.size() / 2;
}

void Planner::TryFixed(const SeriesView& series) {
  // The unit: 16 bits below the usual magnitude.
  std::uint64_t exponents = 0;
  std::size_t normal = 0;
  for (const std::uint32_t bits : series.bits) {
    const std::uint32_t exponent = (bits >> 23) & 0xff;
    const bool is_normal = exponent != 0 && exponent != 255;
    exponents += is_normal ? exponent : 0;
    normal += is_normal ? 1 : 0;
  }
  if (normal < series.bits.size() / 2 + 1) return;
  const int unit = static_cast<int>(exponents / normal) - 127 - 16;
  double finer = 0;
  if (!FillFixed(series, unit, &finer)) return;
  TryFilters({.kind = Kind::kFixed, .aux = static_cast<std::int16_t>(unit)},
             finer + kFixedPointCost, 0);
}

void Planner::TryGrid(const SeriesView& series) {
  // Of each value the exponent of its lowest bit that is set.
  std::array<double, 256> lowest = {};  // By exponent + 150.
  double exponent_sum = 0;
  double count = 0;
  for (const std::uint32_t bits : series.bits) {
    const std::uint32_t exponent = (bits >> 23) & 0xff;
    if (exponent == 0 || exponent == 255) continue;
    const auto zeros = static_cast<std::uint32_t>(
        std::countr_zero((bits & 0x7fffffu) | 0x800000u));
    ++lowest[std::min(exponent + zeros, 255u)];
    exponent_sum += exponent;
    ++count;
  }
  if (count < static_cast<double>(series.bits.size() / 2 + 1)) return;
  const Grid grid = BestGrid(lowest, exponent_sum / count, count);
  double all_finer = 0;
  if (grid.saved < kLeastGridGain ||
      !FillFixed(series, grid.unit - 150, &all_finer)) {
    return;
  }
  SeriesPlan plan = {.kind = Kind::kGrid};
  plan.aux = static_cast<std::int16_t>(grid.unit - 150);
  TryFilters(plan, grid.finer + kFixedPointCost, 1);
}

SeriesPlan Planner::Choose(const SeriesView& series) {
  const auto bits = series.bits;
  SeriesPlan simple = {.start = bits.empty() ? 0 : bits[0]};
  if (std::all_of(bits.begin(), bits.end(),
                  [&](std::uint32_t b) { return b == bits[0]; })) {
    return simple;
  }
  if (!series.twin.empty() &&
      std::equal(bits.begin(), bits.end(), series.twin.begin(),
                 [](std::uint32_t a, std::uint32_t b) {
                   return a == (b & 0x7fffffffu);
                 })) {
    return {.kind = Kind::kTwin};
  }
  simple.kind = Kind::kVerbatim;
  best_ = {simple, 32};
  if (!series.increment.empty()) {
    TryIncrement(series, Kind::kAdded);
    TryIncrement(series, Kind::kSubtracted);
  }
  TryOrdered(series);
  if (ChangesSign(bits)) TryFixed(series);
  if (OftenEndsInZeros(bits)) TryGrid(series);
  best_.plan.start = bits[0];
  return best_.plan;
}

}  // namespace gradtap::server::tile
