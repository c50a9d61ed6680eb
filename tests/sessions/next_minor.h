// Messages as a peer of the next minor version may send them: with fields that
// this one does not know, in each message and in those within.
//
// Works with the lite generated code as with the full one.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_SESSIONS_NEXT_MINOR_H_
#define GRADTAP_TESTS_SESSIONS_NEXT_MINOR_H_

#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "core/codec.h"
#include "gradtap/v1/record.pb.h"
#include "gradtap/v1/telemetry.pb.h"

namespace gradtap::testing {

// Field 2000 as a number, 2001 as bytes.
inline constexpr std::string_view kUnknownFields =
    "\x80\x7d\x07\x8a\x7d\x05later";

template <typename Message>
void AddUnknownFields(Message* message) {
  const std::string bytes =
      message->SerializeAsString() + std::string(kUnknownFields);
  if (!message->ParseFromString(bytes)) {
    throw std::runtime_error("a message does not take unknown fields");
  }
}

inline void AddUnknownFields(v1::Schema* schema) {
  for (auto& parameter : *schema->mutable_parameters()) {
    AddUnknownFields<v1::Parameter>(&parameter);
  }
  AddUnknownFields<v1::Schema>(schema);
}

inline void AddUnknownFields(v1::Step* step) {
  for (auto& columns : *step->mutable_roles()) {
    AddUnknownFields<v1::RoleColumns>(&columns);
  }
  for (auto& scalar : *step->mutable_scalars()) {
    AddUnknownFields<v1::Scalar>(&scalar);
  }
  for (auto& histogram : *step->mutable_histograms()) {
    AddUnknownFields<v1::Histogram>(&histogram);
  }
  AddUnknownFields<v1::Step>(step);
}

// Of a part it is what the parts are of that would change: it stays.
inline void AddUnknownFields(v1::Record* record) {
  if (record->has_schema()) AddUnknownFields(record->mutable_schema());
  if (record->has_step()) AddUnknownFields(record->mutable_step());
  if (record->has_gap()) AddUnknownFields(record->mutable_gap());
  if (record->has_rollback()) AddUnknownFields(record->mutable_rollback());
  if (record->has_end()) AddUnknownFields(record->mutable_end());
  if (record->has_part()) AddUnknownFields(record->mutable_part());
  AddUnknownFields<v1::Record>(record);
}

inline std::string FrameOfNextMinor(const std::string& frame) {
  const auto content = DecompressFrame(frame, std::size_t{4} << 20);
  v1::RecordList list;
  if (!content.ok() || !list.ParseFromString(*content)) {
    throw std::runtime_error("a recorded frame cannot be read");
  }
  for (auto& record : *list.mutable_records()) AddUnknownFields(&record);
  AddUnknownFields(&list);
  return CompressFrame(list.SerializeAsString());
}

inline void MakeOfNextMinor(v1::AgentMessage* message) {
  if (message->has_hello()) {
    for (auto& tag : *message->mutable_hello()->mutable_tags()) {
      AddUnknownFields(&tag);
    }
    AddUnknownFields(message->mutable_hello());
  }
  if (message->has_batch()) {
    message->mutable_batch()->set_frame(
        FrameOfNextMinor(message->batch().frame()));
    AddUnknownFields(message->mutable_batch());
  }
  if (message->has_heartbeat()) AddUnknownFields(message->mutable_heartbeat());
  if (message->has_bye()) AddUnknownFields(message->mutable_bye());
  AddUnknownFields(message);
}

inline void MakeOfNextMinor(v1::CollectorMessage* message) {
  if (message->has_welcome()) AddUnknownFields(message->mutable_welcome());
  if (message->has_reject()) AddUnknownFields(message->mutable_reject());
  if (message->has_ack()) {
    for (auto& rejection : *message->mutable_ack()->mutable_rejected()) {
      AddUnknownFields(&rejection);
    }
    AddUnknownFields(message->mutable_ack());
  }
  AddUnknownFields(message);
}

// A message of a kind that this version does not know: reserved field 4 of
// CollectorMessage, 5 of AgentMessage, and what both have besides.
template <typename Message>
Message OfUnknownKind() {
  Message message;
  const char* const field =
      std::is_same_v<Message, v1::CollectorMessage> ? "\x22" : "\x2a";
  if (!message.ParseFromString(std::string(field) + "\x03\x0a\x01x") ||
      message.kind_case() != Message::KIND_NOT_SET) {
    throw std::runtime_error("the kind is known");
  }
  AddUnknownFields(&message);
  return message;
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SESSIONS_NEXT_MINOR_H_
