// A training run with the agent, behind std types: its file sees torch, its
// callers see gRPC.

#ifndef GRADTAP_TESTS_INTEGRATION_COEXIST_AGENT_H_
#define GRADTAP_TESTS_INTEGRATION_COEXIST_AGENT_H_

#include <cstdint>
#include <functional>
#include <string>

namespace gradtap::testing {

struct TrainedRun {
  std::uint64_t seen = 0, recorded = 0, skipped = 0, lost = 0, acknowledged = 0;
  bool delivered = false;
};

// Trains a small model for `steps` steps and delivers everything. `each_step`
// is called after each. `handwritten`: by an optimizer that is not LibTorch's.
TrainedRun TrainWithAgent(const std::string& collector, const std::string& run,
                          std::int64_t steps,
                          const std::function<void()>& each_step = {},
                          bool handwritten = false);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_COEXIST_AGENT_H_
