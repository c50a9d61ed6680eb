// What a program hands in that holds a tensor. Compiled into the library's own
// objects, which export it, and into gradtap_capture, whose tests have no other
// part of the agent.

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>

#include "agent/include/gradtap/agent.h"

namespace gradtap {

Scalar::Scalar(std::string name, const at::Tensor& tensor)
    : name_(std::move(name)),
      tensor_(std::make_shared<const at::Tensor>(tensor)) {}

NamedTensor::NamedTensor(std::string name, const at::Tensor& tensor,
                         bool buffer)
    : name_(std::move(name)),
      tensor_(std::make_shared<const at::Tensor>(tensor)),
      buffer_(buffer) {}

}  // namespace gradtap
