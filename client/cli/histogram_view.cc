#include "client/cli/histogram_view.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "core/quantile.h"

namespace gradtap::client {
namespace {

constexpr std::uint32_t kExponents = 254;
constexpr std::size_t kNarrowest = 44;
constexpr std::size_t kUsual = 80;
constexpr std::size_t kWidestBar = 60;
constexpr std::size_t kLongestEmptyStretch = 2;

// Bins of one magnitude, both signs.
struct Row {
  std::string power;  // "2^-7"; "subnormal".
  std::string from;   // "0.007812": the least magnitude.
  std::uint64_t negative = 0;
  std::uint64_t positive = 0;

  bool empty() const { return negative == 0 && positive == 0; }
};

std::string Padded(const std::string& text, std::size_t width, Align align) {
  const std::size_t used = DisplayWidth(text);
  const std::string pad(width > used ? width - used : 0, ' ');
  return align == Align::kLeft ? text + pad : pad + text;
}

// From the largest magnitude that occurs to the smallest.
std::vector<Row> RowsOf(const BinCounts& bins) {
  std::vector<Row> rows;
  for (std::uint32_t e = kExponents; e > 0; --e) {
    rows.push_back({absl::StrCat("2^", static_cast<int>(e) - 127),
                    HumanNumber(RangeOf(kBinPositive + e).lower),
                    bins[kBinNegative + e], bins[kBinPositive + e]});
  }
  rows.push_back(
      {"subnormal", "", bins[kBinNegSubnormal], bins[kBinPosSubnormal]});
  while (!rows.empty() && rows.back().empty()) rows.pop_back();
  const auto first = std::find_if(rows.begin(), rows.end(),
                                  [](const Row& row) { return !row.empty(); });
  rows.erase(rows.begin(), first);
  return rows;
}

class Drawing {
 public:
  Drawing(std::vector<Row> rows, const TableStyle& style)
      : rows_(std::move(rows)), style_(style) {
    for (const Row& row : rows_) {
      power_ = std::max(power_, row.power.size());
      from_ = std::max(from_, row.from.size());
      most_ = std::max({most_, row.negative, row.positive});
      count_ = std::max({count_, HumanCount(row.negative).size(),
                         HumanCount(row.positive).size()});
    }
    const std::size_t width =
        std::max(style.width == 0 ? kUsual : style.width, kNarrowest);
    // power, from, count, bar, axis, bar, count: a space between all of them.
    const std::size_t fixed = power_ + from_ + 2 * count_ + 1 + 6;
    bar_ = std::clamp<std::size_t>((width - std::min(width, fixed)) / 2, 4,
                                   kWidestBar);
  }

  std::string Text() const {
    std::string text = Header();
    for (std::size_t i = 0; i < rows_.size();) {
      std::size_t end = i;
      while (end < rows_.size() && rows_[end].empty()) ++end;
      if (end - i > kLongestEmptyStretch) {
        text += Paint(Padded(style_.utf8 ? "⋮" : ":", power_, Align::kRight),
                      Tone::kFaint, style_.colour) +
                "\n";
        i = end;
        continue;
      }
      text += Line(rows_[i++]);
    }
    return text;
  }

 private:
  std::string Header() const {
    const std::string line =
        absl::StrCat(Padded("|x|", power_, Align::kRight), " ",
                     Padded("FROM", from_, Align::kRight), " ",
                     Padded("NEGATIVE", count_ + 1 + bar_, Align::kRight), " ",
                     style_.utf8 ? "│" : "|", " POSITIVE");
    return Paint(line, Tone::kStrong, style_.colour) + "\n";
  }

  // Halves of columns; what is there is never invisible.
  std::size_t Halves(std::uint64_t count) const {
    if (count == 0) return 0;
    const double share =
        static_cast<double>(count) / static_cast<double>(most_);
    const double halves = std::round(2 * static_cast<double>(bar_) * share);
    return std::max<std::size_t>(1, static_cast<std::size_t>(halves));
  }

  std::string Bar(std::uint64_t count, bool to_the_left) const {
    const std::size_t halves = Halves(count);
    std::string bar;
    if (!style_.utf8) return std::string((halves + 1) / 2, '#');
    const bool odd = halves % 2 != 0;
    if (odd && to_the_left) bar += "▐";
    for (std::size_t i = 0; i < halves / 2; ++i) bar += "█";
    if (odd && !to_the_left) bar += "▌";
    return bar;
  }

  std::string Line(const Row& row) const {
    const auto count = [](std::uint64_t n) {
      return n == 0 ? std::string() : HumanCount(n);
    };
    const std::string left = Bar(row.negative, true);
    const std::string right = Bar(row.positive, false);
    std::string labels =
        absl::StrCat(Padded(row.power, power_, Align::kRight), " ",
                     Padded(row.from, from_, Align::kRight));
    std::string line = Paint(labels, Tone::kFaint, style_.colour);
    const std::size_t bar_width = DisplayWidth(left);
    const std::string negative = count(row.negative);
    const std::size_t room = count_ + 1 + bar_;
    const std::size_t used =
        bar_width + (negative.empty() ? 0 : negative.size() + 1);
    absl::StrAppend(&line, " ", std::string(room - std::min(room, used), ' '),
                    negative, negative.empty() ? "" : " ", left, " ",
                    style_.utf8 ? "│" : "|");
    if (row.positive != 0) {
      absl::StrAppend(&line, " ", right, " ", count(row.positive));
    }
    return line + "\n";
  }

  const std::vector<Row> rows_;
  const TableStyle style_;
  std::size_t power_ = 3;
  std::size_t from_ = 4;
  std::size_t count_ = 1;
  std::size_t bar_ = 4;
  std::uint64_t most_ = 0;
};

std::string ShareOf(std::uint64_t count, double all) {
  return HumanShare(static_cast<double>(count) / all);
}

// Zeros always, the others if there are any.
std::string Specials(const BinCounts& bins, const TableStyle& style) {
  double all = 0;
  for (const std::uint64_t count : bins) all += static_cast<double>(count);
  if (all == 0) return "No elements.\n";
  std::string text;
  const std::pair<const char*, std::uint32_t> kinds[] = {
      {"zero", kBinZero},
      {"NaN", kBinNan},
      {"+Infinity", kBinPosInf},
      {"-Infinity", kBinNegInf}};
  for (const auto& [name, bin] : kinds) {
    if (bins[bin] == 0 && bin != kBinZero) continue;
    const std::string line =
        absl::StrCat(Padded(name, 9, Align::kLeft), "  ", HumanCount(bins[bin]),
                     " (", ShareOf(bins[bin], all), ")");
    text +=
        Paint(line, bin == kBinZero ? Tone::kPlain : Tone::kBad, style.colour) +
        "\n";
  }
  return text;
}

std::string Quantiles(const BinCounts& bins, double min, double max) {
  if (FiniteCount(bins) == 0) return "No finite element: no quantiles.\n";
  Table table({{"QUANTILE"},
               {"ABOUT", Align::kRight},
               {"AT LEAST", Align::kRight},
               {"AT MOST", Align::kRight}});
  for (const char* name : {"p0", "p1", "p50", "p99", "p100"}) {
    const Quantile q = QuantileOf(bins, *ParseQuantile(name), min, max);
    table.AddRow({{name},
                  {HumanNumber(q.value)},
                  {HumanNumber(q.lower)},
                  {HumanNumber(q.upper)}});
  }
  return table.Render({});
}

}  // namespace

BinCounts BinsOfAnswer(const v1::ParameterHistogram& histogram) {
  BinCounts bins{};
  const auto n = static_cast<std::size_t>(
      std::min(histogram.bin_size(), histogram.count_size()));
  AddBins(std::span(histogram.bin().data(), n),
          std::span(histogram.count().data(), n), &bins);
  return bins;
}

std::string DrawHistogram(const v1::ParameterHistogram& histogram,
                          const TableStyle& style) {
  const BinCounts bins = BinsOfAnswer(histogram);
  std::vector<Row> rows = RowsOf(bins);
  std::string text;
  if (!rows.empty()) {
    absl::StrAppend(&text, Drawing(std::move(rows), style).Text(), "\n");
  }
  absl::StrAppend(&text, Specials(bins, style), "\n",
                  Quantiles(bins, histogram.min(), histogram.max()));
  return text;
}

}  // namespace gradtap::client
