// A call with one request, from its head on.
//
// gRPC has a call of a method of its own with a service only once its request
// has come. Until then nobody counts it, bounds it or ends it: a peer that sent
// heads alone had 40,000 calls open on one connection, in 700 MiB. So all calls
// are taken at their head (methods.h), have a place, and wait for their request
// here, for so long.
//
// Layer: server/service. This file: std, auth, limits; grpc.

#ifndef GRADTAP_SERVER_SERVICE_REQUEST_CALL_H_
#define GRADTAP_SERVER_SERVICE_REQUEST_CALL_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "server/auth/gate.h"
#include "server/limits/client_places.h"
#include "server/limits/connection_table.h"
#include "server/limits/guards.h"

namespace gradtap::server {

// What is known of a call, and held by it, when its head has come.
struct CallHead {
  grpc::CallbackServerContext* context = nullptr;  // There until OnDone().
  Gate* gate = nullptr;                            // That let it in.
  Caller caller;
  std::shared_ptr<OpenConnection> connection;  // May be null: not known.
  std::unique_ptr<ClientPlaces::Place> place;  // May be null.
};

// A call that is over before it has begun.
class RefusedCall final : public grpc::ServerGenericBidiReactor {
 public:
  explicit RefusedCall(const absl::Status& status);
  void OnDone() override { delete this; }
};

// Begins to read at once: a connection whose request does not come in time is
// ended (not of a socket of the file system: it is not known). Who derives from
// it deletes it in OnDone(), which is not before one of Answer(), End() or what
// it writes by itself has ended the call.
class RequestCall : public grpc::ServerGenericBidiReactor {
 protected:
  RequestCall(CallHead head, const Guards& guards);

  const Guards& guards() const { return guards_; }
  const Caller& caller() const { return head_.caller; }
  grpc::CallbackServerContext* context() const { return head_.context; }
  // Its token, else its address.
  std::string client() const;
  // It has another one.
  void LeavePlace() { head_.place = nullptr; }

  // Ends the call; either, once. An answer has to be read in time, too.
  void Answer(grpc::ByteBuffer bytes);
  void End(const absl::Status& status);

 private:
  // The request's bytes, once, on a thread of gRPC's that must not wait. Not
  // if the client has gone or sends none, or its token is one no more, which
  // ends the call.
  virtual void OnRequest(grpc::ByteBuffer bytes) = 0;

  void OnReadDone(bool ok) final;

  const Guards guards_;
  CallHead head_;
  std::optional<ConnectionTimer> timer_;
  grpc::ByteBuffer bytes_;  // First the request's, then the answer's.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_REQUEST_CALL_H_
