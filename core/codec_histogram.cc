// Histograms: read from bytes that nobody has checked, and apart from the step
// that they came with.

#include <algorithm>
#include <limits>
#include <utility>

#include "core/codec.h"
#include "core/codec_check.h"
#include "core/codec_sparse.h"
#include "core/histogram.h"
#include "core/limits.h"
#include "core/wire.h"

namespace gradtap {
namespace {

using codec::FitsUint32;
using codec::Malformed;
using wire::Reader;
using wire::Type;

constexpr std::uint64_t kMaxTotal =
    std::uint64_t{std::numeric_limits<std::int64_t>::max()};

absl::Status CheckBins(const StepView::Counts& bins) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < bins.place.size(); ++i) {
    if (!IsBin(bins.place[i])) {
      return Malformed(
          "Histogram",
          absl::StrCat("bin ", bins.place[i], " does not exist in the layout"));
    }
    if (bins.count[i] > kMaxTotal - total) {
      return Malformed("Histogram", "its counts exceed 63 bits together");
    }
    total += bins.count[i];
  }
  return absl::OkStatus();
}

// Calls `visit` for the histograms of a block until it returns false.
template <typename Visit>
absl::Status VisitBlock(std::string_view body, const Visit& visit) {
  std::size_t count = 0;
  Reader reader(body);
  while (reader.Next()) {
    if (!reader.Is(wire::step::kHistograms, Type::kBytes)) continue;
    if (++count > kHistogramBlockPlaces) {
      return Malformed("histogram block", "has more than 256 histograms");
    }
    absl::StatusOr<HistogramData> one = codec::ReadHistogram(reader.bytes());
    if (!one.ok()) return one.status();
    if (!visit(*std::move(one))) return absl::OkStatus();
  }
  if (!reader.ok()) return Malformed("histogram block", reader.error());
  return absl::OkStatus();
}

// All fields but the histograms, in their order.
std::string WithoutHistograms(std::string_view body) {
  std::string row;
  Reader reader(body);
  std::size_t begin = 0;
  while (reader.Next()) {
    const std::size_t end = body.size() - reader.left();
    if (!reader.Is(wire::step::kHistograms, Type::kBytes)) {
      row.append(body.substr(begin, end - begin));
    }
    begin = end;
  }
  return row;
}

}  // namespace

namespace codec {

absl::StatusOr<HistogramData> ReadHistogram(std::string_view body) {
  namespace field = wire::histogram;
  HistogramData histogram;
  StepView::Counts bins;
  bool seen = false;
  Reader reader(body);
  while (reader.Next()) {
    if (reader.Is(field::kRole, Type::kVarint)) {
      histogram.role = RoleOf(reader.value());
    } else if (reader.Is(field::kPlace, Type::kVarint)) {
      if (!FitsUint32(reader.value())) {
        return Malformed("Histogram", "its place exceeds 32 bits");
      }
      histogram.place = static_cast<std::uint32_t>(reader.value());
    } else if (reader.Is(field::kBins, Type::kBytes)) {
      if (seen) return Malformed("Histogram", "its bins come in pieces");
      seen = true;
      const absl::Status status =
          ReadSparse("bins", reader.bytes(), kBinCount, &bins);
      if (!status.ok()) return status;
    }
  }
  if (!reader.ok()) return Malformed("Histogram", reader.error());
  if (absl::Status status = CheckBins(bins); !status.ok()) return status;
  histogram.bin = std::move(bins.place);
  histogram.count = std::move(bins.count);
  return histogram;
}

absl::Status ReadSparse(std::string_view what, std::string_view body,
                        std::uint64_t size, StepView::Counts* out) {
  namespace field = wire::sparse;
  Reader reader(body);
  while (reader.Next()) {
    if (!IsPackedOrVarint(reader)) continue;
    bool read = true;
    if (reader.number() == field::kIndexDelta) {
      read = AppendNumbers(reader, &out->place, FitsUint32, size);
    } else if (reader.number() == field::kCount) {
      read = AppendNumbers(
          reader, &out->count, [](std::uint64_t v) { return v != 0; }, size);
    }
    if (!read) {
      return Malformed(what,
                       "a distance or count is malformed or zero, or there are "
                       "more than places");
    }
  }
  if (!reader.ok()) return Malformed(what, reader.error());
  if (out->place.size() != out->count.size()) {
    return Malformed(what,
                     absl::StrCat("has ", out->place.size(), " places but ",
                                  out->count.size(), " counts"));
  }
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < out->place.size(); ++i) {
    if (i != 0 && out->place[i] == 0) {
      return Malformed(what, "its places do not ascend");
    }
    at += out->place[i];
    if (at >= size) {
      return Malformed(what, absl::StrCat("names place ", at, " of ", size));
    }
    out->place[i] = static_cast<std::uint32_t>(at);
  }
  return absl::OkStatus();
}

}  // namespace codec

SplitStep SplitHistograms(std::string_view body, const StepView& view) {
  std::vector<StepView::HistogramView> sorted = view.histograms();
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(a.role, a.place) < std::pair(b.role, b.place);
  });
  SplitStep split;
  split.row = WithoutHistograms(body);
  for (const StepView::HistogramView& histogram : sorted) {
    const std::uint32_t block = histogram.place / kHistogramBlockPlaces;
    if (split.blocks.empty() || split.blocks.back().role != histogram.role ||
        split.blocks.back().block != block) {
      split.blocks.push_back({histogram.role, block, {}});
    }
    wire::AppendBytesField(wire::step::kHistograms, histogram.body,
                           &split.blocks.back().body);
  }
  return split;
}

absl::StatusOr<std::vector<HistogramData>> DecodeHistogramBlock(
    std::string_view body) {
  std::vector<HistogramData> all;
  absl::Status status = VisitBlock(body, [&](HistogramData one) {
    all.push_back(std::move(one));
    return true;
  });
  if (!status.ok()) return status;
  return all;
}

absl::StatusOr<std::optional<HistogramData>> FindInHistogramBlock(
    std::string_view body, std::uint32_t place) {
  std::optional<HistogramData> found;
  absl::Status status = VisitBlock(body, [&](HistogramData one) {
    if (one.place == place) found = std::move(one);
    return !found.has_value();
  });
  if (!status.ok()) return status;
  return found;
}

}  // namespace gradtap
