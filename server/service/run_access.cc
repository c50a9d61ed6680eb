#include "server/service/run_access.h"

#include <algorithm>
#include <string>
#include <vector>

#include "server/query/errors.h"

namespace gradtap::server {

absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::GetSeriesRequest& request_untrusted) {
  for (const std::string& run : request_untrusted.runs()) {
    const absl::Status may = gate->CheckRun(caller, run);
    if (!may.ok()) return may;
  }
  return absl::OkStatus();
}

absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::CompareRunsRequest& request_untrusted) {
  const absl::Status may = gate->CheckRun(caller, request_untrusted.good_run());
  if (!may.ok()) return may;
  return gate->CheckRun(caller, request_untrusted.other_run());
}

absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::ListAlertsRequest& request_untrusted) {
  const std::string& run = request_untrusted.run();
  return run.empty() ? gate->CheckAllRuns(caller, "ListAlerts without a run")
                     : gate->CheckRun(caller, run);
}

absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::WatchAlertsRequest& request_untrusted) {
  const std::string& run = request_untrusted.run();
  return run.empty() ? gate->CheckAllRuns(caller, "WatchAlerts without a run")
                     : gate->CheckRun(caller, run);
}

absl::Status CheckRuns(Gate* /*gate*/, const Caller& /*caller*/,
                       const v1::ListRunsRequest& /*request_untrusted*/) {
  return absl::OkStatus();
}

absl::Status CheckRuns(Gate* /*gate*/, const Caller& /*caller*/,
                       const v1::GetStatusRequest& /*request_untrusted*/) {
  return absl::OkStatus();
}

void KeepOwn(const Caller& caller, v1::ListRunsResponse* answer) {
  if (!caller.limited()) return;
  auto* const runs = answer->mutable_runs();
  runs->erase(std::remove_if(runs->begin(), runs->end(),
                             [&](const v1::RunInfo& one) {
                               return !caller.MayUse(one.run());
                             }),
              runs->end());
  answer->clear_notes();  // They name runs.
}

void KeepOwn(const Caller& caller, v1::GetStatusResponse* answer) {
  if (!caller.limited()) return;
  answer->clear_data_dir();  // May tell of others.
  if (!answer->has_keeping()) return;
  auto* const all = answer->mutable_keeping()->mutable_removals();
  all->erase(std::remove_if(all->begin(), all->end(),
                            [&](const v1::Removal& one) {
                              return !caller.MayUse(one.run());
                            }),
             all->end());
}

absl::Status WithOwnRuns(const Caller& caller, const Store& store,
                         const absl::Status& status) {
  return WithNearestRun(status, [&caller, &store] {
    std::vector<std::string> own;
    for (const auto& entry : store.Runs()) {
      if (caller.MayUse(entry->run)) own.push_back(entry->run);
    }
    return own;
  });
}

}  // namespace gradtap::server
