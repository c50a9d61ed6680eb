// RFC 4180, as `--output csv` prints it.

#ifndef GRADTAP_TESTS_INTEGRATION_CSV_H_
#define GRADTAP_TESTS_INTEGRATION_CSV_H_

#include <cstddef>
#include <string>
#include <vector>

namespace gradtap::testing {

class Csv {
 public:
  // A text that is no CSV, or has a row of another length than the header,
  // fails the test and gives an empty table.
  static Csv Parse(const std::string& text);

  std::size_t rows() const { return rows_.size(); }
  const std::vector<std::string>& header() const { return header_; }
  // A column that is not there fails the test and reads "".
  const std::string& At(std::size_t row, const std::string& column) const;
  // Rows in which `column` is `value`.
  std::vector<std::size_t> Where(const std::string& column,
                                 const std::string& value) const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

// "NaN", "Infinity", "-Infinity" or a number, all of it; anything else fails
// the test.
double Number(const std::string& text);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_CSV_H_
