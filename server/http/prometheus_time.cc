#include "server/http/prometheus_time.h"

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/names.h"
#include "server/promql/lexer.h"

namespace gradtap::server {
namespace {

constexpr double kMostSeconds = 9e15 / 1000;

// For a message.
std::string Shown(const std::string& text) {
  return EscapeForTerminal(text.substr(0, 100));
}

absl::Status BadTime(const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat("bad time '", Shown(text),
                   "': Unix seconds, or such as 2026-01-31T12:00:00Z"));
}

}  // namespace

absl::StatusOr<std::int64_t> ParsePrometheusTime(const std::string& text) {
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    if (!(std::fabs(seconds) < kMostSeconds)) return BadTime(text);
    return static_cast<std::int64_t>(std::llround(seconds * 1000));
  }
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error) ||
      std::fabs(absl::ToDoubleSeconds(time - absl::UnixEpoch())) >=
          kMostSeconds) {
    return BadTime(text);
  }
  return absl::ToUnixMillis(time);
}

absl::StatusOr<std::int64_t> ParsePrometheusStep(const std::string& text) {
  double seconds = 0;
  std::int64_t ms = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    if (seconds > 0 && seconds < kMostSeconds) {
      ms = static_cast<std::int64_t>(seconds * 1000);
    }
  } else if (const auto duration = promql::ParseDuration(text); duration.ok()) {
    ms = *duration;
  }
  if (ms > 0) return ms;
  return absl::InvalidArgumentError(absl::StrCat(
      "bad step '", Shown(text), "': above 0, in seconds or such as 1m"));
}

}  // namespace gradtap::server
