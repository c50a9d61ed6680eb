// gradtap pin, gradtap unpin
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

struct PinOptions {
  std::vector<std::string> runs;
  bool pinned = true;
};

std::string Sentence(const v1::PinRunResponse& response) {
  const std::string run = EscapeForTerminal(response.run());
  if (!response.changed()) {
    return absl::StrCat(
        "Run ", run,
        response.pinned() ? " was pinned already.\n" : " was not pinned.\n");
  }
  return response.pinned() ? absl::StrCat("Pinned run ", run,
                                          ": it stays until it is unpinned.\n")
                           : absl::StrCat("Unpinned run ", run, ".\n");
}

absl::Status Write(const v1::PinRunResponse& response, Context& context) {
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(response);
    case Format::kCsv: {
      CsvRow row(context.csv_options());
      row.Text(response.run()).Bool(response.pinned()).Bool(response.changed());
      return context.Write(row.Take());
    }
    case Format::kTable:
      break;
  }
  return context.Write(Sentence(response));
}

absl::Status Run(const PinOptions& options, Context& context) {
  for (const std::string& run : options.runs) {
    if (absl::Status s = CheckRunName(run); !s.ok()) return s;
  }
  v1::PinRunRequest request;
  request.set_pinned(options.pinned);
  auto channel = context.Connect(request);
  if (!channel.ok()) return channel.status();
  if (context.format() == Format::kCsv) {
    const absl::Status s = context.Write(
        CsvHeader({"run", "pinned", "changed"}, context.csv_options()));
    if (!s.ok()) return s;
  }
  for (const std::string& run : options.runs) {
    request.set_run(run);
    v1::PinRunResponse response;
    absl::Status s =
        (*channel)->Call(&v1::Query::Stub::PinRun, request, &response);
    if (s.ok()) s = Write(response, context);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

Command Add(CLI::App& app, bool pinned) {
  auto options = std::make_shared<PinOptions>();
  options->pinned = pinned;
  app.add_option("RUN", options->runs, "One run or several")
      ->type_name("")
      ->required();
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace

Command AddPin(CLI::App& app) {
  app.footer(
      "A pinned run is never removed or shrunk by the collector itself\n"
      "(gradtapd --keep-for, --keep-bytes, --disk-reserve), and `gradtap "
      "delete`\n"
      "refuses it until it is unpinned.\n"
      "\n"
      "Examples:\n"
      "  gradtap pin baseline\n"
      "  gradtap pin baseline best-of-june");
  return Add(app, true);
}

Command AddUnpin(CLI::App& app) {
  app.footer(
      "Examples:\n"
      "  gradtap unpin baseline");
  return Add(app, false);
}

}  // namespace gradtap::client
