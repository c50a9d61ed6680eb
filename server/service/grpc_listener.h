// gRPC's port, with a socket of our own: each connection is looked at before
// gRPC has it.
//
// gRPC 1.51 accepts without end. When the process has no descriptor left, its
// listener ends for good, and no agent gets in any more. This one takes as many
// connections as the table admits and the process has descriptors for, and
// closes the others; the last descriptors are left to the store.
//
// Layer: server/service. This file: std, absl, limits; gRPC.

#ifndef GRADTAP_SERVER_SERVICE_GRPC_LISTENER_H_
#define GRADTAP_SERVER_SERVICE_GRPC_LISTENER_H_

#include <grpcpp/server_builder.h>

#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "server/limits/connection_table.h"
#include "server/service/listen_address.h"

namespace gradtap::server {

// Everything by one thread.
class GrpcListener {
 public:
  // Binds all that the host's name stands for, without SO_REUSEPORT; port 0: a
  // free one. Nobody is let in before Start(). kUnavailable: the system's
  // reason.
  static absl::StatusOr<std::unique_ptr<GrpcListener>> Bind(
      const ListenAddress& address, ConnectionTable* table);
  // As Stop().
  ~GrpcListener();
  GrpcListener(const GrpcListener&) = delete;
  GrpcListener& operator=(const GrpcListener&) = delete;

  std::uint16_t port() const { return port_; }

  // From now on connections go to the server of that acceptor, and the table is
  // looked at a few times a second.
  void Start(
      std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor);
  // Nobody is let in any more; those that there are stay. Idempotent.
  void Stop();

 private:
  explicit GrpcListener(ConnectionTable* table) : table_(table) {}

  absl::Status BindAll(const ListenAddress& address);
  void Run();
  // False: nobody waits there now.
  bool AcceptOne(int socket);

  ConnectionTable* const table_;
  std::uint16_t port_ = 0;
  std::vector<int> sockets_;
  int stop_[2] = {-1, -1};  // A pipe; its reader is told to end.
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::thread thread_;
};

// How many connections this process may have, of those that it is to: some
// descriptors are for the store and for HTTP.
std::size_t GrantedConnections(std::size_t wanted);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_GRPC_LISTENER_H_
