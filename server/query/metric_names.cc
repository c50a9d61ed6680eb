#include "server/query/metric_names.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/names.h"
#include "server/query/selection.h"

namespace gradtap::server {

std::string MetricNameOf(const Statistic& statistic) {
  return absl::StrCat("gradtap_", std::string(RoleName(statistic.role)), "_",
                      std::string(FieldName(statistic.field)));
}

const std::vector<NamedStatistic>& NamedStatistics() {
  static const auto* const kAll = [] {
    auto* all = new std::vector<NamedStatistic>();
    for (const std::string& name : AllStatisticNames()) {
      absl::StatusOr<Statistic> statistic = ParseStatistic(name);
      if (!statistic.ok()) continue;
      std::string metric = MetricNameOf(*statistic);
      all->push_back({std::move(metric), *std::move(statistic)});
    }
    return all;
  }();
  return *kAll;
}

absl::StatusOr<std::vector<Statistic>> ParseMetricStatistics(
    const std::string& names) {
  std::vector<Statistic> statistics;
  const std::vector<std::string> list =
      absl::StrSplit(names, ',', absl::SkipEmpty());
  for (const std::string& name : list) {
    absl::StatusOr<Statistic> one = ParseStatistic(name);
    if (!one.ok()) return one.status();
    if (one->source != Statistic::Source::kRecord ||
        one->field == Field::kQuantile) {
      return absl::InvalidArgumentError(absl::StrCat(
          "bad statistic '", EscapeForTerminal(name),
          "': one of parameters, such as grad.l2; scalars are always there"));
    }
    const bool again = std::any_of(
        statistics.begin(), statistics.end(),
        [&one](const Statistic& seen) { return seen.name == one->name; });
    if (!again) statistics.push_back(*std::move(one));
  }
  return statistics;
}

absl::StatusOr<std::shared_ptr<const NameFilter>> ParseMetricMatch(
    const std::string& pattern) {
  absl::StatusOr<NameFilter> filter = ParseMatch(pattern);
  if (!filter.ok()) return filter.status();
  return std::make_shared<const NameFilter>(*std::move(filter));
}

}  // namespace gradtap::server
