// What the training thread pays: no allocation for a step that fits in one
// record, whether the ring takes it or not.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/recorder.h"
#include "support/manual_clock.h"

namespace {

thread_local std::uint64_t allocations = 0;

void* Allocate(std::size_t size) {
  ++allocations;
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return Allocate(size); }
void* operator new[](std::size_t size) { return Allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace gradtap::agent {
namespace {

class RecorderAllocationTest : public ::testing::Test {
 protected:
  RecorderAllocationTest()
      : ring_(testing::MakeRing(256 * 1024, 8 * 1024)),
        recorder_(ring_.get(), &books_, &clock_) {
    recorder_.PutSchema(testing::MakeSchema(1, 100));
    recorder_.PutStep(testing::MakeStep(0, 1, 100));
  }

  // Allocations of `count` steps from `first` on.
  std::uint64_t Cost(std::int64_t first, int count) {
    StepData step = testing::MakeStep(first, 1, 100);
    const std::uint64_t before = allocations;
    for (int i = 0; i < count; ++i) {
      recorder_.PutStep(step);
      ++step.step;
    }
    return allocations - before;
  }

  testing::ManualClock clock_;
  Books books_;
  std::unique_ptr<Ring> ring_;
  Recorder recorder_;
};

TEST_F(RecorderAllocationTest, TheCounterCounts) {
  const std::uint64_t before = allocations;
  delete new int(5);
  EXPECT_GT(allocations, before);
}

TEST_F(RecorderAllocationTest, AnAdmittedStepAllocatesNothing) {
  EXPECT_EQ(Cost(1, 50), 0u);
  EXPECT_EQ(books_.Snapshot().steps_recorded, 51u);
}

TEST_F(RecorderAllocationTest, ALostStepAllocatesNothingOnceOneIsPending) {
  std::int64_t step = 1;
  while (books_.missing(GapCause::kRingFull) < 2) {
    recorder_.PutStep(testing::MakeStep(step++, 1, 100));
  }
  EXPECT_EQ(Cost(step, 100), 0u);
  EXPECT_EQ(books_.missing(GapCause::kRingFull), 102u);
}

// One after the other is taken and left out, with a gap before each.
TEST_F(RecorderAllocationTest, AThinnedStepAllocatesNothing) {
  std::int64_t step = 1;
  while (books_.missing(GapCause::kThinned) < 2) {
    recorder_.PutStep(testing::MakeStep(step++, 1, 100));
  }
  const std::uint64_t before = books_.Snapshot().steps_recorded;
  EXPECT_EQ(Cost(step, 40), 0u);
  EXPECT_EQ(books_.missing(GapCause::kThinned), 22u);
  EXPECT_EQ(books_.Snapshot().steps_recorded, before + 20);
}

}  // namespace
}  // namespace gradtap::agent
