#include "server/query/heat_map_cells.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gradtap::server {
namespace {

constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();

float* NewValues(std::uint32_t buckets, v1::HeatMapRow* row) {
  row->mutable_worst()->Resize(static_cast<int>(buckets), kNothing);
  return row->mutable_worst()->mutable_data();
}

}  // namespace

HeatMapWorst WorstOf(Field field) {
  switch (field) {
    case Field::kMean:
    case Field::kSum:
    case Field::kMin:
    case Field::kMax:
      return HeatMapWorst::kMagnitude;
    case Field::kFiniteFraction:
      return HeatMapWorst::kSmallest;
    default:
      return HeatMapWorst::kLargest;
  }
}

RollupWorst RollupWorstOf(HeatMapWorst worst) {
  return worst == HeatMapWorst::kMagnitude ? RollupWorst::kMagnitude
                                           : RollupWorst::kMax;
}

HeatMapCells::HeatMapCells(HeatMapWorst worst, std::uint32_t buckets,
                           v1::HeatMapRow* row)
    : worst_(worst),
      row_(row),
      values_(NewValues(buckets, row)),
      flags_(buckets, '\0') {}

void HeatMapCells::Pool(std::uint32_t bucket, float value) {
  float& cell = values_[bucket];
  bool worse = false;
  switch (worst_) {
    case HeatMapWorst::kLargest:
      worse = value > cell;
      break;
    case HeatMapWorst::kSmallest:
      worse = value < cell;
      break;
    case HeatMapWorst::kMagnitude:  // As RollupWorst::kMagnitude.
      worse = std::abs(value) > std::abs(cell) ||
              (std::abs(value) == std::abs(cell) && value > cell);
      break;
  }
  if (worse || std::isnan(cell)) cell = value;
}

void HeatMapCells::Add(std::uint32_t bucket, const Value& value,
                       bool nonfinite_elements) {
  const bool finite = std::isfinite(value.value);
  const bool nonfinite = !value.absent && (!finite || nonfinite_elements);
  flags_[bucket] =
      static_cast<char>(flags_[bucket] | (nonfinite ? kHeatMapNonfinite : 0) |
                        (value.absent ? kHeatMapAbsent : 0));
  if (value.absent || !finite) return;
  Pool(bucket, static_cast<float>(value.value));
}

void HeatMapCells::AddRuns(const HeatMapGrid& grid, std::uint32_t unit,
                           std::span<const float> worst,
                           const std::uint8_t* flags, bool square) {
  static_assert(kRollupHasNonfinite == kHeatMapNonfinite &&
                kRollupHasAbsent == kHeatMapAbsent);
  worst =
      worst.first(std::min<std::size_t>(worst.size(), grid.UnitsFrom(unit)));
  std::uint32_t bucket = grid.BucketOf(unit);
  std::uint32_t left = grid.UnitsLeft(unit);
  for (std::size_t i = 0; i < worst.size(); ++i) {
    if (left == 0) {
      ++bucket;
      left = grid.units_a_bucket();
    }
    --left;
    const float value = square ? worst[i] * worst[i] : worst[i];
    if (!std::isnan(value)) Pool(bucket, value);
    flags_[bucket] = static_cast<char>(flags_[bucket] | flags[i]);
  }
}

void HeatMapCells::AddElements(const HeatMapGrid& grid, std::uint32_t unit,
                               std::span<const float> most) {
  most = most.first(std::min<std::size_t>(most.size(), grid.UnitsFrom(unit)));
  for (std::size_t i = 0; i < most.size(); ++i) {
    if (!(most[i] > 0)) continue;
    char& flags = flags_[grid.BucketOf(unit + static_cast<std::uint32_t>(i))];
    flags = static_cast<char>(flags | kHeatMapNonfinite);
  }
}

void HeatMapCells::Finish() {
  if (flags_.find_first_not_of('\0') != std::string::npos) {
    row_->set_flags(std::move(flags_));
  }
}

}  // namespace gradtap::server
