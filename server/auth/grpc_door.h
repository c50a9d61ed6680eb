// gRPC's door: its credentials, and who is behind a call.
//
// Each connection is offered the certificate that is current when it comes, and
// each call is looked at before its first message is read: what may not pass
// gets its status and nothing of it reaches a service. Services ask again who
// it was, for the runs that they may use.
//
// Layer: server/auth. This file: std, absl, limits; gRPC.

#ifndef GRADTAP_SERVER_AUTH_GRPC_DOOR_H_
#define GRADTAP_SERVER_AUTH_GRPC_DOOR_H_

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_context.h>

#include <memory>

#include "absl/status/statusor.h"
#include "server/auth/certificates.h"
#include "server/auth/gate.h"
#include "server/limits/guards.h"

namespace gradtap::server {

enum class DoorKind {
  kTls,
  kLoopback,  // In the clear; with a gate that asks, for 127.0.0.1 and ::1.
  kUnix,      // A socket of the file system.
  // In the clear, for whoever reaches it. Not with a gate that asks: its tokens
  // would travel so.
  kPlain,
};

// `certificates` may be null unless the kind is kTls. They, the gate and what
// is returned must outlive the server: a builder does not keep it.
std::shared_ptr<grpc::ServerCredentials> MakeCredentials(
    DoorKind kind, Certificates* certificates, Gate* gate);

// Whose call that is, as Gate::Identify(); kResourceExhausted if that client
// has asked too often. Of each call once, when it begins. `session`: of an
// agent.
absl::StatusOr<Caller> CallerOf(Gate* gate, const Guards& guards,
                                const grpc::ServerContextBase& context,
                                bool session = false);

// A call was refused because its client has enough of them: who goes on asking
// loses the connection. `shut`: and its address gets no new one for a second;
// not if others may be behind it. `connection` may be null.
void CountRefusal(const Guards& guards, bool shut, OpenConnection* connection);

// What a call came over; null: that is not known.
std::shared_ptr<OpenConnection> ConnectionOf(
    const Guards& guards, const grpc::ServerContextBase& context);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_AUTH_GRPC_DOOR_H_
