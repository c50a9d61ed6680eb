// gradtap top
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

struct TopOptions {
  std::string run;
  std::string statistic;
  std::optional<std::int64_t> step;
  std::optional<std::int64_t> since_step;
  std::string by;
  bool ascending = false;
  std::uint32_t limit = 20;
  std::string match;
  std::vector<std::string> ranks;
  std::string attempt;
};

absl::StatusOr<v1::TopOrder> OrderOf(const TopOptions& options) {
  if (options.by.empty()) return v1::TOP_ORDER_UNSPECIFIED;
  if (options.by == "value") return v1::TOP_ORDER_VALUE;
  v1::TopOrder order = v1::TOP_ORDER_UNSPECIFIED;
  if (options.by == "change") order = v1::TOP_ORDER_CHANGE;
  if (options.by == "growth") order = v1::TOP_ORDER_GROWTH;
  if (options.by == "difference") order = v1::TOP_ORDER_DIFFERENCE;
  if (order == v1::TOP_ORDER_UNSPECIFIED) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot rank by '", EscapeForTerminal(options.by),
                     "': one of value, change, growth, difference"));
  }
  if (!options.since_step) {
    return absl::InvalidArgumentError(
        absl::StrCat("--by ", options.by,
                     " takes the step to compare with: --since-step "
                     "N"));
  }
  return order;
}

absl::StatusOr<v1::GetTopRequest> ToRequest(const TopOptions& options) {
  v1::GetTopRequest request;
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  request.set_run(options.run);
  request.set_statistic(options.statistic);
  if (options.step) request.set_step(*options.step);
  if (options.since_step) request.set_since_step(*options.since_step);
  const auto order = OrderOf(options);
  if (!order.ok()) return order.status();
  request.set_order(*order);
  request.set_ascending(options.ascending);
  if (options.limit == 0) {
    return absl::InvalidArgumentError("--limit 0: at least one row");
  }
  request.set_limit(options.limit);
  request.set_match(options.match);
  const auto rank = ParseOneRank(options.ranks, "a ranking");
  if (!rank.ok()) return rank.status();
  request.set_rank(rank->rank);
  request.set_merged(rank->merged);
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  return request;
}

std::optional<double> ValueOf(const v1::TopRow& row) {
  if (row.absent()) return std::nullopt;
  return row.value();
}

std::optional<double> SinceOf(const v1::TopRow& row) {
  if (row.since_absent()) return std::nullopt;
  return row.since_value();
}

// "x8.5": how many times as large; "+0.25" for a difference.
std::string ChangeText(v1::TopOrder order, const v1::TopRow& row) {
  if (std::isnan(row.score())) return "-";
  if (order == v1::TOP_ORDER_DIFFERENCE) {
    return absl::StrCat(row.score() > 0 ? "+" : "", HumanNumber(row.score()));
  }
  const double value = std::fabs(row.value());
  const double since = std::fabs(row.since_value());
  return "x" + HumanNumber(value == since ? 1 : value / since);
}

std::string Caption(const v1::GetTopResponse& top) {
  std::string text =
      absl::StrCat(EscapeForTerminal(top.run()), "  attempt ", top.attempt(),
                   "  rank ", RankText(top.rank()), "  step ", top.step(), "  ",
                   HumanTime(top.time_unix_ns()));
  if (!top.has_since_step()) return text;
  absl::StrAppend(&text, "  since step ", top.since_step());
  if (top.since_attempt() != top.attempt()) {
    absl::StrAppend(&text, " of attempt ", top.since_attempt());
  }
  return text;
}

Table MakeTable(const v1::GetTopResponse& top) {
  const bool change = top.has_since_step();
  std::vector<Column> columns = {{"PARAM", Align::kLeft, true}};
  if (change) {
    columns.push_back({absl::StrCat("AT ", top.since_step()), Align::kRight});
    columns.push_back({absl::StrCat("AT ", top.step()), Align::kRight});
    columns.push_back({"CHANGE", Align::kRight});
  } else {
    columns.push_back({EscapeForTerminal(top.statistic()), Align::kRight});
  }
  columns.push_back({"NON-FINITE", Align::kRight});
  Table table(std::move(columns));
  for (const v1::TopRow& row : top.rows()) {
    std::vector<Cell> cells = {NameCell(row.parameter())};
    if (change) cells.push_back(ValueCell(top.statistic(), SinceOf(row)));
    cells.push_back(ValueCell(top.statistic(), ValueOf(row)));
    if (change) cells.push_back({ChangeText(top.order(), row)});
    cells.push_back(row.nonfinite() == 0
                        ? Cell{}
                        : Cell{HumanCount(row.nonfinite()), Tone::kBad});
    table.AddRow(std::move(cells));
  }
  table.DropEmptyColumns();
  return table;
}

absl::Status WriteTable(const v1::GetTopResponse& top, Context& context) {
  const TableStyle style = context.table_style();
  std::string text = Paint(Caption(top), Tone::kFaint, style.colour) + "\n";
  if (top.has_since_step()) {
    absl::StrAppend(&text, EscapeForTerminal(top.statistic()), "\n");
  }
  absl::StrAppend(&text, "\n");
  if (top.rows().empty()) {
    absl::StrAppend(&text, "No parameter has it at this step.\n");
    return context.Write(text);
  }
  absl::StrAppend(&text, MakeTable(top).Render(style));
  std::string remark;
  if (static_cast<std::uint32_t>(top.rows_size()) < top.ranked()) {
    remark = absl::StrCat(top.rows_size(), " of ",
                          Plural(top.ranked(), "parameter"));
  }
  if (top.ranked_nonfinite() > 0) {
    absl::StrAppend(&remark, remark.empty() ? "" : "; ",
                    Plural(top.ranked_nonfinite(), "parameter"),
                    " with what is not finite");
  }
  if (!remark.empty()) absl::StrAppend(&text, "\n", remark, "\n");
  return context.Write(text);
}

absl::Status WriteCsv(const v1::GetTopResponse& top, Context& context) {
  absl::Status status = context.Write(
      CsvHeader({"run", "attempt", "rank", "step", "time", "param", "kind",
                 "stat", "value", "nonfinite", "since_step", "since_value",
                 "since_nonfinite", "score"},
                context.csv_options()));
  CsvRow csv(context.csv_options());
  for (const v1::TopRow& row : top.rows()) {
    csv.Text(top.run())
        .Unsigned(top.attempt())
        .Text(RankText(top.rank()))
        .Integer(top.step())
        .Time(top.time_unix_ns())
        .Text(row.parameter())
        .Text(KindWord(row.kind()))
        .Text(top.statistic())
        .Value(ValueOf(row))
        .Unsigned(row.nonfinite());
    if (top.has_since_step()) {
      csv.Integer(top.since_step())
          .Value(SinceOf(row))
          .Unsigned(row.since_nonfinite());
    } else {
      csv.Empty().Empty().Empty();
    }
    if (std::isnan(row.score())) {
      csv.Empty();
    } else {
      csv.Number(row.score());
    }
    if (status.ok()) status = context.Write(csv.Take());
  }
  return status;
}

absl::Status Run(const TopOptions& options, Context& context) {
  const auto request = ToRequest(options);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::GetTopResponse top;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::GetTop, *request, &top);
  if (!status.ok()) return status;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(top);
    case Format::kCsv:
      return WriteCsv(top, context);
    case Format::kTable:
      break;
  }
  return WriteTable(top, context);
}

void AddOrderOptions(CLI::App& app, TopOptions& options) {
  app.add_option("--since-step", options.since_step,
                 "Rank by the change from this step on; negative counts from "
                 "the end")
      ->option_text("N");
  app.add_option("--by", options.by,
                 "value; with --since-step change (how many times larger or "
                 "smaller, the default), growth (larger first) or difference")
      ->option_text("ORDER");
  app.add_flag("--ascending", options.ascending,
               "The smallest first; what is not finite stays before all");
  app.add_option("-n,--limit", options.limit,
                 "At most so many parameters; default 20")
      ->option_text("N");
}

}  // namespace

Command AddTop(CLI::App& app) {
  auto options = std::make_shared<TopOptions>();
  AddRunArgument(app, options->run);
  app.add_option("-s,--stat", options->statistic,
                 "The statistic to rank by; default grad.l2")
      ->option_text("S");
  app.add_option("--step", options->step,
                 "Which step; negative counts from the end; default: the last")
      ->option_text("N");
  AddOrderOptions(app, *options);
  AddMatchOption(app, options->match);
  app.add_option("--rank", options->ranks, "Of this rank; default 0")
      ->option_text("R|merged")
      ->expected(1)
      ->take_all();
  app.add_option("--attempt", options->attempt, "Of this attempt's line alone")
      ->option_text("K");
  app.footer(
      "Parameters with NaN or infinite elements come first, whatever the "
      "order;\nthose without a value (no gradient was defined) last.\n\n"
      "Examples:\n"
      "  gradtap top fashion-mnist\n"
      "  gradtap top fashion-mnist --stat grad.l2 --since-step -200\n"
      "  gradtap top gpt --stat update.ratio --step 900 --since-step 800 "
      "--by growth\n"
      "  gradtap top gpt --stat grad.abs_mean --ascending --match attn");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
