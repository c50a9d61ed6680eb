#include "server/query/time_window.h"

#include <algorithm>

#include "server/store/stored_step.h"

namespace gradtap::server {
namespace {

struct Span {
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  std::int64_t most = std::numeric_limits<std::int64_t>::min();
};

Span TimesOf(const TimelineView& window) {
  Span span;
  for (std::uint32_t row = 0; row < window.rows(); ++row) {
    span.least = std::min(span.least, window.time(row));
    span.most = std::max(span.most, window.time(row));
  }
  return span;
}

// Windows one after the other.
class Looker {
 public:
  explicit Looker(const TimeWindow& times) : times_(times) {}

  void Look(std::int64_t first_step, const TimelineView& window) {
    const std::int64_t end = window.step(window.rows() - 1) + 1;
    const Span span = TimesOf(window);
    const bool inside =
        times_.Contains(span.least) && times_.Contains(span.most);
    if (inside && !all_ended_) {
      if (all_.begin >= all_.end) all_.begin = first_step;
      all_.end = end;
    } else if (all_.begin < all_.end) {
      all_ended_ = true;
    }
    if (span.most < times_.since_unix_ns ||
        span.least >= times_.until_unix_ns) {
      return;
    }
    if (some_.begin >= some_.end) some_.begin = first_step;
    some_.end = end;
  }

  const StepWindow& some() const { return some_; }
  const StepWindow& all() const { return all_; }

 private:
  const TimeWindow times_;
  StepWindow some_{0, 0};
  StepWindow all_{0, 0};  // The first stretch.
  bool all_ended_ = false;
};

void Add(const Segment& segment, const StepWindow& cut, const StepWindow& all,
         std::vector<TimedSegment>* pieces) {
  if (cut.begin >= cut.end) return;
  TimedSegment& piece = pieces->emplace_back();
  piece.segment = segment;
  piece.segment.begin = cut.begin;
  piece.segment.end = cut.end;
  piece.all = all.begin < all.end ? all : StepWindow{cut.end, cut.end};
}

}  // namespace

absl::StatusOr<std::vector<TimedSegment>> SegmentsInTime(
    Store* store, const Line& line, const StepWindow& steps,
    const TimeWindow& times, ReadBudget* budget) {
  std::vector<TimedSegment> pieces;
  for (const Segment& segment : line.segments) {
    const StepWindow within{std::max(segment.begin, steps.begin),
                            std::min(segment.end, steps.end)};
    if (within.begin >= within.end) continue;
    if (times.open()) {
      Add(segment, within, within, &pieces);
      continue;
    }
    const absl::StatusOr<RolledSpan> sealed = store->RolledUp(
        segment.stream->id, segment.branch, within.begin, within.end);
    if (!sealed.ok()) return sealed.status();
    if (sealed->begin >= sealed->end) {
      Add(segment, within, {0, 0}, &pieces);
      continue;
    }
    Looker looker(times);
    absl::Status charged;
    const absl::Status s = store->ScanTimelines(
        segment.stream->id, segment.branch, sealed->begin, sealed->end,
        [&](std::int64_t first_step, const TimelineView& window) {
          charged = budget->Charge(0);
          looker.Look(first_step, window);
          return charged.ok();
        });
    if (!s.ok()) return s;
    if (!charged.ok()) return charged;
    Add(segment, {within.begin, sealed->begin}, {0, 0}, &pieces);
    Add(segment, looker.some(), looker.all(), &pieces);
    Add(segment, {sealed->end, within.end}, {0, 0}, &pieces);
  }
  return pieces;
}

}  // namespace gradtap::server
