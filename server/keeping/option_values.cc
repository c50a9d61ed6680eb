#include "server/keeping/option_values.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace gradtap::server {
namespace {

using std::chrono::nanoseconds;

struct TimeUnit {
  std::string_view name;
  std::chrono::seconds length;
};
constexpr std::array kTimeUnits = {
    TimeUnit{"s", std::chrono::seconds(1)},
    TimeUnit{"min", std::chrono::minutes(1)},
    TimeUnit{"h", std::chrono::hours(1)},
    TimeUnit{"d", std::chrono::hours(24)},
    TimeUnit{"w", std::chrono::hours(24 * 7)},
};

struct SizeUnit {
  std::string_view name;
  double bytes;
};
constexpr std::array kSizeUnits = {
    SizeUnit{"B", 1},
    SizeUnit{"kB", 1e3},
    SizeUnit{"MB", 1e6},
    SizeUnit{"GB", 1e9},
    SizeUnit{"TB", 1e12},
    SizeUnit{"KiB", 1024.0},
    SizeUnit{"MiB", 1024.0 * 1024},
    SizeUnit{"GiB", 1024.0 * 1024 * 1024},
    SizeUnit{"TiB", 1024.0 * 1024 * 1024 * 1024},
};

absl::Status Bad(std::string_view text, std::string_view right) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", std::string(text), "' is no ", std::string(right)));
}

// The digits (and a dot) that `text` begins with, and what follows them.
std::pair<std::string, std::string> Split(std::string_view text) {
  std::size_t end = 0;
  while (end < text.size() &&
         (absl::ascii_isdigit(text[end]) || text[end] == '.')) {
    ++end;
  }
  std::string unit(text.substr(end));
  absl::StripAsciiWhitespace(&unit);
  return {std::string(text.substr(0, end)), std::move(unit)};
}

}  // namespace

absl::StatusOr<nanoseconds> ParseDuration(std::string_view text) {
  constexpr std::string_view kRight =
      "duration; give a whole number of s, min, h, d or w, for example 30d or "
      "12h";
  if (text == "0") return nanoseconds(0);
  const auto [digits, unit] = Split(text);
  std::int64_t number = 0;
  if (!absl::SimpleAtoi(digits, &number)) return Bad(text, kRight);
  const std::string& name = unit;
  const auto found =
      std::find_if(kTimeUnits.begin(), kTimeUnits.end(),
                   [&name](const TimeUnit& u) { return u.name == name; });
  if (found == kTimeUnits.end()) return Bad(text, kRight);
  constexpr auto kMost = std::chrono::duration_cast<std::chrono::seconds>(
      nanoseconds(std::numeric_limits<std::int64_t>::max()));
  if (number > kMost / found->length) {
    return Bad(text, "duration that can be kept to; at most 15,000 weeks");
  }
  return nanoseconds(found->length * number);
}

absl::StatusOr<std::uint64_t> ParseBytes(std::string_view text) {
  constexpr std::string_view kRight =
      "size; give a number and a unit, one of B, kB, MB, GB, TB, KiB, MiB, "
      "GiB, TiB, for example 200GiB";
  if (text == "0") return std::uint64_t{0};
  const auto [digits, unit] = Split(text);
  double number = 0;
  if (digits.empty() || !absl::SimpleAtod(digits, &number)) {
    return Bad(text, kRight);
  }
  const std::string& name = unit;
  const auto found =
      std::find_if(kSizeUnits.begin(), kSizeUnits.end(),
                   [&name](const SizeUnit& u) { return u.name == name; });
  if (found == kSizeUnits.end()) return Bad(text, kRight);
  const double bytes = number * found->bytes;
  if (bytes >= 9e18) return Bad(text, "size of a disk");
  return static_cast<std::uint64_t>(bytes);
}

std::string FormatBytes(std::uint64_t bytes) {
  constexpr std::array kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value,
                kNames[unit]);
  return text;
}

std::string FormatDuration(nanoseconds duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
      std::max(duration, nanoseconds(0)));
  const TimeUnit* best = &kTimeUnits[0];
  for (const TimeUnit& unit : kTimeUnits) {
    if (unit.name != "w" && seconds >= 2 * unit.length) best = &unit;
  }
  return absl::StrCat(seconds / best->length, " ", std::string(best->name));
}

}  // namespace gradtap::server
