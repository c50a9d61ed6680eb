// Decides when records go from the ring to the spool, and makes the spool when
// the first one has to.
//
// Layer: agent/delivery. This file: std, absl, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_SPILLER_H_
#define GRADTAP_AGENT_DELIVERY_SPILLER_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/delivery/backlog.h"
#include "agent/delivery/books.h"
#include "agent/delivery/once_log.h"
#include "agent/delivery/ring.h"
#include "agent/spool/spool.h"
#include "core/clock.h"

namespace gradtap::agent {

using MakeSpool = std::function<absl::StatusOr<std::unique_ptr<Spool>>()>;

// [Threading] The delivery thread. All calls but has_spool() wait for the disk.
// What fails is said once and tried again 5 s later; the records stay in the
// ring meanwhile.
class Spiller {
 public:
  // Pointers must outlive it. `make_spool` may be null: nothing is ever moved.
  Spiller(Ring* ring, Backlog* backlog, Books* books, OnceLog* log,
          const Clock* clock, MakeSpool make_spool);

  // Where records can go, as far as is known.
  bool has_spool() const { return make_spool_ != nullptr; }

  // Once more than a quarter of the ring is in use: moves up to 1 MiB, until an
  // eighth is. Steps are thinned from about half a ring on (recorder.h): not
  // while this keeps up. True if there is more to move: call again, soon.
  bool Relieve();
  // Moves up to 1 MiB of what is there. As Relieve().
  bool MoveSome();
  // Moves all and syncs it, now. True if the spool has it and the ring is
  // empty, also where the sync has failed, which is said.
  bool MoveAll();

 private:
  bool Move(std::size_t keep_bytes);
  std::size_t Used() const;
  absl::Status Ready();
  // Says what is wrong, and why steps are lost if the ring fills up now.
  void Tell(const absl::Status& status);

  Ring* const ring_;
  Backlog* const backlog_;
  Books* const books_;
  OnceLog* const log_;
  const Clock* const clock_;
  const MakeSpool make_spool_;
  bool relieving_ = false;
  std::chrono::steady_clock::time_point retry_at_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_SPILLER_H_
