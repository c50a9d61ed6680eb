// Whether a peer's answers are right, before anything is timed.
//
// Layer: tests; std only. Errors are std::runtime_error.

#ifndef GRADTAP_TESTS_BENCH_PEERS_CHECK_H_
#define GRADTAP_TESTS_BENCH_PEERS_CHECK_H_

#include <cstdint>
#include <string>

#include "bench/peers/data_set.h"
#include "bench/peers/peer.h"

namespace gradtap::bench {

// Values that were looked at, and those whose float32 was not the one that was
// sent, though near.
struct CheckCounts {
  std::uint64_t values = 0;
  std::uint64_t inexact = 0;
  double largest_error = 0;  // Relative.
  // Answers that were wrong: the first time, and the second time, too.
  std::uint64_t asked_again = 0;
  std::uint64_t wrong_answers = 0;
};

// Throws when an answer is wrong: a value is missing, or further than 1e-6 from
// the one that was sent. Of a series from a store with buckets of its own each
// point must be one that was sent, and the extremes over all steps among them.
void Check(const DataSet& data, const Question& question, const Answer& answer,
           const std::string& who, CheckCounts* counts);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_PEERS_CHECK_H_
