// The tensors of a module tree, in walking order.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_MODULE_WALK_H_
#define GRADTAP_AGENT_CAPTURE_MODULE_WALK_H_

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "core/schema.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace gradtap::agent {

// One registered name. Names and paths are as the model has them: hostile.
struct FoundTensor {
  std::string name;         // Full.
  std::string module_path;  // Empty for the root.
  std::string module_type;  // As a person writes it.
  Kind kind = Kind::kParameter;
  at::Tensor tensor;
};

// Appends what `root` and the modules below it have registered: of each module
// its parameters, its buffers, then its children. Names begin with `prefix` and
// a dot unless it is empty. A module that contains itself is entered once.
// Works for modules on the stack.
void WalkModule(const std::string& prefix, const torch::nn::Module& root,
                std::vector<FoundTensor>* found);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_MODULE_WALK_H_
