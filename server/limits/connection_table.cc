#include "server/limits/connection_table.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::server {
namespace {

// What a connection may send without a message, a second: pings, settings,
// probes of its health.
constexpr std::uint64_t kBytesASecond = 16'384;
// Of what has been sent to it: it acknowledges in frames of its own.
constexpr std::uint64_t kSentPart = 64;
// One message may have come in part: who holds no more is not ended for what
// others hold.
constexpr std::uint64_t kOneMessage = std::uint64_t{5} << 20;

constexpr std::chrono::milliseconds kForgetEvery{100};

// Of one client, that are asked what they have left: at each new one.
constexpr std::size_t kNewest = 32;

// Of what gRPC says of a call's peer, "ipv6:%5B2001:db8::1%25eth0%5D:4000".
struct PeerParts {
  std::string_view scheme, host, port;  // Host: without brackets and zone.
};

PeerParts PartsOf(std::string_view peer) {
  const std::size_t scheme = peer.find(':');
  const std::size_t port = peer.rfind(':');
  if (scheme == std::string_view::npos || port <= scheme) return {};
  PeerParts parts = {peer.substr(0, scheme),
                     peer.substr(scheme + 1, port - scheme - 1),
                     peer.substr(port + 1)};
  for (const std::string_view open : {"[", "%5B"}) {
    if (parts.host.starts_with(open)) parts.host.remove_prefix(open.size());
  }
  parts.host = parts.host.substr(0, parts.host.find_first_of("]%"));
  return parts;
}

// Of an address of IPv6 as a whole, or of its network. One that stands for an
// address of IPv4 is that address.
std::string Ipv6Text(const std::string& host, bool network) {
  in6_addr address{};
  if (::inet_pton(AF_INET6, host.c_str(), &address) != 1) return host;
  char text[INET6_ADDRSTRLEN];
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    return ::inet_ntop(AF_INET, address.s6_addr + 12, text, sizeof text);
  }
  if (network) std::fill(address.s6_addr + 8, address.s6_addr + 16, 0);
  return std::string(::inet_ntop(AF_INET6, &address, text, sizeof text)) +
         (network ? "/64" : "");
}

// Whoever writes it.
std::string KeyOf(std::string_view peer) {
  const PeerParts parts = PartsOf(peer);
  if (parts.scheme != "ipv4" && parts.scheme != "ipv6") {
    return std::string(peer);
  }
  return Ipv6Text(std::string(parts.host), false) + " " +
         std::string(parts.port);
}

}  // namespace

std::string PeerName(const sockaddr_storage& address) {
  char host[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
    return absl::StrCat("ipv4:", host, ":", ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    ::inet_ntop(AF_INET, v6.sin6_addr.s6_addr + 12, host, sizeof host);
    return absl::StrCat("ipv4:", host, ":", ntohs(v6.sin6_port));
  }
  ::inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
  const std::string zone =
      v6.sin6_scope_id == 0 ? "" : absl::StrCat("%25", v6.sin6_scope_id);
  return absl::StrCat("ipv6:%5B", host, zone, "%5D:", ntohs(v6.sin6_port));
}

std::string ClientOf(std::string_view peer) {
  const PeerParts parts = PartsOf(peer);
  if (parts.scheme == "ipv4") return std::string(parts.host);
  if (parts.scheme != "ipv6") return std::string(peer);
  return Ipv6Text(std::string(parts.host), true);
}

bool ConnectionTable::Admit(int fd, const std::string& peer) {
  const std::string client = ClientOf(peer);
  const auto now = clock_->Steady();
  MutexLock lock(mu_);
  if (const auto shut = shut_.find(client);
      shut != shut_.end() && now < shut->second) {
    Refused(Limit::kClientRequests);
    return false;
  }
  const auto too_many = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto of = clients_.find(client);
    return by_peer_.size() >= caps_.connections ||
           (of != clients_.end() &&
            of->second.connections >= caps_.of_a_client);
  };
  if (too_many() && now >= forget_at_) {
    std::erase_if(by_peer_,
                  [this](const auto& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
                    return HasGone(*entry.second);
                  });
    forget_at_ = now + kForgetEvery;
  }
  if (too_many()) {
    Refused(by_peer_.size() >= caps_.connections ? Limit::kConnections
                                                 : Limit::kClientConnections);
    return false;
  }
  if (LeftBy(client) > caps_.left_bytes) {
    Refused(Limit::kLeftBytes);
    return false;
  }
  auto connection = std::make_shared<OpenConnection>();
  connection->fd_ = fd;
  connection->identity_ = sockets_->Identity(fd);
  connection->client_ = client;
  connection->since_ = now;
  std::shared_ptr<OpenConnection>& place = by_peer_[KeyOf(peer)];
  if (place != nullptr) {
    // Of the same port, to another address of ours: calls could not be told
    // apart.
    if (!HasGone(*place)) {
      Refused(Limit::kClientConnections);
      return false;
    }
    // The port was another connection's, which has been closed.
  }
  place = connection;
  Client& of = clients_[client];
  ++of.connections;
  if (of.newest.size() == kNewest) of.newest.pop_front();
  of.newest.push_back(std::move(connection));
  return true;
}

std::shared_ptr<OpenConnection> ConnectionTable::Find(
    std::string_view peer) const {
  MutexLock lock(mu_);
  const auto found = by_peer_.find(KeyOf(peer));
  return found == by_peer_.end() ? nullptr : found->second;
}

bool ConnectionTable::HasGone(const OpenConnection& connection) {
  if (sockets_->Identity(connection.fd_) == connection.identity_) return false;
  Leave(connection.client_);
  return true;
}

void ConnectionTable::Leave(const std::string& client) {
  const auto of = clients_.find(client);
  if (--of->second.connections == 0) clients_.erase(of);
}

std::uint64_t ConnectionTable::LeftBy(const std::string& client) {
  const auto of = clients_.find(client);
  if (of == clients_.end()) return 0;
  std::uint64_t left = 0;
  // One that is closed stays counted until the table is looked at.
  std::erase_if(of->second.newest, [&](const auto& connection) {
    if (sockets_->Identity(connection->fd_) != connection->identity_) {
      return true;
    }
    left += sockets_->LeftBy(connection->fd_);
    return false;
  });
  return left;
}

void ConnectionTable::EndAndShut(const OpenConnection& connection) {
  End(connection);
  const auto now = clock_->Steady();
  MutexLock lock(mu_);
  std::erase_if(shut_, [now](const auto& one) { return one.second <= now; });
  shut_[connection.client_] = now + kShutTime;
}

std::uint64_t ConnectionTable::HeldBy(const OpenConnection& connection) const {
  const Sockets::Traffic traffic = sockets_->TrafficOf(connection.fd_);
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(
      clock_->Steady() - connection.since_);
  const std::uint64_t accounted =
      connection.taken_.load(std::memory_order_relaxed) +
      traffic.sent / kSentPart +
      static_cast<std::uint64_t>(age.count()) * kBytesASecond;
  return traffic.received > accounted ? traffic.received - accounted : 0;
}

void ConnectionTable::Look() {
  std::vector<Holder> holders;
  {
    MutexLock lock(mu_);
    holders.reserve(by_peer_.size());
    std::erase_if(by_peer_,
                  [&](const auto& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
                    const OpenConnection& one = *entry.second;
                    // Before it is asked whether it is still this one's socket.
                    const std::uint64_t bytes = HeldBy(one);
                    if (HasGone(one)) return true;
                    holders.push_back({entry.second, bytes});
                    return false;
                  });
  }
  EndThoseThatHold(std::move(holders));
  EndThoseThatAreLate();
}

void ConnectionTable::EndThoseThatHold(std::vector<Holder> holders) const {
  std::uint64_t in_all = 0;
  for (const Holder& one : holders) in_all += one.bytes;
  std::sort(holders.begin(), holders.end(),
            [](const Holder& a, const Holder& b) { return a.bytes > b.bytes; });
  for (const Holder& one : holders) {
    const bool one_too_much = one.bytes > caps_.held_bytes;
    const bool all_too_much =
        in_all > caps_.held_in_all && one.bytes > kOneMessage;
    if (!one_too_much && !all_too_much) break;
    Refused(Limit::kHeldBytes);
    sockets_->End(one.connection->fd_, one.connection->identity_);
    in_all -= one.bytes;
  }
}

void ConnectionTable::EndThoseThatAreLate() {
  const auto now = clock_->Steady();
  MutexLock lock(mu_);
  for (auto& [until, timed] : timers_) {
    if (until > now) break;
    if (timed.connection == nullptr) continue;
    Refused(timed.limit);
    End(*timed.connection);
    timed.connection = nullptr;  // Once.
  }
}

std::size_t ConnectionTable::size() const {
  MutexLock lock(mu_);
  return by_peer_.size();
}

ConnectionTimer::ConnectionTimer(ConnectionTable* table,
                                 std::shared_ptr<OpenConnection> connection,
                                 For what)
    : table_(connection == nullptr ? nullptr : table) {
  if (table_ == nullptr) return;
  const bool request = what == For::kRequest;
  const auto until =
      table_->clock_->Steady() +
      (request ? table_->caps_.request_time : table_->caps_.answer_time);
  ConnectionTable::Timed timed{std::move(connection), request
                                                          ? Limit::kRequestTime
                                                          : Limit::kAnswerTime};
  MutexLock lock(table_->mu_);
  at_ = table_->timers_.emplace(until, std::move(timed));
}

ConnectionTimer::~ConnectionTimer() {
  if (table_ == nullptr) return;
  MutexLock lock(table_->mu_);
  table_->timers_.erase(at_);
}

}  // namespace gradtap::server
