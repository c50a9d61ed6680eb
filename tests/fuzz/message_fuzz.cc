// What an agent says, before anything is made of it; and which step a record is
// that is refused (server/ingest).

#include <functional>

#include "core/codec.h"
#include "core/codec_samples.h"
#include "core/limits.h"
#include "fuzz/fuzz.h"
#include "server/ingest/agent_message.h"
#include "server/ingest/record_step.h"

namespace gradtap::fuzz {
namespace {

using server::AgentMessage;

bool IsWithin(std::string_view part, std::string_view whole) {
  const std::less_equal<const char*> before;
  return part.empty() ||
         (before(whole.data(), part.data()) &&
          before(part.data() + part.size(), whole.data() + whole.size()));
}

void TryMessage(std::string_view input) {
  const auto message = server::ReadAgentMessage(input);
  Require(message.ok() ||
              message.status().code() == absl::StatusCode::kInvalidArgument,
          "it is a message, or it is said why not");
  if (!message.ok()) return;
  Require(IsWithin(message->hello, input) && IsWithin(message->frame, input),
          "text is the message's");
  Require(message->kind == AgentMessage::Kind::kBatch ||
              (message->frame.empty() && message->first_seq == 0 &&
               message->record_count == 0),
          "what is no batch has no records");
}

void TryRecord(std::string_view input) {
  const auto step = server::StepOfRecord(input);
  Require(!step.has_value() || *step >= 0, "a step has a number");
  const auto record = ParseRecord(input);
  if (!record.ok() || record->kind != RecordKind::kStep) return;
  const auto view = StepView::Parse(record->body);
  if (!view.ok()) return;
  // As an agent writes it, whatever the order here.
  const StepData data = ToStepData(*view);
  std::string written(EncodedStepSize(data), '\0');
  EncodeStep(data, written);
  const auto again = server::StepOfRecord(written);
  Require(data.step < 0 ? !again.has_value() : again == data.step,
          "the number of a step that an agent writes can be read");
}

}  // namespace

void Try(std::string_view input) {
  TryMessage(input);
  TryRecord(input);
}

std::vector<std::string> Seeds() {
  const Schema sample = testing::SampleSchema();
  const std::string frame = StoreFrame("\x12\x02\x08\x07");
  const std::string batch = std::string("\x08\x05\x10\x01\x1a", 5) +
                            static_cast<char>(frame.size()) + frame;
  return {"\x0a\x06\x08\x01\x12\x02ru",
          "\x12" + std::string(1, static_cast<char>(batch.size())) + batch,
          std::string("\x1a\x00", 2),
          std::string("\x22\x00\x0a\x00", 4),
          "\x7a\x02hi",
          std::string("\x12\x02\x08\x07", 4),
          std::string("\x12\x00", 2),
          EncodeGap({GapCause::kLoop, 6, 9, 4, "why"}),
          EncodeSchema(sample)};
}

}  // namespace gradtap::fuzz
