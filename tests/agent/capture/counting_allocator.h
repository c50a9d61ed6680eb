// What ATen allocates on the CPU, counted; and memory that runs out.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_COUNTING_ALLOCATOR_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_COUNTING_ALLOCATOR_H_

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>

namespace gradtap::testing {

// Counts while it lives. One at a time.
class CountingAllocator {
 public:
  CountingAllocator() : before_(c10::GetCPUAllocator()) {
    live_ = peak_ = 0;
    RefuseNone();
    static Allocator allocator;  // Tensors may outlive the counting.
    c10::SetCPUAllocator(&allocator);
  }
  ~CountingAllocator() { c10::SetCPUAllocator(before_); }
  CountingAllocator(const CountingAllocator&) = delete;
  CountingAllocator& operator=(const CountingAllocator&) = delete;

  // Bytes of its allocations now, and the most so far.
  std::int64_t live() const { return live_; }
  std::int64_t peak() const { return peak_; }
  // Allocations of exactly so many bytes fail from now on.
  void Refuse(std::size_t bytes) { refused_ = bytes; }
  void RefuseNone() { refused_ = std::numeric_limits<std::size_t>::max(); }

 private:
  static constexpr std::size_t kHeader = 64;  // As aligned as ATen's.

  static c10::DataPtr Allocate(std::size_t n) {
    TORCH_CHECK(n != refused_, "no memory for ", n, " bytes");
    const std::size_t bytes = (n + 2 * kHeader - 1) / kHeader * kHeader;
    auto* const memory = static_cast<char*>(std::aligned_alloc(kHeader, bytes));
    TORCH_CHECK(memory != nullptr, "no memory");
    std::memcpy(memory, &n, sizeof(n));
    const std::int64_t now = live_ += static_cast<std::int64_t>(n);
    peak_ = std::max(peak_.load(), now);
    return {memory + kHeader, memory, &Free, c10::Device(c10::kCPU)};
  }
  static void Free(void* memory) {
    std::size_t n = 0;
    std::memcpy(&n, memory, sizeof(n));
    live_ -= static_cast<std::int64_t>(n);
    std::free(memory);
  }

  // Newer versions of LibTorch dropped a `const` and want a copy.
  template <typename Base>
  struct Older : Base {
    c10::DataPtr allocate(std::size_t n) const { return Allocate(n); }
  };
  template <typename Base>
  struct Newer : Base {
    c10::DataPtr allocate(std::size_t n) { return Allocate(n); }
    void copy_data(void* to, const void* from, std::size_t n) const {
      std::memcpy(to, from, n);
    }
  };
  using Allocator = std::conditional_t<
      std::is_same_v<decltype(&c10::Allocator::allocate),
                     c10::DataPtr (c10::Allocator::*)(std::size_t) const>,
      Older<c10::Allocator>, Newer<c10::Allocator>>;

  static inline std::atomic<std::int64_t> live_ = 0;
  static inline std::atomic<std::int64_t> peak_ = 0;
  static inline std::size_t refused_ = 0;

  c10::Allocator* const before_;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_COUNTING_ALLOCATOR_H_
