// What `gradtap doctor` asks of the machine and the collector, so that a test
// can answer in their place.
//
// Layer: client/cli. This file: std, absl, proto.

#ifndef GRADTAP_CLIENT_CLI_DOCTOR_WORLD_H_
#define GRADTAP_CLIENT_CLI_DOCTOR_WORLD_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/rpc/query_channel.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

struct Io;

struct Resolution {
  absl::Status status;                 // Not OK: why there is no address.
  std::vector<std::string> addresses;  // Numeric, in the resolver's order.
  std::int64_t took_ns = 0;
};

// What the other side showed in a TLS handshake. Text as the certificate has
// it: hostile.
struct PeerCertificate {
  // Not OK: there was none. kUnavailable: nobody speaks TLS there;
  // kInvalidArgument: a file of ours cannot be used.
  absl::Status handshake;
  std::string subject;
  std::string issuer;
  std::vector<std::string> names;  // Host names and addresses.
  std::int64_t not_before_unix_s = 0;
  std::int64_t not_after_unix_s = 0;
  // Of it, or of those above it.
  bool expired = false;
  bool not_yet_valid = false;
  bool for_host = true;
  // Why it is not trusted, dates and host apart; empty: it is.
  std::string distrust;
  // It wants a certificate of ours, and has refused the one that it got, or
  // none.
  bool refused_ours = false;
};

struct CollectorAnswer {
  absl::Status reached;  // As QueryChannel::Connect() says; if not OK, no more.
  absl::Status read;     // Of GetStatus.
  absl::Status write;    // Of a session without a word.
  // Of one for the run that was named; unset: none was, or the collector does
  // not know the question.
  std::optional<absl::Status> run;
  v1::GetStatusResponse status;
  // As either tells; empty, 0: neither does.
  std::string version;
  std::int64_t time_unix_ns = 0;
  // Around the call that told the time, by our clock.
  std::int64_t asked_unix_ns = 0;
  std::int64_t answered_unix_ns = 0;
};

struct FolderFacts {
  enum class Kind { kMissing, kFolder, kLink, kOther, kUnknown };
  Kind kind = Kind::kMissing;
  std::string error;             // Why it is unknown.
  std::uint32_t mode = 0;        // Permission bits.
  bool ours = false;             // It belongs to this user.
  bool writable = false;         // By this user.
  std::int64_t file_system = 0;  // statfs's f_type.
  std::uint64_t free_bytes = 0;
};

// What one process has left, or has in use.
struct LeftoverFacts {
  enum class State {
    kWaiting,     // Its process has ended.
    kRunning,     // It lives, and delivers by itself.
    kSetAside,    // Delivered, but for what cannot be read.
    kUnreadable,  // `why` says why.
  };
  State state = State::kWaiting;
  std::string path;
  std::string collector;  // That it is for; empty: any.
  std::optional<std::uint64_t>
      steps;  // Unset: it would take too long to count.
  std::string why;
};

// [Threading] One thread. Every call may wait.
class World {
 public:
  virtual ~World() = default;

  virtual std::vector<std::string> VariableNames() = 0;
  virtual std::optional<std::string> Variable(const std::string& name) = 0;
  virtual std::int64_t UnixNanos() = 0;

  virtual Resolution Resolve(const std::string& host,
                             const std::string& port) = 0;
  // Connects and hangs up. `address`: "unix:/PATH", or as Resolve() gives it,
  // with the port: "192.0.2.7:7317", "[::1]:7317".
  virtual absl::Status Connect(const std::string& address,
                               std::chrono::milliseconds deadline) = 0;
  // By the collector's address and files in `options`; `address` as above.
  virtual PeerCertificate LookAtCertificate(const std::string& address,
                                            const std::string& host,
                                            const ChannelOptions& options) = 0;
  // `run`: that an agent would write; empty: not known.
  virtual CollectorAnswer Ask(const ChannelOptions& options,
                              const std::string& run) = 0;

  enum class Links { kShow, kFollow };
  virtual FolderFacts Folder(const std::string& path, Links links) = 0;
  // Either may be empty: none. Changes nothing there.
  virtual std::vector<LeftoverFacts> Leftovers(
      const std::string& spool_root, const std::string& ring_folder) = 0;
  // OK if it can be read, and holds PEM.
  virtual absl::Status CheckPem(const std::string& path) = 0;
  // Paths of the agent's shared library, links followed, where a program that
  // was installed as this one would find it.
  virtual std::vector<std::string> AgentLibraries() = 0;
};

// The world as it is; `io` must outlive it.
std::unique_ptr<World> MakeWorld(const Io& io);

// World::LookAtCertificate of the real one.
PeerCertificate ShakeHands(const std::string& address, const std::string& host,
                           const ChannelOptions& options);

// A connected socket, which the caller closes. kUnavailable says why not.
absl::StatusOr<int> ConnectSocket(const std::string& address,
                                  std::chrono::milliseconds deadline);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_DOCTOR_WORLD_H_
