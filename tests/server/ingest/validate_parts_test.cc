// The collector's door: records in parts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/ingest/batch_builder.h"
#include "server/ingest/validator_fixture.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::PartsOf;
using testing::SchemaRecord;
using ::testing::SizeIs;
using testing::StepRecord;

class PartsTest : public ValidatorTest {
 protected:
  PartsTest() { Accept({SchemaRecord()}); }

  // As the store does, once the batch is durable.
  void Store(const ValidatedBatch& batch) {
    if (batch.commit.drop_parts) store_.clear();
    for (const auto& part : batch.commit.parts) {
      store_.emplace(part.seq, part.data);
    }
    durable_ = batch.commit.last_seq;
    validator_->OnDurable(durable_);
  }

  // A new session, which finds what the store has.
  void Resume() {
    OpenedStream opened;
    opened.entry.durable_seq = durable_;
    opened.entry.schema_id = 1;
    opened.schema = std::make_shared<const Schema>(testing::MakeSchema());
    KeptParts kept;
    for (const auto& [seq, data] : store_) kept.Add(seq, data.size());
    opened.unfinished = FindUnfinished(
        kept, durable_, store_.empty() ? "" : store_.begin()->second);
    opened.scan_parts = [this](std::uint64_t begin, std::uint64_t end,
                               const auto& visit) {
      for (auto it = store_.lower_bound(begin); it != store_.end(); ++it) {
        if (it->first >= end) break;
        read_.push_back(it->first);
        if (!visit(it->second)) break;
      }
      return scan_status_;
    };
    Begin(opened);
  }

  std::map<std::uint64_t, std::string> store_;
  std::vector<std::uint64_t> read_;  // Seqs, from the store.
  absl::Status scan_status_;
  std::uint64_t durable_ = 0;
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
  EXPECT_TRUE(last->commit.drop_parts);
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
  EXPECT_FALSE(batch->commit.drop_parts);
}

TEST_F(PartsTest, ARestartInTheMiddleGoesOnFromTheKeptParts) {
  Resume();
  const auto parts = PartsOf(StepRecord(0), 50);
  Store(*Accept({parts[0], parts[1]}));
  Resume();
  const auto batch =
      Accept(std::vector<std::string>(parts.begin() + 2, parts.end()));
  ASSERT_THAT(batch->commit.steps, SizeIs(1));
  EXPECT_EQ(batch->commit.steps[0].body, testing::StepBody(0));
  EXPECT_TRUE(batch->commit.drop_parts);
  EXPECT_THAT(read_, ElementsAre(1, 2));
}

TEST_F(PartsTest, TheStoreIsReadWithTheLastPartAndNotBefore) {
  Resume();
  const auto parts = PartsOf(StepRecord(0), 20);
  ASSERT_GT(parts.size(), 5U);
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    Store(*Accept({parts[i]}));
    if (i % 2 == 1) Resume();
    EXPECT_THAT(read_, IsEmpty());
  }
  const auto batch = Accept({parts.back(), StepRecord(1)});
  EXPECT_THAT(read_, SizeIs(parts.size() - 1));
  ASSERT_THAT(batch->commit.steps, SizeIs(2));
  EXPECT_EQ(batch->commit.steps[0].body, testing::StepBody(0));
  Store(*batch);
  EXPECT_THAT(store_, IsEmpty());
}

TEST_F(PartsTest, PartsThatAreNotDurableYetAreNotAskedOfTheStore) {
  Resume();
  const auto parts = PartsOf(StepRecord(0), 20);
  ASSERT_GT(parts.size(), 5U);
  Store(*Accept({parts[0]}));
  // Their batches may be gone before the session hears of it.
  Accept({parts[1]});
  Accept({parts[2], parts[3]});
  const auto batch =
      Accept(std::vector<std::string>(parts.begin() + 4, parts.end()));
  ASSERT_THAT(batch->commit.steps, SizeIs(1));
  EXPECT_EQ(batch->commit.steps[0].body, testing::StepBody(0));
  EXPECT_THAT(read_, ElementsAre(1));
}

TEST_F(PartsTest, WhatAnUnfinishedRecordKeepsGoesOnceItIsDurable) {
  Resume();
  const auto parts = PartsOf(std::string(1'000, 'x'), 100);
  const auto batch = Accept({parts[0], parts[1]});
  const std::weak_ptr<const std::string> content = batch->content;
  batch->content.reset();
  EXPECT_FALSE(content.expired());
  Store(*batch);
  EXPECT_TRUE(content.expired());
}

TEST_F(PartsTest, WhatCannotBeReadNowIsTriedAgainAndNothingIsAcceptedThen) {
  Resume();
  const auto parts = PartsOf(StepRecord(0), 50);
  Store(*Accept({parts[0], parts[1]}));
  scan_status_ = absl::UnavailableError("the disk fails");
  const auto rest = testing::MakeBatch(
      3, std::vector<std::string>(parts.begin() + 2, parts.end()));
  EXPECT_THAT(validator_->Accept(3, rest.record_count, rest.frame),
              StatusIs(absl::StatusCode::kUnavailable, "the disk fails"));
  EXPECT_EQ(validator_->accepted_seq(), 2U);
  scan_status_ = absl::OkStatus();
  const auto batch = validator_->Accept(3, rest.record_count, rest.frame);
  GRADTAP_ASSERT_OK(batch);
  EXPECT_THAT((*batch)->commit.steps, SizeIs(1));
}

TEST_F(PartsTest, PartsThatTheStoreHasLostRejectTheirRecord) {
  for (const bool says_so : {false, true}) {
    Resume();
    const std::int64_t step = says_so ? 1 : 0;
    const auto parts = PartsOf(StepRecord(step), 50);
    Store(*Accept({parts[0], parts[1]}));
    store_.rbegin()->second = "?";
    if (says_so) scan_status_ = absl::DataLossError("a damaged block");
    const auto batch =
        Accept(std::vector<std::string>(parts.begin() + 2, parts.end()));
    ASSERT_THAT(batch->rejected, SizeIs(1));
    EXPECT_THAT(batch->rejected[0].reason, HasSubstr("cannot be read"));
    EXPECT_EQ(batch->commit.rejected_records, 1U);
    EXPECT_TRUE(batch->commit.drop_parts);
    Store(*batch);
  }
}

TEST_F(PartsTest, ARecordInTooManyPartsIsRejected) {
  ExpectRejected(EncodePartHead(0, kMaxParts + 1, 1) + "x",
                 "a record in 65537 parts; at most 65536");
}

TEST_F(PartsTest, WhatItTakesIsAskedForWhereItMayEnd) {
  Resume();
  const auto parts = PartsOf(std::string(1'000, 'x'), 100);
  EXPECT_EQ(validator_->BytesIfEndsWithin(100), 0U);
  Store(*Accept({parts[0], parts[1], parts[2]}));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(validator_->BytesIfEndsWithin(6), 0U);
    EXPECT_GE(validator_->BytesIfEndsWithin(7), 300 + limits_.max_batch_bytes);
    EXPECT_LE(validator_->BytesIfEndsWithin(7), 400 + limits_.max_batch_bytes);
    Resume();
  }
  Store(*Accept({parts[3], parts[4], parts[5], parts[6], parts[7], parts[8]}));
  EXPECT_GE(validator_->BytesIfEndsWithin(1), 900 + kMaxPartBytes);
  EXPECT_LE(validator_->BytesIfEndsWithin(1), 1'100 + kMaxPartBytes);
}

// Which step it was is known from its beginning alone.
TEST_F(PartsTest, AStepThatIsRefusedAfterARestartIsAGapToo) {
  Resume();
  const auto parts = PartsOf(StepRecord(5), 50);
  Store(*Accept({parts[0], parts[1]}));
  store_.rbegin()->second = "?";
  Resume();
  const auto batch =
      Accept(std::vector<std::string>(parts.begin() + 2, parts.end()));
  ASSERT_THAT(batch->commit.gaps, SizeIs(1));
  EXPECT_EQ(batch->commit.gaps[0].gap.first_step, 5);
  EXPECT_EQ(batch->commit.gaps[0].gap.cause, GapCause::kRejected);
}

TEST_F(PartsTest, AnUnfinishedRecordIsRejectedByWhatFollows) {
  const auto parts = PartsOf(StepRecord(0), 50);
  Accept({parts[0]});
  const auto batch = Accept({parts[1], StepRecord(1)});
  ASSERT_THAT(batch->rejected, SizeIs(1));
  EXPECT_EQ(batch->rejected[0].seq, validator_->accepted_seq() - 1);
  EXPECT_THAT(batch->commit.steps, SizeIs(1));
  EXPECT_THAT(batch->commit.parts, IsEmpty());
  EXPECT_TRUE(batch->commit.drop_parts);
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
  Resume();
  const auto parts = PartsOf(StepRecord(0), 50);
  Store(*Accept({parts[0], parts[1]}));
  const auto kept = store_;
  const auto end = durable_;
  std::vector<std::map<std::uint64_t, std::string>> damages(4, kept);
  damages[0].begin()->second = "?";
  damages[1].erase(damages[1].begin());
  damages[2].erase(std::prev(damages[2].end()));
  damages[3].emplace(end + 2, "x");
  for (const auto& damage : damages) {
    store_ = damage;
    durable_ = end;
    Resume();
    const auto batch = Accept({parts[2], StepRecord(1)});
    EXPECT_THAT(batch->rejected, SizeIs(1));
    EXPECT_THAT(batch->commit.steps, SizeIs(1));
    EXPECT_TRUE(batch->commit.drop_parts);
  }
}

}  // namespace
}  // namespace gradtap::server
