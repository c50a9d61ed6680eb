// Limits that agent and collector share: what one lets through, the other
// takes.
//
// Layer: core.

#ifndef GRADTAP_CORE_LIMITS_H_
#define GRADTAP_CORE_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace gradtap {

// Steps are 0 to this: room for a counter's next step, and for any sum of it
// with an interval.
inline constexpr std::int64_t kMaxStep = std::int64_t{1} << 62;

// Scalars of one step, the agent's own included.
inline constexpr std::size_t kMaxStepScalars = 1024;

// The agent's own: what a step cost, loss_scale and up to 16 learning rates.
// The rest is room for what later versions add.
inline constexpr std::size_t kAgentScalars = 24;

// Optimizers that a schema names.
inline constexpr std::size_t kMaxSchemaOptimizers = 64;

// Histograms of one step: one for each record of 100,000 parameters and more.
inline constexpr std::size_t kMaxStepHistograms = 1'000'000;

}  // namespace gradtap

#endif  // GRADTAP_CORE_LIMITS_H_
