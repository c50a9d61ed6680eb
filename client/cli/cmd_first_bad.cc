// gradtap first-bad
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/alert_rows.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

constexpr char kOriginUnknown[] =
    "rank of origin unknown: gradients captured after reduction";

struct FirstBadOptions {
  std::string run;
  std::string attempt;
  std::string loss;
  std::uint32_t limit = 0;
};

std::string_view KindWord(v1::BadKind kind) {
  switch (kind) {
    case v1::BAD_KIND_LOSS:
      return "loss";
    case v1::BAD_KIND_GRAD_LOCAL:
      return "grad_local";
    case v1::BAD_KIND_GRAD:
      return "grad";
    case v1::BAD_KIND_UPDATE:
      return "update";
    case v1::BAD_KIND_WEIGHT:
      return "weight";
    case v1::BAD_KIND_BUFFER:
      return "buffer";
    default:
      return "unknown";
  }
}

// "812", or "801-808" where the steps between were not recorded.
std::string StepText(const v1::BadFinding& finding) {
  if (finding.after_step() + 1 >= finding.step() || finding.after_step() < 0) {
    return std::to_string(finding.step());
  }
  return absl::StrCat(finding.after_step() + 1, "-", finding.step());
}

Cell WhatOf(const v1::BadFinding& finding) {
  if (finding.kind() == v1::BAD_KIND_LOSS) {
    return {HumanNumber(finding.value()), Tone::kBad};
  }
  if (finding.numel() == 0 || finding.value() != finding.value()) return {};
  return {absl::StrCat(HumanCountValue(finding.value()), " of ",
                       HumanCount(finding.numel()), " elements"),
          Tone::kBad};
}

// Parameters of one rank and kind that a table names; CSV and JSON have all.
constexpr std::uint64_t kShownOfGroup = 3;

bool SameGroup(const v1::BadFinding& a, const v1::BadFinding& b) {
  return a.place() == b.place() && a.rank() == b.rank();
}

std::vector<Cell> RowOf(const v1::BadFinding& finding) {
  return {{std::to_string(finding.place())},
          {StepText(finding)},
          {HumanTime(finding.time_unix_ns())},
          {std::to_string(finding.attempt())},
          {std::to_string(finding.rank())},
          {std::string(KindWord(finding.kind()))},
          finding.parameter().empty() ? Cell{} : NameCell(finding.parameter()),
          WhatOf(finding)};
}

std::vector<Cell> RestOfGroup(const v1::BadFinding& last, std::uint64_t rest) {
  std::vector<Cell> row = RowOf(last);
  row[6] = {absl::StrCat("and ", rest, " more"), Tone::kFaint};
  row[7] = {};
  return row;
}

std::string FindingsTable(const v1::GetFirstBadResponse& response,
                          const TableStyle& style) {
  Table table({{"#", Align::kRight},
               {"STEP", Align::kRight},
               {"TIME"},
               {"ATTEMPT", Align::kRight},
               {"RANK", Align::kRight},
               {"WHAT"},
               {"PARAM", Align::kLeft, true},
               {"NON-FINITE", Align::kRight}});
  std::uint64_t of_group = 0;
  for (int i = 0; i < response.findings_size(); ++i) {
    const v1::BadFinding& finding = response.findings(i);
    const bool last = i + 1 == response.findings_size() ||
                      !SameGroup(finding, response.findings(i + 1));
    if (++of_group <= kShownOfGroup) {
      table.AddRow(RowOf(finding));
    } else if (last) {
      table.AddRow(RestOfGroup(finding, of_group - kShownOfGroup));
    }
    if (last) of_group = 0;
  }
  table.DropEmptyColumns();
  return table.Render(style);
}

// What the table cannot say.
std::string Sentences(const v1::GetFirstBadResponse& response) {
  std::string text;
  int ties = 0;
  bool interval = false;
  bool unknown = false;
  for (const v1::BadFinding& finding : response.findings()) {
    ties += finding.place() == 1 ? 1 : 0;
    interval |= finding.place() == 1 && finding.after_step() >= 0 &&
                finding.after_step() + 1 < finding.step();
    unknown |= finding.place() == 1 && finding.origin_unknown();
  }
  if (unknown) absl::StrAppend(&text, kOriginUnknown, "\n");
  if (ties > 1) {
    absl::StrAppend(&text, ties,
                    " are first together: none of them is known to have gone "
                    "before the others\n");
  }
  if (interval) {
    absl::StrAppend(&text,
                    "it began somewhere in the steps of the first line: those "
                    "before its last were not recorded\n");
  }
  if (response.omitted() > 0) {
    absl::StrAppend(&text, response.omitted(), " more left out: --limit\n");
  }
  for (const std::string& note : response.notes()) {
    absl::StrAppend(&text, EscapeForTerminal(note), "\n");
  }
  return text;
}

absl::Status WriteTable(const v1::GetFirstBadResponse& response,
                        Context& context) {
  const TableStyle style = context.table_style();
  std::string text;
  if (response.findings().empty()) {
    absl::StrAppend(&text, "Nothing of run ", EscapeForTerminal(response.run()),
                    response.last_step() < 0
                        ? " is known: it has no step yet.\n"
                        : absl::StrCat(" was NaN or infinite up to step ",
                                       response.last_step(), ".\n"));
  } else {
    text = FindingsTable(response, style);
  }
  const std::string sentences = Sentences(response);
  if (!sentences.empty()) absl::StrAppend(&text, "\n", sentences);
  if (!response.alerts().empty()) {
    Table table = AlertTable(response.alerts());
    absl::StrAppend(&text, "\nOther rules that broke:\n", table.Render(style));
  }
  return context.Write(text);
}

absl::Status WriteCsv(const v1::GetFirstBadResponse& response,
                      Context& context) {
  std::string text =
      CsvHeader({"run", "place", "attempt", "rank", "step", "after_step",
                 "time", "what", "param", "value", "numel", "origin_unknown"},
                context.csv_options());
  CsvRow row(context.csv_options());
  for (const v1::BadFinding& finding : response.findings()) {
    row.Text(response.run())
        .Unsigned(finding.place())
        .Unsigned(finding.attempt())
        .Unsigned(finding.rank())
        .Integer(finding.step());
    if (finding.after_step() < 0) {
      row.Empty();
    } else {
      row.Integer(finding.after_step());
    }
    row.Time(finding.time_unix_ns())
        .Text(KindWord(finding.kind()))
        .Text(finding.parameter())
        .Number(finding.value())
        .Unsigned(finding.numel())
        .Bool(finding.origin_unknown());
    text += row.Take();
  }
  return context.Write(text);
}

absl::Status Run(const FirstBadOptions& options, Context& context) {
  v1::GetFirstBadRequest request;
  if (absl::Status s = CheckRunName(options.run); !s.ok()) return s;
  request.set_run(options.run);
  request.set_loss(options.loss);
  request.set_limit(options.limit);
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  auto channel = context.Connect(request);
  if (!channel.ok()) return channel.status();
  v1::GetFirstBadResponse response;
  const absl::Status s =
      (*channel)->Call(&v1::Query::Stub::GetFirstBad, request, &response);
  if (!s.ok()) return s;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(response);
    case Format::kCsv:
      return WriteCsv(response, context);
    case Format::kTable:
      break;
  }
  return WriteTable(response, context);
}

}  // namespace

Command AddFirstBad(CLI::App& app) {
  auto options = std::make_shared<FirstBadOptions>();
  AddRunArgument(app, options->run);
  app.add_option("--attempt", options->attempt,
                 "Of this attempt alone; default: of the newest data of each "
                 "step")
      ->option_text("K");
  app.add_option("--loss", options->loss,
                 "The scalar that is the loss; default: that of the "
                 "collector's rules")
      ->option_text("NAME");
  app.add_option("--limit", options->limit, "At most so many; default 100")
      ->option_text("N");
  app.footer(
      "What became NaN or infinite first, and on which rank: by step, and\n"
      "within a step loss, grad_local, grad, update, weight. Those with one\n"
      "number are ties. Needs no rules: it reads what is stored.\n"
      "\n"
      "Examples:\n"
      "  gradtap first-bad fashion-mnist\n"
      "  gradtap first-bad fashion-mnist --attempt 2 --loss train_loss --json");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
