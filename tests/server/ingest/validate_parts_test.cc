// The collector's door: records in parts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/ingest/batch_builder.h"
#include "server/ingest/validator_fixture.h"

namespace gradtap::server {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::PartsOf;
using testing::SchemaRecord;
using ::testing::SizeIs;
using testing::StepRecord;

class PartsTest : public ValidatorTest {
 protected:
  PartsTest() { Accept({SchemaRecord()}); }
};

TEST_F(PartsTest, APartedStepIsVisibleWithItsLastPart) {
  const std::string whole = StepRecord(0);
  const auto parts = PartsOf(whole, 50);
  ASSERT_GT(parts.size(), 3U);
  std::size_t kept = 0;
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    const auto batch = Accept({parts[i]});
    EXPECT_THAT(batch->commit.steps, IsEmpty());
    ASSERT_THAT(batch->commit.parts, SizeIs(1));
    EXPECT_EQ(batch->commit.parts[0].seq, validator_->accepted_seq());
    kept += batch->commit.parts.size();
  }
  EXPECT_EQ(kept, parts.size() - 1);
  const auto last = Accept({parts.back()});
  ASSERT_THAT(last->commit.steps, SizeIs(1));
  EXPECT_EQ(last->commit.steps[0].body, testing::StepBody(0));
  EXPECT_THAT(last->commit.parts, IsEmpty());
  EXPECT_EQ(last->commit.drop_parts_below_seq, validator_->accepted_seq() + 1);
  EXPECT_THAT(last->rejected, IsEmpty());
}

TEST_F(PartsTest, PartsThatComeTogetherAreNeverStoredAsParts) {
  std::vector<std::string> records = PartsOf(StepRecord(0), 50);
  const auto more = PartsOf(StepRecord(1), 70);
  records.insert(records.end(), more.begin(), more.end());
  records.push_back(StepRecord(2));
  const auto batch = Accept(records);
  ASSERT_THAT(batch->commit.steps, SizeIs(3));
  EXPECT_EQ(batch->commit.steps[0].body, testing::StepBody(0));
  EXPECT_EQ(batch->commit.steps[1].body, testing::StepBody(1));
  EXPECT_THAT(batch->commit.parts, IsEmpty());
  EXPECT_FALSE(batch->commit.drop_parts_below_seq.has_value());
}

TEST_F(PartsTest, ARestartInTheMiddleGoesOnFromTheKeptParts) {
  const auto parts = PartsOf(StepRecord(0), 50);
  OpenedStream opened;
  opened.entry.durable_seq = 3;
  opened.entry.schema_id = 1;
  opened.schema = std::make_shared<const Schema>(testing::MakeSchema());
  opened.parts = {testing::BodyOf(parts[0]), testing::BodyOf(parts[1])};
  Begin(opened);
  const auto batch =
      Accept(std::vector<std::string>(parts.begin() + 2, parts.end()));
  ASSERT_THAT(batch->commit.steps, SizeIs(1));
  EXPECT_EQ(batch->commit.steps[0].body, testing::StepBody(0));
  EXPECT_EQ(batch->commit.drop_parts_below_seq, validator_->accepted_seq() + 1);
}

TEST_F(PartsTest, AnUnfinishedRecordIsRejectedByWhatFollows) {
  const auto parts = PartsOf(StepRecord(0), 50);
  Accept({parts[0]});
  const auto batch = Accept({parts[1], StepRecord(1)});
  ASSERT_THAT(batch->rejected, SizeIs(1));
  EXPECT_EQ(batch->rejected[0].seq, validator_->accepted_seq() - 1);
  EXPECT_THAT(batch->commit.steps, SizeIs(1));
  EXPECT_THAT(batch->commit.parts, IsEmpty());
  EXPECT_EQ(batch->commit.drop_parts_below_seq, validator_->accepted_seq());
}

TEST_F(PartsTest, PartsOutOfPlaceRejectTheirRecordOnce) {
  const auto parts = PartsOf(StepRecord(0), 50);
  const auto batch = Accept({parts[0], parts[2], parts[3], StepRecord(1)});
  ASSERT_THAT(batch->rejected, SizeIs(1));
  EXPECT_EQ(batch->rejected[0].count, 2U);
  EXPECT_EQ(batch->commit.rejected_records, 1U);
  EXPECT_THAT(batch->commit.steps, SizeIs(1));
  ASSERT_THAT(batch->commit.gaps, SizeIs(1));
  EXPECT_EQ(batch->commit.gaps[0].gap.first_step, 0);
  ExpectRejected(parts[1], "part 1");
  const auto again = Accept(parts);
  EXPECT_THAT(again->rejected, SizeIs(1));  // Step 0 after step 1.
  EXPECT_THAT(again->rejected[0].reason, HasSubstr("step 0 comes after"));
}

TEST_F(PartsTest, MoreThanTheLimitIsRejectedBeforeItIsHeld) {
  limits_.max_step_bytes = 120;
  OpenedStream opened;
  opened.entry.schema_id = 1;
  opened.schema = std::make_shared<const Schema>(testing::MakeSchema());
  Begin(opened);
  const auto parts = PartsOf(StepRecord(77, 40), 50);
  const auto batch = Accept(parts);
  EXPECT_EQ(batch->commit.rejected_records, 1U);
  ASSERT_THAT(batch->rejected, SizeIs(1));
  EXPECT_EQ(batch->rejected[0].count, parts.size() - 2);
  EXPECT_THAT(batch->commit.parts, IsEmpty());
  // Which step it is stands in front.
  ASSERT_THAT(batch->commit.gaps, SizeIs(1));
  EXPECT_EQ(batch->commit.gaps[0].gap.first_step, 77);
  EXPECT_THAT(batch->commit.gaps[0].gap.detail, HasSubstr("more than 120"));
}

TEST_F(PartsTest, ASchemaIsNotHeldBeyondWhatASchemaMayHave) {
  limits_.max_schema_bytes = 120;
  Begin({});
  const auto parts = PartsOf(SchemaRecord(1, 100), 50);
  const auto batch = Accept(parts);
  EXPECT_EQ(batch->commit.rejected_records, 1U);
  ASSERT_THAT(batch->rejected, SizeIs(1));
  EXPECT_EQ(batch->rejected[0].count, parts.size() - 2);
  EXPECT_THAT(batch->commit.gaps, IsEmpty());
  EXPECT_THAT(batch->rejected[0].reason,
              HasSubstr("a schema of more than 120"));
  EXPECT_THAT(batch->commit.parts, IsEmpty());
  EXPECT_EQ(refused_.refused(Limit::kSchemaBytes), 1u);
}

TEST_F(PartsTest, PartsWithinPartsAreRejected) {
  const auto inner = PartsOf(StepRecord(0), 1'000);
  ASSERT_THAT(inner, SizeIs(1));
  const auto batch = Accept(PartsOf(inner[0], 100));
  ASSERT_THAT(batch->rejected, SizeIs(1));
  EXPECT_THAT(batch->rejected[0].reason, HasSubstr("within parts"));
}

TEST_F(PartsTest, DamagedKeptPartsRejectTheRecordAndAreDropped) {
  const auto parts = PartsOf(StepRecord(0), 50);
  OpenedStream opened;
  opened.entry.durable_seq = 3;
  opened.entry.schema_id = 1;
  opened.schema = std::make_shared<const Schema>(testing::MakeSchema());
  opened.parts = {testing::BodyOf(parts[1])};
  Begin(opened);
  const auto batch = Accept({parts[2], StepRecord(1)});
  EXPECT_THAT(batch->rejected, SizeIs(1));
  EXPECT_THAT(batch->commit.steps, SizeIs(1));
  EXPECT_TRUE(batch->commit.drop_parts_below_seq.has_value());
}

}  // namespace
}  // namespace gradtap::server
