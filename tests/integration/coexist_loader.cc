// TrainWithAgent() of a program that links neither LibTorch nor the agent: each
// call loads them by dlopen, for itself alone, and lets them go again, also
// when it is left by an exception.

#include <dlfcn.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "integration/coexist_agent.h"

namespace gradtap::testing {

TrainedRun TrainWithAgent(
    const std::string& collector, const std::string& run, std::int64_t steps,
    const std::function<void()>& each_step,
    const std::function<void(std::int64_t step)>& in_optimizer) {
  const std::unique_ptr<void, int (*)(void*)> plugin(
      ::dlopen(PLUGIN_PATH, RTLD_NOW | RTLD_LOCAL), &::dlclose);
  if (plugin == nullptr) throw std::runtime_error(::dlerror());
  using Train = void (*)(const std::string&, const std::string&, std::int64_t,
                         const std::function<void()>&,
                         const std::function<void(std::int64_t)>&, TrainedRun*);
  const auto train =
      reinterpret_cast<Train>(::dlsym(plugin.get(), "TrainInPlugin"));
  if (train == nullptr) throw std::runtime_error(::dlerror());
  TrainedRun trained;
  train(collector, run, steps, each_step, in_optimizer, &trained);
  return trained;
}

}  // namespace gradtap::testing
