// A record at hand, in the ring or in the spool: its seq, what it is, its
// bytes.
//
// Layer: agent. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_ENTRY_H_
#define GRADTAP_AGENT_ENTRY_H_

#include <cstdint>
#include <string_view>

#include "core/step_data.h"

namespace gradtap::agent {

enum class EntryKind : std::uint8_t {
  kSchema = 1,
  kStep = 2,
  kGap = 3,
  kRollback = 4,
  kEnd = 5,
};

// What delivery needs to know of a record without decoding it.
struct EntryMeta {
  EntryKind kind = EntryKind::kStep;
  GapCause cause = GapCause::kUnspecified;  // kGap.
  // Steps with statistics in this entry: 1 in the last (or only) part of a
  // step that was recorded, else 0.
  std::uint32_t recorded_steps = 0;
  // Of the record; 0 and 1 if it is whole.
  std::uint32_t part_index = 0;
  std::uint32_t part_count = 1;
  std::uint32_t branch = 0;
  std::int64_t step = 0;       // kStep, kRollback; first step of kGap.
  std::int64_t last_step = 0;  // kGap.
  std::uint64_t steps = 0;     // kGap.
};

// One entry as the consumer sees it; `bytes` stands as long as the one who
// gives it says.
struct EntryView {
  std::uint64_t seq = 0;
  EntryMeta meta;
  std::string_view bytes;
  bool rejected = false;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_ENTRY_H_
