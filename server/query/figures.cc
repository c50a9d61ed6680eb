#include "server/query/figures.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

namespace gradtap::server {
namespace {

std::uint64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  unsigned long long size = 0;
  unsigned long long resident = 0;
  const int fields = std::fscanf(file, "%llu %llu", &size, &resident);
  std::fclose(file);
  return fields == 2
             ? resident *
                   static_cast<unsigned long long>(::sysconf(_SC_PAGESIZE))
             : 0;
}

void CountRuns(const Store& store, CollectorFigures* figures) {
  for (const std::shared_ptr<const RunEntry>& run : store.Runs()) {
    ++figures->runs;
    figures->streams += run->streams.size();
    for (const StreamEntry& stream : run->streams) {
      figures->steps += stream.stored_steps;
      figures->bytes += stream.bytes;
      for (const Branch& branch : stream.branches) {
        figures->rows += branch.rows;
      }
    }
  }
}

void ToProto(const LatencyFigures& figures, v1::LatencyFigures* out) {
  out->set_count(figures.count);
  out->set_sum_ns(figures.sum_ns);
  out->set_recent(figures.recent);
  out->set_p50_ns(figures.p50_ns);
  out->set_p99_ns(figures.p99_ns);
  out->set_max_ns(figures.max_ns);
}

void ToProto(const Trouble& trouble, v1::TroubleFigures* out) {
  out->set_what(trouble.what);
  out->set_since_unix_ns(trouble.since_unix_ns);
}

void ToProto(const SealingFigures& sealing, const StoreCounters& counters,
             v1::SealingFigures* out) {
  out->set_rows_waiting(sealing.rows_waiting);
  out->set_rows_due(sealing.rows_due);
  out->set_branches_due(sealing.branches_due);
  out->set_due_for_ns(sealing.due_for_ns);
  out->set_sealed_windows(counters.sealed_windows);
  out->set_sealed_rows(counters.sealed_rows);
  out->set_sealed_values(counters.sealed_values);
  out->set_sealed_bytes(counters.sealed_bytes);
  out->set_windows_per_second(sealing.windows_per_second);
  out->set_values_per_second(sealing.values_per_second);
  ToProto(sealing.window, out->mutable_window());
  if (!sealing.trouble.what.empty()) {
    ToProto(sealing.trouble, out->mutable_trouble());
  }
}

void ToProto(const CollectorFigures& figures, v1::CollectorFigures* out) {
  out->set_total_rows(figures.rows);
  out->set_total_steps(figures.steps);
  out->set_total_bytes(figures.bytes);
  out->set_streams(figures.streams);
  const StoreFigures& store = figures.store;
  ToProto(store.commit, out->mutable_commit());
  ToProto(store.sync, out->mutable_sync());
  if (!store.trouble.what.empty()) {
    ToProto(store.trouble, out->mutable_storing());
  }
  ToProto(store.sealing, figures.counters, out->mutable_sealing());
  for (const FamilyFigures& family : store.families) {
    v1::FamilyFigures* of = out->add_families();
    of->set_name(family.name);
    of->set_disk_bytes(family.disk_bytes);
    of->set_memory_bytes(family.memory_bytes);
  }
  out->set_compaction_pending_bytes(store.compaction_pending_bytes);
  out->set_writes_stopped(store.writes_stopped);
  for (const CallFigures& call : figures.calls.methods) {
    v1::CallFigures* of = out->add_calls();
    of->set_method(call.method);
    ToProto(call.latency, of->mutable_latency());
    of->set_failed(call.failed);
  }
  out->set_calls_running(figures.calls.running);
  out->set_calls_waiting(figures.calls.waiting);
  for (const auto& [limit, refused] : figures.refused) {
    v1::LimitFigures* of = out->add_limits();
    of->set_limit(std::string(limit));
    of->set_refused(refused);
  }
}

}  // namespace

CollectorFigures CollectFigures(const QueryEnvironment& environment) {
  const Store& store = *environment.store;
  CollectorFigures figures;
  figures.version = GRADTAP_VERSION;
  figures.start_time_unix_ns = environment.start_time_unix_ns;
  figures.data_dir = store.data_dir();
  figures.format_version = store.format_version();
  CountRuns(store, &figures);
  if (environment.open_sessions) {
    figures.open_sessions = environment.open_sessions();
  }
  if (environment.open_watches) {
    figures.open_watches = environment.open_watches();
  }
  if (environment.batches) figures.batches = environment.batches();
  if (environment.calls) figures.calls = environment.calls();
  if (const LimitCounters* const refused = environment.guards.refused) {
    for (std::size_t i = 0; i < kLimits; ++i) {
      const auto limit = static_cast<Limit>(i);
      figures.refused.emplace_back(NameOf(limit), refused->refused(limit));
    }
  }
  figures.counters = store.counters();
  figures.store = store.figures();
  figures.disk_bytes = store.disk_bytes();
  struct statvfs disk = {};
  if (!figures.data_dir.empty() &&
      ::statvfs(figures.data_dir.c_str(), &disk) == 0) {
    figures.disk_free_bytes =
        static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  }
  figures.resident_bytes = ResidentBytes();
  return figures;
}

void ToProto(const CollectorFigures& figures, v1::GetStatusResponse* out) {
  out->set_version(figures.version);
  out->set_start_time_unix_ns(figures.start_time_unix_ns);
  out->set_data_dir(figures.data_dir);
  out->set_format_version(figures.format_version);
  out->set_runs(figures.runs);
  out->set_open_sessions(figures.open_sessions);
  out->set_open_watches(figures.open_watches);
  out->set_stored_steps(figures.counters.stored_steps);
  out->set_stored_values(figures.counters.stored_values);
  out->set_stored_bytes(figures.counters.stored_bytes);
  out->set_rejected_records(figures.counters.rejected_records);
  out->set_batches(figures.batches);
  out->set_syncs(figures.counters.syncs);
  out->set_disk_bytes(figures.disk_bytes);
  out->set_disk_free_bytes(figures.disk_free_bytes);
  out->set_resident_bytes(figures.resident_bytes);
  ToProto(figures, out->mutable_figures());
}

}  // namespace gradtap::server
