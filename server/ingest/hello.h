// Who calls: the first message of a session, checked.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h. Pure functions; any thread may call them.

#ifndef GRADTAP_SERVER_INGEST_HELLO_H_
#define GRADTAP_SERVER_INGEST_HELLO_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/store/store.h"

namespace gradtap::server {

inline constexpr std::uint32_t kProtocolVersion = 1;
inline constexpr std::size_t kMaxTags = 64;  // Of a stream.

// gradtap.v1.Hello as it came, without what the collector does not use.
struct HelloUntrusted {
  std::uint32_t protocol_version = 0;
  std::string run;
  std::string launch;
  std::uint32_t rank = 0;
  std::uint32_t world_size = 0;
  std::string process_nonce;
  std::int64_t start_time_unix_ns = 0;
  std::string agent_version;
  std::string torch_version;
  std::string host;
  std::int64_t pid = 0;
  std::vector<std::pair<std::string, std::string>> tags;
};

// kInvalidArgument names the field, its value and what it may be;
// kUnimplemented: a protocol version that this collector does not speak.
absl::StatusOr<StreamHello> ValidateHello(
    const HelloUntrusted& hello_untrusted);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_HELLO_H_
