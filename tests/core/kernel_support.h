// What the tests of the kernels share.

#ifndef GRADTAP_TESTS_CORE_KERNEL_SUPPORT_H_
#define GRADTAP_TESTS_CORE_KERNEL_SUPPORT_H_

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <complex>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "core/kernel.h"
#include "core/reference.h"
#include "core/tensors.h"

namespace gradtap::testing {

using Dtypes =
    ::testing::Types<float, double, kernel::Half, kernel::Bfloat16, std::int8_t,
                     std::int16_t, std::int32_t, std::int64_t, std::uint8_t,
                     kernel::Bool, std::complex<float>, std::complex<double>,
                     kernel::Float8E4m3fn, kernel::Float8E5m2>;

// `size` is that of `data`; it outlives the view.
template <typename T>
TensorView Flat(const std::vector<T>& data, const std::int64_t* size) {
  static constexpr std::int64_t kOne = 1;
  return {data.data(), DtypeOf<T>(), 1, size, &kOne};
}

template <typename T>
Moments ReduceFlat(const std::vector<T>& data) {
  const auto size = static_cast<std::int64_t>(data.size());
  return Reduce(Flat(data, &size));
}

// Bit for bit, NaN included.
inline ::testing::AssertionResult Same(const Moments& a, const Moments& b) {
  const bool same = a.finite == b.finite && a.zero == b.zero &&
                    a.nan == b.nan && a.pos_inf == b.pos_inf &&
                    a.neg_inf == b.neg_inf &&
                    std::bit_cast<std::uint64_t>(a.mean) ==
                        std::bit_cast<std::uint64_t>(b.mean) &&
                    a.m2 == b.m2 && a.abs_mean == b.abs_mean &&
                    a.min == b.min && a.max == b.max;
  if (same) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "mean " << a.mean << " / " << b.mean << ", m2 " << a.m2 << " / "
         << b.m2 << ", finite " << a.finite << " / " << b.finite;
}

template <typename T>
bool SameBytes(const void* data, const std::vector<T>& elements) {
  return elements.empty() ||
         std::memcmp(data, elements.data(), elements.size() * sizeof(T)) == 0;
}

inline std::vector<std::int64_t> DrawShape(std::mt19937_64& random) {
  // Shapes about the edges of lanes and blocks, or a few small dimensions.
  static const std::vector<std::vector<std::int64_t>> kShapes = {
      {},        {1},       {7},       {8},         {9},
      {1023},    {1024},    {1025},    {2048},      {5000},
      {3, 1024}, {1025, 3}, {3, 0, 5}, {33, 1, 65}, {2, 3, 5, 7, 11},
      {1, 1, 1}, {70, 70}};
  if (random() % 2 == 0) return kShapes[random() % kShapes.size()];
  std::vector<std::int64_t> shape(random() % 7);
  for (std::int64_t& size : shape) {
    size = 1 + static_cast<std::int64_t>(random() % 5);
  }
  if (!shape.empty() && random() % 10 == 0) shape[random() % shape.size()] = 0;
  return shape;
}

// rapidcheck gives the seed, and names it when a case fails.
inline std::mt19937_64 DrawRandom() {
  return std::mt19937_64(
      *rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint64_t>()));
}

inline Values DrawValues(std::mt19937_64& random) {
  return static_cast<Values>(random() % kValuesCount);
}

template <typename T>
MadeTensor<T> DrawTensor(std::mt19937_64& random) {
  const Values values = DrawValues(random);
  const bool contiguous = random() % 2 == 0;
  return MakeTensor<T>(DrawShape(random), values, contiguous, random);
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_CORE_KERNEL_SUPPORT_H_
