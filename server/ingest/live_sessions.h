// Who is connected: the calls that are open and the streams that they carry.
//
// One client, a token or an address, has at most three quarters of either, so
// that the others are not kept out by it.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h. Thread-safe; every call holds a lock for a few map operations.

#ifndef GRADTAP_SERVER_INGEST_LIVE_SESSIONS_H_
#define GRADTAP_SERVER_INGEST_LIVE_SESSIONS_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/sync.h"
#include "server/ingest/join_room.h"
#include "server/store/store.h"

namespace gradtap::server {

// One stream with a live session.
struct LiveStream {
  std::string key;
  std::string client;  // Empty: not known.
  StreamId id = 0;     // Guarded by the table; 0: not known yet.
  std::atomic<std::int64_t> last_seen_unix_ns{0};
};

// A call as the table sees it.
class LiveCall {
 public:
  virtual ~LiveCall() = default;
  // [Threading] any. [Locking] none held. [Exceptions] must not throw. Must not
  // block.
  virtual void Tick() = 0;
  virtual void Drain() = 0;
};

class LiveSessions {
 public:
  // `join_bytes`: of a client.
  explicit LiveSessions(std::uint32_t max_sessions,
                        std::uint64_t join_bytes = std::uint64_t{256} << 20)
      : max_sessions_(max_sessions), join_room_(JoinRoom::Create(join_bytes)) {}

  enum class Entry { kOk, kFull, kDraining };
  // A call that has begun. kFull: there are twice as many calls as sessions
  // allowed, or three quarters of that are this client's, and it is not taken
  // in; kDraining: taken in, but to be refused. No client: not known.
  Entry AddCall(const std::shared_ptr<LiveCall>& call,
                const std::string& client = "") ABSL_LOCKS_EXCLUDED(mu_);
  // It has been sent away: from now on it is in nobody's way, though its peer
  // may be long in hearing of it.
  void EndCall(const LiveCall* call) ABSL_LOCKS_EXCLUDED(mu_);
  void RemoveCall(const LiveCall* call) ABSL_LOCKS_EXCLUDED(mu_);
  // Those that end, too.
  std::vector<std::shared_ptr<LiveCall>> Calls() const ABSL_LOCKS_EXCLUDED(mu_);

  enum class Admission { kOk, kDuplicate, kLimit, kClientLimit };
  // Claims the stream of a Hello; on kOk `*stream` stands for it until it is
  // released.
  Admission Admit(const StreamHello& hello, std::shared_ptr<LiveStream>* stream,
                  const std::string& client = "") ABSL_LOCKS_EXCLUDED(mu_);
  // What one client may have.
  std::uint32_t sessions_of_a_client() const {
    return max_sessions_ - max_sessions_ / 4;
  }
  void SetId(LiveStream* stream, StreamId id) ABSL_LOCKS_EXCLUDED(mu_);
  void Release(const LiveStream& stream) ABSL_LOCKS_EXCLUDED(mu_);

  // From now on AddCall() says kDraining.
  void BeginDrain() ABSL_LOCKS_EXCLUDED(mu_);
  // False if calls are left at the deadline.
  bool WaitUntilEmpty(std::chrono::steady_clock::time_point deadline)
      ABSL_LOCKS_EXCLUDED(mu_);

  // What all sessions have received that is not durable yet (BytesHeld()).
  void BeginCommit(std::size_t bytes) { pending_bytes_ += bytes; }
  void EndCommit(std::size_t bytes) { pending_bytes_ -= bytes; }
  std::uint64_t pending_bytes() const { return pending_bytes_; }
  JoinRoom& join_room() const { return *join_room_; }

  std::uint32_t size() const ABSL_LOCKS_EXCLUDED(mu_);  // Streams.
  // Empty if the stream has no live session.
  std::optional<std::int64_t> LastSeenUnixNanos(StreamId id) const
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct OpenCall {
    std::shared_ptr<LiveCall> call;
    std::string client;
    bool ends = false;
  };
  // By client; none is zero.
  using Counts = std::unordered_map<std::string, std::uint32_t>;
  static std::uint32_t Of(const Counts& counts, const std::string& client);
  static void Less(const std::string& client, Counts* counts);

  const std::uint32_t max_sessions_;
  const std::shared_ptr<JoinRoom> join_room_;
  std::atomic<std::uint64_t> pending_bytes_{0};
  mutable Mutex mu_;
  CondVar empty_;  // The last call has gone.
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  std::map<const LiveCall*, OpenCall> calls_ ABSL_GUARDED_BY(mu_);
  std::size_t counted_calls_ ABSL_GUARDED_BY(mu_) = 0;  // Those that go on.
  Counts calls_of_ ABSL_GUARDED_BY(mu_);                // Of them.
  Counts sessions_of_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::shared_ptr<LiveStream>> by_key_
      ABSL_GUARDED_BY(mu_);
  std::unordered_map<StreamId, std::shared_ptr<LiveStream>> by_id_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_LIVE_SESSIONS_H_
