#include "server/service/grpc_status.h"

#include <string>

namespace gradtap::server {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  constexpr std::size_t kMaxMessageBytes = 4096;
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()),
      std::string(status.message().substr(0, kMaxMessageBytes)));
}

}  // namespace gradtap::server
