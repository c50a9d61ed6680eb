// Which steps a ring that fills up still takes.
//
// Of the steps that are captured every 2nd, 4th, 8th is taken while more than
// 1/2, 3/4, 7/8 of the room is used, by the step's number, so that ranks agree
// or nest; it goes back when less than 1/4, 1/2, 3/4 is. So a ring that nobody
// empties holds its first half as it came and the time after it ever thinner.
//
// Layer: agent/delivery. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_THINNING_H_
#define GRADTAP_AGENT_DELIVERY_THINNING_H_

#include <cstdint>

#include "core/step_data.h"

namespace gradtap::agent {

// [Threading] One thread at a time: the training loop's.
class Thinning {
 public:
  static constexpr int kMaxLevel = 3;

  // Of `room` bytes `used` are in use now.
  void Observe(std::uint64_t used, std::uint64_t room) noexcept;

  // Every 2^level()-th step is taken.
  int level() const noexcept { return level_; }

  // With an interval above 1 (the user's, or the budget's) only its multiples
  // have statistics: the stride is a multiple of it.
  bool Takes(const StepData& step) const noexcept;

 private:
  int level_ = 0;
};

// True if an element of a tensor, or a scalar, is NaN or infinite. Reads three
// counts a record: for steps that would be lost else.
bool HasNonFinite(const StepData& step) noexcept;

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_THINNING_H_
