// gradtap's query library: what a collector has stored, and the live tail.
//
//   auto client = gradtap::Client::Connect({});
//   if (!client.ok()) return Fail(client.error().message);
//   gradtap::client::SeriesQuery query;
//   query.runs = {"fashion-mnist"};
//   query.statistics = {"grad.l2"};
//   auto answer = client->Series(query);
//
// Three states are kept apart: a value (which may be NaN or infinite), absent
// (std::nullopt: no gradient was defined, no previous weight), and missing (no
// entry; a gap may say why).
//
// Nothing here throws, std::bad_alloc apart: what can fail returns a Result.
// Names are valid UTF-8 but come from models and peers: escape them before they
// reach a terminal, a log or a page. Times are nanoseconds since the Unix
// epoch.
//
// C++17; std types only.

#ifndef GRADTAP_CLIENT_H_
#define GRADTAP_CLIENT_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace gradtap {
namespace client {

// ---- Errors
// ------------------------------------------------------------------

enum class ErrorCode {
  kInvalidArgument,  // A malformed address, pattern, statistic or range.
  kNotFound,     // Unknown run, parameter or statistic; names the nearest one.
  kRefused,      // Over a limit, not permitted, or not in this state.
  kUnreachable,  // No collector there, or it went away.
  kDeadline,     // The collector did not answer in time.
  kInternal,     // Anything else; most likely a defect of the collector.
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;  // For people. May quote names: hostile text.
};

// A value or an error. Reading the one that is not there aborts the program:
// look at ok() first.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}      // NOLINT
  Result(Error error) : error_(std::move(error)) {}  // NOLINT

  bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }

  const T& value() const& { return Checked(); }
  T& value() & { return Checked(); }
  T&& value() && { return std::move(Checked()); }
  const T& operator*() const& { return Checked(); }
  T& operator*() & { return Checked(); }
  T&& operator*() && { return std::move(Checked()); }
  const T* operator->() const { return &Checked(); }
  T* operator->() { return &Checked(); }

  const Error& error() const {
    if (ok()) std::abort();
    return error_;
  }

 private:
  const T& Checked() const {
    if (!ok()) std::abort();
    return *value_;
  }
  T& Checked() {
    if (!ok()) std::abort();
    return *value_;
  }

  std::optional<T> value_;
  Error error_;
};

// ---- Options
// -----------------------------------------------------------------

struct ClientOptions {
  // "HOST:PORT"; "HOST", ":PORT" and "[IPV6]:PORT" are completed.
  std::string collector = "127.0.0.1:7317";
  // PEM files; an empty ca file stands for the system's roots. Both cert and
  // key, or neither.
  bool tls = false;
  std::string tls_ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  // Sent as "authorization: Bearer TOKEN"; refused without tls.
  std::string token;
  // Let gRPC use http_proxy and its relatives.
  bool use_proxy = false;
  // For Connect(), and for each call (Watch excepted).
  std::chrono::milliseconds connect_deadline{5000};
  std::chrono::milliseconds deadline{60000};
  // A larger answer is kRefused.
  std::size_t max_answer_bytes = 256u << 20;
};

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
  double overhead = 0;  // Share of step time; NaN: unknown.
  std::uint64_t bytes = 0;
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
  bool lost = false;  // Else skipped.
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
  std::string parameter;   // Empty for scalars.
  std::string statistic;
  std::vector<SeriesPoint> points;  // In the order of steps.
  std::uint64_t points_before = 0;  // Before down-sampling.
};

struct SeriesAnswer {
  std::vector<SeriesLine> series;
  std::vector<GapEntry> gaps;  // That touch the steps asked for.
};

struct SnapshotEntry {
  std::string parameter;
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

struct DeletedRun {
  std::string run;
  std::uint64_t deleted_steps = 0;
  std::uint64_t deleted_bytes = 0;
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
};

// ---- Queries
// -----------------------------------------------------------------

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
};

struct SnapshotQuery {
  std::string run;
  std::optional<std::int64_t> step;     // Unset: the last.
  std::vector<std::string> statistics;  // Empty: a useful choice.
  std::string match;
  std::uint32_t rank = 0;
  bool merged = false;
  std::uint32_t attempt = 0;
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

struct GapsQuery {
  std::string run;
  StepSlice steps;
  std::uint32_t attempt = 0;         // 0: all.
  std::vector<std::uint32_t> ranks;  // Empty: all.
};

struct WatchQuery {
  std::string run;
  std::vector<std::string> statistics;
  std::string match;
  std::vector<std::uint32_t> ranks;
  // Go on after this ordinal. Unset: from now on, with the newest step first.
  std::optional<std::uint64_t> after_ordinal;
  // How often the callback is called when nothing happens (kTick).
  std::chrono::milliseconds tick{250};
  // When the collector goes away: dial again, for ever, and go on where it
  // stopped. False: return kUnreachable.
  bool reconnect = true;
};

struct WatchEvent {
  enum class Kind {
    kTick,          // Nothing happened; nothing else is set.
    kRun,           // `run`: its state has changed. Also the first event.
    kSnapshot,      // `snapshot`.
    kGap,           // `gap`.
    kDisconnected,  // `problem`: the collector went away. Once an outage.
    kReconnected,
  };
  Kind kind = Kind::kTick;
  std::uint64_t ordinal = 0;  // Where to go on, for after_ordinal.
  // Steps that this watcher was too slow for, before this event.
  std::uint64_t conflated_steps = 0;
  RunSummary run;
  SnapshotAnswer snapshot;
  GapEntry gap;
  Error problem;
};

// ---- The client
// --------------------------------------------------------------

// Thread-safe: any thread may call any method, several at a time. Every call
// waits for its answer, at most options.deadline.
class Client {
 public:
  // Waits until the collector answers, at most options.connect_deadline; a
  // refused connection returns at once. kInvalidArgument: a bad option.
  static Result<Client> Connect(const ClientOptions& options);

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  Result<std::vector<RunSummary>> Runs(const RunsQuery& query = {}) const;
  Result<RunDetails> Run(const std::string& run) const;
  Result<ParameterList> Parameters(const ParametersQuery& query) const;
  Result<SeriesAnswer> Series(const SeriesQuery& query) const;
  Result<SnapshotAnswer> Snapshot(const SnapshotQuery& query) const;
  // kNotFound: no step, or not that one, has histograms.
  Result<HistogramsAnswer> Histograms(const HistogramsQuery& query) const;
  Result<GapList> Gaps(const GapsQuery& query) const;

  // Calls `on_event` until it returns false (then true comes back), or until an
  // error that dialling again does not mend.
  // [Threading] the calling thread. [Locking] none held; it may call other
  // methods. [Exceptions] must not throw.
  Result<bool> Watch(
      const WatchQuery& query,
      const std::function<bool(const WatchEvent& event)>& on_event) const;

  Result<DeletedRun> DeleteRun(const std::string& run) const;
  Result<CollectorStatus> Status() const;

 private:
  class Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace client

using client::Client;

}  // namespace gradtap

#endif  // GRADTAP_CLIENT_H_
