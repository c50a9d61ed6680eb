// The public header must stand alone as C++17 without a warning, and without
// torch: this file is compiled, not run.

#include <gradtap/agent.h>

#ifdef TORCH_VERSION_MAJOR
#error "the public header includes torch"
#endif

// In it more than once, as programs have it.
#include <gradtap/agent.h>

namespace {

// What needs no torch can be used without it.
[[maybe_unused]] std::string Use(gradtap::Agent& tap) {
  gradtap::AgentOptions options;
  options.run = "alone";
  tap.AfterOptimizerStep({{"loss", 0.5}, {"epoch", 3}});
  tap.SetLossScale(1024);
  tap.StepSkipped("why");
  return tap.status().run + gradtap::ParameterTable().ToString();
}

}  // namespace
