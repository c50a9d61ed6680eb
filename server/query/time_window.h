// Which steps of a line can have been within certain times, without reading
// their rows: by the timelines of what is sealed.
//
// Layer: server/query. This file: std, absl, store; no grpc. Pure but for what
// it reads.

#ifndef GRADTAP_SERVER_QUERY_TIME_WINDOW_H_
#define GRADTAP_SERVER_QUERY_TIME_WINDOW_H_

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/status/statusor.h"
#include "server/query/line.h"
#include "server/query/row_reader.h"
#include "server/store/store.h"

namespace gradtap::server {

// [since, until).
struct TimeWindow {
  std::int64_t since_unix_ns = 0;
  std::int64_t until_unix_ns = std::numeric_limits<std::int64_t>::max();

  bool Contains(std::int64_t time_unix_ns) const {
    return since_unix_ns <= time_unix_ns && time_unix_ns < until_unix_ns;
  }
  bool open() const {
    return since_unix_ns == 0 &&
           until_unix_ns == std::numeric_limits<std::int64_t>::max();
  }
};

// A piece of a segment, cut to steps that may be in time, and a stretch of
// those that all are; it may be empty.
struct TimedSegment {
  Segment segment;
  StepWindow all;
};

// The line's pieces within `steps` and `times`, in order. Whole windows of
// steps that were at other times are in none; clocks may have been set back.
absl::StatusOr<std::vector<TimedSegment>> SegmentsInTime(
    Store* store, const Line& line, const StepWindow& steps,
    const TimeWindow& times, ReadBudget* budget);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_TIME_WINDOW_H_
