// gradtap delete
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

struct DeleteOptions {
  std::string run;
  bool yes = false;
};

// OK if the person says yes.
absl::Status Confirm(const v1::RunInfo& run, Context& context) {
  if (run.pinned()) {
    return absl::FailedPreconditionError(
        absl::StrCat("run ", run.run(),
                     " is pinned and was not deleted; "
                     "`gradtap unpin ",
                     run.run(), "` first"));
  }
  Io& io = context.io();
  io.err.Write(absl::StrCat(
      "Delete run ", EscapeForTerminal(run.run()), ": ",
      Plural(run.stored_steps(), "step"), ", ", HumanBytes(run.bytes()),
      ", last seen ", HumanAge(run.last_seen_unix_ns(), io.clock.UnixNanos()),
      "? There is no way back. [y/N] "));
  io.err.Flush();
  const std::string answer = absl::AsciiStrToLower(io.read_line().value_or(""));
  if (answer == "y" || answer == "yes") return absl::OkStatus();
  return absl::FailedPreconditionError("nothing was deleted");
}

absl::Status Write(const v1::DeleteRunResponse& response, Context& context) {
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(response);
    case Format::kCsv: {
      CsvRow row(context.csv_options());
      row.Text(response.run())
          .Unsigned(response.deleted_steps())
          .Unsigned(response.deleted_bytes());
      return context.Write(CsvHeader({"run", "deleted_steps", "deleted_bytes"},
                                     context.csv_options()) +
                           row.Take());
    }
    case Format::kTable:
      break;
  }
  return context.Write(
      absl::StrCat("Deleted run ", EscapeForTerminal(response.run()), ": ",
                   Plural(response.deleted_steps(), "step"), ", ",
                   HumanBytes(response.deleted_bytes()), ".\n"));
}

absl::Status Run(const DeleteOptions& options, Context& context) {
  if (absl::Status status = CheckRunName(options.run); !status.ok()) {
    return status;
  }
  if (!options.yes && !context.io().in_is_terminal) {
    return absl::FailedPreconditionError(absl::StrCat(
        "run ", options.run,
        " was not deleted: standard input is no terminal to ask on; give "
        "--yes"));
  }
  v1::DeleteRunRequest request;
  request.set_run(options.run);
  auto channel = context.Connect(request);
  if (!channel.ok()) return channel.status();
  if (!options.yes) {
    v1::GetRunRequest about;
    about.set_run(options.run);
    v1::GetRunResponse response;
    absl::Status status =
        (*channel)->Call(&v1::Query::Stub::GetRun, about, &response);
    if (status.ok()) status = Confirm(response.run(), context);
    if (!status.ok()) return status;
  }
  v1::DeleteRunResponse response;
  absl::Status status =
      (*channel)->Call(&v1::Query::Stub::DeleteRun, request, &response);
  if (!status.ok()) return status;
  return Write(response, context);
}

}  // namespace

Command AddDelete(CLI::App& app) {
  auto options = std::make_shared<DeleteOptions>();
  AddRunArgument(app, options->run);
  app.add_flag("-y,--yes", options->yes, "Do not ask");
  app.footer(
      "Examples:\n"
      "  gradtap delete old-run\n"
      "  gradtap delete old-run --yes");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
