// Turns the series of a chunk of steps into rows of an export.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_EXPORT_ROWS_H_
#define GRADTAP_CLIENT_CLI_EXPORT_ROWS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/csv.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

// All statistics of one parameter (or the scalars: an empty name) at one step
// of one rank.
struct ExportRow {
  std::string_view run;
  std::uint32_t attempt = 0;
  std::uint32_t rank = 0;
  std::int64_t step = 0;
  std::int64_t time_unix_ns = 0;
  std::string_view parameter;
  struct Entry {
    std::string_view statistic;
    std::optional<double> value;  // nullopt: absent.
  };
  std::vector<Entry> entries;
};

// Calls `on_row` for each row: by rank, then step, then parameter as they come
// in the answer; until it returns false, which is then returned.
bool ForEachRow(const v1::GetSeriesResponse& chunk,
                const std::function<bool(const ExportRow& row)>& on_row);

// The columns of `series`, one value a row.
std::string ExportCsv(const ExportRow& row, CsvOptions options);
// One object a line; absent is null.
std::string ExportJsonLine(const ExportRow& row);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_EXPORT_ROWS_H_
