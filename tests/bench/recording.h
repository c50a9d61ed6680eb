// A recorded run, or one made up: the statistics of every step, by role.

#ifndef GRADTAP_TESTS_BENCH_RECORDING_H_
#define GRADTAP_TESTS_BENCH_RECORDING_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/store/tile/tile.h"

namespace gradtap::bench {

inline constexpr std::array<const char*, 5> kFieldNames = {
    "mean", "std", "abs_mean", "min", "max"};

// Of one role: field f of parameter p at step t is
// values[(t * parameters + p) * 5 + f].
struct RecordedRole {
  std::string name;
  std::size_t parameters = 0;
  std::vector<float> values;
};

struct Recording {
  std::string name;
  std::size_t steps = 0;
  std::vector<RecordedRole> roles;  // weight, grad, update, buffer.

  const RecordedRole* Find(const std::string& role) const;
};

// Reads NAME.f32 and NAME.txt: float32, one row a step; in it for each
// parameter, which is a line of the .txt, weight, grad and update with the five
// fields each; then, for each line that begins with "buffer", that one's five.
// Empty (no step) if there are no such files.
Recording ReadRecording(const std::string& folder, const std::string& name);

// A seeded random walk with the three roles of a parameter, for a short run.
Recording MadeUpRecording(std::size_t parameters, std::size_t steps);

// Field `field` of the parameters from `parameter` on and the steps from `step`
// on, as many of each as there are.
server::FloatBlock BlockOf(const Recording& recording, const RecordedRole& role,
                           int field, std::size_t parameter,
                           std::size_t parameters, std::size_t step,
                           std::size_t steps);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_RECORDING_H_
