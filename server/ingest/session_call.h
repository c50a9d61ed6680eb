// One call of Telemetry.Session: the gRPC reactor around a CallState.
//
// What happens (a message, a commit, a tick) is put into the call's mailbox by
// whatever thread it happens on. One thread at a time empties it: it runs the
// state machine and starts gRPC's operations, with no lock held. The committer
// runs nothing but its own answers. So commits are never held up by a session's
// decoding.
//
// Layer: server/ingest.

#ifndef GRADTAP_SERVER_INGEST_SESSION_CALL_H_
#define GRADTAP_SERVER_INGEST_SESSION_CALL_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "gradtap/v1/telemetry.grpc.pb.h"
#include "server/auth/gate.h"
#include "server/ingest/call_state.h"
#include "server/ingest/committer.h"
#include "server/ingest/live_sessions.h"
#include "server/ingest/mailbox.h"

namespace gradtap::server {

// What all calls share; outlives them.
struct IngestShared {
  IngestShared(Store* store, const Clock* c, const IngestLimits& l, Gate* g)
      : clock(c),
        limits(l),
        gate(g),
        live(l.max_sessions, l.join_bytes),
        committer(store, c, l) {}

  const Clock* const clock;
  const IngestLimits limits;
  Gate* const gate;
  LiveSessions live;
  std::atomic<std::uint64_t> batches{0};
  Committer committer;  // Last: its thread may use all the others.
};

// In bytes: see agent_message.h.
using SessionReactor =
    grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

class SessionCall final : public SessionReactor,
                          public LiveCall,
                          public std::enable_shared_from_this<SessionCall> {
 public:
  // Begins to read, unless nobody may call. The call owns itself until gRPC is
  // done with it.
  // `context`: the call's. `connection`: that which it came over, if it is
  // known.
  static SessionReactor* Start(IngestShared* shared,
                               absl::StatusOr<Caller> caller,
                               grpc::CallbackServerContext* context,
                               std::shared_ptr<OpenConnection> connection);

  void Tick() override;
  void Drain() override;

 private:
  SessionCall(IngestShared* shared, Caller caller, const std::string& client,
              grpc::CallbackServerContext* context,
              std::shared_ptr<OpenConnection> connection);

  // gRPC's reactions.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void Post(Mailbox::Event event);
  // The committer's.
  void PostShort(Mailbox::Event event);

  // ---- From here on: the thread that empties the mailbox.
  void Receive();
  // One message, borrowed.
  void Take(std::string_view message_untrusted);
  void Greet(std::string_view hello_untrusted);
  void Open(StreamHello hello);
  void Commit(std::unique_ptr<ValidatedBatch> batch);
  void StartOperations();
  v1::CollectorMessage ToMessage(const SessionOut& out) const;

  IngestShared* const shared_;
  const Caller caller_;
  grpc::CallbackServerContext* const context_;        // Until OnDone().
  const std::shared_ptr<OpenConnection> connection_;  // May be null.
  std::shared_ptr<SessionCall> self_;                 // Until OnDone().

  Mailbox mailbox_;

  CallState state_;
  grpc::ByteBuffer in_;
  grpc::ByteBuffer out_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_SESSION_CALL_H_
