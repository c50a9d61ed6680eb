// One row of a heat map while it is filled: the worst of each column.
//
// Layer: server/query. This file: std, gradtap_proto. One thread at a time;
// rows are independent of each other.

#ifndef GRADTAP_SERVER_QUERY_HEAT_MAP_CELLS_H_
#define GRADTAP_SERVER_QUERY_HEAT_MAP_CELLS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/statistic.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/heat_map_grid.h"
#include "server/query/selection.h"
#include "server/store/rollup/block.h"

namespace gradtap::server {

// Which of two values is the worse.
enum class HeatMapWorst : std::uint8_t {
  kLargest,
  kSmallest,   // A share of what is well.
  kMagnitude,  // What may have either sign; its own is kept.
};
HeatMapWorst WorstOf(Field field);
// The same of a roll-up's extremes; kSmallest has none.
RollupWorst RollupWorstOf(HeatMapWorst worst);

// Bits of HeatMapRow::flags.
inline constexpr std::uint8_t kHeatMapNonfinite = 1;
inline constexpr std::uint8_t kHeatMapAbsent = 2;

// What a cell takes: its value, its flags and their copy in the row.
inline constexpr std::size_t kCellBytes = 6;

class HeatMapCells {
 public:
  // Fills `row`, which must outlive it.
  HeatMapCells(HeatMapWorst worst, std::uint32_t buckets, v1::HeatMapRow* row);

  // The value of one step; whether an element of its tensor was not finite.
  void Add(std::uint32_t bucket, const Value& value, bool nonfinite_elements);
  // Units in a row, from `unit` on: the worst of each, NaN if it has none, and
  // its kRollupHas* bits. `square`: of the values' squares. What a piece has
  // beyond the grid, as one that is damaged may, is passed over.
  void AddRuns(const HeatMapGrid& grid, std::uint32_t unit,
               std::span<const float> worst, const std::uint8_t* flags,
               bool square);
  // The same of the numbers of elements that were not finite.
  void AddElements(const HeatMapGrid& grid, std::uint32_t unit,
                   std::span<const float> most);
  // Once all has been added.
  void Finish();

 private:
  void Pool(std::uint32_t bucket, float value);

  const HeatMapWorst worst_;
  v1::HeatMapRow* const row_;
  float* const values_;
  std::string flags_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_HEAT_MAP_CELLS_H_
