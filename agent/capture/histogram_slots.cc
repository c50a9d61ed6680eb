#include "agent/capture/histogram_slots.h"

#include <algorithm>
#include <utility>

namespace gradtap::agent {

void HistogramSlots::Begin(bool due) {
  // Backwards, so that each record meets the vectors it had.
  while (!used_.empty()) {
    spare_.push_back(std::move(used_.back()));
    used_.pop_back();
  }
  due_ = due;
}

void HistogramSlots::MakeRoom(std::size_t records) {
  if (!due_) return;
  records = std::min(records, kMaxStepHistograms);
  used_.reserve(records);
  spare_.reserve(records);
}

HistogramData* HistogramSlots::Take(Role role, std::int32_t place) {
  if (!due_ || place < 0 || used_.size() >= kMaxStepHistograms ||
      used_.size() == used_.capacity()) {
    return nullptr;
  }
  if (spare_.empty()) {
    used_.emplace_back();
  } else {
    used_.push_back(std::move(spare_.back()));
    spare_.pop_back();
  }
  HistogramData& taken = used_.back();
  taken.role = role;
  taken.place = static_cast<std::uint32_t>(place);
  taken.bin.clear();
  taken.count.clear();
  return &taken;
}

template <typename Keep>
void HistogramSlots::DropAllBut(Keep keep) {
  const auto kept = std::stable_partition(used_.begin(), used_.end(), keep);
  for (auto it = used_.end(); it != kept; --it) {
    spare_.push_back(std::move(*(it - 1)));
  }
  used_.erase(kept, used_.end());
}

void HistogramSlots::Drop(Role role) {
  DropAllBut([&](const HistogramData& h) { return h.role != role; });
}

void HistogramSlots::Drop(Role role, const std::vector<std::uint8_t>& places) {
  DropAllBut([&](const HistogramData& h) {
    return h.role != role || places[h.place] == 0;
  });
}

}  // namespace gradtap::agent
