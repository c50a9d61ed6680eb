#include "server/auth/gate.h"

#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "server/auth/token_file.h"

namespace gradtap::server {
namespace {

constexpr std::chrono::seconds kLookEvery{1};
constexpr std::string_view kScheme = "Bearer ";

std::map<std::string, TokenEntry, std::less<>> ById(
    std::vector<TokenEntry> entries) {
  std::map<std::string, TokenEntry, std::less<>> book;
  for (TokenEntry& entry : entries) {
    std::string id = entry.id;
    book.emplace(std::move(id), std::move(entry));
  }
  return book;
}

std::string Shown(std::string_view text) {
  return EscapeForTerminal(text.substr(0, 200));
}

absl::Status NoToken() {
  return absl::UnauthenticatedError(
      "this collector wants a token: set GRADTAP_TOKEN_FILE, or give "
      "--token-file FILE (HTTP: 'Authorization: Bearer TOKEN'); its operator "
      "makes one with `gradtapd token create`");
}

absl::Status UnknownToken() {
  return absl::UnauthenticatedError(
      "this collector does not know the token, or it was revoked; its operator "
      "makes another with `gradtapd token create`");
}

absl::Status Expired(std::string_view id) {
  return absl::UnauthenticatedError(absl::StrCat(
      "the token ", std::string(id),
      " has expired; its operator makes another with `gradtapd token create`"));
}

}  // namespace

std::string_view NameOf(Refusal refusal) {
  switch (refusal) {
    case Refusal::kNoToken:
      return "no_token";
    case Refusal::kUnknown:
      return "unknown_token";
    case Refusal::kExpired:
      return "expired_token";
    case Refusal::kRole:
      return "role";
    case Refusal::kRuns:
      return "runs";
    case Refusal::kMethod:
      return "unknown_method";
  }
  return "";
}

std::string ClientName(const Caller& caller, std::string_view peer) {
  return caller.id.empty() ? ClientOf(peer) : absl::StrCat("token ", caller.id);
}

absl::Status TakeRequest(const Guards& guards, const Caller& caller,
                         std::string_view peer, bool session,
                         std::chrono::nanoseconds* wait) {
  if (guards.rate == nullptr) return absl::OkStatus();
  const std::string client = ClientName(caller, peer);
  const auto until = guards.rate->Take(client, session);
  if (!until.has_value()) return absl::OkStatus();
  if (wait != nullptr) *wait = *until;
  return guards.rate->TooOften(client, *until);
}

Gate* Gate::Open() {
  static Gate* const open = new Gate();
  return open;
}

absl::StatusOr<std::unique_ptr<Gate>> Gate::Create(
    const std::string& token_file, const Clock* clock,
    std::function<void(const std::string&)> say) {
  const FileStamp stamp = StampOf(token_file);
  absl::StatusOr<std::vector<TokenEntry>> entries = ReadTokenFile(token_file);
  if (!entries.ok()) return entries.status();
  return std::unique_ptr<Gate>(
      new Gate(token_file, clock, std::move(say), stamp, *std::move(entries)));
}

Gate::Gate() : clock_(&RealClock()), look_(clock_, kLookEvery) {}

Gate::Gate(std::string path, const Clock* clock,
           std::function<void(const std::string&)> say, FileStamp stamp,
           std::vector<TokenEntry> entries)
    : path_(std::move(path)),
      clock_(clock),
      say_(std::move(say)),
      look_(clock, kLookEvery),
      stamp_(stamp),
      book_(std::make_shared<const Book>(ById(std::move(entries)))) {}

std::shared_ptr<const Gate::Book> Gate::CurrentBook() {
  look_.Maybe([this] { LookAgain(); });
  MutexLock lock(mu_);
  return book_;
}

// The stamp is taken first: what is written meanwhile is seen next time. One
// that could not be used is tried again at each look, and said once.
void Gate::LookAgain() {
  const FileStamp stamp = StampOf(path_);
  if (stamp == stamp_) return;
  absl::StatusOr<std::vector<TokenEntry>> entries = ReadTokenFile(path_);
  if (!entries.ok()) {
    std::string trouble(entries.status().message());
    if (trouble == trouble_) return;
    trouble_ = std::move(trouble);
    Say(absl::StrCat("tokens: ", trouble_,
                     "; those that were there before are still taken"));
    return;
  }
  stamp_ = stamp;
  trouble_.clear();
  auto book = std::make_shared<const Book>(ById(*std::move(entries)));
  Say(absl::StrCat("tokens: ", book->size(), " of them, from ", path_));
  MutexLock lock(mu_);
  book_ = std::move(book);
}

void Gate::Say(const std::string& line) const {
  if (say_) say_(line);
}

absl::StatusOr<Caller> Gate::Find(std::optional<std::string_view> authorization,
                                  Refusal* why) {
  *why = Refusal::kNoToken;
  if (!authorization.has_value()) return NoToken();
  std::string_view token = *authorization;
  // The scheme's case is not said to matter.
  if (token.size() < kScheme.size() ||
      !absl::EqualsIgnoreCase(
          std::string(token.substr(0, kScheme.size())),
          absl::string_view(kScheme.data(), kScheme.size()))) {
    return NoToken();
  }
  token.remove_prefix(kScheme.size());
  *why = Refusal::kUnknown;
  const std::shared_ptr<const Book> book = CurrentBook();
  const auto it = book->find(IdOf(token));
  if (it == book->end() || !SameHash(HashOf(token), it->second.hash)) {
    return UnknownToken();
  }
  const TokenEntry& entry = it->second;
  *why = Refusal::kExpired;
  if (entry.expires_unix_s != 0 &&
      clock_->UnixNanos() / 1'000'000'000 >= entry.expires_unix_s) {
    return Expired(entry.id);
  }
  return Caller{entry.id, entry.rights, entry.runs};
}

absl::StatusOr<Caller> Gate::Identify(
    std::optional<std::string_view> authorization_untrusted) {
  if (!asks()) return Caller::Anybody();
  Refusal why;
  return Find(authorization_untrusted, &why);
}

absl::StatusOr<Caller> Gate::Admit(
    std::optional<std::string_view> authorization_untrusted,
    std::string_view method, Right needed, bool of_all_runs) {
  if (!asks() || needed == Right::kNone) return Caller::Anybody();
  Refusal why;
  absl::StatusOr<Caller> caller = Find(authorization_untrusted, &why);
  if (!caller.ok()) return Refuse(why, caller.status());
  if (!caller->rights.Has(needed)) {
    return Refuse(
        Refusal::kRole,
        absl::PermissionDeniedError(absl::StrCat(
            Shown(method), " wants the role ", std::string(NameOf(needed)),
            "; the token ", caller->id, " has ", ToString(caller->rights))));
  }
  if (of_all_runs) {
    const absl::Status all = CheckAllRuns(*caller, method);
    if (!all.ok()) return all;
  }
  return caller;
}

absl::StatusOr<Caller> Gate::AdmitMethod(
    std::optional<std::string_view> authorization_untrusted,
    std::string_view path_untrusted) {
  if (!asks()) return Caller::Anybody();
  const MethodRight* const method = FindMethod(path_untrusted);
  if (method != nullptr) {
    return Admit(authorization_untrusted, path_untrusted, method->right,
                 method->of_all_runs);
  }
  // Whoever has no token is not told what there is.
  Refusal why;
  const absl::StatusOr<Caller> caller = Find(authorization_untrusted, &why);
  if (!caller.ok()) return Refuse(why, caller.status());
  return Refuse(Refusal::kMethod,
                absl::PermissionDeniedError(absl::StrCat(
                    "there is no method '", Shown(path_untrusted), "'")));
}

absl::Status Gate::CheckRun(const Caller& caller,
                            std::string_view run_untrusted) {
  if (caller.MayUse(run_untrusted)) return absl::OkStatus();
  return Refuse(Refusal::kRuns,
                absl::PermissionDeniedError(absl::StrCat(
                    "the token ", caller.id,
                    " is limited to runs whose names begin with '", caller.runs,
                    "'; '", Shown(run_untrusted), "' does not")));
}

absl::Status Gate::CheckAllRuns(const Caller& caller, std::string_view what) {
  if (!caller.limited()) return absl::OkStatus();
  return Refuse(Refusal::kRuns,
                absl::PermissionDeniedError(absl::StrCat(
                    Shown(what), " is about all runs, and the token ",
                    caller.id, " is limited to those whose names begin with '",
                    caller.runs, "'; name a run, or use another token")));
}

absl::Status Gate::Recheck(const Caller& caller) {
  if (!asks() || caller.id.empty()) return absl::OkStatus();
  const std::shared_ptr<const Book> book = CurrentBook();
  const auto it = book->find(caller.id);
  if (it == book->end()) {
    return Refuse(Refusal::kUnknown, UnknownToken());
  }
  const TokenEntry& entry = it->second;
  if (entry.expires_unix_s != 0 &&
      clock_->UnixNanos() / 1'000'000'000 >= entry.expires_unix_s) {
    return Refuse(Refusal::kExpired, Expired(entry.id));
  }
  if (entry.rights == caller.rights && entry.runs == caller.runs) {
    return absl::OkStatus();
  }
  return absl::UnauthenticatedError("the token's rights have changed");
}

std::uint64_t Gate::refused(Refusal refusal) const {
  return refused_[static_cast<std::size_t>(refusal)];
}

std::map<std::string, std::uint64_t> Gate::refusals() const {
  std::map<std::string, std::uint64_t> all;
  for (std::size_t i = 0; i < kRefusals; ++i) {
    all.emplace(NameOf(static_cast<Refusal>(i)), refused_[i]);
  }
  return all;
}

absl::Status Gate::Refuse(Refusal refusal, absl::Status status) {
  ++refused_[static_cast<std::size_t>(refusal)];
  return status;
}

}  // namespace gradtap::server
