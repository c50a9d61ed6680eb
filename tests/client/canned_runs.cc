#include <cmath>
#include <limits>

#include "client/fake_query_service.h"

namespace gradtap::client::testing {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

void SetRun(const std::string& name, v1::RunState state, std::int64_t last_step,
            std::uint64_t steps, FakeRun& run) {
  v1::RunInfo& info = *run.info.mutable_run();
  info.set_run(name);
  info.set_state(state);
  info.set_state_since_unix_ns(kFakeStart + 10 * kSecond);
  info.set_ranks(1);
  info.set_world_size(1);
  info.set_attempts(1);
  info.set_first_step(0);
  info.set_last_step(last_step);
  info.set_stored_steps(steps);
  info.set_start_time_unix_ns(kFakeStart);
  info.set_last_seen_unix_ns(kFakeStart + 10 * kSecond);
  info.set_overhead(0.0184);
  info.set_bytes(12'345);
  v1::AttemptInfo& attempt = *run.info.add_attempts();
  attempt.set_attempt(1);
  attempt.set_launch("launch-1");
  attempt.set_state(state);
  v1::StreamInfo& stream = *attempt.add_streams();
  stream.set_rank(0);
  stream.set_process_nonce("\x01\xff");
  stream.set_first_step(0);
  stream.set_last_step(last_step);
  stream.set_stored_steps(steps);
  stream.add_optimizers("torch::optim::AdamW");
}

v1::Parameter& AddParameter(const std::string& name, v1::Kind kind,
                            const std::string& module_path,
                            const std::string& module_type,
                            const std::vector<std::int64_t>& shape,
                            FakeRun& run) {
  v1::Parameter& p = *run.parameters.add_parameters();
  p.set_name(name);
  p.set_kind(kind);
  p.set_module_path(module_path);
  p.set_module_type(module_type);
  p.set_dtype("float32");
  p.set_device("cpu");
  p.set_layout("strided");
  p.set_requires_grad(kind == v1::KIND_PARAMETER);
  p.set_placement(v1::PLACEMENT_REPLICATED);
  std::uint64_t numel = 1;
  for (const std::int64_t size : shape) {
    p.add_shape(size);
    numel *= static_cast<std::uint64_t>(size);
  }
  p.set_numel(numel);
  p.set_bytes(numel * 4);
  if (kind == v1::KIND_BUFFER) {
    p.add_roles(v1::ROLE_BUFFER);
  } else {
    p.add_roles(v1::ROLE_WEIGHT);
    p.add_roles(v1::ROLE_GRAD);
  }
  return p;
}

void SetTotals(FakeRun& run) {
  v1::ListParametersResponse& answer = run.parameters;
  answer.set_run(run.info.run().run());
  answer.set_attempt(1);
  answer.set_schema_id(1);
  for (const v1::Parameter& p : answer.parameters()) {
    if (p.kind() == v1::KIND_BUFFER) {
      answer.set_buffer_count(answer.buffer_count() + 1);
      answer.set_buffer_numel(answer.buffer_numel() + p.numel());
      answer.set_buffer_bytes(answer.buffer_bytes() + p.bytes());
      continue;
    }
    answer.set_parameter_count(answer.parameter_count() + 1);
    answer.set_parameter_numel(answer.parameter_numel() + p.numel());
    answer.set_parameter_bytes(answer.parameter_bytes() + p.bytes());
    if (p.requires_grad()) {
      answer.set_trainable_numel(answer.trainable_numel() + p.numel());
    }
  }
}

v1::Series& AddSeries(
    const std::string& parameter, const std::string& statistic,
    std::uint32_t rank,
    const std::vector<std::pair<std::int64_t, double>>& points, FakeRun& run) {
  v1::Series series;
  series.set_run(run.info.run().run());
  series.set_rank(rank);
  series.set_parameter(parameter);
  series.set_statistic(statistic);
  for (const auto& [step, value] : points) {
    series.add_attempt(1);
    series.add_step(step);
    series.add_time_unix_ns(kFakeStart + step * kSecond + 123'456'789);
    series.add_value(value);
  }
  series.set_points_before(points.size());
  run.series.push_back(std::move(series));
  return run.series.back();
}

v1::SnapshotRow& AddRow(const std::string& parameter, v1::Kind kind,
                        const std::vector<double>& values,
                        v1::GetSnapshotResponse& snapshot) {
  v1::SnapshotRow& row = *snapshot.add_rows();
  row.set_parameter(parameter);
  row.set_kind(kind);
  for (const double value : values) row.add_value(value);
  return row;
}

void SetSnapshot(const std::string& run, std::int64_t step,
                 v1::GetSnapshotResponse& snapshot) {
  snapshot.set_run(run);
  snapshot.set_attempt(1);
  snapshot.set_step(step);
  snapshot.set_time_unix_ns(kFakeStart + step * kSecond + 123'456'789);
  snapshot.set_interval_steps(1);
}

void AddMnistSeries(FakeRun& run) {
  AddSeries("encoder.0.weight", "grad.l2", 0,
            {{0, 1.5}, {1, 0.25}, {2, kNan}, {4, kInf}}, run);
  AddSeries("encoder.0.weight", "grad.l2", 1,
            {{0, 2}, {1, 3}, {2, -kInf}, {4, 1e-30}}, run);
  AddSeries("encoder.0.bias", "grad.l2", 0,
            {{0, kNan}, {1, kNan}, {2, kNan}, {4, kNan}}, run)
      .mutable_absent()
      ->Add(0);
  for (const std::uint32_t i : {1u, 2u, 3u}) {
    run.series.back().add_absent(i);
  }
  AddSeries("encoder.0.weight", "grad.nan", 0,
            {{0, 0}, {1, 0}, {2, 32}, {4, 1234}}, run);
  for (const char* statistic :
       {"weight.mean", "weight.std", "weight.abs_mean", "weight.min",
        "weight.max", "weight.zero", "weight.nan", "weight.pos_inf",
        "weight.neg_inf", "grad.mean", "grad.std", "grad.abs_mean", "grad.min",
        "grad.max", "grad.zero", "grad.pos_inf", "grad.neg_inf"}) {
    AddSeries("encoder.0.weight", statistic, 0,
              {{0, 0.5}, {1, 1}, {2, 2}, {4, 4}}, run);
  }
  for (const char* field : {"mean", "std", "abs_mean", "min", "max", "zero",
                            "nan", "pos_inf", "neg_inf"}) {
    AddSeries("encoder.1.running_mean", std::string("buffer.") + field, 0,
              {{0, 0}, {1, 0}, {2, 0}, {4, 1}}, run);
  }
  AddSeries("", "scalar.loss", 0, {{0, 2.25}, {1, 2}, {2, 1.75}, {4, 1.5}},
            run);
  AddSeries("", "agent.step_seconds", 0,
            {{0, 0.125}, {1, 0.125}, {2, 0.125}, {4, 0.125}}, run);
}

void SetMnistSnapshot(v1::GetSnapshotResponse& snapshot) {
  SetSnapshot("mnist", 4, snapshot);
  snapshot.add_statistics("grad.l2");
  snapshot.add_statistics("weight.std");
  snapshot.add_statistics("grad.nan");
  AddRow("encoder.0.weight", v1::KIND_PARAMETER, {0.12345678, 4, 0}, snapshot);
  AddRow("encoder.0.bias", v1::KIND_PARAMETER, {kNan, 0.5, kNan}, snapshot)
      .add_absent(0);
  snapshot.mutable_rows(1)->add_absent(2);
  AddRow("scale", v1::KIND_PARAMETER, {kNan, 0, 12345}, snapshot);
  AddRow("encoder.1.running_mean", v1::KIND_BUFFER, {7, 8, 0}, snapshot);
  v1::Scalar& loss = *snapshot.add_scalars();
  loss.set_name("loss");
  loss.set_value(1.5);
}

}  // namespace

FakeRun MakeMnist() {
  FakeRun run;
  SetRun("mnist", v1::RUN_STATE_FINISHED, 4, 4, run);
  v1::RunInfo& info = *run.info.mutable_run();
  info.set_ranks(2);
  info.set_world_size(2);
  info.set_lost_steps(1);
  info.set_parameters(4);
  v1::Tag& tag = *info.add_tags();
  tag.set_key("data");
  tag.set_value("fashion");
  v1::StreamInfo& other = *run.info.mutable_attempts(0)->add_streams();
  other.set_rank(1);
  other.set_first_step(0);
  other.set_last_step(4);

  AddParameter("encoder.0.weight", v1::KIND_PARAMETER, "encoder.0", "Linear",
               {4, 8}, run)
      .add_aliases("decoder.weight");
  AddParameter("encoder.0.bias", v1::KIND_PARAMETER, "encoder.0", "Linear", {4},
               run)
      .set_requires_grad(false);
  AddParameter("encoder.1.running_mean", v1::KIND_BUFFER, "encoder.1",
               "BatchNorm1d", {4}, run);
  AddParameter("scale", v1::KIND_PARAMETER, "", "Net", {}, run);
  SetTotals(run);

  AddMnistSeries(run);

  v1::GapInfo& gap = run.gaps.emplace_back();
  gap.set_attempt(1);
  gap.set_lost(true);
  gap.mutable_gap()->set_cause(v1::GAP_CAUSE_RING_FULL);
  gap.mutable_gap()->set_first_step(3);
  gap.mutable_gap()->set_last_step(3);
  gap.mutable_gap()->set_steps(1);
  gap.mutable_gap()->set_detail("64 MiB, full");

  SetMnistSnapshot(run.snapshot);

  // Had ended before anybody watched.
  v1::WatchResponse& first = run.watch.emplace_back();
  first.set_ordinal(9);
  *first.mutable_run() = info;
  return run;
}

FakeRun MakeValues(const std::string& name, const std::vector<double>& values) {
  FakeRun run;
  SetRun(name, v1::RUN_STATE_RUNNING,
         static_cast<std::int64_t>(values.size()) - 1, values.size(), run);
  AddParameter("w", v1::KIND_PARAMETER, "", "Net", {}, run);
  SetTotals(run);
  std::vector<std::pair<std::int64_t, double>> points;
  for (std::size_t i = 0; i < values.size(); ++i) {
    points.emplace_back(static_cast<std::int64_t>(i), values[i]);
  }
  for (const char* role : {"weight", "grad"}) {
    for (const char* field : {"mean", "std", "abs_mean", "min", "max", "zero",
                              "nan", "pos_inf", "neg_inf"}) {
      AddSeries("w", std::string(role) + "." + field, 0, points, run);
    }
  }
  return run;
}

FakeRun MakeNames(const std::string& name,
                  const std::vector<std::string>& parameters) {
  FakeRun run;
  SetRun(name, v1::RUN_STATE_RUNNING, 0, 1, run);
  SetSnapshot(name, 0, run.snapshot);
  run.snapshot.add_statistics("weight.mean");
  for (const std::string& parameter : parameters) {
    AddParameter(parameter, v1::KIND_PARAMETER, "", "Net", {}, run);
    AddSeries(parameter, "weight.mean", 0, {{0, 1}}, run);
    AddRow(parameter, v1::KIND_PARAMETER, {1}, run.snapshot);
    v1::Scalar& scalar = *run.snapshot.add_scalars();
    scalar.set_name(parameter);
  }
  SetTotals(run);
  v1::WatchResponse& first = run.watch.emplace_back();
  first.set_ordinal(1);
  *first.mutable_run() = run.info.run();
  v1::WatchResponse& step = run.watch.emplace_back();
  step.set_ordinal(2);
  *step.mutable_snapshot() = run.snapshot;
  v1::WatchResponse& last = run.watch.emplace_back();
  last.set_ordinal(3);
  *last.mutable_run() = run.info.run();
  last.mutable_run()->set_state(v1::RUN_STATE_FINISHED);
  return run;
}

FakeRun MakeGrouped() {
  FakeRun run;
  SetRun("grouped", v1::RUN_STATE_FINISHED, 1, 2, run);
  AddSeries("/^encoder/", "grad.l2", 0, {{0, 1.5}, {1, 2.5}}, run)
      .set_members(12);
  SetSnapshot("grouped", 1, run.snapshot);
  run.snapshot.add_statistics("grad.l2");
  AddRow("/^encoder/", v1::KIND_UNSPECIFIED, {2.5}, run.snapshot)
      .set_members(12);
  return run;
}

FakeRun MakeRanked() {
  FakeRun run;
  SetRun("ranked", v1::RUN_STATE_RUNNING, 40, 41, run);
  v1::GetTopResponse& top = run.top;
  top.set_run("ranked");
  top.set_attempt(1);
  top.set_step(40);
  top.set_time_unix_ns(kFakeStart + 40 * kSecond);
  top.set_statistic("grad.l2");
  top.set_order(v1::TOP_ORDER_CHANGE);
  top.set_since_step(20);
  top.set_since_attempt(1);
  top.set_ranked(9);
  top.set_ranked_nonfinite(1);
  v1::TopRow row;
  row.set_parameter("conv.weight");
  row.set_kind(v1::KIND_PARAMETER);
  row.set_value(kNan);
  row.set_nonfinite(12);
  row.set_since_value(0.25);
  row.set_score(kNan);
  *top.add_rows() = row;
  row.set_parameter("fc.weight");
  row.set_value(4);
  row.set_nonfinite(0);
  row.set_since_value(0.5);
  row.set_score(3);
  *top.add_rows() = row;
  row.set_parameter("fc.bias");
  row.set_value(kNan);
  row.set_absent(true);
  row.set_since_value(kNan);
  row.set_since_absent(true);
  row.set_score(kNan);
  *top.add_rows() = row;
  return run;
}

FakeRun MakeCompared() {
  FakeRun run;
  SetRun("compared", v1::RUN_STATE_FINISHED, 399, 400, run);
  v1::CompareRunsResponse& answer = run.compared;
  answer.set_good_run("compared");
  answer.set_other_run("other");
  v1::Difference* tag = answer.add_differences();
  tag->set_what("tag.lr");
  tag->set_good("0.1");
  v1::Difference* shape = answer.add_differences();
  shape->set_parameter("fc.weight");
  shape->set_what("shape");
  shape->set_good("[3, 4]");
  shape->set_other("[3, 5]");
  answer.set_parameter_differences(1);
  answer.set_compared_steps(390);
  answer.set_only_good_steps(10);
  answer.set_good_last_step(399);
  answer.set_other_last_step(389);
  answer.set_noise_factor(5);
  answer.set_steps_in_a_row(5);
  answer.set_series(7);
  answer.set_diverged(2);
  answer.set_first_diverged_step(100);
  v1::CompareRow row;
  row.set_parameter("fc.weight");
  row.set_statistic("grad.l2");
  row.set_steps(390);
  row.set_steps_beyond(140);
  row.set_first_step(250);
  row.set_log2_ratio(3);
  row.set_noise_log2(0.25);
  row.set_last_step(389);
  row.set_good_value(0.5);
  row.set_other_value(4);
  row.set_other_nonfinite(2);
  *answer.add_rows() = row;
  row.set_parameter("fc.bias");
  row.set_first_step(100);
  row.set_other_value(kNan);
  row.set_other_absent(true);
  row.set_other_nonfinite(0);
  row.set_log2_ratio(0);
  *answer.add_rows() = row;
  row.clear_parameter();
  row.clear_first_step();
  row.set_statistic("scalar.loss");
  row.set_other_value(0.5);
  row.set_other_absent(false);
  row.set_log2_ratio(kNan);
  row.set_noise_log2(kNan);
  *answer.add_rows() = row;
  return run;
}

FakeRun MakeLive(const std::string& name, int steps, int parameters) {
  FakeRun run;
  SetRun(name, v1::RUN_STATE_RUNNING, steps - 1,
         static_cast<std::uint64_t>(steps), run);
  std::uint64_t ordinal = 1;
  v1::WatchResponse& first = run.watch.emplace_back();
  first.set_ordinal(ordinal);
  *first.mutable_run() = run.info.run();
  for (int step = 0; step < steps; ++step) {
    v1::WatchResponse& message = run.watch.emplace_back();
    message.set_ordinal(++ordinal);
    v1::GetSnapshotResponse& snapshot = *message.mutable_snapshot();
    SetSnapshot(name, step, snapshot);
    snapshot.add_statistics("grad.l2");
    snapshot.add_statistics("update.ratio");
    v1::Scalar& loss = *snapshot.add_scalars();
    loss.set_name("loss");
    loss.set_value(2.0 / (step + 1));
    for (int p = 0; p < parameters; ++p) {
      v1::SnapshotRow& row =
          AddRow("layers." + std::to_string(p) + ".weight", v1::KIND_PARAMETER,
                 {0.5 * p + step, kNan}, snapshot);
      if (step == 0) row.add_absent(1);
    }
    if (parameters > 1) {
      snapshot.mutable_rows(1)->set_value(0, kNan);
    }
    run.snapshot = snapshot;
  }
  v1::WatchResponse& last = run.watch.emplace_back();
  last.set_ordinal(++ordinal);
  *last.mutable_run() = run.info.run();
  last.mutable_run()->set_state(v1::RUN_STATE_FINISHED);
  return run;
}

}  // namespace gradtap::client::testing
