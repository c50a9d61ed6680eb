#include "server/query/metric_names.h"

#include <utility>

#include "absl/strings/str_cat.h"

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

}  // namespace gradtap::server
