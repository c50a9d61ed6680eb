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

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// Durations, std::function and std::unique_ptr alone, where libstdc++ has them
// by themselves: with all of <chrono>, <functional> and <memory> a file that
// includes this takes twice as long as C++20.
#if defined(__GLIBCXX__) && __has_include(<bits/chrono.h>) && \
    __has_include(<bits/std_function.h>) && \
    __has_include(<bits/unique_ptr.h>)
#include <bits/chrono.h>
#include <bits/std_function.h>
#include <bits/unique_ptr.h>
#else
#include <chrono>
#include <functional>
#include <memory>
#endif

#include "gradtap/client_queries.h"
#include "gradtap/client_values.h"

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
  // "HOST:PORT"; "HOST", ":PORT" and "[IPV6]:PORT" are completed. Or
  // "unix:/PATH".
  std::string collector = "127.0.0.1:7317";
  // PEM files; an empty ca file stands for the system's roots. Both cert and
  // key, or neither.
  bool tls = false;
  std::string tls_ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  // Sent as "authorization: Bearer TOKEN". Without tls it is refused unless the
  // collector is on this machine (localhost, 127.0.0.1, ::1, a socket).
  std::string token;
  // Let gRPC use http_proxy and its relatives.
  bool use_proxy = false;
  // For Connect(), for each call (Watch excepted), and for Backup() and
  // Compact(), which move gigabytes.
  std::chrono::milliseconds connect_deadline{5000};
  std::chrono::milliseconds deadline{60000};
  std::chrono::milliseconds long_deadline{std::chrono::hours(24)};
  // A larger answer is kRefused.
  std::size_t max_answer_bytes = 256u << 20;
};

// ---- Watching
// ---------------------------------------------------------------

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
// waits for its answer, at most options.deadline; Backup() and Compact() at
// most options.long_deadline.
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
  // One statistic of many parameters over many steps, the worst of each bucket
  // of steps. kInvalidArgument: no statistic of records that every step has.
  // kRefused: more cells than the collector's limit; it names a narrower query.
  Result<HeatMapAnswer> HeatMap(const HeatMapQuery& query) const;
  // The parameters that stand out.
  Result<TopAnswer> Top(const TopQuery& query) const;
  // How a run differs from a good one, and from which step on.
  Result<CompareAnswer> Compare(const CompareQuery& query) const;
  Result<GapList> Gaps(const GapsQuery& query) const;

  // Calls `on_event` until it returns false (then true comes back), or until an
  // error that dialling again does not mend.
  // [Threading] the calling thread. [Locking] none held; it may call other
  // methods. [Exceptions] must not throw.
  Result<bool> Watch(
      const WatchQuery& query,
      const std::function<bool(const WatchEvent& event)>& on_event) const;

  // Refused if the run is pinned.
  Result<DeletedRun> DeleteRun(const std::string& run) const;
  // A pinned run is never removed or shrunk by the collector itself. False: it
  // was pinned, or not, before.
  Result<bool> PinRun(const std::string& run, bool pinned) const;
  // Copies all that is stored into a folder of this name
  // ([A-Za-z0-9._-]{1,128}, not beginning with a dot; empty: the time) within
  // the collector's folder for backups. All that was acknowledged before the
  // call is in it; training and queries go on. kInvalidArgument: the name is
  // none. kRefused: there is one of that name, no room, another one is at work,
  // or the collector makes none.
  Result<BackupResult> Backup(const std::string& name = {}) const;
  // Rewrites all tables, as tightly as it gets; training and queries go on,
  // more slowly. kRefused: no room for the largest kind of data once more, or
  // another one is at work.
  Result<CompactResult> Compact() const;
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
