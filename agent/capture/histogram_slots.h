// The histograms of a step, in vectors that are used again.
//
// Layer: agent/capture. This file: std, core.

#ifndef GRADTAP_AGENT_CAPTURE_HISTOGRAM_SLOTS_H_
#define GRADTAP_AGENT_CAPTURE_HISTOGRAM_SLOTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/limits.h"
#include "core/record.h"
#include "core/step_data.h"

namespace gradtap::agent {

// Hands out places in a step's `histograms`, and takes them back with their
// capacity. One thread at a time.
class HistogramSlots {
 public:
  // `histograms` is StepData's, and is kept.
  explicit HistogramSlots(std::vector<HistogramData>* histograms)
      : used_(*histograms) {}

  // Empties the step. With `due`, Take() gives something until the next call.
  void Begin(bool due);

  // What Begin() said.
  bool due() const { return due_; }

  // Room for that many in all. May move what was handed out.
  void MakeRoom(std::size_t records);

  // Bins for a record; null if none are due, or kMaxStepHistograms or all for
  // which there is room are taken. Stays where it is until a call of another
  // method.
  HistogramData* Take(Role role, std::int32_t place);

  // Takes back those of a role.
  void Drop(Role role);
  // Those of them at the places p with places[p] != 0.
  void Drop(Role role, const std::vector<std::uint8_t>& places);

 private:
  template <typename Keep>
  void DropAllBut(Keep keep);

  std::vector<HistogramData>& used_;
  std::vector<HistogramData> spare_;  // The next one to use is the last.
  bool due_ = false;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_HISTOGRAM_SLOTS_H_
