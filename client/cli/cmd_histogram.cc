// gradtap histogram
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/histogram_view.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

struct HistogramOptions {
  std::string run;
  std::string parameter;
  std::optional<std::int64_t> step;
  std::string role;
  std::vector<std::string> ranks;
  std::string attempt;
};

absl::StatusOr<v1::GetHistogramsRequest> ToRequest(
    const HistogramOptions& options) {
  v1::GetHistogramsRequest request;
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  request.set_run(options.run);
  if (options.parameter.empty()) {
    return absl::InvalidArgumentError(
        "bad parameter '': its full name, as gradtap params prints it");
  }
  request.set_parameter(options.parameter);
  if (options.step) request.set_step(*options.step);
  if (!options.role.empty()) {
    const auto role = ParseRole(options.role);
    if (!role.ok()) return role.status();
    request.set_role(*role);
  }
  const auto rank = ParseOneRank(options.ranks, "a histogram");
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

absl::Status NoHistogram(const v1::GetHistogramsRequest& request,
                         const v1::GetHistogramsResponse& response) {
  const std::string role =
      request.role() == v1::ROLE_UNSPECIFIED
          ? ""
          : absl::StrCat(" of role ", std::string(RoleWord(request.role())));
  return absl::NotFoundError(absl::StrCat(
      "parameter '", EscapeForTerminal(request.parameter()),
      "' has no histogram", role, " at step ", response.step(),
      ": it was absent there, such as a gradient that was not defined; see "
      "gradtap snapshot ",
      request.run(), " --step ", response.step()));
}

// The gradient's, else the first.
const v1::ParameterHistogram& ChosenOf(
    const v1::GetHistogramsResponse& response) {
  for (const v1::ParameterHistogram& one : response.histograms()) {
    if (one.role() == v1::ROLE_GRAD) return one;
  }
  return response.histograms(0);
}

absl::Status WriteTable(const v1::GetHistogramsResponse& response,
                        Context& context) {
  TableStyle style = context.table_style();
  const v1::ParameterHistogram& chosen = ChosenOf(response);
  std::string text = absl::StrCat(
      EscapeForTerminal(response.run()), "  attempt ", response.attempt(),
      "  rank ", RankText(response.rank()), "  step ", response.step(), "  ",
      HumanTime(response.time_unix_ns()));
  text = absl::StrCat(
      Paint(text, Tone::kFaint, style.colour), "\n",
      Paint(EscapeForTerminal(chosen.parameter()), Tone::kStrong, style.colour),
      "  ", std::string(RoleWord(chosen.role())), "  ",
      Plural(chosen.numel(), "element"), "\n\n", DrawHistogram(chosen, style));
  std::string others;
  for (const v1::ParameterHistogram& one : response.histograms()) {
    if (&one == &chosen) continue;
    absl::StrAppend(&others, others.empty() ? "" : ", ",
                    std::string(RoleWord(one.role())));
  }
  if (!others.empty()) {
    absl::StrAppend(&text, "\nWith --role also: ", others, "\n");
  }
  return context.Write(text);
}

// What stands for the bin in CSV: where its values lie.
BinRange EndsOf(std::uint32_t bin) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (bin == kBinNan) return {kNan, kNan};
  if (bin == kBinPosInf) return {kInf, kInf};
  if (bin == kBinNegInf) return {-kInf, -kInf};
  return RangeOf(bin);
}

absl::Status WriteCsv(const v1::GetHistogramsResponse& response,
                      Context& context) {
  absl::Status status =
      context.Write(CsvHeader({"run", "attempt", "rank", "step", "time",
                               "param", "role", "bin", "from", "to", "count"},
                              context.csv_options()));
  CsvRow row(context.csv_options());
  for (const v1::ParameterHistogram& one : response.histograms()) {
    const int n = std::min(one.bin_size(), one.count_size());
    for (int i = 0; i < n && status.ok(); ++i) {
      if (!IsBin(one.bin(i))) continue;
      const BinRange ends = EndsOf(one.bin(i));
      row.Text(response.run())
          .Unsigned(response.attempt())
          .Text(RankText(response.rank()))
          .Integer(response.step())
          .Time(response.time_unix_ns())
          .Text(one.parameter())
          .Text(RoleWord(one.role()))
          .Unsigned(one.bin(i))
          .Number(ends.lower)
          .Number(ends.upper)
          .Unsigned(one.count(i));
      status = context.Write(row.Take());
    }
  }
  return status;
}

absl::Status Run(const HistogramOptions& options, Context& context) {
  const auto request = ToRequest(options);
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::GetHistogramsResponse response;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::GetHistograms, *request, &response);
  if (!status.ok()) return status;
  if (response.histograms().empty()) return NoHistogram(*request, response);
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

Command AddHistogram(CLI::App& app) {
  auto options = std::make_shared<HistogramOptions>();
  AddRunArgument(app, options->run);
  app.add_option("PARAM", options->parameter,
                 "The parameter's full name, as params prints it")
      ->type_name("")
      ->required();
  app.add_option("--step", options->step,
                 "Which step; negative counts from the end, steps that have "
                 "histograms alone; default: the last of those")
      ->option_text("N");
  app.add_option("--role", options->role,
                 "weight, grad, update, grad_local or buffer; default: grad if "
                 "there is one; json and csv: all of them")
      ->option_text("ROLE");
  app.add_option("--rank", options->ranks,
                 "Of this rank, or merged over shards; default 0")
      ->option_text("R|merged")
      ->expected(1)
      ->take_all();
  app.add_option("--attempt", options->attempt, "Of this attempt's line alone")
      ->option_text("K");
  app.footer(
      "The bins are powers of two, so that a quantile is known within a factor "
      "of\ntwo: its bounds stand beside it. Histograms are recorded with\n"
      "AgentOptions::histogram_interval_steps or "
      "GRADTAP_HISTOGRAM_INTERVAL.\n\n"
      "Examples:\n"
      "  gradtap histogram fashion-mnist conv1.weight\n"
      "  gradtap histogram fashion-mnist conv1.weight --step 100 --role "
      "update\n"
      "  gradtap histogram gpt head.weight --rank merged --output csv");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
