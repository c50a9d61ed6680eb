// gradtap export
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/export_file.h"
#include "client/cli/export_reader.h"
#include "client/cli/export_rows.h"
#include "client/cli/export_tensorboard.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"

namespace gradtap::client {
namespace {

struct ExportOptions {
  std::string run;
  std::string format;
  std::string folder;
  std::string file = "-";
  std::string match;
  std::string steps;
  std::vector<std::string> statistics;
  std::vector<std::string> ranks;
  std::string attempt;
  bool follow = false;
};

enum class Kind { kCsv, kJsonLines, kTensorboard };

// A file is no terminal.
CsvOptions CsvOptionsOf(const ExportFile& file, const Context& context) {
  CsvOptions options = context.csv_options();
  if (!file.ToStandardOutput()) options.escape = false;
  return options;
}

absl::Status WriteRows(bool csv, ExportReader& reader, ExportFile& file,
                       Context& context, std::uint64_t* values) {
  const CsvOptions options = CsvOptionsOf(file, context);
  absl::Status status;
  if (csv) {
    status = file.Write(CsvHeader(
        {"run", "attempt", "rank", "step", "time", "param", "stat", "value"},
        options));
  }
  if (!status.ok()) return status;
  status = reader.Read(
      reader.begin_step(), reader.end_step(),
      [&](const v1::GetSeriesResponse& chunk, std::int64_t, std::int64_t) {
        absl::Status written;
        ForEachRow(chunk, [&](const ExportRow& row) {
          *values += row.entries.size();
          written =
              file.Write(csv ? ExportCsv(row, options) : ExportJsonLine(row));
          return written.ok();
        });
        return written;
      });
  return status.ok() ? file.Finish() : status;
}

// Without --format, what --output says.
absl::StatusOr<Kind> KindOf(const ExportOptions& options,
                            const Context& context) {
  const std::string word = absl::AsciiStrToLower(options.format);
  if (word.empty()) {
    return context.format() == Format::kJson ? Kind::kJsonLines : Kind::kCsv;
  }
  if (word == "csv") return Kind::kCsv;
  if (word == "jsonl") return Kind::kJsonLines;
  if (word == "tensorboard") return Kind::kTensorboard;
  return absl::InvalidArgumentError(absl::StrCat(
      "bad format '", options.format, "': one of csv, jsonl, tensorboard"));
}

absl::Status CheckWhereTo(const ExportOptions& options, Kind kind) {
  if (options.file.empty()) {
    return absl::InvalidArgumentError(
        "bad file '': a path, or - for standard output");
  }
  if (kind == Kind::kTensorboard) {
    if (options.file != "-") {
      return absl::InvalidArgumentError(absl::StrCat(
          "bad file '", options.file,
          "': TensorBoard's files go into a folder, named after the run: "
          "gradtap export ",
          options.run, " --format tensorboard DIR"));
    }
    if (!options.folder.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("no folder: gradtap export ", options.run,
                     " --format tensorboard DIR"));
  }
  if (!options.folder.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bad folder '", options.folder,
        "': only --format tensorboard takes one; --file PATH for csv and "
        "jsonl"));
  }
  if (options.follow) {
    return absl::InvalidArgumentError(
        "bad option --follow: only --format tensorboard has it; see gradtap "
        "watch");
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::GetSeriesRequest> ToRequest(const ExportOptions& options) {
  v1::GetSeriesRequest request;
  request.add_runs(options.run);
  request.set_match(options.match);
  for (const std::string& name : SplitList(options.statistics)) {
    request.add_statistics(name);
  }
  const auto ranks = ParseRanks(options.ranks);
  if (!ranks.ok()) return ranks.status();
  request.mutable_ranks()->Assign(ranks->ranks.begin(), ranks->ranks.end());
  if (ranks->merged && !ranks->ranks.empty()) {
    return absl::InvalidArgumentError(
        "bad rank list: export takes ranks or 'merged', not both at once");
  }
  request.set_merged(ranks->merged);
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  return request;
}

absl::Status RunRows(Kind kind, const ExportOptions& options,
                     const std::optional<v1::StepRange>& steps,
                     ExportReader& reader, Context& context) {
  ExportFile file(context, options.file);
  if (!(file.ToStandardOutput() && context.io().out_is_terminal)) {
    reader.ShowProgress();
  }
  std::uint64_t values = 0;
  absl::Status status = reader.Plan(steps);
  if (status.ok()) status = file.Open();
  if (status.ok()) {
    status = WriteRows(kind == Kind::kCsv, reader, file, context, &values);
  }
  if (status.ok() && !file.ToStandardOutput()) {
    context.Note(
        absl::StrCat(Plural(values, "value"), " written to ", options.file));
  }
  const int attempts = reader.run().attempts_size();
  if (status.ok() && options.attempt.empty() && attempts > 1) {
    context.Note(absl::StrCat(
        "this is the run's canonical line; steps of older attempts that newer "
        "ones replace are not in it: --attempt 1 to ",
        attempts - 1, " gives those"));
  }
  return status;
}

absl::Status Run(const ExportOptions& options, Context& context) {
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  const auto kind = KindOf(options, context);
  if (!kind.ok()) return kind.status();
  if (absl::Status status = CheckWhereTo(options, *kind); !status.ok()) {
    return status;
  }
  auto request = ToRequest(options);
  if (!request.ok()) return request.status();
  std::optional<v1::StepRange> steps;
  if (!options.steps.empty()) {
    const auto parsed = ParseSlice(options.steps);
    if (!parsed.ok()) return parsed.status();
    steps = *parsed;
  }
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  context.io().catch_interrupts();
  if (*kind == Kind::kTensorboard) {
    return ExportTensorboard(
        {*std::move(request), steps, options.folder, options.follow}, **channel,
        context);
  }
  ExportReader reader(**channel, *std::move(request), ExportDefault::kStored,
                      context);
  return RunRows(*kind, options, steps, reader, context);
}

}  // namespace

Command AddExport(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  AddRunArgument(app, options->run);
  app.add_option("DIR", options->folder,
                 "TensorBoard's log folder; the run gets one of its own there");
  app.add_option("--format", options->format,
                 "csv: one value a row, as series prints it; jsonl: one object "
                 "a parameter and step; tensorboard: event files, norms unless "
                 "--stat says what; default csv")
      ->option_text("csv|jsonl|tensorboard");
  app.add_flag("--follow", options->follow,
               "With tensorboard: goes on until the run has ended");
  app.add_option("--file", options->file,
                 "Where to; - is standard output, the default")
      ->option_text("PATH");
  AddMatchOption(app, options->match);
  app.add_option("--steps", options->steps,
                 "Only these steps, like a Python slice")
      ->option_text("A:B");
  app.add_option("-s,--stat", options->statistics,
                 "Only these; default: all that is stored, and all scalars "
                 "(of tensorboard: norms and scalars)")
      ->option_text("S,...")
      ->expected(1)
      ->take_all();
  app.add_option("--rank", options->ranks, "Only these ranks; default: all")
      ->option_text("R,...|merged")
      ->expected(1)
      ->take_all();
  app.add_option("--attempt", options->attempt, "This attempt's line alone")
      ->option_text("K");
  app.footer(
      "Examples:\n"
      "  gradtap export fashion-mnist --format csv --file fashion.csv\n"
      "  gradtap export gpt --format jsonl --steps -1000: | gzip > "
      "gpt.jsonl.gz\n"
      "  gradtap export gpt --format tensorboard logs --follow");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
