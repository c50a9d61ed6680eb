#include "server/query/compare_query.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/query/compared_series.h"
#include "server/query/errors.h"
#include "server/query/run_difference.h"
#include "server/query/series_check.h"
#include "server/query/step_records.h"
#include "server/query/step_stream.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{4} << 20;
constexpr std::size_t kMinBlockBytes = std::size_t{256} << 10;
constexpr double kMaxFactor = 1e6;
constexpr std::uint32_t kMaxInARow = 10'000;
// Pairs of schemas whose plans are kept.
constexpr std::size_t kMaxPlans = 64;
constexpr const char* kDefaultStatistics[] = {"grad.l2", "update.ratio",
                                              "scalar.*"};
// The learning rates that the agent records; among the default ones.
constexpr std::string_view kRatePrefix = "agent.lr";

// One of the two runs.
struct Side {
  RunView run;
  RunSide side;
  std::vector<Line> lines;
  std::int64_t first_step = -1;
  std::int64_t last_step = -1;
};

// Of a step that both have: where each series finds its two values.
struct PairPlan {
  struct Target {
    ComparedSeries::Entry* entry = nullptr;
    const Statistic* statistic = nullptr;
    const MergedParameter* good = nullptr;
    const MergedParameter* other = nullptr;
  };
  MergePlan good;
  MergePlan other;
  std::vector<Target> targets;
};

class CompareQuery {
 public:
  CompareQuery(const QueryEnvironment& environment,
               const v1::CompareRunsRequest& request,
               const Cancelled& cancelled)
      : environment_(environment),
        request_(request),
        options_(OptionsOf(request)),
        budget_(environment.limits.max_read_bytes, cancelled),
        schemas_(environment.store),
        series_(options_) {}

  absl::Status Run(v1::CompareRunsResponse* response) {
    absl::Status status = CheckOptions();
    if (status.ok()) status = ParseNames();
    if (status.ok()) {
      status = Open(request_.good_run(), request_.good_attempt(), &good_);
    }
    if (status.ok()) {
      status = Open(request_.other_run(), request_.other_attempt(), &other_);
    }
    if (status.ok()) status = CheckNames();
    if (!status.ok()) return status;
    FillHead(response);
    AddRunDifferences(good_.side, other_.side, response);
    status = AddParameterDifferences(good_.side, other_.side, match_, &schemas_,
                                     response);
    if (status.ok()) status = Scan(response);
    if (status.ok()) {
      status = CheckScalars(environment_.store, {good_.run, other_.run}, 0,
                            statistics_, scalar_names_, &budget_);
    }
    if (!status.ok()) return status;
    series_.Finish(response->order(),
                   request_.limit() == 0
                       ? kDefaultCompareRows
                       : std::min<std::uint64_t>(
                             request_.limit(), environment_.limits.max_values),
                   response);
    return absl::OkStatus();
  }

 private:
  static DivergenceOptions OptionsOf(const v1::CompareRunsRequest& request) {
    DivergenceOptions options;
    if (request.noise_factor() != 0) options.factor = request.noise_factor();
    if (request.steps_in_a_row() != 0) {
      options.in_a_row = request.steps_in_a_row();
    }
    return options;
  }

  absl::Status CheckOptions() const {
    if (!(options_.factor > 0 && options_.factor <= kMaxFactor)) {
      return absl::InvalidArgumentError(
          "the noise is multiplied by a factor above 0, at most 1000000; asked "
          "for was " +
          std::to_string(options_.factor));
    }
    if (options_.in_a_row > kMaxInARow) {
      return absl::InvalidArgumentError(
          std::to_string(options_.in_a_row) +
          " steps in a row are too many; at most " +
          std::to_string(kMaxInARow));
    }
    if (!v1::CompareOrder_IsValid(request_.order())) {
      return absl::InvalidArgumentError(
          "order " + std::to_string(request_.order()) + " is not known here");
    }
    return absl::OkStatus();
  }

  absl::Status ParseNames() {
    google::protobuf::RepeatedPtrField<std::string> names =
        request_.statistics();
    rates_too_ = names.empty();
    if (names.empty()) {
      for (const char* name : kDefaultStatistics) *names.Add() = name;
    }
    absl::StatusOr<StatisticSelection> statistics = ParseStatistics(names);
    if (!statistics.ok()) return statistics.status();
    statistics_ = *std::move(statistics);
    for (const Statistic& statistic : statistics_.records) {
      if (statistic.field != Field::kQuantile) continue;
      return absl::InvalidArgumentError(
          "runs are not compared by a quantile (" + Quote(statistic.name) +
          "): few steps have histograms; grad.std or grad.abs_max, for "
          "example, are there at every step");
    }
    absl::StatusOr<NameFilter> match = ParseMatch(request_.match());
    if (!match.ok()) return match.status();
    match_ = *std::move(match);
    return absl::OkStatus();
  }

  absl::Status Open(const std::string& name, std::uint32_t attempt,
                    Side* side) {
    absl::StatusOr<RunView> run = OpenRun(*environment_.store, name);
    if (!run.ok()) return run.status();
    side->run = *std::move(run);
    absl::Status status = CheckAttempt(side->run, attempt);
    if (status.ok() && !request_.merged()) {
      status = CheckRank(side->run, attempt, request_.rank());
    }
    if (!status.ok()) return status;
    side->side.run = &side->run;
    side->side.attempt = attempt;
    side->side.ranks = {request_.rank()};
    if (request_.merged()) side->side.ranks = side->run.Ranks(attempt);
    for (const std::uint32_t rank : side->side.ranks) {
      side->lines.push_back(side->run.LineOf(rank, attempt));
      const Line& line = side->lines.back();
      if (line.segments.empty()) continue;
      side->last_step = std::max(side->last_step, line.last_step());
      side->first_step = side->first_step < 0
                             ? line.first_step()
                             : std::min(side->first_step, line.first_step());
    }
    return absl::OkStatus();
  }

  // A name that neither has is a mistake; that one has is a difference.
  absl::Status CheckNames() {
    if (request_.statistics().empty()) {
      return CheckParameters({good_.run, other_.run}, 0, {}, match_,
                             request_.match(), &schemas_);
    }
    if (statistics_.records.empty()) return absl::OkStatus();
    return CheckParameters({good_.run, other_.run}, 0, statistics_, match_,
                           request_.match(), &schemas_);
  }

  void FillHead(v1::CompareRunsResponse* response) const {
    response->set_good_run(good_.run.name());
    response->set_other_run(other_.run.name());
    response->set_rank(request_.merged() ? kMergedRank : request_.rank());
    response->set_good_first_step(good_.first_step);
    response->set_good_last_step(good_.last_step);
    response->set_other_first_step(other_.first_step);
    response->set_other_last_step(other_.last_step);
    for (const Statistic& statistic : statistics_.records) {
      response->add_statistics(statistic.name);
    }
    for (const Statistic& statistic : statistics_.scalars) {
      response->add_statistics(statistic.name);
    }
    if (rates_too_) response->add_statistics(std::string(kRatePrefix));
    response->set_noise_factor(options_.factor);
    response->set_steps_in_a_row(options_.in_a_row);
    response->set_order(request_.order() == v1::COMPARE_ORDER_UNSPECIFIED
                            ? v1::COMPARE_ORDER_DISTANCE
                            : request_.order());
  }

  StepWindow Window() const {
    const std::int64_t last = std::min(good_.last_step, other_.last_step);
    StepWindow window = ResolveSteps(request_.steps(), last);
    window.begin =
        std::max({window.begin, good_.first_step, other_.first_step});
    window.end = std::min(window.end, last + 1);
    return window;
  }

  StepStream StreamOf(const Side& side, const StepWindow& window) {
    const std::size_t block =
        std::max(kMinBlockBytes,
                 kBlockBytes / std::max<std::size_t>(1, side.lines.size()));
    return StepStream(environment_.store, side.lines, window, block, &schemas_,
                      &budget_,
                      [this](const Segment& segment, SealedWindow* sealed) {
                        return FocusOn(segment, sealed);
                      });
  }

  // Only the parameters asked for are decoded.
  absl::Status FocusOn(const Segment& segment, SealedWindow* window) {
    if (window->timeline().recorded() == 0) return absl::OkStatus();
    absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
        schemas_.Get(segment.stream->id, window->timeline().schema_id());
    if (!index.ok()) return index.status();
    const std::vector<Parameter>& parameters = (*index)->schema().parameters;
    std::size_t first = parameters.size();
    std::size_t last = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (!match_.Matches(parameters[i].name)) continue;
      first = std::min(first, i);
      last = i;
    }
    window->Focus(static_cast<std::uint32_t>(first),
                  static_cast<std::uint32_t>(last));
    return absl::OkStatus();
  }

  absl::Status Scan(v1::CompareRunsResponse* response) {
    const StepWindow window = Window();
    if (good_.last_step < 0 || other_.last_step < 0 ||
        window.begin >= window.end) {
      return absl::OkStatus();
    }
    StepStream good = StreamOf(good_, window);
    StepStream other = StreamOf(other_, window);
    absl::StatusOr<bool> more_good = good.Next();
    if (!more_good.ok()) return more_good.status();
    absl::StatusOr<bool> more_other = other.Next();
    if (!more_other.ok()) return more_other.status();
    while (*more_good || *more_other) {
      const bool take_good =
          *more_good && (!*more_other || good.step() <= other.step());
      const bool take_other =
          *more_other && (!*more_good || other.step() <= good.step());
      absl::Status status = Count(take_good ? &good : nullptr,
                                  take_other ? &other : nullptr, response);
      if (!status.ok()) return status;
      if (take_good) more_good = good.Next();
      if (!more_good.ok()) return more_good.status();
      if (take_other) more_other = other.Next();
      if (!more_other.ok()) return more_other.status();
    }
    return absl::OkStatus();
  }

  // One step; null: that side does not have it.
  absl::Status Count(const StepStream* good, const StepStream* other,
                     v1::CompareRunsResponse* response) {
    const bool in_good = good != nullptr && !good->recorded().empty();
    const bool in_other = other != nullptr && !other->recorded().empty();
    if (in_good && in_other) {
      response->set_compared_steps(response->compared_steps() + 1);
    } else if (in_good) {
      response->set_only_good_steps(response->only_good_steps() + 1);
    } else if (in_other) {
      response->set_only_other_steps(response->only_other_steps() + 1);
    }
    if (good == nullptr || other == nullptr) return absl::OkStatus();
    absl::Status status = AddScalars(*good, *other);
    if (!status.ok() || !in_good || !in_other) return status;
    return AddRecords(*good, *other);
  }

  bool WantsScalar(std::string_view name) const {
    return statistics_.WantsScalar(name) ||
           (rates_too_ && name.starts_with(kRatePrefix));
  }

  absl::Status AddScalars(const StepStream& good, const StepStream& other) {
    const auto wanted = [this](std::string_view name) {
      return WantsScalar(name);
    };
    std::map<std::string, double, std::less<>> theirs;
    other.lead().ForEachScalar(wanted,
                               [&](std::string_view name, double value) {
                                 theirs.emplace(name, value);
                               });
    good.lead().ForEachScalar(wanted, [&](std::string_view name, double value) {
      const auto it = theirs.find(name);
      if (it == theirs.end()) return;
      const std::string statistic = ScalarStatisticName(name);
      scalar_names_.insert(statistic);
      series_.Add(series_.Find("", statistic, 0), good.step(), {value},
                  {it->second});
    });
    return CheckSize();
  }

  absl::Status AddRecords(const StepStream& good, const StepStream& other) {
    absl::StatusOr<PairPlan*> plan = PlanOf(good, other);
    if (!plan.ok()) return plan.status();
    for (const PairPlan::Target& target : (*plan)->targets) {
      std::optional<Sample> a =
          SampleOf(*target.statistic, *target.good, good.recorded());
      std::optional<Sample> b =
          SampleOf(*target.statistic, *target.other, other.recorded());
      if (!a.has_value() || !b.has_value()) continue;  // Missing.
      if (CountsElements(target.statistic->field)) {
        a->nonfinite = b->nonfinite = 0;  // The count is the value.
      }
      series_.Add(target.entry, good.step(), *a, *b);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<PairPlan*> PlanOf(const StepStream& good,
                                   const StepStream& other) {
    if (plans_.size() >= kMaxPlans) plans_.clear();
    const auto [it, is_new] =
        plans_.try_emplace(std::make_pair(good.key(), other.key()));
    PairPlan& plan = it->second;
    if (!is_new) return &plan;
    absl::Status status = PlanSide(good_, good, &plan.good);
    if (status.ok()) status = PlanSide(other_, other, &plan.other);
    if (status.ok()) status = Pair(&plan);
    if (!status.ok()) return status;
    return &plan;
  }

  absl::Status PlanSide(const Side& side, const StepStream& stream,
                        MergePlan* plan) {
    std::vector<std::uint32_t> ranks;
    if (!request_.merged()) ranks.push_back(request_.rank());
    absl::StatusOr<MergePlan> made =
        PlanMerge(side.run, stream.attempt(), ranks, stream.recorded(), match_,
                  &schemas_);
    if (!made.ok()) return made.status();
    *plan = *std::move(made);
    return absl::OkStatus();
  }

  absl::Status Pair(PairPlan* plan) {
    std::unordered_map<std::string_view, const MergedParameter*> theirs;
    for (const MergedParameter& parameter : plan->other.parameters) {
      theirs.emplace(parameter.parameter->name, &parameter);
    }
    std::uint64_t place = 0;
    for (const MergedParameter& parameter : plan->good.parameters) {
      const auto it = theirs.find(parameter.parameter->name);
      for (const Statistic& statistic : statistics_.records) {
        ++place;
        if (it == theirs.end() ||
            !HasStatistic(*parameter.parameter, statistic) ||
            !HasStatistic(*it->second->parameter, statistic)) {
          continue;
        }
        plan->targets.push_back(
            {series_.Find(parameter.parameter->name, statistic.name, place),
             &statistic, &parameter, it->second});
        absl::Status status = CheckSize();
        if (!status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckSize() const {
    if (series_.size() <= kMaxComparedSeries) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "more than " + std::to_string(kMaxComparedSeries) +
        " series to compare, the limit of one query; ask for fewer parameters "
        "(--match) or statistics (--stat)");
  }

  const QueryEnvironment& environment_;
  const v1::CompareRunsRequest& request_;
  const DivergenceOptions options_;
  ReadBudget budget_;
  SchemaCache schemas_;
  ComparedSeries series_;
  StatisticSelection statistics_;
  bool rates_too_ = false;
  std::set<std::string, std::less<>> scalar_names_;  // Of both, compared.
  NameFilter match_;
  Side good_;
  Side other_;
  std::map<std::pair<RowsKey, RowsKey>, PairPlan> plans_;
};

}  // namespace

absl::Status CompareRuns(const QueryEnvironment& environment,
                         const v1::CompareRunsRequest& request,
                         const Cancelled& cancelled,
                         v1::CompareRunsResponse* response) {
  return CompareQuery(environment, request, cancelled).Run(response);
}

}  // namespace gradtap::server
