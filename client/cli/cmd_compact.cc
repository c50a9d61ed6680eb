// gradtap compact
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/text.h"
#include "core/names.h"
#include "gradtap/v1/upkeep.pb.h"

namespace gradtap::client {
namespace {

absl::Status WriteCsv(const v1::CompactResponse& done, Context& context) {
  std::string text = CsvHeader({"family", "bytes_before", "bytes_after"},
                               context.csv_options());
  for (const v1::CompactResponse::Family& family : done.families()) {
    CsvRow row(context.csv_options());
    row.Text(family.name())
        .Unsigned(family.bytes_before())
        .Unsigned(family.bytes_after());
    text += row.Take();
  }
  return context.Write(text);
}

absl::Status WriteTable(const v1::CompactResponse& done, Context& context) {
  Table table({{"DATA", Align::kLeft},
               {"BEFORE", Align::kRight},
               {"AFTER", Align::kRight}});
  for (const v1::CompactResponse::Family& family : done.families()) {
    table.AddRow({{EscapeForTerminal(family.name())},
                  {HumanBytes(family.bytes_before())},
                  {HumanBytes(family.bytes_after())}});
  }
  table.AddRow({{"all", Tone::kStrong},
                {HumanBytes(done.bytes_before()), Tone::kStrong},
                {HumanBytes(done.bytes_after()), Tone::kStrong}});
  return context.Write(absl::StrCat(table.Render(context.table_style()),
                                    "Compacted in ",
                                    HumanLatency(done.took_ns()), ".\n"));
}

absl::Status Run(Context& context) {
  const v1::CompactRequest request;
  auto channel = context.Connect(request);
  if (!channel.ok()) return channel.status();
  v1::CompactResponse response;
  const absl::Status status =
      (*channel)->Call(&v1::Upkeep::Stub::Compact, request, &response);
  if (!status.ok()) return status;
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

Command AddCompact(CLI::App& app) {
  app.footer(
      "It rewrites all tables and wants as much free disk as the largest kind\n"
      "of data takes. Training and queries go on, more slowly; Ctrl-C stops "
      "it,\nwhich harms nothing.\n\n"
      "Examples:\n"
      "  gradtap compact\n"
      "  gradtap compact --timeout 600");
  return [](Context& context) { return Run(context); };
}

}  // namespace gradtap::client
