// Module types as a person would write them.
//
// Layer: agent/capture. This file: std only.

#ifndef GRADTAP_AGENT_CAPTURE_TYPE_NAME_H_
#define GRADTAP_AGENT_CAPTURE_TYPE_NAME_H_

#include <string>
#include <string_view>

namespace gradtap::agent {

// From a demangled C++ type: without torch::nn::, unnamed namespaces, the
// function that a local class stands in, template arguments and the suffix
// Impl. "torch::nn::LinearImpl" is "Linear", "(anonymous namespace)::Net" is
// "Net", "zoo::BlockImpl<64ul>" is "zoo::Block". Text that is no such type
// comes back as it is.
std::string PlainTypeName(std::string_view demangled);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_TYPE_NAME_H_
