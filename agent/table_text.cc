// The parameter table as text.

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "agent/include/gradtap/agent.h"
#include "core/names.h"

namespace gradtap {
namespace {

// "12345678" is "12,345,678".
std::string Grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

// "812 B", "1.2 MiB".
std::string HumanBytes(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string Shape(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t size : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(size);
  }
  return text + "]";
}

// Characters, not bytes.
std::size_t Width(std::string_view text) {
  std::size_t width = 0;
  for (const char c : text) {
    width += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }
  return width;
}

std::string Notes(const ParameterDescription& p) {
  std::string notes;
  const auto add = [&](const std::string& note) {
    if (!notes.empty()) notes += "; ";
    notes += note;
  };
  if (!p.aliases.empty()) {
    std::string names;
    for (const std::string& alias : p.aliases) {
      names += (names.empty() ? "" : ", ") + EscapeForTerminal(alias);
    }
    add("also " + names);
  }
  if (p.layout != "strided" && !p.layout.empty()) add(p.layout);
  if (!p.unsupported_reason.empty()) {
    add("not recorded: " + EscapeForTerminal(p.unsupported_reason));
  }
  return notes;
}

using Row = std::vector<std::string>;

Row RowOf(const ParameterDescription& p) {
  return {EscapeForTerminal(p.name),
          p.buffer ? "buffer" : "parameter",
          Shape(p.shape),
          p.dtype,
          p.device,
          p.requires_grad ? "yes" : "no",
          Grouped(p.numel),
          HumanBytes(p.bytes),
          EscapeForTerminal(p.module_type),
          Notes(p)};
}

// Columns two spaces apart; numbers to the right; no blanks at a line's end.
std::string Aligned(const std::vector<Row>& rows) {
  const auto is_number = [](std::size_t c) { return c == 6 || c == 7; };
  std::vector<std::size_t> widths(rows[0].size(), 0);
  for (const Row& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      widths[c] = std::max(widths[c], Width(row[c]));
    }
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string blanks(widths[c] - Width(row[c]), ' ');
      line += (c == 0 ? "" : "  ");
      line += is_number(c) ? blanks + row[c] : row[c] + blanks;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace

std::string ParameterTable::ToString() const {
  std::vector<Row> rows = {{"NAME", "KIND", "SHAPE", "DTYPE", "DEVICE", "GRAD",
                            "NUMEL", "BYTES", "MODULE", ""}};
  for (const ParameterDescription& p : parameters) rows.push_back(RowOf(p));
  std::string text = Aligned(rows);
  text += Grouped(parameter_count) +
          (parameter_count == 1 ? " parameter" : " parameters") + " of " +
          Grouped(parameter_numel) + " elements (" +
          HumanBytes(parameter_bytes) + "), " + Grouped(trainable_numel) +
          " trainable; " + Grouped(buffer_count) +
          (buffer_count == 1 ? " buffer" : " buffers") + " of " +
          Grouped(buffer_numel) + " elements (" + HumanBytes(buffer_bytes) +
          ")\n";
  return text;
}

std::ostream& operator<<(std::ostream& out, const ParameterTable& table) {
  return out << table.ToString();
}

}  // namespace gradtap
