// A validator of a stream that has just begun, and what tests say to it.

#ifndef GRADTAP_TESTS_SERVER_INGEST_VALIDATOR_FIXTURE_H_
#define GRADTAP_TESTS_SERVER_INGEST_VALIDATOR_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/ingest/batch_builder.h"
#include "server/ingest/validate.h"
#include "support/status_matchers.h"

namespace gradtap::server {

class ValidatorTest : public ::testing::Test {
 protected:
  ValidatorTest() { Begin(OpenedStream{}); }

  void Begin(OpenedStream opened) {
    opened.entry.id = 7;
    if (opened.entry.branches.empty()) opened.entry.branches.push_back({});
    validator_.emplace(limits_, opened);
  }

  // The records after those accepted so far.
  std::unique_ptr<ValidatedBatch> Accept(
      const std::vector<std::string>& records) {
    const auto batch =
        testing::MakeBatch(validator_->accepted_seq() + 1, records);
    auto accepted =
        validator_->Accept(batch.first_seq, batch.record_count, batch.frame);
    EXPECT_THAT(accepted, ::gradtap::testing::IsOk());
    EXPECT_EQ((*accepted)->commit.last_seq, validator_->accepted_seq());
    return *std::move(accepted);
  }

  // One record, which is to be rejected, and changes nothing.
  void ExpectRejected(const std::string& record, const std::string& reason) {
    const auto batch = Accept({record});
    ASSERT_THAT(batch->rejected, ::testing::SizeIs(1));
    EXPECT_EQ(batch->rejected[0].seq, validator_->accepted_seq());
    EXPECT_THAT(batch->rejected[0].reason, ::testing::HasSubstr(reason));
    EXPECT_EQ(batch->commit.rejected_records, 1U);
    EXPECT_THAT(batch->commit.steps, ::testing::IsEmpty());
    EXPECT_THAT(batch->commit.schemas, ::testing::IsEmpty());
    for (const auto& gap : batch->commit.gaps) {
      EXPECT_EQ(gap.gap.cause, GapCause::kRejected);
    }
    EXPECT_THAT(batch->commit.new_branches, ::testing::IsEmpty());
    EXPECT_FALSE(batch->commit.end.has_value());
  }

  LimitCounters refused_;
  IngestLimits limits_ = [this] {
    IngestLimits limits;
    limits.guards.refused = &refused_;
    return limits;
  }();
  std::optional<StreamValidator> validator_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_TESTS_SERVER_INGEST_VALIDATOR_FIXTURE_H_
