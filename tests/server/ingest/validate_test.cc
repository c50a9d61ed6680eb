// The collector's door: records, good and bad.

#include "server/ingest/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/limits.h"
#include "core/names.h"
#include "server/ingest/batch_builder.h"
#include "server/ingest/validator_fixture.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using testing::EndRecord;
using testing::GapRecord;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeBatch;
using testing::SchemaRecord;
using ::testing::SizeIs;
using testing::SkippedRecord;
using testing::StepRecord;

// A length-delimited field, as protobuf writes it.
std::string Field(int number, const std::string& bytes) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  std::size_t size = bytes.size();
  for (; size >= 0x80; size >>= 7) {
    out.push_back(static_cast<char>(size | 0x80));
  }
  out.push_back(static_cast<char>(size));
  return out + bytes;
}

TEST_F(ValidatorTest, AUsualBatchBecomesACommit) {
  const auto batch = Accept({SchemaRecord(), StepRecord(0), StepRecord(1),
                             GapRecord(2, 4), StepRecord(5), EndRecord()});
  EXPECT_THAT(batch->rejected, IsEmpty());
  const StreamCommit& commit = batch->commit;
  EXPECT_EQ(commit.stream, 7U);
  EXPECT_EQ(commit.first_seq, 1U);
  EXPECT_EQ(commit.last_seq, 6U);
  ASSERT_THAT(commit.schemas, SizeIs(1));
  ASSERT_THAT(commit.steps, SizeIs(3));
  EXPECT_EQ(commit.steps[1].body, testing::StepBody(1));
  EXPECT_EQ(commit.steps[1].records, 4U);
  EXPECT_TRUE(commit.steps[1].has_statistics);
  ASSERT_THAT(commit.gaps, SizeIs(1));
  EXPECT_EQ(commit.gaps[0].gap.last_step, 4);
  EXPECT_TRUE(commit.end.has_value());
  EXPECT_EQ(commit.bytes, SchemaRecord().size() + StepRecord(0).size() +
                              StepRecord(1).size() + GapRecord(2, 4).size() +
                              StepRecord(5).size() + EndRecord().size());
}

TEST_F(ValidatorTest, AnOverlapIsCutOff) {
  Accept({SchemaRecord(), StepRecord(0)});
  const auto batch =
      MakeBatch(1, {SchemaRecord(), StepRecord(0), StepRecord(1)});
  const auto accepted =
      validator_->Accept(batch.first_seq, batch.record_count, batch.frame);
  GRADTAP_ASSERT_OK(accepted);
  EXPECT_EQ((*accepted)->commit.first_seq, 3U);
  EXPECT_EQ((*accepted)->commit.last_seq, 3U);
  ASSERT_THAT((*accepted)->commit.steps, SizeIs(1));
  EXPECT_EQ((*accepted)->commit.steps[0].step, 1);
  EXPECT_THAT((*accepted)->rejected, IsEmpty());
}

TEST_F(ValidatorTest, ABatchThatIsMalformedAsAWholeConsumesNothing) {
  const auto good = MakeBatch(1, {SchemaRecord()});
  const std::string bomb = CompressFrame(std::string(64 << 20, '\0'));
  const std::pair<std::string, std::uint32_t> bad[] = {
      {"", 1},
      {"garbage", 1},
      {good.frame.substr(0, good.frame.size() - 1), 1},
      {good.frame + "x", 1},
      {good.frame, 2},
      {good.frame, 0},
      {CompressFrame("\xff\xff\xff"), 1},
      {std::string(3 << 20, 'x'), 1},
      {bomb, 1},
  };
  for (const auto& [frame, count] : bad) {
    EXPECT_THAT(
        validator_->Accept(1, count, frame),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a batch")))
        << frame.size();
    EXPECT_EQ(validator_->accepted_seq(), 0U);
  }
  const std::string content = *DecompressFrame(good.frame, 1 << 20);
  std::size_t flips_noticed = 0;
  for (std::size_t i = 0; i < good.frame.size(); ++i) {
    std::string flipped = good.frame;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
    const auto accepted = validator_->Accept(1, 1, flipped);
    // A bit of the frame's header has no meaning.
    if (accepted.ok()) {
      EXPECT_EQ(*(*accepted)->content, content) << i;
    }
    flips_noticed += accepted.ok() ? 0 : 1;
    Begin({});
  }
  EXPECT_GE(flips_noticed, good.frame.size() - 1);
  Accept({SchemaRecord(), StepRecord(0)});
}

TEST_F(ValidatorTest, ABadRecordDoesNotHoldUpThoseBehindIt) {
  const auto batch = Accept({SchemaRecord(), StepRecord(0), "\xff\xff",
                             StepRecord(1), StepRecord(1), StepRecord(2)});
  EXPECT_THAT(batch->commit.steps, SizeIs(3));
  ASSERT_THAT(batch->rejected, SizeIs(2));
  EXPECT_EQ(batch->rejected[0].seq, 3U);
  EXPECT_EQ(batch->rejected[1].seq, 5U);
  EXPECT_EQ(batch->rejected[1].count, 1U);
  // What is no record is no step, and step 1 is there.
  EXPECT_THAT(batch->commit.gaps, IsEmpty());
  EXPECT_EQ(batch->commit.rejected_records, 2U);
  EXPECT_EQ(batch->commit.last_seq, 6U);
}

TEST_F(ValidatorTest, RejectionsInARowAreOne) {
  const auto batch = Accept(std::vector<std::string>(30'000, "\xff"));
  ASSERT_THAT(batch->rejected, SizeIs(1));
  EXPECT_EQ(batch->rejected[0].seq, 1U);
  EXPECT_EQ(batch->rejected[0].count, 30'000U);
  EXPECT_EQ(batch->commit.rejected_records, 30'000U);
  EXPECT_EQ(batch->commit.last_seq, 30'000U);
}

TEST_F(ValidatorTest, AllRejectionsAreToldAndOfTheFirst500TheReason) {
  std::vector<std::string> records = {SchemaRecord()};
  for (int i = 0; i < 700; ++i) {
    records.insert(records.end(), {"\xff", StepRecord(i)});
  }
  const auto batch = Accept(records);
  ASSERT_THAT(batch->rejected, SizeIs(700));
  for (std::size_t i = 0; i < 700; ++i) {
    EXPECT_EQ(batch->rejected[i].seq, 2 + 2 * i);
    EXPECT_EQ(batch->rejected[i].reason.empty(), i >= 500) << i;
  }
  EXPECT_THAT(batch->commit.steps, SizeIs(700));
}

TEST_F(ValidatorTest, StepsThatAreRefusedAreGaps) {
  const auto batch =
      Accept({StepRecord(0), StepRecord(1), StepRecord(30), SchemaRecord(),
              StepRecord(31), StepRecord(32, 3), StepRecord(33),
              EncodeRollback({10, 1}), StepRecord(10, 3)});
  EXPECT_EQ(batch->commit.rejected_records, 5U);
  EXPECT_THAT(batch->commit.steps, SizeIs(2));
  const auto& gaps = batch->commit.gaps;
  ASSERT_THAT(gaps, SizeIs(3));
  for (const auto& gap : gaps) {
    EXPECT_EQ(gap.gap.cause, GapCause::kRejected);
  }
  EXPECT_EQ(gaps[0].gap.first_step, 0);
  EXPECT_EQ(gaps[0].gap.last_step, 30);
  EXPECT_EQ(gaps[0].gap.steps, 3U);
  EXPECT_THAT(gaps[0].gap.detail, HasSubstr("step 0 refers to schema 1"));
  EXPECT_EQ(gaps[1].gap.first_step, 32);
  EXPECT_EQ(gaps[1].gap.steps, 1U);
  EXPECT_THAT(gaps[1].gap.detail, HasSubstr("3 places"));
  EXPECT_EQ(gaps[2].branch, 1U);
  EXPECT_EQ(gaps[2].gap.first_step, 10);
  // An agent may tell of it, too, and of what the collector has lost.
  const auto told = Accept({EncodeGap({GapCause::kRejected, 10, 10, 1, ""}),
                            EncodeGap({GapCause::kRejected, 11, 12, 2, ""})});
  EXPECT_THAT(told->rejected, IsEmpty());
  ASSERT_THAT(told->commit.gaps, SizeIs(1));
  EXPECT_EQ(told->commit.gaps[0].gap.first_step, 11);
  // What is known to be lost cannot come any more.
  ExpectRejected(StepRecord(10), "step 10 comes after step 12");
}

TEST_F(ValidatorTest, ABatchOfTooManyRecordsIsRefusedAsAWholeAndCounted) {
  const std::vector<std::string> records(kMaxBatchRecords + 1, GapRecord(1, 1));
  const auto batch = MakeBatch(1, records);
  ASSERT_LT(batch.frame.size(), 1'000U);
  EXPECT_THAT(validator_->Accept(1, batch.record_count, batch.frame),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("a batch of 32769 records; at most 32768")));
  EXPECT_EQ(refused_.refused(Limit::kBatchRecords), 1U);
  EXPECT_EQ(validator_->accepted_seq(), 0U);
  EXPECT_THAT(
      Accept(std::vector<std::string>(records.begin() + 1, records.end()))
          ->commit.gaps,
      SizeIs(kMaxBatchRecords));
}

// As FreedHistory tells them, each in as few bytes as it can have.
TEST_F(ValidatorTest, WhatAnAgentSendsToACollectorThatLostItsDataIsTaken) {
  const std::string gap = EncodeGap(
      {GapCause::kRunDeleted, 1, 1, 1, "the run was deleted while it went on"});
  const std::size_t gaps =
      (std::size_t{1} << 20) / (gap.size() + RecordListOverhead(gap.size()));
  EXPECT_GT(gaps, 20'000U);
  EXPECT_THAT(Accept(std::vector<std::string>(gaps, gap))->commit.gaps,
              SizeIs(gaps));
  // Of no kind: what it has forgotten.
  EXPECT_THAT(Accept(std::vector<std::string>(1 << 19))->rejected, IsEmpty());
}

TEST_F(ValidatorTest, AReasonThatQuotesAPeerIsSafeToSend) {
  Schema schema = testing::MakeSchema();
  std::string name;
  while (name.size() < 500) name += "\u202e\x1b[2J";
  schema.parameters[0].name = schema.parameters[1].name = name;
  const auto batch = Accept({EncodeSchema(schema)});
  ASSERT_THAT(batch->rejected, SizeIs(1));
  const std::string& reason = batch->rejected[0].reason;
  EXPECT_TRUE(IsValidUtf8(reason));
  EXPECT_LE(reason.size(), 512U);
  EXPECT_EQ(reason.find('\x1b'), std::string::npos);
}

TEST_F(ValidatorTest, AnEmptyRecordIsPassedOver) {
  const auto batch = Accept({"", SchemaRecord(), "", StepRecord(0)});
  EXPECT_THAT(batch->rejected, IsEmpty());
  EXPECT_EQ(batch->commit.last_seq, 4U);
  EXPECT_THAT(batch->commit.steps, SizeIs(1));
}

TEST_F(ValidatorTest, AKindOfANewerVersionIsRejected) {
  ExpectRejected(std::string("\x7a\x02hi", 4), "does not know");
}

TEST_F(ValidatorTest, AStepNeedsItsSchema) {
  ExpectRejected(StepRecord(0), "refers to schema 1; the newest is 0");
  Accept({SchemaRecord(1, 2)});
  ExpectRejected(StepRecord(1, 3), "has 3 places of role weight");
  ExpectRejected(StepRecord(2, 2, 2), "refers to schema 2; the newest is 1");
  Accept({SchemaRecord(2, 3)});
  ExpectRejected(StepRecord(3, 2, 1), "refers to schema 1; the newest is 2");
  EXPECT_THAT(Accept({StepRecord(4, 3, 2)})->commit.steps, SizeIs(1));
}

TEST_F(ValidatorTest, StepsRiseWithinABranch) {
  Accept({SchemaRecord(), StepRecord(5)});
  ExpectRejected(StepRecord(5), "step 5 comes after step 5");
  ExpectRejected(StepRecord(0), "step 0 comes after step 5");
  ExpectRejected(StepRecord(-1), "step -1 is negative");
  Accept({GapRecord(6, 9)});
  ExpectRejected(StepRecord(9), "step 9 comes after step 9");
  EXPECT_THAT(Accept({StepRecord(10)})->commit.steps, SizeIs(1));
}

// What reads them adds to them: the step after the last one has to be a number.
TEST_F(ValidatorTest, NoStepIsBeyondTheLastThereMayBe) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  Accept({SchemaRecord()});
  StepData last = testing::MakeStep(0);
  last.step = kMost;
  ExpectRejected(testing::EncodedStep(last),
                 "step 9223372036854775807 is beyond 2^62");
  ExpectRejected(StepRecord(kMaxStep + 1), "beyond 2^62");
  ExpectRejected(EncodeGap({GapCause::kLoop, kMost - 1, kMost, 1, ""}),
                 "a gap from step 9223372036854775806 is beyond 2^62");
  ExpectRejected(EncodeGap({GapCause::kLoop, 5, kMost, 1, ""}),
                 "a gap up to step 9223372036854775807 is beyond 2^62");
  ExpectRejected(EncodeRollback({kMost, 1}), "beyond 2^62");
  EXPECT_THAT(Accept({StepRecord(kMaxStep)})->commit.steps, SizeIs(1));
}

TEST_F(ValidatorTest, ARollbackOpensTheNextBranch) {
  Accept({SchemaRecord(), StepRecord(5)});
  ExpectRejected(EncodeRollback({3, 2}), "branch 2; the next one is 1");
  ExpectRejected(EncodeRollback({-3, 1}), "negative");
  const auto batch = Accept({EncodeRollback({3, 1}), StepRecord(3),
                             EncodeRollback({1, 2}), StepRecord(3)});
  EXPECT_THAT(batch->rejected, IsEmpty());
  ASSERT_THAT(batch->commit.new_branches, SizeIs(2));
  EXPECT_EQ(batch->commit.new_branches[0].branch, 1U);
  EXPECT_EQ(batch->commit.new_branches[0].rollback_step, 3);
  EXPECT_EQ(batch->commit.new_branches[1].branch, 2U);
  EXPECT_EQ(batch->commit.new_branches[1].rollback_step, 1);
  EXPECT_EQ(batch->commit.steps[0].branch, 1U);
  EXPECT_EQ(batch->commit.steps[1].branch, 2U);
}

// In place of records that nobody has any more: the stand-ins do not know which
// of them are here.
TEST_F(ValidatorTest, ARollbackToABranchThatIsThereIsPassedOver) {
  Accept(
      {SchemaRecord(), StepRecord(5), EncodeRollback({3, 1}), StepRecord(3)});
  const auto batch =
      Accept({EncodeRollback({0, 1}), StepRecord(4), EncodeRollback({0, 1}),
              EncodeRollback({0, 2}), StepRecord(1)});
  EXPECT_THAT(batch->rejected, IsEmpty());
  ASSERT_THAT(batch->commit.new_branches, SizeIs(1));
  EXPECT_EQ(batch->commit.new_branches[0].branch, 2U);
  EXPECT_EQ(batch->commit.steps[0].branch, 1U);
  EXPECT_EQ(batch->commit.steps[1].branch, 2U);
  ExpectRejected(EncodeRollback({0, 4}), "branch 4; the next one is 3");
}

TEST_F(ValidatorTest, BranchesAreLimited) {
  OpenedStream opened;
  for (std::uint32_t i = 0; i < kMaxBranches; ++i) {
    opened.entry.branches.push_back({i, 0, 0, 1});
  }
  Begin(opened);
  ExpectRejected(EncodeRollback({0, kMaxBranches}), "at most 10000");
  EXPECT_EQ(refused_.refused(Limit::kBranches), 1U);
}

TEST_F(ValidatorTest, SkippedStepsCarryScalarsAndNeedNoSchema) {
  const auto batch = Accept({SkippedRecord(0, GapCause::kInterval)});
  ASSERT_THAT(batch->commit.steps, SizeIs(1));
  EXPECT_FALSE(batch->commit.steps[0].has_statistics);
  EXPECT_EQ(batch->commit.steps[0].records, 0U);
}

TEST_F(ValidatorTest, SchemasRise) {
  Accept({SchemaRecord(2)});  // The first that a lost collector gets.
  ExpectRejected(SchemaRecord(2), "schema 2 does not come after schema 2");
  ExpectRejected(SchemaRecord(1), "schema 1 does not come after schema 2");
  EXPECT_THAT(Accept({SchemaRecord(3)})->commit.schemas, SizeIs(1));
}

TEST_F(ValidatorTest, TheOptimizersOfASchemaAreCommittedWithIt) {
  Schema schema = testing::MakeSchema();
  schema.optimizers = {"torch::optim::SGD", "Lion"};
  const auto batch = Accept({EncodeSchema(schema), SchemaRecord(2)});
  ASSERT_THAT(batch->commit.schemas, SizeIs(2));
  EXPECT_EQ(batch->commit.schemas[0].optimizers, schema.optimizers);
  EXPECT_THAT(batch->commit.schemas[1].optimizers, IsEmpty());
}

TEST_F(ValidatorTest, HostileSchemasAreRejected) {
  limits_.max_parameters = 3;
  Begin({});
  ExpectRejected(SchemaRecord(1, 4), "at most 3");
  Schema schema = testing::MakeSchema();
  schema.parameters[1].name = schema.parameters[0].name;
  ExpectRejected(EncodeSchema(schema), "twice");
  schema = testing::MakeSchema();
  schema.parameters[0].name = "HOSTILE";
  // What an agent of ours would never encode.
  const std::string record = EncodeSchema(schema);
  const std::size_t at = record.find("HOSTILE");
  ASSERT_NE(at, std::string::npos);
  for (const std::string name : {"\xff\xfe\xfd\xfc\xfb\xfa\xf9",
                                 "\xc0\x80\xc0\x80...", "\xed\xa0\x80...."}) {
    std::string bad = record;
    bad.replace(at, 7, name);
    ExpectRejected(bad, "UTF-8");
  }
  const auto of_name = [](const std::string& name) {
    const std::string parameter = Field(1, name);
    return Field(1, "\x08\x01" + Field(2, parameter));
  };
  ExpectRejected(of_name(std::string(100'000, 'x')), "512");
  ExpectRejected(of_name(""), "no name");
  ExpectRejected(of_name("weight"), "fingerprint");
  limits_.max_schema_bytes = 100;
  Begin({});
  ExpectRejected(SchemaRecord(), "at most 100");
}

TEST_F(ValidatorTest, HostileStepsAreRejected) {
  Accept({SchemaRecord()});
  StepData step = testing::MakeStep(0);
  step.scalars = {{"loss", 1}, {"loss", 2}};
  ExpectRejected(testing::EncodedStep(step), "twice");
  step.scalars.clear();
  StepData rolled_up = step;
  rolled_up.step = 1;
  rolled_up.roles.clear();
  rolled_up.skipped = GapCause::kRolledUp;
  ExpectRejected(testing::EncodedStep(rolled_up), "rolled up");
  step.step = 2;
  for (int i = 0; i < 1'025; ++i) {
    step.scalars.push_back({"s" + std::to_string(i), 1});
  }
  ExpectRejected(testing::EncodedStep(step), "1,024 scalars");
  limits_.max_step_bytes = 64;
  OpenedStream opened;
  opened.entry.schema_id = 1;
  opened.schema = std::make_shared<const Schema>(testing::MakeSchema());
  Begin(opened);
  ExpectRejected(StepRecord(0), "at most 64");
}

TEST_F(ValidatorTest, WhatIsOverALimitIsCountedByIt) {
  limits_.max_parameters = 3;
  limits_.max_name_bytes = 20;
  limits_.max_schema_bytes = 1'000;
  limits_.max_step_bytes = 2'000;
  limits_.max_batch_bytes = 100'000;
  Begin({});
  const auto count = [this](Limit limit) { return refused_.refused(limit); };
  ExpectRejected(SchemaRecord(1, 4), "at most 3");
  EXPECT_EQ(count(Limit::kParameters), 1u);
  Schema schema = testing::MakeSchema();
  schema.parameters[1].name = std::string(20, 'x');
  schema.parameters[1].aliases = {std::string(21, 'y')};
  ExpectRejected(EncodeSchema(schema), "a name of 21 bytes; at most 20");
  schema.parameters[1].aliases.clear();
  schema.parameters[0].name = std::string(21, 'x');
  ExpectRejected(EncodeSchema(schema), "a name of 21 bytes; at most 20");
  EXPECT_EQ(count(Limit::kNameBytes), 2u);
  schema.parameters[0].name = "short";
  schema.parameters[0].aliases.assign(100, std::string(20, 'z'));
  ExpectRejected(EncodeSchema(schema), "at most 1000");
  EXPECT_EQ(count(Limit::kSchemaBytes), 1u);
  EXPECT_THAT(Accept({SchemaRecord()})->rejected, IsEmpty());
  StepData step = testing::MakeStep(0);
  step.scalars.clear();
  for (int i = 0; i < 200; ++i) step.scalars.push_back({std::to_string(i), 1});
  ExpectRejected(testing::EncodedStep(step), "at most 2000");
  EXPECT_EQ(count(Limit::kStepBytes), 1u);
  for (const std::string& frame :
       {std::string(100'001, 'x'), CompressFrame(std::string(100'001, '\0'))}) {
    EXPECT_FALSE(
        validator_->Accept(validator_->accepted_seq() + 1, 1, frame).ok());
  }
  EXPECT_EQ(count(Limit::kBatchBytes), 2u);
  EXPECT_FALSE(
      validator_->Accept(validator_->accepted_seq() + 1, 1, "junk").ok());
  EXPECT_EQ(count(Limit::kBatchBytes), 2u);
}

TEST_F(ValidatorTest, EveryTruncationOfARecordIsRejectedOrHarmless) {
  Accept({SchemaRecord()});
  const std::string step = StepRecord(0);
  for (std::size_t size = 1; size < step.size(); ++size) {
    EXPECT_THAT(Accept({step.substr(0, size)})->commit.steps, IsEmpty())
        << size;
  }
  EXPECT_THAT(Accept({StepRecord(1)})->commit.steps, SizeIs(1));
}

TEST_F(ValidatorTest, GapsAreChecked) {
  ExpectRejected(EncodeGap({GapCause::kLoop, 5, 4, 1, ""}), "before it begins");
  ExpectRejected(EncodeGap({GapCause::kLoop, 5, 6, 3, ""}), "3 steps");
  ExpectRejected(EncodeGap({GapCause::kLoop, 5, 6, 0, ""}), "0 steps");
  ExpectRejected(EncodeGap({GapCause::kLoop, -5, 6, 1, ""}), "negative");
  ExpectRejected(EncodeGap({GapCause::kRolledUp, 5, 6, 2, ""}), "rolled up");
  // One that tells of earlier steps is fine.
  Accept({SchemaRecord(), StepRecord(9)});
  EXPECT_THAT(Accept({GapRecord(1, 7)})->commit.gaps, SizeIs(1));
}

TEST_F(ValidatorTest, NothingComesAfterTheEnd) {
  Accept({SchemaRecord(), StepRecord(0), EndRecord()});
  ExpectRejected(StepRecord(1), "after the stream's End");
  ExpectRejected(EndRecord(), "after the stream's End");
  OpenedStream opened;
  opened.entry.end = EndData{};
  Begin(opened);
  ExpectRejected(StepRecord(1), "after the stream's End");
}

TEST_F(ValidatorTest, AReopenedStreamGoesOnWhereItWas) {
  OpenedStream opened;
  opened.entry.durable_seq = 20;
  opened.entry.schema_id = 4;
  opened.entry.branches = {{0, 0, 9, 10}, {1, 5, 8, 4}};
  opened.schema = std::make_shared<const Schema>(testing::MakeSchema(4, 3));
  Begin(opened);
  EXPECT_EQ(validator_->accepted_seq(), 20U);
  ExpectRejected(StepRecord(8, 3, 4), "step 8 comes after step 8");
  const auto batch = Accept({StepRecord(9, 3, 4)});
  EXPECT_EQ(batch->commit.first_seq, 22U);
  EXPECT_EQ(batch->commit.steps[0].branch, 1U);
}

}  // namespace
}  // namespace gradtap::server
