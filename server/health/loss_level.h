// A scalar against its own running level: LOSS_SPIKE.
//
// Layer: server/health. This file: std, gradtap_proto. One thread at a time.

#ifndef GRADTAP_SERVER_HEALTH_LOSS_LEVEL_H_
#define GRADTAP_SERVER_HEALTH_LOSS_LEVEL_H_

#include <cstdint>

#include "gradtap/v1/health_state.pb.h"
#include "gradtap/v1/rules.pb.h"

namespace gradtap::server {

// A mean of values, and of their distances from it. A value moves either by no
// more than three such distances.
class LossLevel {
 public:
  // Returns whether the value, which is finite, breaks the rule: so many in a
  // row are above limit().
  bool Look(const v1::RulesFile& rules, double value);
  // That the newest value was held against.
  double limit() const { return limit_; }

  void Save(v1::StreamHealthState* state) const;
  void Load(const v1::StreamHealthState& state);

 private:
  double level_ = 0;
  double spread_ = 0;
  std::uint32_t seen_ = 0;
  std::uint32_t row_ = 0;
  double limit_ = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_LOSS_LEVEL_H_
