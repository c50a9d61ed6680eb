// Every call of gRPC but the agents' sessions: taken at its head, whatever its
// method is, and handed to whoever answers that.
//
// A service that is registered with gRPC is told of a call only when its
// request has come: see request_call.h. Nor are gRPC's own reflection, and its
// answer to unknown methods, of any use here: they are for threads that wait,
// and of two such threads a client that sends garbage has calls by the thousand
// wait, also after it has gone.
//
// Layer: server/service. This file: std; grpc.

#ifndef GRADTAP_SERVER_SERVICE_METHODS_H_
#define GRADTAP_SERVER_SERVICE_METHODS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "grpcpp/generic/async_generic_service.h"
#include "server/auth/gate.h"
#include "server/limits/client_places.h"
#include "server/limits/guards.h"
#include "server/service/health_calls.h"
#include "server/service/request_call.h"

namespace gradtap::server {

// Must outlive the server that it is registered with. Thread-safe, but for
// Serve().
class Methods final : public grpc::CallbackGenericService {
 public:
  using OpenFn = std::function<grpc::ServerGenericBidiReactor*(CallHead head)>;

  // `services`: what reflection lists besides itself and health. Of calls
  // `max_calls` may be open, three quarters of them by one client. Those of
  // health, which need no token, and of reflection are apart: 512, 64 of one
  // client.
  Methods(Gate* gate, const Guards& guards, std::vector<std::string> services,
          std::uint32_t max_calls);

  // Has calls of "/SERVICE/METHOD" opened by that, which never waits. Before
  // the server starts.
  void Serve(const std::string& path, OpenFn open);

  // Health is NOT_SERVING from now on.
  void StopServing() { health_.StopServing(); }

 private:
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override;
  absl::StatusOr<CallHead> Admit(ClientPlaces* places, Limit limit,
                                 absl::StatusOr<Caller> caller, bool stranger,
                                 grpc::GenericCallbackServerContext* context);

  Gate* const gate_;
  const Guards guards_;
  std::vector<std::string> services_;
  std::map<std::string, OpenFn> methods_;
  ClientPlaces requests_;
  ClientPlaces others_;
  HealthCalls health_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_METHODS_H_
