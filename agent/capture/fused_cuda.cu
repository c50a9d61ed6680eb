// A fused reduction on CUDA: one launch for the chunks of all tensors, and one
// for what becomes of them.

#include <cuda_runtime_api.h>

#include "agent/capture/fused_cuda.h"
#include "agent/capture/fused_reduce.h"
#include "agent/capture/fused_table.h"

namespace gradtap::agent::fused {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;

// That of the lane `step` further on.
__device__ Partial FromLane(const Partial& mine, int step) {
  constexpr int kWords = sizeof(Partial) / sizeof(unsigned);
  static_assert(sizeof(Partial) % sizeof(unsigned) == 0, "");
  unsigned words[kWords];
  memcpy(words, &mine, sizeof(words));
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    words[i] = __shfl_down_sync(kAllLanes, words[i], step);
  }
  Partial theirs;
  memcpy(&theirs, words, sizeof(words));
  return theirs;
}

// Lane 0 has it.
__device__ Partial JoinLanes(Partial mine) {
#pragma unroll 1
  for (int step = kLanes / 2; step > 0; step /= 2) {
    MergeInto(&mine, FromLane(mine, step));
  }
  return mine;
}

// Thread 0 has it. All threads of the block call it, with room for a Partial of
// each warp, which is free again only after another __syncthreads().
__device__ Partial JoinThreads(const Partial& mine, Partial* of_warp) {
  const int lane = threadIdx.x % kLanes;
  const int warp = threadIdx.x / kLanes;
  const Partial joined = JoinLanes(mine);
  if (lane == 0) of_warp[warp] = joined;
  __syncthreads();
  if (warp != 0) return Partial();
  return JoinLanes(lane < kWarps ? of_warp[lane] : Partial());
}

// Adds what a block counted to the row of its tensor: integers, so that their
// order does not show.
__device__ void AddCounts(const Launch& launch, const unsigned* counts,
                          long long row) {
  for (int key = threadIdx.x; key < kBinsWidth; key += kThreads) {
    if (counts[key] == 0) continue;
    atomicAdd(launch.counts + row * kBinsWidth + key,
              static_cast<unsigned long long>(counts[key]));
  }
}

__global__ void __launch_bounds__(kThreads, 2) ReduceChunks(Launch launch) {
  __shared__ unsigned counts[kBinsWidth];
  __shared__ unsigned update_counts[kBinsWidth];
  // Bytes: a Partial has a constructor.
  __shared__ alignas(16) unsigned char room[2][kWarps * sizeof(Partial)];
  const Chunk chunk = launch.chunks[blockIdx.x];
  const Task task = launch.tasks[chunk.task];
  const bool count = task.counts >= 0 || task.update_counts >= 0;
  if (count) {
    for (int key = threadIdx.x; key < kBinsWidth; key += kThreads) {
      counts[key] = 0;
      update_counts[key] = 0;
    }
    __syncthreads();
  }
  Part part;
  ReduceChunk(task, chunk.index, static_cast<int>(threadIdx.x),
              Bins{task.counts >= 0 ? counts : nullptr},
              Bins{task.update_counts >= 0 ? update_counts : nullptr}, &part);
  if (task.partial >= 0) {
    const Partial joined =
        JoinThreads(part.weight, reinterpret_cast<Partial*>(room[0]));
    if (threadIdx.x == 0) {
      launch.partials[task.partial + chunk.index] = joined;
    }
  }
  if (task.update >= 0) {
    const Partial joined =
        JoinThreads(part.update, reinterpret_cast<Partial*>(room[1]));
    if (threadIdx.x == 0) launch.partials[task.update + chunk.index] = joined;
  }
  if (!count) return;
  __syncthreads();
  if (task.counts >= 0) AddCounts(launch, counts, task.counts);
  if (task.update_counts >= 0) {
    AddCounts(launch, update_counts, task.update_counts);
  }
}

__global__ void __launch_bounds__(kThreads) WriteResults(Launch launch) {
  __shared__ alignas(16) unsigned char room[kWarps * sizeof(Partial)];
  const Result result = launch.results[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x);
  const Partial joined = JoinThreads(GatherPartials(launch, result, thread),
                                     reinterpret_cast<Partial*>(room));
  if (thread == 0) WriteMoments(result, joined);
  WriteBins(launch, result, thread);
}

// One block each. What a call returns stays in CUDA's memory of the last error
// too, where the loop's next operation would find it: it is taken out.
cudaError_t Start(void (*kernel)(Launch), std::int64_t blocks, Launch launch,
                  cudaStream_t stream) {
  if (blocks == 0) return cudaSuccess;
  void* arguments[] = {&launch};
  const cudaError_t error =
      cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                       dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
                       arguments, 0, stream);
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
  return error;
}

cudaError_t Clear(const Launch& launch, cudaStream_t stream) {
  if (launch.count_rows == 0) return cudaSuccess;
  const auto bytes = static_cast<std::size_t>(launch.count_rows * kBinsWidth) *
                     sizeof(unsigned long long);
  const cudaError_t error = cudaMemsetAsync(launch.counts, 0, bytes, stream);
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
  return error;
}

}  // namespace

bool RunsOnCurrentDevice() {
  cudaFuncAttributes attributes;
  for (const auto kernel : {&ReduceChunks, &WriteResults}) {
    if (cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(
                                               kernel)) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      return false;
    }
  }
  return true;
}

const char* EnqueueOnCuda(const Launch& launch, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  cudaError_t error = Clear(launch, on);
  if (error == cudaSuccess) {
    error = Start(&ReduceChunks, launch.chunk_count, launch, on);
  }
  if (error == cudaSuccess) {
    error = Start(&WriteResults, launch.result_count, launch, on);
  }
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace gradtap::agent::fused
