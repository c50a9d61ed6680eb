// Ratios of times that a busy machine does not spoil: the rivals run by turns,
// in both directions (A B B A), and the medians of their times are compared.

#ifndef GRADTAP_TESTS_BENCH_RACE_H_
#define GRADTAP_TESTS_BENCH_RACE_H_

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "core/kernel.h"

namespace gradtap::bench {

// Memory of our own, aligned as LibTorch aligns it: 64 bytes.
class Memory {
 public:
  // Of `numel` elements about -1 to 1, all finite, normally distributed where
  // the type allows it; at least 512 bytes, in whole lots of 512.
  Memory(Dtype dtype, std::int64_t numel, std::uint64_t seed);
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  char* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  // One dimension.
  TensorView View() const { return {data_, dtype_, 1, &numel_, &stride_}; }

 private:
  const Dtype dtype_;
  const std::int64_t numel_;
  const std::int64_t stride_ = 1;
  std::size_t bytes_;
  char* data_;
};

// Which clock: time of the calling thread alone, or time that passed.
enum class Clock { kThread, kWall };

// One to be compared with. Of several of one name the fastest counts.
struct Rival {
  std::string counter;  // Its time over ours, times `factor`.
  std::function<void()> run;
  double factor = 1;
};

// Races `ours` against `rivals` and sets their counters. The time that the
// benchmark shows is ours. Short calls are timed in lots of about `lot` calls.
// `settle`: each runs once untimed before it is timed, so that it does not pay
// for what the one before has unmapped (a virtual machine may have to make its
// page tables anew).
void Race(benchmark::State& state, Clock clock,
          const std::function<void()>& ours, const std::vector<Rival>& rivals,
          std::int64_t lot, bool settle = false);

// How many calls on `numel` elements make a lot.
inline std::int64_t LotOf(std::int64_t numel) {
  return numel >= 1 << 18 ? 1 : (1 << 18) / numel;
}

// Calls f(0) to f(threads - 1), each on a thread.
void OnThreads(int threads, const std::function<void(int)>& f);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_RACE_H_
