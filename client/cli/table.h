// An aligned table for people.
//
// Layer: client/cli. This file: std.

#ifndef GRADTAP_CLIENT_CLI_TABLE_H_
#define GRADTAP_CLIENT_CLI_TABLE_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gradtap::client {

// How a table may look. The default suits a file or a pipe: no escape
// sequence, nothing shortened.
struct TableStyle {
  bool colour = false;
  bool utf8 = false;
  // Columns of the terminal; 0: as wide as it gets.
  std::size_t width = 0;
  // Leave out the columns that do not fit `width`, so that each row stays one
  // line. The first is cut.
  bool clip = false;
};

enum class Align { kLeft, kRight };

enum class Tone {
  kPlain,
  kStrong,
  kFaint,  // Absent values, details.
  kGood,
  kBad,  // Non-finite values, losses.
};

struct Cell {
  // One line, no control character: names have passed EscapeForTerminal().
  std::string text;
  Tone tone = Tone::kPlain;
};

struct Column {
  std::string header;
  Align align = Align::kLeft;
  // May be shortened in the middle, down to 12 columns, on a narrow terminal.
  bool shorten = false;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns.
  void AddRow(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  std::size_t rows() const { return rows_.size(); }

  // Removes columns in which every cell is empty, the first one apart. Before
  // the first Render().
  void DropEmptyColumns();

  // Header and rows, two spaces between columns, none at the end of a line;
  // each line ends in "\n".
  std::string Render(const TableStyle& style, bool header = true);

  // For long tables that are rendered in blocks: columns never get narrower.
  void ClearRows() { rows_.clear(); }

 private:
  std::vector<std::size_t> Widths(const TableStyle& style);
  std::string Line(const std::vector<Cell>& cells,
                   const std::vector<std::size_t>& widths,
                   const TableStyle& style) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
  std::vector<std::size_t> widest_;  // So far, of each column.
};

// `text` in the tone's colour, or as it is.
std::string Paint(std::string_view text, Tone tone, bool colour);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_TABLE_H_
