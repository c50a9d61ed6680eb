#include "server/query/heat_map_query.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "server/limits/answer_room.h"
#include "server/query/errors.h"
#include "server/query/gaps.h"
#include "server/query/heat_map_cells.h"
#include "server/query/heat_map_grid.h"
#include "server/query/heat_map_merged.h"
#include "server/query/rolled_series.h"
#include "server/query/run_view.h"
#include "server/query/selection.h"
#include "server/query/series_check.h"
#include "server/query/step_values.h"
#include "server/store/rollup/block.h"
#include "server/store/rollup/statistic.h"

namespace gradtap::server {
namespace {

// Below so many values steps are read one by one, and columns may be narrow.
constexpr std::uint64_t kExactValues = 16'000'000;
constexpr std::size_t kMinGaps = 1'000;
// Parameters that are worth a second thread, and values.
constexpr std::uint32_t kWorthAThread = 1024;
constexpr std::size_t kWorthABatchThread = 16'384;
// Of rows that wait to be gone through together; a window has less.
constexpr std::size_t kMaxBatchBytes = std::size_t{4} << 20;

absl::StatusOr<Statistic> ParseOne(const std::string& name) {
  if (name.empty()) {
    return absl::InvalidArgumentError(
        "no statistic was named; a heat map is of one, for example grad.l2");
  }
  google::protobuf::RepeatedPtrField<std::string> names;
  *names.Add() = name;
  absl::StatusOr<StatisticSelection> parsed = ParseStatistics(names);
  if (!parsed.ok()) return parsed.status();
  if (parsed->records.size() != 1 ||
      parsed->records[0].field == Field::kQuantile) {
    return absl::InvalidArgumentError(
        "a heat map is of a statistic that every step has of each parameter, "
        "for example grad.l2; not of " +
        Quote(name));
  }
  return parsed->records[0];
}

class HeatMap {
 public:
  HeatMap(const QueryEnvironment& environment,
          const v1::GetHeatMapRequest& request, const Cancelled& cancelled,
          v1::GetHeatMapResponse* response)
      : environment_(environment),
        request_(request),
        cancelled_(cancelled),
        budget_(environment.limits.max_read_bytes, cancelled),
        schemas_(environment.store),
        response_(response) {}

  absl::Status Run();

 private:
  // Where a schema's parameters go.
  struct Plan {
    std::shared_ptr<const SchemaIndex> index;
    std::vector<std::size_t> parameters;  // Those that are shown.
    std::vector<HeatMapCells*> cells;     // One for each of them.
    std::uint32_t places = 0;             // Of the role.
    std::vector<HeatMapCells*> at_place;  // By place; null: not shown.
  };

  // Steps of one sealed window, or rows, with one schema.
  struct Batch {
    const Plan* plan = nullptr;
    std::vector<std::shared_ptr<const StoredStep>> steps;
    std::vector<std::uint32_t> buckets;  // One for each.
    std::uint64_t row_bytes = 0;
  };

  absl::Status Prepare();
  absl::StatusOr<bool> UseRollups(const RunView& run, const Line& line,
                                  const StepWindow& window);
  absl::StatusOr<const Plan*> PlanOf(StreamId stream, std::uint32_t schema_id);
  absl::StatusOr<HeatMapCells*> CellsOf(const Parameter& parameter);
  absl::Status FillRolled(const HeatMapStretch& stretch);
  // Of parameters whose places are [first, end).
  absl::Status FillPlaces(const HeatMapStretch& stretch,
                          std::uint32_t schema_id, const Plan& plan,
                          std::uint32_t first, std::uint32_t end) const;
  absl::Status FillSteps(const HeatMapStretch& stretch);
  absl::Status FillBatch(const Batch& batch);
  // plan.parameters[first, end) of the batch.
  void FillParameters(const Batch& batch, std::size_t first,
                      std::size_t end) const;

  const QueryEnvironment& environment_;
  const v1::GetHeatMapRequest& request_;
  const Cancelled& cancelled_;
  ReadBudget budget_;
  SchemaCache schemas_;
  v1::GetHeatMapResponse* const response_;

  Statistic statistic_;
  Statistic nonfinite_;  // The elements of the same role.
  HeatMapWorst worst_ = HeatMapWorst::kLargest;
  std::uint32_t max_buckets_ = 0;
  NameFilter match_;
  std::optional<HeatMapGrid> grid_;
  std::map<std::pair<StreamId, std::uint32_t>, Plan> plans_;
  // By name; in the order of the answer's rows.
  absl::flat_hash_map<std::string, HeatMapCells*> by_name_;
  std::vector<std::unique_ptr<HeatMapCells>> cells_;
  AnswerWork work_;
};

absl::Status HeatMap::Run() {
  if (absl::Status s = Prepare(); !s.ok()) return s;
  absl::StatusOr<RunView> run = OpenRun(*environment_.store, request_.run());
  if (!run.ok()) return run.status();
  absl::Status s = CheckAttempt(*run, request_.attempt());
  if (s.ok() && !request_.merged()) {
    s = CheckRank(*run, request_.attempt(), request_.rank());
  }
  if (!s.ok()) return s;
  StatisticSelection selection;
  selection.records.push_back(statistic_);
  s = CheckParameters({*run}, request_.attempt(), selection, match_,
                      request_.match(), &schemas_);
  if (!s.ok()) return s;
  response_->set_run(run->name());
  response_->set_statistic(statistic_.name);
  if (request_.merged()) {
    return GetMergedHeatMap(environment_, request_,
                            {&*run, &statistic_, &match_, max_buckets_},
                            cancelled_, response_);
  }
  const Line line = run->LineOf(request_.rank(), request_.attempt());
  const StepWindow window = ResolveSteps(request_.steps(), line.last_step());
  const absl::StatusOr<bool> rolled = UseRollups(*run, line, window);
  if (!rolled.ok()) return rolled.status();
  absl::StatusOr<HeatMapGrid> grid = HeatMapGrid::Make(
      environment_.store, line, window, *rolled, max_buckets_, &budget_);
  if (!grid.ok()) return grid.status();
  grid_ = *std::move(grid);
  response_->set_rank(request_.rank());
  if (!line.segments.empty()) {
    response_->set_attempt(line.segments.back().attempt);
  }
  grid_->Describe(response_);
  for (const HeatMapStretch& stretch : grid_->stretches()) {
    s = stretch.rolled ? FillRolled(stretch) : FillSteps(stretch);
    if (!s.ok()) return s;
  }
  for (const auto& cells : cells_) cells->Finish();
  std::vector<v1::GapInfo> gaps = std::move(grid_->gaps());
  s = AddStoredGaps(environment_.store, line, window, &gaps);
  if (!s.ok()) return s;
  SortAndJoin(&gaps);
  Coalesce(std::max<std::size_t>(kMinGaps, max_buckets_), &gaps);
  for (v1::GapInfo& gap : gaps) *response_->add_gaps() = std::move(gap);
  return absl::OkStatus();
}

absl::Status HeatMap::Prepare() {
  absl::StatusOr<Statistic> statistic = ParseOne(request_.statistic());
  if (!statistic.ok()) return statistic.status();
  statistic_ = *std::move(statistic);
  nonfinite_ = statistic_;
  nonfinite_.field = Field::kNonfinite;
  worst_ = WorstOf(statistic_.field);
  max_buckets_ = request_.max_buckets() == 0 ? kDefaultHeatMapBuckets
                                             : request_.max_buckets();
  if (request_.max_buckets() > kMaxHeatMapBuckets) {
    return absl::InvalidArgumentError("a heat map of " +
                                      std::to_string(request_.max_buckets()) +
                                      " columns was asked for; the most is " +
                                      std::to_string(kMaxHeatMapBuckets));
  }
  absl::StatusOr<NameFilter> match = ParseMatch(request_.match());
  if (!match.ok()) return match.status();
  match_ = *std::move(match);
  return absl::OkStatus();
}

// Whether there are so many steps that roll-ups are to be read.
absl::StatusOr<bool> HeatMap::UseRollups(const RunView& run, const Line& line,
                                         const StepWindow& window) {
  if (!RollsUpAlways(statistic_)) return false;
  for (const Segment& segment : line.segments) {  // Is anything else left?
    const Branch& branch = segment.stream->branches[segment.branch];
    const std::int64_t begin = std::max(segment.begin, window.begin);
    if (begin < std::min({segment.end, window.end, branch.rolled_up_end})) {
      return true;
    }
  }
  const SchemaSource source =
      NewestSchema(run, request_.rank(), request_.attempt());
  if (source.stream == nullptr) return false;
  const auto index = schemas_.Get(source.stream->id, source.stream->schema_id);
  if (!index.ok()) return index.status();
  std::uint64_t matched = 0;
  for (const Parameter& parameter : (*index)->schema().parameters) {
    matched += match_.Matches(parameter.name) ? 1 : 0;
  }
  const std::uint64_t rows = RowsOf(line, window);
  return rows / kRollupRun >= max_buckets_ || rows * matched > kExactValues;
}

absl::StatusOr<HeatMapCells*> HeatMap::CellsOf(const Parameter& parameter) {
  HeatMapCells*& cells = by_name_[parameter.name];
  if (cells != nullptr) return cells;
  const std::uint64_t all =
      (cells_.size() + std::uint64_t{1}) * grid_->buckets();
  if (all > environment_.limits.max_cells) {
    return TooManyCells(cells_.size(), grid_->buckets(),
                        environment_.limits.max_cells);
  }
  absl::Status room = work_.Reach(all * kCellBytes);
  if (!room.ok()) return room;
  v1::HeatMapRow* row = response_->add_rows();
  row->set_parameter(parameter.name);
  row->set_kind(static_cast<v1::Kind>(parameter.kind));
  cells_.push_back(
      std::make_unique<HeatMapCells>(worst_, grid_->buckets(), row));
  cells = cells_.back().get();
  return cells;
}

absl::StatusOr<const HeatMap::Plan*> HeatMap::PlanOf(StreamId stream,
                                                     std::uint32_t schema_id) {
  const auto [it, is_new] = plans_.try_emplace({stream, schema_id});
  Plan& plan = it->second;
  if (!is_new) return &plan;
  auto index = schemas_.Get(stream, schema_id);
  if (!index.ok()) return index.status();
  plan.index = *std::move(index);
  const std::vector<Parameter>& parameters = plan.index->schema().parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Places& places = plan.index->places()[i];
    const std::int32_t place = places.at(statistic_.role);
    if (place >= 0) plan.places = static_cast<std::uint32_t>(place) + 1;
    if (!HasStatistic(places, statistic_)) continue;
    if (!match_.Matches(parameters[i].name)) continue;
    const absl::StatusOr<HeatMapCells*> cells = CellsOf(parameters[i]);
    if (!cells.ok()) return cells.status();
    plan.parameters.push_back(i);
    plan.cells.push_back(*cells);
    plan.at_place.resize(plan.places);
    plan.at_place[static_cast<std::size_t>(place)] = *cells;
  }
  return &plan;
}

absl::Status HeatMap::FillRolled(const HeatMapStretch& stretch) {
  for (const std::uint32_t schema_id : stretch.schemas) {
    const absl::StatusOr<const Plan*> found =
        PlanOf(stretch.segment.stream->id, schema_id);
    if (!found.ok()) return found.status();
    const Plan& plan = **found;
    const auto places = static_cast<std::uint32_t>(plan.at_place.size());
    std::uint32_t first = 0;
    while (first < places && plan.at_place[first] == nullptr) ++first;
    if (first == places) continue;
    const std::uint32_t middle =
        places - first < kWorthAThread ? places : (first + places) / 2;
    absl::Status other;
    std::thread thread;
    const auto fill_rest = [&] {
      other = FillPlaces(stretch, schema_id, plan, middle, places);
    };
    if (middle < places) {
      try {
        thread = std::thread(fill_rest);
      } catch (const std::system_error&) {  // Too many threads: alone, then.
        fill_rest();
      }
    }
    absl::Status s = FillPlaces(stretch, schema_id, plan, first, middle);
    if (thread.joinable()) thread.join();
    s.Update(other);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status HeatMap::FillPlaces(const HeatMapStretch& stretch,
                                 std::uint32_t schema_id, const Plan& plan,
                                 std::uint32_t first, std::uint32_t end) const {
  const RollupSource source =
      *RollupSourceOf(statistic_.role, statistic_.field, 1);
  WorstSelection selection;
  selection.role = statistic_.role;
  selection.schema_id = schema_id;
  selection.first_place = first;
  selection.end_place = end;
  ReadBudget budget(environment_.limits.max_read_bytes, cancelled_);
  for (const bool elements : {false, true}) {
    selection.statistic =
        elements ? RollupStatistic::kNonfinite : source.statistic;
    selection.worst = elements ? RollupWorst::kMax : RollupWorstOf(worst_);
    absl::Status charged;
    const absl::Status s = environment_.store->ScanWorst(
        stretch.segment.stream->id, stretch.segment.branch, stretch.span,
        selection, [&](const WorstPiece& piece) {
          charged = budget.Charge(piece.bytes);
          const auto unit = stretch.unit_of.find(piece.first_step);
          if (unit == stretch.unit_of.end()) return charged.ok();
          for (std::uint32_t p = 0; p < piece.places; ++p) {
            const std::uint32_t place = piece.first_place + p;
            if (place < first || place >= end) continue;
            if (plan.at_place[place] == nullptr) continue;
            const std::size_t at = std::size_t{p} * piece.runs;
            const std::span<const float> worst(piece.worst + at, piece.runs);
            if (elements) {
              plan.at_place[place]->AddElements(*grid_, unit->second, worst);
            } else {
              plan.at_place[place]->AddRuns(*grid_, unit->second, worst,
                                            piece.flags + at,
                                            source.map == RollupMap::kSquare);
            }
          }
          return charged.ok();
        });
    if (!s.ok()) return s;
    if (!charged.ok()) return charged;
  }
  return absl::OkStatus();
}

absl::Status HeatMap::FillSteps(const HeatMapStretch& stretch) {
  RowReader reader(
      environment_.store, {request_.rank(), {stretch.segment}}, stretch.steps,
      std::size_t{4} << 20, &budget_,
      [&](const Segment& segment, SealedWindow* window) -> absl::Status {
        if (window->timeline().recorded() == 0) return absl::OkStatus();
        const auto plan =
            PlanOf(segment.stream->id, window->timeline().schema_id());
        if (!plan.ok()) return plan.status();
        if ((*plan)->parameters.empty()) return absl::OkStatus();
        window->Focus(static_cast<std::uint32_t>((*plan)->parameters.front()),
                      static_cast<std::uint32_t>((*plan)->parameters.back()));
        return absl::OkStatus();
      });
  std::uint64_t recorded = 0;
  Batch batch;
  for (;;) {
    const absl::StatusOr<const Row*> row = reader.Peek();
    if (!row.ok()) return row.status();
    if (*row == nullptr) return FillBatch(batch);
    const std::shared_ptr<const StoredStep>& step = (*row)->stored;
    if (step->has_columns()) {
      const auto plan = PlanOf(stretch.segment.stream->id, step->schema_id());
      if (!plan.ok()) return plan.status();
      if (!batch.steps.empty() &&
          (batch.plan != *plan ||
           batch.steps.back()->window() != step->window() ||
           batch.row_bytes >= kMaxBatchBytes)) {
        if (absl::Status s = FillBatch(batch); !s.ok()) return s;
        batch = {};
      }
      const std::uint64_t unit =
          stretch.first_unit + recorded++ / stretch.unit_steps;
      const std::uint32_t bucket =
          grid_->BucketOf(static_cast<std::uint32_t>(unit));
      if (bucket < grid_->buckets()) {
        batch.plan = *plan;
        batch.steps.push_back(step);
        batch.buckets.push_back(bucket);
        if (!step->in_window()) batch.row_bytes += step->bytes_read();
      }
    }
    if (absl::Status s = reader.Pop(); !s.ok()) return s;
  }
}

// A parameter with all steps, then the next: they lie side by side in a tile,
// and in the answer.
absl::Status HeatMap::FillBatch(const Batch& batch) {
  if (batch.steps.empty()) return absl::OkStatus();
  const StoredStep& one = *batch.steps.back();
  const std::uint64_t before = one.bytes_read();
  const std::size_t all = batch.plan->parameters.size();
  std::size_t middle = all;
  Batch other;
  if (one.in_window() && all * batch.steps.size() >= kWorthABatchThread) {
    middle = MiddleOf(batch.plan->parameters);
    other = batch;
    const std::shared_ptr<SealedWindow> copy = one.window()->Clone();
    for (auto& step : other.steps) step = step->In(copy);
  }
  const auto fill_rest = [&] { FillParameters(other, middle, all); };
  std::thread thread;
  if (middle < all) {
    try {
      thread = std::thread(fill_rest);
    } catch (const std::system_error&) {  // Too many threads: alone, then.
      fill_rest();
    }
  }
  FillParameters(batch, 0, middle);
  if (thread.joinable()) thread.join();
  absl::Status s = one.status();
  if (s.ok() && one.in_window()) s = budget_.Charge(one.bytes_read() - before);
  if (!s.ok() || middle == all) return s;
  s = other.steps.back()->status();
  return s.ok() ? budget_.Charge(other.steps.back()->bytes_read()) : s;
}

void HeatMap::FillParameters(const Batch& batch, std::size_t first,
                             std::size_t end) const {
  for (std::size_t i = first; i < end; ++i) {
    const Places& places =
        batch.plan->index->places()[batch.plan->parameters[i]];
    HeatMapCells* const cells = batch.plan->cells[i];
    for (std::size_t s = 0; s < batch.steps.size(); ++s) {
      const StoredStep& step = *batch.steps[s];
      const std::optional<Value> value = Evaluate(statistic_, step, places);
      if (!value.has_value()) continue;
      const std::optional<Value> elements =
          !value->absent && step.MayHaveNonfinite(statistic_.role)
              ? Evaluate(nonfinite_, step, places)
              : std::nullopt;
      cells->Add(batch.buckets[s], *value,
                 elements.has_value() && elements->value > 0);
    }
  }
}

}  // namespace

absl::Status GetHeatMap(const QueryEnvironment& environment,
                        const v1::GetHeatMapRequest& request,
                        const Cancelled& cancelled,
                        v1::GetHeatMapResponse* response) {
  return HeatMap(environment, request, cancelled, response).Run();
}

}  // namespace gradtap::server
