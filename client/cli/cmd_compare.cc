// gradtap compare
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
#include "core/names.h"

namespace gradtap::client {
namespace {

constexpr int kMostDifferences = 20;

struct CompareOptions {
  std::string good;
  std::string other;
  std::vector<std::string> statistics;
  std::string match;
  std::string steps;
  std::vector<std::string> ranks;
  std::string good_attempt;
  std::string other_attempt;
  std::string sort;
  std::uint32_t limit = 20;
  double noise = 5;
  std::uint32_t in_a_row = 5;
};

absl::Status SetAttempts(const CompareOptions& options,
                         v1::CompareRunsRequest& request) {
  if (!options.good_attempt.empty()) {
    const auto attempt = ParseAttempt(options.good_attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_good_attempt(*attempt);
  }
  if (!options.other_attempt.empty()) {
    const auto attempt = ParseAttempt(options.other_attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_other_attempt(*attempt);
  }
  return absl::OkStatus();
}

absl::Status SetJudgement(const CompareOptions& options,
                          v1::CompareRunsRequest& request) {
  if (options.sort == "step") {
    request.set_order(v1::COMPARE_ORDER_FIRST_STEP);
  } else if (!options.sort.empty() && options.sort != "distance") {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot sort by '", EscapeForTerminal(options.sort),
                     "': one of distance, step"));
  }
  if (options.limit == 0) {
    return absl::InvalidArgumentError("--limit 0: at least one row");
  }
  request.set_limit(options.limit);
  if (!(options.noise > 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--noise ", options.noise, ": how many times the noise, above 0"));
  }
  request.set_noise_factor(options.noise);
  if (options.in_a_row == 0) {
    return absl::InvalidArgumentError("--in-a-row 0: at least one step");
  }
  request.set_steps_in_a_row(options.in_a_row);
  return absl::OkStatus();
}

absl::StatusOr<v1::CompareRunsRequest> ToRequest(
    const CompareOptions& options) {
  v1::CompareRunsRequest request;
  for (const std::string& run : {options.good, options.other}) {
    if (absl::Status status = CheckRunName(run); !status.ok()) return status;
  }
  request.set_good_run(options.good);
  request.set_other_run(options.other);
  for (const std::string& name : SplitList(options.statistics)) {
    request.add_statistics(name);
  }
  request.set_match(options.match);
  if (!options.steps.empty()) {
    const auto steps = ParseSlice(options.steps);
    if (!steps.ok()) return steps.status();
    *request.mutable_steps() = *steps;
  }
  const auto rank = ParseOneRank(options.ranks, "a comparison");
  if (!rank.ok()) return rank.status();
  request.set_rank(rank->rank);
  request.set_merged(rank->merged);
  absl::Status status = SetAttempts(options, request);
  if (status.ok()) status = SetJudgement(options, request);
  if (!status.ok()) return status;
  return request;
}

// "x8.5"; "-" if there is none.
std::string TimesText(double log2) {
  return std::isnan(log2) ? "-" : "x" + HumanNumber(std::exp2(log2));
}

std::string Caption(const v1::CompareRunsResponse& answer) {
  std::string text = absl::StrCat(
      EscapeForTerminal(answer.good_run()), "  beside  ",
      EscapeForTerminal(answer.other_run()), "  rank ", RankText(answer.rank()),
      "  ", Plural(answer.compared_steps(), "step"), " of both");
  if (answer.only_good_steps() > 0) {
    absl::StrAppend(&text, ", ", HumanCount(answer.only_good_steps()),
                    " of the first alone");
  }
  if (answer.only_other_steps() > 0) {
    absl::StrAppend(&text, ", ", HumanCount(answer.only_other_steps()),
                    " of the second alone");
  }
  return text;
}

Cell SideCell(bool has, const std::string& text) {
  return has ? NameCell(text) : Cell{"-", Tone::kFaint};
}

std::string DifferencesText(const v1::CompareRunsResponse& answer,
                            const TableStyle& style) {
  if (answer.differences().empty()) return "Set up alike.\n";
  Table table({{"DIFFERS", Align::kLeft, true},
               {EscapeForTerminal(answer.good_run()), Align::kLeft, true},
               {EscapeForTerminal(answer.other_run()), Align::kLeft, true}});
  std::uint64_t shown = 0;
  std::uint64_t of_runs = 0;
  for (const v1::Difference& one : answer.differences()) {
    of_runs += one.parameter().empty() ? 1 : 0;
    if (shown == kMostDifferences) continue;
    ++shown;
    std::string name = one.what();
    if (one.what() == "parameter") {
      name = one.parameter();
    } else if (!one.parameter().empty()) {
      name = absl::StrCat(one.parameter(), " ", one.what());
    }
    table.AddRow({NameCell(name), SideCell(one.has_good(), one.good()),
                  SideCell(one.has_other(), one.other())});
  }
  std::string text = table.Render(style);
  const std::uint64_t all = of_runs + answer.parameter_differences();
  if (all > shown) {
    absl::StrAppend(&text, Plural(all - shown, "more difference"),
                    "; --json lists them\n");
  }
  return text;
}

std::optional<double> GoodOf(const v1::CompareRow& row) {
  if (row.good_absent()) return std::nullopt;
  return row.good_value();
}

std::optional<double> OtherOf(const v1::CompareRow& row) {
  if (row.other_absent()) return std::nullopt;
  return row.other_value();
}

std::string SeriesText(const v1::CompareRunsResponse& answer,
                       const TableStyle& style) {
  if (answer.rows().empty()) return "No series of both to compare.\n";
  Table table({{"PARAM", Align::kLeft, true},
               {"STAT", Align::kLeft, true},
               {"DIVERGES AT", Align::kRight},
               {"RATIO", Align::kRight},
               {"NOISE", Align::kRight},
               {"LAST STEP", Align::kRight},
               {"GOOD", Align::kRight},
               {"OTHER", Align::kRight},
               {"NON-FINITE", Align::kRight}});
  for (const v1::CompareRow& row : answer.rows()) {
    const bool nonfinite = row.good_nonfinite() + row.other_nonfinite() > 0;
    table.AddRow(
        {row.parameter().empty() ? Cell{"-", Tone::kFaint}
                                 : NameCell(row.parameter()),
         NameCell(row.statistic()),
         row.has_first_step()
             ? Cell{std::to_string(row.first_step()), Tone::kBad}
             : Cell{"-", Tone::kFaint},
         {TimesText(row.log2_ratio())},
         {TimesText(row.noise_log2())},
         {std::to_string(row.last_step())},
         ValueCell(row.statistic(), GoodOf(row)),
         ValueCell(row.statistic(), OtherOf(row)),
         nonfinite ? Cell{absl::StrCat(HumanCount(row.good_nonfinite()), ", ",
                                       HumanCount(row.other_nonfinite())),
                          Tone::kBad}
                   : Cell{}});
  }
  table.DropEmptyColumns();
  std::string text = table.Render(style);
  if (static_cast<std::uint64_t>(answer.rows_size()) < answer.series()) {
    absl::StrAppend(&text, "\n", answer.rows_size(), " of ",
                    HumanCount(answer.series()), " series");
  }
  return text;
}

std::string VerdictText(const v1::CompareRunsResponse& answer) {
  const std::string rule =
      absl::StrCat("beyond ", HumanNumber(answer.noise_factor()),
                   " times the noise of the first for ",
                   Plural(answer.steps_in_a_row(), "step"), " in a row");
  if (answer.diverged() == 0) {
    return absl::StrCat("None of ", HumanCount(answer.series()),
                        " series diverges: ", rule, ".\n");
  }
  return absl::StrCat(HumanCount(answer.diverged()), " of ",
                      HumanCount(answer.series()),
                      " series diverge, the first at step ",
                      answer.first_diverged_step(), ": ", rule, ".\n");
}

absl::Status WriteTable(const v1::CompareRunsResponse& answer,
                        Context& context) {
  const TableStyle style = context.table_style();
  return context.Write(absl::StrCat(
      Paint(Caption(answer), Tone::kFaint, style.colour), "\n\n",
      DifferencesText(answer, style), "\n", SeriesText(answer, style), "\n",
      answer.rows().empty() ? "" : VerdictText(answer)));
}

absl::Status WriteCsv(const v1::CompareRunsResponse& answer, Context& context) {
  absl::Status status = context.Write(CsvHeader(
      {"good_run", "other_run", "rank", "param", "stat", "first_step", "steps",
       "steps_beyond", "log2_ratio", "noise_log2", "last_step", "good_value",
       "good_nonfinite", "other_value", "other_nonfinite"},
      context.csv_options()));
  const auto known = [](double value) {
    return std::isnan(value) ? std::optional<double>() : value;
  };
  CsvRow csv(context.csv_options());
  for (const v1::CompareRow& row : answer.rows()) {
    csv.Text(answer.good_run())
        .Text(answer.other_run())
        .Text(RankText(answer.rank()))
        .Text(row.parameter())
        .Text(row.statistic());
    if (row.has_first_step()) {
      csv.Integer(row.first_step());
    } else {
      csv.Empty();
    }
    csv.Unsigned(row.steps())
        .Unsigned(row.steps_beyond())
        .Value(known(row.log2_ratio()))
        .Value(known(row.noise_log2()))
        .Integer(row.last_step())
        .Value(GoodOf(row))
        .Unsigned(row.good_nonfinite())
        .Value(OtherOf(row))
        .Unsigned(row.other_nonfinite());
    if (status.ok()) status = context.Write(csv.Take());
  }
  return status;
}

absl::Status Run(const CompareOptions& options, Context& context) {
  const auto request = ToRequest(options);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::CompareRunsResponse answer;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::CompareRuns, *request, &answer);
  if (!status.ok()) return status;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(answer);
    case Format::kCsv:
      return WriteCsv(answer, context);
    case Format::kTable:
      break;
  }
  return WriteTable(answer, context);
}

void AddJudgementOptions(CLI::App& app, CompareOptions& options) {
  app.add_option("--sort", options.sort,
                 "By how far they are apart (distance, the default), or by the "
                 "step at which they diverge")
      ->option_text("distance|step");
  app.add_option("-n,--limit", options.limit,
                 "At most so many series; default 20")
      ->option_text("N");
  app.add_option("--noise", options.noise,
                 "Beyond so many times the noise of the good run; default 5")
      ->option_text("K");
  app.add_option("--in-a-row", options.in_a_row,
                 "For so many steps in a row; default 5")
      ->option_text("N");
}

}  // namespace

Command AddCompare(CLI::App& app) {
  auto options = std::make_shared<CompareOptions>();
  app.add_option("GOOD", options->good, "The run whose noise is the measure")
      ->type_name("")
      ->required();
  app.add_option("OTHER", options->other, "The run that went another way")
      ->type_name("")
      ->required();
  app.add_option("-s,--stat", options->statistics,
                 "By these statistics and scalars; default grad.l2, "
                 "update.ratio, scalar.* and the learning rates")
      ->option_text("S,...")
      ->expected(1)
      ->take_all();
  AddMatchOption(app, options->match);
  app.add_option("--steps", options->steps,
                 "Which steps, like a Python slice; default: all of both")
      ->option_text("A:B");
  app.add_option("--rank", options->ranks, "Of this rank; default 0")
      ->option_text("R|merged")
      ->expected(1)
      ->take_all();
  app.add_option("--attempt", options->good_attempt,
                 "GOOD's line of this attempt alone")
      ->option_text("K");
  app.add_option("--other-attempt", options->other_attempt,
                 "OTHER's line of this attempt alone")
      ->option_text("K");
  AddJudgementOptions(app, *options);
  app.footer(
      "Examples:\n"
      "  gradtap compare fashion-mnist fashion-mnist-2\n"
      "  gradtap compare gpt gpt-bf16 --stat grad.l2 --match attn --sort "
      "step\n"
      "  gradtap compare gpt gpt --attempt 1 --other-attempt 2\n"
      "  gradtap compare gpt gpt-bf16 --limit 10000 --output csv > apart.csv");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
