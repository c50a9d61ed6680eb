#include "server/ingest/agent_message.h"

#include <gmock/gmock.h>

#include <string>

#include "core/wire.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;
using Kind = AgentMessage::Kind;

std::string Field(std::uint32_t number, const std::string& bytes) {
  std::string out;
  wire::AppendBytesField(number, bytes, &out);
  return out;
}

std::string Batch(std::uint64_t first_seq, std::uint64_t count,
                  const std::string& frame) {
  std::string batch;
  wire::AppendVarintField(1, first_seq, &batch);
  wire::AppendVarintField(2, count, &batch);
  return batch + Field(3, frame);
}

TEST(AgentMessageTest, ABatchIsReadWhereItStands) {
  const std::string bytes = Field(2, Batch(1'000'000'000'000, 7, "frame"));
  const auto message = ReadAgentMessage(bytes);
  GRADTAP_ASSERT_OK(message);
  EXPECT_EQ(message->kind, Kind::kBatch);
  EXPECT_EQ(message->first_seq, 1'000'000'000'000u);
  EXPECT_EQ(message->record_count, 7u);
  EXPECT_EQ(message->frame, "frame");
  EXPECT_EQ(message->frame.data(), bytes.data() + bytes.size() - 5);
}

TEST(AgentMessageTest, TheOthersAreToldByTheirNumber) {
  const auto hello = ReadAgentMessage(Field(1, ""));
  GRADTAP_ASSERT_OK(hello);
  EXPECT_EQ(hello->kind, Kind::kHello);
  EXPECT_EQ(hello->hello, "");
  EXPECT_EQ(ReadAgentMessage(Field(3, "\xff\xff"))->kind, Kind::kHeartbeat);
  EXPECT_EQ(ReadAgentMessage(Field(4, ""))->kind, Kind::kBye);
}

TEST(AgentMessageTest, WhatANewerVersionSaysIsUnknown) {
  EXPECT_EQ(ReadAgentMessage("")->kind, Kind::kUnknown);
  EXPECT_EQ(ReadAgentMessage(Field(6, "word"))->kind, Kind::kUnknown);
  // A number where a message is expected is another field.
  EXPECT_EQ(ReadAgentMessage("\x10\x01")->kind, Kind::kUnknown);
  const std::string more = Field(15, "more");
  const std::string bytes = more + Field(2, Batch(1, 1, "f") + more) + more;
  const auto batch = ReadAgentMessage(bytes);
  GRADTAP_ASSERT_OK(batch);
  EXPECT_EQ(batch->kind, Kind::kBatch);
  EXPECT_EQ(batch->frame, "f");
}

TEST(AgentMessageTest, OfSeveralTheLastOneStands) {
  const std::string two =
      Field(2, Batch(1, 1, "a")) + Field(2, Batch(9, 0, ""));
  const auto last = ReadAgentMessage(two);
  GRADTAP_ASSERT_OK(last);
  EXPECT_EQ(last->first_seq, 9u);
  EXPECT_EQ(last->record_count, 0u);
  EXPECT_EQ(last->frame, "");
  EXPECT_EQ(ReadAgentMessage(two + Field(3, ""))->kind, Kind::kHeartbeat);
}

TEST(AgentMessageTest, WhatIsCutOffIsNoMessage) {
  const std::string whole = Field(2, Batch(300, 300, "frame"));
  for (std::size_t size = 1; size < whole.size(); ++size) {
    EXPECT_THAT(ReadAgentMessage(whole.substr(0, size)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("cannot be read")))
        << size;
  }
  const std::string batch = Batch(300, 300, "frame");
  EXPECT_THAT(ReadAgentMessage(Field(2, batch.substr(0, batch.size() - 1))),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("a Batch cannot be read")));
}

}  // namespace
}  // namespace gradtap::server
