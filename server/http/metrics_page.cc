#include "server/http/metrics_page.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "gradtap/v1/query.pb.h"
#include "server/http/health_metrics.h"
#include "server/http/metric_set.h"
#include "server/http/parameter_metrics.h"
#include "server/query/run_view.h"
#include "server/service/query_methods.h"

namespace gradtap::server {
namespace {

// Of which the pace is taken.
constexpr int kPaceSteps = 32;
constexpr std::uint64_t kPaceBytes = std::uint64_t{1} << 20;

double Seconds(std::int64_t ns) { return static_cast<double>(ns) * 1e-9; }
double Number(std::uint64_t value) { return static_cast<double>(value); }

void AddStored(const v1::GetStatusResponse& status, MetricSet* set) {
  set->Gauge("gradtap_build_info", "Always 1; the version is a label.", 1,
             {{"version", status.version()}});
  set->Gauge("gradtap_start_time_seconds",
             "When the collector started, since the Unix epoch.",
             Seconds(status.start_time_unix_ns()));
  set->Gauge("gradtap_runs", "Runs that are stored.", status.runs());
  set->Gauge("gradtap_sessions_open", "Agents that are connected.",
             status.open_sessions());
  set->Gauge("gradtap_watches_open", "Readers of live steps.",
             status.open_watches());
  set->Counter("gradtap_stored_steps_total",
               "Steps that were stored since the start.",
               Number(status.stored_steps()));
  set->Counter("gradtap_stored_values_total",
               "Numbers that were stored since the start, nine a record.",
               Number(status.stored_values()));
  set->Counter("gradtap_stored_bytes_total",
               "Bytes of records that were stored since the start, as they "
               "came.",
               Number(status.stored_bytes()));
  set->Counter("gradtap_rejected_records_total",
               "Records that were refused since the start.",
               Number(status.rejected_records()));
  set->Counter("gradtap_batches_total", "Batches that came since the start.",
               Number(status.batches()));
  set->Gauge("gradtap_resident_memory_bytes",
             "Memory of the collector's process.",
             Number(status.resident_bytes()));
}

void AddKeeping(const v1::GetStatusResponse& status, MetricSet* set) {
  const v1::KeepingStatus& keeping = status.keeping();
  set->Gauge("gradtap_data_bytes", "What the data folder takes of the disk.",
             Number(status.disk_bytes()));
  set->Gauge("gradtap_disk_free_bytes", "Free on the data folder's disk.",
             Number(status.disk_free_bytes()));
  set->Gauge("gradtap_disk_reserve_bytes",
             "Of the disk, what the collector keeps free.",
             Number(keeping.disk_reserve_bytes()));
  constexpr double kDay = 86'400;
  // Neither is known in the first minutes.
  if (!std::isnan(keeping.days_until_full())) {
    set->Gauge("gradtap_disk_full_in_seconds",
               "Until the disk is down to its reserve, as the data grows now; "
               "+Inf: it does not grow.",
               keeping.days_until_full() * kDay);
    set->Gauge("gradtap_data_growth_bytes_per_second",
               "How fast the data folder grows, over the last hour.",
               keeping.growth_bytes_per_day() / kDay);
  }
  set->Gauge("gradtap_ingest_stopped",
             "1: nothing is stored, for there is no room.",
             keeping.ingest_stopped() ? 1 : 0);
  set->Counter("gradtap_removed_runs_total",
               "Runs that the collector removed since the start.",
               Number(keeping.removed_runs()));
  set->Counter("gradtap_shrunk_steps_total",
               "Steps that it reduced to their roll-ups since the start.",
               Number(keeping.shrunk_steps()));
}

void AddWork(const v1::CollectorFigures& figures, MetricSet* set) {
  set->Summary("gradtap_commit_seconds",
               "Storing a group of batches, waiting included.",
               figures.commit());
  set->Summary("gradtap_sync_seconds", "The synced write of a commit.",
               figures.sync());
  set->Summary("gradtap_seal_seconds", "Sealing a window of rows.",
               figures.sealing().window());
  set->Gauge("gradtap_rows_due", "Rows that wait to be sealed.",
             Number(figures.sealing().rows_due()));
  set->Gauge("gradtap_sealer_lag_seconds",
             "How long rows have waited to be sealed without a break.",
             Seconds(figures.sealing().due_for_ns()));
  set->Gauge("gradtap_write_trouble",
             "1: the last attempt to store or to seal failed.",
             figures.storing().what().empty() &&
                     figures.sealing().trouble().what().empty()
                 ? 0
                 : 1);
  for (const v1::FamilyFigures& family : figures.families()) {
    set->Gauge("gradtap_table_bytes", "On disk, by kind of data.",
               Number(family.disk_bytes()), {{"kind", family.name()}});
  }
  for (const v1::CallFigures& call : figures.calls()) {
    set->Summary("gradtap_query_seconds",
                 "Queries from their arrival on, waiting included.",
                 call.latency(), {{"method", call.method()}});
    set->Counter("gradtap_query_failures_total",
                 "Queries that ended with an error.", Number(call.failed()),
                 {{"method", call.method()}});
  }
  for (const v1::LimitFigures& limit : figures.limits()) {
    set->Counter("gradtap_refused_total",
                 "What was refused because of a limit, since the start.",
                 Number(limit.refused()), {{"limit", limit.limit()}});
  }
  set->Gauge("gradtap_queries_running", "Queries at work.",
             figures.calls_running());
  set->Gauge("gradtap_queries_waiting", "Queries that wait for a thread.",
             figures.calls_waiting());
}

// Steps a second over the newest ones; NaN: there are too few.
double PaceOf(QueryBackend* backend, const std::string& name,
              const Cancelled& cancelled) {
  const QueryEnvironment& environment = backend->environment();
  const absl::StatusOr<RunView> run = OpenRun(*environment.store, name);
  if (!run.ok() || run->Ranks(0).empty()) return NAN;
  ReadBudget budget(environment.limits.max_read_bytes, cancelled);
  std::int64_t newest_step = 0, newest_ns = 0, step = 0, ns = 0;
  int rows = 0;
  std::uint64_t bytes = 0;
  const absl::Status status =
      ScanBackward(environment.store, run->LineOf(run->Ranks(0).front(), 0),
                   StepWindow{}, &budget, [&](const Row& row) {
                     step = row.step;
                     ns = row.stored->wall_time_unix_ns();
                     if (rows == 0) {
                       newest_step = step;
                       newest_ns = ns;
                     }
                     bytes += row.stored->bytes_read();
                     return ++rows < kPaceSteps && bytes < kPaceBytes;
                   });
  if (!status.ok() || rows < 2 || newest_ns <= ns) return NAN;
  return static_cast<double>(newest_step - step) / Seconds(newest_ns - ns);
}

class RunMetrics {
 public:
  RunMetrics(QueryBackend* backend, const MetricsLimits& limits,
             const Cancelled& cancelled, MetricSet* set)
      : backend_(backend), limits_(limits), cancelled_(cancelled), set_(*set) {}

  absl::Status Add(const v1::RunInfo& run) {
    AddInfo(run);
    if (backend_->health() != nullptr) {
      AddRunAlerts(*backend_->health(), run.run(), &set_);
    }
    if (run.last_step() < 0) return absl::OkStatus();
    const double pace = PaceOf(backend_, run.run(), cancelled_);
    if (!std::isnan(pace)) {
      Gauge("gradtap_run_steps_per_second",
            "Pace of the newest steps, of the lowest rank.", run, pace);
    }
    return AddNewestStep(run);
  }

  std::size_t omitted_scalars() const { return omitted_scalars_; }

 private:
  void Gauge(const char* name, const char* help, const v1::RunInfo& run,
             double value) {
    set_.Gauge(name, help, value, {{"run", run.run()}});
  }

  void AddInfo(const v1::RunInfo& run) {
    const std::string state = absl::AsciiStrToLower(
        absl::StripPrefix(v1::RunState_Name(run.state()), "RUN_STATE_"));
    set_.Gauge("gradtap_run_state", "Always 1; the state is a label.", 1,
               {{"run", run.run()}, {"state", state}});
    Gauge("gradtap_run_step", "The newest step; -1: none yet.", run,
          static_cast<double>(run.last_step()));
    Gauge("gradtap_run_last_seen_timestamp_seconds",
          "When its agents said something last, since the Unix epoch.", run,
          Seconds(run.last_seen_unix_ns()));
    Gauge("gradtap_run_ranks", "Ranks that were seen.", run, run.ranks());
    set_.Counter("gradtap_run_stored_steps_total", "Steps that are stored.",
                 Number(run.stored_steps()), {{"run", run.run()}});
    set_.Counter("gradtap_run_lost_steps_total",
                 "Steps that were lost on the way.", Number(run.lost_steps()),
                 {{"run", run.run()}});
    Gauge("gradtap_run_disk_bytes", "What the run takes of the disk.", run,
          Number(run.disk_bytes()));
    if (!std::isnan(run.overhead())) {
      Gauge("gradtap_agent_overhead_ratio",
            "Share of step time that the agent takes on the training thread.",
            run, run.overhead());
    }
  }

  // All parameters as one, of all ranks.
  absl::Status AddNewestStep(const v1::RunInfo& run) {
    v1::GetSnapshotRequest request;
    request.set_run(run.run());
    request.set_merged(run.ranks() > 1);
    request.add_merge_match(".");
    for (const char* name : {"grad.l2", "weight.l2", "update.l2",
                             "grad.nonfinite", "weight.nonfinite"}) {
      request.add_statistics(name);
    }
    v1::GetSnapshotResponse newest;
    absl::Status status = Answer(backend_, request, cancelled_, &newest);
    if (absl::IsNotFound(status)) return absl::OkStatus();  // No parameters.
    if (!status.ok()) return status;
    for (const v1::SnapshotRow& row : newest.rows()) AddNorms(run, row);
    AddScalars(run, newest);
    return absl::OkStatus();
  }

  void AddNorms(const v1::RunInfo& run, const v1::SnapshotRow& row) {
    const auto has = [&row](int i) {
      return i < row.value_size() &&
             std::find(row.absent().begin(), row.absent().end(),
                       static_cast<std::uint32_t>(i)) == row.absent().end();
    };
    const char* const roles[] = {"grad", "weight", "update"};
    for (int i = 0; i < 3; ++i) {
      if (!has(i)) continue;
      set_.Gauge("gradtap_run_norm",
                 "L2 norm over all parameters at the newest step, of the "
                 "finite elements.",
                 row.value(i), {{"run", run.run()}, {"role", roles[i]}});
    }
    for (int i = 3; i < 5; ++i) {
      if (!has(i)) continue;
      set_.Gauge("gradtap_run_nonfinite_elements",
                 "NaN and infinite elements of all parameters at the newest "
                 "step.",
                 row.value(i), {{"run", run.run()}, {"role", roles[i - 3]}});
    }
  }

  void AddScalars(const v1::RunInfo& run,
                  const v1::GetSnapshotResponse& newest) {
    std::size_t told = 0;
    for (const v1::Scalar& scalar : newest.scalars()) {
      if (told++ >= limits_.scalars) {
        ++omitted_scalars_;
        continue;
      }
      set_.Gauge("gradtap_run_scalar",
                 "What the training loop recorded with its newest step.",
                 scalar.value(), {{"run", run.run()}, {"name", scalar.name()}});
    }
  }

  QueryBackend* const backend_;
  const MetricsLimits& limits_;
  const Cancelled& cancelled_;
  MetricSet& set_;
  std::size_t omitted_scalars_ = 0;
};

void AddDoors(const QueryEnvironment& environment, MetricSet* set) {
  if (environment.certificate_not_after_unix_s) {
    set->Gauge(
        "gradtap_tls_certificate_not_after_timestamp_seconds",
        "When the collector's certificate expires, since the Unix epoch.",
        static_cast<double>(environment.certificate_not_after_unix_s()));
  }
  if (!environment.refused_calls) return;
  for (const auto& [why, calls] : environment.refused_calls()) {
    set->Counter("gradtap_refused_calls_total",
                 "Calls that were not let in, for want of a token or of its "
                 "role, since the start.",
                 Number(calls), {{"reason", why}});
  }
}

void AddForwarded(const ForwardFigures& figures, MetricSet* set) {
  set->Counter("gradtap_remote_write_samples_total",
               "Samples that remote write has taken since the start.",
               static_cast<double>(figures.sent_samples));
  set->Counter("gradtap_remote_write_refused_samples_total",
               "Samples that it has refused, and that were left out.",
               static_cast<double>(figures.refused_samples));
  set->Counter("gradtap_remote_write_failures_total",
               "Requests that failed, and were tried again.",
               static_cast<double>(figures.failed_requests));
}

// Those that run, or were seen after `seen_after_unix_ns`; the last seen first.
std::vector<const v1::RunInfo*> RunsToTell(const v1::ListRunsResponse& runs,
                                           std::int64_t seen_after_unix_ns) {
  std::vector<const v1::RunInfo*> told;
  for (const v1::RunInfo& run : runs.runs()) {
    if (run.state() == v1::RUN_STATE_RUNNING ||
        run.last_seen_unix_ns() > seen_after_unix_ns) {
      told.push_back(&run);
    }
  }
  std::sort(told.begin(), told.end(), [](const auto* a, const auto* b) {
    return a->last_seen_unix_ns() > b->last_seen_unix_ns();
  });
  return told;
}

}  // namespace

absl::StatusOr<std::string> MetricsPage(QueryBackend* backend,
                                        const MetricSelection& parameters,
                                        const MetricsLimits& limits,
                                        const Cancelled& cancelled) {
  v1::GetStatusResponse status;
  absl::Status answered =
      Answer(backend, v1::GetStatusRequest(), cancelled, &status);
  if (!answered.ok()) return answered;
  MetricSet set;
  AddStored(status, &set);
  AddKeeping(status, &set);
  AddWork(status.figures(), &set);
  if (backend->health() != nullptr) AddHealth(*backend->health(), &set);
  AddDoors(backend->environment(), &set);
  if (backend->environment().forwarded) {
    AddForwarded(backend->environment().forwarded(), &set);
  }

  v1::ListRunsResponse runs;
  std::size_t unread = 0;
  if (!Answer(backend, v1::ListRunsRequest(), cancelled, &runs).ok()) {
    runs.Clear();
    unread = status.runs();
  }
  std::vector<const v1::RunInfo*> told = RunsToTell(
      runs, backend->environment().clock->UnixNanos() - limits.ended_run_ns);
  const std::size_t omitted = told.size() - std::min(told.size(), limits.runs);
  told.resize(told.size() - omitted);
  RunMetrics of_runs(backend, limits, cancelled, &set);
  ParameterMetrics of_parameters(backend, parameters, limits.parameter_series,
                                 &set);
  for (const v1::RunInfo* run : told) {
    absl::Status read = of_runs.Add(*run);
    if (read.ok()) read = of_parameters.Add(*run, cancelled);
    if (!read.ok()) ++unread;
  }
  set.Gauge("gradtap_metrics_omitted_runs",
            "Runs that would be here if there were fewer.", Number(omitted));
  set.Gauge("gradtap_metrics_omitted_scalars",
            "Scalars that would be here if there were fewer.",
            Number(of_runs.omitted_scalars()));
  set.Gauge("gradtap_metrics_omitted_parameter_series",
            "Series of parameters that match, but are more than fit.",
            Number(of_parameters.omitted()));
  set.Gauge("gradtap_metrics_unread_runs",
            "Runs whose newest step could not be read.", Number(unread));
  return set.Text();
}

}  // namespace gradtap::server
