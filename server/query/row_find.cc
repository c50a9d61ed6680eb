#include "server/query/row_find.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <utility>

#include "gradtap/v1/query.pb.h"
#include "server/query/errors.h"

namespace gradtap::server {
namespace {

// Rows that are looked at to name a neighbour of a step that is not there.
constexpr int kMaxNeighbourRows = 1'024;
// How far back steps with histograms are counted.
constexpr std::int64_t kMaxFromEnd = 1'000'000;

// "ring_full" for GAP_CAUSE_RING_FULL.
std::string CauseName(int cause) {
  std::string name = v1::GapCause_Name(static_cast<v1::GapCause>(cause));
  constexpr std::string_view kPrefix = "GAP_CAUSE_";
  if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return name.empty() ? "unknown" : name;
}

std::string WordsOf(GapCause cause) {
  if (cause == GapCause::kRolledUp) {
    return "only its roll-ups and scalars are left, to make room on the disk";
  }
  return (IsLost(cause) ? "lost: " : "skipped: ") +
         CauseName(static_cast<int>(cause));
}

// The step itself, or the first one at or above it of whose branch there is
// more than roll-ups.
std::int64_t AboveRolledUp(const Line& line, std::int64_t step) {
  for (const Segment& segment : line.segments) {
    if (step < segment.begin || step >= segment.end) continue;
    const Branch& branch = segment.stream->branches[segment.branch];
    step = std::max(step, std::min(branch.rolled_up_end, segment.end));
  }
  return step;
}

// Where the store has the step, skipped or in a gap: the cause of its absence.
absl::StatusOr<std::string> WhyMissing(Store* store, const Line& line,
                                       std::int64_t step, ReadBudget* budget) {
  std::string why;
  // The largest step has no place in a half-open window, and no row.
  const std::int64_t end = step == StepWindow{}.end ? step : step + 1;
  absl::Status status =
      ScanBackward(store, line, {step, end}, budget, [&](const Row& row) {
        const GapCause cause = row.stored->skipped();
        if (cause != GapCause::kUnspecified) why = WordsOf(cause);
        return false;
      });
  if (!status.ok()) return status;
  for (const Segment& segment : line.segments) {
    if (!why.empty()) break;
    if (step < segment.begin || step >= segment.end) continue;
    absl::StatusOr<std::vector<GapRow>> gaps =
        store->ReadGaps(segment.stream->id);
    if (!gaps.ok()) return gaps.status();
    for (const GapRow& row : *gaps) {
      if (row.branch == segment.branch && row.gap.first_step <= step &&
          step <= row.gap.last_step) {
        why = WordsOf(row.gap.cause);
      }
    }
  }
  return why;
}

// The nearest rows that pass, before and after `step`.
absl::StatusOr<std::string> Neighbours(Store* store, const Line& line,
                                       std::int64_t step, RowTest test,
                                       ReadBudget* budget) {
  std::string text;
  int looked = 0;
  const auto passes = [&](const Row& row) {
    if (!test(*row.stored)) return false;
    text += (text.empty() ? "" : " and ") + std::to_string(row.step);
    return true;
  };
  absl::Status status =
      ScanBackward(store, line, {0, step}, budget, [&](const Row& row) {
        return !passes(row) && ++looked < kMaxNeighbourRows;
      });
  if (!status.ok()) return status;
  if (step == std::numeric_limits<std::int64_t>::max()) return text;
  looked = 0;
  RowReader reader(store, line,
                   {AboveRolledUp(line, step + 1), StepWindow{}.end}, 1,
                   budget);
  for (; looked < kMaxNeighbourRows; ++looked) {
    absl::StatusOr<const Row*> row = reader.Peek();
    if (!row.ok()) return row.status();
    if (*row == nullptr || passes(**row)) break;
    if (status = reader.Pop(); !status.ok()) return status;
  }
  return text;
}

// The lowest or highest step of the line within `window` that has histograms.
absl::StatusOr<std::optional<std::int64_t>> HistogramStepOf(
    Store* store, const Line& line, const StepWindow& window, bool highest) {
  const std::size_t n = line.segments.size();
  for (std::size_t i = 0; i < n; ++i) {
    const Segment& segment = line.segments[highest ? n - 1 - i : i];
    absl::StatusOr<std::optional<std::int64_t>> found =
        store->FindHistogramStep(segment.stream->id, segment.branch,
                                 std::max(segment.begin, window.begin),
                                 std::min(segment.end, window.end), highest);
    if (!found.ok() || found->has_value()) return found;
  }
  return std::optional<std::int64_t>();
}

// `asked` negative: counted from the end.
absl::Status NoHistograms(Store* store, const RunView& run, const Line& line,
                          std::int64_t asked, ReadBudget* budget) {
  std::string message =
      "run " + Quote(run.name()) + ", rank " + std::to_string(line.rank);
  std::string near;
  if (asked >= 0) {
    message += " has no histograms at step " + std::to_string(asked);
    absl::StatusOr<std::string> why = WhyMissing(store, line, asked, budget);
    if (!why.ok()) return why.status();
    if (!why->empty()) message += " (" + *why + ")";
    const StepWindow after{asked + (asked < StepWindow{}.end ? 1 : 0),
                           StepWindow{}.end};
    for (const bool before : {true, false}) {
      absl::StatusOr<std::optional<std::int64_t>> step = HistogramStepOf(
          store, line, before ? StepWindow{0, asked} : after, before);
      if (!step.ok()) return step.status();
      if (!step->has_value()) continue;
      near += (near.empty() ? "" : " and ") + std::to_string(**step);
    }
    if (!near.empty()) {
      return absl::NotFoundError(message +
                                 "; the nearest steps that have some: " + near);
    }
  } else {
    absl::StatusOr<std::optional<std::int64_t>> step =
        HistogramStepOf(store, line, StepWindow{}, true);
    if (!step.ok()) return step.status();
    message += step->has_value() ? " has histograms at fewer steps than " +
                                       std::to_string(-(asked + 1) + 1ull)
                                 : std::string(" has no histograms");
    if (step->has_value()) return absl::NotFoundError(message);
  }
  return absl::NotFoundError(
      message +
      "; the run has none at all: they are recorded with "
      "AgentOptions::histogram_interval_steps or GRADTAP_HISTOGRAM_INTERVAL");
}

absl::Status NoSuchStep(Store* store, const RunView& run, const Line& line,
                        std::int64_t step, RowTest test, ReadBudget* budget) {
  absl::StatusOr<std::string> why = WhyMissing(store, line, step, budget);
  if (!why.ok()) return why.status();
  absl::StatusOr<std::string> near =
      Neighbours(store, line, step, test, budget);
  if (!near.ok()) return near.status();
  std::string message = "run " + Quote(run.name()) + ", rank " +
                        std::to_string(line.rank) + " has no step " +
                        std::to_string(step);
  if (!why->empty()) message += " (" + *why + ")";
  if (!near->empty()) message += "; the nearest known: " + *near;
  return absl::NotFoundError(message);
}

}  // namespace

bool IsRecorded(const StoredStep& step) {
  return step.skipped() == GapCause::kUnspecified;
}

absl::Status NothingRecorded(const RunView& run) {
  return absl::NotFoundError("run " + Quote(run.name()) +
                             " has no recorded step yet");
}

absl::StatusOr<Row> FindRow(Store* store, const RunView& run, const Line& line,
                            std::optional<std::int64_t> step,
                            const StepWindow& window, RowTest test,
                            ReadBudget* budget) {
  StepWindow within = window;
  std::int64_t from_end = step.value_or(-1);
  const bool exact = from_end >= 0;
  if (exact) {
    within.begin = *step;
    within.end = *step == StepWindow{}.end ? *step : *step + 1;
    from_end = -1;
  }
  std::optional<Row> found;
  std::int64_t passed = 0;
  absl::Status status =
      ScanBackward(store, line, within, budget, [&](const Row& row) {
        if (!test(*row.stored) || --passed > from_end) return true;
        found = row;
        return false;
      });
  if (!status.ok()) return status;
  if (found.has_value()) return *std::move(found);
  if (exact) return NoSuchStep(store, run, line, *step, test, budget);
  if (passed < 0) {
    return absl::NotFoundError("run " + Quote(run.name()) + " has only " +
                               std::to_string(-passed) + " such steps; step " +
                               std::to_string(*step) +
                               " counts further back than that");
  }
  return NothingRecorded(run);
}

absl::StatusOr<std::optional<Row>> NewestRecorded(Store* store,
                                                  const Line& line,
                                                  const StepWindow& window,
                                                  ReadBudget* budget) {
  std::optional<Row> found;
  absl::Status status =
      ScanBackward(store, line, window, budget, [&](const Row& row) {
        if (!IsRecorded(*row.stored)) return true;
        found = row;
        return false;
      });
  if (!status.ok()) return status;
  return found;
}

absl::StatusOr<Row> FindHistogramRow(Store* store, const RunView& run,
                                     const Line& line,
                                     std::optional<std::int64_t> step,
                                     const StepWindow& window,
                                     ReadBudget* budget) {
  StepWindow within = window;
  const std::int64_t asked = step.value_or(-1);
  if (asked >= 0) {
    const StepWindow one{asked, asked == StepWindow{}.end ? asked : asked + 1};
    within = one;
  }
  std::int64_t left = asked >= 0 ? 1 : -std::max(asked, -kMaxFromEnd);
  std::optional<std::int64_t> at;
  for (; left > 0; --left) {
    absl::StatusOr<std::optional<std::int64_t>> found =
        HistogramStepOf(store, line, within, /*highest=*/true);
    if (!found.ok()) return found.status();
    at = *found;
    if (!at.has_value()) break;
    within.end = *at;
  }
  if (at.has_value()) {
    return FindRow(store, run, line, *at, StepWindow{}, IsRecorded, budget);
  }
  if (asked >= 0) {
    absl::StatusOr<std::optional<Row>> row =
        NewestRecorded(store, line, within, budget);
    if (!row.ok()) return row.status();
    if (row->has_value() && (*row)->stored->has_histograms_inside()) {
      return **std::move(row);  // Format 1.
    }
  }
  return NoHistograms(store, run, line, asked, budget);
}

}  // namespace gradtap::server
