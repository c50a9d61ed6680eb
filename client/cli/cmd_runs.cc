// gradtap runs
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

struct RunsOptions {
  std::string state;
  std::vector<std::string> tags;
  std::string sort;
};

using Less = bool (*)(const v1::RunInfo& a, const v1::RunInfo& b);

// By name ascending; all else with the largest or newest first.
const std::map<std::string, Less>& SortFields() {
  using Run = const v1::RunInfo&;
  static const std::map<std::string, Less> fields = {
      {"name", [](Run a, Run b) { return a.run() < b.run(); }},
      {"state", [](Run a, Run b) { return a.state() < b.state(); }},
      {"start",
       [](Run a, Run b) {
         return a.start_time_unix_ns() > b.start_time_unix_ns();
       }},
      {"seen",
       [](Run a, Run b) {
         return a.last_seen_unix_ns() > b.last_seen_unix_ns();
       }},
      {"steps",
       [](Run a, Run b) { return a.stored_steps() > b.stored_steps(); }},
      {"lost", [](Run a, Run b) { return a.lost_steps() > b.lost_steps(); }},
      {"overhead",
       [](Run a, Run b) {
         const auto known = [](double x) { return std::isnan(x) ? -1 : x; };
         return known(a.overhead()) > known(b.overhead());
       }},
      {"bytes", [](Run a, Run b) { return a.bytes() > b.bytes(); }},
      {"disk", [](Run a, Run b) { return a.disk_bytes() > b.disk_bytes(); }},
  };
  return fields;
}

absl::Status WriteTable(const v1::ListRunsResponse& response,
                        Context& context) {
  if (response.runs().empty()) return context.Write("No runs.\n");
  const std::int64_t now = context.io().clock.UnixNanos();
  Table table({{"RUN", Align::kLeft, true},
               {"STATE"},
               {"RANKS", Align::kRight},
               {"ATTEMPTS", Align::kRight},
               {"STEPS", Align::kRight},
               {"LAST STEP", Align::kRight},
               {"LOST", Align::kRight},
               {"LAST SEEN", Align::kRight},
               {"OVERHEAD", Align::kRight},
               {"SIZE", Align::kRight},
               {"ON DISK", Align::kRight},
               {"PINNED"},
               {"TAGS", Align::kLeft, true}});
  for (const v1::RunInfo& run : response.runs()) {
    std::string tags;
    for (const v1::Tag& tag : run.tags()) {
      absl::StrAppend(&tags, tags.empty() ? "" : " ", tag.key(), "=",
                      tag.value());
    }
    const std::string ranks =
        run.world_size() > run.ranks()
            ? absl::StrCat(run.ranks(), "/", run.world_size())
            : absl::StrCat(run.ranks());
    table.AddRow({NameCell(run.run()),
                  StateCell(run.state()),
                  {ranks},
                  {std::to_string(run.attempts())},
                  {HumanCount(run.stored_steps())},
                  {run.last_step() < 0 ? "-" : std::to_string(run.last_step())},
                  {HumanCount(run.lost_steps()),
                   run.lost_steps() > 0 ? Tone::kBad : Tone::kPlain},
                  {HumanAge(run.last_seen_unix_ns(), now)},
                  {HumanShare(run.overhead())},
                  {HumanBytes(run.bytes())},
                  {run.disk_bytes() > 0 ? HumanBytes(run.disk_bytes()) : ""},
                  {run.pinned() ? "yes" : ""},
                  NameCell(tags)});
  }
  table.DropEmptyColumns();
  return context.Write(table.Render(context.table_style()));
}

absl::Status WriteCsv(const v1::ListRunsResponse& response, Context& context) {
  std::string text = CsvHeader({"run",
                                "state",
                                "state_since",
                                "ranks",
                                "world_size",
                                "attempts",
                                "first_step",
                                "last_step",
                                "stored_steps",
                                "skipped_steps",
                                "lost_steps",
                                "start_time",
                                "last_seen",
                                "overhead",
                                "bytes",
                                "disk_bytes",
                                "rolled_up_steps",
                                "pinned",
                                "parameters",
                                "tags"},
                               context.csv_options());
  CsvRow row(context.csv_options());
  for (const v1::RunInfo& run : response.runs()) {
    std::string tags;
    for (const v1::Tag& tag : run.tags()) {
      absl::StrAppend(&tags, tags.empty() ? "" : ";", tag.key(), "=",
                      tag.value());
    }
    row.Text(run.run())
        .Text(StateWord(run.state()))
        .Time(run.state_since_unix_ns())
        .Unsigned(run.ranks())
        .Unsigned(run.world_size())
        .Unsigned(run.attempts())
        .Integer(run.first_step())
        .Integer(run.last_step())
        .Unsigned(run.stored_steps())
        .Unsigned(run.skipped_steps())
        .Unsigned(run.lost_steps())
        .Time(run.start_time_unix_ns())
        .Time(run.last_seen_unix_ns())
        .Number(run.overhead())
        .Unsigned(run.bytes())
        .Unsigned(run.disk_bytes())
        .Unsigned(run.rolled_up_steps())
        .Bool(run.pinned())
        .Unsigned(run.parameters())
        .Text(tags);
    text += row.Take();
  }
  return context.Write(text);
}

absl::Status Run(const RunsOptions& options, Context& context) {
  v1::ListRunsRequest request;
  if (!options.state.empty()) {
    const auto state = ParseState(options.state);
    if (!state.ok()) return state.status();
    request.set_state(*state);
  }
  for (const std::string& text : options.tags) {
    const auto tag = ParseTag(text);
    if (!tag.ok()) return tag.status();
    *request.add_tags() = *tag;
  }
  Less less = nullptr;
  if (!options.sort.empty()) {
    const auto it = SortFields().find(absl::AsciiStrToLower(options.sort));
    if (it == SortFields().end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot sort by '", options.sort,
          "': one of name, state, start, seen, steps, lost, overhead, bytes, "
          "disk"));
    }
    less = it->second;
  }
  auto channel = context.Connect(request);
  if (!channel.ok()) return channel.status();
  v1::ListRunsResponse response;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::ListRuns, request, &response);
  if (!status.ok()) return status;
  for (const std::string& note : response.notes()) context.Note(note);
  if (less != nullptr) {
    std::stable_sort(response.mutable_runs()->pointer_begin(),
                     response.mutable_runs()->pointer_end(),
                     [less](const v1::RunInfo* a, const v1::RunInfo* b) {
                       return less(*a, *b);
                     });
  }
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

Command AddRuns(CLI::App& app) {
  auto options = std::make_shared<RunsOptions>();
  app.add_option("--state", options->state, "Only runs in this state")
      ->option_text("running|finished|stopped|lost");
  app.add_option("--tag", options->tags,
                 "Only runs with this tag; may be repeated")
      ->option_text("KEY=VALUE")
      ->expected(1)
      ->take_all();
  app.add_option("--sort", options->sort,
                 "By name, or the largest first; default: newest start first")
      ->option_text("name|state|start|seen|steps|lost|overhead|bytes|disk");
  app.footer(
      "Examples:\n"
      "  gradtap runs --state running\n"
      "  gradtap runs --tag dataset=imagenet --sort overhead\n"
      "  gradtap runs --output csv > runs.csv");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
