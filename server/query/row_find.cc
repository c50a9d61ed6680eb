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

// "ring_full" for GAP_CAUSE_RING_FULL.
std::string CauseName(int cause) {
  std::string name = v1::GapCause_Name(static_cast<v1::GapCause>(cause));
  constexpr std::string_view kPrefix = "GAP_CAUSE_";
  if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return name.empty() ? "unknown" : name;
}

// Where the store has the step, skipped or in a gap: the cause of its absence.
absl::StatusOr<std::string> WhyMissing(Store* store, const Line& line,
                                       std::int64_t step, ReadBudget* budget) {
  std::string why;
  // The largest step has no place in a half-open window, and no row.
  const std::int64_t end = step == StepWindow{}.end ? step : step + 1;
  absl::Status status =
      ScanBackward(store, line, {step, end}, budget, [&](const Row& row) {
        const absl::StatusOr<StepView> view = StepView::Parse(row.body);
        if (view.ok() && view->skipped() != GapCause::kUnspecified) {
          why = "skipped: " + CauseName(static_cast<int>(view->skipped()));
        }
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
        why = (IsLost(row.gap.cause) ? "lost: " : "skipped: ") +
              CauseName(static_cast<int>(row.gap.cause));
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
    const absl::StatusOr<StepView> view = StepView::Parse(row.body);
    if (!view.ok() || !test(*view)) return false;
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
  RowReader reader(store, line, {step + 1, StepWindow{}.end}, 1, budget);
  for (; looked < kMaxNeighbourRows; ++looked, reader.Pop()) {
    absl::StatusOr<const Row*> row = reader.Peek();
    if (!row.ok()) return row.status();
    if (*row == nullptr || passes(**row)) break;
  }
  return text;
}

absl::Status NoSuchStep(Store* store, const RunView& run, const Line& line,
                        std::int64_t step, RowTest test, ReadBudget* budget) {
  absl::StatusOr<std::string> why = WhyMissing(store, line, step, budget);
  if (!why.ok()) return why.status();
  absl::StatusOr<std::string> near =
      Neighbours(store, line, step, test, budget);
  if (!near.ok()) return near.status();
  std::string message = "run " + Quote(run.name()) + ", rank " +
                        std::to_string(line.rank) + " has no " +
                        (test == HasHistograms ? "histograms at " : "") +
                        "step " + std::to_string(step);
  if (!why->empty()) message += " (" + *why + ")";
  if (!near->empty()) message += "; the nearest known: " + *near;
  return absl::NotFoundError(message);
}

}  // namespace

bool IsRecorded(const StepView& step) {
  return step.skipped() == GapCause::kUnspecified;
}

bool HasHistograms(const StepView& step) { return step.has_histograms(); }

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
  absl::Status parsed;
  absl::Status status =
      ScanBackward(store, line, within, budget, [&](const Row& row) {
        absl::StatusOr<StepView> view = StepView::Parse(row.body);
        parsed = view.status();
        if (!parsed.ok()) return false;
        if (!test(*view) || --passed > from_end) return true;
        found = row;
        return false;
      });
  if (!status.ok()) return status;
  if (!parsed.ok()) return parsed;
  if (found.has_value()) return *std::move(found);
  if (exact) return NoSuchStep(store, run, line, *step, test, budget);
  if (passed < 0) {
    return absl::NotFoundError("run " + Quote(run.name()) + " has only " +
                               std::to_string(-passed) + " such steps; step " +
                               std::to_string(*step) +
                               " counts further back than that");
  }
  if (test == HasHistograms) {
    return absl::NotFoundError("run " + Quote(run.name()) + ", rank " +
                               std::to_string(line.rank) +
                               " has no histograms");
  }
  return NothingRecorded(run);
}

absl::StatusOr<std::optional<Row>> NewestRecorded(Store* store,
                                                  const Line& line,
                                                  const StepWindow& window,
                                                  ReadBudget* budget) {
  std::optional<Row> found;
  absl::Status parsed;
  absl::Status status =
      ScanBackward(store, line, window, budget, [&](const Row& row) {
        absl::StatusOr<StepView> view = StepView::Parse(row.body);
        parsed = view.status();
        if (!parsed.ok()) return false;
        if (!IsRecorded(*view)) return true;
        found = row;
        return false;
      });
  if (!status.ok()) return status;
  if (!parsed.ok()) return parsed;
  return found;
}

ParameterAtPlace::ParameterAtPlace(const SchemaIndex& index) {
  for (const Parameter& parameter : index.schema().parameters) {
    for (int role = 1; role < kRoleCount; ++role) {
      if (parameter.HasRole(static_cast<Role>(role))) {
        by_role_[role].push_back(&parameter);
      }
    }
  }
}

const Parameter* ParameterAtPlace::Find(Role role, std::uint32_t place) const {
  const auto& parameters = by_role_[static_cast<std::size_t>(role)];
  return place < parameters.size() ? parameters[place] : nullptr;
}

}  // namespace gradtap::server
