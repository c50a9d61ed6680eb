#include "bench/race.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstring>
#include <map>
#include <random>
#include <thread>

namespace gradtap::bench {
namespace {

// One element from a number about -1 to 1 and random bits.
void Put(Dtype dtype, double x, std::uint64_t bits, char* to) {
  const auto put = [to](auto value) { std::memcpy(to, &value, sizeof(value)); };
  switch (dtype) {
    case Dtype::kFloat32:
      return put(static_cast<float>(x));
    case Dtype::kFloat64:
      return put(x);
    case Dtype::kFloat16:  // Exponents below 15: less than 2.
      return put(static_cast<std::uint16_t>(bits & 0xbfff));
    case Dtype::kBfloat16: {
      const auto narrow = static_cast<float>(x);
      std::uint32_t wide;
      std::memcpy(&wide, &narrow, sizeof(wide));
      return put(static_cast<std::uint16_t>(wide >> 16));
    }
    case Dtype::kComplex64:
      return put(std::complex<float>(static_cast<float>(x), 0.5f));
    case Dtype::kBool:
      return put(static_cast<std::uint8_t>(bits & 1));
    default:
      std::memcpy(to, &bits, DtypeSize(dtype));
  }
}

double Seconds(Clock clock) {
  timespec now{};
  clock_gettime(
      clock == Clock::kWall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

double Median(std::vector<double> all) {
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

}  // namespace

Memory::Memory(Dtype dtype, std::int64_t numel, std::uint64_t seed)
    : dtype_(dtype), numel_(numel) {
  const std::size_t size = DtypeSize(dtype);
  const std::size_t needed = static_cast<std::size_t>(numel) * size;
  bytes_ = std::max<std::size_t>((needed + 511) / 512 * 512, 512);
  data_ = static_cast<char*>(std::aligned_alloc(64, bytes_));
  // A period that no cache of one core holds twice is random enough.
  const std::size_t period = std::min<std::size_t>(bytes_ / size, 1 << 20);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, 0.3);
  for (std::size_t i = 0; i < period; ++i) {
    Put(dtype, normal(random), random(), data_ + i * size);
  }
  for (std::size_t at = period * size; at < bytes_; at += period * size) {
    std::memcpy(data_ + at, data_, std::min(period * size, bytes_ - at));
  }
}

void Race(benchmark::State& state, Clock clock,
          const std::function<void()>& ours, const std::vector<Rival>& rivals,
          std::int64_t lot, bool settle) {
  std::vector<const std::function<void()>*> runs = {&ours};
  for (const Rival& rival : rivals) runs.push_back(&rival.run);
  std::vector<std::vector<double>> times(runs.size());
  const auto time = [&](std::size_t i) {
    if (settle) (*runs[i])();
    const double start = Seconds(clock);
    for (std::int64_t k = 0; k < lot; ++k) (*runs[i])();
    const double seconds = (Seconds(clock) - start) / static_cast<double>(lot);
    times[i].push_back(seconds);
  };
  for (const auto* run : runs) (*run)();  // Pages and caches.
  for (auto _ : state) {
    for (std::size_t i = 0; i < runs.size(); ++i) time(i);
    for (std::size_t i = runs.size(); i-- > 0;) time(i);
    const double own = times[0].end()[-1] + times[0].end()[-2];
    state.SetIterationTime(own / 2);
  }
  std::map<std::string, double> best;
  for (std::size_t i = 0; i < rivals.size(); ++i) {
    const double ratio =
        Median(times[i + 1]) / Median(times[0]) * rivals[i].factor;
    const auto [at, added] = best.try_emplace(rivals[i].counter, ratio);
    if (!added) at->second = std::min(at->second, ratio);
  }
  for (const auto& [name, ratio] : best) state.counters[name] = ratio;
}

void OnThreads(int threads, const std::function<void(int)>& f) {
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(f, i);
  f(0);
  for (std::thread& thread : others) thread.join();
}

}  // namespace gradtap::bench
