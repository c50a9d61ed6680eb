// What a host program loads at run time: LibTorch, the agent and a training
// run. The agent's library lies in nobody's link line but this one's.

#include <cstdint>
#include <functional>
#include <string>

#include "integration/coexist_agent.h"

extern "C" [[gnu::visibility("default")]] void TrainInPlugin(
    const std::string& collector, const std::string& run, std::int64_t steps,
    const std::function<void()>& each_step,
    const std::function<void(std::int64_t)>& in_optimizer,
    gradtap::testing::TrainedRun* trained) {
  *trained = gradtap::testing::TrainWithAgent(collector, run, steps, each_step,
                                              in_optimizer);
}
