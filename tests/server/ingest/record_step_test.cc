#include "server/ingest/record_step.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>

#include "core/codec.h"
#include "core/limits.h"

namespace gradtap::server {
namespace {

std::string Encoded(std::int64_t step) {
  StepData data;
  data.step = step;
  data.wall_time_unix_ns = 1'700'000'000'000'000'000;
  data.schema_id = 1;
  data.scalars = {{"loss", 0.5}};
  std::string record(EncodedStepSize(data), '\0');
  EncodeStep(data, record);
  return record;
}

TEST(RecordStepTest, ItsNumberStandsInFront) {
  for (const std::int64_t step :
       {std::int64_t{1}, std::int64_t{127}, std::int64_t{128},
        std::int64_t{1} << 40, kMaxStep}) {
    const std::string record = Encoded(step);
    EXPECT_EQ(StepOfRecord(record), step);
    // Of what follows nothing is asked.
    EXPECT_EQ(StepOfRecord(std::string_view(record).substr(0, 20)), step);
    for (std::size_t size = 0; size < 4; ++size) {
      const auto cut = StepOfRecord(std::string_view(record).substr(0, size));
      EXPECT_TRUE(!cut.has_value() || cut == step) << size;
    }
  }
}

TEST(RecordStepTest, TheFirstStepOfAllHasNone) {
  EXPECT_EQ(StepOfRecord(Encoded(0)), 0);
  EXPECT_EQ(StepOfRecord(std::string_view("\x12\0", 2)), 0);
}

TEST(RecordStepTest, WhatIsNoStepHasNone) {
  EXPECT_EQ(StepOfRecord(""), std::nullopt);
  EXPECT_EQ(StepOfRecord("\xff\xff"), std::nullopt);
  EXPECT_EQ(StepOfRecord(EncodeGap({GapCause::kLoop, 3, 3, 1, ""})),
            std::nullopt);
  EXPECT_EQ(StepOfRecord(Encoded(-5)), std::nullopt);
}

}  // namespace
}  // namespace gradtap::server
