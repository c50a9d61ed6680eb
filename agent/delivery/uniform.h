// Random numbers for delays.
//
// Layer: agent/delivery. This file: std.

#ifndef GRADTAP_AGENT_DELIVERY_UNIFORM_H_
#define GRADTAP_AGENT_DELIVERY_UNIFORM_H_

#include <functional>
#include <random>

namespace gradtap::agent {

// Each call of what it returns gives a number in [0, 1). [Threading] One thread
// at a time.
inline std::function<double()> MakeUniform() {
  return [random = std::mt19937_64(std::random_device{}())]() mutable {
    return std::uniform_real_distribution<double>()(random);
  };
}

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_UNIFORM_H_
