// gradtap backup
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/text.h"
#include "core/names.h"
#include "gradtap/v1/upkeep.pb.h"

namespace gradtap::client {
namespace {

absl::Status Write(const v1::BackupResponse& made, Context& context) {
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(made);
    case Format::kCsv: {
      CsvRow row(context.csv_options());
      row.Text(made.path())
          .Unsigned(made.bytes())
          .Unsigned(made.runs())
          .Unsigned(made.rows())
          .Integer(made.took_ns());
      return context.Write(
          CsvHeader({"path", "bytes", "runs", "rows", "took_ns"},
                    context.csv_options()) +
          row.Take());
    }
    case Format::kTable:
      break;
  }
  return context.Write(absl::StrCat(
      "Backed up ", Plural(made.runs(), "run"), " with ",
      Plural(made.rows(), "row"), ": ", HumanBytes(made.bytes()), " in ",
      HumanLatency(made.took_ns()), ", on the collector's host in\n",
      EscapeForTerminal(made.path()), "\n"));
}

absl::Status Run(const std::string& name, Context& context) {
  v1::BackupRequest request;
  request.set_name(name);
  auto channel = context.Connect(request);
  if (!channel.ok()) return channel.status();
  v1::BackupResponse response;
  const absl::Status status =
      (*channel)->Call(&v1::Upkeep::Stub::Backup, request, &response);
  if (!status.ok()) return status;
  return Write(response, context);
}

}  // namespace

Command AddBackup(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  app.add_option("NAME", *name,
                 "Of the copy, a folder within the collector's --backup-dir; "
                 "default: the time");
  app.footer(
      "The copy is a data folder: verify it, copy it elsewhere, and give the\n"
      "copy to a collector as its --data-dir. Training and queries go on.\n\n"
      "Examples:\n"
      "  gradtap backup\n"
      "  gradtap backup before-upgrade --json");
  return [name](Context& context) { return Run(*name, context); };
}

}  // namespace gradtap::client
