// One tensor through the code of fused reductions, and what must come of it.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_FUSED_MADE_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_FUSED_MADE_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "agent/capture/fused_table.h"
#include "agent/capture/moments_layout.h"
#include "core/kernel_convert.h"
#include "core/record.h"
#include "core/reference.h"

namespace gradtap::agent::fused {

template <typename T>
Type TypeOf() {
  if (std::is_same_v<T, float>) return Type::kFloat32;
  if (std::is_same_v<T, double>) return Type::kFloat64;
  if (std::is_same_v<T, kernel::Half>) return Type::kFloat16;
  if (std::is_same_v<T, kernel::Bfloat16>) return Type::kBfloat16;
  if (std::is_same_v<T, std::int8_t>) return Type::kInt8;
  if (std::is_same_v<T, std::int16_t>) return Type::kInt16;
  if (std::is_same_v<T, std::int32_t>) return Type::kInt32;
  if (std::is_same_v<T, std::int64_t>) return Type::kInt64;
  if (std::is_same_v<T, std::uint8_t>) return Type::kUint8;
  return Type::kBool;
}

// The same by the definition of a column.
inline Moments MomentsOf(const double* column, std::uint64_t numel) {
  Moments m;
  m.finite = static_cast<std::uint64_t>(column[kFinite]);
  m.nan = static_cast<std::uint64_t>(column[kNan]);
  m.pos_inf = static_cast<std::uint64_t>(column[kPosInf]);
  m.neg_inf = numel - m.finite - m.nan - m.pos_inf;
  m.zero = numel - static_cast<std::uint64_t>(column[kNonZero]);
  if (m.finite == 0) return m;
  m.mean = column[kMean];
  m.m2 = column[kDeviation] * column[kDeviation];
  m.abs_mean = column[kAbsMean];
  m.min = column[kMinimum];
  m.max = column[kMaximum];
  return m;
}

inline std::int64_t KeyOfExact(long double x) {
  if (std::isnan(x)) return kKeyNan;
  if (x == 0) return kKeyZero;
  if (std::isinf(x)) return x > 0 ? kKeyPosInf : kKeyNegInf;
  const int biased = std::ilogb(static_cast<double>(x)) + 127;
  return std::clamp(biased, 0, 254) + (x < 0 ? kKeyNegative : 0);
}

inline std::vector<double> BinsOf(const std::vector<long double>& elements) {
  std::vector<double> bins(kBinsWidth);
  for (const long double x : elements) {
    ++bins[static_cast<std::size_t>(KeyOfExact(x))];
  }
  return bins;
}

// Elements somewhere in memory: `off` elements behind where 16 bytes begin.
template <typename T>
struct Elements {
  explicit Elements(const std::vector<T>& from, std::size_t off = 0)
      : memory(from.size() + off + 16), numel(from.size()) {
    void* begin = memory.data();
    std::size_t space = memory.size() * sizeof(T);
    std::align(16, sizeof(T), begin, space);
    data = static_cast<T*>(begin) + off;
    std::copy(from.begin(), from.end(), data);
  }

  std::vector<T> memory;
  std::size_t numel;
  T* data = nullptr;
};

// One tensor and what comes of it.
class OneTensor {
 public:
  template <typename T>
  explicit OneTensor(const Elements<T>& x) {
    task_.x = x.data;
    task_.numel = x.numel;
    task_.type = TypeOf<T>();
    task_.element_size = sizeof(T);
  }

  OneTensor& Times(double multiplier) {
    task_.multiplier = multiplier;
    return *this;
  }
  template <typename T>
  OneTensor& FillCopy(Elements<T>* copy) {
    task_.copy = copy->data;
    return *this;
  }
  template <typename T>
  OneTensor& CompareWith(Elements<T>* copy) {
    compare_ = true;
    return FillCopy(copy);
  }
  OneTensor& Count() {
    count_ = true;
    return *this;
  }

  OneTensor& Go() {
    const auto chunks = static_cast<std::int64_t>(ChunksOf(task_.numel));
    task_.partial = 0;
    if (compare_) task_.update = chunks;
    if (count_) task_.counts = 0;
    if (count_ && compare_) task_.update_counts = 1;
    std::vector<Result> results;
    for (std::size_t i = 0; i < (compare_ ? 2u : 1u); ++i) {
      Result& result = results.emplace_back();
      result.partial = static_cast<std::int64_t>(i) * chunks;
      result.chunks = chunks;
      result.numel = task_.numel;
      result.multiplier = task_.multiplier;
      result.moments = moments_[i];
      bins_[i].assign(kBinsWidth, -1);
      result.bins = count_ ? bins_[i].data() : nullptr;
      result.counts = count_ ? static_cast<std::int64_t>(i) : -1;
    }
    std::vector<Chunk> list;
    for (std::int64_t i = 0; i < chunks; ++i) {
      list.push_back({0, static_cast<std::uint32_t>(i)});
    }
    std::vector<Partial> partials(static_cast<std::size_t>(2 * chunks));
    std::vector<unsigned long long> counts(2 * kBinsWidth, 7);  // Not cleared.
    Launch launch;
    launch.tasks = &task_;
    launch.chunks = list.data();
    launch.chunk_count = chunks;
    launch.results = results.data();
    launch.result_count = static_cast<std::int64_t>(results.size());
    launch.partials = partials.data();
    launch.counts = counts.data();
    launch.count_rows = count_ ? 2 : 0;
    RunOnCpu(launch);
    return *this;
  }

  Moments weight() const { return MomentsOf(moments_[0], task_.numel); }
  Moments update() const { return MomentsOf(moments_[1], task_.numel); }
  const std::vector<double>& bins() const { return bins_[0]; }
  const std::vector<double>& update_bins() const { return bins_[1]; }

 private:
  Task task_;
  bool compare_ = false;
  bool count_ = false;
  double moments_[2][kMomentsWidth] = {};
  std::vector<double> bins_[2];
};

template <typename T>
std::vector<long double> ExactOf(const std::vector<T>& x) {
  std::vector<long double> all;
  for (const T& element : x) all.push_back(testing::Exact(element));
  return all;
}

inline std::string OutOfBoundsOf(const Moments& got,
                                 const std::vector<long double>& exact) {
  return testing::OutOfBounds(ToRecord(got), testing::ReferenceOf(exact));
}

}  // namespace gradtap::agent::fused

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_FUSED_MADE_H_
