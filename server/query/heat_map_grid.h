// The columns of a heat map: which recorded steps belong together.
//
// A unit is what cannot be divided: a recorded step, or a run of 64 of them of
// which only roll-ups are read. A column is of so many units in a row. Units of
// a line are counted through, over all of its segments.
//
// Layer: server/query. This file: std, absl, gradtap_proto. One thread at a
// time; afterwards any may read.

#ifndef GRADTAP_SERVER_QUERY_HEAT_MAP_GRID_H_
#define GRADTAP_SERVER_QUERY_HEAT_MAP_GRID_H_

#include <cstdint>
#include <set>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/line.h"
#include "server/query/row_reader.h"
#include "server/store/store.h"
#include "server/store/stored_step.h"

namespace gradtap::server {

// A stretch of one segment that is read in one way.
struct HeatMapStretch {
  Segment segment;
  StepWindow steps;
  bool rolled = false;
  std::uint32_t first_unit = 0;
  std::uint32_t unit_steps = 1;  // Recorded steps of a unit, if not rolled.
  // If rolled, what was; the first unit of each window, by the window's first
  // step; and the windows' schemas.
  RolledSpan span;
  absl::flat_hash_map<std::int64_t, std::uint32_t> unit_of;
  std::set<std::uint32_t> schemas;
};

class HeatMapGrid {
 public:
  // Looks at when the recorded steps of the line within `window` were: at the
  // timelines of what is rolled up, and at the steps of what is not. `rolled`:
  // roll-ups are to be read where there are some.
  static absl::StatusOr<HeatMapGrid> Make(Store* store, const Line& line,
                                          const StepWindow& window, bool rolled,
                                          std::uint32_t max_buckets,
                                          ReadBudget* budget);

  const std::vector<HeatMapStretch>& stretches() const { return stretches_; }
  std::uint32_t buckets() const {
    return static_cast<std::uint32_t>((units_.size() + units_a_bucket_ - 1) /
                                      units_a_bucket_);
  }
  std::uint32_t BucketOf(std::uint32_t unit) const {
    return unit / units_a_bucket_;
  }
  std::uint32_t units_a_bucket() const { return units_a_bucket_; }
  // From this unit to the end of its column.
  std::uint32_t UnitsLeft(std::uint32_t unit) const {
    return units_a_bucket_ - unit % units_a_bucket_;
  }
  // From this unit to the end of the grid.
  std::uint32_t UnitsFrom(std::uint32_t unit) const {
    const auto all = static_cast<std::uint32_t>(units_.size());
    return unit < all ? all - unit : 0;
  }
  // Skipped steps, which are in no unit.
  std::vector<v1::GapInfo>& gaps() { return gaps_; }
  // Fills what tells of the columns.
  void Describe(v1::GetHeatMapResponse* response) const;

 private:
  struct Unit {
    std::int64_t first_step = 0;
    std::int64_t last_step = 0;
    std::int64_t first_time_unix_ns = 0;
    std::uint32_t recorded = 0;
  };

  HeatMapGrid(std::uint32_t rank, bool rolled) : rank_(rank), rolled_(rolled) {}

  HeatMapStretch* AddStretch(const Segment& segment, const StepWindow& steps,
                             bool rolled);
  absl::Status AddRolled(Store* store, const Segment& segment,
                         const RolledSpan& span, ReadBudget* budget);
  absl::Status AddSteps(Store* store, const Segment& segment,
                        const StepWindow& window, ReadBudget* budget);
  void AddStep(const StoredStep& step, bool begins_unit);

  std::uint32_t rank_;
  bool rolled_;
  std::uint32_t units_a_bucket_ = 1;
  std::vector<HeatMapStretch> stretches_;
  std::vector<Unit> units_;
  std::vector<v1::GapInfo> gaps_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_HEAT_MAP_GRID_H_
