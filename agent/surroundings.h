// What an agent takes from the machine it runs on.
//
// surroundings.cc defines it for the library; a test binary links a definition
// of its own.
//
// Layer: agent. This file: std, core; interfaces only.

#ifndef GRADTAP_AGENT_SURROUNDINGS_H_
#define GRADTAP_AGENT_SURROUNDINGS_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "agent/capture/capture.h"
#include "agent/delivery/delivery.h"
#include "agent/options.h"
#include "agent/step_times.h"
#include "core/clock.h"

namespace gradtap::agent {

struct Surroundings {
  const Clock* clock = nullptr;  // Never destroyed.
  // CPU time of the calling thread.
  StepTimes::ThreadCpu thread_cpu_nanos = nullptr;
  Environment environment;
  ProcessFacts process;
  std::function<absl::StatusOr<std::unique_ptr<Delivery>>(DeliveryOptions)>
      make_delivery;
  // What becomes of the capture, for tests. Null: it is used as it is.
  std::function<std::unique_ptr<Capture>(std::unique_ptr<Capture>)>
      adapt_capture;
};

Surroundings GetSurroundings();

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SURROUNDINGS_H_
