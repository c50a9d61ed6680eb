// gradtap series
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
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

// Rows that are aligned together; a long table comes in blocks.
constexpr std::size_t kBlockRows = 5000;
constexpr int kMostGaps = 5;

struct SeriesOptions {
  std::vector<std::string> runs;
  std::vector<std::string> statistics;
  std::string match;
  std::vector<std::string> merge;
  std::string steps;
  std::string since;
  std::string until;
  std::uint32_t points = 0;
  std::vector<std::string> ranks;
  std::string attempt;
};

absl::Status SetTimes(const SeriesOptions& options, std::int64_t now,
                      v1::GetSeriesRequest& request) {
  if (!options.since.empty()) {
    const auto since = ParseTime(options.since, now);
    if (!since.ok()) return since.status();
    request.set_since_unix_ns(*since);
  }
  if (!options.until.empty()) {
    const auto until = ParseTime(options.until, now);
    if (!until.ok()) return until.status();
    request.set_until_unix_ns(*until);
  }
  return absl::OkStatus();
}

// `*merged_too`: ranks and 'merged' were both asked for; the request is for the
// ranks.
absl::StatusOr<v1::GetSeriesRequest> ToRequest(const SeriesOptions& options,
                                               std::int64_t now,
                                               bool* merged_too) {
  v1::GetSeriesRequest request;
  for (const std::string& run : options.runs) {
    if (absl::Status status = CheckRunName(run); !status.ok()) return status;
    request.add_runs(run);
  }
  for (const std::string& name : SplitList(options.statistics)) {
    request.add_statistics(name);
  }
  if (request.statistics().empty()) {
    return absl::InvalidArgumentError(
        "no statistic given; for example --stat grad.l2,weight.std");
  }
  request.set_match(options.match);
  request.mutable_merge_match()->Assign(options.merge.begin(),
                                        options.merge.end());
  if (!options.steps.empty()) {
    const auto steps = ParseSlice(options.steps);
    if (!steps.ok()) return steps.status();
    *request.mutable_steps() = *steps;
  }
  if (absl::Status status = SetTimes(options, now, request); !status.ok()) {
    return status;
  }
  request.set_max_points(options.points);
  const auto ranks = ParseRanks(options.ranks);
  if (!ranks.ok()) return ranks.status();
  request.mutable_ranks()->Assign(ranks->ranks.begin(), ranks->ranks.end());
  request.set_merged(ranks->merged && ranks->ranks.empty());
  *merged_too = ranks->merged && !ranks->ranks.empty();
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  return request;
}

// What is not there, and what was left out: sentences, one a line.
std::vector<std::string> Remarks(const v1::GetSeriesResponse& response) {
  std::vector<std::string> remarks;
  for (const v1::GapInfo& gap : response.gaps()) {
    if (remarks.size() == kMostGaps) {
      remarks.push_back(absl::StrCat(
          "missing: ", Plural(response.gaps_size() - kMostGaps, "more gap"),
          "; see gradtap gaps"));
      break;
    }
    remarks.push_back("missing: " + GapText(gap));
  }
  for (const std::string& group : GroupTexts(response.series())) {
    remarks.push_back(group);
  }
  std::uint64_t before = 0;
  std::uint64_t points = 0;
  for (const v1::Series& series : response.series()) {
    before += series.points_before();
    points += PointCount(series);
  }
  if (before > points) {
    remarks.push_back(absl::StrCat("down-sampled: ", HumanCount(points), " of ",
                                   Plural(before, "point"),
                                   "; extremes and non-finite values are all "
                                   "there"));
  }
  return remarks;
}

std::vector<Column> TableColumns() {
  return {{"RUN", Align::kLeft, true},
          {"ATTEMPT", Align::kRight},
          {"RANK", Align::kRight},
          {"STEP", Align::kRight},
          {"TIME"},
          {"PARAM", Align::kLeft, true},
          {"STAT", Align::kLeft, true},
          {"VALUE", Align::kRight}};
}

absl::Status WriteTable(const v1::GetSeriesResponse& response,
                        Context& context) {
  const TableStyle style = context.table_style();
  Table table(TableColumns());
  bool any = false;
  const auto flush = [&] {
    const std::string text = table.Render(style, /*header=*/!any);
    table.ClearRows();
    any = true;
    return context.Write(text);
  };
  for (const v1::Series& series : response.series()) {
    const Cell run = NameCell(series.run());
    const Cell parameter = series.parameter().empty()
                               ? Cell{"-", Tone::kFaint}
                               : NameCell(series.parameter());
    const Cell statistic = NameCell(series.statistic());
    const Cell rank{RankText(series.rank())};
    int absent = 0;
    for (int i = 0; i < PointCount(series); ++i) {
      const auto value = PointValue(series, i, &absent);
      table.AddRow({run,
                    {std::to_string(series.attempt(i))},
                    rank,
                    {std::to_string(series.step(i))},
                    {HumanTime(series.time_unix_ns(i))},
                    parameter,
                    statistic,
                    ValueCell(series.statistic(), value)});
      if (table.rows() < kBlockRows) continue;
      if (absl::Status status = flush(); !status.ok()) return status;
    }
  }
  if (!any && table.rows() == 0) {
    absl::Status status =
        context.Write("No points: nothing is stored there.\n");
    if (!status.ok()) return status;
  } else if (absl::Status status = flush(); !status.ok()) {
    return status;
  }
  std::string text;
  for (const std::string& remark : Remarks(response)) {
    absl::StrAppend(&text, text.empty() ? "\n" : "", remark, "\n");
  }
  return context.Write(text);
}

absl::Status WriteRows(const v1::GetSeriesResponse& response,
                       Context& context) {
  absl::Status status;
  WriteCsv(response, context.csv_options(), [&](const std::string& row) {
    status = context.Write(row);
    return status.ok();
  });
  return status;
}

// A reader of CSV sees no gap: say on standard error what was lost.
void NoteLosses(const v1::GetSeriesResponse& response, Context& context) {
  std::map<std::string, std::uint64_t> lost;
  std::uint64_t total = 0;
  std::uint64_t in_part = 0;
  for (const v1::GapInfo& gap : response.gaps()) {
    if (gap.gap().cause() == v1::GAP_CAUSE_ROLLED_UP) {
      in_part += gap.gap().steps();
    }
    if (!gap.lost()) continue;
    lost[std::string(CauseWord(gap.gap().cause()))] += gap.gap().steps();
    total += gap.gap().steps();
  }
  if (in_part > 0) {
    context.Note(absl::StrCat(
        "of ", Plural(in_part, "step"),
        " in this range only roll-ups and scalars are left: the points are "
        "extremes there; see gradtap gaps"));
  }
  if (lost.empty()) return;
  std::string causes;
  for (const auto& [cause, steps] : lost) {
    absl::StrAppend(&causes, causes.empty() ? "" : ", ", cause, " ", steps);
  }
  context.Note(absl::StrCat("lost in this range: ", Plural(total, "step"), " (",
                            causes, "); see gradtap gaps"));
}

absl::Status Run(const SeriesOptions& options, Context& context) {
  bool merged_too = false;
  auto request =
      ToRequest(options, context.io().clock.UnixNanos(), &merged_too);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::GetSeriesResponse response;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::GetSeries, *request, &response);
  if (status.ok() && merged_too) {  // --rank 0,merged
    request->clear_ranks();
    request->set_merged(true);
    v1::GetSeriesResponse merged;
    status = (*channel)->Call(&v1::Query::Stub::GetSeries, *request, &merged);
    response.mutable_series()->MergeFrom(merged.series());
  }
  if (!status.ok()) return status;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(response);
    case Format::kCsv:
      status = WriteRows(response, context);
      if (status.ok()) NoteLosses(response, context);
      return status;
    case Format::kTable:
      break;
  }
  return WriteTable(response, context);
}

}  // namespace

Command AddSeries(CLI::App& app) {
  auto options = std::make_shared<SeriesOptions>();
  app.add_option("RUN", options->runs, "One run or several")
      ->type_name("")
      ->required();
  app.add_option(
         "-s,--stat", options->statistics,
         "Statistics: grad.l2, weight.mean, update.ratio, scalar.loss, "
         "scalar.*, ...; quantiles grad.p50, weight.p99.9, at the steps "
         "that have histograms")
      ->option_text("S,...")
      ->expected(1)
      ->take_all();
  AddMatchOption(app, options->match);
  AddMergeOption(app, options->merge);
  app.add_option("--steps", options->steps,
                 "Which steps, like a Python slice: 10:20, -100:, :50")
      ->option_text("A:B");
  app.add_option("--since", options->since,
                 "From this time on: RFC 3339, Unix seconds, or -10m")
      ->option_text("T");
  app.add_option("--until", options->until, "Before this time")
      ->option_text("T");
  app.add_option("--points", options->points,
                 "At most about so many points a series; extremes survive")
      ->option_text("N");
  app.add_option("--rank", options->ranks,
                 "Only these ranks, or merged over ranks; default: all")
      ->option_text("R,...,merged")
      ->expected(1)
      ->take_all();
  app.add_option("--attempt", options->attempt,
                 "The line of this attempt alone")
      ->option_text("K");
  app.footer(
      "Examples:\n"
      "  gradtap series fashion-mnist --stat grad.l2 --match conv1 --steps "
      "-100:\n"
      "  gradtap series run-a run-b --stat scalar.loss --points 500\n"
      "  gradtap series gpt --stat update.ratio --since -10m --rank merged\n"
      "  gradtap series gpt --stat grad.l2 --merge '^blocks\\.3\\.' --merge "
      "'^head'\n"
      "  gradtap series gpt --stat grad.l2,grad.nan --output csv > grad.csv");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
