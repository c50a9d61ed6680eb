#include "client/cli/snapshot_rows.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/cells.h"
#include "client/cli/text.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

// Smaller comes first.
std::pair<int, double> SortKey(const std::optional<double>& value) {
  if (!value) return {2, 0};
  if (!std::isfinite(*value)) return {0, 0};
  return {1, -*value};
}

}  // namespace

absl::Status SortRows(std::string_view by, v1::GetSnapshotResponse& snapshot) {
  if (by.empty()) return absl::OkStatus();
  auto* rows = snapshot.mutable_rows();
  using Row = v1::SnapshotRow;
  if (by == "name") {
    std::stable_sort(rows->pointer_begin(), rows->pointer_end(),
                     [](const Row* a, const Row* b) {
                       return a->parameter() < b->parameter();
                     });
    return absl::OkStatus();
  }
  const auto& names = snapshot.statistics();
  const auto it = std::find(names.begin(), names.end(), by);
  if (it == names.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot sort by '", EscapeForTerminal(by), "': one of name, ",
        EscapeForTerminal(absl::StrJoin(names, ", "))));
  }
  const int column = static_cast<int>(it - names.begin());
  std::vector<std::pair<std::pair<int, double>, Row*>> keyed;
  keyed.reserve(rows->size());
  for (auto row = rows->pointer_begin(); row != rows->pointer_end(); ++row) {
    keyed.emplace_back(SortKey(RowValue(**row, column)), *row);
  }
  std::stable_sort(
      keyed.begin(), keyed.end(),
      [](const auto& a, const auto& b) { return a.first < b.first; });
  std::transform(keyed.begin(), keyed.end(), rows->pointer_begin(),
                 [](const auto& entry) { return entry.second; });
  return absl::OkStatus();
}

Table SnapshotTable(const v1::GetSnapshotResponse& snapshot, int most) {
  std::vector<Column> columns = {{"PARAM", Align::kLeft, true}};
  for (const std::string& name : snapshot.statistics()) {
    columns.push_back({EscapeForTerminal(name), Align::kRight, false});
  }
  Table table(std::move(columns));
  for (int r = 0; r < std::min(most, snapshot.rows_size()); ++r) {
    const v1::SnapshotRow& row = snapshot.rows(r);
    std::vector<Cell> cells = {NameCell(row.parameter())};
    for (int c = 0; c < snapshot.statistics_size(); ++c) {
      cells.push_back(ValueCell(snapshot.statistics(c), RowValue(row, c)));
    }
    table.AddRow(std::move(cells));
  }
  return table;
}

std::string SnapshotCaption(const v1::GetSnapshotResponse& snapshot) {
  std::string text = absl::StrCat(
      EscapeForTerminal(snapshot.run()), "  attempt ", snapshot.attempt(),
      "  rank ", RankText(snapshot.rank()), "  step ", snapshot.step(), "  ",
      HumanTime(snapshot.time_unix_ns()));
  if (snapshot.interval_steps() > 1) {
    absl::StrAppend(&text, "  every ", snapshot.interval_steps(), " steps");
  }
  return text;
}

std::string ScalarsText(const v1::GetSnapshotResponse& snapshot) {
  std::string text;
  for (const v1::Scalar& scalar : snapshot.scalars()) {
    absl::StrAppend(&text, text.empty() ? "" : "  ",
                    EscapeForTerminal(scalar.name()), " ",
                    HumanNumber(scalar.value()));
  }
  return text;
}

}  // namespace gradtap::client
