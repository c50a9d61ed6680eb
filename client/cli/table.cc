#include "client/cli/table.h"

#include <algorithm>

#include "client/cli/text.h"

namespace gradtap::client {
namespace {

constexpr std::size_t kBetween = 2;
constexpr std::size_t kShortest = 12;

}  // namespace

std::string Paint(std::string_view text, Tone tone, bool colour) {
  const char* code = nullptr;
  switch (tone) {
    case Tone::kPlain:
      break;
    case Tone::kStrong:
      code = "\x1b[1m";
      break;
    case Tone::kFaint:
      code = "\x1b[2m";
      break;
    case Tone::kGood:
      code = "\x1b[32m";
      break;
    case Tone::kBad:
      code = "\x1b[31m";
      break;
  }
  if (!colour || code == nullptr || text.empty()) return std::string(text);
  return code + std::string(text) + "\x1b[0m";
}

void Table::DropEmptyColumns() {
  for (std::size_t c = columns_.size(); c-- > 1;) {
    const bool empty =
        std::all_of(rows_.begin(), rows_.end(),
                    [c](const auto& row) { return row[c].text.empty(); });
    if (!empty) continue;
    columns_.erase(columns_.begin() + static_cast<std::ptrdiff_t>(c));
    for (auto& row : rows_) {
      row.erase(row.begin() + static_cast<std::ptrdiff_t>(c));
    }
  }
}

std::vector<std::size_t> Table::Widths(const TableStyle& style) {
  widest_.resize(columns_.size());
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    widest_[c] = std::max(widest_[c], DisplayWidth(columns_[c].header));
    for (const auto& row : rows_) {
      widest_[c] = std::max(widest_[c], DisplayWidth(row[c].text));
    }
  }
  std::vector<std::size_t> widths = widest_;
  std::size_t total = kBetween * (columns_.empty() ? 0 : columns_.size() - 1);
  for (const std::size_t width : widths) total += width;
  // The widest gives first.
  while (style.width > 0 && total > style.width) {
    std::size_t widest = columns_.size();
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::size_t least =
          std::max(kShortest, DisplayWidth(columns_[c].header));
      if (!columns_[c].shorten || widths[c] <= least) continue;
      if (widest == columns_.size() || widths[c] > widths[widest]) widest = c;
    }
    if (widest == columns_.size()) break;
    --widths[widest];
    --total;
  }
  return widths;
}

std::string Table::Line(const std::vector<Cell>& cells,
                        const std::vector<std::size_t>& widths,
                        const TableStyle& style) const {
  std::string line;
  std::size_t pending = 0;     // Spaces owed before the next text.
  std::size_t column_end = 0;  // Of the column at hand, if clipping.
  for (std::size_t c = 0; c < cells.size(); ++c) {
    std::string text = ShortenMiddle(cells[c].text, widths[c], style.utf8);
    const std::size_t pad = widths[c] - std::min(widths[c], DisplayWidth(text));
    if (c > 0) pending += kBetween;
    if (columns_[c].align == Align::kRight) pending += pad;
    if (style.clip && style.width > 0) {
      // A number that has lost digits would lie: its column goes as a whole.
      column_end += widths[c] + (c > 0 ? kBetween : 0);
      if (column_end > style.width && c > 0) break;
      text = ClipToWidth(text, style.width);
    }
    if (!text.empty()) {
      line.append(pending, ' ');
      pending = 0;
      line += Paint(text, cells[c].tone, style.colour);
    }
    if (columns_[c].align == Align::kLeft) pending += pad;
  }
  return line + "\n";
}

std::string Table::Render(const TableStyle& style, bool header) {
  const std::vector<std::size_t> widths = Widths(style);
  std::string text;
  if (header) {
    std::vector<Cell> names;
    for (const Column& column : columns_) {
      names.push_back({column.header, Tone::kStrong});
    }
    text = Line(names, widths, style);
  }
  for (const auto& row : rows_) text += Line(row, widths, style);
  return text;
}

}  // namespace gradtap::client
