// An entry: what a roll-up keeps of one series over a run of recorded steps,
// and how entries of neighbouring runs become one.
//
// Layer: server/store/rollup. Plain data and pure functions.

#ifndef GRADTAP_SERVER_STORE_ROLLUP_ENTRY_H_
#define GRADTAP_SERVER_STORE_ROLLUP_ENTRY_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace gradtap::server {

// Of one entry; counts and offsets are 16 bits.
inline constexpr std::uint32_t kMaxRollupRun = 65535;

// Every step of the run is one of `finite`, `nonfinite` or `absent`. Offsets
// count the run's steps from 0; of equal values (0 and -0 are) the first one
// counts. What an entry does not have is as it is here.
struct RollupEntry {
  // Of the finite values, which are float32; NaN if there is none. `min` and
  // `max` are values of the series, bit for bit. `mean` is between them,
  // and of one value throughout it is that one.
  float min = std::numeric_limits<float>::quiet_NaN();
  float max = std::numeric_limits<float>::quiet_NaN();
  float mean = std::numeric_limits<float>::quiet_NaN();
  // The first value that is NaN or infinite, bit for bit.
  float first_nonfinite = 0;
  std::uint16_t finite = 0;
  std::uint16_t nonfinite = 0;
  std::uint16_t absent = 0;
  std::uint16_t min_at = 0;
  std::uint16_t max_at = 0;
  std::uint16_t nonfinite_at = 0;  // Of `first_nonfinite`.
  std::uint16_t absent_at = 0;     // Of the first absent value.

  std::uint32_t steps() const {
    return std::uint32_t{finite} + nonfinite + absent;
  }
};

// The entry of a run whose steps are those of `runs`, one after the other: the
// same, the mean's rounding aside, as from the values themselves. Means are
// weighted by `finite`, in double, and rounded once. The runs have at most
// kMaxRollupRun steps together; no run gives a default entry.
RollupEntry MergeRollups(std::span<const RollupEntry> runs);

// The entry of values one after the other, `present` having one byte a value
// (1: present) or being null if all are. At most kMaxRollupRun values. Takes 1
// to 2 ns a value: RollupSummarizer is faster and gives the same.
RollupEntry RollupOf(const float* values, const std::uint8_t* present,
                     std::size_t steps);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_ROLLUP_ENTRY_H_
