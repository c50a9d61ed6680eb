// What a fused reduction is given, as plain data that lies where it runs: a
// table of all tensors of a Launch(), and room for what comes of them.
//
// A tensor is cut into chunks. A block of threads reduces one of them to a
// Partial (two, with an update); then the Partials of a tensor are merged in
// their order and written as columns and bins (moments_layout.h). So results do
// not depend on what ran when.
//
// Plain C++17: nvcc reads it too. Two executors: RunOnCpu() below, which tests
// use, and fused_cuda.h. Both run the code of fused_reduce.h.
//
// Layer: agent/capture. This file: std alone.

#ifndef GRADTAP_AGENT_CAPTURE_FUSED_TABLE_H_
#define GRADTAP_AGENT_CAPTURE_FUSED_TABLE_H_

#include <cstdint>

namespace gradtap::agent::fused {

// Threads that reduce one chunk, and its elements at most.
inline constexpr int kLanes = 32;
inline constexpr int kWarps = 8;
inline constexpr int kThreads = kLanes * kWarps;
inline constexpr std::uint64_t kChunk = std::uint64_t{1} << 16;

enum class Type : std::int32_t {
  kFloat32,
  kFloat64,
  kFloat16,
  kBfloat16,
  kInt8,  // From here on: without a copy.
  kInt16,
  kInt32,
  kInt64,
  kUint8,
  kBool,
};

// One tensor, whose elements lie side by side.
struct Task {
  const void* x = nullptr;
  // Where a copy of the elements goes, not overlapping; null: none is made.
  void* copy = nullptr;
  std::uint64_t numel = 0;
  double multiplier = 1;  // Of bins alone; 1 with a copy.
  // The first of its Partials. -1: there are none: only the copy is made.
  std::int64_t partial = -1;
  // The first of those of x minus what `copy` held; -1: none.
  std::int64_t update = -1;
  // Rows of Launch::counts; -1: no bins.
  std::int64_t counts = -1;
  std::int64_t update_counts = -1;
  Type type = Type::kFloat32;
  std::int32_t element_size = 4;
};

// Number `index` of the chunks of a task: one block of threads.
struct Chunk {
  std::uint32_t task = 0;
  std::uint32_t index = 0;
};

// What becomes of the Partials of one tensor.
struct Result {
  std::int64_t partial = 0;  // The first of `chunks`.
  std::int64_t chunks = 0;
  std::uint64_t numel = 0;
  double multiplier = 1;      // Of the moments.
  double* moments = nullptr;  // kMomentsWidth doubles; of a scalar, one.
  double* bins = nullptr;     // kBinsWidth doubles; null: none.
  std::int64_t counts = -1;   // The row that they come from.
  std::int64_t scalar = 0;    // 1: the value of its only element.
};

// Moments of some elements, as gradtap::Moments has them, without those of
// negative infinities: numel is known.
struct Partial {
  unsigned long long finite = 0;
  unsigned long long zero = 0;
  unsigned long long nan = 0;
  unsigned long long pos_inf = 0;
  double mean = 0;
  double m2 = 0;
  double abs_mean = 0;
  double min = 0;  // Of no element: anything, as `max`.
  double max = 0;
};

// All of it, on one device.
struct Launch {
  const Task* tasks = nullptr;
  const Chunk* chunks = nullptr;
  const Result* results = nullptr;
  std::int64_t chunk_count = 0;
  std::int64_t result_count = 0;
  Partial* partials = nullptr;
  // Rows of kBinsWidth, cleared by whoever runs the launch; null: no bins.
  unsigned long long* counts = nullptr;
  std::int64_t count_rows = 0;
};

inline constexpr std::uint64_t ChunksOf(std::uint64_t numel) {
  return (numel + kChunk - 1) / kChunk;
}

// The same, thread by thread, on the CPU; allocates nothing.
void RunOnCpu(const Launch& launch);

}  // namespace gradtap::agent::fused

#endif  // GRADTAP_AGENT_CAPTURE_FUSED_TABLE_H_
