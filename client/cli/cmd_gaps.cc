// gradtap gaps
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"

namespace gradtap::client {
namespace {

struct GapsOptions {
  std::string run;
  std::string steps;
  std::vector<std::string> ranks;
  std::string attempt;
};

absl::StatusOr<v1::ListGapsRequest> ToRequest(const GapsOptions& options) {
  v1::ListGapsRequest request;
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  request.set_run(options.run);
  if (!options.steps.empty()) {
    const auto steps = ParseSlice(options.steps);
    if (!steps.ok()) return steps.status();
    *request.mutable_steps() = *steps;
  }
  const auto ranks = ParseRanks(options.ranks);
  if (!ranks.ok()) return ranks.status();
  if (ranks->merged) {
    return absl::InvalidArgumentError(
        "bad rank 'merged': gaps belong to one rank each");
  }
  request.mutable_ranks()->Assign(ranks->ranks.begin(), ranks->ranks.end());
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  return request;
}

// What "no gaps" means: nothing is known of steps that nobody has told of.
std::string NoGaps(const GapsOptions& options, const v1::RunInfo& run) {
  if (run.last_step() < 0) return "No gaps, and no step yet.\n";
  if (!options.steps.empty() || !options.ranks.empty() ||
      !options.attempt.empty()) {
    return absl::StrCat("No gaps there; the run's last step is ",
                        run.last_step(), ".\n");
  }
  if (run.state() == v1::RUN_STATE_LOST) {
    return absl::StrCat("No gaps up to step ", run.last_step(),
                        "; the run is lost: what came after is not known.\n");
  }
  if (run.state() == v1::RUN_STATE_RUNNING) {
    return absl::StrCat("No gaps up to step ", run.last_step(),
                        "; the run goes on.\n");
  }
  return absl::StrCat("No gaps: every step up to ", run.last_step(),
                      ", the last, is there.\n");
}

absl::Status WriteTable(const v1::ListGapsResponse& response,
                        Context& context) {
  Table table({{"ATTEMPT", Align::kRight},
               {"RANK", Align::kRight},
               {"BRANCH", Align::kRight},
               {"FIRST", Align::kRight},
               {"LAST", Align::kRight},
               {"STEPS", Align::kRight},
               {"STATE"},
               {"CAUSE"},
               {"DETAIL", Align::kLeft, true}});
  for (const v1::GapInfo& info : response.gaps()) {
    const Tone tone = info.lost() ? Tone::kBad : Tone::kPlain;
    table.AddRow({{std::to_string(info.attempt())},
                  {std::to_string(info.rank())},
                  {std::to_string(info.branch())},
                  {std::to_string(info.gap().first_step())},
                  {std::to_string(info.gap().last_step())},
                  {HumanCount(info.gap().steps())},
                  {std::string(GapState(info)), tone},
                  {std::string(CauseWord(info.gap().cause()))},
                  NameCell(info.gap().detail())});
  }
  table.DropEmptyColumns();
  return context.Write(absl::StrCat(
      table.Render(context.table_style()), "\n",
      Plural(response.lost_steps(), "step"), " lost, ",
      HumanCount(response.skipped_steps()), " skipped",
      response.rolled_up_steps() > 0
          ? absl::StrCat(", ", HumanCount(response.rolled_up_steps()),
                         " kept as roll-ups and scalars")
          : "",
      ".\n"));
}

absl::Status WriteCsv(const v1::ListGapsResponse& response, Context& context) {
  std::string text =
      CsvHeader({"run", "attempt", "rank", "branch", "first_step", "last_step",
                 "steps", "state", "cause", "detail"},
                context.csv_options());
  CsvRow row(context.csv_options());
  for (const v1::GapInfo& info : response.gaps()) {
    row.Text(response.run())
        .Unsigned(info.attempt())
        .Unsigned(info.rank())
        .Unsigned(info.branch())
        .Integer(info.gap().first_step())
        .Integer(info.gap().last_step())
        .Unsigned(info.gap().steps())
        .Text(GapState(info))
        .Text(CauseWord(info.gap().cause()))
        .Text(info.gap().detail());
    text += row.Take();
  }
  return context.Write(text);
}

absl::Status Run(const GapsOptions& options, Context& context) {
  const auto request = ToRequest(options);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::ListGapsResponse response;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::ListGaps, *request, &response);
  if (!status.ok()) return status;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(response);
    case Format::kCsv:
      return WriteCsv(response, context);
    case Format::kTable:
      break;
  }
  if (!response.gaps().empty()) return WriteTable(response, context);
  v1::GetRunRequest run_request;
  run_request.set_run(options.run);
  v1::GetRunResponse run;
  status = (*channel)->Call(&v1::Query::Stub::GetRun, run_request, &run);
  if (!status.ok()) return status;
  return context.Write(NoGaps(options, run.run()));
}

}  // namespace

Command AddGaps(CLI::App& app) {
  auto options = std::make_shared<GapsOptions>();
  AddRunArgument(app, options->run);
  app.add_option("--steps", options->steps,
                 "Only gaps that touch these steps, like a Python slice")
      ->option_text("A:B");
  app.add_option("--rank", options->ranks, "Only these ranks")
      ->option_text("R,...")
      ->expected(1)
      ->take_all();
  app.add_option("--attempt", options->attempt, "Only this attempt")
      ->option_text("K");
  app.footer(
      "Examples:\n"
      "  gradtap gaps fashion-mnist\n"
      "  gradtap gaps fashion-mnist --steps -1000: --rank 0-3");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
