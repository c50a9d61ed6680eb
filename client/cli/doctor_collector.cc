// The doctor's checks of the way to the collector, from its name to its clock.
//
// Layer: client/cli.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/doctor_report.h"
#include "client/cli/text.h"
#include "core/peer_address.h"

#ifndef GRADTAP_VERSION
#error "GRADTAP_VERSION comes from client/CMakeLists.txt"
#endif

namespace gradtap::client {
namespace {

constexpr char kCollector[] = "collector";
constexpr char kTls[] = "tls";
constexpr char kToken[] = "token";
constexpr char kStoring[] = "storing";
constexpr char kVersion[] = "version";
constexpr char kClock[] = "clock";
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kClockNote = 2 * kSecond;
constexpr std::int64_t kClockProblem = 60 * kSecond;
constexpr std::int64_t kEndsSoonS = std::int64_t{14} * 24 * 3600;
constexpr std::size_t kMostNames = 5;

std::string Words(const absl::Status& status) {
  return status.message().empty() ? absl::StatusCodeToString(status.code())
                                  : std::string(status.message());
}

// Of a complete address.
struct HostPort {
  std::string host;
  std::string port;
};
HostPort Split(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return {host, address.substr(colon + 1)};
}

std::string Join(const std::string& host, const std::string& port) {
  return host.find(':') == std::string::npos
             ? absl::StrCat(host, ":", port)
             : absl::StrCat("[", host, "]:", port);
}

std::string FewOf(const std::vector<std::string>& names) {
  std::vector<std::string> shown;
  for (const std::string& name : names) {
    if (shown.size() == kMostNames) break;
    shown.push_back(Quoted(name));
  }
  std::string text = absl::StrJoin(shown, ", ");
  if (names.size() > kMostNames) {
    absl::StrAppend(&text, " and ", names.size() - kMostNames, " more");
  }
  return text;
}

// "0.1" of "0.1.0".
std::string Minor(std::string_view version) {
  const std::size_t dot = version.find('.');
  if (dot == std::string_view::npos) return std::string(version);
  return std::string(version.substr(0, version.find('.', dot + 1)));
}

// Certificates reach farther than nanoseconds do.
std::string TimeText(std::int64_t unix_s) {
  constexpr std::int64_t kFarthest = 9'000'000'000;  // Of the year 2255.
  return HumanTime(std::clamp(unix_s, -kFarthest, kFarthest) * kSecond);
}

class CollectorCheck {
 public:
  CollectorCheck(World* world, const DoctorPlan& plan,
                 const DoctorOptions& options, std::string address,
                 Report* report)
      : world_(*world),
        agent_(plan.settings.options),
        run_(plan.run),
        proxy_(!plan.proxy_variable.empty() && !StaysOnThisMachine(address)),
        doctor_(options),
        report_(*report),
        address_(std::move(address)),
        place_(IsSocketAddress(address_) ? HostPort() : Split(address_)) {
    options_.collector = address_;
    options_.tls = agent_.tls;
    options_.tls_ca_file = agent_.tls_ca_file;
    options_.tls_cert_file = agent_.tls_cert_file;
    options_.tls_key_file = agent_.tls_key_file;
    options_.use_proxy = agent_.use_proxy;
    options_.connect_deadline = options.connect_deadline;
    options_.deadline = options.deadline;
    // Else it has been reported, and does not leave this machine.
    if (agent_.tls || StaysOnThisMachine(address_)) {
      options_.token = agent_.token;
    }
  }

  void Run() {
    if (proxy_) {
      report_.Note(
          kCollector,
          absl::StrCat(Quoted(address_), " is asked through the proxy"), "");
    } else {
      if (!Dial()) return;
      if (agent_.tls && !CheckCertificate()) return;
    }
    Ask();
  }

 private:
  // ---- The name, and a connection. ----

  bool Dial() {
    if (IsSocketAddress(address_)) {
      connected_ = address_;
      if (auto status = world_.Connect(address_, doctor_.connect_deadline);
          !status.ok()) {
        report_.Unreachable(
            kCollector, absl::StrCat(Quoted(address_), ": ", Words(status)),
            "start gradtapd with --grpc-listen there, as this user");
        return false;
      }
      return true;
    }
    const Resolution found = world_.Resolve(place_.host, place_.port);
    if (!found.status.ok() || found.addresses.empty()) {
      report_.Unreachable(
          kCollector,
          absl::StrCat(
              "no address for the host ", Quoted(place_.host), ": ",
              found.status.ok() ? "there is none" : Words(found.status)),
          "correct GRADTAP_COLLECTOR, or this host's resolver "
          "(/etc/resolv.conf, /etc/hosts)");
      return false;
    }
    if (found.took_ns > kSecond) {
      report_.Note(kCollector,
                   absl::StrCat("to look up ", Quoted(place_.host), " took ",
                                HumanLatency(found.took_ns)),
                   "a name server of /etc/resolv.conf may be away");
    }
    return ConnectToOneOf(found);
  }

  bool ConnectToOneOf(const Resolution& found) {
    std::vector<std::string> failures;
    for (const std::string& host : found.addresses) {
      const std::string at = Join(host, place_.port);
      const auto status = world_.Connect(at, doctor_.connect_deadline);
      if (status.ok()) {
        connected_ = at;
        break;
      }
      failures.push_back(absl::StrCat(at, ": ", Words(status)));
      if (failures.size() == kMostNames) break;
    }
    const std::string failed = absl::StrJoin(failures, ", ");
    if (connected_.empty()) {
      report_.Unreachable(
          kCollector,
          absl::StrCat("nobody can be reached at ", Quoted(address_), " (",
                       failed, ")"),
          "start gradtapd there, with --grpc-listen on an address that this "
          "host reaches; look at firewalls, and at GRADTAP_COLLECTOR");
      return false;
    }
    report_.Ok(kCollector,
               absl::StrCat(
                   Quoted(address_), " is ", connected_, ", looked up in ",
                   HumanLatency(found.took_ns), ", and takes connections",
                   failed.empty() ? "" : absl::StrCat(" (not ", failed, ")")));
    return true;
  }

  // ---- TLS. ----

  bool CheckCertificate() {
    const PeerCertificate peer =
        world_.LookAtCertificate(connected_, place_.host, options_);
    if (!peer.handshake.ok()) {
      report_.Problem(
          kTls, Words(peer.handshake),
          absl::IsInvalidArgument(peer.handshake)
              ? "name files that fit together"
              : "is TLS on there (gradtapd --tls-cert, --tls-key)? Without it, "
                "unset GRADTAP_TLS");
      return false;
    }
    if (!CheckDates(peer) || !CheckTrust(peer)) return false;
    const std::string about = absl::StrCat(
        "the certificate of ", Quoted(peer.subject), " for ", FewOf(peer.names),
        " is good until ", TimeText(peer.not_after_unix_s));
    if (peer.not_after_unix_s < world_.UnixNanos() / kSecond + kEndsSoonS) {
      report_.Note(kTls, absl::StrCat(about, ", which is soon"),
                   "replace the files of gradtapd's --tls-cert and --tls-key: "
                   "it reads them again by itself");
    } else {
      report_.Ok(kTls, about);
    }
    return true;
  }

  bool CheckDates(const PeerCertificate& peer) {
    const std::string now = HumanTime(world_.UnixNanos());
    if (peer.not_yet_valid) {
      report_.Problem(
          kTls,
          absl::StrCat("the certificate of ", Quoted(peer.subject),
                       ", or of its authority, is not valid yet: from ",
                       TimeText(peer.not_before_unix_s),
                       " on, and this host's clock says ", now),
          "put the clock of this host right, or of the one that made it");
      return false;
    }
    if (peer.expired) {
      report_.Problem(
          kTls,
          absl::StrCat("the certificate of ", Quoted(peer.subject),
                       ", or of its authority, has expired: valid until ",
                       TimeText(peer.not_after_unix_s),
                       ", and this host's clock says ", now),
          "replace the files of gradtapd's --tls-cert and --tls-key: it reads "
          "them again by itself");
      return false;
    }
    return true;
  }

  bool CheckTrust(const PeerCertificate& peer) {
    if (!peer.for_host) {
      report_.Problem(
          kTls,
          absl::StrCat("the certificate of ", Quoted(peer.subject), " is for ",
                       peer.names.empty() ? "no host" : FewOf(peer.names),
                       ", not for ", Quoted(place_.host)),
          "put one of its names into GRADTAP_COLLECTOR, or make a certificate "
          "with this one in subjectAltName");
      return false;
    }
    if (!peer.distrust.empty()) {
      report_.Problem(
          kTls,
          absl::StrCat("the certificate of ", Quoted(peer.subject),
                       " is of an authority that is not trusted here, ",
                       Quoted(peer.issuer), ": ", peer.distrust),
          agent_.tls_ca_file.empty()
              ? "GRADTAP_TLS_CA=FILE with that authority's certificate, PEM"
              : absl::StrCat("GRADTAP_TLS_CA=", Quoted(agent_.tls_ca_file),
                             " has other authorities: put that one's "
                             "certificate there"));
      return false;
    }
    if (peer.refused_ours) {
      report_.Problem(
          kTls,
          agent_.tls_cert_file.empty()
              ? "the collector wants a certificate of ours, and there is none"
              : absl::StrCat("the collector refuses our certificate, ",
                             Quoted(agent_.tls_cert_file)),
          "GRADTAP_TLS_CERT and GRADTAP_TLS_KEY with a pair that its "
          "--tls-client-ca has signed");
      return false;
    }
    return true;
  }

  // ---- gRPC. ----

  void Ask() {
    const CollectorAnswer answer = world_.Ask(options_, run_);
    if (!answer.reached.ok()) return NoGrpc(answer.reached);
    if (absl::IsUnimplemented(answer.read)) {
      report_.Problem(kCollector,
                      absl::StrCat("what answers at ", Quoted(address_),
                                   " is no gradtap collector"),
                      "correct GRADTAP_COLLECTOR: gradtapd prints its gRPC "
                      "address when it starts");
      return;
    }
    if (absl::IsUnavailable(answer.read) ||
        absl::IsDeadlineExceeded(answer.read)) {
      report_.Unreachable(kCollector, Words(answer.read),
                          "give it longer with --timeout SECONDS; gradtapd's "
                          "log may say more");
      return;
    }
    CheckToken(answer);
    if (answer.read.ok()) {
      CheckStoring(answer.status);
    } else if (answer.version.empty()) {
      report_.Note(kVersion,
                   "the collector's version and clock are not known: it tells "
                   "only who may read",
                   "--token-file FILE with a token of the role read");
      return;
    } else if (absl::IsPermissionDenied(answer.read)) {
      report_.Ok(
          kStoring,
          "whether the collector stores what comes it tells only who may "
          "read (--token-file FILE)");
    } else {
      report_.Note(kStoring, Words(answer.read),
                   "look at its log, and at `gradtap status`");
    }
    CheckVersion(answer);
    CheckClock(answer);
  }

  void NoGrpc(const absl::Status& status) {
    if (absl::IsFailedPrecondition(status)) {  // Nothing was dialled.
      report_.Problem(kToken, Words(status), "");
      return;
    }
    if (proxy_) {
      report_.Unreachable(kCollector, Words(status),
                          "is the proxy right? Unset GRADTAP_PROXY to dial the "
                          "collector directly");
      return;
    }
    if (!agent_.tls &&
        world_.LookAtCertificate(connected_, place_.host, options_)
            .handshake.ok()) {
      report_.Problem(
          kTls,
          absl::StrCat(Quoted(address_), " speaks TLS, and TLS is off here"),
          "GRADTAP_TLS=1, and GRADTAP_TLS_CA=FILE if its authority "
          "is your own");
      return;
    }
    report_.Problem(
        kCollector,
        absl::StrCat("something listens, but speaks no gRPC: ", Words(status)),
        "is it the collector's HTTP port? gRPC has one of its own, "
        "by default 7317");
  }

  void CheckToken(const CollectorAnswer& answer) {
    const bool none = options_.token.empty();
    const absl::Status run =
        answer.write.ok() ? answer.run.value_or(answer.write) : answer.write;
    if (absl::IsUnauthenticated(answer.write) ||
        absl::IsPermissionDenied(answer.write)) {
      report_.Problem(
          kToken,
          absl::StrCat(none ? "" : "the token may not write: ",
                       Words(answer.write)),
          "GRADTAP_TOKEN_FILE=FILE with a token of `gradtapd token create "
          "--role write`");
    } else if (absl::IsUnimplemented(answer.write)) {
      report_.Problem(kToken, "the collector takes no records",
                      "correct GRADTAP_COLLECTOR");
    } else if (answer.write.ok() && absl::IsPermissionDenied(run)) {
      report_.Problem(kToken, Words(run),
                      absl::StrCat("another GRADTAP_RUN than ", Quoted(run_),
                                   ", or a token for it: `gradtapd token "
                                   "create --role write --runs PREFIX`"));
    } else if (!run.ok()) {
      report_.Problem(
          kToken,
          absl::StrCat("the collector takes no records now: ", Words(run)),
          "look at its log, and at `gradtap status`");
    } else if (none) {
      report_.Ok(kToken, "none is needed to write");
    } else {
      report_.Ok(
          kToken,
          absl::StrCat("it may write", answer.read.ok() ? " and read" : "",
                       answer.run
                           ? absl::StrCat(" the run ", Quoted(run_))
                           : ", of the runs that it is limited to, if any"));
    }
  }

  // A session opens all the same where a disk fails, and where it is full.
  void CheckStoring(const v1::GetStatusResponse& status) {
    const std::string& failure = status.figures().storing().what();
    if (status.keeping().ingest_stopped()) {
      report_.Problem(kStoring,
                      "the collector stores nothing: its disk is at its "
                      "reserve (--disk-reserve)",
                      "make room there, `gradtap unpin` or `gradtap delete` "
                      "runs: it goes on by itself");
    } else if (!failure.empty()) {
      report_.Problem(kStoring,
                      absl::StrCat("the collector cannot store: ", failure),
                      "look at its disk, at its log and at `gradtap status`");
    } else if (status.has_figures()) {
      report_.Ok(kStoring, "the collector stores what comes");
    }
  }

  void CheckVersion(const CollectorAnswer& answer) {
    const std::string& theirs = answer.version;
    const std::string both =
        absl::StrCat("the collector is gradtapd ", Quoted(theirs),
                     ", this is gradtap ", GRADTAP_VERSION);
    if (Minor(theirs) == Minor(GRADTAP_VERSION)) {
      report_.Ok(kVersion, both);
    } else {
      report_.Note(kVersion, both,
                   "neighbouring minor versions work together; bring the older "
                   "one up");
    }
  }

  // Whatever the collector says, nothing overflows.
  void CheckClock(const CollectorAnswer& answer) {
    const std::int64_t theirs = answer.time_unix_ns;
    if (theirs <= 0) {
      report_.Note(kClock, "the collector does not tell its time",
                   "it is older than this program: bring it up");
      return;
    }
    const std::int64_t asked = answer.asked_unix_ns;
    const std::int64_t answered = std::max(answer.answered_unix_ns, asked);
    std::int64_t apart = 0;
    if (theirs > answered) apart = theirs - answered;
    if (theirs < asked) apart = asked - theirs;
    const std::string text =
        absl::StrCat("the collector's clock is ", HumanLatency(apart),
                     theirs < asked ? " behind" : " ahead of", " this host's");
    constexpr char kAdvice[] =
        "let both follow a time server (chrony, systemd-timesyncd): alerts "
        "and --since go by time";
    if (apart > kClockProblem) {
      report_.Problem(kClock, text, kAdvice);
    } else if (apart > kClockNote) {
      report_.Note(kClock, text, kAdvice);
    } else {
      report_.Ok(kClock, absl::StrCat(
                             "it agrees with the collector's; the answer took ",
                             HumanLatency(answered - asked)));
    }
  }

  World& world_;
  const AgentOptions& agent_;
  const std::string& run_;
  const bool proxy_;
  const DoctorOptions& doctor_;
  Report& report_;
  const std::string address_;
  const HostPort place_;
  ChannelOptions options_;
  std::string connected_;  // Which address took the connection.
};

}  // namespace

void CheckCollector(World* world, const DoctorPlan& plan,
                    const DoctorOptions& options, Report* report) {
  const AgentOptions& o = plan.settings.options;
  if (o.offline) {
    report->Ok(kCollector, "not asked: agents are offline");
    return;
  }
  const std::string address = agent::CompleteAddress(o.collector);
  if (address.empty()) return;  // Reported.
  CollectorCheck(world, plan, options, address, report).Run();
}

}  // namespace gradtap::client
