#include "client/cli/text.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

namespace gradtap::client {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;

// Decodes the character at `text[*pos]` and moves past it. A byte that begins
// no character counts as one.
char32_t NextCharacter(std::string_view text, std::size_t* pos) {
  const unsigned char first = text[*pos];
  int more = 0;
  char32_t c = first;
  if (first >= 0xf0 && first < 0xf8) {
    more = 3;
    c = first & 0x07;
  } else if (first >= 0xe0 && first < 0xf0) {
    more = 2;
    c = first & 0x0f;
  } else if (first >= 0xc0 && first < 0xe0) {
    more = 1;
    c = first & 0x1f;
  }
  ++*pos;
  for (; more > 0 && *pos < text.size(); --more, ++*pos) {
    const unsigned char next = text[*pos];
    if ((next & 0xc0) != 0x80) break;
    c = (c << 6) | (next & 0x3f);
  }
  return c;
}

using Range = std::pair<char32_t, char32_t>;

template <std::size_t N>
bool InRanges(char32_t c, const std::array<Range, N>& ranges) {
  for (const auto& [first, last] : ranges) {
    if (c >= first && c <= last) return true;
  }
  return false;
}

// The blocks that occur in practice, not all of Unicode's tables.
constexpr std::array<Range, 14> kNoWidth = {{{0x0300, 0x036f},
                                             {0x0483, 0x0489},
                                             {0x0591, 0x05bd},
                                             {0x0610, 0x061a},
                                             {0x064b, 0x065f},
                                             {0x0e31, 0x0e31},
                                             {0x0e34, 0x0e3a},
                                             {0x1ab0, 0x1aff},
                                             {0x1dc0, 0x1dff},
                                             {0x200b, 0x200d},
                                             {0x20d0, 0x20ff},
                                             {0xfe00, 0xfe0f},
                                             {0xfe20, 0xfe2f},
                                             {0xe0100, 0xe01ef}}};
constexpr std::array<Range, 14> kTwoWide = {{{0x1100, 0x115f},
                                             {0x231a, 0x231b},
                                             {0x23e9, 0x23ec},
                                             {0x2614, 0x2615},
                                             {0x26a1, 0x26a1},
                                             {0x2705, 0x2705},
                                             {0x2728, 0x2728},
                                             {0x2e80, 0x303e},
                                             {0x3041, 0xa4cf},
                                             {0xac00, 0xd7a3},
                                             {0xf900, 0xfaff},
                                             {0xfe30, 0xfe6f},
                                             {0xff00, 0xff60},
                                             {0x1f300, 0x1faff}}};

std::size_t CharacterWidth(char32_t c) {
  if (InRanges(c, kNoWidth)) return 0;
  if (InRanges(c, kTwoWide) || (c >= 0x20000 && c <= 0x3fffd)) return 2;
  return 1;
}

std::string Format(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), format, value);
  return buffer;
}

}  // namespace

std::size_t DisplayWidth(std::string_view text) {
  std::size_t width = 0;
  for (std::size_t pos = 0; pos < text.size();) {
    width += CharacterWidth(NextCharacter(text, &pos));
  }
  return width;
}

std::string ClipToWidth(std::string_view text, std::size_t width) {
  std::size_t used = 0;
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t begin = pos;
    used += CharacterWidth(NextCharacter(text, &pos));
    if (used > width) return std::string(text.substr(0, begin));
  }
  return std::string(text);
}

std::string ShortenMiddle(std::string_view text, std::size_t width, bool utf8) {
  const std::size_t total = DisplayWidth(text);
  if (total <= width) return std::string(text);
  const std::string dots = utf8 ? "…" : "...";
  const std::size_t dots_width = utf8 ? 1 : 3;
  if (width <= dots_width) return ClipToWidth(text, width);
  // The end says more than the beginning: it gets the odd column.
  const std::size_t head = (width - dots_width) / 2;
  const std::size_t tail = width - dots_width - head;
  std::size_t skip = total - tail;
  std::size_t pos = 0;
  while (pos < text.size() && skip > 0) {
    skip -= std::min(skip, CharacterWidth(NextCharacter(text, &pos)));
  }
  return ClipToWidth(text, head) + dots + std::string(text.substr(pos));
}

std::string HumanNumber(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return Format("%.4g", value);
}

std::string HumanCount(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t i = digits.size(); i > 3;) {
    i -= 3;
    digits.insert(i, ",");
  }
  return digits;
}

std::string HumanCountValue(double count) {
  if (!(count >= 0 && count < 1e15) || count != std::floor(count)) {
    return HumanNumber(count);
  }
  return HumanCount(static_cast<std::uint64_t>(count));
}

std::string HumanBytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B",   "KiB", "MiB", "GiB",
                                           "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  // As it will be printed: 1023.95 must not read "1024 KiB".
  while (value >= 999.5 && unit < 6) {
    value /= 1024;
    ++unit;
  }
  return Format("%.3g ", value) + kUnits[unit];
}

std::string HumanShare(double share) {
  if (std::isnan(share)) return "-";
  return Format("%.2g %%", share * 100);
}

std::string HumanDuration(std::int64_t ns) {
  const std::int64_t s = std::max<std::int64_t>(ns, 0) / kSecondNs;
  const auto text = [](std::int64_t n, const char* unit) {
    return std::to_string(n) + " " + unit;
  };
  const auto pair = [&](std::int64_t major, const char* major_unit,
                        std::int64_t minor, const char* minor_unit) {
    return text(major, major_unit) +
           (minor == 0 ? "" : " " + text(minor, minor_unit));
  };
  if (s < 60) return text(s, "s");
  if (s < 3600) return pair(s / 60, "min", s % 60, "s");
  if (s < 86400) return pair(s / 3600, "h", s % 3600 / 60, "min");
  return pair(s / 86400, "d", s % 86400 / 3600, "h");
}

std::string HumanLatency(std::int64_t ns) {
  const double value = static_cast<double>(std::max<std::int64_t>(ns, 0));
  // As it will be printed: 999.7 us must not read "1e+03 us".
  if (value < 999.5e3) return Format("%.3g us", value / 1e3);
  if (value < 999.5e6) return Format("%.3g ms", value / 1e6);
  if (value < 120e9) return Format("%.3g s", value / 1e9);
  return HumanDuration(ns);
}

std::string HumanAge(std::int64_t unix_ns, std::int64_t now_unix_ns) {
  if (unix_ns == 0) return "-";
  // Through unsigned numbers: a peer's time may be anything.
  const std::int64_t s =
      now_unix_ns > unix_ns
          ? static_cast<std::int64_t>((static_cast<std::uint64_t>(now_unix_ns) -
                                       static_cast<std::uint64_t>(unix_ns)) /
                                      kSecondNs)
          : 0;
  if (s < 1) return "now";
  if (s < 60) return std::to_string(s) + " s ago";
  if (s < 3600) return std::to_string(s / 60) + " min ago";
  if (s < 86400) return std::to_string(s / 3600) + " h ago";
  return std::to_string(s / 86400) + " d ago";
}

std::string HumanTime(std::int64_t unix_ns) {
  if (unix_ns == 0) return "-";
  std::int64_t seconds = unix_ns / kSecondNs;
  std::int64_t rest = unix_ns % kSecondNs;
  if (rest < 0) {
    rest += kSecondNs;
    --seconds;
  }
  const time_t when = seconds;
  struct tm utc {};
  gmtime_r(&when, &utc);
  char buffer[64];
  const std::size_t n =
      strftime(buffer, sizeof(buffer), "%Y-%m-%d %H:%M:%S", &utc);
  std::snprintf(buffer + n, sizeof(buffer) - n, ".%03dZ",
                static_cast<int>(rest / 1'000'000));
  return buffer;
}

std::string Plural(std::uint64_t count, std::string_view noun) {
  std::string text = HumanCount(count) + " " + std::string(noun);
  const bool sibilant = !noun.empty() && noun.back() == 'h';
  if (count != 1) text += sibilant ? "es" : "s";
  return text;
}

bool IsCountStatistic(std::string_view name) {
  const std::size_t dot = name.find('.');
  if (dot == std::string_view::npos) return false;
  const std::string_view role = name.substr(0, dot);
  const std::string_view field = name.substr(dot + 1);
  if (role == "scalar" || role == "agent") return false;
  return field == "zero" || field == "nan" || field == "pos_inf" ||
         field == "neg_inf" || field == "nonfinite";
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace gradtap::client
