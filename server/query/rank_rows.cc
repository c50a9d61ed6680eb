#include "server/query/rank_rows.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "server/query/row_find.h"

namespace gradtap::server {
namespace {

// Something of which each rank has its own part.
bool HasParts(const SchemaIndex& index) {
  return std::any_of(
      index.places().begin(), index.places().end(), [](const Places& places) {
        return places.sharded || places.at(Role::kGradLocal) >= 0;
      });
}

// Lines of the ranks that have reached the newest attempt that recorded
// anything: the others are over.
std::vector<Line> LiveLines(const RunView& run, std::uint32_t attempt) {
  std::vector<Line> lines;
  std::uint32_t newest = 0;
  for (const std::uint32_t rank : run.Ranks(attempt)) {
    Line line = run.LineOf(rank, attempt);
    if (line.segments.empty()) continue;
    newest = std::max(newest, line.segments.back().attempt);
    lines.push_back(std::move(line));
  }
  std::erase_if(lines, [newest](const Line& line) {
    return line.segments.back().attempt != newest;
  });
  return lines;
}

std::vector<Line> AllLines(const RunView& run, std::uint32_t attempt) {
  std::vector<Line> lines;
  for (const std::uint32_t rank : run.Ranks(attempt)) {
    lines.push_back(run.LineOf(rank, attempt));
  }
  return lines;
}

absl::StatusOr<Row> FindOne(Store* store, const RunView& run, const Line& line,
                            const StepQuestion& question,
                            const StepWindow& window, ReadBudget* budget) {
  if (question.histograms) {
    return FindHistogramRow(store, run, line, question.step, window, budget);
  }
  return FindRow(store, run, line, question.step, window, IsRecorded, budget);
}

absl::StatusOr<bool> RunHasParts(const RunView& run, std::uint32_t rank,
                                 std::uint32_t attempt, SchemaCache* schemas) {
  const SchemaSource source = NewestSchema(run, rank, attempt);
  if (source.stream == nullptr) return false;
  absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
      schemas->Get(source.stream->id, source.stream->schema_id);
  if (!index.ok()) return index.status();
  return HasParts(**index);
}

// The row of the lowest rank that has the step asked for.
absl::StatusOr<Row> FindLead(Store* store, const RunView& run,
                             const std::vector<Line>& live,
                             const StepQuestion& question, SchemaCache* schemas,
                             ReadBudget* budget) {
  StepWindow window;
  if (question.step.value_or(-1) < 0) {
    absl::StatusOr<bool> parts =
        RunHasParts(run, live.front().rank, question.attempt, schemas);
    if (!parts.ok()) return parts.status();
    *parts |= question.all_ranks;
    for (const Line& line : live) {
      if (!*parts) break;
      absl::StatusOr<std::optional<Row>> newest =
          NewestRecorded(store, line, StepWindow{}, budget);
      if (!newest.ok()) return newest.status();
      if (newest->has_value()) {
        window.end = std::min(window.end, (*newest)->step + 1);
      }
    }
    return FindOne(store, run, live.front(), question, window, budget);
  }
  absl::StatusOr<Row> row = absl::NotFoundError("");
  for (const Line& line : AllLines(run, question.attempt)) {
    row = FindOne(store, run, line, question, window, budget);
    if (row.ok() || !absl::IsNotFound(row.status())) return row;
  }
  return row;
}

absl::Status AddRow(std::uint32_t rank, Row row, SchemaCache* schemas,
                    RankRows* found) {
  absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
      schemas->Get(row.segment.stream->id, row.stored->schema_id());
  if (!index.ok()) return index.status();
  found->rows.push_back(
      {rank, row.segment, std::move(row.stored), *std::move(index), nullptr});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RankRows> FindMergedRows(Store* store, const RunView& run,
                                        const StepQuestion& question,
                                        SchemaCache* schemas,
                                        ReadBudget* budget) {
  const std::vector<Line> live = LiveLines(run, question.attempt);
  if (live.empty()) return NothingRecorded(run);
  absl::StatusOr<Row> lead =
      FindLead(store, run, live, question, schemas, budget);
  if (!lead.ok()) return lead.status();
  RankRows found;
  found.lead = *std::move(lead);
  const std::int64_t step = found.lead.step;
  const std::vector<Line> lines = AllLines(run, question.attempt);
  for (const Line& line : lines) {
    absl::StatusOr<std::optional<Row>> row =
        NewestRecorded(store, line, StepWindow{step, step + 1}, budget);
    if (!row.ok()) return row.status();
    if (!row->has_value()) continue;
    absl::Status status = AddRow(line.rank, **std::move(row), schemas, &found);
    if (!status.ok()) return status;
  }
  return found;
}

absl::StatusOr<RankRows> FindRankRow(Store* store, const RunView& run,
                                     std::uint32_t rank,
                                     const StepQuestion& question,
                                     SchemaCache* schemas, ReadBudget* budget) {
  const Line line = run.LineOf(rank, question.attempt);
  absl::StatusOr<Row> row =
      FindOne(store, run, line, question, StepWindow{}, budget);
  if (!row.ok()) return row.status();
  RankRows found;
  found.lead = *row;
  absl::Status status = AddRow(rank, *std::move(row), schemas, &found);
  if (!status.ok()) return status;
  return found;
}

absl::Status ReadHistograms(Store* store, const std::vector<BlockSet>& blocks,
                            RankRows* rows, ReadBudget* budget) {
  for (std::size_t i = 0; i < rows->rows.size(); ++i) {
    RankRow& row = rows->rows[i];
    if (blocks[i].empty()) continue;
    const absl::StatusOr<bool> has =
        HistogramSteps(store).Has(row.segment, *row.step);
    if (!has.ok()) return has.status();
    if (!*has) continue;
    absl::StatusOr<StepHistograms> read =
        StepHistograms::Read(store, row.segment, *row.step, blocks[i], budget);
    if (!read.ok()) return read.status();
    row.histograms = std::make_shared<const StepHistograms>(*std::move(read));
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
