// grpc.reflection.v1alpha.ServerReflection: what this server has, for tools
// that have no .proto of it.
//
// Layer: server/service. This file: std; grpc.

#ifndef GRADTAP_SERVER_SERVICE_REFLECTION_CALL_H_
#define GRADTAP_SERVER_SERVICE_REFLECTION_CALL_H_

#include <string>
#include <string_view>
#include <vector>

#include "server/limits/guards.h"
#include "server/service/request_call.h"

namespace gradtap::server {

bool IsReflectionMethod(std::string_view path);

// The answer to one request, both as protobuf writes them; one that cannot be
// understood is answered with an error, as that protocol has them. `services`:
// the names that are listed.
std::string ReflectionAnswer(std::string_view request_untrusted,
                             const std::vector<std::string>& services);

// One answer to each request, one after the other. `services` must outlive the
// call, which deletes itself.
grpc::ServerGenericBidiReactor* OpenReflection(
    const std::vector<std::string>& services, const Guards& guards,
    CallHead head);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_REFLECTION_CALL_H_
