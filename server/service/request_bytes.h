// Requests as they come over gRPC: bytes, which are looked at before a message
// is made of them.
//
// protobuf makes 64 bytes and more of a field of two that it does not know, and
// 48 of an empty text; gRPC keeps a request for as long as its call. So a short
// one is read, what is made of it has to be in proportion, and the bytes go.
//
// Layer: server/service. This file: std, absl, auth, limits; grpc,
// protobuf.

#ifndef GRADTAP_SERVER_SERVICE_REQUEST_BYTES_H_
#define GRADTAP_SERVER_SERVICE_REQUEST_BYTES_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/proto_buffer_writer.h>
#include <grpcpp/support/slice.h>

#include <climits>
#include <cstddef>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/auth/gate.h"
#include "server/limits/guards.h"
#include "server/service/run_access.h"

namespace gradtap::server {

// 64 patterns of 4 KiB, or a thousand names of runs, and as much again for
// names. HTTP takes as much, head and body together.
inline constexpr std::size_t kMaxRequestBytes = std::size_t{320} << 10;

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

// The same; and kPermissionDenied if it is about runs that are not the
// caller's.
template <typename Request>
absl::StatusOr<std::shared_ptr<const Request>> ReadRequestOf(
    Gate* gate, const Caller& caller, const Guards& guards,
    grpc::ByteBuffer bytes) {
  auto request = ReadRequest<Request>(guards, std::move(bytes));
  if (!request.ok()) return request;
  const absl::Status may = CheckRuns(gate, caller, **request);
  if (!may.ok()) return may;
  return request;
}

// An answer, as protobuf writes it. kResourceExhausted over 2 GiB.
template <typename Response>
absl::StatusOr<grpc::ByteBuffer> ToBytes(const Response& response) {
  constexpr int kBlock = 1 << 20;
  const std::size_t size = response.ByteSizeLong();
  if (size > INT_MAX) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the answer has ", size, " bytes: ask for less at a time"));
  }
  grpc::ByteBuffer bytes;
  {
    grpc::ProtoBufferWriter writer(&bytes, kBlock, static_cast<int>(size));
    response.SerializeToZeroCopyStream(&writer);
  }
  return bytes;
}

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_REQUEST_BYTES_H_
