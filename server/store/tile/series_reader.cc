#include "server/store/tile/series_reader.h"

#include <algorithm>
#include <cstring>

#include "server/store/tile/kernels.h"

namespace gradtap::server::tile {
namespace {

// Of the first value, what the filter starts from.
std::uint32_t StartOf(const SeriesPlan& plan, std::uint32_t term) {
  if (!IsFixedPoint(plan.kind)) return ToOrdered(plan.start) - term;
  FixedPoint fixed;
  return ToFixedPoint(plan.start, plan.aux, &fixed) ? fixed.head : 0;
}

}  // namespace

void SeriesReader::Reserve(std::size_t count) {
  if (bits_.size() >= count + kLanePadding) return;
  for (auto* row : {&bits_, &residuals_, &terms_, &tails_, &up_}) {
    row->resize(count + kLanePadding);
  }
}

void SeriesReader::FillTerms(const SeriesSource& source, std::size_t count) {
  switch (source.plan.kind) {
    case Kind::kScaled:
      ScaleTerms(source.reference, source.plan.aux, count, terms_.data());
      break;
    case Kind::kAdded:
    case Kind::kSubtracted:
      SumTerms(source.plan, source.reference, count, terms_.data());
      break;
    default:
      break;
  }
}

std::uint32_t SeriesReader::TermAt(const SeriesPlan& plan,
                                   std::size_t at) const {
  return NeedOf(plan.kind) == 0 ? 0 : terms_[at];
}

const std::uint32_t* SeriesReader::Read(const SeriesSource& source,
                                        std::size_t count) {
  Reserve(count);
  bits_[0] = source.plan.start;
  switch (source.plan.kind) {
    case Kind::kConstant:
      std::fill_n(bits_.begin(), count, source.plan.start);
      break;
    case Kind::kVerbatim:
      if (source.low.size() < 4 * (count - 1)) return nullptr;
      std::memcpy(bits_.data() + 1, source.low.data(), 4 * (count - 1));
      break;
    case Kind::kTwin:
      for (std::size_t i = 0; i < count; ++i) {
        bits_[i] = source.reference[i] & 0x7fffffffu;
      }
      break;
    default:
      if (!ReadCoded(source, count)) return nullptr;
  }
  return bits_.data();
}

bool SeriesReader::ReadCoded(const SeriesSource& source, std::size_t count) {
  const SeriesPlan& plan = source.plan;
  if (source.low.size() < ((count - 1) * plan.shift + 7) / 8) return false;
  JoinResiduals(source.symbols, plan.kind == Kind::kGrid, source.low.data(),
                plan.shift, count - 1, residuals_.data() + 1);
  FillTerms(source, count);
  Predictor predictor(kFilters[plan.filter], StartOf(plan, TermAt(plan, 0)));
  BitReader extra(source.extra);
  const std::uint8_t* symbols = source.symbols;
  for (std::size_t from = 1; from < count;) {
    const void* found = std::memchr(symbols + from - 1, kEscape, count - from);
    const std::size_t to =
        found == nullptr
            ? count
            : static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) -
                                       symbols + 1);
    if (!ReadRun(source, from, to, &predictor, &extra)) return false;
    if (to < count && !ReadEscape(source, to, &predictor, &extra)) return false;
    from = to + 1;
  }
  return true;
}

bool SeriesReader::ReadRun(const SeriesSource& source, std::size_t from,
                           std::size_t to, Predictor* predictor,
                           BitReader* extra) {
  const SeriesPlan& plan = source.plan;
  const std::size_t count = to - from;
  RunFilter(plan.filter, predictor, count, residuals_.data() + from);
  if (!IsFixedPoint(plan.kind)) {
    OrderedToBits(residuals_.data() + from,
                  plan.kind == Kind::kOrdered ? nullptr : terms_.data() + from,
                  count, bits_.data() + from);
    return true;
  }
  const std::size_t tail_bits = FixedPointToBits(
      residuals_.data() + from, plan.aux, plan.kind == Kind::kGrid,
      source.symbols + from - 1, count, bits_.data() + from,
      tails_.data() + from, up_.data() + from);
  if (!extra->Has(tail_bits)) return false;
  AddTails(extra->data(), extra->position(), tails_.data() + from,
           up_.data() + from, count, bits_.data() + from);
  extra->Skip(tail_bits);
  return true;
}

bool SeriesReader::ReadEscape(const SeriesSource& source, std::size_t at,
                              Predictor* predictor, BitReader* extra) {
  if (!extra->Has(32)) return false;
  const SeriesPlan& plan = source.plan;
  bits_[at] = extra->Get(32);
  std::uint32_t value = 0;
  if (IsFixedPoint(plan.kind)) {
    FixedPoint fixed;
    if (!ToFixedPoint(bits_[at], plan.aux, &fixed)) return true;
    value = fixed.head;
  } else {
    value = ToOrdered(bits_[at]) - TermAt(plan, at);
  }
  predictor->UpdateFar(value - predictor->Predict(), plan.shift);
  return true;
}

}  // namespace gradtap::server::tile
