#include "integration/csv.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <utility>

namespace gradtap::testing {
namespace {

// False: not RFC 4180. A quoted cell may hold anything, "" standing for ".
bool Split(const std::string& text,
           std::vector<std::vector<std::string>>* rows) {
  std::vector<std::string> row;
  std::size_t i = 0;
  while (i < text.size()) {
    std::string cell;
    if (text[i] == '"') {
      for (++i;; ++i) {
        if (i >= text.size()) return false;
        if (text[i] != '"') {
          cell += text[i];
        } else if (i + 1 < text.size() && text[i + 1] == '"') {
          cell += text[++i];
        } else {
          break;
        }
      }
      ++i;
    } else {
      while (i < text.size() && text[i] != ',' && text[i] != '\r' &&
             text[i] != '\n') {
        if (text[i] == '"') return false;
        cell += text[i++];
      }
    }
    row.push_back(std::move(cell));
    if (i < text.size() && text[i] == ',') {
      ++i;
      if (i == text.size() || text[i] == '\r' || text[i] == '\n') {
        row.emplace_back();
      } else {
        continue;
      }
    }
    if (i < text.size() && text[i] == '\r') ++i;
    if (i >= text.size() || text[i] != '\n') return false;
    ++i;
    rows->push_back(std::exchange(row, {}));
  }
  return true;
}

}  // namespace

Csv Csv::Parse(const std::string& text) {
  Csv csv;
  std::vector<std::vector<std::string>> rows;
  if (!Split(text, &rows) || rows.empty()) {
    ADD_FAILURE() << "no CSV: " << text.substr(0, 400);
    return csv;
  }
  for (std::size_t i = 1; i < rows.size(); ++i) {
    if (rows[i].size() != rows[0].size()) {
      ADD_FAILURE() << "row " << i << " has " << rows[i].size()
                    << " cells, the header " << rows[0].size();
      return csv;
    }
  }
  csv.header_ = std::move(rows[0]);
  rows.erase(rows.begin());
  csv.rows_ = std::move(rows);
  return csv;
}

const std::string& Csv::At(std::size_t row, const std::string& column) const {
  static const std::string none;
  for (std::size_t i = 0; i < header_.size(); ++i) {
    if (header_[i] == column && row < rows_.size()) return rows_[row][i];
  }
  ADD_FAILURE() << "no column '" << column << "' or no row " << row;
  return none;
}

std::vector<std::size_t> Csv::Where(const std::string& column,
                                    const std::string& value) const {
  std::vector<std::size_t> found;
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    if (At(row, column) == value) found.push_back(row);
  }
  return found;
}

double Number(const std::string& text) {
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (text == "Infinity") return std::numeric_limits<double>::infinity();
  if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool number =
      !text.empty() && *end == '\0' &&
      text.find_first_not_of("0123456789+-.e") == std::string::npos;
  if (!number) ADD_FAILURE() << "'" << text << "' is not a number";
  return value;
}

}  // namespace gradtap::testing
