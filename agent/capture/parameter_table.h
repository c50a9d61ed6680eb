// From what a walk found to the table that the wire carries.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_PARAMETER_TABLE_H_
#define GRADTAP_AGENT_CAPTURE_PARAMETER_TABLE_H_

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "agent/capture/module_walk.h"
#include "agent/include/gradtap/agent.h"
#include "core/name_filter.h"
#include "core/schema.h"

namespace gradtap::agent {

// Which parameters a table has, and with which roles.
struct TableRules {
  const NameFilter* filter = nullptr;   // Null: all.
  const NameFilter* sharded = nullptr;  // Null: none.
  RoleOptions roles;
  bool grad_local = false;
  // Names of parameters whose gradients cannot be recorded.
  const std::map<std::string, std::string>* without_gradients = nullptr;
};

// parameters[i] describes tensors[i].
struct TableOfTensors {
  std::vector<Parameter> parameters;
  std::vector<at::Tensor> tensors;
};

// Tied tensors (one TensorImpl, or one storage with equal offset, sizes,
// strides and dtype) of a kind become one entry: its name is the first in
// walking order that passes the filter, the others are its aliases. A tensor of
// which no name passes is left out. Names are safe and unique, also where two
// become equal by being made safe: the later one ends in "~2", "~3", ...
TableOfTensors BuildTable(std::vector<FoundTensor> found,
                          const TableRules& rules);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_PARAMETER_TABLE_H_
