#include "client/cli/parse.h"

#include <time.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::uint32_t kMostRanks = 65536;

absl::Status Bad(std::string_view what, std::string_view text,
                 std::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat("bad ", std::string(what),
                                                 " '", EscapeForTerminal(text),
                                                 "': ", std::string(expected)));
}

template <typename T>
std::optional<T> WholeNumber(std::string_view text) {
  T value{};
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

// Digits at the front of *text, exactly `n`, taken off.
std::optional<int> TakeDigits(std::string_view* text, std::size_t n) {
  if (text->size() < n ||
      !std::all_of(text->begin(), text->begin() + n, absl::ascii_isdigit)) {
    return std::nullopt;
  }
  const auto value = WholeNumber<int>(text->substr(0, n));
  text->remove_prefix(n);
  return value;
}

bool Take(std::string_view* text, char c) {
  if (text->empty() || text->front() != c) return false;
  text->remove_prefix(1);
  return true;
}

// "hh:mm:ss[.fraction]" in nanoseconds of the day.
std::optional<std::int64_t> TakeClock(std::string_view* text) {
  const auto hour = TakeDigits(text, 2);
  if (!hour || *hour > 23 || !Take(text, ':')) return std::nullopt;
  const auto minute = TakeDigits(text, 2);
  if (!minute || *minute > 59 || !Take(text, ':')) return std::nullopt;
  const auto second = TakeDigits(text, 2);
  if (!second || *second > 60) return std::nullopt;
  std::int64_t fraction = 0;
  if (Take(text, '.')) {
    std::int64_t unit = kSecondNs / 10;
    if (text->empty() || !absl::ascii_isdigit(text->front())) {
      return std::nullopt;
    }
    for (; !text->empty() && absl::ascii_isdigit(text->front()); unit /= 10) {
      fraction += (text->front() - '0') * unit;
      text->remove_prefix(1);
    }
  }
  return (*hour * 3600LL + *minute * 60LL + *second) * kSecondNs + fraction;
}

// "Z" or "+hh:mm", in seconds east.
std::optional<std::int64_t> TakeZone(std::string_view* text) {
  if (Take(text, 'Z') || Take(text, 'z')) return 0;
  const bool east = Take(text, '+');
  if (!east && !Take(text, '-')) return std::nullopt;
  const auto hour = TakeDigits(text, 2);
  if (!hour || *hour > 23 || !Take(text, ':')) return std::nullopt;
  const auto minute = TakeDigits(text, 2);
  if (!minute || *minute > 59) return std::nullopt;
  const std::int64_t seconds = *hour * 3600LL + *minute * 60LL;
  return east ? seconds : -seconds;
}

std::optional<std::int64_t> Rfc3339(std::string_view text) {
  const auto year = TakeDigits(&text, 4);
  // What int64 nanoseconds hold.
  if (!year || *year < 1678 || *year > 2261 || !Take(&text, '-')) {
    return std::nullopt;
  }
  const auto month = TakeDigits(&text, 2);
  if (!month || *month < 1 || *month > 12 || !Take(&text, '-')) {
    return std::nullopt;
  }
  const auto day = TakeDigits(&text, 2);
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30,
                                  31, 31, 30, 31, 30, 31};
  const bool leap =
      year && *year % 4 == 0 && (*year % 100 != 0 || *year % 400 == 0);
  if (!day || *day < 1 ||
      *day > kDays[*month - 1] + (*month == 2 && leap ? 1 : 0)) {
    return std::nullopt;
  }
  struct tm date {};
  date.tm_year = *year - 1900;
  date.tm_mon = *month - 1;
  date.tm_mday = *day;
  const std::int64_t midnight = timegm(&date);
  if (text.empty()) return midnight * kSecondNs;
  if (!Take(&text, 'T') && !Take(&text, 't') && !Take(&text, ' ')) {
    return std::nullopt;
  }
  const auto clock = TakeClock(&text);
  if (!clock) return std::nullopt;
  const auto zone = TakeZone(&text);
  if (!zone || !text.empty()) return std::nullopt;
  return (midnight - *zone) * kSecondNs + *clock;
}

// "10m", "1h30m", in nanoseconds.
std::optional<std::int64_t> Duration(std::string_view text) {
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    double value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value,
                        std::chars_format::fixed);
    if (error != std::errc() || !(value >= 0)) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (text.empty()) return std::nullopt;
    static constexpr std::pair<char, double> kUnits[] = {
        {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    const auto* unit = std::find_if(
        std::begin(kUnits), std::end(kUnits),
        [&](const auto& candidate) { return candidate.first == text.front(); });
    if (unit == std::end(kUnits)) return std::nullopt;
    text.remove_prefix(1);
    total += value * unit->second;
  }
  if (!(total < 9e9)) return std::nullopt;
  return static_cast<std::int64_t>(std::llround(total * 1e9));
}

// Seconds with up to nine decimals, exactly.
std::optional<std::int64_t> UnixSeconds(std::string_view text) {
  const std::size_t dot = text.find('.');
  const auto whole = WholeNumber<std::int64_t>(text.substr(0, dot));
  if (!whole || *whole < 0 || *whole >= 9'000'000'000) return std::nullopt;
  std::int64_t fraction = 0;
  if (dot != std::string_view::npos) {
    std::string_view digits = text.substr(dot + 1);
    if (digits.empty()) return std::nullopt;
    std::int64_t unit = kSecondNs / 10;
    for (const char c : digits) {
      if (!absl::ascii_isdigit(c)) return std::nullopt;
      fraction += (c - '0') * unit;
      unit /= 10;
    }
  }
  return *whole * kSecondNs + fraction;
}

}  // namespace

absl::StatusOr<v1::StepRange> ParseSlice(std::string_view text) {
  constexpr std::string_view kExpected =
      "a slice of steps is A:B, half-open, negative from the end, either side "
      "may be empty (10:20, -100:, :50)";
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return Bad("steps", text, kExpected);
  v1::StepRange range;
  const std::string_view begin = text.substr(0, colon);
  const std::string_view end = text.substr(colon + 1);
  if (!begin.empty()) {
    const auto number = WholeNumber<std::int64_t>(begin);
    if (!number) return Bad("steps", text, kExpected);
    range.set_begin(*number);
  }
  if (!end.empty()) {
    const auto number = WholeNumber<std::int64_t>(end);
    if (!number) return Bad("steps", text, kExpected);
    range.set_end(*number);
  }
  return range;
}

absl::StatusOr<std::int64_t> ParseTime(std::string_view text,
                                       std::int64_t now_unix_ns) {
  std::optional<std::int64_t> time;
  if (!text.empty() && text.front() == '-') {
    const auto back = Duration(text.substr(1));
    if (back) time = std::max<std::int64_t>(now_unix_ns - *back, 1);
  } else {
    time = UnixSeconds(text);
    if (!time) time = Rfc3339(text);
    if (time) time = std::max<std::int64_t>(*time, 1);  // 0 would mean "open".
  }
  if (!time) {
    return Bad("time", text,
               "use RFC 3339 (2026-11-24T15:43:16Z), Unix seconds, or a time "
               "before now (-10m, -1h30m; s, m, h, d, w)");
  }
  return *time;
}

absl::StatusOr<RankSelection> ParseRanks(
    const std::vector<std::string>& words) {
  constexpr std::string_view kExpected =
      "ranks are numbers, ranges and 'merged' (0, 0-7, merged)";
  RankSelection selection;
  for (const std::string& word : SplitList(words)) {
    if (absl::AsciiStrToLower(word) == "merged") {
      selection.merged = true;
      continue;
    }
    const std::size_t dash = word.find('-');
    const std::string_view view = word;
    const auto first = WholeNumber<std::uint32_t>(view.substr(0, dash));
    const auto last = dash == std::string::npos
                          ? first
                          : WholeNumber<std::uint32_t>(view.substr(dash + 1));
    if (!first || !last || *last < *first || *last - *first >= kMostRanks ||
        *last == std::numeric_limits<std::uint32_t>::max()) {
      return Bad("rank", word, kExpected);
    }
    for (std::uint32_t rank = *first; rank <= *last; ++rank) {
      selection.ranks.push_back(rank);
    }
  }
  return selection;
}

absl::StatusOr<OneRank> ParseOneRank(const std::vector<std::string>& words,
                                     std::string_view what) {
  const auto ranks = ParseRanks(words);
  if (!ranks.ok()) return ranks.status();
  if (ranks->ranks.size() > 1 || (ranks->merged && !ranks->ranks.empty())) {
    return absl::InvalidArgumentError(absl::StrCat(
        std::string(what), " is of one rank, or merged over all of them"));
  }
  return OneRank{ranks->ranks.empty() ? 0 : ranks->ranks.front(),
                 ranks->merged};
}

absl::StatusOr<v1::RunState> ParseState(std::string_view text) {
  const std::string word =
      absl::AsciiStrToLower(absl::string_view(text.data(), text.size()));
  if (word == "running") return v1::RUN_STATE_RUNNING;
  if (word == "finished") return v1::RUN_STATE_FINISHED;
  if (word == "stopped") return v1::RUN_STATE_STOPPED;
  if (word == "lost") return v1::RUN_STATE_LOST;
  return Bad("state", text, "one of running, finished, stopped, lost");
}

absl::StatusOr<v1::Role> ParseRole(std::string_view text) {
  const std::string word =
      absl::AsciiStrToLower(absl::string_view(text.data(), text.size()));
  if (const auto role = RoleOfWord(word)) return *role;
  return Bad("role", text, "one of weight, grad, update, grad_local, buffer");
}

absl::StatusOr<v1::Kind> ParseKind(std::string_view text) {
  const std::string word =
      absl::AsciiStrToLower(absl::string_view(text.data(), text.size()));
  if (word == "parameter") return v1::KIND_PARAMETER;
  if (word == "buffer") return v1::KIND_BUFFER;
  return Bad("kind", text, "one of parameter, buffer");
}

absl::StatusOr<v1::Tag> ParseTag(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return Bad("tag", text, "a tag is KEY=VALUE");
  }
  if (!IsValidUtf8(text)) return Bad("tag", text, "not valid UTF-8");
  v1::Tag tag;
  tag.set_key(std::string(text.substr(0, equals)));
  tag.set_value(std::string(text.substr(equals + 1)));
  return tag;
}

absl::StatusOr<std::uint32_t> ParseAttempt(std::string_view text) {
  const auto number = WholeNumber<std::uint32_t>(text);
  if (!number || *number == 0) {
    return Bad("attempt", text, "attempts are numbered from 1");
  }
  return *number;
}

std::vector<std::string> SplitList(const std::vector<std::string>& words) {
  std::vector<std::string> parts;
  for (const std::string& word : words) {
    std::size_t begin = 0;
    while (begin <= word.size()) {
      const std::size_t comma = std::min(word.find(',', begin), word.size());
      if (comma > begin) parts.push_back(word.substr(begin, comma - begin));
      begin = comma + 1;
    }
  }
  return parts;
}

absl::Status CheckRunName(std::string_view run) {
  if (IsValidRunName(run)) return absl::OkStatus();
  return Bad("run", run, "a run's name is 1 to 128 of A-Z a-z 0-9 . _ -");
}

}  // namespace gradtap::client
