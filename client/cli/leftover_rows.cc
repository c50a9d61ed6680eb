#include "client/cli/leftover_rows.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/cells.h"
#include "client/cli/text.h"
#include "core/json_text.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

using State = LeftoverRow::State;

const char* StateWord(State state) {
  switch (state) {
    case State::kDelivered:
      return "delivered";
    case State::kUpToDate:
      return "up_to_date";
    case State::kRunning:
      return "running";
    case State::kSetAside:
      return "set_aside";
    case State::kRefused:
      return "refused";
    case State::kForAnother:
      return "for_another";
    case State::kFailed:
      break;
  }
  return "failed";
}

Cell StateForPeople(const LeftoverRow& row) {
  switch (row.state) {
    case State::kDelivered:
      return {"delivered", Tone::kGood};
    case State::kUpToDate:
      return {"nothing new", Tone::kGood};
    case State::kRunning:
      if (row.pid <= 0) return {"still running"};
      return {absl::StrCat("still running, pid ", row.pid)};
    case State::kSetAside:
      return {"set aside", Tone::kFaint};
    case State::kRefused:
      return {row.steps_sent > 0 ? "refused in part" : "refused", Tone::kBad};
    case State::kForAnother:
      return {absl::StrCat("for ", EscapeForTerminal(row.collector)),
              Tone::kBad};
    case State::kFailed:
      break;
  }
  return {"not delivered", Tone::kBad};
}

Cell CountCell(std::uint64_t count) {
  return {count == 0 ? std::string() : HumanCount(count)};
}

bool Known(const LeftoverRow& row) { return !row.run.empty(); }

}  // namespace

std::string LeftoverTable(const std::vector<LeftoverRow>& rows,
                          const TableStyle& style) {
  Table table({{"RUN", Align::kLeft, true},
               {"ATTEMPT", Align::kRight},
               {"RANK", Align::kRight},
               {"PROCESS", Align::kLeft, true},
               {"RECORDS", Align::kRight},
               {"STEPS", Align::kRight},
               {"ALREADY THERE", Align::kRight},
               {"REFUSED STEPS", Align::kRight},
               {"STATE"}});
  std::uint64_t steps = 0;
  std::uint64_t processes = 0;
  for (const LeftoverRow& row : rows) {
    const bool known = Known(row);
    table.AddRow({known ? NameCell(row.run) : Cell{"-", Tone::kFaint},
                  {row.attempt == 0 ? "" : std::to_string(row.attempt)},
                  {known ? std::to_string(row.rank) : std::string()},
                  NameCell(row.process),
                  CountCell(row.records_sent),
                  CountCell(row.steps_sent),
                  CountCell(row.records_there),
                  CountCell(row.steps_refused),
                  StateForPeople(row)});
    steps += row.steps_sent;
    processes += row.records_sent > 0 ? 1 : 0;
  }
  table.DropEmptyColumns();
  const std::string sum =
      processes == 0
          ? "Nothing new."
          : absl::StrCat("Delivered ", Plural(steps, "step"), " of ", processes,
                         processes == 1 ? " process." : " processes.");
  return absl::StrCat(table.Render(style), "\n", sum, "\n");
}

std::string LeftoverCsv(const std::vector<LeftoverRow>& rows,
                        CsvOptions options) {
  std::string text =
      CsvHeader({"folder", "process", "run", "attempt", "rank", "pid",
                 "collector", "state", "records_sent", "steps_sent",
                 "records_there", "steps_there", "steps_refused", "problems"},
                options);
  CsvRow row(options);
  for (const LeftoverRow& r : rows) {
    row.Text(r.folder).Text(r.process).Text(r.run);
    r.attempt == 0 ? row.Empty() : row.Unsigned(r.attempt);
    Known(r) ? row.Unsigned(r.rank) : row.Empty();
    r.pid == 0 ? row.Empty() : row.Integer(r.pid);
    row.Text(r.collector)
        .Text(StateWord(r.state))
        .Unsigned(r.records_sent)
        .Unsigned(r.steps_sent)
        .Unsigned(r.records_there)
        .Unsigned(r.steps_there)
        .Unsigned(r.steps_refused)
        .Text(absl::StrJoin(r.problems, "; "));
    text += row.Take();
  }
  return text;
}

std::string LeftoverJson(const std::vector<LeftoverRow>& rows) {
  std::string text = "{\n \"leftovers\": [";
  const char* comma = "";
  for (const LeftoverRow& row : rows) {
    absl::StrAppend(&text, comma,
                    "\n  {\n   \"folder\": ", JsonString(row.folder),
                    ",\n   \"process\": ", JsonString(row.process),
                    ",\n   \"run\": ", JsonString(row.run),
                    ",\n   \"attempt\": ", row.attempt,
                    ",\n   \"rank\": ", row.rank, ",\n   \"pid\": \"", row.pid,
                    "\",\n   \"collector\": ", JsonString(row.collector),
                    ",\n   \"state\": \"", StateWord(row.state),
                    "\",\n   \"recordsSent\": \"", row.records_sent,
                    "\",\n   \"stepsSent\": \"", row.steps_sent,
                    "\",\n   \"recordsThere\": \"", row.records_there,
                    "\",\n   \"stepsThere\": \"", row.steps_there,
                    "\",\n   \"stepsRefused\": \"", row.steps_refused,
                    "\",\n   \"problems\": [");
    const char* separator = "";
    for (const std::string& problem : row.problems) {
      absl::StrAppend(&text, separator, "\n    ", JsonString(problem));
      separator = ",";
    }
    absl::StrAppend(&text, row.problems.empty() ? "]" : "\n   ]", "\n  }");
    comma = ",";
  }
  absl::StrAppend(&text, rows.empty() ? "]" : "\n ]", "\n}\n");
  return text;
}

}  // namespace gradtap::client
