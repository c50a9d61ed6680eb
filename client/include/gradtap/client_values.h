// What gradtap's query library answers: plain structs. Included by
// gradtap/client.h, which says how absent values, names and times are to be
// read.
//
// C++17; std types only.

#ifndef GRADTAP_CLIENT_VALUES_H_
#define GRADTAP_CLIENT_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gradtap {
namespace client {

// ---- Values
// ------------------------------------------------------------------

// nullopt: absent. The value may be NaN (no finite element) or infinite.
using Value = std::optional<double>;

enum class RunState { kUnknown, kRunning, kFinished, kStopped, kLost };
enum class ParameterKind { kUnknown, kParameter, kBuffer };
enum class ParameterPlacement { kUnknown, kReplicated, kSharded };

// The rank of a series that was merged over ranks.
inline constexpr std::uint32_t kMergedRank = 4294967295u;

struct RunTag {
  std::string key;
  std::string value;
};

struct RunSummary {
  std::string run;
  RunState state = RunState::kUnknown;
  std::int64_t state_since_unix_ns = 0;
  std::uint32_t ranks = 0;
  std::uint32_t world_size = 0;
  std::uint32_t attempts = 0;
  std::int64_t first_step = -1;  // -1: none yet.
  std::int64_t last_step = -1;
  std::uint64_t stored_steps = 0;
  std::uint64_t skipped_steps = 0;
  std::uint64_t lost_steps = 0;
  std::int64_t start_time_unix_ns = 0;
  std::int64_t last_seen_unix_ns = 0;
  double overhead = 0;           // Share of step time; NaN: unknown.
  std::uint64_t bytes = 0;       // Encoded records, as they came.
  std::uint64_t disk_bytes = 0;  // About what they take on disk.
  // Of stored_steps those of which only roll-ups and scalars are left.
  std::uint64_t rolled_up_steps = 0;
  bool pinned = false;
  std::uint32_t parameters = 0;
  std::vector<RunTag> tags;
};

// One process's records.
struct StreamSummary {
  std::uint32_t rank = 0;
  std::uint32_t world_size = 0;
  std::string process_nonce;  // Bytes.
  std::int64_t start_time_unix_ns = 0;
  std::string host;
  std::int64_t pid = 0;
  std::string agent_version;
  std::string torch_version;
  // Types, in the order of their first use; empty: unknown.
  std::vector<std::string> optimizers;
  std::uint64_t durable_seq = 0;
  std::uint64_t stored_steps = 0;
  std::uint64_t skipped_steps = 0;
  std::uint64_t lost_steps = 0;
  std::int64_t first_step = -1;
  std::int64_t last_step = -1;
  std::int64_t last_seen_unix_ns = 0;
  bool connected = false;
  std::uint32_t branches = 0;
  std::uint32_t schemas = 0;
  std::uint64_t rejected_records = 0;
};

struct AttemptSummary {
  std::uint32_t attempt = 0;
  std::string launch;
  RunState state = RunState::kUnknown;
  std::int64_t state_since_unix_ns = 0;
  std::int64_t start_time_unix_ns = 0;
  std::vector<StreamSummary> streams;
};

struct RunDetails {
  RunSummary run;
  std::vector<AttemptSummary> attempts;
};

struct ParameterInfo {
  std::string name;
  ParameterKind kind = ParameterKind::kUnknown;
  std::string module_path;
  std::string module_type;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string device;
  std::string layout;
  bool requires_grad = false;
  std::uint64_t numel = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> aliases;  // Other names of the same tensor.
  ParameterPlacement placement = ParameterPlacement::kUnknown;
  std::vector<std::string> roles;  // "weight", "grad", "update", ...
  std::string unsupported_reason;
};

struct ParameterList {
  std::string run;
  std::uint32_t attempt = 0;
  std::uint32_t rank = 0;
  std::uint32_t schema_id = 0;
  std::vector<ParameterInfo> parameters;
  // Totals over `parameters`; tied ones count once, buffers apart.
  std::uint64_t parameter_count = 0;
  std::uint64_t parameter_numel = 0;
  std::uint64_t parameter_bytes = 0;
  std::uint64_t trainable_numel = 0;
  std::uint64_t buffer_count = 0;
  std::uint64_t buffer_numel = 0;
  std::uint64_t buffer_bytes = 0;
};

// Steps that are not there, and why.
struct GapEntry {
  std::uint32_t attempt = 0;
  std::uint32_t rank = 0;
  std::uint32_t branch = 0;
  bool lost = false;  // Else skipped, or kept in part ("rolled_up").
  std::string cause;  // "interval", "budget", "ring_full", ...
  std::int64_t first_step = 0;
  std::int64_t last_step = 0;  // Inclusive.
  std::uint64_t steps = 0;     // Of that range, for this cause.
  std::string detail;
};

struct GapList {
  std::string run;
  std::vector<GapEntry> gaps;
  std::uint64_t skipped_steps = 0;
  std::uint64_t lost_steps = 0;
  std::uint64_t rolled_up_steps = 0;  // Only roll-ups and scalars are left.
};

struct SeriesPoint {
  std::uint32_t attempt = 0;
  std::int64_t step = 0;
  std::int64_t time_unix_ns = 0;
  Value value;
};

struct SeriesLine {
  std::string run;
  std::uint32_t rank = 0;  // kMergedRank: over the ranks.
  // Empty for scalars; of a group its pattern between slashes.
  std::string parameter;
  std::uint32_t members = 0;  // Of a group: how many parameters.
  std::string statistic;
  std::vector<SeriesPoint> points;  // In the order of steps.
  std::uint64_t points_before = 0;  // Before down-sampling.
};

struct SeriesAnswer {
  std::vector<SeriesLine> series;
  std::vector<GapEntry> gaps;  // That touch the steps asked for.
};

struct SnapshotEntry {
  std::string parameter;      // Of a group: its pattern between slashes.
  std::uint32_t members = 0;  // Of a group: how many parameters.
  ParameterKind kind = ParameterKind::kUnknown;
  std::vector<Value> values;  // One for each of the answer's statistics.
};

struct ScalarEntry {
  std::string name;
  double value = 0;
};

struct SnapshotAnswer {
  std::string run;
  std::uint32_t attempt = 0;
  std::uint32_t rank = 0;
  std::int64_t step = 0;
  std::int64_t time_unix_ns = 0;
  std::uint32_t interval_steps = 0;
  std::vector<std::string> statistics;
  std::vector<SnapshotEntry> rows;
  std::vector<ScalarEntry> scalars;
};

// The elements between two powers of two, or the zeros; both ends belong to it.
// Ends are as float32 statistics round them: the outermost bins saturate.
struct HistogramBin {
  double lower = 0;
  double upper = 0;
  std::uint64_t count = 0;
};

struct ParameterHistogram {
  std::string parameter;
  std::string role;                // "weight", "grad", ...
  std::vector<HistogramBin> bins;  // Ascending, none empty.
  std::uint64_t nan = 0;
  std::uint64_t pos_inf = 0;
  std::uint64_t neg_inf = 0;
  std::uint64_t numel = 0;  // Of the tensor, or of all its shards.
  Value min;                // Of the finite elements; absent: there are none.
  Value max;
};

struct HistogramsAnswer {
  std::string run;
  std::uint32_t attempt = 0;
  std::uint32_t rank = 0;
  std::int64_t step = 0;
  std::int64_t time_unix_ns = 0;
  // In the schema's order. A parameter without one (it had no gradient) is not
  // listed.
  std::vector<ParameterHistogram> histograms;
};

// A parameter's place among others by one statistic.
struct TopEntry {
  std::string parameter;
  ParameterKind kind = ParameterKind::kUnknown;
  Value value;
  // NaN and infinite elements: a norm, over the finite ones, hides them.
  std::uint64_t nonfinite = 0;
  // With TopQuery::since_step: the same there.
  Value since_value;
  std::uint64_t since_nonfinite = 0;
  std::optional<double> score;  // What it was ranked by, if it has one.
};

struct TopAnswer {
  std::string run;
  std::uint32_t attempt = 0;
  std::uint32_t rank = 0;
  std::int64_t step = 0;
  std::int64_t time_unix_ns = 0;
  std::string statistic;
  std::optional<std::int64_t> since_step;  // As found: not negative.
  std::uint32_t since_attempt = 0;
  std::int64_t since_time_unix_ns = 0;
  // Non-finite ones first, absent ones last, whatever the order.
  std::vector<TopEntry> rows;
  std::uint32_t ranked = 0;  // Before the limit; and of those:
  std::uint32_t ranked_nonfinite = 0;
};

// A column of a heat map: recorded steps in a row. Steps that were not recorded
// are in none.
struct HeatMapBucket {
  std::int64_t first_step = 0;
  std::int64_t last_step = 0;  // Inclusive.
  std::uint32_t recorded = 0;  // How many.
  std::int64_t first_time_unix_ns = 0;
};

// One parameter of a heat map; an entry for each of its buckets.
struct HeatMapRow {
  // Bits of `flags`.
  static constexpr std::uint8_t kNonfinite = 1;
  static constexpr std::uint8_t kAbsent = 2;

  std::string parameter;
  ParameterKind kind = ParameterKind::kUnknown;
  // The worst finite value of the bucket's steps, rounded to float32. Worst is
  // the largest; of finite_fraction the smallest; of mean, sum, min and max the
  // one of largest magnitude, with its sign. NaN: no step has one.
  std::vector<float> worst;
  std::vector<std::uint8_t> flags;  // Empty: no bucket has any.

  // Some step's value, or an element of its tensor, was NaN or infinite.
  bool nonfinite(std::size_t bucket) const {
    return bucket < flags.size() && (flags[bucket] & kNonfinite) != 0;
  }
  // The statistic was absent at some step.
  bool absent(std::size_t bucket) const {
    return bucket < flags.size() && (flags[bucket] & kAbsent) != 0;
  }
  // Nothing of this parameter was recorded.
  bool missing(std::size_t bucket) const {
    return bucket >= worst.size() || (worst[bucket] != worst[bucket] &&
                                      !nonfinite(bucket) && !absent(bucket));
  }
};

struct HeatMapAnswer {
  std::string run;
  std::uint32_t attempt = 0;  // The newest that is shown.
  std::uint32_t rank = 0;
  std::string statistic;
  // Recorded steps of each bucket; the last one, and those beside a restart,
  // may have fewer.
  std::uint32_t bucket_steps = 0;
  std::vector<HeatMapBucket> buckets;  // In the order of steps.
  std::vector<HeatMapRow> rows;        // In the schema's order.
  std::vector<GapEntry> gaps;          // That touch the steps asked for.
};

// Something that is not the same in two runs.
struct DifferenceEntry {
  std::string parameter;  // Empty: of the run.
  // "tag.KEY", "torch_version", "optimizer", ...; "shape", "dtype", ...;
  // "parameter": one of the runs lacks it.
  std::string what;
  std::optional<std::string> good;  // nullopt: not there.
  std::optional<std::string> other;
};

struct ComparedLine {
  std::string parameter;  // Empty for scalars.
  std::string statistic;
  std::uint64_t steps = 0;                 // Compared.
  std::uint64_t steps_beyond = 0;          // Of those, beyond the noise.
  std::optional<std::int64_t> first_step;  // Where they diverge, if they do.
  // log2 of how many times larger the other is, over the newest 16 steps; and
  // the good run's noise in the same unit. nullopt: not known.
  std::optional<double> log2_ratio;
  std::optional<double> noise_log2;
  std::int64_t last_step = -1;  // The last one compared; there:
  Value good_value;
  Value other_value;
  std::uint64_t good_nonfinite = 0;  // NaN and infinite elements.
  std::uint64_t other_nonfinite = 0;
};

struct CompareAnswer {
  std::string good_run;
  std::string other_run;
  std::uint32_t rank = 0;
  std::vector<DifferenceEntry> differences;
  std::uint64_t parameter_differences = 0;  // Also those that are not listed.
  std::uint64_t compared_steps = 0;
  std::uint64_t only_good_steps = 0;
  std::uint64_t only_other_steps = 0;
  std::int64_t good_first_step = -1;
  std::int64_t good_last_step = -1;
  std::int64_t other_first_step = -1;
  std::int64_t other_last_step = -1;
  std::vector<ComparedLine> rows;
  std::uint64_t series = 0;  // Before the limit; and of those:
  std::uint64_t diverged = 0;
  std::optional<std::int64_t> first_diverged_step;
};

struct DeletedRun {
  std::string run;
  std::uint64_t deleted_steps = 0;
  std::uint64_t deleted_bytes = 0;
};

// A copy of all that a collector has stored: a data folder itself.
struct BackupResult {
  std::string path;  // On the collector's host.
  // Of its files. On the data's own file system most take no room of their own.
  std::uint64_t bytes = 0;
  std::uint32_t runs = 0;
  std::uint64_t rows = 0;  // At least so many are in it.
  std::int64_t took_ns = 0;
};

struct CompactResult {
  // One kind of data.
  struct Family {
    std::string name;
    std::uint64_t bytes_before = 0;
    std::uint64_t bytes_after = 0;
  };
  // Of tables; what was in logs alone counts after.
  std::uint64_t bytes_before = 0;
  std::uint64_t bytes_after = 0;
  std::vector<Family> families;
  std::int64_t took_ns = 0;
};

struct CollectorStatus {
  std::string version;
  std::int64_t start_time_unix_ns = 0;
  std::string data_dir;
  std::uint32_t format_version = 0;
  std::uint32_t runs = 0;
  std::uint32_t open_sessions = 0;
  std::uint32_t open_watches = 0;
  // Since the start.
  std::uint64_t stored_steps = 0;
  std::uint64_t stored_values = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t rejected_records = 0;
  std::uint64_t batches = 0;
  std::uint64_t syncs = 0;
  std::uint64_t disk_bytes = 0;
  std::uint64_t disk_free_bytes = 0;
  std::uint64_t resident_bytes = 0;
  // Stored rows that are not sealed into windows yet, and of them those that
  // may be: what the sealer is behind.
  std::uint64_t rows_waiting = 0;
  std::uint64_t rows_due = 0;
};

}  // namespace client
}  // namespace gradtap

#endif  // GRADTAP_CLIENT_VALUES_H_
