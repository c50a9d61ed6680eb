// The record: the stored statistics of one tensor, and what is derived from it.
//
// Over the finite elements x of a tensor: mean, population standard deviation,
// mean of |x|, min and max, accumulated in double and rounded once to float32;
// and over all elements the counts of zeros, NaNs and signed infinities. All
// else is derived when asked, in double. core/README.md has the formulas, the
// bounds and their sources.
//
// Layer: core. Everything here is a pure function; any thread may call it.

#ifndef GRADTAP_CORE_RECORD_H_
#define GRADTAP_CORE_RECORD_H_

#include <cstdint>
#include <limits>

namespace gradtap {

// Which tensor of a parameter a record describes. Values are the wire's
// (gradtap.v1.Role) and never change.
enum class Role : std::uint8_t {
  kUnspecified = 0,
  kWeight = 1,
  kGrad = 2,
  kGradLocal = 3,
  kUpdate = 4,
  kBuffer = 5,
};
inline constexpr int kRoleCount = 6;  // Including kUnspecified.

// One stored record. If the tensor has no finite element, the five floats are
// NaN. A value that exceeds float32 saturates at its largest finite value.
struct Record {
  float mean = std::numeric_limits<float>::quiet_NaN();
  float std = std::numeric_limits<float>::quiet_NaN();  // Population.
  float abs_mean = std::numeric_limits<float>::quiet_NaN();
  float min = std::numeric_limits<float>::quiet_NaN();
  float max = std::numeric_limits<float>::quiet_NaN();
  std::uint64_t zero = 0;
  std::uint64_t nan = 0;
  std::uint64_t pos_inf = 0;
  std::uint64_t neg_inf = 0;
};

// What a reduction accumulates, in double, over `finite` elements. Identity of
// Merge(): a default-constructed value.
struct Moments {
  std::uint64_t finite = 0;
  double mean = 0;
  double m2 = 0;  // Sum of squared deviations from the mean.
  double abs_mean = 0;
  double min = std::numeric_limits<double>::infinity();
  double max = -std::numeric_limits<double>::infinity();
  std::uint64_t zero = 0;
  std::uint64_t nan = 0;
  std::uint64_t pos_inf = 0;
  std::uint64_t neg_inf = 0;

  std::uint64_t numel() const { return finite + nan + pos_inf + neg_inf; }
};

// Pairwise merge (Chan, Golub, LeVeque 1979): the moments of both sets taken
// together. Commutative up to rounding; the identity leaves the other as it is.
Moments Merge(const Moments& a, const Moments& b);

// Rounds to a record: floats rounded to nearest once, saturated, NaN when
// nothing is finite.
Record ToRecord(const Moments& moments);

// The moments that a stored record stands for. `numel` is the tensor's; counts
// that exceed it are taken as they are and leave no finite element.
Moments ToMoments(const Record& record, std::uint64_t numel);

}  // namespace gradtap

#endif  // GRADTAP_CORE_RECORD_H_
