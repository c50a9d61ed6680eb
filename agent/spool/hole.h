// What is told of records that nobody has any more: a gap with their steps, and
// that the loop went back among them, as far as the records around them tell.
//
// Layer: agent/spool. This file: std, core. Pure.

#ifndef GRADTAP_AGENT_SPOOL_HOLE_H_
#define GRADTAP_AGENT_SPOOL_HOLE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/entry.h"
#include "core/step_data.h"

namespace gradtap::agent {

// Where the loop stood at a record.
struct LoopPlace {
  std::uint32_t branch = 0;
  std::int64_t step = 0;
  std::uint32_t parts = 0;  // Records that a step takes; 0: not known.
  // It went back to `step`, after it had come at least as far.
  bool went_back = false;
};

// Which step was the first that a record and those behind it have whole, and
// which the last that it and those before it have. None: it tells of no step.
std::optional<LoopPlace> FirstPlace(const EntryMeta& meta);
std::optional<LoopPlace> LastPlace(const EntryMeta& meta);

// Records in a row that are missing.
struct Hole {
  std::uint64_t records = 0;  // Of them, those that may be steps or rollbacks.
  // It begins with the stream's first record: all rollbacks before `next` are
  // in it.
  bool from_start = false;
  std::optional<LoopPlace> before;  // None: not known.
  LoopPlace next;                   // What is behind it.
  std::string_view detail;          // Of its gaps.
};

struct HoleRecord {
  EntryMeta meta;
  std::string bytes;  // Empty: a record of no kind, of which nothing is told.
};

// What stands in it, `behind` records before its last. From its end on:
// - A gap (kIoError) of the steps before `next`. If `before` is of the same
//   branch, all between the two, else as many as there are records: the loop
//   may have gone back that far, and what it replaced is not to be taken for
//   its newest. Where records stand for several steps (gaps between those that
//   are recorded) it may have gone back further, and some of that is.
// - The rollbacks to the branch of `next`, from that of `before`, or, if that
//   is not known, from the beginning: a collector passes over those that it
//   has. They name the first step of that gap, and leave it a record; of one
//   record alone, where `before` is not known, nobody can tell which it was,
//   and it is the rollback: without that all behind it would be refused.
// - A gap behind `before`, of the steps that are left over. Where that is not
//   known these are not told.
HoleRecord RecordOfHole(const Hole& hole, std::uint64_t behind);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SPOOL_HOLE_H_
