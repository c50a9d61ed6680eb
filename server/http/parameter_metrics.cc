#include "server/http/parameter_metrics.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/service/query_methods.h"

namespace gradtap::server {

absl::Status ParameterMetrics::Add(const v1::RunInfo& run,
                                   const Cancelled& cancelled) {
  if (selection_.match == nullptr || selection_.statistics.empty() ||
      run.last_step() < 0) {
    return absl::OkStatus();
  }
  v1::GetSnapshotRequest request;
  request.set_run(run.run());
  request.set_merged(run.ranks() > 1);
  for (const Statistic& statistic : selection_.statistics) {
    request.add_statistics(statistic.name);
  }
  v1::GetSnapshotResponse newest;
  const absl::Status status = Answer(backend_, request, cancelled, &newest);
  if (absl::IsNotFound(status)) return absl::OkStatus();  // No parameters.
  if (!status.ok()) return status;
  const std::string rank =
      request.merged() ? "merged" : std::to_string(newest.rank());
  for (const v1::SnapshotRow& row : newest.rows()) {
    if (!selection_.match->Matches(row.parameter())) continue;
    for (int i = 0; i < row.value_size(); ++i) {
      if (std::find(row.absent().begin(), row.absent().end(),
                    static_cast<std::uint32_t>(i)) != row.absent().end()) {
        continue;
      }
      if (left_ == 0) {
        ++omitted_;
        continue;
      }
      --left_;
      const Statistic& statistic =
          selection_.statistics[static_cast<std::size_t>(i)];
      const std::string help = absl::StrCat("The statistic ", statistic.name,
                                            " of a parameter, newest step.");
      set_.Gauge(
          MetricNameOf(statistic).c_str(), help.c_str(), row.value(i),
          {{"run", run.run()}, {"rank", rank}, {"param", row.parameter()}});
    }
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
