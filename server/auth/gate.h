// Who calls, and whether they may: every door of the collector asks here.
//
// A collector with a file of tokens lets nobody in without one; one without
// lets everybody in. The file is looked at again when it changes, so that a
// token that was revoked is one no more within a second; calls that go on are
// asked again by those who serve them.
//
// Layer: server/auth. This file: std, absl, core, limits; no grpc.

#ifndef GRADTAP_SERVER_AUTH_GATE_H_
#define GRADTAP_SERVER_AUTH_GATE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/clock.h"
#include "core/sync.h"
#include "server/auth/file_stamp.h"
#include "server/auth/rights.h"
#include "server/auth/token.h"
#include "server/limits/guards.h"

namespace gradtap::server {

// Why somebody was not let in. Existing values never change: they are labels.
enum class Refusal { kNoToken, kUnknown, kExpired, kRole, kRuns, kMethod };
inline constexpr std::size_t kRefusals = 6;

// "no_token".
std::string_view NameOf(Refusal refusal);

struct Caller {
  std::string id;  // Of the token; empty: nobody was asked for one.
  Rights rights;
  std::string runs;  // What the names of its runs begin with; empty: all.

  static Caller Anybody() { return {"", Rights::All(), ""}; }

  bool limited() const { return !runs.empty(); }
  bool MayUse(std::string_view run) const { return run.starts_with(runs); }
};

// Who that is as one of those who share the collector: its token, or where
// nobody is asked for one the address that `peer` has, as gRPC says it.
std::string ClientName(const Caller& caller, std::string_view peer);

// Takes a request of that client's. kResourceExhausted says when to come again,
// and `*wait`, if not null, is how long that is.
absl::Status TakeRequest(const Guards& guards, const Caller& caller,
                         std::string_view peer, bool session = false,
                         std::chrono::nanoseconds* wait = nullptr);

// Thread-safe. No call waits for another; one a second reads the file.
class Gate {
 public:
  // One that lets everybody in; never destroyed.
  static Gate* Open();

  // Reads the file; errors as ReadTokenFile(). `say` gets a line when a later
  // file cannot be used: the last good one goes on.
  static absl::StatusOr<std::unique_ptr<Gate>> Create(
      const std::string& token_file, const Clock* clock,
      std::function<void(const std::string&)> say);

  // False: everybody is let in.
  bool asks() const { return !path_.empty(); }

  // Whose token that is; `authorization_untrusted`: "Bearer TOKEN", or nothing.
  // kUnauthenticated says what is missing and what to do, never what came.
  // Refusals are not counted.
  absl::StatusOr<Caller> Identify(
      std::optional<std::string_view> authorization_untrusted);

  // The same, and whether they may call that. `method`: its path, or what a
  // message is to call it. kPermissionDenied names the role that is missing.
  absl::StatusOr<Caller> Admit(
      std::optional<std::string_view> authorization_untrusted,
      std::string_view method, Right needed, bool of_all_runs);
  // Of a method of gRPC; kPermissionDenied if it is not in the table.
  absl::StatusOr<Caller> AdmitMethod(
      std::optional<std::string_view> authorization_untrusted,
      std::string_view path_untrusted);

  // kPermissionDenied, counted, unless the run is one of the caller's.
  absl::Status CheckRun(const Caller& caller, std::string_view run_untrusted);
  // The same of what tells of all runs: `what` is asked for.
  absl::Status CheckAllRuns(const Caller& caller, std::string_view what);

  // For calls that go on: kUnauthenticated if the token is one no more.
  absl::Status Recheck(const Caller& caller);

  // Since the start. Each only grows.
  std::uint64_t refused(Refusal refusal) const;
  // All of them, by name.
  std::map<std::string, std::uint64_t> refusals() const;

 private:
  using Book = std::map<std::string, TokenEntry, std::less<>>;

  Gate();
  Gate(std::string path, const Clock* clock,
       std::function<void(const std::string&)> say, FileStamp stamp,
       std::vector<TokenEntry> entries);

  std::shared_ptr<const Book> CurrentBook() ABSL_LOCKS_EXCLUDED(mu_);
  void LookAgain() ABSL_LOCKS_EXCLUDED(mu_);
  void Say(const std::string& line) const;
  absl::StatusOr<Caller> Find(std::optional<std::string_view> authorization,
                              Refusal* why);
  absl::Status Refuse(Refusal refusal, absl::Status status);

  const std::string path_;
  const Clock* const clock_;
  const std::function<void(const std::string&)> say_;
  std::array<std::atomic<std::uint64_t>, kRefusals> refused_{};
  NowAndThen look_;
  // Of look_ alone.
  FileStamp stamp_;      // Of the file that the book is from.
  std::string trouble_;  // The last one that was said.

  Mutex mu_;
  std::shared_ptr<const Book> book_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_AUTH_GATE_H_
