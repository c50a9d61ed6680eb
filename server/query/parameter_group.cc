#include "server/query/parameter_group.h"

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <utility>

#include "core/quantile.h"
#include "server/query/errors.h"

namespace gradtap::server {
namespace {

constexpr Value kAbsent{std::numeric_limits<double>::quiet_NaN(), true};

std::optional<Value> MergedQuantile(const Statistic& statistic,
                                    const PlannedGroup& group,
                                    const std::vector<RankRow>& rows) {
  BinCounts bins{};
  Moments all;
  bool any = false;
  for (const MergedParameter* member : group.members) {
    const std::vector<Part> parts = PartsOf(statistic.role, *member, rows);
    if (parts.empty()) return std::nullopt;
    BinCounts own_bins{};
    Moments own;
    switch (MergeHistograms(parts, statistic.role, &own_bins, &own)) {
      case Presence::kMissing:
        return std::nullopt;
      case Presence::kAbsent:
        continue;
      case Presence::kValue:
        any = true;
        AddBins(own_bins, &bins);
        all = Merge(all, own);
    }
  }
  if (!any) return kAbsent;
  return Value{QuantileOf(bins, statistic.quantile, all.min, all.max).value,
               false};
}

// A member's records of the roles that a statistic takes: one, or for a ratio
// two. The one that says least decides.
Presence MergeMember(const Statistic& statistic, const MergedParameter& member,
                     const std::vector<RankRow>& rows, Moments* own,
                     Moments* weight) {
  const std::vector<Part> parts = PartsOf(statistic.role, member, rows);
  if (parts.empty()) return Presence::kMissing;
  const Presence of_own = MergeParts(parts, statistic.role, own);
  if (statistic.field != Field::kRatio) return of_own;
  return std::max(of_own, MergeParts(parts, Role::kWeight, weight));
}

// Parameters that pass the test and that only ranks without a row have.
template <typename Test>
std::uint32_t CountElsewhere(const MergePlan& plan, const Test& test) {
  if (plan.missing.empty()) return 0;
  std::unordered_set<std::string_view> seen;
  for (const MergedParameter& parameter : plan.parameters) {
    seen.insert(parameter.parameter->name);
  }
  std::uint32_t count = 0;
  for (const auto& index : plan.missing) {
    for (const Parameter& parameter : index->schema().parameters) {
      if (test(parameter) && seen.insert(parameter.name).second) ++count;
    }
  }
  return count;
}

}  // namespace

absl::StatusOr<ParameterGroups> ParameterGroups::Parse(
    const google::protobuf::RepeatedPtrField<std::string>& patterns) {
  if (patterns.size() > kMaxGroups) {
    return absl::InvalidArgumentError(
        std::to_string(patterns.size()) +
        " patterns to merge by in one query; at most " +
        std::to_string(kMaxGroups));
  }
  ParameterGroups groups;
  std::size_t instructions = 0;
  for (const std::string& pattern : patterns) {
    if (pattern.empty()) {
      return absl::InvalidArgumentError(
          "a pattern to merge by is empty; '.' takes all parameters");
    }
    const bool known = std::any_of(
        groups.groups_.begin(), groups.groups_.end(),
        [&pattern](const Group& group) { return group.pattern == pattern; });
    if (known) continue;
    absl::StatusOr<NameFilter> filter = ParseMatch(pattern);
    if (!filter.ok()) return filter.status();
    instructions += filter->instructions();
    if (instructions > kMaxGroupInstructions) {
      return absl::InvalidArgumentError(
          "the patterns to merge by are too large together: shorter ones, or "
          "smaller numbers in {}");
    }
    groups.groups_.push_back({pattern, *std::move(filter)});
  }
  return groups;
}

std::string ParameterGroups::NameOf(std::size_t group) const {
  return "/" + groups_[group].pattern + "/";
}

PlannedGroup PlanGroup(const ParameterGroups& groups, std::size_t group,
                       const Statistic& statistic, const MergePlan& plan,
                       const NameFilter& match) {
  PlannedGroup planned;
  for (const MergedParameter& parameter : plan.parameters) {
    if (HasStatistic(*parameter.parameter, statistic) &&
        groups.Has(group, parameter.parameter->name)) {
      planned.members.push_back(&parameter);
    }
  }
  planned.elsewhere = CountElsewhere(plan, [&](const Parameter& parameter) {
    return HasStatistic(parameter, statistic) &&
           match.Matches(parameter.name) && groups.Has(group, parameter.name);
  });
  return planned;
}

std::uint32_t MembersOf(const ParameterGroups& groups, std::size_t group,
                        const MergePlan& plan, const NameFilter& match) {
  std::uint32_t members = CountElsewhere(plan, [&](const Parameter& parameter) {
    return match.Matches(parameter.name) && groups.Has(group, parameter.name);
  });
  for (const MergedParameter& parameter : plan.parameters) {
    members += groups.Has(group, parameter.parameter->name) ? 1 : 0;
  }
  return members;
}

std::optional<Value> EvaluateGroup(const Statistic& statistic,
                                   const PlannedGroup& group,
                                   const std::vector<RankRow>& rows) {
  if (group.elsewhere > 0 || group.members.empty()) return std::nullopt;
  if (group.members.size() == 1) {
    return EvaluatePlanned(statistic, *group.members[0], rows);
  }
  if (statistic.field == Field::kQuantile) {
    return MergedQuantile(statistic, group, rows);
  }
  Moments own;
  Moments weight;
  bool any = false;
  for (const MergedParameter* member : group.members) {
    Moments one;
    Moments one_weight;
    const Presence presence =
        MergeMember(statistic, *member, rows, &one, &one_weight);
    if (presence == Presence::kMissing) return std::nullopt;
    if (presence == Presence::kAbsent) continue;
    any = true;
    own = Merge(own, one);
    weight = Merge(weight, one_weight);
  }
  if (!any) return kAbsent;
  if (statistic.field != Field::kRatio) {
    return Value{Derive(statistic.field, own), false};
  }
  return Value{Derive(Field::kL2, own) / Derive(Field::kL2, weight), false};
}

std::vector<PlannedSeries> PlanSeries(const ParameterGroups& groups,
                                      const StatisticSelection& statistics,
                                      const MergePlan& plan,
                                      const NameFilter& match) {
  std::vector<PlannedSeries> planned;
  for (std::size_t group = 0; group < groups.size(); ++group) {
    for (const Statistic& statistic : statistics.records) {
      PlannedSeries series;
      static_cast<PlannedGroup&>(series) =
          PlanGroup(groups, group, statistic, plan, match);
      series.name = groups.NameOf(group);
      series.statistic = &statistic;
      series.count =
          static_cast<std::uint32_t>(series.members.size()) + series.elsewhere;
      if (!series.members.empty()) planned.push_back(std::move(series));
    }
  }
  if (!groups.empty()) return planned;
  for (const MergedParameter& parameter : plan.parameters) {
    for (const Statistic& statistic : statistics.records) {
      const auto& sources = parameter.SourcesOf(statistic.role);
      if (sources.empty()) continue;
      if (!HasStatistic(*sources[0].places, statistic)) continue;
      PlannedSeries series;
      series.members = {&parameter};
      series.name = parameter.parameter->name;
      series.statistic = &statistic;
      planned.push_back(std::move(series));
    }
  }
  return planned;
}

}  // namespace gradtap::server
