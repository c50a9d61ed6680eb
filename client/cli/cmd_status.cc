// gradtap status
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/commands.h"
#include "client/cli/keeping_rows.h"
#include "client/cli/text.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

constexpr int kRemovalsShown = 10;

// Of the columns "<name>_disk_bytes" of the CSV.
constexpr const char* kFamilies[] = {"catalog", "rows",  "index",  "histograms",
                                     "windows", "tiles", "rollups"};

std::string LatencyText(const v1::LatencyFigures& latency) {
  if (latency.recent() == 0) return "none in the last minute";
  return absl::StrCat("p50 ", HumanLatency(latency.p50_ns()), ", p99 ",
                      HumanLatency(latency.p99_ns()), ", max ",
                      HumanLatency(latency.max_ns()), " (",
                      HumanCount(latency.recent()), " in the last minute)");
}

std::string RateText(double rate) {
  return HumanNumber(rate >= 1000 ? rate / 1e6 : rate) +
         (rate >= 1000 ? " M" : "");
}

// Two columns: what, and how it is.
class StatusTable {
 public:
  StatusTable(const std::string& address, std::int64_t now_unix_ns)
      : now_(now_unix_ns),
        table_({{"COLLECTOR", Align::kLeft}, {address, Align::kLeft, true}}) {}

  void Add(const v1::GetStatusResponse& status) {
    const v1::CollectorFigures& figures = status.figures();
    AddIngestStopped(status.keeping(), now_, &table_);
    AddTrouble("STORING FAILS", figures.storing());
    AddTrouble("SEALING FAILS", figures.sealing().trouble());
    if (figures.writes_stopped()) {
      Row("WRITES STOPPED", "until compaction has caught up", Tone::kBad);
    }
    Row("version", NameCell(status.version()).text);
    Row("up", status.start_time_unix_ns() == 0
                  ? "-"
                  : HumanDuration(now_ - status.start_time_unix_ns()));
    // Not told to a token of some runs.
    if (!status.data_dir().empty()) {
      Row("data folder", NameCell(status.data_dir()).text);
    }
    Row("format version", std::to_string(status.format_version()));
    Row("runs", HumanCount(status.runs()));
    Row("open sessions", HumanCount(status.open_sessions()));
    Row("open watches", HumanCount(status.open_watches()));
    const bool has_figures = status.has_figures();
    if (has_figures) {
      Row("stored", Plural(figures.total_rows(), "row") + " of " +
                        Plural(figures.streams(), "stream") + ", " +
                        Plural(figures.total_steps(), "step") + ", " +
                        HumanBytes(figures.total_bytes()) + " as they came");
    }
    Row("stored since start", Plural(status.stored_steps(), "step") + ", " +
                                  Plural(status.stored_values(), "value") +
                                  ", " + HumanBytes(status.stored_bytes()));
    Row("rejected records", HumanCount(status.rejected_records()));
    if (has_figures) AddLimits(figures);
    Row("commits", Plural(status.syncs(), "sync") + " for " +
                       Plural(status.batches(), "batch"));
    if (has_figures) {
      Row("commit latency", LatencyText(figures.commit()));
      Row("sync latency", LatencyText(figures.sync()));
      AddSealing(figures.sealing());
    }
    Row("disk", HumanBytes(status.disk_bytes()) + " used, " +
                    HumanBytes(status.disk_free_bytes()) + " free");
    if (has_figures) AddData(figures);
    Row("memory", HumanBytes(status.resident_bytes()));
    AddKeepingRows(status.keeping(), &table_);
  }

  Table& table() { return table_; }

 private:
  void Row(const char* what, std::string value, Tone tone = Tone::kPlain) {
    table_.AddRow({{what, tone}, {std::move(value), tone}});
  }

  void AddTrouble(const char* what, const v1::TroubleFigures& trouble) {
    if (trouble.what().empty()) return;
    Row(what,
        "for " + HumanDuration(now_ - trouble.since_unix_ns()) + ": " +
            EscapeForTerminal(trouble.what()),
        Tone::kBad);
  }

  void AddLimits(const v1::CollectorFigures& figures) {
    std::string refused;
    for (const v1::LimitFigures& limit : figures.limits()) {
      if (limit.refused() == 0) continue;
      absl::StrAppend(&refused, refused.empty() ? "" : ", ",
                      EscapeForTerminal(limit.limit()), " ",
                      HumanCount(limit.refused()));
    }
    if (!refused.empty()) Row("refused by limits", std::move(refused));
  }

  void AddSealing(const v1::SealingFigures& sealing) {
    std::string waiting = Plural(sealing.rows_waiting(), "row") + " to seal, ";
    waiting += sealing.rows_due() == 0
                   ? "none due"
                   : HumanCount(sealing.rows_due()) + " due in " +
                         Plural(sealing.branches_due(), "branch") + " for " +
                         HumanLatency(sealing.due_for_ns());
    Row("sealer lag", std::move(waiting));
    Row("sealing", sealing.window().recent() == 0
                       ? "none in the last minute"
                       : HumanNumber(sealing.windows_per_second()) +
                             " windows/s, " +
                             RateText(sealing.values_per_second()) +
                             " values/s in the last minute");
    Row("window latency", LatencyText(sealing.window()));
    Row("sealed since start", Plural(sealing.sealed_windows(), "window") +
                                  ", " + Plural(sealing.sealed_rows(), "row") +
                                  ", " +
                                  Plural(sealing.sealed_values(), "value") +
                                  ", " + HumanBytes(sealing.sealed_bytes()));
  }

  void AddData(const v1::CollectorFigures& figures) {
    std::vector<v1::FamilyFigures> families(figures.families().begin(),
                                            figures.families().end());
    std::stable_sort(families.begin(), families.end(),
                     [](const auto& a, const auto& b) {
                       return a.disk_bytes() > b.disk_bytes();
                     });
    std::string tables;
    std::uint64_t in_memory = 0;
    for (const v1::FamilyFigures& family : families) {
      in_memory += family.memory_bytes();
      if (family.disk_bytes() == 0) continue;
      absl::StrAppend(&tables, tables.empty() ? "" : ", ",
                      EscapeForTerminal(family.name()), " ",
                      HumanBytes(family.disk_bytes()));
    }
    Row("tables", tables.empty() ? "none yet" : tables);
    Row("not in tables", HumanBytes(in_memory) + " in memory and logs, " +
                             HumanBytes(figures.compaction_pending_bytes()) +
                             " to compact");
  }

  const std::int64_t now_;
  Table table_;
};

Table CallsTable(const v1::CollectorFigures& figures) {
  Table table({{"CALL", Align::kLeft},
               {"CALLS", Align::kRight},
               {"FAILED", Align::kRight},
               {"LAST MINUTE", Align::kRight},
               {"P50", Align::kRight},
               {"P99", Align::kRight},
               {"MAX", Align::kRight}});
  for (const v1::CallFigures& call : figures.calls()) {
    const v1::LatencyFigures& latency = call.latency();
    const auto text = [&](std::int64_t ns) {
      return latency.recent() == 0 ? std::string("-") : HumanLatency(ns);
    };
    table.AddRow({{EscapeForTerminal(call.method())},
                  {HumanCount(latency.count())},
                  {HumanCount(call.failed())},
                  {HumanCount(latency.recent())},
                  {text(latency.p50_ns())},
                  {text(latency.p99_ns())},
                  {text(latency.max_ns())}});
  }
  return table;
}

absl::Status WriteTables(const v1::GetStatusResponse& status,
                         const std::string& address, Context& context) {
  const std::int64_t now = context.io().clock.UnixNanos();
  StatusTable table(address, now);
  table.Add(status);
  std::string text = table.table().Render(context.table_style());
  const std::string removals = RemovalsText(status.keeping(), kRemovalsShown,
                                            now, context.table_style());
  if (!removals.empty()) absl::StrAppend(&text, "\n", removals);
  const v1::CollectorFigures& figures = status.figures();
  if (figures.calls_size() > 0) {
    absl::StrAppend(&text, "\n",
                    CallsTable(figures).Render(context.table_style()));
  }
  // One of those that run is this one.
  if (figures.calls_running() > 1 || figures.calls_waiting() > 0) {
    absl::StrAppend(&text, Plural(figures.calls_running(), "call"),
                    " in progress, ", HumanCount(figures.calls_waiting()),
                    " waiting\n");
  }
  return context.Write(text);
}

void AddLatency(const v1::LatencyFigures& latency, CsvRow* row) {
  row->Unsigned(latency.count())
      .Integer(latency.sum_ns())
      .Unsigned(latency.recent())
      .Integer(latency.p50_ns())
      .Integer(latency.p99_ns())
      .Integer(latency.max_ns());
}

void AddLatencyColumns(const std::string& name,
                       std::vector<std::string>* columns) {
  for (const char* what :
       {"count", "sum_ns", "recent", "p50_ns", "p99_ns", "max_ns"}) {
    columns->push_back(absl::StrCat(name, what));
  }
}

void AddFigures(const v1::CollectorFigures& figures, CsvRow* row) {
  row->Unsigned(figures.total_rows())
      .Unsigned(figures.total_steps())
      .Unsigned(figures.total_bytes())
      .Unsigned(figures.streams());
  AddLatency(figures.commit(), row);
  AddLatency(figures.sync(), row);
  const v1::SealingFigures& sealing = figures.sealing();
  AddLatency(sealing.window(), row);
  row->Unsigned(sealing.rows_waiting())
      .Unsigned(sealing.rows_due())
      .Unsigned(sealing.branches_due())
      .Integer(sealing.due_for_ns())
      .Unsigned(sealing.sealed_windows())
      .Unsigned(sealing.sealed_rows())
      .Unsigned(sealing.sealed_values())
      .Unsigned(sealing.sealed_bytes())
      .Number(sealing.windows_per_second())
      .Number(sealing.values_per_second())
      .Unsigned(figures.compaction_pending_bytes())
      .Bool(figures.writes_stopped())
      .Text(figures.storing().what())
      .Text(sealing.trouble().what());
  for (const char* name : kFamilies) {
    std::uint64_t bytes = 0;
    for (const v1::FamilyFigures& family : figures.families()) {
      if (family.name() == name) bytes = family.disk_bytes();
    }
    row->Unsigned(bytes);
  }
}

std::uint64_t RefusedByLimits(const v1::CollectorFigures& figures) {
  std::uint64_t refused = 0;
  for (const v1::LimitFigures& limit : figures.limits()) {
    refused += limit.refused();
  }
  return refused;
}

absl::Status WriteCsv(const v1::GetStatusResponse& status, Context& context) {
  std::vector<std::string> columns = {
      "version",       "start_time",    "data_dir",         "format_version",
      "runs",          "open_sessions", "open_watches",     "stored_steps",
      "stored_values", "stored_bytes",  "rejected_records", "batches",
      "syncs",         "disk_bytes",    "disk_free_bytes",  "resident_bytes",
      "total_rows",    "total_steps",   "total_bytes",      "streams"};
  for (const char* name : {"commit_", "sync_", "window_"}) {
    AddLatencyColumns(name, &columns);
  }
  for (const char* name :
       {"rows_waiting", "rows_due", "branches_due", "due_for_ns",
        "sealed_windows", "sealed_rows", "sealed_values", "sealed_bytes",
        "sealed_windows_per_second", "sealed_values_per_second",
        "compaction_pending_bytes", "writes_stopped", "storing_trouble",
        "sealing_trouble"}) {
    columns.emplace_back(name);
  }
  for (const char* name : kFamilies) {
    columns.push_back(absl::StrCat(name, "_disk_bytes"));
  }
  for (const char* name :
       {"disk_reserve_bytes", "growth_bytes_per_day", "days_until_full",
        "ingest_stopped", "removed_runs", "removed_bytes", "shrunk_steps",
        "shrunk_bytes", "refused_by_limits"}) {
    columns.emplace_back(name);
  }
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
      .Unsigned(status.resident_bytes());
  AddFigures(status.figures(), &row);
  row.Unsigned(status.keeping().disk_reserve_bytes())
      .Number(status.keeping().growth_bytes_per_day())
      .Number(status.keeping().days_until_full())
      .Bool(status.keeping().ingest_stopped())
      .Unsigned(status.keeping().removed_runs())
      .Unsigned(status.keeping().removed_bytes())
      .Unsigned(status.keeping().shrunk_steps())
      .Unsigned(status.keeping().shrunk_bytes())
      .Unsigned(RefusedByLimits(status.figures()));
  return context.Write(CsvHeader(columns, context.csv_options()) + row.Take());
}

absl::Status WriteCallsCsv(const v1::GetStatusResponse& status,
                           Context& context) {
  std::vector<std::string> columns = {"call", "failed"};
  AddLatencyColumns("", &columns);
  std::string text = CsvHeader(columns, context.csv_options());
  for (const v1::CallFigures& call : status.figures().calls()) {
    CsvRow row(context.csv_options());
    row.Text(call.method()).Unsigned(call.failed());
    AddLatency(call.latency(), &row);
    text += row.Take();
  }
  return context.Write(text);
}

absl::Status Run(bool calls, Context& context) {
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
      return calls ? WriteCallsCsv(response, context)
                   : WriteCsv(response, context);
    case Format::kTable:
      break;
  }
  if (calls) {
    return context.Write(
        CallsTable(response.figures()).Render(context.table_style()));
  }
  return WriteTables(response, (*channel)->address(), context);
}

}  // namespace

Command AddStatus(CLI::App& app) {
  auto calls = std::make_shared<bool>(false);
  app.add_flag("--calls", *calls,
               "Only the collector's calls: how many, how long they take");
  app.footer(
      "Examples:\n"
      "  gradtap status\n"
      "  gradtap status --calls --output csv\n"
      "  gradtap status --collector gpu7:7317 --json");
  return [calls](Context& context) { return Run(*calls, context); };
}

}  // namespace gradtap::client
