#include "core/kernel_convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "core/reference.h"

namespace gradtap::kernel {
namespace {

template <typename T>
void ExpectExactForAllBits() {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const T x{static_cast<std::uint16_t>(bits)};
    const long double want = testing::Exact(x);
    const float got = ToFloat(x);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
    } else {
      ASSERT_EQ(got, want) << bits;
      ASSERT_EQ(std::signbit(got), std::signbit(want)) << bits;
    }
  }
}

TEST(KernelConvertTest, EveryHalfConvertsExactly) {
  ExpectExactForAllBits<Half>();
}

TEST(KernelConvertTest, EveryBfloat16ConvertsExactly) {
  ExpectExactForAllBits<Bfloat16>();
}

TEST(KernelConvertTest, EveryFloat8ConvertsExactly) {
  for (int bits = 0; bits < 256; ++bits) {
    const auto byte = static_cast<std::uint8_t>(bits);
    const auto check = [&](auto x) {
      const long double want = testing::Exact(x);
      const float got = ToFloat(x);
      if (std::isnan(want)) {
        EXPECT_TRUE(std::isnan(got)) << bits;
      } else {
        EXPECT_EQ(got, want) << bits;
        EXPECT_EQ(std::signbit(got), std::signbit(want)) << bits;
      }
    };
    check(Float8E4m3fn{byte});
    check(Float8E5m2{byte});
  }
}

TEST(KernelConvertTest, IntegerDifferenceDoesNotWrapAround) {
  using Limits = std::numeric_limits<std::int64_t>;
  EXPECT_EQ(Element<std::int64_t>::Minus(Limits::max(), Limits::min()), 0x1p64);
  EXPECT_EQ(Element<std::int64_t>::Minus(Limits::min(), Limits::max()),
            -0x1p64);
  EXPECT_EQ(Element<std::uint8_t>::Minus(0, 255), -255);
  EXPECT_EQ(Element<std::int8_t>::Minus(-128, 127), -255);
  EXPECT_EQ(Element<std::int32_t>::Minus(-2147483647 - 1, 2147483647),
            -4294967295.0);
}

TEST(KernelConvertTest, AnyByteButZeroIsTrue) {
  EXPECT_EQ(Element<Bool>::To({0}), 0);
  EXPECT_EQ(Element<Bool>::To({1}), 1);
  EXPECT_EQ(Element<Bool>::To({255}), 1);
  EXPECT_EQ(Element<Bool>::Minus({0}, {7}), -1);
  EXPECT_EQ(Element<Bool>::Minus({9}, {7}), 0);
}

}  // namespace
}  // namespace gradtap::kernel
