// CSV as of RFC 4180, with LF line ends.
//
// row  = cell *("," cell) LF
// cell = text, in quotes (doubled inside) if it has a comma, a quote, CR or LF.
//
// Numbers read back bit for bit (NaN's payload apart); NaN, Infinity and
// -Infinity are spelled so; absent is an empty cell.
//
// Layer: core. This file: std.

#ifndef GRADTAP_CORE_CSV_H_
#define GRADTAP_CORE_CSV_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gradtap {

// The shortest decimal that reads back as the same double; "-0" for -0.
std::string ExactNumber(double value);

// "2026-11-24T15:43:16.123456789Z"; empty for 0.
std::string ExactTime(std::int64_t unix_ns);

struct CsvOptions {
  // A text cell that a spreadsheet would take for a formula (it begins with
  // = + - @, a tab or CR) gets an apostrophe before it.
  bool spreadsheet = false;
  // The reader is a terminal: text cells pass EscapeForTerminal().
  bool escape = false;
};

// Builds one row after the other.
class CsvRow {
 public:
  explicit CsvRow(CsvOptions options) : options_(options) {}

  CsvRow& Text(std::string_view text);
  CsvRow& Number(double value);
  CsvRow& Value(const std::optional<double>& value);
  CsvRow& Integer(std::int64_t value);
  CsvRow& Unsigned(std::uint64_t value);
  CsvRow& Bool(bool value);
  CsvRow& Time(std::int64_t unix_ns);
  CsvRow& Empty();

  // The row with its line end; begins the next one.
  std::string Take();

 private:
  void Add(std::string_view cell);

  const CsvOptions options_;
  std::string row_;
  bool first_ = true;
};

// A header: names of columns, one row.
std::string CsvHeader(const std::vector<std::string>& names,
                      CsvOptions options);

}  // namespace gradtap

#endif  // GRADTAP_CORE_CSV_H_
