// What a sealed window says of its steps apart from statistics: which they are,
// when, and which of them were recorded.
//
//   timeline   := version:u8 schema-id:u32 rows:u32 recorded:u32 fields*
//                 steps times ordinals intervals causes roles details names
//   version    := 1
//   fields     := u16, the FieldSet of tiles that a role has (tile_key.h); for
//                 roles 0 to 5
//   steps ... roles := column            (linear_column.h), of `rows` values
//   details    := count:varint (row:varint text)*      rows rising, for people
//   names      := count:varint text*                   of the window's scalars
//
// Of a row: its step; wall time; ordinal; interval in force; GapCause, zero if
// it was not skipped; and the set of roles whose columns it has, bit r for role
// r, zero if it has no statistics. The window's tiles have a place in time for
// each row that has statistics, in order: those are `recorded`.
//
// Layer: server/store/window. Any thread may read a view of its own.

#ifndef GRADTAP_SERVER_STORE_WINDOW_TIMELINE_H_
#define GRADTAP_SERVER_STORE_WINDOW_TIMELINE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/record.h"
#include "core/step_data.h"
#include "server/store/window/linear_column.h"
#include "server/store/window/tile_key.h"

namespace gradtap::server {

// The window is full with this many recorded rows (WindowStepsOf()), or this
// many of any kind.
inline constexpr std::uint32_t kMaxWindowRows = 4096;

using RoleSet = std::uint8_t;
inline RoleSet BitOf(Role role) {
  return static_cast<RoleSet>(1u << static_cast<unsigned>(role));
}

// One row's part.
struct TimelineRow {
  std::int64_t step = 0;
  std::int64_t wall_time_unix_ns = 0;
  std::uint64_t ordinal = 0;
  std::uint32_t interval_steps = 0;
  GapCause skipped = GapCause::kUnspecified;
  RoleSet roles = 0;
  std::string_view detail;
};

// `rows` are in rising order of step, at least one, at most kMaxWindowRows.
std::string EncodeTimeline(std::uint32_t schema_id, const RoleFields& fields,
                           const std::vector<TimelineRow>& rows,
                           const std::vector<std::string_view>& scalars);

class TimelineView {
 public:
  // Views `bytes`, which must outlive it. kDataLoss if they are not a
  // timeline's. Costs next to nothing if all rows are recorded and none has a
  // detail.
  static absl::StatusOr<TimelineView> Parse(std::string_view bytes);

  std::uint32_t schema_id() const { return schema_id_; }
  std::uint32_t rows() const {
    return static_cast<std::uint32_t>(steps_.size());
  }
  std::uint32_t recorded() const { return recorded_; }
  FieldSet fields(Role role) const {
    return fields_[static_cast<std::size_t>(role)];
  }

  // Of the window's scalars.
  std::vector<std::string_view> ScalarNames() const;

  // `row` is below rows(). O(1).
  std::int64_t step(std::uint32_t row) const { return steps_[row]; }
  std::int64_t time(std::uint32_t row) const { return times_[row]; }
  std::uint64_t ordinal(std::uint32_t row) const {
    return static_cast<std::uint64_t>(ordinals_[row]);
  }
  std::uint32_t interval(std::uint32_t row) const {
    return static_cast<std::uint32_t>(intervals_[row]);
  }
  GapCause skipped(std::uint32_t row) const {
    return static_cast<GapCause>(causes_[row]);
  }
  RoleSet roles(std::uint32_t row) const {
    return static_cast<RoleSet>(roles_[row]);
  }
  // Looks through all details.
  std::string_view detail(std::uint32_t row) const;

  // The first row of a step at or above `step`; rows() if there is none.
  std::uint32_t LowerBound(std::int64_t step) const;
  // A row's place in the tiles; it has statistics.
  std::uint32_t RecordedBefore(std::uint32_t row) const;
  // The row that stands at a place of the tiles, which is below recorded().
  std::uint32_t RowOfRecorded(std::uint32_t place) const;

 private:
  bool all_recorded() const { return recorded_ == rows(); }

  std::uint32_t schema_id_ = 0;
  std::uint32_t recorded_ = 0;
  RoleFields fields_{};
  LinearColumn steps_, times_, ordinals_, intervals_, causes_, roles_;
  std::string_view details_;  // Count and elements.
  std::string_view names_;
  std::vector<std::uint32_t> row_of_;  // By place; empty if all are recorded.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_TIMELINE_H_
