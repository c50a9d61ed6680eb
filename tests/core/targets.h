// Runs kernels under every instruction set that this machine has.

#ifndef GRADTAP_TESTS_CORE_TARGETS_H_
#define GRADTAP_TESTS_CORE_TARGETS_H_

#include <cstdint>
#include <vector>

#include "hwy/targets.h"

namespace gradtap::testing {

// The best one first, down to the one without vectors.
inline std::vector<std::int64_t> AllTargets() {
  std::vector<std::int64_t> all = hwy::SupportedAndGeneratedTargets();
  const std::int64_t fallback = HWY_STATIC_TARGET;
  if (all.empty() || all.back() != fallback) all.push_back(fallback);
  return all;
}

// While it lives, the kernels run under `target`. One at a time.
class UseTarget {
 public:
  explicit UseTarget(std::int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
  }
  ~UseTarget() {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  UseTarget(const UseTarget&) = delete;
  UseTarget& operator=(const UseTarget&) = delete;
};

// Calls `f` under each target.
template <typename F>
void ForEachTarget(F&& f) {
  for (const std::int64_t target : AllTargets()) {
    const UseTarget use(target);
    f(hwy::TargetName(target));
  }
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_CORE_TARGETS_H_
