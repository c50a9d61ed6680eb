// gradtap export
//
// Layer: client/cli.

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/export_rows.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

// What one answer may hold, about; the rest follows in the next one.
constexpr std::int64_t kValuesPerChunk = 200'000;
constexpr std::int64_t kMostStepsPerChunk = std::int64_t{1} << 40;

struct ExportOptions {
  std::string run;
  std::string format;
  std::string file = "-";
  std::string match;
  std::string steps;
  std::vector<std::string> statistics;
  std::vector<std::string> ranks;
  std::string attempt;
};

// Half-open; empty if begin >= end.
struct Steps {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// Standard output, or a file that has its name only once it is complete.
class Sink {
 public:
  Sink(Context& context, std::string path)
      : context_(context), path_(std::move(path)) {}
  ~Sink() {
    if (fd_ < 0) return;
    file_.reset();
    ::close(fd_);
    ::unlink(Part().c_str());
  }
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;

  absl::Status Open() {
    if (ToStandardOutput()) return absl::OkStatus();
    fd_ =
        ::open(Part().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd_ < 0) return Failed("create", errno);
    file_.emplace(fd_);
    return absl::OkStatus();
  }

  absl::Status Write(std::string_view text) {
    if (ToStandardOutput()) return context_.Write(text);
    return file_->Write(text) ? absl::OkStatus()
                              : Failed("write", file_->error());
  }

  // Everything was written.
  absl::Status Finish() {
    if (ToStandardOutput()) return context_.Flush();
    if (!file_->Flush()) return Failed("write", file_->error());
    const int fd = std::exchange(fd_, -1);
    if (::close(fd) != 0) return Failed("write", errno);
    if (::rename(Part().c_str(), path_.c_str()) != 0) {
      return Failed("create", errno);
    }
    return absl::OkStatus();
  }

  bool ToStandardOutput() const { return path_ == "-"; }

 private:
  std::string Part() const { return path_ + ".part"; }
  absl::Status Failed(const char* what, int error) const {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot ", what, " '", path_, "': ", std::strerror(error)));
  }

  Context& context_;
  const std::string path_;
  int fd_ = -1;
  std::optional<FdOutput> file_;
};

class Exporter {
 public:
  Exporter(QueryChannel& channel, v1::GetSeriesRequest request, bool csv,
           Sink& sink, Context& context)
      : channel_(channel),
        request_(std::move(request)),
        csv_(csv),
        sink_(sink),
        context_(context) {}

  // What is stored of the run, into steps_, statistics and the chunk's size.
  absl::Status Plan(const std::optional<v1::StepRange>& wanted) {
    v1::GetRunRequest request;
    request.set_run(request_.runs(0));
    v1::GetRunResponse run;
    absl::Status status =
        channel_.Call(&v1::Query::Stub::GetRun, request, &run);
    if (!status.ok()) return status;
    FindSteps(run, wanted.value_or(v1::StepRange()));
    std::int64_t parameters = 1;
    std::set<v1::Role> roles;
    std::set<std::uint32_t> ranks;
    for (const v1::AttemptInfo& attempt : run.attempts()) {
      std::uint32_t lowest = std::numeric_limits<std::uint32_t>::max();
      for (const v1::StreamInfo& stream : attempt.streams()) {
        ranks.insert(stream.rank());
        lowest = std::min(lowest, stream.rank());
      }
      if (attempt.streams().empty()) continue;
      status = AddRoles(attempt.attempt(), lowest, &roles, &parameters);
      if (!status.ok()) return status;
    }
    if (request_.statistics().empty()) AddStatistics(roles);
    const std::int64_t a_step =
        parameters * request_.statistics_size() *
        static_cast<std::int64_t>(std::max<std::size_t>(ranks.size(), 1));
    chunk_ = std::max<std::int64_t>(1, kValuesPerChunk / a_step);
    attempts_ = run.attempts_size();
    // A pattern that matches nothing anywhere is more likely a slip than a wish
    // for scalars alone.
    if (roles.empty() && !request_.match().empty()) {
      if (!no_match_.ok()) return no_match_;
      return absl::NotFoundError(absl::StrCat(
          "run '", request_.runs(0), "' has no parameter that matches '",
          EscapeForTerminal(request_.match()), "'"));
    }
    return absl::OkStatus();
  }

  absl::Status Run() {
    absl::Status status = absl::OkStatus();
    if (csv_) {
      status = sink_.Write(CsvHeader(
          {"run", "attempt", "rank", "step", "time", "param", "stat", "value"},
          CsvOptionsOfSink()));
    }
    std::int64_t begin = steps_.begin;
    while (status.ok() && begin < steps_.end) {
      const std::int64_t size = std::min(chunk_, steps_.end - begin);
      v1::GetSeriesResponse chunk;
      status = Ask({begin, begin + size}, &chunk);
      if (status.code() == absl::StatusCode::kResourceExhausted && size > 1) {
        chunk_ = size / 2;
        status = absl::OkStatus();
        continue;
      }
      if (status.ok()) status = WriteChunk(chunk);
      // Wide ranges in which little is stored.
      if (chunk.series().empty()) {
        chunk_ = std::min(chunk_ * 2, kMostStepsPerChunk);
      }
      begin += size;
      Progress(begin);
    }
    EndProgress();
    return status.ok() ? sink_.Finish() : status;
  }

  std::uint64_t values() const { return values_; }
  // Of the run; what older ones had where newer ones begin is not exported.
  int attempts() const { return attempts_; }

 private:
  // Over all streams: a rank may have steps that the others lack.
  void FindSteps(const v1::GetRunResponse& run, const v1::StepRange& wanted) {
    Steps all{std::numeric_limits<std::int64_t>::max(), 0};
    for (const v1::AttemptInfo& attempt : run.attempts()) {
      if (request_.attempt() != 0 && attempt.attempt() != request_.attempt()) {
        continue;
      }
      for (const v1::StreamInfo& stream : attempt.streams()) {
        if (stream.last_step() < 0) continue;
        all.begin = std::min(all.begin, stream.first_step());
        all.end = std::max(all.end, stream.last_step() + 1);
      }
    }
    const auto place = [&](std::int64_t step) {
      return step < 0
                 ? std::max<std::int64_t>(run.run().last_step() + 1 + step, 0)
                 : step;
    };
    steps_ = all;
    if (wanted.has_begin()) {
      steps_.begin = std::max(all.begin, place(wanted.begin()));
    }
    if (wanted.has_end()) steps_.end = std::min(all.end, place(wanted.end()));
  }

  absl::Status AddRoles(std::uint32_t attempt, std::uint32_t rank,
                        std::set<v1::Role>* roles, std::int64_t* parameters) {
    v1::ListParametersRequest request;
    request.set_run(request_.runs(0));
    request.set_match(request_.match());
    request.set_attempt(attempt);
    request.set_rank(rank);
    v1::ListParametersResponse answer;
    absl::Status status =
        channel_.Call(&v1::Query::Stub::ListParameters, request, &answer);
    // Nothing but scalars so far.
    if (absl::IsNotFound(status)) {
      no_match_ = status;
      return absl::OkStatus();
    }
    *parameters = std::max<std::int64_t>(*parameters, answer.parameters_size());
    for (const v1::Parameter& parameter : answer.parameters()) {
      for (const int role : parameter.roles()) {
        roles->insert(static_cast<v1::Role>(role));
      }
    }
    return status;
  }

  void AddStatistics(const std::set<v1::Role>& roles) {
    for (const v1::Role role : roles) {
      for (const char* field : {"mean", "std", "abs_mean", "min", "max", "zero",
                                "nan", "pos_inf", "neg_inf"}) {
        request_.add_statistics(
            absl::StrCat(std::string(RoleWord(role)), ".", field));
      }
    }
    request_.add_statistics("scalar.*");
    request_.add_statistics("agent.*");
  }

  absl::Status Ask(Steps steps, v1::GetSeriesResponse* chunk) {
    if (context_.interrupted()) {
      return absl::FailedPreconditionError("interrupted: not all is exported");
    }
    request_.mutable_steps()->set_begin(steps.begin);
    request_.mutable_steps()->set_end(steps.end);
    return channel_.Call(&v1::Query::Stub::GetSeries, request_, chunk);
  }

  absl::Status WriteChunk(const v1::GetSeriesResponse& chunk) {
    absl::Status status;
    ForEachRow(chunk, [&](const ExportRow& row) {
      values_ += row.entries.size();
      status = sink_.Write(csv_ ? ExportCsv(row, CsvOptionsOfSink())
                                : ExportJsonLine(row));
      return status.ok();
    });
    return status;
  }

  // A file is no terminal.
  CsvOptions CsvOptionsOfSink() const {
    CsvOptions options = context_.csv_options();
    if (!sink_.ToStandardOutput()) options.escape = false;
    return options;
  }

  // On a terminal that the data does not go to.
  bool ShowsProgress() const {
    return context_.io().err_is_terminal &&
           !(sink_.ToStandardOutput() && context_.io().out_is_terminal);
  }
  void Progress(std::int64_t done) {
    if (!ShowsProgress()) return;
    context_.io().err.Write(
        absl::StrCat("\r", HumanCount(done - steps_.begin), " of ",
                     Plural(steps_.end - steps_.begin, "step"), "  "));
    context_.io().err.Flush();
    drew_progress_ = true;
  }
  void EndProgress() {
    if (drew_progress_) context_.io().err.Write("\n");
  }

  QueryChannel& channel_;
  v1::GetSeriesRequest request_;
  const bool csv_;
  Sink& sink_;
  Context& context_;
  Steps steps_;
  std::int64_t chunk_ = 1;
  std::uint64_t values_ = 0;
  int attempts_ = 0;
  absl::Status no_match_;
  bool drew_progress_ = false;
};

// "csv" or "jsonl"; without --format, what --output says.
absl::StatusOr<bool> WantsCsv(const ExportOptions& options,
                              const Context& context) {
  const std::string word = absl::AsciiStrToLower(options.format);
  if (word.empty()) return context.format() != Format::kJson;
  if (word == "csv") return true;
  if (word == "jsonl") return false;
  return absl::InvalidArgumentError(
      absl::StrCat("bad format '", options.format, "': one of csv, jsonl"));
}

absl::Status Run(const ExportOptions& options, Context& context) {
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  const auto csv = WantsCsv(options, context);
  if (!csv.ok()) return csv.status();
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
  if (options.file.empty()) {
    return absl::InvalidArgumentError(
        "bad file '': a path, or - for standard output");
  }
  request.set_merged(ranks->merged);
  if (!options.attempt.empty()) {
    const auto attempt = ParseAttempt(options.attempt);
    if (!attempt.ok()) return attempt.status();
    request.set_attempt(*attempt);
  }
  std::optional<v1::StepRange> steps;
  if (!options.steps.empty()) {
    const auto parsed = ParseSlice(options.steps);
    if (!parsed.ok()) return parsed.status();
    steps = *parsed;
  }
  auto channel = context.Connect(request);
  if (!channel.ok()) return channel.status();
  context.io().catch_interrupts();
  Sink sink(context, options.file);
  Exporter exporter(**channel, std::move(request), *csv, sink, context);
  absl::Status status = exporter.Plan(steps);
  if (status.ok()) status = sink.Open();
  if (status.ok()) status = exporter.Run();
  if (status.ok() && !sink.ToStandardOutput()) {
    context.Note(absl::StrCat(Plural(exporter.values(), "value"),
                              " written to ", options.file));
  }
  if (status.ok() && options.attempt.empty() && exporter.attempts() > 1) {
    context.Note(absl::StrCat(
        "this is the run's canonical line; steps of older attempts that newer "
        "ones replace are not in it: --attempt 1 to ",
        exporter.attempts() - 1, " gives those"));
  }
  return status;
}

}  // namespace

Command AddExport(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  AddRunArgument(app, options->run);
  app.add_option("--format", options->format,
                 "csv: one value a row, as series prints it; jsonl: one object "
                 "a parameter and step; default csv")
      ->option_text("csv|jsonl");
  app.add_option("--file", options->file,
                 "Where to; - is standard output, the default")
      ->option_text("PATH");
  AddMatchOption(app, options->match);
  app.add_option("--steps", options->steps,
                 "Only these steps, like a Python slice")
      ->option_text("A:B");
  app.add_option("-s,--stat", options->statistics,
                 "Only these; default: all that is stored, and all scalars")
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
      "gpt.jsonl.gz");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
