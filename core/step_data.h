// One step's records in memory, before they are encoded.
//
// Layer: core.

#ifndef GRADTAP_CORE_STEP_DATA_H_
#define GRADTAP_CORE_STEP_DATA_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/record.h"

namespace gradtap {

// Values are the wire's (gradtap.v1.GapCause).
enum class GapCause : std::uint8_t {
  kUnspecified = 0,
  kInterval = 1,
  kBudget = 2,
  kLoop = 3,
  kOptimizerThrew = 4,
  kAudit = 5,
  kRingFull = 16,
  kSpoolFull = 17,
  kThinned = 18,
  kIoError = 19,
  kUnsupported = 20,
  kCaptureError = 21,
  kFork = 22,
  kRejected = 23,
  kShutdown = 24,
  kProcessDied = 25,
  kRunDeleted = 26,
  kRolledUp = 64,  // Neither skipped nor lost; a collector's word alone.
};

// True for LOST, false for SKIPPED and for what is left of a step as roll-ups.
inline bool IsLost(GapCause cause) {
  return static_cast<int>(cause) >= static_cast<int>(GapCause::kRingFull) &&
         cause != GapCause::kRolledUp;
}

// Columns of one role: structure of arrays, one place per parameter that has
// the role. Resize() once for a schema, then Set() or SetAbsent() every place
// at every step: nothing is allocated after the first step.
struct RoleColumns {
  Role role = Role::kUnspecified;
  std::vector<float> mean, std, abs_mean, min, max;
  std::vector<std::uint64_t> zero, nan, pos_inf, neg_inf;
  std::vector<std::uint8_t> absent;  // 1: absent. One byte a place.

  std::size_t size() const { return mean.size(); }

  void Resize(std::size_t n) {
    for (auto* column : {&mean, &std, &abs_mean, &min, &max}) column->resize(n);
    for (auto* column : {&zero, &nan, &pos_inf, &neg_inf}) column->resize(n);
    absent.resize(n);
  }

  void Set(std::size_t place, const Record& r) {
    mean[place] = r.mean;
    std[place] = r.std;
    abs_mean[place] = r.abs_mean;
    min[place] = r.min;
    max[place] = r.max;
    zero[place] = r.zero;
    nan[place] = r.nan;
    pos_inf[place] = r.pos_inf;
    neg_inf[place] = r.neg_inf;
    absent[place] = 0;
  }

  void SetAbsent(std::size_t place) {
    Set(place, Record{});
    absent[place] = 1;
  }

  // The record at a place; meaningless if it is absent.
  Record Get(std::size_t place) const {
    return {mean[place], std[place], abs_mean[place], min[place],    max[place],
            zero[place], nan[place], pos_inf[place],  neg_inf[place]};
  }
};

struct ScalarValue {
  std::string name;  // Safe (SafeName).
  double value = 0;
};

// Bins as of gradtap.v1.Histogram: absolute, ascending.
struct HistogramData {
  Role role = Role::kUnspecified;
  std::uint32_t place = 0;
  std::vector<std::uint32_t> bin;
  std::vector<std::uint64_t> count;
};

struct StepData {
  std::int64_t step = 0;
  std::int64_t wall_time_unix_ns = 0;
  std::uint32_t schema_id = 0;
  std::uint32_t interval_steps = 1;
  std::vector<RoleColumns> roles;  // Empty for a skipped step.
  std::vector<ScalarValue> scalars;
  std::vector<HistogramData> histograms;
  GapCause skipped = GapCause::kUnspecified;
  // With `skipped`: why, for people. Safe (SafeName), or empty.
  std::string skipped_detail;
};

struct GapData {
  GapCause cause = GapCause::kUnspecified;
  std::int64_t first_step = 0;
  std::int64_t last_step = 0;  // Inclusive.
  std::uint64_t steps = 0;
  std::string detail;
};

struct RollbackData {
  std::int64_t step = 0;
  std::uint32_t branch = 0;
};

enum class EndReason : std::uint8_t {
  kUnspecified = 0,
  kFinished = 1,
  kStopped = 2,
};

struct EndData {
  EndReason reason = EndReason::kUnspecified;
  std::int64_t wall_time_unix_ns = 0;
  std::uint64_t steps_seen = 0;
  std::uint64_t steps_recorded = 0;
  std::uint64_t steps_skipped = 0;
  std::uint64_t steps_lost = 0;
};

}  // namespace gradtap

#endif  // GRADTAP_CORE_STEP_DATA_H_
