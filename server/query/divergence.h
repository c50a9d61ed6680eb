// From which step on a series has left another, beyond the noise of the good
// one.
//
// Both are taken at the steps that both have. With a and b the magnitudes of
// the good run's and of the other's value, d = ln(b / a) is how far they are
// apart. Two runs that differ by chance alone scatter around each other by
// sqrt(2) times what one scatters around its own course:
//
//   noise = sqrt(2) * 1.4826 * median |ln a_i - m_i| * (1 + 8 / n)
//
// over the n <= 64 newest a_i in whole blocks of 16, with m_i the median of the
// block of a_i: a course that changes within four blocks is no noise. 1.4826
// makes the median deviation that of a normal distribution; the last factor is
// for how little few values tell. It is known anew after each block.
//
// A step is *beyond* if |d| > max(factor * noise, 0.01), or if one value is
// non-finite, zero or absent and the other is not. Both non-finite, zero or
// absent: not beyond. The series diverges at the first of `in_a_row` compared
// steps in a row that are beyond.
//
// The first steps are judged by the noise of the first 32 values, once they
// are there (at the end: by that of fewer, at least 8). With less the noise is
// not known, and only what has no logarithm is told apart.
//
// Layer: server/query. This file: std. Not thread-safe. About 600 bytes each.

#ifndef GRADTAP_SERVER_QUERY_DIVERGENCE_H_
#define GRADTAP_SERVER_QUERY_DIVERGENCE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "server/query/sample.h"

namespace gradtap::server {

struct DivergenceOptions {
  double factor = 5;           // Times the noise.
  std::uint32_t in_a_row = 5;  // Compared steps.
};

class Divergence {
 public:
  // Steps rise. `nonfinite` of a sample makes it non-finite.
  void Add(const DivergenceOptions& options, std::int64_t step,
           const Sample& good, const Sample& other);
  // Judges what still waits for more values. Before anything below is asked.
  void Finish(const DivergenceOptions& options);

  // Nothing: they have not diverged.
  std::optional<std::int64_t> first_step() const { return first_step_; }
  std::uint64_t compared() const { return compared_; }
  std::uint64_t beyond() const { return beyond_; }
  // The median of log2(b / a) over the newest 16 steps that have one; NaN: none
  // has. The noise in the same unit, as it was last known; NaN: never.
  double log2_ratio() const;
  double noise_log2() const;
  // At the last compared step.
  std::int64_t last_step() const { return last_step_; }
  const Sample& last_good() const { return last_good_; }
  const Sample& last_other() const { return last_other_; }
  // There one was non-finite, zero or absent, and the other was not.
  bool apart() const { return apart_; }
  // There one was non-finite, and the other was not.
  bool apart_by_nonfinite() const;

 private:
  static constexpr std::size_t kBlock = 16;
  static constexpr std::size_t kWindow = 64;
  static constexpr std::size_t kFirstNoise = 32;
  static constexpr std::size_t kLeastNoise = 8;
  static constexpr std::size_t kMostWaiting = 64;

  struct Waiting {
    std::int64_t step;
    float d;
    bool apart;
  };

  void AddGood(float log_good);
  void EndBlock();
  void Settle(const DivergenceOptions& options);
  void Judge(const DivergenceOptions& options, const Waiting& step);

  std::array<float, kBlock> block_{};        // ln a of the block begun.
  std::array<float, kWindow> deviations_{};  // Of the newest whole blocks.
  std::array<float, kBlock> recent_{};       // The newest d.
  std::vector<Waiting> waiting_;
  Sample last_good_;
  Sample last_other_;
  std::int64_t last_step_ = -1;
  std::optional<std::int64_t> first_step_;
  std::int64_t streak_step_ = 0;
  std::uint64_t compared_ = 0;
  std::uint64_t beyond_ = 0;
  std::uint64_t ratios_ = 0;  // Ever put into recent_.
  float noise_ = std::numeric_limits<float>::quiet_NaN();
  std::uint32_t streak_ = 0;
  std::uint32_t in_block_ = 0;
  std::uint32_t in_window_ = 0;
  std::uint32_t next_deviation_ = 0;
  bool settled_ = false;
  bool apart_ = false;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_DIVERGENCE_H_
