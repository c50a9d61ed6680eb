// Live steps as Server-Sent Events: the open streams and the one thread that
// feeds them.
//
// A stream holds one event, which waits for its reader or is on its way to it.
// Until it has been sent its cursor stands still, and conflates what the reader
// misses; so a reader that stalls costs nobody more than that. Who asks for the
// same shares the text. Large events have their room among the large answers
// (../limits/answer_room.h): where there is none for one as long as its longest
// the cursor stands still until there is.
//
// Layer: server/http. This file: std, absl, query, service's backend; no HTTP
// library.

#ifndef GRADTAP_SERVER_HTTP_LIVE_HUB_H_
#define GRADTAP_SERVER_HTTP_LIVE_HUB_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/sync.h"
#include "gradtap/v1/query.pb.h"
#include "server/http/live_stream.h"
#include "server/limits/answer_room.h"
#include "server/limits/client_places.h"
#include "server/query/watch_cursor.h"
#include "server/query/watch_question.h"
#include "server/service/query_backend.h"

namespace gradtap::server {

// Thread-safe.
class LiveHub {
 public:
  using Text = LiveStream::Text;

  // The hub must outlive it.
  class Stream : public LiveStream {
   public:
    ~Stream() override;
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    absl::StatusOr<Text> Next(std::chrono::milliseconds wait) override;

   private:
    friend class LiveHub;
    Stream(LiveHub* hub, std::uint64_t id,
           std::unique_ptr<ClientPlaces::Place> place)
        : hub_(hub), id_(id), place_(std::move(place)) {}

    LiveHub* const hub_;
    const std::uint64_t id_;
    const std::unique_ptr<ClientPlaces::Place> place_;
  };

  // Both must outlive the hub.
  LiveHub(QueryBackend* backend, ClientPlaces* places);
  // No stream may be left.
  ~LiveHub();
  LiveHub(const LiveHub&) = delete;
  LiveHub& operator=(const LiveHub&) = delete;

  // Waits for the first event, or for `wait`. kResourceExhausted: no place is
  // free for `client`; kUnavailable: Stop() has been called; else as
  // WatchCursor::Open().
  absl::StatusOr<std::unique_ptr<Stream>> Open(const v1::WatchRequest& request,
                                               const std::string& client,
                                               std::chrono::milliseconds wait)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Ends all streams with kUnavailable.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct State;
  // The text of an event, and what it takes of the room of each client that has
  // it.
  struct Written {
    std::shared_ptr<const EncodedEvent> event;  // Null: of one stream alone.
    std::string text;
    std::map<std::string, std::weak_ptr<HeldAnswer>> held;
  };

  void MarkRunDue(const std::string& run) ABSL_LOCKS_EXCLUDED(mu_);
  void Feed() ABSL_LOCKS_EXCLUDED(mu_);
  // All streams are due. By the hub's thread.
  void Tick() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // By the hub's thread, without the lock, for a stream that holds nothing.
  // True: call again at once.
  bool Pump(State* state) ABSL_LOCKS_EXCLUDED(mu_);
  // The next of the stream's cursor; null: there is none now.
  absl::StatusOr<std::shared_ptr<Written>> WriteNext(State* state);
  // And what the stream missed before.
  absl::StatusOr<std::shared_ptr<Written>> Write(const WatchMessage& message,
                                                 State* state);
  static absl::StatusOr<std::shared_ptr<HeldAnswer>> RoomFor(Written* written,
                                                             State* state);

  QueryBackend* const backend_;
  ClientPlaces* const places_;
  // Of the hub's thread.
  WatchQuestions questions_;
  std::deque<std::shared_ptr<Written>> written_;  // The newest at the end.
  std::size_t written_bytes_ = 0;

  mutable Mutex mu_;
  CondVar due_changed_;
  CondVar event_ready_;
  std::map<std::uint64_t, std::shared_ptr<State>> streams_ ABSL_GUARDED_BY(mu_);
  std::set<std::uint64_t> due_ ABSL_GUARDED_BY(mu_);
  std::uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;  // Streams end.
  bool closed_ ABSL_GUARDED_BY(mu_) = false;    // The thread ends.

  int listener_ = 0;
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_LIVE_HUB_H_
