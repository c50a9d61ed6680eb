#include "core/csv.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "core/names.h"

namespace gradtap {

std::string ExactNumber(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  char buffer[64];
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof(buffer), value);
  return error == std::errc() ? std::string(buffer, end) : "NaN";
}

std::string ExactTime(std::int64_t unix_ns) {
  if (unix_ns == 0) return "";
  std::int64_t seconds = unix_ns / 1'000'000'000;
  std::int64_t rest = unix_ns % 1'000'000'000;
  if (rest < 0) {
    rest += 1'000'000'000;
    --seconds;
  }
  const time_t when = seconds;
  struct tm utc {};
  gmtime_r(&when, &utc);
  char buffer[64];
  const std::size_t n =
      strftime(buffer, sizeof(buffer), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(buffer + n, sizeof(buffer) - n, ".%09dZ",
                static_cast<int>(rest));
  return buffer;
}

void CsvRow::Add(std::string_view cell) {
  if (!first_) row_ += ',';
  first_ = false;
  row_ += cell;
}

CsvRow& CsvRow::Text(std::string_view text) {
  std::string cell =
      options_.escape ? EscapeForTerminal(text) : std::string(text);
  if (options_.spreadsheet && !cell.empty() &&
      std::string_view("=+-@\t\r").find(cell.front()) !=
          std::string_view::npos) {
    cell.insert(cell.begin(), '\'');
  }
  if (cell.find_first_of(",\"\r\n") == std::string::npos) {
    Add(cell);
    return *this;
  }
  std::string quoted = "\"";
  for (const char c : cell) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  Add(quoted + "\"");
  return *this;
}

CsvRow& CsvRow::Number(double value) {
  Add(ExactNumber(value));
  return *this;
}

CsvRow& CsvRow::Value(const std::optional<double>& value) {
  return value ? Number(*value) : Empty();
}

CsvRow& CsvRow::Integer(std::int64_t value) {
  Add(std::to_string(value));
  return *this;
}

CsvRow& CsvRow::Unsigned(std::uint64_t value) {
  Add(std::to_string(value));
  return *this;
}

CsvRow& CsvRow::Bool(bool value) {
  Add(value ? "true" : "false");
  return *this;
}

CsvRow& CsvRow::Time(std::int64_t unix_ns) {
  Add(ExactTime(unix_ns));
  return *this;
}

CsvRow& CsvRow::Empty() {
  Add("");
  return *this;
}

std::string CsvRow::Take() {
  row_ += '\n';
  first_ = true;
  std::string row;
  row.swap(row_);
  return row;
}

std::string CsvHeader(const std::vector<std::string>& names,
                      CsvOptions options) {
  CsvRow row(options);
  for (const std::string& name : names) row.Text(name);
  return row.Take();
}

}  // namespace gradtap
