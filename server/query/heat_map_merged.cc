#include "server/query/heat_map_merged.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "server/limits/answer_room.h"
#include "server/query/gaps.h"
#include "server/query/heat_map_cells.h"
#include "server/query/merge.h"
#include "server/query/parameter_group.h"
#include "server/query/row_reader.h"
#include "server/query/selection.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kMinGaps = 1'000;
// Of rows of all ranks that are held at a time, and the least of one.
constexpr std::size_t kBlockBytes = std::size_t{16} << 20;
constexpr std::size_t kMinBlockBytes = std::size_t{64} << 10;

// The rows of a line's ranks, step by step.
class MergedRows {
 public:
  MergedRows(Store* store, const std::vector<Line>& lines,
             const StepWindow& window, ReadBudget* budget)
      : lines_(lines) {
    const std::size_t block = std::max(
        kMinBlockBytes, kBlockBytes / std::max<std::size_t>(1, lines.size()));
    for (const Line& line : lines) {
      readers_.push_back(
          std::make_unique<RowReader>(store, line, window, block, budget));
    }
  }

  // Those of the next step, by rank; none: the end.
  absl::Status Next(std::vector<RankRow>* rows) {
    rows->clear();
    std::int64_t step = std::numeric_limits<std::int64_t>::max();
    for (const auto& reader : readers_) {
      const absl::StatusOr<const Row*> row = reader->Peek();
      if (!row.ok()) return row.status();
      if (*row != nullptr) step = std::min(step, (*row)->step);
    }
    for (std::size_t i = 0; i < readers_.size(); ++i) {
      const absl::StatusOr<const Row*> row = readers_[i]->Peek();
      if (!row.ok()) return row.status();
      if (*row == nullptr || (*row)->step != step) continue;
      rows->push_back(
          {lines_[i].rank, (*row)->segment, (*row)->stored, nullptr, nullptr});
      absl::Status status = readers_[i]->Pop();
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<Line>& lines_;
  std::vector<std::unique_ptr<RowReader>> readers_;
};

bool HasColumns(const std::vector<RankRow>& rows) {
  return std::any_of(rows.begin(), rows.end(), [](const RankRow& row) {
    return row.step->has_columns();
  });
}

class MergedHeatMap {
 public:
  MergedHeatMap(const QueryEnvironment& environment,
                const v1::GetHeatMapRequest& request,
                const HeatMapQuestion& question, const Cancelled& cancelled,
                v1::GetHeatMapResponse* response)
      : environment_(environment),
        request_(request),
        question_(question),
        cancelled_(cancelled),
        schemas_(environment.store),
        nonfinite_(*question.statistic),
        response_(response) {
    nonfinite_.field = Field::kNonfinite;
    selection_.records.push_back(*question.statistic);
  }

  absl::Status Run() {
    std::int64_t last_step = -1;
    for (const std::uint32_t rank : question_.run->Ranks(request_.attempt())) {
      lines_.push_back(question_.run->LineOf(rank, request_.attempt()));
      last_step = std::max(last_step, lines_.back().last_step());
    }
    // One end for all ranks: that of the rank that has come furthest.
    window_ = ResolveSteps(request_.steps(), last_step);
    response_->set_rank(kMergedRank);
    absl::Status status = FindBuckets();
    if (status.ok()) status = AddRows();
    if (status.ok()) status = Fill();
    if (status.ok()) status = AddGaps();
    for (const auto& cells : cells_) cells->Finish();
    return status;
  }

 private:
  struct Plan {
    MergePlan merge;
    std::vector<PlannedSeries> series;
    std::vector<HeatMapCells*> cells;  // One for each.
  };
  using PlanKey = std::vector<std::pair<StreamId, std::uint32_t>>;

  ReadBudget NewBudget() const {
    return {environment_.limits.max_read_bytes, cancelled_};
  }

  absl::Status FindBuckets() {
    ReadBudget budget = NewBudget();
    std::vector<StepAndTime> steps;
    MergedRows reader(environment_.store, lines_, window_, &budget);
    std::vector<RankRow> rows;
    for (;;) {
      absl::Status status = reader.Next(&rows);
      if (!status.ok()) return status;
      if (rows.empty()) break;
      for (const RankRow& row : rows) NoteSkipped(row);
      if (!HasColumns(rows)) continue;
      const StoredStep& first = *rows.front().step;
      steps.push_back({first.step(), first.wall_time_unix_ns()});
      response_->set_attempt(
          std::max(response_->attempt(), rows.front().segment.attempt));
    }
    const std::size_t n = std::max<std::size_t>(1, steps.size());
    bucket_steps_ = (n + question_.max_buckets - 1) / question_.max_buckets;
    response_->set_bucket_steps(static_cast<std::uint32_t>(bucket_steps_));
    for (std::size_t i = 0; i < steps.size(); i += bucket_steps_) {
      const std::size_t end = std::min(steps.size(), i + bucket_steps_);
      v1::HeatMapBucket* bucket = response_->add_buckets();
      bucket->set_first_step(steps[i].step);
      bucket->set_last_step(steps[end - 1].step);
      bucket->set_first_time_unix_ns(steps[i].time_unix_ns);
      bucket->set_recorded(static_cast<std::uint32_t>(end - i));
    }
    return absl::OkStatus();
  }

  void NoteSkipped(const RankRow& row) {
    if (row.step->skipped() == GapCause::kUnspecified) return;
    gaps_.push_back(MakeGap(row.segment.attempt, row.rank, row.segment.branch,
                            GapOfSkippedRow(*row.step)));
  }

  // In the schema's order: of the first step, parts of some may be missing.
  absl::Status AddRows() {
    if (response_->buckets().empty()) return absl::OkStatus();
    for (const Line& line : lines_) {
      const SchemaSource source =
          NewestSchema(*question_.run, line.rank, request_.attempt());
      if (source.stream == nullptr) continue;
      const auto index =
          schemas_.Get(source.stream->id, source.stream->schema_id);
      if (!index.ok()) return index.status();
      const std::vector<Parameter>& parameters = (*index)->schema().parameters;
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        if (!HasStatistic((*index)->places()[i], *question_.statistic))
          continue;
        if (!question_.match->Matches(parameters[i].name)) continue;
        const auto cells = CellsOf(parameters[i]);
        if (!cells.ok()) return cells.status();
      }
    }
    return absl::OkStatus();
  }

  absl::Status Fill() {
    ReadBudget budget = NewBudget();
    MergedRows reader(environment_.store, lines_, window_, &budget);
    std::vector<RankRow> rows;
    const auto buckets = static_cast<std::size_t>(response_->buckets_size());
    // What has come since the buckets were found is in none.
    for (std::size_t at = 0; at < buckets * bucket_steps_;) {
      absl::Status status = reader.Next(&rows);
      if (!status.ok()) return status;
      if (rows.empty()) break;
      if (!HasColumns(rows)) continue;
      const std::size_t bucket = at++ / bucket_steps_;
      if (rows.front().step->step() > response_->buckets(bucket).last_step()) {
        break;
      }
      status = FillStep(static_cast<std::uint32_t>(bucket), &rows);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status FillStep(std::uint32_t bucket, std::vector<RankRow>* rows) {
    const std::uint32_t attempt = rows->front().segment.attempt;
    std::erase_if(*rows,
                  [](const RankRow& row) { return !row.step->has_columns(); });
    const absl::StatusOr<const Plan*> plan = PlanOf(attempt, rows);
    if (!plan.ok()) return plan.status();
    const bool may_have_nonfinite =
        std::any_of(rows->begin(), rows->end(), [this](const RankRow& row) {
          return row.step->MayHaveNonfinite(question_.statistic->role);
        });
    for (std::size_t i = 0; i < (*plan)->series.size(); ++i) {
      const PlannedSeries& series = (*plan)->series[i];
      const std::optional<Value> value =
          EvaluateGroup(*series.statistic, series, *rows);
      if (!value.has_value()) continue;
      std::optional<Value> elements;
      if (may_have_nonfinite && !value->absent) {
        elements = EvaluateGroup(nonfinite_, series, *rows);
      }
      (*plan)->cells[i]->Add(bucket, *value,
                             elements.has_value() && elements->value > 0);
    }
    for (const RankRow& row : *rows) {
      if (!row.step->status().ok()) return row.step->status();
    }
    return absl::OkStatus();
  }

  absl::StatusOr<const Plan*> PlanOf(std::uint32_t attempt,
                                     std::vector<RankRow>* rows) {
    PlanKey key;
    for (RankRow& row : *rows) {
      const StreamId stream = row.segment.stream->id;
      key.emplace_back(stream, row.step->schema_id());
      auto index = schemas_.Get(stream, row.step->schema_id());
      if (!index.ok()) return index.status();
      row.index = *std::move(index);
    }
    const auto [it, is_new] = plans_.try_emplace(std::move(key));
    Plan& plan = it->second;
    if (!is_new) return &plan;
    absl::StatusOr<MergePlan> merge = PlanMerge(
        *question_.run, attempt, {}, *rows, *question_.match, &schemas_);
    if (!merge.ok()) return merge.status();
    plan.merge = *std::move(merge);
    plan.series = PlanSeries({}, selection_, plan.merge, *question_.match);
    for (const PlannedSeries& series : plan.series) {
      const absl::StatusOr<HeatMapCells*> cells =
          CellsOf(*series.members.front()->parameter);
      if (!cells.ok()) return cells.status();
      plan.cells.push_back(*cells);
    }
    return &plan;
  }

  absl::StatusOr<HeatMapCells*> CellsOf(const Parameter& parameter) {
    HeatMapCells*& cells = by_name_[parameter.name];
    if (cells != nullptr) return cells;
    const auto buckets = static_cast<std::uint32_t>(response_->buckets_size());
    const std::uint64_t all = (cells_.size() + std::uint64_t{1}) * buckets;
    if (all > environment_.limits.max_cells) {
      return TooManyCells(cells_.size(), buckets,
                          environment_.limits.max_cells);
    }
    absl::Status room = work_.Reach(all * kCellBytes);
    if (!room.ok()) return room;
    v1::HeatMapRow* row = response_->add_rows();
    row->set_parameter(parameter.name);
    row->set_kind(static_cast<v1::Kind>(parameter.kind));
    cells_.push_back(std::make_unique<HeatMapCells>(
        WorstOf(question_.statistic->field), buckets, row));
    cells = cells_.back().get();
    return cells;
  }

  absl::Status AddGaps() {
    for (const Line& line : lines_) {
      absl::Status status =
          AddStoredGaps(environment_.store, line, window_, &gaps_);
      if (!status.ok()) return status;
    }
    SortAndJoin(&gaps_);
    Coalesce(std::max<std::size_t>(kMinGaps, question_.max_buckets), &gaps_);
    for (v1::GapInfo& gap : gaps_) *response_->add_gaps() = std::move(gap);
    return absl::OkStatus();
  }

  const QueryEnvironment& environment_;
  const v1::GetHeatMapRequest& request_;
  const HeatMapQuestion& question_;
  const Cancelled& cancelled_;
  SchemaCache schemas_;
  StatisticSelection selection_;
  Statistic nonfinite_;  // The elements of the same role.
  v1::GetHeatMapResponse* const response_;

  std::vector<Line> lines_;  // By rank.
  StepWindow window_;
  std::size_t bucket_steps_ = 1;
  std::map<PlanKey, Plan> plans_;
  // By name; in the order of the answer's rows.
  absl::flat_hash_map<std::string, HeatMapCells*> by_name_;
  std::vector<std::unique_ptr<HeatMapCells>> cells_;
  AnswerWork work_;
  std::vector<v1::GapInfo> gaps_;
};

}  // namespace

absl::Status TooManyCells(std::size_t parameters, std::uint32_t buckets,
                          std::uint64_t most) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "the heat map has more than ", parameters, " parameters in ", buckets,
      " columns; the limit of one query is ", most,
      " cells; ask for fewer parameters (--match) or columns (--points)"));
}

absl::Status GetMergedHeatMap(const QueryEnvironment& environment,
                              const v1::GetHeatMapRequest& request,
                              const HeatMapQuestion& question,
                              const Cancelled& cancelled,
                              v1::GetHeatMapResponse* response) {
  return MergedHeatMap(environment, request, question, cancelled, response)
      .Run();
}

}  // namespace gradtap::server
