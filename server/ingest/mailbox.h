// What happens to one call, one event after the other, run by one thread at a
// time: one of those that post, with no lock held.
//
// Who posts while nobody runs events runs its own and all that come meanwhile:
// any of them may take long. The committer must not: all sessions' commits wait
// for it. So it runs its own event alone, and who posts meanwhile waits for the
// end of that, and goes on with the rest.
//
// Layer: server/ingest. This file: std, core; no grpc, no *.pb.h. Thread-safe.

#ifndef GRADTAP_SERVER_INGEST_MAILBOX_H_
#define GRADTAP_SERVER_INGEST_MAILBOX_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <thread>

#include "core/sync.h"

namespace gradtap::server {

class Mailbox {
 public:
  // [Threading] any, one at a time. [Locking] none held. [Exceptions] must not
  // throw. May post.
  using Event = std::function<void()>;

  // Returns when somebody else runs events, or none is left.
  void Post(Event event) ABSL_LOCKS_EXCLUDED(mu_);
  // Runs no event but such, which have to be short. Never waits for an event.
  void PostShort(Event event) ABSL_LOCKS_EXCLUDED(mu_);

  // Threads that wait for the end of a short event.
  std::size_t WaitingForTest() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return waiting_;
  }

 private:
  enum class Runner : std::uint8_t { kNobody, kAny, kShort };

  // False: there is none, and nobody runs events any more.
  bool Next(Event* event) ABSL_LOCKS_EXCLUDED(mu_);
  void Run() ABSL_LOCKS_EXCLUDED(mu_);

  mutable Mutex mu_;
  CondVar handed_over_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);
  Runner runner_ ABSL_GUARDED_BY(mu_) = Runner::kNobody;
  std::thread::id short_runner_ ABSL_GUARDED_BY(mu_);
  // Threads that wait for a short runner, each with an event of its own among
  // `events_`.
  std::size_t waiting_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_MAILBOX_H_
