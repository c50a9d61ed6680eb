// Reads what people type: slices, times, lists. Every error is
// kInvalidArgument, names the value and says what is expected.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_PARSE_H_
#define GRADTAP_CLIENT_CLI_PARSE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

// "A:B", like a Python slice: "10:20", "-100:", ":50", ":".
absl::StatusOr<v1::StepRange> ParseSlice(std::string_view text);

// Unix nanoseconds from RFC 3339 ("2026-11-24T15:43:16.5Z", "+01:00" too; a
// date alone is its midnight UTC), from Unix seconds ("1764000000.25"), or
// relative to `now` ("-10m", "-1h30m"; units s, m, h, d, w).
absl::StatusOr<std::int64_t> ParseTime(std::string_view text,
                                       std::int64_t now_unix_ns);

struct RankSelection {
  std::vector<std::uint32_t> ranks;
  bool merged = false;
};
// "0", "0,3", "0-7", "merged", "0-3,merged". Empty: all.
absl::StatusOr<RankSelection> ParseRanks(const std::vector<std::string>& words);

struct OneRank {
  std::uint32_t rank = 0;
  bool merged = false;
};
// One rank (default 0) or "merged". `what` can be of one alone: "a snapshot".
absl::StatusOr<OneRank> ParseOneRank(const std::vector<std::string>& words,
                                     std::string_view what);

// "running", "FINISHED", ...
absl::StatusOr<v1::RunState> ParseState(std::string_view text);
// "weight", "grad", "grad_local", "update", "buffer".
absl::StatusOr<v1::Role> ParseRole(std::string_view text);
// "parameter", "buffer".
absl::StatusOr<v1::Kind> ParseKind(std::string_view text);
// "key=value"; the value may have "=" and may be empty.
absl::StatusOr<v1::Tag> ParseTag(std::string_view text);
// A label from 1 up.
absl::StatusOr<std::uint32_t> ParseAttempt(std::string_view text);
// Comma-separated; empty parts are dropped.
std::vector<std::string> SplitList(const std::vector<std::string>& words);

// OK, or why `run` cannot be a run's name.
absl::Status CheckRunName(std::string_view run);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_PARSE_H_
