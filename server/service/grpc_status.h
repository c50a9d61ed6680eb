// The one place of the query side where a status becomes gRPC's.
//
// Layer: server/service. This file: absl, grpc.

#ifndef GRADTAP_SERVER_SERVICE_GRPC_STATUS_H_
#define GRADTAP_SERVER_SERVICE_GRPC_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace gradtap::server {

// The codes are the same numbers. Messages over 4 KiB are cut: they travel as
// metadata.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_GRPC_STATUS_H_
