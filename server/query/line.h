// Which stored rows answer a question: attempts, run states, the canonical
// line.
//
// A newer attempt, stream or branch replaces all older ones from its first step
// on; a branch from the step that its rollback named, though nothing may have
// followed yet. A line is therefore a list of segments, each a piece of one
// branch of one stream, in rising order of step and of age alike.
//
// Layer: server/query. This file: std, store, gradtap_proto; no grpc. Pure
// functions over an immutable RunEntry, which must outlive what they return.

#ifndef GRADTAP_SERVER_QUERY_LINE_H_
#define GRADTAP_SERVER_QUERY_LINE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gradtap/v1/query.pb.h"
#include "server/store/store.h"

namespace gradtap::server {

// A run without a session and without a record for this long is LOST.
inline constexpr std::chrono::seconds kSilentLimit{60};

// True while a stream has a live session.
using Connected = std::function<bool(StreamId)>;

struct Attempt {
  // 1, 2, ... by start time. For people: it changes when an older one turns up.
  std::uint32_t label = 0;
  std::string launch;
  std::int64_t start_time_unix_ns = 0;      // The earliest of its streams.
  std::uint32_t world_size = 0;             // The largest that a stream named.
  std::vector<const StreamEntry*> streams;  // By rank, start time, id.
};

// The streams of a run by launch, oldest attempt first.
std::vector<Attempt> AttemptsOf(const RunEntry& run);

struct StateSince {
  v1::RunState state = v1::RUN_STATE_UNSPECIFIED;
  std::int64_t since_unix_ns = 0;
};

// The state of one attempt, as the table in query.proto has it. Of a rank with
// several streams the newest counts. RUNNING is since the attempt's start, LOST
// since the silence reached kSilentLimit.
StateSince StateOf(const Attempt& attempt, const Connected& connected,
                   std::int64_t now_unix_ns);

// Steps [begin, end) of one branch of one stream.
struct Segment {
  const StreamEntry* stream = nullptr;
  std::uint32_t attempt = 0;  // Label.
  std::uint32_t branch = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

struct Line {
  std::uint32_t rank = 0;
  std::vector<Segment> segments;  // In rising order of step; none is empty.

  // -1: no step.
  std::int64_t first_step() const {
    return segments.empty() ? -1 : segments.front().begin;
  }
  std::int64_t last_step() const {
    return segments.empty() ? -1 : segments.back().end - 1;
  }
};

// Ranks that have a stream, ascending.
std::vector<std::uint32_t> RanksOf(const std::vector<Attempt>& attempts);
std::vector<std::uint32_t> RanksOf(const Attempt& attempt);

// The canonical line of a rank.
Line CanonicalLine(const std::vector<Attempt>& attempts, std::uint32_t rank);

// The line of one attempt alone.
Line AttemptLine(const Attempt& attempt, std::uint32_t rank);

// The segment that holds a row, or null if a newer one has replaced it.
const Segment* FindSegment(const Line& line, StreamId stream,
                           std::uint32_t branch, std::int64_t step);

// Steps [begin, end).
struct StepWindow {
  std::int64_t begin = 0;
  std::int64_t end = std::numeric_limits<std::int64_t>::max();

  bool Contains(std::int64_t step) const { return begin <= step && step < end; }
};

// About how many rows the line has within the window: as if each branch had
// them evenly.
std::uint64_t RowsOf(const Line& line, const StepWindow& window);

// Reads a range like a Python slice over [0, last_step]: half-open, negative
// from the end, an unset side open. May be empty; never fails.
StepWindow ResolveSteps(const v1::StepRange& range, std::int64_t last_step);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_LINE_H_
