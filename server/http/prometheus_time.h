// Times and steps as Prometheus's API has them.
//
// Layer: server/http. This file: std, absl. Pure functions.

#ifndef GRADTAP_SERVER_HTTP_PROMETHEUS_TIME_H_
#define GRADTAP_SERVER_HTTP_PROMETHEUS_TIME_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace gradtap::server {

// Unix seconds with a fraction, or RFC 3339; as ms. Two of them have a distance
// that fits. kInvalidArgument names what is neither, or too far away.
absl::StatusOr<std::int64_t> ParsePrometheusTime(const std::string& text);

// Seconds with a fraction, or a duration such as 1m; as ms, above 0.
// kInvalidArgument names it.
absl::StatusOr<std::int64_t> ParsePrometheusStep(const std::string& text);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_PROMETHEUS_TIME_H_
