// The one unit that includes torch/optim/optimizer.h.

#include <torch/optim/optimizer.h>

#include "agent/capture/capture.h"

namespace gradtap::agent {

void CallOptimizerStep(torch::optim::Optimizer& optimizer) { optimizer.step(); }

}  // namespace gradtap::agent
