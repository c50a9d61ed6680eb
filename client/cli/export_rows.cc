#include "client/cli/export_rows.h"

#include <map>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "core/json_text.h"

namespace gradtap::client {
namespace {

struct Cursor {
  const v1::Series* series;
  int points;
  int next = 0;
  int absent = 0;
};

struct ParameterGroup {
  std::string_view name;
  std::vector<Cursor> cursors;
};

struct RankGroup {
  std::vector<ParameterGroup> parameters;
  std::unordered_map<std::string_view, std::size_t> index;

  ParameterGroup& Of(std::string_view name) {
    const auto [it, added] = index.try_emplace(name, parameters.size());
    if (added) parameters.push_back({name, {}});
    return parameters[it->second];
  }

  // The smallest step that has a row left; nullopt: none.
  std::optional<std::int64_t> NextStep() const {
    std::optional<std::int64_t> step;
    for (const ParameterGroup& parameter : parameters) {
      for (const Cursor& cursor : parameter.cursors) {
        if (cursor.next >= cursor.points) continue;
        const std::int64_t here = cursor.series->step(cursor.next);
        if (!step || here < *step) step = here;
      }
    }
    return step;
  }
};

// Takes what the parameter has at `step`; false if that is nothing.
bool TakeRow(ParameterGroup& parameter, std::int64_t step, ExportRow* row) {
  row->entries.clear();
  for (Cursor& cursor : parameter.cursors) {
    if (cursor.next >= cursor.points ||
        cursor.series->step(cursor.next) != step) {
      continue;
    }
    const int i = cursor.next++;
    row->run = cursor.series->run();
    row->attempt = cursor.series->attempt(i);
    row->time_unix_ns = cursor.series->time_unix_ns(i);
    row->entries.push_back({cursor.series->statistic(),
                            PointValue(*cursor.series, i, &cursor.absent)});
  }
  row->step = step;
  row->parameter = parameter.name;
  return !row->entries.empty();
}

}  // namespace

bool ForEachRow(const v1::GetSeriesResponse& chunk,
                const std::function<bool(const ExportRow& row)>& on_row) {
  std::map<std::uint32_t, RankGroup> ranks;
  for (const v1::Series& series : chunk.series()) {
    ranks[series.rank()]
        .Of(series.parameter())
        .cursors.push_back({&series, PointCount(series)});
  }
  ExportRow row;
  for (auto& [rank, group] : ranks) {
    row.rank = rank;
    while (const auto step = group.NextStep()) {
      for (ParameterGroup& parameter : group.parameters) {
        if (TakeRow(parameter, *step, &row) && !on_row(row)) return false;
      }
    }
  }
  return true;
}

std::string ExportCsv(const ExportRow& row, CsvOptions options) {
  CsvRow start(options);
  start.Text(row.run)
      .Unsigned(row.attempt)
      .Text(RankText(row.rank))
      .Integer(row.step)
      .Time(row.time_unix_ns)
      .Text(row.parameter);
  std::string prefix = start.Take();
  prefix.back() = ',';
  std::string text;
  CsvRow rest(options);
  for (const ExportRow::Entry& entry : row.entries) {
    rest.Text(entry.statistic).Value(entry.value);
    text += prefix;
    text += rest.Take();
  }
  return text;
}

std::string ExportJsonLine(const ExportRow& row) {
  std::string text = absl::StrCat(
      "{\"run\":", JsonString(row.run), ",\"attempt\":", row.attempt,
      ",\"rank\":", row.rank, ",\"step\":", row.step,
      ",\"time\":", JsonString(ExactTime(row.time_unix_ns)),
      ",\"param\":", JsonString(row.parameter));
  for (const ExportRow::Entry& entry : row.entries) {
    absl::StrAppend(&text, ",", JsonString(entry.statistic), ":",
                    entry.value ? JsonNumber(*entry.value) : "null");
  }
  return text + "}\n";
}

}  // namespace gradtap::client
