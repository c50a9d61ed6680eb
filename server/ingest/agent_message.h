// What an agent says, in the bytes in which it came: gradtap.v1.AgentMessage,
// read where it stands.
//
// protobuf would make 64 bytes and more of a field of two that nobody knows,
// and keep them for as long as the message: 128 MiB of one that has 4. Here
// nothing is made of what is not used.
//
// Layer: server/ingest. This file: std, absl, core; no grpc, no *.pb.h. Pure
// functions; any thread may call them.

#ifndef GRADTAP_SERVER_INGEST_AGENT_MESSAGE_H_
#define GRADTAP_SERVER_INGEST_AGENT_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace gradtap::server {

// Of a message that is no batch: whoever receives one looks. The longest Hello
// that is let in has 39 KiB, with 64 tags.
inline constexpr std::size_t kMaxWordBytes = std::size_t{64} << 10;

// Text is borrowed from the message, and as little checked as it.
struct AgentMessage {
  enum class Kind { kUnknown, kHello, kBatch, kHeartbeat, kBye };
  Kind kind = Kind::kUnknown;
  std::string_view hello;  // Of a Hello: gradtap.v1.Hello.
  // Of a batch.
  std::uint64_t first_seq = 0;
  std::uint32_t record_count = 0;
  std::string_view frame;
};

// Of several kinds the last one stands. kUnknown: of a newer version.
// kInvalidArgument says why it is no message.
absl::StatusOr<AgentMessage> ReadAgentMessage(
    std::string_view message_untrusted);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_AGENT_MESSAGE_H_
