// The open Watch calls and the one thread that feeds them.
//
// The store's listener only marks calls as due. The hub's thread reads for each
// due call whose last message has left, so that a reader that does not read
// costs nothing but its place, one message and the rows its cursor has at hand:
// what it misses is conflated by its WatchCursor. One that leaves a message
// unread for too long loses the place, and so does one whose token has been
// revoked, read or not. One client (its token, else its address) has half of
// the places at most. Ingest never waits for any of this. Messages are handed
// to gRPC as bytes, which those who ask for the same thing share.
//
// Layer: server/service. This file: grpc, query.

#ifndef GRADTAP_SERVER_SERVICE_WATCH_HUB_H_
#define GRADTAP_SERVER_SERVICE_WATCH_HUB_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "core/sync.h"
#include "gradtap/v1/query.pb.h"
#include "server/auth/gate.h"
#include "server/limits/client_places.h"
#include "server/query/environment.h"
#include "server/query/run_query.h"
#include "server/query/watch_question.h"
#include "server/service/request_call.h"
#include "server/service/watcher_call.h"

namespace gradtap::server {

// Thread-safe.
class WatchHub {
 public:
  // All must outlive the hub. Starts the thread and listens to the store.
  // `max_unread`: how long a message may wait to be taken.
  WatchHub(const QueryEnvironment* environment, OverheadCache* overheads,
           std::uint32_t max_watches, std::chrono::nanoseconds max_unread,
           Gate* gate);
  // No call may be open any more: destroy it after the server.
  ~WatchHub();
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  // For gRPC: never waits and reads nothing. RESOURCE_EXHAUSTED over
  // max_watches, or half of them by one client, UNAVAILABLE after Shutdown(),
  // INVALID_ARGUMENT if the request is not a WatchRequest, PERMISSION_DENIED if
  // the run is not the caller's.
  grpc::ServerGenericBidiReactor* Open(CallHead head) ABSL_LOCKS_EXCLUDED(mu_);

  // Ends all calls with UNAVAILABLE, each as soon as its message has left.
  // Returns when all have ended or at the deadline; idempotent.
  void Shutdown(std::chrono::steady_clock::time_point deadline)
      ABSL_LOCKS_EXCLUDED(mu_);

  std::uint32_t open() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Call;

  // Once its request has come: an error ends it.
  absl::Status Add(Call* call) ABSL_LOCKS_EXCLUDED(mu_);
  void MarkDue(std::uint64_t id) ABSL_LOCKS_EXCLUDED(mu_);
  void MarkRunDue(const std::string& run) ABSL_LOCKS_EXCLUDED(mu_);
  void Remove(std::uint64_t id) ABSL_LOCKS_EXCLUDED(mu_);
  void Feed() ABSL_LOCKS_EXCLUDED(mu_);

  const QueryEnvironment* const environment_;
  OverheadCache* const overheads_;
  ClientPlaces places_;
  const WatcherTerms terms_;
  WatchQuestions questions_;  // Of the hub's thread.

  mutable Mutex mu_;
  CondVar due_changed_;
  CondVar call_ended_;
  std::map<std::uint64_t, std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mu_);
  std::set<std::uint64_t> due_ ABSL_GUARDED_BY(mu_);
  std::uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;  // Calls end.
  bool closed_ ABSL_GUARDED_BY(mu_) = false;    // The thread ends.

  int listener_ = 0;
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_WATCH_HUB_H_
