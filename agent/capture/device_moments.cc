#include "agent/capture/device_moments.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/hypot.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/where.h>

#include <cmath>
#include <limits>
#include <tuple>

namespace gradtap::agent {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kMax = std::numeric_limits<double>::max();

// Sums of doubles are taken of 2^-32 times them: a slice has fewer elements.
constexpr double kScale = 0x1p32;

at::IntArrayRef RowDim() {
  static constexpr std::int64_t kDim[] = {1};
  return at::IntArrayRef(kDim, 1);
}

// The mean over the finite elements; NaN if there is none.
void MeanOf(const at::Tensor& masked, const at::Tensor& finite, bool wide,
            at::Tensor mean) {
  if (!wide) {
    at::sum_out(mean, masked, RowDim());
    mean.div_(finite);
    return;
  }
  at::sum_out(mean, at::mul(masked, 1 / kScale), RowDim());
  mean.div_(finite).mul_(kScale).clamp_(-kMax, kMax);
}

void CountIf(const at::Tensor& mask, at::Tensor out) {
  at::sum_out(out, mask, RowDim());
}

std::uint32_t BinOfKey(std::int64_t key) {
  switch (key) {
    case 0:
      return kBinPosSubnormal;
    case kKeyNegative:
      return kBinNegSubnormal;
    case kKeyZero:
      return kBinZero;
    case kKeyNan:
      return kBinNan;
    case kKeyPosInf:
      return kBinPosInf;
    case kKeyNegInf:
      return kBinNegInf;
    default:
      break;
  }
  return static_cast<std::uint32_t>(key < kKeyNegative
                                        ? kBinPositive + key
                                        : kBinNegative + key - kKeyNegative);
}

// GCC with sanitizers takes the empty options of older versions for unset.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
at::Tensor BeginOfKeys(const at::Tensor& sorted, const at::Tensor& keys) {
  return at::searchsorted(sorted, keys);
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

bool IsComplex(const at::Tensor& x) {
  return c10::isComplexType(x.scalar_type());
}

// Of which ATen can do little but copy.
bool IsFloat8(const at::Tensor& x) {
  return c10::isFloatingType(x.scalar_type()) && x.element_size() == 1;
}

// Real numbers: complex ones get a last dimension of two parts.
at::Tensor PartsOf(const at::Tensor& x) {
  return IsComplex(x) ? at::view_as_real(x.resolve_conj()) : x;
}

}  // namespace

Moments MomentsOf(const double* column, std::int64_t stride, std::int64_t n) {
  const auto at = [&](Column c) { return column[c * stride]; };
  const auto count = [&](Column c) {
    return static_cast<std::uint64_t>(at(c));
  };
  const auto numel = static_cast<std::uint64_t>(n);
  Moments m;
  m.finite = count(kFinite);
  m.nan = count(kNan);
  m.pos_inf = count(kPosInf);
  m.neg_inf = numel - m.finite - m.nan - m.pos_inf;
  m.zero = numel - count(kNonZero);
  if (m.finite == 0) return m;
  m.mean = at(kMean);
  m.m2 = std::min(at(kDeviation) * at(kDeviation), kMax);
  m.abs_mean = at(kAbsMean);
  m.min = at(kMinimum);
  m.max = at(kMaximum);
  return m;
}

void AddBinsOf(const double* row, BinCounts* bins) {
  for (std::int64_t key = 0; key < kBinsWidth; ++key) {
    if (row[key] == 0) continue;
    (*bins)[BinOfKey(key)] += static_cast<std::uint64_t>(row[key]);
  }
}

DeviceElements::DeviceElements(const at::Tensor& x, std::int64_t rows,
                               double multiplier)
    : rows_(rows),
      multiplier_(multiplier),
      complex_(IsComplex(x)),
      may_be_nonfinite_(complex_ || c10::isFloatingType(x.scalar_type())),
      wide_(x.scalar_type() == at::kDouble ||
            x.scalar_type() == at::kComplexDouble ||
            std::abs(multiplier) > 1e200) {
  const at::Tensor parts = PartsOf(x);
  parts_ = at::empty(parts.sizes(), parts.options().dtype(at::kDouble),
                     at::MemoryFormat::Contiguous);
  parts_.copy_(parts);
  if (!complex_ && multiplier != 1) parts_.mul_(multiplier);
}

void DeviceElements::Subtract(const at::Tensor& x, const at::Tensor& previous) {
  switch (x.scalar_type()) {
    case at::kLong: {
      // In halves, which are exact in double; so their sum is rounded once.
      const auto high = [](const at::Tensor& t) {
        return at::bitwise_right_shift(t, 32);
      };
      const auto low = [](const at::Tensor& t) {
        return at::bitwise_and(t, std::int64_t{0xffffffff});
      };
      parts_.copy_(at::sub(high(x), high(previous)));
      parts_.mul_(0x1p32).add_(at::sub(low(x), low(previous)));
      return;
    }
    case at::kBool:
      parts_.sub_(previous.to(at::kDouble));
      return;
    default:
      parts_.sub_(IsFloat8(x) ? previous.to(at::kDouble) : PartsOf(previous));
  }
}

at::Tensor DeviceElements::Rows() const {
  if (!complex_) return parts_.view({rows_, -1});
  const at::Tensor re = parts_.select(-1, 0);
  const at::Tensor im = parts_.select(-1, 1);
  // Of finite parts it saturates; else it is what their sum is: NaN if one is.
  const at::Tensor sum = at::abs(re).mul_(0.25).add_(at::abs(im).mul_(0.25));
  at::Tensor length = at::hypot(re, im).clamp_max_(kMax);
  length = at::where(at::lt(sum, kInf), length, sum);
  if (multiplier_ != 1) length.mul_(multiplier_);
  return length.view({rows_, -1});
}

void ReduceRows(const DeviceElements& elements, const at::Tensor& rows,
                const at::Tensor& zero, const at::Tensor& out) {
  const at::Tensor finite_count = out.select(0, kFinite);
  const at::Tensor mean = out.select(0, kMean);
  const at::Tensor abs_mean = out.select(0, kAbsMean);
  at::Tensor minimum = out.select(0, kMinimum);
  at::Tensor maximum = out.select(0, kMaximum);
  at::Tensor deviation = out.select(0, kDeviation);
  at::Tensor non_zero = out.select(0, kNonZero);
  const bool wide = elements.wide();
  at::Tensor filled = rows;  // Finite ones, and the mean for the others.
  if (elements.may_be_nonfinite()) {
    at::Tensor size = at::abs(rows);
    const at::Tensor finite = at::lt(size, kInf);  // Not NaN either.
    CountIf(finite, finite_count);
    MeanOf(at::where(finite, size, zero), finite_count, wide, abs_mean);
    size.reset();
    MeanOf(at::where(finite, rows, zero), finite_count, wide, mean);
    filled = at::where(finite, rows, mean.unsqueeze(1));
    CountIf(at::ne(rows, rows), out.select(0, kNan));
    CountIf(at::eq(rows, kInf), out.select(0, kPosInf));
  } else {
    finite_count.fill_(static_cast<double>(rows.size(1)));
    MeanOf(at::abs(rows), finite_count, wide, abs_mean);
    MeanOf(rows, finite_count, wide, mean);
    out.narrow(0, kNan, 2).zero_();
  }
  at::aminmax_out(minimum, maximum, filled, 1);
  const at::Tensor off = at::sub(filled, mean.unsqueeze(1));
  filled.reset();
  at::linalg_vector_norm_out(deviation, off, 2, RowDim());
  CountIf(at::ne(rows, 0), non_zero);
}

void CountBins(const at::Tensor& rows, const at::Tensor& out) {
  const at::Tensor bits = rows.view(at::kLong);
  // Double's biased exponent is 896 more than float32's.
  at::Tensor key = at::bitwise_right_shift(bits, 52).bitwise_and_(0x7ff);
  key = key.sub_(896).clamp_(0, 254).to(at::kInt);
  key.add_(at::lt(bits, 0), kKeyNegative);
  key.masked_fill_(at::eq(rows, 0), kKeyZero);
  key.masked_fill_(at::ne(rows, rows), kKeyNan);
  key.masked_fill_(at::eq(rows, kInf), kKeyPosInf);
  key.masked_fill_(at::eq(rows, -kInf), kKeyNegInf);
  // Sorted, a key's count is the distance to where the next one would begin:
  // without the atomic additions of a scatter, and so without their order.
  const at::Tensor sorted = std::get<0>(at::sort(key, 1));
  const at::Tensor keys = at::arange(0, kBinsWidth + 1, key.options())
                              .expand({key.size(0), kBinsWidth + 1})
                              .contiguous();
  const at::Tensor begin = BeginOfKeys(sorted, keys);
  out.copy_(
      at::sub(begin.narrow(1, 1, kBinsWidth), begin.narrow(1, 0, kBinsWidth)));
}

}  // namespace gradtap::agent
