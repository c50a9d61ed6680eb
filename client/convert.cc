#include "client/convert.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include "client/rpc/words.h"
#include "core/histogram.h"

namespace gradtap::client {
namespace {

RunState ToState(v1::RunState state) {
  switch (state) {
    case v1::RUN_STATE_RUNNING:
      return RunState::kRunning;
    case v1::RUN_STATE_FINISHED:
      return RunState::kFinished;
    case v1::RUN_STATE_STOPPED:
      return RunState::kStopped;
    case v1::RUN_STATE_LOST:
      return RunState::kLost;
    default:
      return RunState::kUnknown;
  }
}

v1::RunState ToWireState(RunState state) {
  switch (state) {
    case RunState::kRunning:
      return v1::RUN_STATE_RUNNING;
    case RunState::kFinished:
      return v1::RUN_STATE_FINISHED;
    case RunState::kStopped:
      return v1::RUN_STATE_STOPPED;
    case RunState::kLost:
      return v1::RUN_STATE_LOST;
    case RunState::kUnknown:
      break;
  }
  return v1::RUN_STATE_UNSPECIFIED;
}

ParameterPlacement ToPlacement(v1::Placement placement) {
  if (placement == v1::PLACEMENT_REPLICATED) {
    return ParameterPlacement::kReplicated;
  }
  if (placement == v1::PLACEMENT_SHARDED) return ParameterPlacement::kSharded;
  return ParameterPlacement::kUnknown;
}

StreamSummary FromStream(const v1::StreamInfo& in) {
  StreamSummary out;
  out.rank = in.rank();
  out.world_size = in.world_size();
  out.process_nonce = in.process_nonce();
  out.start_time_unix_ns = in.start_time_unix_ns();
  out.host = in.host();
  out.pid = in.pid();
  out.agent_version = in.agent_version();
  out.torch_version = in.torch_version();
  out.durable_seq = in.durable_seq();
  out.stored_steps = in.stored_steps();
  out.skipped_steps = in.skipped_steps();
  out.lost_steps = in.lost_steps();
  out.first_step = in.first_step();
  out.last_step = in.last_step();
  out.last_seen_unix_ns = in.last_seen_unix_ns();
  out.connected = in.connected();
  out.branches = in.branches();
  out.schemas = in.schemas();
  out.rejected_records = in.rejected_records();
  out.optimizers.assign(in.optimizers().begin(), in.optimizers().end());
  return out;
}

ParameterInfo FromParameter(const v1::Parameter& in) {
  ParameterInfo out;
  out.name = in.name();
  out.kind = ToKind(in.kind());
  out.module_path = in.module_path();
  out.module_type = in.module_type();
  out.dtype = in.dtype();
  out.shape.assign(in.shape().begin(), in.shape().end());
  out.device = in.device();
  out.layout = in.layout();
  out.requires_grad = in.requires_grad();
  out.numel = in.numel();
  out.bytes = in.bytes();
  out.aliases.assign(in.aliases().begin(), in.aliases().end());
  out.placement = ToPlacement(in.placement());
  for (const int role : in.roles()) {
    out.roles.emplace_back(RoleWord(static_cast<v1::Role>(role)));
  }
  out.unsupported_reason = in.unsupported_reason();
  return out;
}

SeriesLine FromSeries(const v1::Series& in) {
  SeriesLine out;
  out.run = in.run();
  out.rank = in.rank();
  out.parameter = in.parameter();
  out.members = in.members();
  out.statistic = in.statistic();
  out.points_before = in.points_before();
  const int n = std::min({in.attempt_size(), in.step_size(),
                          in.time_unix_ns_size(), in.value_size()});
  out.points.reserve(n);
  for (int i = 0; i < n; ++i) {
    out.points.push_back(
        {in.attempt(i), in.step(i), in.time_unix_ns(i), in.value(i)});
  }
  for (const std::uint32_t i : in.absent()) {
    if (i < out.points.size()) out.points[i].value.reset();
  }
  return out;
}

ParameterHistogram FromHistogram(const v1::ParameterHistogram& in) {
  ParameterHistogram out;
  out.parameter = in.parameter();
  out.role = std::string(RoleWord(in.role()));
  out.numel = in.numel();
  if (!std::isnan(in.min())) out.min = in.min();
  if (!std::isnan(in.max())) out.max = in.max();
  BinCounts bins{};
  const auto n =
      static_cast<std::size_t>(std::min(in.bin_size(), in.count_size()));
  AddBins(std::span(in.bin().data(), n), std::span(in.count().data(), n),
          &bins);
  out.nan = bins[kBinNan];
  out.pos_inf = bins[kBinPosInf];
  out.neg_inf = bins[kBinNegInf];
  for (std::size_t order = 0; order < kFiniteBins; ++order) {
    const std::uint32_t bin = FiniteBinAt(order);
    if (bins[bin] == 0) continue;
    const BinRange range = RangeOf(bin);
    out.bins.push_back({range.lower, range.upper, bins[bin]});
  }
  return out;
}

}  // namespace

Error ToError(const absl::Status& status) {
  ErrorCode code = ErrorCode::kInternal;
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      code = ErrorCode::kInvalidArgument;
      break;
    case absl::StatusCode::kNotFound:
      code = ErrorCode::kNotFound;
      break;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kAlreadyExists:
      code = ErrorCode::kRefused;
      break;
    case absl::StatusCode::kUnavailable:
      code = ErrorCode::kUnreachable;
      break;
    case absl::StatusCode::kDeadlineExceeded:
      code = ErrorCode::kDeadline;
      break;
    default:
      break;
  }
  return {code, std::string(status.message())};
}

v1::StepRange ToRange(const StepSlice& in) {
  v1::StepRange out;
  if (in.begin) out.set_begin(*in.begin);
  if (in.end) out.set_end(*in.end);
  return out;
}

ParameterKind ToKind(v1::Kind kind) {
  if (kind == v1::KIND_PARAMETER) return ParameterKind::kParameter;
  if (kind == v1::KIND_BUFFER) return ParameterKind::kBuffer;
  return ParameterKind::kUnknown;
}

RunSummary FromProto(const v1::RunInfo& in) {
  RunSummary out;
  out.run = in.run();
  out.state = ToState(in.state());
  out.state_since_unix_ns = in.state_since_unix_ns();
  out.ranks = in.ranks();
  out.world_size = in.world_size();
  out.attempts = in.attempts();
  out.first_step = in.first_step();
  out.last_step = in.last_step();
  out.stored_steps = in.stored_steps();
  out.skipped_steps = in.skipped_steps();
  out.lost_steps = in.lost_steps();
  out.start_time_unix_ns = in.start_time_unix_ns();
  out.last_seen_unix_ns = in.last_seen_unix_ns();
  out.overhead = in.overhead();
  out.bytes = in.bytes();
  out.disk_bytes = in.disk_bytes();
  out.rolled_up_steps = in.rolled_up_steps();
  out.pinned = in.pinned();
  out.parameters = in.parameters();
  for (const v1::Tag& tag : in.tags()) {
    out.tags.push_back({tag.key(), tag.value()});
  }
  return out;
}

RunDetails FromProto(const v1::GetRunResponse& in) {
  RunDetails out;
  out.run = FromProto(in.run());
  for (const v1::AttemptInfo& attempt : in.attempts()) {
    AttemptSummary summary;
    summary.attempt = attempt.attempt();
    summary.launch = attempt.launch();
    summary.state = ToState(attempt.state());
    summary.state_since_unix_ns = attempt.state_since_unix_ns();
    summary.start_time_unix_ns = attempt.start_time_unix_ns();
    for (const v1::StreamInfo& stream : attempt.streams()) {
      summary.streams.push_back(FromStream(stream));
    }
    out.attempts.push_back(std::move(summary));
  }
  return out;
}

ParameterList FromProto(const v1::ListParametersResponse& in) {
  ParameterList out;
  out.run = in.run();
  out.attempt = in.attempt();
  out.rank = in.rank();
  out.schema_id = in.schema_id();
  out.parameters.reserve(in.parameters_size());
  for (const v1::Parameter& parameter : in.parameters()) {
    out.parameters.push_back(FromParameter(parameter));
  }
  out.parameter_count = in.parameter_count();
  out.parameter_numel = in.parameter_numel();
  out.parameter_bytes = in.parameter_bytes();
  out.trainable_numel = in.trainable_numel();
  out.buffer_count = in.buffer_count();
  out.buffer_numel = in.buffer_numel();
  out.buffer_bytes = in.buffer_bytes();
  return out;
}

SeriesAnswer FromProto(const v1::GetSeriesResponse& in) {
  SeriesAnswer out;
  out.series.reserve(in.series_size());
  for (const v1::Series& series : in.series()) {
    out.series.push_back(FromSeries(series));
  }
  for (const v1::GapInfo& gap : in.gaps()) out.gaps.push_back(FromProto(gap));
  return out;
}

SnapshotAnswer FromProto(const v1::GetSnapshotResponse& in) {
  SnapshotAnswer out;
  out.run = in.run();
  out.attempt = in.attempt();
  out.rank = in.rank();
  out.step = in.step();
  out.time_unix_ns = in.time_unix_ns();
  out.interval_steps = in.interval_steps();
  out.statistics.assign(in.statistics().begin(), in.statistics().end());
  out.rows.reserve(in.rows_size());
  for (const v1::SnapshotRow& row : in.rows()) {
    SnapshotEntry entry;
    entry.parameter = row.parameter();
    entry.members = row.members();
    entry.kind = ToKind(row.kind());
    entry.values.assign(row.value().begin(), row.value().end());
    for (const std::uint32_t i : row.absent()) {
      if (i < entry.values.size()) entry.values[i].reset();
    }
    // What a peer left out is absent.
    entry.values.resize(out.statistics.size());
    out.rows.push_back(std::move(entry));
  }
  for (const v1::Scalar& scalar : in.scalars()) {
    out.scalars.push_back({scalar.name(), scalar.value()});
  }
  return out;
}

HistogramsAnswer FromProto(const v1::GetHistogramsResponse& in) {
  HistogramsAnswer out;
  out.run = in.run();
  out.attempt = in.attempt();
  out.rank = in.rank();
  out.step = in.step();
  out.time_unix_ns = in.time_unix_ns();
  out.histograms.reserve(in.histograms_size());
  for (const v1::ParameterHistogram& histogram : in.histograms()) {
    out.histograms.push_back(FromHistogram(histogram));
  }
  return out;
}

GapEntry FromProto(const v1::GapInfo& in) {
  GapEntry out;
  out.attempt = in.attempt();
  out.rank = in.rank();
  out.branch = in.branch();
  out.lost = in.lost();
  out.cause = CauseWord(in.gap().cause());
  out.first_step = in.gap().first_step();
  out.last_step = in.gap().last_step();
  out.steps = in.gap().steps();
  out.detail = in.gap().detail();
  return out;
}

GapList FromProto(const v1::ListGapsResponse& in) {
  GapList out;
  out.run = in.run();
  for (const v1::GapInfo& gap : in.gaps()) out.gaps.push_back(FromProto(gap));
  out.skipped_steps = in.skipped_steps();
  out.lost_steps = in.lost_steps();
  out.rolled_up_steps = in.rolled_up_steps();
  return out;
}

BackupResult FromProto(const v1::BackupResponse& in) {
  return {in.path(), in.bytes(), in.runs(), in.rows(), in.took_ns()};
}

CompactResult FromProto(const v1::CompactResponse& in) {
  CompactResult out;
  out.bytes_before = in.bytes_before();
  out.bytes_after = in.bytes_after();
  for (const v1::CompactResponse::Family& family : in.families()) {
    out.families.push_back(
        {family.name(), family.bytes_before(), family.bytes_after()});
  }
  out.took_ns = in.took_ns();
  return out;
}

CollectorStatus FromProto(const v1::GetStatusResponse& in) {
  CollectorStatus out;
  out.version = in.version();
  out.start_time_unix_ns = in.start_time_unix_ns();
  out.data_dir = in.data_dir();
  out.format_version = in.format_version();
  out.runs = in.runs();
  out.open_sessions = in.open_sessions();
  out.open_watches = in.open_watches();
  out.stored_steps = in.stored_steps();
  out.stored_values = in.stored_values();
  out.stored_bytes = in.stored_bytes();
  out.rejected_records = in.rejected_records();
  out.batches = in.batches();
  out.syncs = in.syncs();
  out.disk_bytes = in.disk_bytes();
  out.disk_free_bytes = in.disk_free_bytes();
  out.resident_bytes = in.resident_bytes();
  out.rows_waiting = in.figures().sealing().rows_waiting();
  out.rows_due = in.figures().sealing().rows_due();
  return out;
}

WatchEvent FromProto(const v1::WatchResponse& in) {
  WatchEvent out;
  out.ordinal = in.ordinal();
  out.conflated_steps = in.conflated_steps();
  switch (in.event_case()) {
    case v1::WatchResponse::kSnapshot:
      out.kind = WatchEvent::Kind::kSnapshot;
      out.snapshot = FromProto(in.snapshot());
      break;
    case v1::WatchResponse::kRun:
      out.kind = WatchEvent::Kind::kRun;
      out.run = FromProto(in.run());
      break;
    case v1::WatchResponse::kGap:
      out.kind = WatchEvent::Kind::kGap;
      out.gap = FromProto(in.gap());
      break;
    default:  // An event of a newer collector.
      out.kind = WatchEvent::Kind::kTick;
      break;
  }
  return out;
}

v1::ListRunsRequest ToProto(const RunsQuery& in) {
  v1::ListRunsRequest out;
  out.set_state(ToWireState(in.state));
  for (const RunTag& tag : in.tags) {
    v1::Tag* added = out.add_tags();
    added->set_key(tag.key);
    added->set_value(tag.value);
  }
  return out;
}

v1::ListParametersRequest ToProto(const ParametersQuery& in) {
  v1::ListParametersRequest out;
  out.set_run(in.run);
  out.set_match(in.match);
  for (const ParameterKind kind : in.kinds) {
    if (kind == ParameterKind::kParameter) out.add_kinds(v1::KIND_PARAMETER);
    if (kind == ParameterKind::kBuffer) out.add_kinds(v1::KIND_BUFFER);
  }
  out.set_attempt(in.attempt);
  out.set_rank(in.rank);
  return out;
}

v1::GetSeriesRequest ToProto(const SeriesQuery& in) {
  v1::GetSeriesRequest out;
  out.mutable_runs()->Assign(in.runs.begin(), in.runs.end());
  out.mutable_statistics()->Assign(in.statistics.begin(), in.statistics.end());
  out.set_match(in.match);
  *out.mutable_steps() = ToRange(in.steps);
  out.set_since_unix_ns(in.since_unix_ns);
  out.set_until_unix_ns(in.until_unix_ns);
  out.set_max_points(in.max_points);
  out.mutable_ranks()->Assign(in.ranks.begin(), in.ranks.end());
  out.set_merged(in.merged);
  out.set_attempt(in.attempt);
  out.mutable_merge_match()->Assign(in.merge.begin(), in.merge.end());
  return out;
}

v1::GetSnapshotRequest ToProto(const SnapshotQuery& in) {
  v1::GetSnapshotRequest out;
  out.set_run(in.run);
  if (in.step) out.set_step(*in.step);
  out.mutable_statistics()->Assign(in.statistics.begin(), in.statistics.end());
  out.set_match(in.match);
  out.set_rank(in.rank);
  out.set_merged(in.merged);
  out.set_attempt(in.attempt);
  out.mutable_merge_match()->Assign(in.merge.begin(), in.merge.end());
  return out;
}

v1::GetHistogramsRequest ToProto(const HistogramsQuery& in) {
  v1::GetHistogramsRequest out;
  out.set_run(in.run);
  if (in.step) out.set_step(*in.step);
  out.set_parameter(in.parameter);
  out.set_match(in.match);
  out.set_role(RoleOfWord(in.role).value_or(v1::ROLE_UNSPECIFIED));
  out.set_rank(in.rank);
  out.set_merged(in.merged);
  out.set_attempt(in.attempt);
  return out;
}

v1::ListGapsRequest ToProto(const GapsQuery& in) {
  v1::ListGapsRequest out;
  out.set_run(in.run);
  *out.mutable_steps() = ToRange(in.steps);
  out.set_attempt(in.attempt);
  out.mutable_ranks()->Assign(in.ranks.begin(), in.ranks.end());
  return out;
}

v1::WatchRequest ToProto(const WatchQuery& in) {
  v1::WatchRequest out;
  out.set_run(in.run);
  out.mutable_statistics()->Assign(in.statistics.begin(), in.statistics.end());
  out.set_match(in.match);
  out.mutable_ranks()->Assign(in.ranks.begin(), in.ranks.end());
  if (in.after_ordinal) out.set_after_ordinal(*in.after_ordinal);
  return out;
}

}  // namespace gradtap::client
