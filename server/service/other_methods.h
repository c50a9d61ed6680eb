// Calls of methods that none of our services has: health, reflection, and
// whatever there is not.
//
// gRPC's own reflection, and its answer to unknown methods, are for threads
// that wait. With two of them a client that sends garbage has calls by the
// thousand wait there, also after it has gone. Here they are answered on the
// spot.
//
// Layer: server/service. This file: std; grpc.

#ifndef GRADTAP_SERVER_SERVICE_OTHER_METHODS_H_
#define GRADTAP_SERVER_SERVICE_OTHER_METHODS_H_

#include <string>
#include <string_view>
#include <vector>

#include "grpcpp/generic/async_generic_service.h"
#include "server/auth/gate.h"
#include "server/limits/client_places.h"
#include "server/limits/guards.h"
#include "server/service/health_calls.h"

namespace gradtap::server {

// The answer of grpc.reflection.v1alpha.ServerReflection to one request, both
// as protobuf writes them; one that cannot be understood is answered with an
// error, as that protocol has them. `services`: the names that are listed.
std::string ReflectionAnswer(std::string_view request_untrusted,
                             const std::vector<std::string>& services);

// Must outlive the server that it is registered with. Thread-safe. Of calls
// 512 may be open, 64 of one client; health's need no token.
class OtherMethods final : public grpc::CallbackGenericService {
 public:
  // `services`: what reflection lists besides itself and health.
  OtherMethods(Gate* gate, const Guards& guards,
               std::vector<std::string> services);

  // Health is NOT_SERVING from now on.
  void StopServing() { health_.StopServing(); }

 private:
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override;

  Gate* const gate_;
  const Guards guards_;
  std::vector<std::string> services_;
  ClientPlaces places_;  // Of calls that are open.
  HealthCalls health_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_OTHER_METHODS_H_
