// gradtap audit
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/audit.h"
#include "client/cli/audit_report.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"

namespace gradtap::client {
namespace {

// Of one series, without down-sampling; two of them fill an answer.
constexpr std::uint32_t kMostSteps = 1'000'000;

struct AuditOptions {
  std::string run;
  std::string steps;
  std::vector<std::string> ranks;
  std::string attempt;
};

absl::StatusOr<v1::GetSeriesRequest> ToRequest(const AuditOptions& options) {
  v1::GetSeriesRequest request;
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  request.add_runs(options.run);
  request.add_statistics("agent.step_seconds");
  request.add_statistics("agent.capture_seconds");
  // Gaps are joined beyond this many only, so that their places are exact.
  request.set_max_points(kMostSteps);
  const auto ranks = ParseRanks(options.ranks);
  if (!ranks.ok()) return ranks.status();
  if (ranks->merged || ranks->ranks.size() > 1) {
    return absl::InvalidArgumentError(
        "an audit is of one rank: its training thread's time");
  }
  request.add_ranks(ranks->ranks.empty() ? 0 : ranks->ranks.front());
  if (!options.steps.empty()) {
    const auto steps = ParseSlice(options.steps);
    if (!steps.ok()) return steps.status();
    *request.mutable_steps() = *steps;
  }
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  return request;
}

absl::Status CheckComplete(const v1::GetSeriesResponse& response) {
  for (const v1::Series& series : response.series()) {
    const auto points = static_cast<std::uint64_t>(PointCount(series));
    if (series.points_before() <= points) continue;
    return absl::ResourceExhaustedError(absl::StrCat(
        "the run has ", HumanCount(series.points_before()),
        " steps, more than one audit takes; ask for fewer, such as --steps -",
        kMostSteps / 2, ":"));
  }
  return absl::OkStatus();
}

absl::Status Run(const AuditOptions& options, Context& context) {
  const auto request = ToRequest(options);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::GetSeriesResponse response;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::GetSeries, *request, &response);
  if (status.ok()) status = CheckComplete(response);
  if (!status.ok()) return status;
  AuditReport report;
  report.run = options.run;
  report.rank = request->ranks(0);
  const auto steps = AuditStepsOf(response, report.rank);
  if (!steps.ok()) {
    return absl::Status(
        steps.status().code(),
        absl::StrCat("run '", options.run, "', rank ", report.rank, ": ",
                     std::string(steps.status().message())));
  }
  report.result = Audit(*steps);
  if (!steps->empty()) {
    report.first_step = steps->front().step;
    report.last_step = steps->back().step;
  }
  if (status = CheckEnough(report); !status.ok()) return status;
  switch (context.format()) {
    case Format::kJson:
      return context.Write(AuditJson(report));
    case Format::kCsv:
      return context.Write(AuditCsv(report, context.csv_options()));
    case Format::kTable:
      break;
  }
  return context.Write(AuditTable(report, context.table_style()));
}

}  // namespace

Command AddAudit(CLI::App& app) {
  auto options = std::make_shared<AuditOptions>();
  AddRunArgument(app, options->run);
  app.add_option("--steps", options->steps,
                 "Only these steps, like a Python slice; default: all")
      ->option_text("A:B");
  app.add_option("--rank", options->ranks, "Of this rank; default 0")
      ->option_text("R")
      ->expected(1)
      ->take_all();
  app.add_option("--attempt", options->attempt, "Of this attempt's line alone")
      ->option_text("K");
  app.footer(
      "Does telemetry slow the job down? Start it with GRADTAP_AUDIT=50: "
      "blocks "
      "of 50\nsteps take turns, with capture and without. Each block with it "
      "is "
      "compared with\nits two neighbours without, so that drift cancels; the "
      "interval is Student's.\n\n"
      "Examples:\n"
      "  GRADTAP_AUDIT=50 ./train && gradtap audit fashion-mnist\n"
      "  gradtap audit gpt --rank 3 --steps -20000: --output json");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
