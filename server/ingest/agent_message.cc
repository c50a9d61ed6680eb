#include "server/ingest/agent_message.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/wire.h"

namespace gradtap::server {
namespace {

// Fields of AgentMessage, and of Batch.
enum : std::uint32_t { kHello = 1, kBatch = 2, kHeartbeat = 3, kBye = 4 };
enum : std::uint32_t { kFirstSeq = 1, kRecordCount = 2, kFrame = 3 };

absl::Status Malformed(const char* what, std::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, " cannot be read: ", std::string(why)));
}

absl::Status ReadBatch(std::string_view batch, AgentMessage* message) {
  wire::Reader reader(batch);
  while (reader.Next()) {
    if (reader.Is(kFirstSeq, wire::Type::kVarint)) {
      message->first_seq = reader.value();
    } else if (reader.Is(kRecordCount, wire::Type::kVarint)) {
      message->record_count = static_cast<std::uint32_t>(reader.value());
    } else if (reader.Is(kFrame, wire::Type::kBytes)) {
      message->frame = reader.bytes();
    }
  }
  return reader.ok() ? absl::OkStatus() : Malformed("a Batch", reader.error());
}

}  // namespace

absl::StatusOr<AgentMessage> ReadAgentMessage(
    std::string_view message_untrusted) {
  AgentMessage message;
  std::string_view batch;
  wire::Reader reader(message_untrusted);
  while (reader.Next()) {
    if (reader.type() != wire::Type::kBytes) continue;
    switch (reader.number()) {
      case kHello:
        message.kind = AgentMessage::Kind::kHello;
        message.hello = reader.bytes();
        break;
      case kBatch:
        message.kind = AgentMessage::Kind::kBatch;
        batch = reader.bytes();
        break;
      case kHeartbeat:
        message.kind = AgentMessage::Kind::kHeartbeat;
        break;
      case kBye:
        message.kind = AgentMessage::Kind::kBye;
        break;
      default:
        break;
    }
  }
  if (!reader.ok()) return Malformed("an agent's message", reader.error());
  if (message.kind != AgentMessage::Kind::kBatch) return message;
  const absl::Status status = ReadBatch(batch, &message);
  if (!status.ok()) return status;
  return message;
}

}  // namespace gradtap::server
