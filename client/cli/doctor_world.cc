#include "client/cli/doctor_world.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/delivery/leftover.h"
#include "agent/spool/owned_file.h"
#include "client/cli/context.h"

namespace gradtap::client {
namespace {

namespace fs = std::filesystem;

// Counting what dead processes have left may read gigabytes.
constexpr std::chrono::seconds kLongestCount{10};
constexpr char kSocketPrefix[] = "unix:";

absl::Status Failed(int error) {
  return absl::UnavailableError(std::strerror(error));
}

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
};

absl::StatusOr<Endpoint> SocketEndpoint(const std::string& path) {
  Endpoint endpoint;
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  if (path.size() >= sizeof(local.sun_path)) return Failed(ENAMETOOLONG);
  std::memcpy(local.sun_path, path.data(), path.size());
  std::memcpy(&endpoint.storage, &local, sizeof(local));
  endpoint.bytes = sizeof(local);
  return endpoint;
}

// Looks nothing up.
absl::StatusOr<Endpoint> NumericEndpoint(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return Failed(EINVAL);
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(
      host.c_str(), address.substr(colon + 1).c_str(), &hints, &found);
  if (error != 0) return absl::UnavailableError(::gai_strerror(error));
  Endpoint endpoint;
  std::memcpy(&endpoint.storage, found->ai_addr, found->ai_addrlen);
  endpoint.bytes = found->ai_addrlen;
  ::freeaddrinfo(found);
  return endpoint;
}

// 0, or the errno of a connection that was begun.
int WaitConnected(int fd, std::chrono::milliseconds deadline) {
  const auto until = std::chrono::steady_clock::now() + deadline;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    pollfd wait{fd, POLLOUT, 0};
    const int ready = ::poll(
        &wait, 1,
        static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30)));
    if (ready == 0) return ETIMEDOUT;
    if (ready > 0) break;
    if (errno != EINTR) return errno;
  }
  int error = 0;
  socklen_t bytes = sizeof(error);
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 ? error
                                                                     : errno;
}

LeftoverFacts Count(const agent::LeftoverPlace& place,
                    std::chrono::steady_clock::time_point until) {
  LeftoverFacts facts;
  facts.path = place.path();
  if (place.set_aside) {
    facts.state = LeftoverFacts::State::kSetAside;
    return facts;
  }
  // As a copy: nothing in it is changed.
  const auto opening =
      agent::Leftover::Opening::Begin(place, agent::SpoolUse::kCopy);
  absl::Status failure = opening.status();
  while (failure.ok()) {
    const bool late = std::chrono::steady_clock::now() > until;
    if (const auto* identity = (*opening)->identity(); identity != nullptr) {
      facts.collector = identity->collector;
      if (late) return facts;
    }
    const auto leftover = (*opening)->Step();
    if (leftover.ok() && *leftover != nullptr) {
      facts.collector = (*leftover)->identity().collector;
      facts.steps = (*leftover)->steps();
      return facts;
    }
    failure = leftover.status();
  }
  facts.state = agent::LiveOwner(failure) ? LeftoverFacts::State::kRunning
                                          : LeftoverFacts::State::kUnreadable;
  facts.why = std::string(failure.message());
  if (absl::IsNotFound(failure)) facts.path.clear();  // Nothing is in it.
  return facts;
}

class RealWorld : public World {
 public:
  explicit RealWorld(const Io& io) : io_(io) {}

  std::vector<std::string> VariableNames() override { return io_.env_names(); }
  std::optional<std::string> Variable(const std::string& name) override {
    return io_.env(name.c_str());
  }
  std::int64_t UnixNanos() override { return io_.clock.UnixNanos(); }

  Resolution Resolve(const std::string& host,
                     const std::string& port) override {
    Resolution resolution;
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const auto before = io_.clock.Steady();
    const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
    resolution.took_ns = (io_.clock.Steady() - before).count();
    if (error != 0) {
      resolution.status = absl::UnavailableError(
          error == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(error));
      return resolution;
    }
    for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
      char text[NI_MAXHOST] = "";
      if (::getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text),
                        nullptr, 0, NI_NUMERICHOST) == 0) {
        resolution.addresses.emplace_back(text);
      }
    }
    ::freeaddrinfo(found);
    return resolution;
  }

  absl::Status Connect(const std::string& address,
                       std::chrono::milliseconds deadline) override {
    const absl::StatusOr<int> fd = ConnectSocket(address, deadline);
    if (!fd.ok()) return fd.status();
    ::close(*fd);
    return absl::OkStatus();
  }

  PeerCertificate LookAtCertificate(const std::string& address,
                                    const std::string& host,
                                    const ChannelOptions& options) override {
    return ShakeHands(address, host, options);
  }

  CollectorAnswer Ask(const ChannelOptions& options,
                      const std::string& run) override {
    CollectorAnswer answer;
    const auto channel = QueryChannel::Connect(options);
    answer.reached = channel.status();
    if (!answer.reached.ok()) return answer;
    answer.asked_unix_ns = UnixNanos();
    answer.read = (*channel)->Call(&v1::Query::Stub::GetStatus,
                                   v1::GetStatusRequest(), &answer.status);
    answer.answered_unix_ns = UnixNanos();
    answer.version = answer.status.version();
    answer.time_unix_ns = answer.status.time_unix_ns();
    const std::int64_t began = UnixNanos();
    const SessionTrial trial = (*channel)->TrySession("");
    const std::int64_t ended = UnixNanos();
    answer.write = trial.status;
    if (!answer.read.ok()) {
      answer.version = trial.version;
      answer.time_unix_ns = trial.time_unix_ns;
      answer.asked_unix_ns = began;
      answer.answered_unix_ns = ended;
    }
    if (!run.empty() && trial.status.ok() && !trial.version.empty()) {
      answer.run = (*channel)->TrySession(run).status;
    }
    return answer;
  }

  FolderFacts Folder(const std::string& path, Links links) override {
    FolderFacts facts;
    struct stat about {};
    const int flags = links == Links::kShow ? AT_SYMLINK_NOFOLLOW : 0;
    if (::fstatat(AT_FDCWD, path.c_str(), &about, flags) != 0) {
      const int error = errno;
      if (error == ENOENT) return facts;
      facts.kind = FolderFacts::Kind::kUnknown;
      facts.error = std::strerror(error);
      return facts;
    }
    facts.kind = S_ISDIR(about.st_mode)   ? FolderFacts::Kind::kFolder
                 : S_ISLNK(about.st_mode) ? FolderFacts::Kind::kLink
                                          : FolderFacts::Kind::kOther;
    facts.mode = about.st_mode & 07777;
    facts.ours = about.st_uid == ::geteuid();
    facts.writable =
        ::faccessat(AT_FDCWD, path.c_str(), W_OK | X_OK, AT_EACCESS) == 0;
    struct statfs file_system {};
    struct statvfs room {};
    if (::statfs(path.c_str(), &file_system) == 0) {
      facts.file_system = static_cast<std::int64_t>(file_system.f_type);
    }
    if (::statvfs(path.c_str(), &room) == 0) {
      facts.free_bytes = std::uint64_t{room.f_bavail} * room.f_frsize;
    }
    return facts;
  }

  std::vector<LeftoverFacts> Leftovers(
      const std::string& spool_root, const std::string& ring_folder) override {
    std::vector<LeftoverFacts> all;
    const auto places = agent::FindLeftovers(spool_root, ring_folder,
                                             /*lone_rings=*/true);
    if (!places.ok()) {
      if (absl::IsNotFound(places.status())) return all;
      LeftoverFacts facts;
      facts.state = LeftoverFacts::State::kUnreadable;
      facts.path = spool_root;
      facts.why = std::string(places.status().message());
      all.push_back(std::move(facts));
      return all;
    }
    const auto until = std::chrono::steady_clock::now() + kLongestCount;
    for (const agent::LeftoverPlace& place : *places) {
      LeftoverFacts facts = Count(place, until);
      if (!facts.path.empty()) all.push_back(std::move(facts));
    }
    return all;
  }

  absl::Status CheckPem(const std::string& path) override {
    const absl::StatusOr<std::string> text = ReadPemFile(path);
    if (!text.ok()) return absl::InvalidArgumentError("cannot be read");
    if (!absl::StrContains(*text, "-----BEGIN ")) {
      return absl::InvalidArgumentError("is not PEM");
    }
    return absl::OkStatus();
  }

  std::vector<std::string> AgentLibraries() override {
    std::error_code error;
    const fs::path here =
        fs::read_symlink("/proc/self/exe", error).parent_path();
    std::set<std::string> found;
    for (const fs::path& folder : {here, here / "../agent", here / "../lib",
                                   here / "../lib64", here / "../lib"}) {
      Collect(folder, &found);
    }
    // Debian's lib/x86_64-linux-gnu and the like.
    fs::directory_iterator below(here / "../lib", error);
    for (; !error && below != fs::directory_iterator();
         below.increment(error)) {
      const std::string name = below->path().filename().string();
      if (absl::StrContains(name, "-linux-")) Collect(below->path(), &found);
    }
    return {found.begin(), found.end()};
  }

 private:
  static void Collect(const fs::path& folder, std::set<std::string>* found) {
    std::error_code error;
    fs::directory_iterator at(folder, error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
      const std::string name = at->path().filename().string();
      if (!name.starts_with("libgradtap_agent.so")) continue;
      std::error_code broken;
      const fs::path real = fs::canonical(at->path(), broken);
      if (!broken) found->insert(real.string());
    }
  }

  const Io& io_;
};

}  // namespace

absl::StatusOr<int> ConnectSocket(const std::string& address,
                                  std::chrono::milliseconds deadline) {
  const auto endpoint =
      address.starts_with(kSocketPrefix)
          ? SocketEndpoint(address.substr(sizeof(kSocketPrefix) - 1))
          : NumericEndpoint(address);
  if (!endpoint.ok()) return endpoint.status();
  const int fd = ::socket(endpoint->storage.ss_family,
                          SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Failed(errno);
  int error = 0;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&endpoint->storage),
                endpoint->bytes) != 0) {
    error = errno == EINPROGRESS ? WaitConnected(fd, deadline) : errno;
  }
  if (error == 0) return fd;
  ::close(fd);
  return Failed(error);
}

std::unique_ptr<World> MakeWorld(const Io& io) {
  return std::make_unique<RealWorld>(io);
}

}  // namespace gradtap::client
