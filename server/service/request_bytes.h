// Requests as they come over gRPC: bytes, which are looked at before a message
// is made of them.
//
// protobuf makes 64 bytes and more of a field of two that it does not know, and
// 48 of an empty text; gRPC keeps a request for as long as its call. So a short
// one is read, what is made of it has to be in proportion, and the bytes go.
//
// Layer: server/service. This file: std, absl, limits; grpc, protobuf.

#ifndef GRADTAP_SERVER_SERVICE_REQUEST_BYTES_H_
#define GRADTAP_SERVER_SERVICE_REQUEST_BYTES_H_

#include <google/protobuf/descriptor.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/limits/guards.h"

namespace gradtap::server {

// 64 patterns of 4 KiB, or a thousand names of runs, and as much again for
// names. HTTP takes as much, head and body together.
inline constexpr std::size_t kMaxRequestBytes = std::size_t{320} << 10;

// Takes them from gRPC, which has no use for them any more.
inline grpc::ByteBuffer TakeBytes(const grpc::ByteBuffer* of) {
  grpc::ByteBuffer bytes;
  bytes.Swap(const_cast<grpc::ByteBuffer*>(of));
  return bytes;
}

// kInvalidArgument, for what is too large counted, says what is wrong with it.
template <typename Request>
absl::StatusOr<std::shared_ptr<const Request>> ReadRequest(
    const Guards& guards, grpc::ByteBuffer bytes) {
  // What strings and lists take that are no attack.
  constexpr std::size_t kBesides = std::size_t{128} << 10;
  const std::size_t size = bytes.Length();
  if (size > kMaxRequestBytes) {
    guards.Refused(Limit::kRequestBytes);
    return absl::InvalidArgumentError(
        absl::StrCat("the request has ", size, " bytes; it may have ",
                     kMaxRequestBytes, ": ask for less at a time"));
  }
  grpc::Slice whole;
  auto request = std::make_shared<Request>();
  // An empty message may be no slice at all.
  if ((size > 0 && !bytes.DumpToSingleSlice(&whole).ok()) ||
      !request->ParseFromArray(whole.begin(), static_cast<int>(whole.size()))) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request is no ", Request::descriptor()->name()));
  }
  if (request->SpaceUsedLong() > 2 * size + kBesides) {
    guards.Refused(Limit::kRequestBytes);
    return absl::InvalidArgumentError(
        absl::StrCat("the request has too many fields for its ", size,
                     " bytes: ask for less at a time"));
  }
  return request;
}

// Of a service's method, as gRPC's generated code numbers it. `service`: its
// full name.
inline int MethodIndex(const std::string& service, const std::string& method) {
  return google::protobuf::DescriptorPool::generated_pool()
      ->FindMethodByName(absl::StrCat(service, ".", method))
      ->index();
}

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_REQUEST_BYTES_H_
