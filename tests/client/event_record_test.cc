#include "client/tensorboard/event_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "client/tfevents_reader.h"

namespace gradtap::client::testing {
namespace {

using ::testing::ElementsAre;

constexpr std::int64_t kTime = 1'700'000'000'500'000'000;

TEST(EventRecordTest, TheReadersChecksumIsCrc32c) {
  // The check value that RFC 3720's algorithm is known by.
  EXPECT_EQ(BitwiseCrc32c("123456789"), 0xE3069283u);
}

TEST(EventRecordTest, AFileBeginsWithItsVersion) {
  EventRecords records;
  records.AddFileVersion(kTime);
  const auto events = TfReader::ReadFile(records.bytes());
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_EQ(events[0].wall_time, 1'700'000'000.5);
}

TEST(EventRecordTest, AStepIsOneRecordWithAllItsValues) {
  EventRecords records;
  records.Begin(1'000'000'000'000, kTime);
  records.AddScalar("scalar/loss", 0.25);
  records.AddScalar(std::string("a\0b/\xF0\x9F\x98\x80", 8), -3);
  records.End();
  records.Begin(7, kTime);  // Without a value.
  records.End();
  const auto events = TfReader::ReadFile(records.bytes());
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].step, 1'000'000'000'000);
  ASSERT_EQ(events[0].values.size(), 2u);
  EXPECT_EQ(events[0].values[0].tag, "scalar/loss");
  EXPECT_EQ(events[0].values[0].simple_value, 0.25f);
  EXPECT_EQ(events[0].values[1].tag, std::string("a\0b/\xF0\x9F\x98\x80", 8));
}

TEST(EventRecordTest, WhatNoFloatHoldsIsTheLargestAndNonFiniteStays) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  EventRecords records;
  records.Begin(0, kTime);
  for (const double value :
       {1e300, -1e300, kInf, -kInf, std::numeric_limits<double>::quiet_NaN()}) {
    records.AddScalar("v", value);
  }
  records.End();
  const auto values = TfReader::ReadFile(records.bytes()).at(0).values;
  constexpr float kMax = std::numeric_limits<float>::max();
  ASSERT_EQ(values.size(), 5u);
  EXPECT_EQ(values[0].simple_value, kMax);
  EXPECT_EQ(values[1].simple_value, -kMax);
  EXPECT_EQ(values[2].simple_value, std::numeric_limits<float>::infinity());
  EXPECT_EQ(values[3].simple_value, -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(*values[4].simple_value));
}

TEST(EventRecordTest, AHistogramAndARestartReadBack) {
  EventRecords records;
  records.AddRestart(40, kTime);
  records.Begin(40, kTime);
  records.AddHistogram("grad/w", {-2, 3, 5, 1.5, 20, {-1, 0, 4}, {1, 0, 4}});
  records.End();
  const auto events = TfReader::ReadFile(records.bytes());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].session_status, 1);
  EXPECT_EQ(events[0].step, 40);
  const TfHistogram& histogram = events[1].values.at(0).histogram.value();
  EXPECT_EQ(histogram.min, -2);
  EXPECT_EQ(histogram.max, 3);
  EXPECT_EQ(histogram.num, 5);
  EXPECT_EQ(histogram.sum, 1.5);
  EXPECT_EQ(histogram.sum_squares, 20);
  EXPECT_THAT(histogram.limit, ElementsAre(-1, 0, 4));
  EXPECT_THAT(histogram.bucket, ElementsAre(1, 0, 4));
}

}  // namespace
}  // namespace gradtap::client::testing
