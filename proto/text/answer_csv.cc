#include "proto/text/answer_csv.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"

namespace gradtap {
namespace {

constexpr std::uint32_t kMergedRank = 4294967295u;

// "parameter" of KIND_PARAMETER.
std::string KindText(v1::Kind kind) {
  return absl::AsciiStrToLower(absl::StripPrefix(v1::Kind_Name(kind), "KIND_"));
}

}  // namespace

std::string RankText(std::uint32_t rank) {
  return rank == kMergedRank ? "merged" : std::to_string(rank);
}

int PointCount(const v1::Series& series) {
  return std::min({series.attempt_size(), series.step_size(),
                   series.time_unix_ns_size(), series.value_size()});
}

std::optional<double> PointValue(const v1::Series& series, int point,
                                 int* absent) {
  while (*absent < series.absent_size() &&
         series.absent(*absent) < static_cast<std::uint32_t>(point)) {
    ++*absent;
  }
  if (*absent < series.absent_size() &&
      series.absent(*absent) == static_cast<std::uint32_t>(point)) {
    return std::nullopt;
  }
  return series.value(point);
}

std::optional<double> RowValue(const v1::SnapshotRow& row, int column) {
  if (column >= row.value_size()) return std::nullopt;
  const auto& absent = row.absent();
  if (std::find(absent.begin(), absent.end(),
                static_cast<std::uint32_t>(column)) != absent.end()) {
    return std::nullopt;
  }
  return row.value(column);
}

void WriteCsv(const v1::GetSeriesResponse& answer, CsvOptions options,
              const CsvSink& sink) {
  bool wanted = sink(CsvHeader(
      {"run", "attempt", "rank", "step", "time", "param", "stat", "value"},
      options));
  CsvRow row(options);
  for (const v1::Series& series : answer.series()) {
    int absent = 0;
    for (int i = 0; i < PointCount(series) && wanted; ++i) {
      row.Text(series.run())
          .Unsigned(series.attempt(i))
          .Text(RankText(series.rank()))
          .Integer(series.step(i))
          .Time(series.time_unix_ns(i))
          .Text(series.parameter())
          .Text(series.statistic())
          .Value(PointValue(series, i, &absent));
      wanted = sink(row.Take());
    }
  }
}

void WriteCsv(const v1::GetSnapshotResponse& answer, CsvOptions options,
              const CsvSink& sink) {
  std::vector<std::string> header = {"run",  "attempt", "rank", "step",
                                     "time", "param",   "kind"};
  header.insert(header.end(), answer.statistics().begin(),
                answer.statistics().end());
  bool wanted = sink(CsvHeader(header, options));
  CsvRow row(options);
  for (const v1::SnapshotRow& parameter : answer.rows()) {
    if (!wanted) return;
    row.Text(answer.run())
        .Unsigned(answer.attempt())
        .Text(RankText(answer.rank()))
        .Integer(answer.step())
        .Time(answer.time_unix_ns())
        .Text(parameter.parameter())
        .Text(parameter.members() > 0 ? "group" : KindText(parameter.kind()));
    for (int c = 0; c < answer.statistics_size(); ++c) {
      row.Value(RowValue(parameter, c));
    }
    wanted = sink(row.Take());
  }
}

}  // namespace gradtap
