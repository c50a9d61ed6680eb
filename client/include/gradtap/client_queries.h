// What gradtap's query library is asked: plain structs. Included by
// gradtap/client.h.
//
// C++17; std types only.

#ifndef GRADTAP_CLIENT_QUERIES_H_
#define GRADTAP_CLIENT_QUERIES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gradtap/client_values.h"

namespace gradtap {
namespace client {

// Half-open, like a Python slice. Negative counts from the end of the line.
struct StepSlice {
  std::optional<std::int64_t> begin;
  std::optional<std::int64_t> end;
};

struct RunsQuery {
  RunState state = RunState::kUnknown;  // kUnknown: all.
  std::vector<RunTag> tags;             // All must be equal.
};

struct ParametersQuery {
  std::string run;
  std::string match;                 // RE2, unanchored; empty: all.
  std::vector<ParameterKind> kinds;  // Empty: all.
  std::uint32_t attempt = 0;         // 0: the newest.
  std::uint32_t rank = 0;
};

struct SeriesQuery {
  std::vector<std::string> runs;        // At least one.
  std::vector<std::string> statistics;  // At least one; "scalar.*" works.
  std::string match;
  StepSlice steps;
  std::int64_t since_unix_ns = 0;  // 0: open.
  std::int64_t until_unix_ns = 0;
  std::uint32_t max_points = 0;      // 0: all.
  std::vector<std::uint32_t> ranks;  // Empty with merged false: all.
  bool merged = false;
  std::uint32_t attempt = 0;  // 0: the canonical line.
  // Patterns: instead of a series a parameter one for all that match each of
  // them, as if they were one tensor.
  std::vector<std::string> merge;
};

struct SnapshotQuery {
  std::string run;
  std::optional<std::int64_t> step;     // Unset: the last.
  std::vector<std::string> statistics;  // Empty: a useful choice.
  std::string match;
  std::uint32_t rank = 0;
  bool merged = false;
  std::uint32_t attempt = 0;
  std::vector<std::string> merge;  // As in SeriesQuery: a row each.
};

struct HistogramsQuery {
  std::string run;
  std::optional<std::int64_t> step;  // Unset: the last that has histograms.
  std::string parameter;             // By its exact name; empty: see `match`.
  std::string match;                 // A pattern; empty: all.
  std::string role;                  // "weight", "grad", ...; empty: all.
  std::uint32_t rank = 0;
  bool merged = false;  // Over the ranks: those of shards add.
  std::uint32_t attempt = 0;
};

// kChange: how many times larger or smaller; kGrowth: larger before smaller;
// kDifference. These three want since_step. kDefault: kChange if that is set,
// else kValue.
enum class TopOrder { kDefault, kValue, kChange, kGrowth, kDifference };

struct TopQuery {
  std::string run;
  std::string statistic;                   // Empty: grad.l2.
  std::optional<std::int64_t> step;        // Unset: the last.
  std::optional<std::int64_t> since_step;  // Rank by the change from there.
  TopOrder order = TopOrder::kDefault;
  bool ascending = false;
  std::uint32_t limit = 0;  // 0: 20.
  std::string match;
  std::uint32_t rank = 0;
  bool merged = false;
  std::uint32_t attempt = 0;
};

// All parameters that match over all steps, of one rank or merged over all,
// pooled so that nothing hides.
struct HeatMapQuery {
  std::string run;
  // One of records that every step has; not a scalar, not a quantile.
  std::string statistic = "grad.l2";
  std::string match;
  StepSlice steps;
  // Columns at most; 0: 1,000. A column is of so many recorded steps that they
  // suffice: of any number where there are few steps, else of a multiple of 64.
  std::uint32_t max_buckets = 0;
  std::uint32_t rank = 0;
  std::uint32_t attempt = 0;  // 0: the canonical line.
  bool merged = false;
};

// kDistance: by how far they are apart; kFirstStep: by where they diverge.
enum class CompareOrder { kDistance, kFirstStep };

struct CompareQuery {
  std::string good_run;
  std::string other_run;
  std::vector<std::string> statistics;  // Empty: a useful choice.
  std::string match;
  StepSlice steps;
  std::uint32_t rank = 0;
  bool merged = false;
  std::uint32_t good_attempt = 0;
  std::uint32_t other_attempt = 0;
  CompareOrder order = CompareOrder::kDistance;
  std::uint32_t limit = 0;           // 0: 20.
  double noise_factor = 0;           // 0: 5.
  std::uint32_t steps_in_a_row = 0;  // 0: 5.
};

struct GapsQuery {
  std::string run;
  StepSlice steps;
  std::uint32_t attempt = 0;         // 0: all.
  std::vector<std::uint32_t> ranks;  // Empty: all.
};

}  // namespace client
}  // namespace gradtap

#endif  // GRADTAP_CLIENT_QUERIES_H_
