// What one thread of a fused reduction does: its part of a chunk; and the end,
// from Partials to columns and bins.
//
// Tiles of a chunk go to its warps in turn, and a tile's elements to the lanes
// so that a warp reads 512 bytes side by side. Each element is read once,
// whatever is wanted of it.
//
// Plain C++17: nvcc compiles it for the device, the C++ compiler for tests.
//
// Layer: agent/capture. This file: std, and what nvcc brings.

#ifndef GRADTAP_AGENT_CAPTURE_FUSED_REDUCE_H_
#define GRADTAP_AGENT_CAPTURE_FUSED_REDUCE_H_

#include <cstdint>
#include <limits>

#include "agent/capture/fused_elements.h"
#include "agent/capture/fused_table.h"

namespace gradtap::agent::fused {

// What a thread has of a chunk.
struct Part {
  Partial weight;  // Of the elements themselves.
  Partial update;
};

// Elements [begin, end) of a task, and who takes them.
struct Span {
  std::uint64_t begin;
  std::uint64_t end;
  int thread;

  GRADTAP_ANYWHERE int lane() const { return thread % kLanes; }
  GRADTAP_ANYWHERE std::uint64_t FirstTile() const {
    return begin + static_cast<std::uint64_t>(thread / kLanes) * kTile;
  }
};
inline constexpr std::uint64_t kStride = kTile * kWarps;

GRADTAP_ANYWHERE Span SpanOf(const Task& task, std::uint32_t chunk,
                             int thread) {
  const std::uint64_t begin = chunk * kChunk;
  const std::uint64_t rest = task.numel - begin;
  return {begin, begin + (rest < kChunk ? rest : kChunk), thread};
}

GRADTAP_ANYWHERE bool IsAligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

// ---- Memory -----------------------------------------------------------------

// 16 bytes.
struct Vector {
  std::uint32_t words[4];
};

template <class Raw>
GRADTAP_ANYWHERE Vector LoadVector(const Raw* from, bool aligned) {
  Vector v;
#ifdef __CUDA_ARCH__
  __builtin_assume(__isGlobal(from));
  if (aligned) {
    const uint4 all = *reinterpret_cast<const uint4*>(from);
    v.words[0] = all.x;
    v.words[1] = all.y;
    v.words[2] = all.z;
    v.words[3] = all.w;
    return v;
  }
  constexpr int kPerWord = 4 / static_cast<int>(sizeof(Raw));
  GRADTAP_UNROLL
  for (int w = 0; w < 4; ++w) {
    v.words[w] = 0;
    GRADTAP_UNROLL
    for (int k = 0; k < kPerWord; ++k) {
      const Raw raw = from[w * kPerWord + k];
      std::uint32_t bits = 0;
      memcpy(&bits, &raw, sizeof(raw));
      v.words[w] |= bits << (k * 32 / kPerWord);
    }
  }
#else
  static_cast<void>(aligned);
  memcpy(v.words, from, sizeof(v.words));
#endif
  return v;
}

template <class Raw>
GRADTAP_ANYWHERE void StoreVector(const Vector& v, Raw* to, bool aligned) {
#ifdef __CUDA_ARCH__
  __builtin_assume(__isGlobal(to));
  if (aligned) {
    *reinterpret_cast<uint4*>(to) =
        make_uint4(v.words[0], v.words[1], v.words[2], v.words[3]);
    return;
  }
  constexpr int kPerWord = 4 / static_cast<int>(sizeof(Raw));
  GRADTAP_UNROLL
  for (int w = 0; w < 4; ++w) {
    GRADTAP_UNROLL
    for (int k = 0; k < kPerWord; ++k) {
      const std::uint32_t bits = v.words[w] >> (k * 32 / kPerWord);
      Raw raw;
      memcpy(&raw, &bits, sizeof(raw));
      to[w * kPerWord + k] = raw;
    }
  }
#else
  static_cast<void>(aligned);
  memcpy(to, v.words, sizeof(v.words));
#endif
}

// A thread's elements of a whole tile, as they lie in memory and as floats.
template <class E>
struct Block {
  static constexpr int kVectors = kBlock / E::kPerVector;
  using Raw = typename E::Raw;

  Vector vectors[kVectors];
  float x[kBlock];

  GRADTAP_ANYWHERE Block(const Raw* from, bool aligned, std::uint64_t tile,
                         int lane) {
    GRADTAP_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      vectors[v] =
          LoadVector(from + IndexOf<E>(tile, lane, v * E::kPerVector), aligned);
    }
    GRADTAP_UNROLL
    for (int i = 0; i < kBlock; ++i) {
      x[i] = E::At(vectors[i / E::kPerVector].words, i % E::kPerVector);
    }
  }

  GRADTAP_ANYWHERE void Store(Raw* to, bool aligned, std::uint64_t tile,
                              int lane) const {
    GRADTAP_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      StoreVector(vectors[v], to + IndexOf<E>(tile, lane, v * E::kPerVector),
                  aligned);
    }
  }
};

// ---- One thread -------------------------------------------------------------

// A thread's part of a tile that is not whole, or of a type that is not fast.
template <class E, bool kCompare>
GRADTAP_ANYWHERE void ReduceTileSlowly(const Task& task, const Span& span,
                                       std::uint64_t tile, Bins bins,
                                       Bins update_bins, Part* part) {
  using Raw = typename E::Raw;
  const Plain<E> x{static_cast<const Raw*>(task.x)};
  Raw* const copy = static_cast<Raw*>(task.copy);
  ReduceSlowly<E>(x, tile, span.end, span.lane(), &part->weight);
  if (bins.counts != nullptr) {
    CountSlowly<E>(x, task.multiplier, tile, span.end, span.lane(), bins);
  }
  if (kCompare) {
    const Change<E> change{x.x, copy};
    ReduceSlowly<E>(change, tile, span.end, span.lane(), &part->update);
    if (update_bins.counts != nullptr) {
      CountSlowly<E>(change, 1, tile, span.end, span.lane(), update_bins);
    }
  }
  if (copy == nullptr) return;
  for (int j = 0; j < kBlock; ++j) {
    const std::uint64_t i = IndexOf<E>(tile, span.lane(), j);
    if (i >= span.end) break;
    copy[i] = x.x[i];
  }
}

template <class E>
GRADTAP_ANYWHERE void CountBlock(const Block<E>& block, double multiplier,
                                 Bins bins) {
  if (bins.counts == nullptr) return;
  GRADTAP_UNROLL
  for (int i = 0; i < kBlock; ++i) {
    bins.Add(multiplier == 1 ? KeyOf(block.x[i])
                             : KeyOf(block.x[i] * multiplier));
  }
}

// The difference of two blocks, and its bins. What decides those is the
// difference in double.
template <class E>
GRADTAP_ANYWHERE void ReduceChange(const Task& task, const Span& span,
                                   std::uint64_t tile, const Block<E>& now,
                                   const Block<E>& before, Bins bins,
                                   Sums* sums, Partial* odd) {
  float difference[kBlock];
  float rest[kBlock];
  GRADTAP_UNROLL
  for (int i = 0; i < kBlock; ++i) {
    rest[i] = RestOf(now.x[i], before.x[i], &difference[i]);
  }
  if (!AddBlock<true>(difference, rest, sums)) {
    using Raw = typename E::Raw;
    const Change<E> change{static_cast<const Raw*>(task.x),
                           static_cast<const Raw*>(task.copy)};
    ReduceSlowly<E>(change, tile, span.end, span.lane(), odd);
  }
  if (bins.counts == nullptr) return;
  GRADTAP_UNROLL
  for (int i = 0; i < kBlock; ++i) {
    bins.Add(KeyOf(static_cast<double>(now.x[i]) -
                   static_cast<double>(before.x[i])));
  }
}

template <class E, bool kCompare>
GRADTAP_ANYWHERE void ReduceFast(const Task& task, const Span& span, Bins bins,
                                 Bins update_bins, Part* part) {
  using Raw = typename E::Raw;
  const Raw* const x = static_cast<const Raw*>(task.x);
  Raw* const copy = static_cast<Raw*>(task.copy);
  const bool x_aligned = IsAligned(x);
  const bool copy_aligned = IsAligned(copy);
  const int lane = span.lane();
  Sums sums, update_sums;
  for (std::uint64_t tile = span.FirstTile(); tile < span.end;
       tile += kStride) {
    if (tile + kTile > span.end) {
      ReduceTileSlowly<E, kCompare>(task, span, tile, bins, update_bins, part);
      break;
    }
    const Block<E> now(x, x_aligned, tile, lane);
    if (kCompare) {
      const Block<E> before(copy, copy_aligned, tile, lane);
      ReduceChange<E>(task, span, tile, now, before, update_bins, &update_sums,
                      &part->update);
    }
    if (!AddBlock<false>(now.x, now.x, &sums)) {
      ReduceSlowly<E>(Plain<E>{x}, tile, span.end, lane, &part->weight);
    }
    CountBlock<E>(now, task.multiplier, bins);
    if (copy != nullptr) now.Store(copy, copy_aligned, tile, lane);
  }
  MergeInto(&part->weight, sums.Total());
  if (kCompare) MergeInto(&part->update, update_sums.Total());
}

template <class E, bool kCompare>
GRADTAP_ANYWHERE void ReduceOneByOne(const Task& task, const Span& span,
                                     Bins bins, Bins update_bins, Part* part) {
  for (std::uint64_t tile = span.FirstTile(); tile < span.end;
       tile += kStride) {
    ReduceTileSlowly<E, kCompare>(task, span, tile, bins, update_bins, part);
  }
}

template <class E>
GRADTAP_ANYWHERE void ReduceSpan(const Task& task, const Span& span, Bins bins,
                                 Bins update_bins, Part* part) {
  if constexpr (E::kFast) {
    if (task.update >= 0) {
      ReduceFast<E, true>(task, span, bins, update_bins, part);
    } else {
      ReduceFast<E, false>(task, span, bins, update_bins, part);
    }
  } else if constexpr (std::numeric_limits<typename E::Raw>::is_integer) {
    ReduceOneByOne<E, false>(task, span, bins, update_bins, part);
  } else if (task.update >= 0) {
    ReduceOneByOne<E, true>(task, span, bins, update_bins, part);
  } else {
    ReduceOneByOne<E, false>(task, span, bins, update_bins, part);
  }
}

// The copy alone, as bytes.
GRADTAP_ANYWHERE void CopySpan(const Task& task, const Span& span) {
  const auto size = static_cast<std::uint64_t>(task.element_size);
  const unsigned char* const from = static_cast<const unsigned char*>(task.x);
  unsigned char* const to = static_cast<unsigned char*>(task.copy);
  const std::uint64_t end = span.end * size;
  std::uint64_t at = span.begin * size;
  if (IsAligned(from) && IsAligned(to)) {
    const std::uint64_t whole = (end - at) / 16;
    for (auto i = static_cast<std::uint64_t>(span.thread); i < whole;
         i += kThreads) {
      StoreVector(LoadVector(from + at + i * 16, true), to + at + i * 16, true);
    }
    at += whole * 16;
  }
  for (at += static_cast<std::uint64_t>(span.thread); at < end;
       at += kThreads) {
    to[at] = from[at];
  }
}

// What thread number `thread` does of a chunk of `task`. Bins without counts
// are not wanted.
GRADTAP_ANYWHERE void ReduceChunk(const Task& task, std::uint32_t chunk,
                                  int thread, Bins bins, Bins update_bins,
                                  Part* part) {
  const Span span = SpanOf(task, chunk, thread);
  if (task.partial < 0) return CopySpan(task, span);
  switch (task.type) {
    case Type::kFloat32:
      return ReduceSpan<Float32>(task, span, bins, update_bins, part);
    case Type::kFloat64:
      return ReduceSpan<Slow<double>>(task, span, bins, update_bins, part);
    case Type::kFloat16:
      return ReduceSpan<Float16>(task, span, bins, update_bins, part);
    case Type::kBfloat16:
      return ReduceSpan<Bfloat16>(task, span, bins, update_bins, part);
    case Type::kInt8:
      return ReduceSpan<Slow<std::int8_t>>(task, span, bins, update_bins, part);
    case Type::kInt16:
      return ReduceSpan<Slow<std::int16_t>>(task, span, bins, update_bins,
                                            part);
    case Type::kInt32:
      return ReduceSpan<Slow<std::int32_t>>(task, span, bins, update_bins,
                                            part);
    case Type::kInt64:
      return ReduceSpan<Slow<std::int64_t>>(task, span, bins, update_bins,
                                            part);
    case Type::kUint8:
      return ReduceSpan<Slow<std::uint8_t>>(task, span, bins, update_bins,
                                            part);
    case Type::kBool:
      return ReduceSpan<Boolean>(task, span, bins, update_bins, part);
  }
}

// ---- The end ----------------------------------------------------------------

// The Partials of a result that thread number `thread` merges, in order.
GRADTAP_ANYWHERE Partial GatherPartials(const Launch& launch,
                                        const Result& result, int thread) {
  Partial total;
  for (std::int64_t i = thread; i < result.chunks; i += kThreads) {
    MergeInto(&total, launch.partials[result.partial + i]);
  }
  return total;
}

GRADTAP_ANYWHERE double ScalarOf(const Partial& p) {
  if (p.finite != 0) return p.min;
  if (p.nan != 0) return BitsAs<double>(std::uint64_t{0x7ff8} << 48);
  const auto inf = BitsAs<double>(std::uint64_t{0x7ff0} << 48);
  return p.pos_inf != 0 ? inf : -inf;
}

// The columns of multiplier * x.
GRADTAP_ANYWHERE void WriteMoments(const Result& result, const Partial& p) {
  double* const out = result.moments;
  if (result.scalar != 0) {
    *out = ScalarOf(p);
    return;
  }
  const double times = result.multiplier;
  const bool negative = times < 0;
  const std::uint64_t neg_inf = result.numel - p.finite - p.nan - p.pos_inf;
  out[kFinite] = static_cast<double>(p.finite);
  out[kMean] = Bounded(p.mean * times);
  out[kDeviation] = Bounded(sqrt(p.m2) * fabs(times));
  out[kAbsMean] = Bounded(p.abs_mean * fabs(times));
  out[kMinimum] = Bounded((negative ? p.max : p.min) * times);
  out[kMaximum] = Bounded((negative ? p.min : p.max) * times);
  out[kNonZero] = static_cast<double>(result.numel - p.zero);
  out[kNan] = static_cast<double>(p.nan);
  out[kPosInf] = static_cast<double>(negative ? neg_inf : p.pos_inf);
}

// Thread number `thread`'s part of them.
GRADTAP_ANYWHERE void WriteBins(const Launch& launch, const Result& result,
                                int thread) {
  if (result.bins == nullptr) return;
  const unsigned long long* const row =
      launch.counts + result.counts * kBinsWidth;
  for (std::int64_t key = thread; key < kBinsWidth; key += kThreads) {
    result.bins[key] = static_cast<double>(row[key]);
  }
}

}  // namespace gradtap::agent::fused

#endif  // GRADTAP_AGENT_CAPTURE_FUSED_REDUCE_H_
