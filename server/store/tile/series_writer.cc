#include "server/store/tile/series_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

#include "server/store/tile/bits.h"
#include "server/store/tile/kernels.h"

namespace gradtap::server::tile {
namespace {

void AppendVarint(std::size_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>((value & 0x7f) | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

// The low `shift` bits of each value, up to a whole byte.
void AppendLow(std::span<const std::uint32_t> values, unsigned shift,
               std::string* out) {
  const std::size_t before = out->size();
  const std::size_t size = (values.size() * shift + 7) / 8;
  out->resize(before + size + sizeof(std::uint64_t));
  char* to = out->data() + before;
  const std::uint32_t mask = (1u << shift) - 1;
  std::uint64_t pending = 0;
  unsigned used = 0;
  for (const std::uint32_t value : values) {
    pending |= std::uint64_t{value & mask} << used;
    used += shift;
    std::memcpy(to, &pending, sizeof pending);
    to += used / 8;
    pending >>= used / 8 * 8;
    used %= 8;
  }
  out->resize(before + size);
}

// One symbol a residual; an escape where `zigzags` has more than fits.
void AppendSymbols(std::span<const std::uint32_t> zigzags, unsigned shift,
                   std::string* out) {
  const std::size_t before = out->size();
  out->resize(before + zigzags.size());
  char* to = out->data() + before;
  for (std::size_t i = 0; i < zigzags.size(); ++i) {
    to[i] = static_cast<char>(
        std::min(zigzags[i] >> shift, std::uint32_t{kEscape}));
  }
}

Mark MarkOf(const FixedPoint& fixed) {
  if (fixed.tail == 0) return kNone;
  if (fixed.head == 0) return kAll;
  const unsigned zeros = static_cast<unsigned>(std::countr_zero(fixed.tail));
  const unsigned needed = fixed.tail_bits - zeros;
  return needed <= 2 ? kTwo : needed <= 4 ? kFour : kAll;
}

void AppendMarkedSymbols(std::span<const std::uint32_t> zigzags, unsigned shift,
                         std::span<const FixedPoint> fixed, std::string* out) {
  const std::size_t before = out->size();
  out->resize(before + zigzags.size());
  char* to = out->data() + before;
  for (std::size_t i = 0; i < zigzags.size(); ++i) {
    const std::uint32_t symbol = zigzags[i] >> shift;
    const Mark mark = MarkOf(fixed[i]);
    to[i] = static_cast<char>(
        symbol > kMaxMarkedSymbol ? kEscape : (symbol << kMarkBits) + mark);
  }
}

}  // namespace

void SeriesWriter::Write(const SeriesView& series, SeriesPlan* plan,
                         SeriesStreams* out) {
  const std::size_t before = out->extra.size();
  if (plan->kind == Kind::kVerbatim) {
    for (const std::uint32_t bits : series.bits.subspan(1)) {
      Append(bits, &out->low);
    }
  } else if (IsCoded(plan->kind)) {
    WriteCoded(series, *plan, out);
  }
  plan->extra = out->extra.size() != before;
  if (plan->extra) AppendVarint(out->extra.size() - before, &out->sizes);
}

void SeriesWriter::WriteCoded(const SeriesView& series, const SeriesPlan& plan,
                              SeriesStreams* out) {
  if (IsFixedPoint(plan.kind)) {
    FillFixed(series, plan);
  } else {
    FillOrdered(series, plan);
  }
  FillZigZags(plan);
  const std::span<const std::uint32_t> zigzags = zigzags_;
  std::string& to = plan.kind == Kind::kGrid ? out->marked : out->symbols;
  const std::size_t before = to.size();
  if (plan.kind == Kind::kGrid) {
    AppendMarkedSymbols(zigzags, plan.shift, std::span(fixed_).subspan(1), &to);
  } else {
    AppendSymbols(zigzags, plan.shift, &to);
  }
  for (std::size_t i = 1; i < formless_.size(); ++i) {
    if (formless_[i] != 0) {
      to[before + i - 1] = static_cast<char>(kEscape);
    }
  }
  AppendLow(zigzags, plan.shift, &out->low);
  WriteExtra(series, plan, to.data() + before, &out->extra);
}

void SeriesWriter::FillOrdered(const SeriesView& series,
                               const SeriesPlan& plan) {
  const std::size_t count = series.bits.size();
  formless_.clear();
  terms_.resize(std::max(terms_.size(), count + kLanePadding));
  if (plan.kind == Kind::kScaled) {
    ScaleTerms(series.scale.data(), plan.aux, count, terms_.data());
  } else if (plan.kind == Kind::kOrdered) {
    std::fill_n(terms_.begin(), count, 0u);
  } else {
    SumTerms(plan, series.increment.data(), count, terms_.data());
  }
  values_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    values_[i] = ToOrdered(series.bits[i]) - terms_[i];
  }
}

void SeriesWriter::FillFixed(const SeriesView& series, const SeriesPlan& plan) {
  const std::size_t count = series.bits.size();
  fixed_.resize(count);
  values_.resize(count);
  formless_.clear();
  for (std::size_t i = 0; i < count; ++i) {
    if (!ToFixedPoint(series.bits[i], plan.aux, &fixed_[i])) {
      formless_.resize(count);
      formless_[i] = 1;
      fixed_[i] = {};
    }
    values_[i] = fixed_[i].head;
  }
}

void SeriesWriter::FillZigZags(const SeriesPlan& plan) {
  const std::size_t count = values_.size() - 1;
  zigzags_.resize(count);
  if (!formless_.empty()) return FillZigZagsOneByOne(plan);
  Predictor predictor(kFilters[plan.filter], values_[0]);
  FilterResiduals(plan.filter, &predictor, values_.data() + 1, count,
                  zigzags_.data());
  std::uint32_t all = 0;
  for (std::uint32_t& zigzag : zigzags_) {
    zigzag = ZigZag(zigzag);
    all |= zigzag;
  }
  // After a far one the predictor goes on in another way.
  if (IsFar(all, plan.shift)) FillZigZagsOneByOne(plan);
}

void SeriesWriter::FillZigZagsOneByOne(const SeriesPlan& plan) {
  Predictor predictor(kFilters[plan.filter], values_[0]);
  for (std::size_t i = 1; i < values_.size(); ++i) {
    if (!formless_.empty() && formless_[i] != 0) {
      zigzags_[i - 1] = 0;
      continue;
    }
    const std::uint32_t residual = values_[i] - predictor.Predict();
    zigzags_[i - 1] = ZigZag(residual);
    predictor.UpdateFar(residual, plan.shift);
  }
}

void SeriesWriter::WriteExtra(const SeriesView& series, const SeriesPlan& plan,
                              const char* symbols, std::string* extra) const {
  const std::size_t count = series.bits.size();
  const bool fixed = IsFixedPoint(plan.kind);
  if (!fixed && std::memchr(symbols, kEscape, count - 1) == nullptr) return;
  BitWriter writer(extra);
  for (std::size_t i = 1; i < count; ++i) {
    const auto symbol = static_cast<std::uint8_t>(symbols[i - 1]);
    if (symbol == kEscape) {
      writer.Put(series.bits[i], 32);
    } else if (fixed) {
      const FixedPoint& value = fixed_[i];
      std::uint32_t follow = value.tail_bits;
      if (plan.kind == Kind::kGrid) {
        follow = std::min(follow, BitsAtMost(symbol % (1u << kMarkBits)));
      }
      if (follow != 0) {
        writer.Put(value.tail >> (value.tail_bits - follow), follow);
      }
    }
  }
  writer.Flush();
}

}  // namespace gradtap::server::tile
