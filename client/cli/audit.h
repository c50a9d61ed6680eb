// What capture costs, from a run that took turns: blocks of steps with it and
// blocks without.
//
// Each block gets a location of its step times. Each block with capture is
// compared with the mean of the blocks without before and after it, so that
// what drifts slowly (clocks, caches, a growing sequence) cancels. The mean of
// these differences is the cost, and Student's t gives its interval.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_AUDIT_H_
#define GRADTAP_CLIENT_CLI_AUDIT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gradtap::client {

struct AuditStep {
  enum class Kind : std::uint8_t {
    kWith,     // Of a block with capture.
    kWithout,  // Of one without.
    kNeither,  // Belongs to the block around it, but its time says nothing.
  };
  std::int64_t step = 0;
  std::uint32_t attempt = 0;
  Kind kind = Kind::kNeither;
  double seconds = 0;          // Wall time of the step. Finite, not negative.
  double capture_seconds = 0;  // The agent's own part of it, as it says.
};

struct AuditResult {
  std::size_t block_steps = 0;  // Steps of a whole block; 0: there is none.
  // Blocks with capture that have both neighbours. The estimate is of these.
  std::size_t comparisons = 0;
  // Blocks and steps that took part, the first ones of each block apart.
  std::size_t with_blocks = 0;
  std::size_t without_blocks = 0;
  std::uint64_t with_steps = 0;
  std::uint64_t without_steps = 0;
  // Means over those blocks, in seconds a step. NaN without a comparison.
  double with_seconds = 0;
  double without_seconds = 0;
  double own_seconds = 0;  // Of capture_seconds: with less without.
  double difference_seconds = 0;
  // 95 % interval of the difference; NaN with fewer than two comparisons.
  double lower_seconds = 0;
  double upper_seconds = 0;
};

// Comparisons below which an interval says too little.
inline constexpr std::size_t kFewestComparisons = 3;

// `steps` rise within an attempt, and attempts rise. A missing step ends its
// block; a piece of a block counts if it is at least half of one.
AuditResult Audit(const std::vector<AuditStep>& steps);

// The first steps of a block, whose times are left out: caches are filled anew,
// and a part of the time of one step may be told with the next. What the agent
// says of itself counts there, too.
std::size_t DroppedSteps(std::size_t block_steps);

// t with P(|T| <= t) = `confidence` for Student's distribution with
// `freedom` > 0 degrees, which need not be whole. `confidence` in (0, 1).
double StudentQuantile(double confidence, double freedom);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_AUDIT_H_
