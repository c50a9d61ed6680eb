// For any shape, strides and values, under every instruction set.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "core/kernel.h"
#include "core/kernel_support.h"
#include "core/targets.h"

namespace gradtap {
namespace {

using testing::DrawRandom;
using testing::DrawTensor;
using testing::DrawValues;
using testing::DtypeOf;
using testing::ExactAll;
using testing::ForEachTarget;
using testing::OutOfBounds;
using testing::ReduceFlat;
using testing::ReferenceOf;
using testing::Same;
using testing::SameBytes;
using testing::Values;

template <typename T>
class KernelPropertyTest : public ::testing::Test {};
TYPED_TEST_SUITE(KernelPropertyTest, testing::Dtypes);

TYPED_TEST(KernelPropertyTest, ReduceKeepsTheBoundsForAnyShapeStrideAndValue) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto tensor = DrawTensor<TypeParam>(random);
    const auto want = ReferenceOf(ExactAll(tensor.Elements()));
    ForEachTarget([&](const std::string& target) {
      const Moments got = Reduce(tensor.View());
      RC_LOG(target);
      RC_ASSERT(got.numel() == Numel(tensor.View()));
      RC_ASSERT(OutOfBounds(ToRecord(got), want) == "");
    });
  }));
}

TYPED_TEST(KernelPropertyTest, UpdateKeepsTheBoundsAndPreviousIsRefreshed) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto weight = DrawTensor<TypeParam>(random);
    const auto elements = weight.InKernelOrder();
    const Values values = DrawValues(random);
    std::vector<TypeParam> before;
    std::vector<long double> difference;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      before.push_back(testing::Draw<TypeParam>(values, i, random));
      difference.push_back(
          testing::ExactDifference(elements[i], before.back()));
    }
    const auto want = ReferenceOf(ExactAll(elements));
    const auto want_update = ReferenceOf(difference);
    ForEachTarget([&](const std::string& target) {
      std::vector<TypeParam> previous = before;
      const WeightAndUpdate got =
          ReduceWeightAndUpdate(weight.View(), previous.data());
      RC_LOG(target);
      RC_ASSERT(OutOfBounds(ToRecord(got.weight), want) == "");
      RC_ASSERT(OutOfBounds(ToRecord(got.update), want_update) == "");
      RC_ASSERT(SameBytes(previous.data(), elements));
    });
  }));
}

TYPED_TEST(KernelPropertyTest, AllThreeEntriesAgreeOnTheWeight) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto weight = DrawTensor<TypeParam>(random);
    const auto elements = weight.InKernelOrder();
    ForEachTarget([&](const std::string& target) {
      std::vector<TypeParam> previous(elements.size());
      std::vector<TypeParam> copy(elements.size());
      const Moments alone = ReduceAndCopy(weight.View(), copy.data());
      RC_LOG(target);
      RC_ASSERT(Same(
          alone, ReduceWeightAndUpdate(weight.View(), previous.data()).weight));
      RC_ASSERT(SameBytes(copy.data(), elements));
      // An expanded tensor of which nothing is kept is read once.
      const Moments once = Reduce(weight.View());
      if (!weight.Expanded()) RC_ASSERT(Same(alone, once));
      RC_ASSERT(once.numel() == alone.numel());
    });
  }));
}

TYPED_TEST(KernelPropertyTest, ResultDependsNeitherOnGapsNorOnAlignment) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto tensor = DrawTensor<TypeParam>(random);
    const auto elements = tensor.InKernelOrder();
    // One byte off, and 16.
    const std::size_t bytes = elements.size() * sizeof(TypeParam);
    std::vector<char> shifted(bytes + 64);
    char* start = shifted.data();
    while (reinterpret_cast<std::uintptr_t>(start) % 16 != 1) ++start;
    if (bytes != 0) std::memcpy(start, elements.data(), bytes);
    const auto size = static_cast<std::int64_t>(elements.size());
    const std::int64_t one = 1;
    const TensorView view{start, DtypeOf<TypeParam>(), 1, &size, &one};
    ForEachTarget([&](const std::string& target) {
      RC_LOG(target);
      const Moments flat = ReduceFlat(elements);
      if (!tensor.Expanded()) RC_ASSERT(Same(Reduce(tensor.View()), flat));
      RC_ASSERT(Same(flat, Reduce(view)));
      // With unaligned previous values, too.
      std::vector<char> previous(bytes + 64, 1);
      char* before = previous.data();
      while (reinterpret_cast<std::uintptr_t>(before) % 16 != 1) ++before;
      RC_ASSERT(Same(flat, ReduceWeightAndUpdate(view, before).weight));
      RC_ASSERT(SameBytes(before, elements));
    });
  }));
}

}  // namespace
}  // namespace gradtap
