// Text for people: widths on a terminal, numbers, sizes, times.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_TEXT_H_
#define GRADTAP_CLIENT_CLI_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gradtap::client {

// Columns that valid UTF-8 without control characters takes on a terminal:
// wide East Asian characters and emoji two, combining marks none.
std::size_t DisplayWidth(std::string_view text);

// The text itself if it is not wider than `width`; else its beginning and end
// with "…" (or "..." if !utf8) between. Never splits a character.
std::string ShortenMiddle(std::string_view text, std::size_t width, bool utf8);

// The longest beginning that is not wider than `width`.
std::string ClipToWidth(std::string_view text, std::size_t width);

// "%.4g"; NaN, Infinity and -Infinity spelled so.
std::string HumanNumber(double value);
// A number of things: "1,234,567". Not whole or huge: as HumanNumber().
std::string HumanCount(std::uint64_t count);
std::string HumanCountValue(double count);
// "512 B", "1.5 KiB", "4.71 MiB".
std::string HumanBytes(std::uint64_t bytes);
// "1.8 %"; "-" for NaN.
std::string HumanShare(double share);
// "now", "12 s ago", "3 min ago", "2 h ago", "5 d ago"; "-" for 0.
std::string HumanAge(std::int64_t unix_ns, std::int64_t now_unix_ns);
// "12 s", "3 min 20 s", "2 h 5 min", "5 d 3 h".
std::string HumanDuration(std::int64_t ns);
// "850 us", "1.23 ms", "45.6 s"; beyond two minutes as HumanDuration().
std::string HumanLatency(std::int64_t ns);
// "2026-11-24 15:43:16.123Z"; "-" for 0.
std::string HumanTime(std::int64_t unix_ns);
// "1 step", "2 steps", "0 steps": `count` with the noun.
std::string Plural(std::uint64_t count, std::string_view noun);

// True if a statistic of this name counts elements: "grad.nan", "weight.zero".
bool IsCountStatistic(std::string_view name);

// "[64, 3, 7, 7]"; "[]" for a 0-dim tensor.
std::string ShapeText(const std::vector<std::int64_t>& shape);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_TEXT_H_
