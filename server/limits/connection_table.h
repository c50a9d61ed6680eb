// The connections of gRPC's port: how many there are, whose they are, and what
// each holds of the collector's memory.
//
// gRPC 1.51 takes connections without end, and reads a message as a whole
// before it looks at its size. When its buffers have reached their quota it
// ends the oldest calls, whoever's they are. Hence, before that: a connection
// has to send whole messages. What has come over it and has not been given to a
// call yet is held; who holds too much is cut off.
//
// Nor does it look whether a connection whose bytes it is about to read is
// still there. Who comes, sends a hundred calls and goes, again and again,
// leaves it seconds of work that nobody waits for, and all that goes on waits
// for that. Hence a client that has left too many bytes behind gets no new
// connection until they have been read.
//
// Nor does it end a call whose request never comes, or whose answer nobody
// reads, which has memory and its part of the room for large answers as long.
// Hence each has a time within which it is to be there, or its connection is
// ended.
//
// The table does not own the sockets and is not told when gRPC closes one: it
// asks the system whether the descriptor is still the same socket.
//
// Layer: server/limits. This file: std, core.

#ifndef GRADTAP_SERVER_LIMITS_CONNECTION_TABLE_H_
#define GRADTAP_SERVER_LIMITS_CONNECTION_TABLE_H_

#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/clock.h"
#include "core/sync.h"
#include "server/limits/limit_counters.h"

namespace gradtap::server {

struct ConnectionCaps {
  std::size_t connections = 4'096;
  // Of one address; of IPv6, of one /64.
  std::size_t of_a_client = 2'048;
  std::uint64_t held_bytes = std::uint64_t{32} << 20;  // By one connection.
  std::uint64_t held_in_all = std::uint64_t{128} << 20;
  // That connections of one client have left behind, which have gone.
  std::uint64_t left_bytes = std::uint64_t{64} << 10;
  // Within which a request is to have come, from its call's beginning on.
  std::chrono::milliseconds request_time{10'000};
  // Within which an answer is to have been sent, from its making on.
  std::chrono::milliseconds answer_time{120'000};
};

// What the system knows of a socket. Any thread; no call waits.
class Sockets {
 public:
  struct Traffic {
    std::uint64_t received = 0;  // And read, since the connection began.
    std::uint64_t sent = 0;      // And acknowledged.
  };

  virtual ~Sockets() = default;
  // Never the same for two sockets; 0: that is none.
  virtual std::uint64_t Identity(int fd) const = 0;
  virtual Traffic TrafficOf(int fd) const = 0;
  // What has come and is not read yet, once the other side has closed; 0: it
  // has not.
  virtual std::uint64_t LeftBy(int fd) const = 0;
  // Ends the connection, if the descriptor is still that socket; what has come
  // and is not read yet is not going to be.
  virtual void End(int fd, std::uint64_t identity) const = 0;

  static const Sockets& OfTheSystem();  // Never destroyed.
};

// A connection as calls see it.
class OpenConnection {
 public:
  // A message of so many bytes has been given to a call, or a call has begun.
  void Took(std::size_t bytes) {
    taken_.fetch_add(bytes + bytes / 32 + kOfAMessage,
                     std::memory_order_relaxed);
  }
  // A call was refused because its client asks too often. True: so were some
  // within kRefusalTime, and whoever is there does not listen.
  bool RefusedAgain(std::chrono::steady_clock::time_point now) {
    const std::int64_t time = now.time_since_epoch() / kRefusalTime;
    if (refused_in_.exchange(time, std::memory_order_relaxed) != time) {
      refused_.store(0, std::memory_order_relaxed);
    }
    return refused_.fetch_add(1, std::memory_order_relaxed) + 1 >= kRefusals;
  }

 private:
  friend class ConnectionTable;
  static constexpr int kRefusals = 5;
  static constexpr std::chrono::seconds kRefusalTime{10};
  // Heads, frames, acknowledgements: what comes besides a message.
  static constexpr std::size_t kOfAMessage = 512;

  int fd_ = -1;
  std::uint64_t identity_ = 0;
  std::string client_;
  std::chrono::steady_clock::time_point since_;
  std::atomic<std::uint64_t> taken_{0};
  std::atomic<std::int64_t> refused_in_{0};  // In which of such times,
  std::atomic<int> refused_{0};              // and how often.
};

// An address of IPv4 or IPv6 as gRPC says it of its calls, with what its URI
// has to escape: "ipv4:192.0.2.1:4000".
std::string PeerName(const sockaddr_storage& address);

// Who that is, of what gRPC says of a call: "ipv4:192.0.2.1:4000" is the client
// "192.0.2.1", an address of IPv6 its network, "2001:db8:0:1::/64"; anything
// else is itself.
std::string ClientOf(std::string_view peer);

// Thread-safe, each call holding one lock; Look() by one thread at a time.
class ConnectionTable {
 public:
  // All must outlive it; `refused` may be null.
  ConnectionTable(const ConnectionCaps& caps, const Clock* clock,
                  const Sockets* sockets, LimitCounters* refused)
      : caps_(caps), clock_(clock), sockets_(sockets), refused_(refused) {}

  // A connection has been accepted. False: there are too many, which is
  // counted; it is to be closed. `peer`: as gRPC will say it of its calls.
  bool Admit(int fd, const std::string& peer) ABSL_LOCKS_EXCLUDED(mu_);

  // One was accepted and closed, for want of descriptors: counted as too many.
  void NoRoom() const { Refused(Limit::kConnections); }

  // Null: not known.
  std::shared_ptr<OpenConnection> Find(std::string_view peer) const
      ABSL_LOCKS_EXCLUDED(mu_);

  // Forgets those that are closed; ends those that hold more than one may, and
  // while all together hold too much the one that holds most, and those whose
  // timers have run out. Counted.
  void Look() ABSL_LOCKS_EXCLUDED(mu_);

  // Whatever it holds. No call of it costs anything any more.
  void End(const OpenConnection& connection) const {
    sockets_->End(connection.fd_, connection.identity_);
  }
  // The same of one whose client asks too often, and that client gets no new
  // one for kShutTime: else it comes back with the next hundred calls. For
  // clients that are addresses; a token may be one of several behind one.
  void EndAndShut(const OpenConnection& connection) ABSL_LOCKS_EXCLUDED(mu_);
  static constexpr std::chrono::seconds kShutTime{1};

  std::size_t size() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  friend class ConnectionTimer;
  struct Timed {
    std::shared_ptr<OpenConnection> connection;
    Limit limit;
  };
  // By when they end.
  using Timers = std::multimap<std::chrono::steady_clock::time_point, Timed>;

  // Of which there is a connection.
  struct Client {
    std::size_t connections = 0;
    // The last ones of it, oldest first.
    std::deque<std::shared_ptr<OpenConnection>> newest;
  };

  struct Holder {
    std::shared_ptr<OpenConnection> connection;
    std::uint64_t bytes = 0;
  };

  // True: it is closed, and no longer counted.
  bool HasGone(const OpenConnection& connection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What its newest connections have left behind.
  std::uint64_t LeftBy(const std::string& client)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Leave(const std::string& client) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::uint64_t HeldBy(const OpenConnection& connection) const;
  void EndThoseThatHold(std::vector<Holder> holders) const;
  void EndThoseThatAreLate() ABSL_LOCKS_EXCLUDED(mu_);
  void Refused(Limit limit) const {
    if (refused_ != nullptr) refused_->Refused(limit);
  }

  const ConnectionCaps caps_;
  const Clock* const clock_;
  const Sockets* const sockets_;
  LimitCounters* const refused_;

  mutable Mutex mu_;
  std::unordered_map<std::string, std::shared_ptr<OpenConnection>> by_peer_
      ABSL_GUARDED_BY(mu_);
  std::map<std::string, Client> clients_ ABSL_GUARDED_BY(mu_);
  Timers timers_ ABSL_GUARDED_BY(mu_);
  // Clients that get no new connection, and until when.
  std::map<std::string, std::chrono::steady_clock::time_point> shut_
      ABSL_GUARDED_BY(mu_);
  // No earlier is the table searched for closed ones to make room.
  std::chrono::steady_clock::time_point forget_at_ ABSL_GUARDED_BY(mu_);
};

// Ends a connection, counted, unless it is destroyed in time: when the request
// of a call has come, or its answer has been sent. By one thread at a time.
class ConnectionTimer {
 public:
  enum class For { kRequest, kAnswer };

  // `table` must outlive it. Either may be null: there is all the time.
  ConnectionTimer(ConnectionTable* table,
                  std::shared_ptr<OpenConnection> connection, For what);
  ~ConnectionTimer();
  ConnectionTimer(const ConnectionTimer&) = delete;
  ConnectionTimer& operator=(const ConnectionTimer&) = delete;

 private:
  ConnectionTable* const table_;
  ConnectionTable::Timers::iterator at_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_LIMITS_CONNECTION_TABLE_H_
