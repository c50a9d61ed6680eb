// Durations and sizes as people write them: "30d", "12h", "200GiB".
//
// Layer: server/keeping. Pure functions.

#ifndef GRADTAP_SERVER_KEEPING_OPTION_VALUES_H_
#define GRADTAP_SERVER_KEEPING_OPTION_VALUES_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace gradtap::server {

// A whole number and one of s, min, h, d, w; "0" alone as well.
// kInvalidArgument names the text and shows what is right.
absl::StatusOr<std::chrono::nanoseconds> ParseDuration(std::string_view text);

// A number, with a fraction if need be, and one of B, kB, MB, GB, TB (powers of
// 1,000), KiB, MiB, GiB, TiB (of 1,024); "0" alone as well.
absl::StatusOr<std::uint64_t> ParseBytes(std::string_view text);

// "1.2 GiB", "30 d": for messages.
std::string FormatBytes(std::uint64_t bytes);
std::string FormatDuration(std::chrono::nanoseconds duration);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_KEEPING_OPTION_VALUES_H_
