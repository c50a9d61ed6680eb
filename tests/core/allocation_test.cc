// The step path allocates nothing: every operator new of this binary counts.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "core/codec.h"
#include "core/codec_samples.h"
#include "core/kernel.h"

namespace {
std::atomic<long> allocations{0};
}  // namespace

// Not inlined: g++ would take the malloc and free that it then sees for a
// mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace gradtap {
namespace {

TEST(AllocationTest, TheCounterCounts) {
  const long before = allocations;
  void* one = ::operator new(100);  // A call, which no compiler may leave out.
  const long after = allocations;
  ::operator delete(one);
  EXPECT_EQ(after - before, 1);
}

TEST(AllocationTest, EncodingAStepAllocatesNothing) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937_64 random(seed);
    const StepData step = testing::SampleStep(random);
    std::string out(EncodedStepSize(step), '\0');
    const long before = allocations;
    const std::size_t size = EncodedStepSize(step);
    EncodeStep(step, {out.data(), size});
    const long after = allocations;
    EXPECT_EQ(after, before);
  }
}

TEST(AllocationTest, ReducingATensorAllocatesNothing) {
  const std::vector<double> data(5000, 1.5);
  std::vector<double> previous(5000, 1);
  const std::int64_t sizes[] = {50, 100};
  const std::int64_t transposed[] = {1, 50};
  for (const std::int64_t* strides : {sizes, transposed}) {
    const std::int64_t contiguous[] = {100, 1};
    const TensorView view{data.data(), Dtype::kFloat64, 2, sizes,
                          strides == sizes ? contiguous : transposed};
    const long before = allocations;
    const Moments alone = Reduce(view);
    const WeightAndUpdate both = ReduceWeightAndUpdate(view, previous.data());
    const Moments copied = ReduceAndCopy(view, previous.data());
    const long after = allocations;
    EXPECT_EQ(after, before);
    EXPECT_EQ(alone.finite + both.weight.finite + copied.finite, 15'000u);
  }
}

TEST(AllocationTest, ReusedColumnsAllocateNothing) {
  RoleColumns columns;
  columns.Resize(100);
  const long before = allocations;
  columns.Resize(100);
  for (std::size_t i = 0; i < 100; ++i) columns.SetAbsent(i);
  const long after = allocations;
  EXPECT_EQ(after, before);
}

}  // namespace
}  // namespace gradtap
