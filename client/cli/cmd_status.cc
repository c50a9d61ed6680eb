// gradtap status
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <string>

#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/keeping_rows.h"
#include "client/cli/text.h"

namespace gradtap::client {
namespace {

constexpr int kRemovalsShown = 10;

absl::Status WriteTable(const v1::GetStatusResponse& status,
                        const std::string& address, Context& context) {
  const std::int64_t now = context.io().clock.UnixNanos();
  Table table({{"COLLECTOR", Align::kLeft}, {address, Align::kLeft, true}});
  const auto add = [&table](const char* what, std::string value) {
    table.AddRow({{what}, {std::move(value)}});
  };
  add("version", NameCell(status.version()).text);
  add("up", status.start_time_unix_ns() == 0
                ? "-"
                : HumanDuration(now - status.start_time_unix_ns()));
  add("data folder", NameCell(status.data_dir()).text);
  add("format version", std::to_string(status.format_version()));
  add("runs", HumanCount(status.runs()));
  add("open sessions", HumanCount(status.open_sessions()));
  add("open watches", HumanCount(status.open_watches()));
  add("stored since start", Plural(status.stored_steps(), "step") + ", " +
                                Plural(status.stored_values(), "value") + ", " +
                                HumanBytes(status.stored_bytes()));
  add("rejected records", HumanCount(status.rejected_records()));
  add("commits", Plural(status.syncs(), "sync") + " for " +
                     Plural(status.batches(), "batch"));
  add("disk", HumanBytes(status.disk_bytes()) + " used, " +
                  HumanBytes(status.disk_free_bytes()) + " free");
  add("memory", HumanBytes(status.resident_bytes()));
  AddKeepingRows(status.keeping(), now, &table);
  const std::string removals = RemovalsText(status.keeping(), kRemovalsShown,
                                            now, context.table_style());
  return context.Write(table.Render(context.table_style()) +
                       (removals.empty() ? "" : "\n" + removals));
}

absl::Status WriteCsv(const v1::GetStatusResponse& status, Context& context) {
  const std::string header = CsvHeader({"version",
                                        "start_time",
                                        "data_dir",
                                        "format_version",
                                        "runs",
                                        "open_sessions",
                                        "open_watches",
                                        "stored_steps",
                                        "stored_values",
                                        "stored_bytes",
                                        "rejected_records",
                                        "batches",
                                        "syncs",
                                        "disk_bytes",
                                        "disk_free_bytes",
                                        "resident_bytes",
                                        "disk_reserve_bytes",
                                        "growth_bytes_per_day",
                                        "days_until_full",
                                        "ingest_stopped",
                                        "removed_runs",
                                        "removed_bytes",
                                        "shrunk_steps",
                                        "shrunk_bytes"},
                                       context.csv_options());
  CsvRow row(context.csv_options());
  row.Text(status.version())
      .Time(status.start_time_unix_ns())
      .Text(status.data_dir())
      .Unsigned(status.format_version())
      .Unsigned(status.runs())
      .Unsigned(status.open_sessions())
      .Unsigned(status.open_watches())
      .Unsigned(status.stored_steps())
      .Unsigned(status.stored_values())
      .Unsigned(status.stored_bytes())
      .Unsigned(status.rejected_records())
      .Unsigned(status.batches())
      .Unsigned(status.syncs())
      .Unsigned(status.disk_bytes())
      .Unsigned(status.disk_free_bytes())
      .Unsigned(status.resident_bytes())
      .Unsigned(status.keeping().disk_reserve_bytes())
      .Number(status.keeping().growth_bytes_per_day())
      .Number(status.keeping().days_until_full())
      .Bool(status.keeping().ingest_stopped())
      .Unsigned(status.keeping().removed_runs())
      .Unsigned(status.keeping().removed_bytes())
      .Unsigned(status.keeping().shrunk_steps())
      .Unsigned(status.keeping().shrunk_bytes());
  return context.Write(header + row.Take());
}

absl::Status Run(Context& context) {
  auto channel = context.Connect(v1::GetStatusRequest());
  if (!channel.ok()) return channel.status();
  v1::GetStatusResponse response;
  absl::Status status = (*channel)->Call(&v1::Query::Stub::GetStatus,
                                         v1::GetStatusRequest(), &response);
  if (!status.ok()) return status;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(response);
    case Format::kCsv:
      return WriteCsv(response, context);
    case Format::kTable:
      break;
  }
  return WriteTable(response, (*channel)->address(), context);
}

}  // namespace

Command AddStatus(CLI::App& app) {
  app.footer(
      "Examples:\n"
      "  gradtap status\n"
      "  gradtap status --collector gpu7:7317 --json");
  return [](Context& context) { return Run(context); };
}

}  // namespace gradtap::client
