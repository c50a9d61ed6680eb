// Made-up tensors: values, shapes and strides that break kernels.

#ifndef GRADTAP_TESTS_CORE_TENSORS_H_
#define GRADTAP_TESTS_CORE_TENSORS_H_

#include <algorithm>
#include <bit>
#include <complex>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <random>
#include <type_traits>
#include <vector>

#include "core/kernel.h"
#include "core/kernel_convert.h"
#include "core/reference.h"

namespace gradtap::testing {

// How the values of a tensor are drawn.
enum class Values {
  kOrdinary,       // About -1 to 1.
  kShifted,        // A large mean, tiny deviations.
  kAnyBits,        // Every bit pattern, so every magnitude, NaN and infinity.
  kSpecial,        // Zeros, limits, subnormals, infinities, NaN, ones.
  kFiniteExtreme,  // The largest and smallest finite values.
  kEqual,
  kOneOutlier,
};
inline constexpr int kValuesCount = 7;

namespace internal {

template <typename T>
T FromDouble(double x) {
  return static_cast<T>(x);
}
template <>
inline kernel::Bfloat16 FromDouble(double x) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
  return {static_cast<std::uint16_t>(bits >> 16)};
}
// Rounds towards zero; enough for tests.
template <>
inline kernel::Half FromDouble(double x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double magnitude = std::fabs(x);
  if (std::isnan(x)) return {0x7e00};
  if (magnitude >= 65536) return {static_cast<std::uint16_t>(sign | 0x7c00)};
  std::uint16_t best = 0;
  for (int bit = 14; bit >= 0; --bit) {
    const auto next = static_cast<std::uint16_t>(best | (1 << bit));
    if (next < 0x7c00 && Exact(kernel::Half{next}) <= magnitude) best = next;
  }
  return {static_cast<std::uint16_t>(sign | best)};
}
// The nearest of all 256, towards zero for e5m2.
template <>
inline kernel::Float8E5m2 FromDouble(double x) {
  const kernel::Half half = FromDouble<kernel::Half>(x);
  return {static_cast<std::uint8_t>(half.bits >> 8)};
}
template <>
inline kernel::Float8E4m3fn FromDouble(double x) {
  kernel::Float8E4m3fn best{0};
  for (int bits = 0; bits < 256; ++bits) {
    const kernel::Float8E4m3fn next{static_cast<std::uint8_t>(bits)};
    if (std::fabs(Exact(next) - x) < std::fabs(Exact(best) - x)) best = next;
  }
  return best;
}
template <>
inline kernel::Bool FromDouble(double x) {
  return {static_cast<std::uint8_t>(x > 0 ? 1 : 0)};
}
template <>
inline std::complex<float> FromDouble(double x) {
  return {static_cast<float>(x), static_cast<float>(x / 2)};
}
template <>
inline std::complex<double> FromDouble(double x) {
  return {x, x / 2};
}

template <typename T>
T FromBits(std::mt19937_64& random) {
  T value;
  std::uint64_t bits[2] = {random(), random()};
  static_assert(sizeof(T) <= sizeof(bits));
  std::memcpy(static_cast<void*>(&value), bits, sizeof(T));
  return value;
}

template <typename T>
std::vector<T> Extremes() {
  if constexpr (std::is_arithmetic_v<T>) {
    using L = std::numeric_limits<T>;
    return {L::max(), L::lowest(), L::denorm_min(), L::min(), T(0), T(1)};
  } else if constexpr (std::is_same_v<T, kernel::Half>) {
    return {{0x7bff}, {0xfbff}, {0x0001}, {0x8001}, {0x0400}, {0}};
  } else if constexpr (std::is_same_v<T, kernel::Bfloat16>) {
    return {{0x7f7f}, {0xff7f}, {0x0001}, {0x8001}, {0x0080}, {0}};
  } else if constexpr (std::is_same_v<T, kernel::Float8E4m3fn>) {
    return {{0x7e}, {0xfe}, {0x01}, {0x81}, {0x08}, {0}};
  } else if constexpr (std::is_same_v<T, kernel::Float8E5m2>) {
    return {{0x7b}, {0xfb}, {0x01}, {0x81}, {0x04}, {0}};
  } else if constexpr (std::is_same_v<T, kernel::Bool>) {
    return {{0}, {1}, {255}};
  } else {
    using L = std::numeric_limits<typename T::value_type>;
    return {{L::max(), L::max()}, {L::lowest(), 0}, {L::denorm_min(), 0},
            {0, L::min()},        {0, 0},           {-1, 1}};
  }
}

template <typename T>
std::vector<T> Specials() {
  std::vector<T> all = Extremes<T>();
  const auto add = [&all](std::initializer_list<T> more) {
    for (const T& x : more) all.push_back(x);
  };
  if constexpr (std::is_floating_point_v<T>) {
    using L = std::numeric_limits<T>;
    add({L::infinity(), -L::infinity(), L::quiet_NaN(), T(-0.0), T(-1),
         T(1) + L::epsilon()});
  } else if constexpr (std::is_same_v<T, kernel::Half>) {
    add({{0x7c00}, {0xfc00}, {0x7e01}, {0xfe01}, {0x8000}});
  } else if constexpr (std::is_same_v<T, kernel::Bfloat16>) {
    add({{0x7f80}, {0xff80}, {0x7fc1}, {0xff81}, {0x8000}});
  } else if constexpr (std::is_same_v<T, kernel::Float8E4m3fn>) {
    add({{0x7f}, {0xff}, {0x80}});
  } else if constexpr (std::is_same_v<T, kernel::Float8E5m2>) {
    add({{0x7c}, {0xfc}, {0x7d}, {0xff}, {0x80}});
  } else if constexpr (std::is_same_v<T, std::complex<float>> ||
                       std::is_same_v<T, std::complex<double>>) {
    using L = std::numeric_limits<typename T::value_type>;
    add({{L::infinity(), L::quiet_NaN()},
         {-L::infinity(), 0},
         {0, L::quiet_NaN()},
         {1, L::infinity()}});
  }
  return all;
}

template <typename T>
T Pick(const std::vector<T>& from, std::mt19937_64& random) {
  return from[random() % from.size()];
}

}  // namespace internal

template <typename T>
T Draw(Values values, std::size_t index, std::mt19937_64& random) {
  std::uniform_real_distribution<double> unit(-1, 1);
  switch (values) {
    case Values::kOrdinary:
      return internal::FromDouble<T>(std::is_integral_v<T> ? unit(random) * 100
                                                           : unit(random));
    case Values::kShifted:
      return internal::FromDouble<T>(100 + unit(random) * 1e-4);
    case Values::kAnyBits:
      return internal::FromBits<T>(random);
    case Values::kSpecial:
      return internal::Pick(internal::Specials<T>(), random);
    case Values::kFiniteExtreme:
      return internal::Pick(internal::Extremes<T>(), random);
    case Values::kEqual:
      return internal::FromDouble<T>(0.1);
    case Values::kOneOutlier:
      return index == 7 ? internal::Extremes<T>()[0]
                        : internal::FromDouble<T>(unit(random));
  }
  return T{};
}

// A strided view with memory of its own.
template <typename T>
struct MadeTensor {
  std::vector<T> memory;
  std::vector<std::int64_t> sizes, strides;
  std::int64_t offset = 0;  // Of the first element, in elements.

  TensorView View() const {
    return {memory.data() + offset, DtypeOf<T>(),
            static_cast<int>(sizes.size()), sizes.data(), strides.data()};
  }

  // Elements of memory may come more than once.
  bool Expanded() const {
    for (std::size_t d = 0; d < sizes.size(); ++d) {
      if (strides[d] == 0 && sizes[d] > 1) return true;
    }
    return false;
  }

  // The elements in index order, by the definition of a stride.
  std::vector<T> Elements() const {
    std::vector<T> all;
    std::int64_t numel = 1;
    for (const std::int64_t size : sizes) numel *= size;
    for (std::int64_t i = 0; i < numel; ++i) {
      std::int64_t rest = i;
      std::int64_t at = offset;
      for (std::size_t d = sizes.size(); d > 0; --d) {
        at += rest % sizes[d - 1] * strides[d - 1];
        rest /= sizes[d - 1];
      }
      all.push_back(memory[static_cast<std::size_t>(at)]);
    }
    return all;
  }

  // The elements in the kernels' order, by its definition: strides ascend, a
  // negative one is walked backwards.
  std::vector<T> InKernelOrder() const {
    std::vector<std::size_t> order(sizes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::reverse(order.begin(), order.end());
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) {
                       return std::abs(strides[a]) < std::abs(strides[b]);
                     });
    std::vector<T> all;
    std::int64_t numel = 1;
    for (const std::int64_t size : sizes) numel *= size;
    for (std::int64_t i = 0; i < numel; ++i) {
      std::int64_t rest = i;
      std::int64_t at = offset;
      for (const std::size_t d : order) {
        const std::int64_t step = rest % sizes[d];
        at += (strides[d] < 0 ? sizes[d] - 1 - step : step) * strides[d];
        rest /= sizes[d];
      }
      all.push_back(memory[static_cast<std::size_t>(at)]);
    }
    return all;
  }
};

// Strides for `sizes`: a permutation of the dimensions, steps between
// elements, expanded and reversed dimensions, as `random` will.
template <typename T>
MadeTensor<T> MakeTensor(std::vector<std::int64_t> sizes, Values values,
                         bool contiguous, std::mt19937_64& random) {
  MadeTensor<T> made;
  made.sizes = std::move(sizes);
  made.strides.resize(made.sizes.size());
  std::vector<std::size_t> order(made.sizes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::reverse(order.begin(), order.end());
  if (!contiguous) std::shuffle(order.begin(), order.end(), random);
  std::int64_t stride = contiguous ? 1 : 1 + static_cast<int>(random() % 3);
  std::int64_t lowest = 0;
  std::int64_t highest = 0;
  for (const std::size_t d : order) {
    made.strides[d] = stride;
    const std::uint64_t whim = contiguous ? 9 : random() % 10;
    if (whim == 0) made.strides[d] = 0;
    if (whim == 1) made.strides[d] = -stride;
    const std::int64_t reach =
        made.strides[d] * std::max<std::int64_t>(made.sizes[d] - 1, 0);
    (reach < 0 ? lowest : highest) += reach;
    stride *= std::max<std::int64_t>(made.sizes[d], 1);
    if (whim == 2) stride += 5;  // A slice of something wider.
  }
  made.offset = -lowest;
  for (std::int64_t i = 0; i <= highest - lowest; ++i) {
    made.memory.push_back(Draw<T>(values, static_cast<std::size_t>(i), random));
  }
  return made;
}

template <typename T>
std::vector<long double> ExactAll(const std::vector<T>& elements) {
  std::vector<long double> all;
  for (const T& x : elements) all.push_back(Exact(x));
  return all;
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_CORE_TENSORS_H_
