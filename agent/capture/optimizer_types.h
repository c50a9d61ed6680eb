// Of which types a loop's optimizers are.
//
// Layer: agent/capture. This file: std only.

#ifndef GRADTAP_AGENT_CAPTURE_OPTIMIZER_TYPES_H_
#define GRADTAP_AGENT_CAPTURE_OPTIMIZER_TYPES_H_

#include <array>
#include <cstddef>
#include <string>
#include <typeinfo>
#include <vector>

namespace gradtap::agent {

// [Threading] One thread at a time: the training loop's.
class OptimizerTypes {
 public:
  // Further types are not told apart from none.
  static constexpr std::size_t kMax = 16;

  // True if names() has grown. A type that has been noted is found by its
  // address: no allocation, and nothing of it is read.
  bool Note(const std::type_info& type);

  // As PlainTypeName() has them, in the order in which they came.
  const std::vector<std::string>& names() const { return names_; }

 private:
  // Two libraries may each have their own of one type: both are here.
  std::array<const std::type_info*, kMax> known_{};
  std::size_t count_ = 0;
  std::vector<std::string> names_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_OPTIMIZER_TYPES_H_
