// Room for records that are joined from their parts, until they are durable: of
// all sessions together, and of each client.
//
// A record may have 256 MiB, of which a few KB had to be sent, and any number
// of them may wait for their last part. Who finds no room waits: its parts are
// in the store, and its session is not read meanwhile. Clients take turns,
// and one client's are in the order of asking. One client has four fifths of
// the room at most, and who waits for others of its own client is passed.
//
// What is held for those who wait is bounded as well, and no part of what all
// sessions together may hold: one client's would hold up those of all others.
//
// Layer: server/ingest. This file: std, core; no grpc, no *.pb.h. Thread-safe:
// a call costs a walk over those that wait, and one more for each whose turn
// comes.

#ifndef GRADTAP_SERVER_INGEST_JOIN_ROOM_H_
#define GRADTAP_SERVER_INGEST_JOIN_ROOM_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "core/sync.h"

namespace gradtap::server {

class JoinRoom : public std::enable_shared_from_this<JoinRoom> {
 public:
  // Taken, or waited for, for as long as it is there. Any thread may end it.
  class Place {
   public:
    ~Place() { room_->Leave(this); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    // Once true it stays so.
    bool taken() const { return taken_; }

   private:
    friend class JoinRoom;
    Place(std::shared_ptr<JoinRoom> room, std::string client,
          std::uint64_t bytes, std::uint64_t held)
        : room_(std::move(room)),
          client_(std::move(client)),
          bytes_(bytes),
          held_(held) {}

    const std::shared_ptr<JoinRoom> room_;
    const std::string client_;
    const std::uint64_t bytes_;
    const std::uint64_t held_;
    std::atomic<bool> taken_{false};
  };

  // `of_a_client`: bytes; there is a quarter more in all.
  static std::shared_ptr<JoinRoom> Create(std::uint64_t of_a_client);

  // A record that is larger than what a client may have counts as that. `held`:
  // bytes that are kept until it has its turn. Null if it would have to wait,
  // and more than `of_a_client` would be held for its client, or more than
  // twice that for all.
  std::unique_ptr<Place> Ask(const std::string& client, std::uint64_t bytes,
                             std::uint64_t held) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  explicit JoinRoom(std::uint64_t of_a_client) : of_a_client_(of_a_client) {}

  void Leave(Place* place) ABSL_LOCKS_EXCLUDED(mu_);
  void Grant() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HoldsTooMuch(const Place& next) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Others of its client are behind all others from now on.
  void EndTurn(const std::string& client) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::uint64_t of_a_client_;
  Mutex mu_;
  std::list<Place*> waiting_ ABSL_GUARDED_BY(mu_);
  std::uint64_t taken_ ABSL_GUARDED_BY(mu_) = 0;  // By all.
  // By client; none is zero.
  std::unordered_map<std::string, std::uint64_t> taken_by_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_JOIN_ROOM_H_
