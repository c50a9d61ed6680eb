// The collector's door: histograms, good and bad.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/ingest/batch_builder.h"
#include "server/ingest/validator_fixture.h"

namespace gradtap::server {
namespace {

using ::testing::IsEmpty;
using testing::PartsOf;
using testing::SchemaRecord;
using ::testing::SizeIs;
using testing::StepRecord;

class ValidateHistogramsTest : public ValidatorTest {};

StepData StepWithHistograms(std::int64_t number, std::size_t n) {
  StepData step = testing::MakeStep(number, n);
  for (std::uint32_t place = 0; place < n; ++place) {
    step.histograms.push_back({Role::kGrad, place, {0, 143}, {3, place + 1}});
  }
  return step;
}

TEST_F(ValidateHistogramsTest, HistogramsComeApartFromTheirStep) {
  const auto batch = Accept({SchemaRecord(1, 300),
                             testing::EncodedStep(StepWithHistograms(0, 300)),
                             StepRecord(1, 300)});
  EXPECT_THAT(batch->rejected, IsEmpty());
  ASSERT_THAT(batch->commit.steps, SizeIs(2));
  const StreamCommit::Step& step = batch->commit.steps[0];
  EXPECT_EQ(step.body, testing::StepBody(0, 300));
  ASSERT_THAT(step.histograms, SizeIs(2));
  EXPECT_EQ(step.histograms[1].block, 1U);
  EXPECT_THAT(*DecodeHistogramBlock(step.histograms[0].body), SizeIs(256));
  EXPECT_THAT(*DecodeHistogramBlock(step.histograms[1].body), SizeIs(44));
  EXPECT_THAT(batch->commit.steps[1].histograms, IsEmpty());
}

TEST_F(ValidateHistogramsTest, HistogramsComeApartFromAStepInParts) {
  Accept({SchemaRecord(1, 300)});
  const std::string record = testing::EncodedStep(StepWithHistograms(0, 300));
  const auto batch = Accept(PartsOf(record, 1000));
  EXPECT_THAT(batch->rejected, IsEmpty());
  ASSERT_THAT(batch->commit.steps, SizeIs(1));
  EXPECT_THAT(batch->commit.steps[0].histograms, SizeIs(2));
  EXPECT_EQ(batch->commit.steps[0].body, testing::StepBody(0, 300));
}

TEST_F(ValidateHistogramsTest, HistogramsThatMakeNoSenseCostTheirStep) {
  Accept({SchemaRecord()});
  StepData step = StepWithHistograms(0, 2);
  step.histograms[0].bin = {7, 20};
  ExpectRejected(testing::EncodedStep(step), "bin 7");
  step = StepWithHistograms(0, 2);
  step.histograms[1].place = 0;
  ExpectRejected(testing::EncodedStep(step), "twice");
  step = StepWithHistograms(0, 2);
  step.histograms[1].place = 2;
  ExpectRejected(testing::EncodedStep(step), "place 2");
  step = StepWithHistograms(0, 2);
  step.histograms[0].role = Role::kBuffer;
  ExpectRejected(testing::EncodedStep(step), "columns lack");
  step = StepWithHistograms(0, 2);
  step.histograms[0].count = {~std::uint64_t{0}, 1};
  ExpectRejected(testing::EncodedStep(step), "63 bits");
  StepData skipped;
  skipped.step = 0;
  skipped.skipped = GapCause::kAudit;
  skipped.histograms = {{Role::kGrad, 0, {0}, {1}}};
  ExpectRejected(testing::EncodedStep(skipped), "columns lack");
}

}  // namespace
}  // namespace gradtap::server
