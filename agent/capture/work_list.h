// Reductions of many tensors, on the calling thread or, where it pays, on
// LibTorch's own intra-op pool.
//
// The caller puts tensors down as plain data; what runs on threads of the pool
// is kernels and arithmetic: no ATen operation, no reference count. No thread
// setting is read but the number of threads, and none is changed. Results are
// the same bits for any number of threads.
//
// Layer: agent/capture. This file: std, core.

#ifndef GRADTAP_AGENT_CAPTURE_WORK_LIST_H_
#define GRADTAP_AGENT_CAPTURE_WORK_LIST_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/histogram.h"
#include "core/kernel.h"
#include "core/record.h"
#include "core/step_data.h"

namespace gradtap::agent {

// One tensor to reduce, and where its records go. What it points to must stay
// until Run() has returned.
struct WorkItem {
  Reduction reduction;
  // Zeros to be counted besides the view's elements.
  std::uint64_t zeros = 0;
  // Null: not recorded.
  RoleColumns* columns = nullptr;
  RoleColumns* update_columns = nullptr;
  std::uint32_t place = 0;
  std::uint32_t update_place = 0;
  // Bins are written here; null: none. Keep their capacity.
  HistogramData* histogram = nullptr;
  HistogramData* update_histogram = nullptr;
};

// One thread at a time. Keeps its memory between uses: a list of as many
// tensors as before allocates nothing.
class WorkList {
 public:
  // From how many elements on the pool is used; a tensor counts kItemCost more.
  // Some 200 microseconds of work: where other programs want the cores too, the
  // wait for a thread of the pool may take longer than less would save.
  static constexpr std::uint64_t kParallelCost = 1 << 19;
  static constexpr std::uint64_t kItemCost = 512;

  void Clear();

  // `numel` is that of the item's view.
  void Add(const WorkItem& item, std::uint64_t numel);

  // Reduces everything that was added, and leaves the list empty. An absent
  // update is set absent, without bins. Throws std::bad_alloc alone.
  void Run();

  // How many threads took part in the last Run().
  std::size_t threads_of_last_run() const { return threads_; }

 private:
  // What one thread takes at a time: whole tensors of one chunk each, or some
  // chunks of one tensor.
  struct Batch {
    std::uint32_t item = 0;
    std::uint32_t items = 0;
    std::uint64_t chunk = 0;
    std::uint64_t chunks = 0;
    std::uint64_t cost = 0;
  };
  // A tensor of several chunks.
  struct Large {
    std::uint32_t item = 0;
    std::size_t first_result = 0;
    std::size_t chunks = 0;
    std::size_t bins = 0;  // Of large_bins_; the update's are the next.
  };
  struct alignas(64) Scratch {
    BinCounts bins{};  // Zero between uses.
    BinCounts update_bins{};
  };

  void AddLarge(std::uint32_t item, std::uint64_t chunks);
  void RunSmall(const Batch& batch, Scratch* scratch);
  void RunLarge(const Batch& batch, Scratch* scratch);
  void RunBatch(const Batch& batch, Scratch* scratch);
  void RunOnPool(std::size_t threads);
  void RunAll();
  void Finish();
  Scratch* ScratchOf(std::size_t thread) {
    return any_histogram_ ? &scratch_[thread] : nullptr;
  }

  std::vector<WorkItem> items_;
  std::vector<Batch> batches_;
  std::vector<Large> large_;
  std::vector<WeightAndUpdate> results_;  // Of the chunks of large tensors.
  std::vector<BinCounts> large_bins_;
  std::vector<Scratch> scratch_;  // One for each thread, once needed.
  std::size_t threads_ = 0;
  std::uint64_t cost_ = 0;
  bool any_histogram_ = false;
};

// The number of threads that Run() may use now, the calling one included; 1 in
// a build whose compiler does not share LibTorch's OpenMP.
std::size_t PoolThreads();

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_WORK_LIST_H_
