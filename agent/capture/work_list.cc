// The one unit that meets LibTorch's intra-op pool. at::parallel_for is a
// template over OpenMP pragmas: compiled without -fopenmp it would run on one
// thread and not say so.

#include "agent/capture/work_list.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cfenv>

#if AT_PARALLEL_OPENMP && !defined(_OPENMP) && !defined(__clang__)
#error "LibTorch's intra-op pool is OpenMP: compile this unit with -fopenmp"
#endif

namespace gradtap::agent {
namespace {

// Elements that a thread takes at a time: some 20 microseconds.
constexpr std::uint64_t kBatchCost = 1 << 16;

// Zeroes what it reads.
void MoveBins(BinCounts* bins, std::uint64_t zeros, HistogramData* to) {
  (*bins)[kBinZero] += zeros;
  to->bin.clear();
  to->count.clear();
  for (std::uint32_t b = 0; b < kBinCount; ++b) {
    if ((*bins)[b] == 0) continue;
    to->bin.push_back(b);
    to->count.push_back((*bins)[b]);
    (*bins)[b] = 0;
  }
}

// Zeroes what it reads. Several threads may add to the same bins.
void AddBins(BinCounts* bins, BinCounts* to) {
  for (std::uint32_t b = 0; b < kBinCount; ++b) {
    if ((*bins)[b] == 0) continue;
    std::atomic_ref((*to)[b]).fetch_add((*bins)[b], std::memory_order_relaxed);
    (*bins)[b] = 0;
  }
}

// The moments of `count` zeros.
Moments Zeros(std::uint64_t count) {
  Moments m;
  m.finite = count;
  m.min = 0;
  m.max = 0;
  m.zero = count;
  return m;
}

void Emit(const WorkItem& item, const WeightAndUpdate& result) {
  if (item.columns != nullptr) {
    item.columns->Set(
        item.place,
        ToRecord(item.zeros == 0 ? result.weight
                                 : Merge(result.weight, Zeros(item.zeros))));
  }
  if (item.update_columns == nullptr) return;
  if (item.reduction.previous_valid) {
    item.update_columns->Set(item.update_place, ToRecord(result.update));
  } else {
    item.update_columns->SetAbsent(item.update_place);
  }
}

void Prefetch(const Reduction& reduction) {
  constexpr int kLine = 64;
  constexpr int kLines = 4;
  for (int i = 0; i < kLines; ++i) {
    __builtin_prefetch(static_cast<const char*>(reduction.view.data) +
                       i * kLine);
    if (reduction.previous == nullptr) continue;
    __builtin_prefetch(static_cast<const char*>(reduction.previous) + i * kLine,
                       1);
  }
}

// Threads of a pool have a floating-point mode of their own; whether subnormals
// are zeros must not depend on who takes a tensor.
class SameFloatMode {
 public:
  explicit SameFloatMode(const std::fenv_t& mode) {
    std::fegetenv(&own_);
    std::fesetenv(&mode);
  }
  ~SameFloatMode() { std::fesetenv(&own_); }
  SameFloatMode(const SameFloatMode&) = delete;
  SameFloatMode& operator=(const SameFloatMode&) = delete;

 private:
  std::fenv_t own_;
};

}  // namespace

std::size_t PoolThreads() {
#ifdef INTRA_OP_PARALLEL
  if (at::in_parallel_region()) return 1;
  return static_cast<std::size_t>(std::max(at::get_num_threads(), 1));
#else
  return 1;
#endif
}

void WorkList::Clear() {
  items_.clear();
  batches_.clear();
  large_.clear();
  results_.clear();
  large_bins_.clear();
  cost_ = 0;
  any_histogram_ = false;
}

void WorkList::Add(const WorkItem& item, std::uint64_t numel) {
  const auto index = static_cast<std::uint32_t>(items_.size());
  items_.push_back(item);
  any_histogram_ |=
      item.histogram != nullptr || item.update_histogram != nullptr;
  const std::uint64_t cost = numel + kItemCost;
  cost_ += cost;
  const std::uint64_t chunks = ChunkCount(item.reduction.view);
  if (chunks > 1) return AddLarge(index, chunks);
  if (batches_.empty() || batches_.back().items == 0 ||
      batches_.back().cost + cost > kBatchCost) {
    batches_.push_back({.item = index});
  }
  ++batches_.back().items;
  batches_.back().cost += cost;
}

void WorkList::AddLarge(std::uint32_t item, std::uint64_t chunks) {
  const WorkItem& what = items_[item];
  large_.push_back({.item = item,
                    .first_result = results_.size(),
                    .chunks = static_cast<std::size_t>(chunks),
                    .bins = large_bins_.size()});
  results_.resize(results_.size() + static_cast<std::size_t>(chunks));
  if (what.histogram != nullptr || what.update_histogram != nullptr) {
    large_bins_.resize(large_bins_.size() + 2, BinCounts{});
  }
  const auto index = static_cast<std::uint32_t>(large_.size() - 1);
  for (std::uint64_t c = 0; c < chunks; ++c) {
    batches_.push_back({.item = index, .chunk = c, .chunks = 1});
  }
}

void WorkList::RunSmall(const Batch& batch, Scratch* scratch) {
  constexpr std::uint32_t kAhead = 4;
  const std::uint32_t end = batch.item + batch.items;
  for (std::uint32_t i = batch.item; i < end; ++i) {
    if (i + kAhead < items_.size()) Prefetch(items_[i + kAhead].reduction);
    const WorkItem& item = items_[i];
    const bool bins = item.histogram != nullptr;
    const bool update_bins = item.update_histogram != nullptr;
    Emit(item, ReduceChunk(item.reduction, 0, bins ? &scratch->bins : nullptr,
                           update_bins ? &scratch->update_bins : nullptr));
    if (bins) MoveBins(&scratch->bins, item.zeros, item.histogram);
    if (update_bins) {
      MoveBins(&scratch->update_bins, 0, item.update_histogram);
    }
  }
}

void WorkList::RunLarge(const Batch& batch, Scratch* scratch) {
  const Large& large = large_[batch.item];
  const WorkItem& item = items_[large.item];
  const bool bins = item.histogram != nullptr;
  const bool update_bins = item.update_histogram != nullptr;
  for (std::uint64_t c = batch.chunk; c < batch.chunk + batch.chunks; ++c) {
    results_[large.first_result + c] =
        ReduceChunk(item.reduction, c, bins ? &scratch->bins : nullptr,
                    update_bins ? &scratch->update_bins : nullptr);
  }
  if (bins) AddBins(&scratch->bins, &large_bins_[large.bins]);
  if (update_bins) AddBins(&scratch->update_bins, &large_bins_[large.bins + 1]);
}

void WorkList::RunBatch(const Batch& batch, Scratch* scratch) {
  batch.items > 0 ? RunSmall(batch, scratch) : RunLarge(batch, scratch);
}

void WorkList::RunOnPool(std::size_t threads) {
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> took_part{0};
  std::fenv_t mode;
  std::fegetenv(&mode);
  at::parallel_for(
      0, static_cast<std::int64_t>(threads), 1,
      [&](std::int64_t begin, std::int64_t end) {
        const SameFloatMode same(mode);
        took_part.fetch_add(1, std::memory_order_relaxed);
        for (std::int64_t t = begin; t < end; ++t) {
          Scratch* const scratch = ScratchOf(static_cast<std::size_t>(t));
          for (;;) {
            const std::size_t b = next.fetch_add(1, std::memory_order_relaxed);
            if (b >= batches_.size()) break;
            RunBatch(batches_[b], scratch);
          }
        }
      });
  threads_ = took_part;
}

void WorkList::Run() {
  try {
    RunAll();
  } catch (...) {
    scratch_.clear();  // It holds bins of what was not finished.
    Clear();
    throw;
  }
  Clear();
}

void WorkList::RunAll() {
  threads_ = 1;
  std::size_t threads = 1;
  if (cost_ >= kParallelCost && batches_.size() > 1) {
    threads = std::min(PoolThreads(), batches_.size());
  }
  if (any_histogram_ && scratch_.size() < threads) scratch_.resize(threads);
  if (threads > 1) {
    RunOnPool(threads);
  } else {
    for (const Batch& batch : batches_) RunBatch(batch, ScratchOf(0));
  }
  Finish();
}

void WorkList::Finish() {
  for (const Large& large : large_) {
    const WorkItem& item = items_[large.item];
    Emit(item,
         JoinChunks({results_.data() + large.first_result, large.chunks}));
    if (item.histogram != nullptr) {
      MoveBins(&large_bins_[large.bins], item.zeros, item.histogram);
    }
    if (item.update_histogram != nullptr) {
      MoveBins(&large_bins_[large.bins + 1], 0, item.update_histogram);
    }
  }
}

}  // namespace gradtap::agent
