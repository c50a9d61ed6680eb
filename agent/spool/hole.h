// What is told of records that nobody has any more: a gap with their steps, as
// far as the records around them tell.
//
// Layer: agent/spool. This file: std, core. Pure.

#ifndef GRADTAP_AGENT_SPOOL_HOLE_H_
#define GRADTAP_AGENT_SPOOL_HOLE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "agent/entry.h"
#include "core/step_data.h"

namespace gradtap::agent {

// Where the loop stood at a record.
struct LoopPlace {
  std::uint32_t branch = 0;
  std::int64_t step = 0;
  std::uint32_t parts = 1;  // Records that the step took.
};

// Where it stood when the record began, and when it ended. None: it tells of no
// step.
std::optional<LoopPlace> FirstPlace(const EntryMeta& meta);
std::optional<LoopPlace> LastPlace(const EntryMeta& meta);

// The gap (kIoError) of a hole of `records` records that may be steps, with
// `next` behind it. With `before`, all steps between the two; none if they are
// of different branches. Without, as many steps before `next` as there are
// records. None: no step is missing.
std::optional<GapData> GapOfHole(const std::optional<LoopPlace>& before,
                                 const LoopPlace& next, std::uint64_t records,
                                 std::string detail);

// A record of no kind, of which nothing is told; with a gap, that.
EntryMeta MetaOfHole(const std::optional<GapData>& gap, std::uint32_t branch);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SPOOL_HOLE_H_
