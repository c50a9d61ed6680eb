#include "bench/peers/figures.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <optional>
#include <sstream>

namespace gradtap::bench {
namespace {

// One line of the table: a number a peer, or none.
struct Row {
  std::string what;
  std::string unit;
  bool more_is_better = false;
  bool compared = true;
  std::vector<std::optional<double>> values;
  // What gradtap's may be.
  std::optional<double> at_most = std::nullopt;
};

std::string Short(double value) {
  char text[32];
  const int digits = value == 0 || !std::isfinite(value)
                         ? 2
                         : std::max(0, 2 - static_cast<int>(std::floor(
                                               std::log10(std::abs(value)))));
  std::snprintf(text, sizeof text, "%.*f", std::min(digits, 4), value);
  return text;
}

std::optional<double> OfLoads(
    const PeerFigures& peer, const std::string& data,
    const std::function<double(const LoadFigures&)>& of) {
  const auto found = peer.loads.find(data);
  if (found == peer.loads.end() || found->second.empty()) return std::nullopt;
  std::vector<double> values;
  for (const LoadFigures& load : found->second) values.push_back(of(load));
  return Median(values);
}

// Of the wall times of several rounds.
std::optional<double> SpreadOf(const PeerFigures& peer,
                               const std::string& data) {
  const auto found = peer.loads.find(data);
  if (found == peer.loads.end() || found->second.size() < 2) {
    return std::nullopt;
  }
  const auto [least, most] =
      std::minmax_element(found->second.begin(), found->second.end(),
                          [](const LoadFigures& a, const LoadFigures& b) {
                            return a.wall_seconds < b.wall_seconds;
                          });
  return most->wall_seconds / least->wall_seconds;
}

// Over the disk of the smallest peer that is bit-exact; none: there is no such
// peer.
std::optional<Row> DiskShares(const Figures& figures, const Shape& shape) {
  Row row{shape.name + ": disk, over the smallest bit-exact peer's",
          "",
          false,
          false,
          {},
          kMostDiskShare};
  double smallest = INFINITY;
  for (const PeerFigures& peer : figures.peers) {
    const std::optional<double> disk = OfLoads(
        peer, shape.name, [](const LoadFigures& l) { return l.disk_bytes; });
    const bool exact = peer.checks.values > 0 && peer.checks.inexact == 0;
    if (&peer != figures.peers.data() && disk && exact && !peer.has_our_tiles) {
      smallest = std::min(smallest, *disk);
    }
    row.values.push_back(disk);
  }
  if (!std::isfinite(smallest) || !row.values[0]) return std::nullopt;
  for (std::optional<double>& value : row.values) {
    if (value) *value /= smallest;
  }
  return row;
}

std::vector<Row> LoadRows(const Figures& figures, const Shape& shape) {
  const double n = static_cast<double>(shape.values());
  const double series = static_cast<double>(shape.parameters * kFloats);
  struct Line {
    std::string what, unit;
    bool more;
    std::function<double(const LoadFigures&)> of;
  };
  const std::vector<Line> lines = {
      {"ingest, acknowledged", "M values/s", true,
       [n](const LoadFigures& l) { return n / l.wall_seconds / 1e6; }},
      {"  a CPU-second of the server", "M values", true,
       [n](const LoadFigures& l) { return n / l.cpu_seconds / 1e6; }},
      {"  the same, until it has settled", "M values", true,
       [n](const LoadFigures& l) { return n / l.settled_cpu_seconds / 1e6; }},
      {"  a CPU-second of the client (others' sends only)", "M values", true,
       [n](const LoadFigures& l) { return n / l.client_cpu_seconds / 1e6; }},
      {"disk, settled", "bytes/value", false,
       [n](const LoadFigures& l) { return l.disk_bytes / n; }},
      {"memory over idle, loaded", "bytes/series", false,
       [series](const LoadFigures& l) {
         return (l.loaded_pss - l.idle_pss) / series;
       }},
      {"memory (PSS), idle", "MiB", false,
       [](const LoadFigures& l) { return l.idle_pss / 1048576; }},
      {"memory (PSS), loaded", "MiB", false,
       [](const LoadFigures& l) { return l.loaded_pss / 1048576; }},
      {"memory (PSS), settled", "MiB", false,
       [](const LoadFigures& l) { return l.settled_pss / 1048576; }},
  };
  std::vector<Row> rows;
  for (const Line& line : lines) {
    if (shape.disk_only && line.unit != "bytes/value") continue;
    // Of few long series the figure says nothing.
    if (line.unit == "bytes/series" && shape.parameters <= kDeepParameters) {
      continue;
    }
    Row row{shape.name + ": " + line.what, line.unit, line.more, true, {}};
    for (const PeerFigures& peer : figures.peers) {
      row.values.push_back(OfLoads(peer, shape.name, line.of));
    }
    rows.push_back(std::move(row));
    if (line.unit != "bytes/value") continue;
    std::optional<Row> shares = DiskShares(figures, shape);
    if (shares) rows.push_back(*std::move(shares));
  }
  Row spread{
      shape.name + ": its rounds' longest over shortest", "", false, false, {}};
  for (const PeerFigures& peer : figures.peers) {
    spread.values.push_back(SpreadOf(peer, shape.name));
  }
  if (!shape.disk_only && spread.values.at(0))
    rows.insert(rows.begin() + 1, std::move(spread));
  return rows;
}

std::vector<Row> QueryRows(const Figures& figures) {
  std::vector<Row> rows;
  const auto add = [&](const std::string& what, double share, auto times_of) {
    Row row{what, "ms", false, true, {}};
    for (const PeerFigures& peer : figures.peers) {
      const std::vector<double>* const times = times_of(peer);
      row.values.push_back(times == nullptr
                               ? std::nullopt
                               : std::optional(Quantile(*times, share)));
    }
    rows.push_back(std::move(row));
  };
  for (const std::string& question : figures.questions) {
    const auto in = [&question](const auto& map) {
      const auto found = map.find(question);
      return found == map.end() || found->second.empty() ? nullptr
                                                         : &found->second;
    };
    add(question + ", median", 0.5,
        [&](const PeerFigures& p) { return in(p.warm); });
    add(question + ", p99", 0.99,
        [&](const PeerFigures& p) { return in(p.warm); });
    if (in(figures.peers[0].cold) != nullptr) {
      add(question + ", cold, median", 0.5,
          [&](const PeerFigures& p) { return in(p.cold); });
    }
  }
  return rows;
}

// "1.35 (7.4x)": gradtap is so many times better; below 1 it loses.
std::string CellOf(const Row& row, std::size_t peer) {
  const std::optional<double> value = row.values[peer];
  if (!value) return "-";
  std::string cell = Short(*value);
  if (peer == 0 && row.at_most) {
    return cell + (*value <= *row.at_most ? " (within " : " (MISSES ") +
           Short(*row.at_most) + ")";
  }
  const std::optional<double> ours = row.values[0];
  if (peer == 0 || !row.compared || !ours || *value <= 0 || *ours <= 0)
    return cell;
  const double ratio = row.more_is_better ? *ours / *value : *value / *ours;
  return cell + " (" + Short(ratio) + (ratio < 1 ? "x LOSS)" : "x)");
}

std::string Line(const std::vector<std::string>& cells) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::size_t width = i == 0 ? 58 : i == 1 ? 12 : 22;
    line += cells[i];
    if (i + 1 < cells.size()) {
      line.append(cells[i].size() < width ? width - cells[i].size() : 1, ' ');
    }
  }
  return line + "\n";
}

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) >= 32) {
      out += c;
    }
  }
  return out + "\"";
}

std::string Numbers(const std::vector<double>& values) {
  std::ostringstream out;
  out.precision(6);
  out << "[";
  for (std::size_t i = 0; i < values.size(); ++i) {
    out << (i > 0 ? "," : "") << values[i];
  }
  out << "]";
  return out.str();
}

std::string TimesJson(const std::map<std::string, std::vector<double>>& times) {
  std::string out = "{";
  for (const auto& [question, values] : times) {
    if (out.size() > 1) out += ",";
    out += Quoted(question) + ":" + Numbers(values);
  }
  return out + "}";
}

std::string LoadsJson(const PeerFigures& peer) {
  std::ostringstream out;
  out.precision(9);
  out << "{";
  bool first = true;
  for (const auto& [name, loads] : peer.loads) {
    out << (first ? "" : ",") << Quoted(name) << ":[";
    first = false;
    for (std::size_t i = 0; i < loads.size(); ++i) {
      const LoadFigures& l = loads[i];
      out << (i > 0 ? "," : "") << "{\"wall_seconds\":" << l.wall_seconds
          << ",\"cpu_seconds\":" << l.cpu_seconds
          << ",\"settled_cpu_seconds\":" << l.settled_cpu_seconds
          << ",\"client_cpu_seconds\":" << l.client_cpu_seconds
          << ",\"disk_bytes\":" << l.disk_bytes
          << ",\"idle_pss_bytes\":" << l.idle_pss
          << ",\"loaded_pss_bytes\":" << l.loaded_pss
          << ",\"settled_pss_bytes\":" << l.settled_pss << "}";
    }
    out << "]";
  }
  out << "}";
  return out.str();
}

}  // namespace

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  if (n == 0) return 0;
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double Quantile(std::vector<double> values, double share) {
  if (share == 0.5) return Median(std::move(values));
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<std::size_t>(
      std::ceil(share * static_cast<double>(values.size())));
  return values[std::max<std::size_t>(rank, 1) - 1];
}

std::string TableOf(const Figures& figures) {
  std::ostringstream out;
  out << "\nmachine: " << figures.machine << "\ndata: " << figures.data
      << ", seed " << figures.seed << "\n";
  for (const Shape& shape : figures.shapes) {
    out << "  " << shape.name << ": " << shape.parameters
        << " parameters x 3 roles x 5 floats x " << shape.steps
        << " steps = " << Short(static_cast<double>(shape.values()) / 1e6)
        << " M values in " << shape.parameters * kFloats << " series\n";
  }
  for (const PeerFigures& peer : figures.peers) {
    out << peer.name << ": " << peer.settings << "\n  " << peer.checks.values
        << " values of its answers compared, " << peer.checks.inexact
        << " not the same float32";
    if (peer.checks.asked_again > 0) {
      out << "; " << peer.checks.asked_again << " answers were wrong, "
          << peer.checks.wrong_answers << " of them 2 s later, too";
    }
    if (peer.checks.inexact > 0) {
      out << " (off by " << peer.checks.largest_error << " at most)";
    }
    out << "\n";
  }
  for (const std::string& why : figures.skipped) {
    out << "skipped: " << why << "\n";
  }
  out << "In brackets: how many times better gradtap is; LOSS: it is "
         "worse.\n\n";
  std::vector<std::string> head = {"", ""};
  for (const PeerFigures& peer : figures.peers) head.push_back(peer.name);
  out << Line(head);
  std::vector<Row> rows;
  for (const Shape& shape : figures.shapes) {
    for (Row& row : LoadRows(figures, shape)) rows.push_back(std::move(row));
  }
  for (Row& row : QueryRows(figures)) rows.push_back(std::move(row));
  for (const Row& row : rows) {
    std::vector<std::string> cells = {row.what, row.unit};
    for (std::size_t i = 0; i < row.values.size(); ++i) {
      cells.push_back(CellOf(row, i));
    }
    out << Line(cells);
  }
  return out.str();
}

std::string JsonOf(const Figures& figures) {
  std::string out = "{\"machine\":" + Quoted(figures.machine) +
                    ",\"data\":" + Quoted(figures.data) +
                    ",\"seed\":" + std::to_string(figures.seed) +
                    ",\"data_sets\":{";
  for (std::size_t i = 0; i < figures.shapes.size(); ++i) {
    const Shape& shape = figures.shapes[i];
    out += (i > 0 ? "," : "") + Quoted(shape.name) +
           ":{\"parameters\":" + std::to_string(shape.parameters) +
           ",\"steps\":" + std::to_string(shape.steps) +
           ",\"values\":" + std::to_string(shape.values()) + "}";
  }
  out += "},\"skipped\":[";
  for (std::size_t i = 0; i < figures.skipped.size(); ++i) {
    out += (i > 0 ? "," : "") + Quoted(figures.skipped[i]);
  }
  out += "],\"peers\":[\n";
  for (std::size_t i = 0; i < figures.peers.size(); ++i) {
    const PeerFigures& peer = figures.peers[i];
    out += std::string(i > 0 ? ",\n" : "") + "{\"name\":" + Quoted(peer.name) +
           ",\"settings\":" + Quoted(peer.settings) +
           ",\"compared_values\":" + std::to_string(peer.checks.values) +
           ",\"inexact_values\":" + std::to_string(peer.checks.inexact) +
           ",\"has_our_tiles\":" + (peer.has_our_tiles ? "true" : "false") +
           ",\"loads\":" + LoadsJson(peer) +
           ",\"warm_ms\":" + TimesJson(peer.warm) +
           ",\"cold_ms\":" + TimesJson(peer.cold) + "}";
  }
  return out + "\n]}\n";
}

}  // namespace gradtap::bench
