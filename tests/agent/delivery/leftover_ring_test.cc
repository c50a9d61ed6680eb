// What a dead process has left in its ring, with a spool or without.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>

#include "agent/delivery/leftover_drive_fixture.h"
#include "agent/delivery/leftover_fixtures.h"
#include "support/status_matchers.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::IsOk;
using ::gradtap::testing::MakeIdentity;
using ::gradtap::testing::NamesIn;
using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class LeftoverRingTest : public LeftoverDriveTest {
 protected:
  // The one place that is found.
  std::unique_ptr<Leftover> OpenTheOne(SpoolUse use = SpoolUse::kTakeOver) {
    const auto places = FindLeftovers(root_, rings_, /*lone_rings=*/true);
    EXPECT_THAT(places, IsOk());
    if (!places.ok() || places->size() != 1) return nullptr;
    auto leftover = Leftover::Open(places->front(), use);
    EXPECT_THAT(leftover, IsOk());
    return leftover.ok() ? *std::move(leftover) : nullptr;
  }
  void ExpectNothingLeft() {
    EXPECT_THAT(NamesIn(rings_), IsEmpty());
    if (std::filesystem::exists(root_)) {
      EXPECT_THAT(NamesIn(root_), IsEmpty());
    }
  }

  const std::string rings_ = dir_.path() + "/rings";
};

TEST_F(LeftoverRingTest, ARingAloneIsDeliveredAndGoes) {
  testing::LeaveRing(rings_, root_, 100, 0, 1);
  auto leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  EXPECT_EQ(leftover->steps(), 100u);
  EXPECT_EQ(leftover->identity(), MakeIdentity());
  EXPECT_THAT(Finish(Drive(leftover.get()).get()).status, IsOk());
  EXPECT_EQ(StoredSteps(), 100u);
  leftover.reset();
  ExpectNothingLeft();
}

TEST_F(LeftoverRingTest, WhatStandsInBothSpoolAndRingIsDeliveredOnce) {
  testing::LeaveRing(rings_, root_, 100, 60, 31);
  auto leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  EXPECT_EQ(leftover->steps(), 100u);
  const LeftoverOutcome outcome = Finish(Drive(leftover.get()).get());
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_sent, 100u);
  EXPECT_EQ(StoredSteps(), 100u);
  EXPECT_EQ(network_.collector.cursor(), 101u);
  leftover.reset();
  ExpectNothingLeft();
}

TEST_F(LeftoverRingTest, ARingBringsTheSpoolOfItsProcessWhereverThatIs) {
  const std::string elsewhere = dir_.path() + "/elsewhere";
  testing::LeaveRing(rings_, elsewhere, 100, 60, 60);
  auto leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  EXPECT_THAT(Finish(Drive(leftover.get()).get()).status, IsOk());
  EXPECT_EQ(StoredSteps(), 100u);
  leftover.reset();
  ExpectNothingLeft();
  EXPECT_THAT(NamesIn(elsewhere), IsEmpty());
}

TEST_F(LeftoverRingTest, AnEmptyRingGoesWithoutAWord) {
  testing::LeaveRing(rings_, root_, 10, 0, 12);
  const auto places = FindLeftovers(root_, rings_, /*lone_rings=*/true);
  GRADTAP_ASSERT_OK(places);
  ASSERT_THAT(*places, SizeIs(1));
  EXPECT_THAT(Leftover::Open(places->front(), SpoolUse::kTakeOver),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no record")));
  ExpectNothingLeft();
}

TEST_F(LeftoverRingTest, ACopyOfARingStays) {
  testing::LeaveRing(rings_, root_, 50, 0, 1);
  const auto before = Bytes(rings_);
  for (const std::uint64_t sent : {51, 0}) {
    const auto leftover = OpenTheOne(SpoolUse::kCopy);
    ASSERT_NE(leftover, nullptr);
    const LeftoverOutcome outcome = Finish(Drive(leftover.get()).get());
    EXPECT_THAT(outcome.status, IsOk());
    EXPECT_EQ(outcome.records_sent, sent);
  }
  EXPECT_EQ(Bytes(rings_), before);
}

TEST_F(LeftoverRingTest, RingsWithoutASpoolThereAreLeftToThoseWhoAskForThem) {
  testing::LeaveRing(rings_, root_, 5, 0, 1);
  std::filesystem::create_directory(root_);
  EXPECT_THAT(*FindLeftovers(root_, rings_), IsEmpty());
  EXPECT_THAT(*FindLeftovers(root_, rings_, /*lone_rings=*/true), SizeIs(1));
  EXPECT_THAT(*FindLeftovers(rings_), SizeIs(1));
}

}  // namespace
}  // namespace gradtap::agent
