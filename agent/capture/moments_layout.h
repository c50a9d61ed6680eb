// Where the results of one tensor stand in the doubles that a device writes,
// for whatever writes them.
//
// Plain C++17: nvcc reads it too.
//
// Layer: agent/capture. This file: std alone.

#ifndef GRADTAP_AGENT_CAPTURE_MOMENTS_LAYOUT_H_
#define GRADTAP_AGENT_CAPTURE_MOMENTS_LAYOUT_H_

#include <cstdint>

namespace gradtap::agent {

// Of n elements: a double each.
enum Column : std::int64_t {
  kFinite,     // How many.
  kMean,       // Of the finite ones, as all up to kMaximum.
  kDeviation,  // Euclidean norm of x - mean.
  kAbsMean,
  kMinimum,
  kMaximum,
  kNonZero,  // How many, NaN included.
  kNan,
  kPosInf,
};
inline constexpr std::int64_t kMomentsWidth = kPosInf + 1;

// Bins, a double each, by key: a double's exponent as float32's, 0 (subnormal)
// to 254, of a positive value; 255 more if negative; and four beyond.
inline constexpr std::int64_t kKeyNegative = 255;
inline constexpr std::int64_t kKeyZero = 510;
inline constexpr std::int64_t kKeyNan = 511;
inline constexpr std::int64_t kKeyPosInf = 512;
inline constexpr std::int64_t kKeyNegInf = 513;
inline constexpr std::int64_t kBinsWidth = kKeyNegInf + 1;

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_MOMENTS_LAYOUT_H_
