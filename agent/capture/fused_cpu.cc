// A fused reduction on the CPU: loops in place of blocks and threads.

#include <algorithm>
#include <array>

#include "agent/capture/fused_reduce.h"
#include "agent/capture/fused_table.h"

namespace gradtap::agent::fused {
namespace {

// Of a warp, as lanes merge them on a device.
Partial JoinLanes(Partial* of_lane) {
  for (int step = kLanes / 2; step > 0; step /= 2) {
    for (int lane = 0; lane < step; ++lane) {
      MergeInto(&of_lane[lane], of_lane[lane + step]);
    }
  }
  return of_lane[0];
}

Partial JoinThreads(std::array<Partial, kThreads>* of_thread) {
  static_assert(kWarps <= kLanes);
  std::array<Partial, kLanes> of_warp;
  for (std::size_t warp = 0; warp < kWarps; ++warp) {
    of_warp[warp] = JoinLanes(of_thread->data() + warp * kLanes);
  }
  return JoinLanes(of_warp.data());
}

// A row of counts by key, of one chunk.
struct ChunkBins {
  std::array<unsigned, kBinsWidth> counts{};

  Bins For(std::int64_t row) { return {row < 0 ? nullptr : counts.data()}; }
  void AddTo(const Launch& launch, std::int64_t row) const {
    if (row < 0) return;
    for (std::int64_t key = 0; key < kBinsWidth; ++key) {
      launch.counts[row * kBinsWidth + key] +=
          counts[static_cast<std::size_t>(key)];
    }
  }
};

void RunChunk(const Launch& launch, const Chunk& chunk) {
  const Task& task = launch.tasks[chunk.task];
  std::array<Partial, kThreads> weight, update;
  ChunkBins bins, update_bins;
  for (int thread = 0; thread < kThreads; ++thread) {
    Part part;
    ReduceChunk(task, chunk.index, thread, bins.For(task.counts),
                update_bins.For(task.update_counts), &part);
    weight[static_cast<std::size_t>(thread)] = part.weight;
    update[static_cast<std::size_t>(thread)] = part.update;
  }
  bins.AddTo(launch, task.counts);
  update_bins.AddTo(launch, task.update_counts);
  if (task.partial >= 0) {
    launch.partials[task.partial + chunk.index] = JoinThreads(&weight);
  }
  if (task.update >= 0) {
    launch.partials[task.update + chunk.index] = JoinThreads(&update);
  }
}

void RunResult(const Launch& launch, const Result& result) {
  std::array<Partial, kThreads> of_thread;
  for (int thread = 0; thread < kThreads; ++thread) {
    of_thread[static_cast<std::size_t>(thread)] =
        GatherPartials(launch, result, thread);
    WriteBins(launch, result, thread);
  }
  WriteMoments(result, JoinThreads(&of_thread));
}

}  // namespace

void RunOnCpu(const Launch& launch) {
  std::fill_n(launch.counts, launch.count_rows * kBinsWidth, 0ull);
  for (std::int64_t i = 0; i < launch.chunk_count; ++i) {
    RunChunk(launch, launch.chunks[i]);
  }
  for (std::int64_t i = 0; i < launch.result_count; ++i) {
    RunResult(launch, launch.results[i]);
  }
}

}  // namespace gradtap::agent::fused
