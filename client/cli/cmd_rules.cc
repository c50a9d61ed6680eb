// gradtap rules
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/alert_rows.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "core/names.h"
#include "proto/text/rules_text.h"

namespace gradtap::client {
namespace {

struct RulesOptions {
  std::string action;
  std::string file;
  std::string run;
};

absl::StatusOr<std::string> ReadStandardInput(Io& io) {
  std::string text;
  while (const std::optional<std::string> line = io.read_line()) {
    absl::StrAppend(&text, *line, "\n");
    if (text.size() > kMaxRulesBytes) break;
  }
  return text;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, Io& io) {
  if (path == "-") return ReadStandardInput(io);
  std::ifstream in(path, std::ios::binary);
  std::string text(kMaxRulesBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  const std::streamsize got = in.gcount();
  if (!in.is_open() || in.bad() || (in.fail() && !in.eof())) {
    return absl::NotFoundError(absl::StrCat(
        "cannot read ", EscapeForTerminal(path), ": ", std::strerror(errno)));
  }
  text.resize(static_cast<std::size_t>(got));
  return text;
}

absl::Status WriteRules(const v1::RulesFile& rules, const std::string& first,
                        Context& context) {
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(rules);
    case Format::kCsv:
      return absl::InvalidArgumentError(
          "rules are no rows: --output table or json");
    case Format::kTable:
      break;
  }
  return context.Write(first);
}

absl::Status Test(const std::string& text, const RulesOptions& options,
                  Context& context) {
  v1::TestRulesRequest request;
  if (absl::Status s = CheckRunName(options.run); !s.ok()) return s;
  request.set_run(options.run);
  request.set_rules(text);
  auto channel = context.Connect(request);
  if (!channel.ok()) return channel.status();
  v1::TestRulesResponse response;
  const absl::Status s =
      (*channel)->Call(&v1::Query::Stub::TestRules, request, &response);
  if (!s.ok()) return s;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(response);
    case Format::kCsv:
      return context.Write(AlertCsv(response.alerts(), context.csv_options()));
    case Format::kTable:
      break;
  }
  std::string out;
  if (!response.alerts().empty()) {
    Table table = AlertTable(response.alerts());
    out = table.Render(context.table_style()) + "\n";
  }
  absl::StrAppend(&out, Plural(response.alerts_size(), "alert"), " over ",
                  Plural(response.steps(), "step"), " and ",
                  Plural(response.records(), "record"), ".\n");
  if (response.rolled_up_steps() > 0) {
    absl::StrAppend(&out, Plural(response.rolled_up_steps(), "step"),
                    " could not be judged: they have come to their "
                    "roll-ups.\n");
  }
  return context.Write(out);
}

absl::Status Run(const RulesOptions& options, Context& context) {
  if (options.action == "defaults") {
    const v1::RulesFile rules = DefaultRules();
    return WriteRules(rules, PrintRules(rules), context);
  }
  const bool test = options.action == "test";
  if (!test && options.action != "check") {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot '", EscapeForTerminal(options.action),
                     "' rules: one of check, test, defaults"));
  }
  if (options.file.empty() || test == options.run.empty()) {
    return absl::InvalidArgumentError(
        test ? "test takes a file and a run: gradtap rules test FILE RUN"
             : "check takes a file: gradtap rules check FILE");
  }
  const auto text = ReadFile(options.file, context.io());
  if (!text.ok()) return text.status();
  const auto rules = ParseRules(*text, options.file);
  if (!rules.ok()) return rules.status();
  // With every field: what the collector's own version would leave out counts.
  if (test) return Test(PrintRules(*rules), options, context);
  return WriteRules(
      *rules,
      absl::StrCat(EscapeForTerminal(options.file), ": the rules are sound\n"),
      context);
}

}  // namespace

Command AddRules(CLI::App& app) {
  auto options = std::make_shared<RulesOptions>();
  app.add_option("ACTION", options->action,
                 "check: reads a file of rules and says what is wrong with it; "
                 "test: replays it over what is stored of a run; defaults: "
                 "prints the rules that hold without a file")
      ->type_name("")
      ->required();
  app.add_option("FILE", options->file, "The file; - is standard input")
      ->type_name("");
  app.add_option("RUN", options->run, "test: the run")->type_name("");
  app.footer(
      "The file is protobuf's text format; docs/health.md in "
      "share/doc/gradtap explains\n"
      "it. The collector takes it with gradtapd --rules FILE. A test of a long "
      "run may\n"
      "take minutes: --timeout.\n"
      "\n"
      "Examples:\n"
      "  gradtap rules defaults > my.rules\n"
      "  gradtap rules check my.rules\n"
      "  gradtap rules test my.rules fashion-mnist");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
