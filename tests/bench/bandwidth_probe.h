// How fast this machine reads memory, and reads two arrays of which it writes
// one: what the kernels are held against.
//
// Strong ones, with the widest vectors of the machine and eight accumulators:
// each comes in three ways, of which the fastest counts.

#ifndef GRADTAP_TESTS_BENCH_BANDWIDTH_PROBE_H_
#define GRADTAP_TESTS_BENCH_BANDWIDTH_PROBE_H_

#include <cstddef>
#include <cstdint>

namespace gradtap::bench {

inline constexpr int kProbeWays = 3;

// Adds up all words. `bytes` is a multiple of 512, `data` is aligned to 64.
std::uint64_t ReadAll(int way, const char* data, std::size_t bytes);

// Adds up the differences of all words and copies `from` to `to`.
std::uint64_t ReadBothWriteOne(int way, const char* from, char* to,
                               std::size_t bytes);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_BANDWIDTH_PROBE_H_
