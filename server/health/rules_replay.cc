#include "server/health/rules_replay.h"

#include <map>
#include <string>
#include <utility>

#include "proto/text/rules_text.h"
#include "server/health/past_run.h"
#include "server/health/run_health.h"
#include "server/query/run_view.h"

namespace gradtap::server {
namespace {

// Alerts in an answer; more are not told apart by anybody.
constexpr std::size_t kMostAlerts = 10'000;

absl::StatusOr<std::shared_ptr<const Rules>> RulesOf(
    const std::shared_ptr<const Rules>& rules, const std::string& text) {
  if (text.empty()) return rules;
  absl::StatusOr<v1::RulesFile> file = ParseRules(text, "rules");
  if (!file.ok()) return file.status();
  return Rules::Create(*file);
}

}  // namespace

absl::Status TestRules(const QueryEnvironment& environment,
                       const std::shared_ptr<const Rules>& rules,
                       const v1::TestRulesRequest& request,
                       const Cancelled& cancelled,
                       v1::TestRulesResponse* response) {
  absl::StatusOr<RunView> run = OpenRun(*environment.store, request.run());
  if (!run.ok()) return run.status();
  const auto wanted = RulesOf(rules, request.rules());
  if (!wanted.ok()) return wanted.status();
  Store* const store = environment.store;
  RunHealth health(*wanted, run->name(),
                   [store](StreamId stream, std::uint32_t schema) {
                     return store->ReadSchema(stream, schema);
                   });
  PastRun past(run->entry, &environment, &health);
  std::map<std::uint64_t, v1::Alert> alerts;  // By id.
  const auto take_changes = [&] {
    for (v1::Alert& alert : health.TakeChanges()) {
      alerts[alert.id()] = std::move(alert);
    }
  };
  absl::Status read = absl::OkStatus();
  const absl::Status scanned = store->ScanByOrdinal(
      run->name(), 0, [&](const StepRow* row, const GapRow* gap) {
        const std::uint64_t ordinal =
            row != nullptr ? row->ordinal : gap->ordinal;
        if (ordinal > run->entry->ordinal) return false;
        if (cancelled()) {
          read = absl::CancelledError("nobody waits for the answer");
          return false;
        }
        if (gap != nullptr) {
          past.LookAtGap(*gap);
        } else {
          read = past.LookAtRow(*row);
        }
        take_changes();
        return read.ok() && alerts.size() < kMostAlerts;
      });
  if (!read.ok()) return read;
  if (!scanned.ok()) return scanned;
  if (alerts.size() < kMostAlerts) past.Finish();
  take_changes();
  for (v1::Alert& alert : health.Active()) {
    alerts[alert.id()] = std::move(alert);
  }
  for (auto& [id, alert] : alerts) {
    *response->add_alerts() = std::move(alert);
  }
  response->set_steps(health.counts().steps);
  response->set_records(health.counts().records);
  response->set_rolled_up_steps(health.counts().rolled_up_steps);
  return absl::OkStatus();
}

}  // namespace gradtap::server
