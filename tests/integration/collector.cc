#include "integration/collector.h"

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

#include "gradtap/v1/query.pb.h"

namespace gradtap::testing {
namespace {

using Clock = std::chrono::steady_clock;

template <typename Message>
Message ParseJson(const std::string& json) {
  Message message;
  const auto status =
      google::protobuf::util::JsonStringToMessage(json, &message);
  if (!status.ok()) {
    ADD_FAILURE() << "not the JSON of " << message.GetTypeName() << ": "
                  << status.ToString() << "\n"
                  << json.substr(0, 400);
  }
  return message;
}

// "RUN_STATE_RUNNING" -> "RUNNING".
std::string WithoutPrefix(const std::string& name, const std::string& prefix) {
  return name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : name;
}

std::vector<std::string> With(std::vector<std::string> command,
                              const std::vector<std::string>& options) {
  command.insert(command.end(), options.begin(), options.end());
  return command;
}

}  // namespace

std::vector<std::string> CollectorCommand(const std::string& data_dir,
                                          int grpc_port) {
  return {GRADTAPD_PATH,
          "--data-dir",
          data_dir,
          "--http-listen",
          "off",
          "--grpc-listen",
          "127.0.0.1:" + std::to_string(grpc_port)};
}

Collector::Collector(const std::string& data_dir, int grpc_port,
                     const std::vector<std::string>& options)
    : process_(With(CollectorCommand(data_dir, grpc_port), options)) {
  const std::string line = process_.ReadLine().value_or("");
  const std::string head = "gradtapd listening grpc=";
  if (line.rfind(head, 0) != 0) {
    ADD_FAILURE() << "gradtapd did not start: '" << line
                  << "', it says: " << process_.Errors();
    return;
  }
  const std::size_t end = line.find(' ', head.size());
  address_ = line.substr(head.size(), end - head.size());
  port_ = std::atoi(address_.substr(address_.rfind(':') + 1).c_str());
}

void Collector::Kill() {
  process_.Signal(SIGKILL);
  process_.Wait();
}

int Collector::Terminate() {
  process_.Signal(SIGTERM);
  const auto exit = process_.Wait();
  return exit ? exit->code : -1000;
}

std::vector<std::string> GradtapCommand(const std::string& address,
                                        const std::vector<std::string>& args) {
  std::vector<std::string> command = {GRADTAP_PATH, "--collector", address};
  command.insert(command.end(), args.begin(), args.end());
  return command;
}

Outcome Gradtap(const std::string& address,
                const std::vector<std::string>& args,
                std::chrono::milliseconds timeout) {
  return RunProgram(GradtapCommand(address, args), {}, timeout);
}

RunRow FindRun(const std::string& address, const std::string& run) {
  RunRow row;
  const Outcome answer = Gradtap(address, {"runs", "--output", "json"});
  EXPECT_EQ(answer.exit.code, 0) << answer.err;
  const auto runs = ParseJson<v1::ListRunsResponse>(answer.out);
  for (const v1::RunInfo& info : runs.runs()) {
    if (info.run() != run) continue;
    row.state = WithoutPrefix(v1::RunState_Name(info.state()), "RUN_STATE_");
    row.stored_steps = info.stored_steps();
    row.skipped_steps = info.skipped_steps();
    row.lost_steps = info.lost_steps();
    row.first_step = info.first_step();
    row.last_step = info.last_step();
    row.attempts = info.attempts();
  }
  return row;
}

bool WaitForState(const std::string& address, const std::string& run,
                  const std::string& state, std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  do {
    if (FindRun(address, run).state == state) return true;
  } while (Clock::now() < deadline);
  return false;
}

ParamTable ParseParams(const std::string& json) {
  const auto answer = ParseJson<v1::ListParametersResponse>(json);
  ParamTable table;
  for (const v1::Parameter& p : answer.parameters()) {
    ParamRow row;
    row.name = p.name();
    row.kind = v1::Kind_Name(p.kind());
    row.module_path = p.module_path();
    row.module_type = p.module_type();
    row.dtype = p.dtype();
    row.device = p.device();
    row.layout = p.layout();
    row.shape.assign(p.shape().begin(), p.shape().end());
    row.requires_grad = p.requires_grad();
    row.numel = p.numel();
    row.bytes = p.bytes();
    row.aliases.assign(p.aliases().begin(), p.aliases().end());
    row.unsupported_reason = p.unsupported_reason();
    table.rows.push_back(row);
  }
  table.parameter_count = answer.parameter_count();
  table.parameter_numel = answer.parameter_numel();
  table.parameter_bytes = answer.parameter_bytes();
  table.trainable_numel = answer.trainable_numel();
  table.buffer_count = answer.buffer_count();
  table.buffer_numel = answer.buffer_numel();
  table.buffer_bytes = answer.buffer_bytes();
  return table;
}

std::vector<SeriesRow> ParseSeries(const std::string& json) {
  const auto answer = ParseJson<v1::GetSeriesResponse>(json);
  std::vector<SeriesRow> rows;
  for (const v1::Series& series : answer.series()) {
    const std::size_t first = rows.size();
    for (int i = 0; i < series.value_size(); ++i) {
      SeriesRow row;
      row.parameter = series.parameter();
      row.statistic = series.statistic();
      row.attempt = series.attempt(i);
      row.step = series.step(i);
      row.time_unix_ns = series.time_unix_ns(i);
      row.value = series.value(i);
      rows.push_back(row);
    }
    for (const std::uint32_t i : series.absent()) {
      rows.at(first + i).absent = true;
    }
  }
  return rows;
}

std::vector<GapLine> ParseGaps(const std::string& json) {
  const auto answer = ParseJson<v1::ListGapsResponse>(json);
  std::vector<GapLine> gaps;
  for (const v1::GapInfo& info : answer.gaps()) {
    gaps.push_back({v1::GapCause_Name(info.gap().cause()),
                    info.gap().first_step(), info.gap().last_step(),
                    info.gap().steps(), info.lost(), info.gap().detail()});
  }
  return gaps;
}

}  // namespace gradtap::testing
