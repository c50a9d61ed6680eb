// gradtap heatmap
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/heat_map_view.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

// Of a terminal's line what names may have.
constexpr std::size_t kNameColumns = 34;
constexpr std::uint32_t kFewestColumns = 20;

struct HeatMapOptions {
  std::string run;
  std::string statistic = "grad.l2";
  std::string match;
  std::string steps;
  std::uint32_t columns = 0;
  std::vector<std::string> ranks;
  std::string attempt;
};

std::uint32_t ColumnsOf(const HeatMapOptions& options, const Context& context) {
  if (options.columns > 0 || context.format() != Format::kTable) {
    return options.columns;
  }
  const std::size_t width = context.table_style().width;
  if (width == 0) return 64;
  if (width < kNameColumns + kFewestColumns) return kFewestColumns;
  return static_cast<std::uint32_t>(width - kNameColumns);
}

absl::StatusOr<v1::GetHeatMapRequest> ToRequest(const HeatMapOptions& options,
                                                const Context& context) {
  v1::GetHeatMapRequest request;
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  request.set_run(options.run);
  request.set_statistic(options.statistic);
  request.set_match(options.match);
  if (!options.steps.empty()) {
    const auto steps = ParseSlice(options.steps);
    if (!steps.ok()) return steps.status();
    *request.mutable_steps() = *steps;
  }
  request.set_max_buckets(ColumnsOf(options, context));
  const auto rank = ParseOneRank(options.ranks, "a heat map");
  if (!rank.ok()) return rank.status();
  request.set_merged(rank->merged);
  if (!rank->merged) request.set_rank(rank->rank);
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  return request;
}

std::string Caption(const v1::GetHeatMapResponse& map) {
  return absl::StrCat(EscapeForTerminal(map.run()), "  attempt ", map.attempt(),
                      "  rank ", RankText(map.rank()), "  ",
                      EscapeForTerminal(map.statistic()));
}

absl::Status WriteTable(const v1::GetHeatMapResponse& map, Context& context) {
  const TableStyle style = context.table_style();
  std::string text = Paint(Caption(map), Tone::kFaint, style.colour) + "\n";
  if (map.buckets().empty() || map.rows().empty()) {
    absl::StrAppend(&text, "\nNo recorded step has it.\n");
    return context.Write(text);
  }
  const HeatMapScale scale = ScaleOf(map);
  absl::StrAppend(&text, HeatMapLegend(map, scale, style.utf8), "\n\n");
  std::size_t widest = 0;
  for (const v1::HeatMapRow& row : map.rows()) {
    widest = std::max(widest, DisplayWidth(EscapeForTerminal(row.parameter())));
  }
  if (style.width > 0) widest = std::min(widest, kNameColumns - 2);
  for (const v1::HeatMapRow& row : map.rows()) {
    const std::string name =
        ShortenMiddle(EscapeForTerminal(row.parameter()), widest, style.utf8);
    absl::StrAppend(&text, name, std::string(widest - DisplayWidth(name), ' '),
                    "  ", HeatMapStrip(row, scale, style.utf8), "\n");
  }
  std::uint64_t missing = 0;
  for (const v1::GapInfo& gap : map.gaps()) missing += gap.gap().steps();
  if (missing > 0) {
    absl::StrAppend(&text, "\n", Plural(missing, "step"),
                    " not there: gradtap gaps ", EscapeForTerminal(map.run()),
                    "\n");
  }
  return context.Write(text);
}

std::optional<double> WorstOf(const v1::HeatMapRow& row, int column) {
  const float value = row.worst(column);
  return std::isnan(value) ? std::nullopt : std::optional<double>(value);
}

absl::Status WriteCsv(const v1::GetHeatMapResponse& map, Context& context) {
  absl::Status status = context.Write(CsvHeader(
      {"run", "attempt", "rank", "first_step", "last_step", "recorded", "time",
       "param", "kind", "stat", "worst", "nonfinite", "absent"},
      context.csv_options()));
  CsvRow csv(context.csv_options());
  for (const v1::HeatMapRow& row : map.rows()) {
    const int columns = std::min(row.worst_size(), map.buckets_size());
    for (int i = 0; i < columns && status.ok(); ++i) {
      const v1::HeatMapBucket& bucket = map.buckets(i);
      const auto at = static_cast<std::size_t>(i);
      const int flags = at < row.flags().size() ? row.flags()[at] : 0;
      if (flags == 0 && std::isnan(row.worst(i))) continue;  // Missing.
      csv.Text(map.run())
          .Unsigned(map.attempt())
          .Text(RankText(map.rank()))
          .Integer(bucket.first_step())
          .Integer(bucket.last_step())
          .Unsigned(bucket.recorded())
          .Time(bucket.first_time_unix_ns())
          .Text(row.parameter())
          .Text(KindWord(row.kind()))
          .Text(map.statistic())
          .Value(WorstOf(row, i))
          .Unsigned(flags & 1)
          .Unsigned((flags & 2) != 0 ? 1 : 0);
      status = context.Write(csv.Take());
    }
  }
  return status;
}

absl::Status Run(const HeatMapOptions& options, Context& context) {
  const auto request = ToRequest(options, context);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::GetHeatMapResponse map;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::GetHeatMap, *request, &map);
  if (!status.ok()) return status;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(map);
    case Format::kCsv:
      return WriteCsv(map, context);
    case Format::kTable:
      break;
  }
  return WriteTable(map, context);
}

}  // namespace

Command AddHeatMap(CLI::App& app) {
  auto options = std::make_shared<HeatMapOptions>();
  AddRunArgument(app, options->run);
  app.add_option("-s,--stat", options->statistic,
                 "The statistic to show; default grad.l2")
      ->option_text("S");
  AddMatchOption(app, options->match);
  app.add_option("--steps", options->steps,
                 "Steps A:B, half-open; negative from the end")
      ->option_text("A:B");
  app.add_option("--columns", options->columns,
                 "Columns at most; default: what fits the terminal, or 1000")
      ->option_text("N");
  app.add_option("--rank", options->ranks,
                 "Of this rank, or merged over all; default 0")
      ->option_text("R|merged")
      ->expected(1)
      ->take_all();
  app.add_option("--attempt", options->attempt, "Of this attempt's line alone")
      ->option_text("K");
  app.footer(
      "Each character is the worst of its steps: the largest value, or the one "
      "of\nlargest magnitude. A step with NaN or infinite elements is never "
      "hidden.\n\n"
      "Examples:\n"
      "  gradtap heatmap fashion-mnist\n"
      "  gradtap heatmap gpt --stat update.ratio --match 'blocks\\.3' --steps "
      "-5000:\n"
      "  gradtap heatmap gpt --stat grad.l2 --output csv > heat.csv");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
