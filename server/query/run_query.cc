#include "server/query/run_query.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "core/codec.h"
#include "server/query/errors.h"
#include "server/query/figures.h"
#include "server/query/series_check.h"

namespace gradtap::server {
namespace {

constexpr int kOverheadSteps = 64;
// Parameters between two looks at whether anybody waits.
constexpr int kLookEvery = 1'024;
constexpr std::uint64_t kOverheadBytes = std::uint64_t{4} << 20;

Connected ConnectedOf(const QueryEnvironment& environment) {
  return [&environment](StreamId stream) {
    return environment.LiveSession(stream).has_value();
  };
}

void FillStream(const QueryEnvironment& environment, const StreamEntry& stream,
                v1::StreamInfo* info) {
  info->set_rank(stream.hello.rank);
  info->set_world_size(stream.hello.world_size);
  info->set_process_nonce(stream.hello.process_nonce);
  info->set_start_time_unix_ns(stream.hello.start_time_unix_ns);
  info->set_host(stream.hello.host);
  info->set_pid(stream.hello.pid);
  info->set_agent_version(stream.hello.agent_version);
  info->set_torch_version(stream.hello.torch_version);
  info->set_durable_seq(stream.durable_seq);
  info->set_stored_steps(stream.stored_steps);
  info->set_skipped_steps(stream.skipped_steps);
  info->set_lost_steps(stream.lost_steps);
  std::int64_t first = -1;
  std::int64_t last = -1;
  for (const Branch& branch : stream.branches) {
    if (branch.first_step < 0) continue;
    first = first < 0 ? branch.first_step : std::min(first, branch.first_step);
    last = std::max(last, branch.last_step);
  }
  info->set_first_step(first);
  info->set_last_step(last);
  const std::optional<std::int64_t> live = environment.LiveSession(stream.id);
  info->set_last_seen_unix_ns(
      std::max(stream.last_seen_unix_ns, live.value_or(0)));
  info->set_connected(live.has_value());
  if (stream.end.has_value()) {
    info->set_end_reason(static_cast<v1::End::Reason>(stream.end->reason));
  }
  info->set_branches(static_cast<std::uint32_t>(stream.branches.size()));
  info->set_schemas(stream.schema_id);
  info->set_rejected_records(stream.rejected_records);
  for (const std::string& type : stream.optimizers) info->add_optimizers(type);
}

// The line that stands for the run: the canonical one of its lowest rank.
Line LeadingLine(const RunView& run) {
  const std::vector<std::uint32_t> ranks = run.Ranks(0);
  return ranks.empty() ? Line{} : run.LineOf(ranks.front(), 0);
}

bool HasTags(const RunView& run, const v1::ListRunsRequest& request) {
  return std::all_of(
      request.tags().begin(), request.tags().end(), [&](const v1::Tag& tag) {
        return std::any_of(run.entry->streams.begin(), run.entry->streams.end(),
                           [&tag](const StreamEntry& stream) {
                             const auto it = stream.hello.tags.find(tag.key());
                             return it != stream.hello.tags.end() &&
                                    it->second == tag.value();
                           });
      });
}

absl::Status CountParameters(const QueryEnvironment& environment,
                             const RunView& run, std::uint32_t rank,
                             v1::RunInfo* info) {
  const SchemaSource source = NewestSchema(run, rank, 0);
  if (source.stream == nullptr) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<const Schema>> schema =
      environment.store->ReadSchema(source.stream->id,
                                    source.stream->schema_id);
  if (!schema.ok()) return schema.status();
  std::uint32_t count = 0;
  for (const Parameter& parameter : (*schema)->parameters) {
    if (parameter.kind == Kind::kParameter) ++count;
  }
  info->set_parameters(count);
  return absl::OkStatus();
}

void FillBooks(const QueryEnvironment& environment, const RunView& run,
               v1::RunInfo* info) {
  std::map<std::string, std::string> tags;
  std::int64_t start = std::numeric_limits<std::int64_t>::max();
  std::int64_t seen = 0;
  for (const StreamEntry& stream : run.entry->streams) {
    info->set_stored_steps(info->stored_steps() + stream.stored_steps);
    info->set_skipped_steps(info->skipped_steps() + stream.skipped_steps);
    info->set_lost_steps(info->lost_steps() + stream.lost_steps);
    info->set_bytes(info->bytes() + stream.bytes);
    for (const Branch& branch : stream.branches) {
      info->set_rolled_up_steps(info->rolled_up_steps() +
                                branch.rolled_up_steps);
    }
    start = std::min(start, stream.hello.start_time_unix_ns);
    seen = std::max({seen, stream.last_seen_unix_ns,
                     environment.LiveSession(stream.id).value_or(0)});
    for (const auto& [key, value] : stream.hello.tags) tags[key] = value;
  }
  info->set_start_time_unix_ns(
      run.entry->streams.empty() ? run.entry->created_unix_ns : start);
  info->set_last_seen_unix_ns(seen);
  for (const auto& [key, value] : tags) {
    v1::Tag* tag = info->add_tags();
    tag->set_key(key);
    tag->set_value(value);
  }
}

void Count(const Parameter& parameter, v1::ListParametersResponse* response) {
  if (parameter.kind == Kind::kBuffer) {
    response->set_buffer_count(response->buffer_count() + 1);
    response->set_buffer_numel(response->buffer_numel() + parameter.numel);
    response->set_buffer_bytes(response->buffer_bytes() + parameter.bytes);
    return;
  }
  response->set_parameter_count(response->parameter_count() + 1);
  response->set_parameter_numel(response->parameter_numel() + parameter.numel);
  response->set_parameter_bytes(response->parameter_bytes() + parameter.bytes);
  if (parameter.requires_grad) {
    response->set_trainable_numel(response->trainable_numel() +
                                  parameter.numel);
  }
}

}  // namespace

absl::StatusOr<double> OverheadCache::Get(Store* store, const RunView& run,
                                          const Line& line,
                                          const Cancelled& cancelled) {
  const RunEntry& entry = *run.entry;
  {
    MutexLock lock(mu_);
    const auto it = known_.find(entry.run);
    if (it != known_.end() && it->second.ordinal == entry.ordinal &&
        it->second.created_unix_ns == entry.created_unix_ns) {
      return it->second.overhead;
    }
  }
  ReadBudget budget(std::numeric_limits<std::uint64_t>::max(), cancelled);
  double capture = 0;
  double total = 0;
  int steps = 0;
  std::uint64_t bytes = 0;
  absl::Status read;
  absl::Status status =
      ScanBackward(store, line, StepWindow{}, &budget, [&](const Row& row) {
        std::optional<double> captured;
        std::optional<double> took;
        row.stored->ForEachScalar(
            [](std::string_view name) {
              return name == "agent.capture_seconds" ||
                     name == "agent.step_seconds";
            },
            [&](std::string_view name, double value) {
              (name == "agent.step_seconds" ? took : captured) = value;
            });
        read = row.stored->status();
        if (!read.ok()) return false;
        if (captured.has_value() && took.has_value()) {
          capture += *captured;
          total += *took;
        }
        bytes += row.stored->bytes_read();
        return ++steps < kOverheadSteps && bytes < kOverheadBytes;
      });
  if (!status.ok()) return status;
  if (!read.ok()) return read;
  const double overhead =
      total > 0 ? capture / total : std::numeric_limits<double>::quiet_NaN();
  MutexLock lock(mu_);
  known_[entry.run] = {entry.ordinal, entry.created_unix_ns, overhead};
  return overhead;
}

void OverheadCache::Forget(const std::string& run) {
  MutexLock lock(mu_);
  known_.erase(run);
}

void ToProto(const Parameter& parameter, v1::Parameter* out) {
  out->set_name(parameter.name);
  out->set_kind(static_cast<v1::Kind>(parameter.kind));
  out->set_module_path(parameter.module_path);
  out->set_module_type(parameter.module_type);
  out->set_dtype(parameter.dtype);
  for (const std::int64_t size : parameter.shape) out->add_shape(size);
  out->set_device(parameter.device);
  out->set_layout(parameter.layout);
  out->set_requires_grad(parameter.requires_grad);
  out->set_numel(parameter.numel);
  out->set_bytes(parameter.bytes);
  for (const std::string& alias : parameter.aliases) out->add_aliases(alias);
  out->set_placement(static_cast<v1::Placement>(parameter.placement));
  for (const Role role : parameter.roles) {
    out->add_roles(static_cast<v1::Role>(role));
  }
  out->set_unsupported_reason(parameter.unsupported_reason);
}

absl::StatusOr<v1::RunInfo> DescribeRun(const QueryEnvironment& environment,
                                        const RunView& run,
                                        const Cancelled& cancelled,
                                        OverheadCache* overheads) {
  v1::RunInfo info;
  info.set_run(run.name());
  const std::vector<std::uint32_t> ranks = run.Ranks(0);
  info.set_ranks(static_cast<std::uint32_t>(ranks.size()));
  info.set_attempts(static_cast<std::uint32_t>(run.attempts.size()));
  if (!run.attempts.empty()) {
    const Attempt& newest = run.attempts.back();
    const StateSince state = StateOf(newest, ConnectedOf(environment),
                                     environment.clock->UnixNanos());
    info.set_state(state.state);
    info.set_state_since_unix_ns(state.since_unix_ns);
    info.set_world_size(newest.world_size);
  }
  const Line line = LeadingLine(run);
  info.set_first_step(line.first_step());
  info.set_last_step(line.last_step());
  FillBooks(environment, run, &info);
  info.set_pinned(run.entry->pinned);
  absl::StatusOr<std::uint64_t> disk_bytes =
      environment.store->RunDiskBytes(run.name());
  if (!disk_bytes.ok()) return disk_bytes.status();
  info.set_disk_bytes(*disk_bytes);
  absl::StatusOr<double> overhead =
      overheads->Get(environment.store, run, line, cancelled);
  if (!overhead.ok()) return overhead.status();
  info.set_overhead(*overhead);
  if (!ranks.empty()) {
    absl::Status status =
        CountParameters(environment, run, ranks.front(), &info);
    if (!status.ok()) return status;
  }
  return info;
}

absl::Status ListRuns(const QueryEnvironment& environment,
                      const v1::ListRunsRequest& request,
                      const Cancelled& cancelled, OverheadCache* overheads,
                      v1::ListRunsResponse* response) {
  std::vector<v1::RunInfo> infos;
  for (const std::shared_ptr<const RunEntry>& entry :
       environment.store->Runs()) {
    RunView run{entry, AttemptsOf(*entry)};
    if (!HasTags(run, request)) continue;
    absl::StatusOr<v1::RunInfo> info =
        DescribeRun(environment, run, cancelled, overheads);
    // A run that was deleted meanwhile is not an error of the others.
    if (absl::IsNotFound(info.status()) &&
        environment.store->FindRun(entry->run) == nullptr) {
      continue;
    }
    // Nor is one that is damaged. Who asked is told which.
    if (absl::IsNotFound(info.status()) || absl::IsDataLoss(info.status()) ||
        absl::IsInternal(info.status())) {
      response->add_notes("run " + Quote(entry->run) + " cannot be read: " +
                          std::string(info.status().message()));
      continue;
    }
    if (!info.ok()) return info.status();
    if (request.state() != v1::RUN_STATE_UNSPECIFIED &&
        info->state() != request.state()) {
      continue;
    }
    infos.push_back(*std::move(info));
  }
  std::stable_sort(infos.begin(), infos.end(),
                   [](const v1::RunInfo& a, const v1::RunInfo& b) {
                     return a.start_time_unix_ns() > b.start_time_unix_ns();
                   });
  for (v1::RunInfo& info : infos) *response->add_runs() = std::move(info);
  return absl::OkStatus();
}

absl::Status GetRun(const QueryEnvironment& environment,
                    const v1::GetRunRequest& request,
                    const Cancelled& cancelled, OverheadCache* overheads,
                    v1::GetRunResponse* response) {
  absl::StatusOr<RunView> run = OpenRun(*environment.store, request.run());
  if (!run.ok()) return run.status();
  absl::StatusOr<v1::RunInfo> info =
      DescribeRun(environment, *run, cancelled, overheads);
  if (!info.ok()) return info.status();
  *response->mutable_run() = *std::move(info);
  for (const Attempt& attempt : run->attempts) {
    v1::AttemptInfo* out = response->add_attempts();
    out->set_attempt(attempt.label);
    out->set_launch(attempt.launch);
    const StateSince state = StateOf(attempt, ConnectedOf(environment),
                                     environment.clock->UnixNanos());
    out->set_state(state.state);
    out->set_state_since_unix_ns(state.since_unix_ns);
    out->set_start_time_unix_ns(attempt.start_time_unix_ns);
    for (const StreamEntry* stream : attempt.streams) {
      FillStream(environment, *stream, out->add_streams());
    }
  }
  return absl::OkStatus();
}

absl::Status ListParameters(const QueryEnvironment& environment,
                            const v1::ListParametersRequest& request,
                            const Cancelled& cancelled,
                            v1::ListParametersResponse* response) {
  absl::StatusOr<NameFilter> match = ParseMatch(request.match());
  if (!match.ok()) return match.status();
  absl::StatusOr<RunView> run = OpenRun(*environment.store, request.run());
  if (!run.ok()) return run.status();
  absl::Status status = CheckAttempt(*run, request.attempt());
  if (!status.ok()) return status;
  status = CheckRank(*run, request.attempt(), request.rank());
  if (!status.ok()) return status;
  response->set_run(request.run());
  response->set_rank(request.rank());
  const SchemaSource source =
      NewestSchema(*run, request.rank(), request.attempt());
  if (source.stream == nullptr) {  // No table has come yet.
    response->set_attempt(run->attempts.back().label);
    return absl::OkStatus();
  }
  absl::StatusOr<std::shared_ptr<const Schema>> schema =
      environment.store->ReadSchema(source.stream->id,
                                    source.stream->schema_id);
  if (!schema.ok()) return schema.status();
  response->set_attempt(source.attempt);
  response->set_schema_id(source.stream->schema_id);
  const std::set<int> kinds(request.kinds().begin(), request.kinds().end());
  bool matched = false;
  int looked_at = 0;
  for (const Parameter& parameter : (*schema)->parameters) {
    if (looked_at++ % kLookEvery == 0 && cancelled && cancelled()) {
      return absl::CancelledError("the caller has gone");
    }
    if (!match->Matches(parameter.name)) continue;
    matched = true;
    if (!kinds.empty() && kinds.count(static_cast<int>(parameter.kind)) == 0) {
      continue;
    }
    ToProto(parameter, response->add_parameters());
    Count(parameter, response);
  }
  if (matched || (*schema)->parameters.empty()) return absl::OkStatus();
  std::vector<std::string> names;
  for (const Parameter& parameter : (*schema)->parameters) {
    names.push_back(parameter.name);
  }
  return NothingMatches(request.run(), request.match(), names);
}

absl::Status DeleteRun(const QueryEnvironment& environment,
                       const v1::DeleteRunRequest& request,
                       OverheadCache* overheads,
                       v1::DeleteRunResponse* response) {
  absl::StatusOr<RunView> run = OpenRun(*environment.store, request.run());
  if (!run.ok()) return run.status();
  absl::Status status = environment.store->DeleteRun(request.run());
  if (absl::IsNotFound(status)) {
    return UnknownRun(request.run());
  }
  if (!status.ok()) return status;
  overheads->Forget(request.run());
  response->set_run(request.run());
  for (const StreamEntry& stream : run->entry->streams) {
    response->set_deleted_steps(response->deleted_steps() +
                                stream.stored_steps);
    response->set_deleted_bytes(response->deleted_bytes() + stream.bytes);
  }
  return absl::OkStatus();
}

absl::Status PinRun(const QueryEnvironment& environment,
                    const v1::PinRunRequest& request,
                    v1::PinRunResponse* response) {
  absl::StatusOr<bool> changed =
      environment.store->PinRun(request.run(), request.pinned());
  if (absl::IsNotFound(changed.status())) {
    return UnknownRun(request.run());
  }
  if (!changed.ok()) return changed.status();
  response->set_run(request.run());
  response->set_pinned(request.pinned());
  response->set_changed(*changed);
  return absl::OkStatus();
}

absl::Status GetStatus(const QueryEnvironment& environment,
                       v1::GetStatusResponse* response) {
  ToProto(CollectFigures(environment), response);
  response->set_time_unix_ns(environment.clock->UnixNanos());
  if (environment.keeping) environment.keeping(response->mutable_keeping());
  return absl::OkStatus();
}

}  // namespace gradtap::server
