#include "server/service/request_call.h"

#include <utility>

#include "server/auth/grpc_door.h"
#include "server/service/grpc_status.h"

namespace gradtap::server {

RefusedCall::RefusedCall(const absl::Status& status) {
  Finish(ToGrpcStatus(status));
}

RequestCall::RequestCall(CallHead head, const Guards& guards)
    : guards_(guards), head_(std::move(head)) {
  timer_.emplace(guards_.connections, head_.connection,
                 ConnectionTimer::For::kRequest);
  StartRead(&bytes_);
}

std::string RequestCall::client() const {
  return ClientName(head_.caller, head_.context->peer());
}

void RequestCall::OnReadDone(bool ok) {
  timer_.reset();
  if (!ok) return End(absl::InvalidArgumentError("the call has no request"));
  grpc::ByteBuffer bytes;  // Not kept until the call is done.
  bytes.Swap(&bytes_);
  if (head_.connection != nullptr) head_.connection->Took(bytes.Length());
  const absl::Status may = head_.gate->Recheck(head_.caller);
  if (!may.ok()) return End(may);
  OnRequest(std::move(bytes));
}

void RequestCall::Answer(grpc::ByteBuffer bytes) {
  bytes_.Swap(&bytes);
  timer_.emplace(guards_.connections, head_.connection,
                 ConnectionTimer::For::kAnswer);
  StartWriteAndFinish(&bytes_, grpc::WriteOptions(), grpc::Status::OK);
}

void RequestCall::End(const absl::Status& status) {
  Finish(ToGrpcStatus(status));
}

}  // namespace gradtap::server
