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
// is called after each. `in_optimizer`, if there is one: the optimizer is not
// LibTorch's, and its step calls this first, with the loop's step; what it
// throws goes through the agent and comes out of here, when the steps before it
// are delivered.
TrainedRun TrainWithAgent(
    const std::string& collector, const std::string& run, std::int64_t steps,
    const std::function<void()>& each_step = {},
    const std::function<void(std::int64_t step)>& in_optimizer = {});

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_COEXIST_AGENT_H_
