#include "server/query/histogram_query.h"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/histogram.h"
#include "core/statistic.h"
#include "server/query/errors.h"
#include "server/query/rank_rows.h"
#include "server/query/row_find.h"
#include "server/query/selection.h"
#include "server/query/series_check.h"

namespace gradtap::server {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::string RolesOf(const Parameter& parameter) {
  std::string roles;
  for (const Role role : parameter.roles) {
    roles += (roles.empty() ? "" : ", ") + std::string(RoleName(role));
  }
  return roles.empty() ? "none" : roles;
}

class HistogramQuery {
 public:
  HistogramQuery(const QueryEnvironment& environment,
                 const v1::GetHistogramsRequest& request, const RunView& run,
                 const NameFilter& match, ReadBudget* budget)
      : environment_(environment),
        request_(request),
        run_(run),
        match_(match),
        budget_(budget),
        schemas_(environment.store) {}

  absl::Status Run(v1::GetHistogramsResponse* response) {
    const StepQuestion question{StepOf(request_), request_.attempt(), true};
    absl::StatusOr<RankRows> found =
        request_.merged()
            ? FindMergedRows(environment_.store, run_, question, &schemas_,
                             budget_)
            : FindRankRow(environment_.store, run_, request_.rank(), question,
                          &schemas_, budget_);
    if (!found.ok()) return found.status();
    std::vector<std::uint32_t> ranks;  // Merged: all of the attempt's world.
    if (!request_.merged()) ranks.push_back(request_.rank());
    absl::StatusOr<MergePlan> plan =
        PlanMerge(run_, found->lead.segment.attempt, ranks, found->rows, match_,
                  &schemas_);
    if (!plan.ok()) return plan.status();
    if (!request_.parameter().empty()) {
      std::erase_if(plan->parameters, [this](const MergedParameter& one) {
        return one.parameter->name != request_.parameter();
      });
    }
    absl::Status status = CheckNames(*plan, *found->rows.front().index);
    if (status.ok()) status = Read(*plan, &*found);
    if (!status.ok()) return status;
    response->set_run(run_.name());
    response->set_attempt(found->lead.segment.attempt);
    response->set_rank(request_.merged() ? kMergedRank : request_.rank());
    response->set_step(found->lead.step);
    response->set_time_unix_ns(found->rows.front().step->wall_time_unix_ns());
    return Fill(*plan, found->rows, response);
  }

 private:
  bool Wants(Role role) const {
    return request_.role() == v1::ROLE_UNSPECIFIED ||
           static_cast<int>(request_.role()) == static_cast<int>(role);
  }

  // What is asked for by name must be there.
  absl::Status CheckNames(const MergePlan& plan,
                          const SchemaIndex& index) const {
    if (plan.parameters.empty()) {
      std::vector<std::string> names;
      for (const Parameter& parameter : index.schema().parameters) {
        names.push_back(parameter.name);
      }
      if (!request_.parameter().empty()) {
        return NotFoundNearest("parameter", request_.parameter(), names);
      }
      if (request_.match().empty()) return absl::OkStatus();
      return NothingMatches(run_.name(), request_.match(), names);
    }
    if (request_.parameter().empty()) return absl::OkStatus();
    const Parameter& parameter = *plan.parameters[0].parameter;
    for (const Role role : parameter.roles) {
      if (Wants(role)) return absl::OkStatus();
    }
    return absl::NotFoundError(
        "parameter " + Quote(parameter.name) + " has no role " +
        std::string(RoleName(static_cast<Role>(request_.role()))) +
        "; it has: " + RolesOf(parameter));
  }

  absl::Status Read(const MergePlan& plan, RankRows* rows) {
    std::vector<BlockSet> blocks(rows->rows.size());
    for (const MergedParameter& parameter : plan.parameters) {
      for (const Role role : parameter.parameter->roles) {
        if (!Wants(role)) continue;
        for (const MergedParameter::Source& source :
             parameter.SourcesOf(role)) {
          AddBlock(role, *source.places, &blocks[source.row]);
        }
      }
    }
    return ReadHistograms(environment_.store, blocks, rows, budget_);
  }

  absl::Status Fill(const MergePlan& plan, const std::vector<RankRow>& rows,
                    v1::GetHistogramsResponse* response) {
    for (const MergedParameter& parameter : plan.parameters) {
      for (int number = 1; number < kRoleCount; ++number) {
        const auto role = static_cast<Role>(number);
        if (!Wants(role) || !parameter.parameter->HasRole(role)) continue;
        absl::Status status = Add(parameter, role, rows, response);
        if (!status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }

  // Nothing if it is missing or absent on any of the ranks that it takes.
  absl::Status Add(const MergedParameter& parameter, Role role,
                   const std::vector<RankRow>& rows,
                   v1::GetHistogramsResponse* response) {
    BinCounts bins{};
    Moments all;
    std::uint64_t numel = 0;
    for (const MergedParameter::Source& source : parameter.SourcesOf(role)) {
      const RankRow& row = rows[source.row];
      const auto place = static_cast<std::uint32_t>(source.places->at(role));
      const HistogramData* histogram = row.histograms == nullptr
                                           ? nullptr
                                           : row.histograms->Find(role, place);
      Record record;
      const auto presence = row.step->Read(role, place, kAllFields, &record);
      if (!row.step->status().ok()) return row.step->status();
      if (histogram == nullptr || presence != StoredStep::Presence::kValue) {
        return absl::OkStatus();
      }
      AddBins(histogram->bin, histogram->count, &bins);
      all = Merge(all, ToMoments(record, source.places->numel));
      numel += source.places->numel;
    }
    if (parameter.SourcesOf(role).empty()) return absl::OkStatus();
    v1::ParameterHistogram* out = response->add_histograms();
    out->set_parameter(parameter.parameter->name);
    out->set_role(static_cast<v1::Role>(role));
    std::vector<std::uint32_t> bin;
    std::vector<std::uint64_t> count;
    ToSparse(bins, &bin, &count);
    out->mutable_bin()->Add(bin.begin(), bin.end());
    out->mutable_count()->Add(count.begin(), count.end());
    out->set_numel(numel);
    out->set_min(all.finite == 0 ? kNan : all.min);
    out->set_max(all.finite == 0 ? kNan : all.max);
    out->set_sum(Derive(Field::kSum, all));
    out->set_l2(Derive(Field::kL2, all));
    values_ += 2 * bin.size() + 6;
    if (values_ <= environment_.limits.max_values) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "the histograms have more than " +
        std::to_string(environment_.limits.max_values) +
        " numbers, the limit of one query; ask for one role or for fewer "
        "parameters");
  }

  const QueryEnvironment& environment_;
  const v1::GetHistogramsRequest& request_;
  const RunView& run_;
  const NameFilter& match_;
  ReadBudget* const budget_;
  SchemaCache schemas_;
  std::uint64_t values_ = 0;
};

}  // namespace

absl::Status GetHistograms(const QueryEnvironment& environment,
                           const v1::GetHistogramsRequest& request,
                           const Cancelled& cancelled,
                           v1::GetHistogramsResponse* response) {
  absl::StatusOr<NameFilter> match = ParseMatch(request.match());
  if (!match.ok()) return match.status();
  absl::StatusOr<RunView> run = OpenRun(*environment.store, request.run());
  if (!run.ok()) return run.status();
  absl::Status status = CheckAttempt(*run, request.attempt());
  if (status.ok() && !request.merged()) {
    status = CheckRank(*run, request.attempt(), request.rank());
  }
  if (!status.ok()) return status;
  ReadBudget budget(environment.limits.max_read_bytes, cancelled);
  return HistogramQuery(environment, request, *run, *match, &budget)
      .Run(response);
}

}  // namespace gradtap::server
