// Which steps a ring that fills up still takes.
//
// Of the steps that are captured every 2nd, 4th, 8th is taken while more than
// 1/2, 3/4, 7/8 of the room is used, by the step's number, so that ranks agree
// or nest; it goes back when less than 1/4, 1/2, 3/4 is. So a ring that nobody
// empties holds its first half as it came and the time after it ever thinner.
//
// What that would cost, or a full ring, is spared if it tells when something
// went wrong: of the steps with a NaN or an infinity the first few, and again
// once more tensors and scalars have one. Not all of them: a scalar that is
// always NaN, or a training that has diverged for good, would end the thinning
// and use up what is left of the ring.
//
// Layer: agent/delivery. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_THINNING_H_
#define GRADTAP_AGENT_DELIVERY_THINNING_H_

#include <cstddef>
#include <cstdint>

#include "core/step_data.h"

namespace gradtap::agent {

// [Threading] One thread at a time: the training loop's.
class Thinning {
 public:
  static constexpr int kMaxLevel = 3;
  static constexpr int kSpared = 8;

  // Of `room` bytes `used` are in use now.
  void Observe(std::uint64_t used, std::uint64_t room) noexcept;

  // Every 2^level()-th step is taken.
  int level() const noexcept { return level_; }

  // With an interval above 1 (the user's, or the budget's) only its multiples
  // have statistics: the stride is a multiple of it.
  bool Takes(const StepData& step) const noexcept;

  // Of a step that is lost else, once: true if it is kept for what is not
  // finite in it. kSpared such steps are; one with statistics that is finite
  // gives back one of them, and one with more that is not finite than any
  // before gives back all. Counts from the last time that every step was taken.
  bool Spares(const StepData& step) noexcept;

 private:
  int level_ = 0;
  int to_spare_ = kSpared;
  std::size_t most_ = 0;  // CountNonFinite() of a step, so far.
};

// How many tensors and scalars are, or have an element that is, NaN or
// infinite. Reads three counts a record.
std::size_t CountNonFinite(const StepData& step) noexcept;

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_THINNING_H_
