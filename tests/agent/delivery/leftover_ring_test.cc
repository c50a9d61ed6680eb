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
using ::testing::AllOf;
using ::testing::Contains;
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
  // In the one segment there is.
  void CutOffLastRecord() {
    namespace fs = std::filesystem;
    for (const auto& file : fs::recursive_directory_iterator(root_)) {
      if (file.path().extension() != ".seg") continue;
      fs::resize_file(file.path(), file.file_size() - 1);
    }
  }
  void ExpectAllOfItThoughTheLastRecordIsCutOff() {
    CutOffLastRecord();
    auto leftover = OpenTheOne();
    ASSERT_NE(leftover, nullptr);
    EXPECT_EQ(leftover->steps(), 100u);
    const LeftoverOutcome outcome = Finish(Drive(leftover.get()).get());
    EXPECT_THAT(outcome.status, IsOk());
    EXPECT_THAT(outcome.problems, IsEmpty());
    EXPECT_EQ(StoredSteps(), 100u);
    leftover.reset();
    ExpectNothingLeft();
  }
  void ExpectNothingLeft() {
    EXPECT_THAT(NamesIn(rings_), IsEmpty());
    if (std::filesystem::exists(root_)) {
      EXPECT_THAT(NamesIn(root_), IsEmpty());
    }
  }
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

TEST_F(LeftoverRingTest, ARecordThatAKillCutOffInTheSpoolIsTakenFromTheRing) {
  testing::LeaveRing(rings_, root_, 100, 60, 59);
  ExpectAllOfItThoughTheLastRecordIsCutOff();
}

TEST_F(LeftoverRingTest, SoIsTheFirstOneOfASegment) {
  testing::LeaveRing(rings_, root_, 100, 2, 1);
  ExpectAllOfItThoughTheLastRecordIsCutOff();
}

TEST_F(LeftoverRingTest, ACutOffRecordThatIsNotInTheRingIsDamage) {
  testing::LeaveRing(rings_, root_, 100, 60, 60);
  CutOffLastRecord();
  auto leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  const LeftoverOutcome outcome = Finish(Drive(leftover.get()).get());
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_THAT(outcome.problems,
              Contains(HasSubstr("a record is cut off; 58 records before")));
  EXPECT_EQ(StoredSteps(), 99u);
  leftover.reset();
  EXPECT_THAT(NamesIn(root_), SizeIs(1));  // Its .bad file.
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

TEST_F(LeftoverRingTest, ARingWhoseSpoolCannotBeSeenStaysUntilItCanBe) {
  const std::string elsewhere = dir_.path() + "/elsewhere";
  testing::LeaveRing(rings_, elsewhere, 100, 60, 60);
  std::filesystem::rename(elsewhere, dir_.path() + "/away");
  auto leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  EXPECT_THAT(leftover->unseen_spool(), HasSubstr(elsewhere));
  EXPECT_THAT(Finish(Drive(leftover.get()).get()).status,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("no records 1 to 59 of"),
                             HasSubstr(leftover->unseen_spool()))));
  EXPECT_EQ(network_.collector.cursor(), 0u);
  leftover.reset();
  EXPECT_THAT(NamesIn(rings_), SizeIs(1));
  std::filesystem::rename(dir_.path() + "/away", elsewhere);
  leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  EXPECT_THAT(leftover->unseen_spool(), IsEmpty());
  EXPECT_THAT(Finish(Drive(leftover.get()).get()).status, IsOk());
  EXPECT_EQ(StoredSteps(), 100u);
  leftover.reset();
  ExpectNothingLeft();
}

TEST_F(LeftoverRingTest, ASpoolThatNobodyCanLookAtIsNotTakenForNone) {
  const std::string elsewhere = dir_.path() + "/elsewhere";
  testing::LeaveRing(rings_, elsewhere, 100, 60, 60);
  // Whoever looks, root too: too many links.
  std::filesystem::rename(elsewhere, dir_.path() + "/away");
  std::filesystem::create_symlink(elsewhere, elsewhere);
  auto leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  EXPECT_FALSE(Finish(Drive(leftover.get()).get()).status.ok());
  leftover.reset();
  EXPECT_THAT(NamesIn(rings_), SizeIs(1));
}

TEST_F(LeftoverRingTest, OneThatTheCollectorHasIsNotMissed) {
  const std::string elsewhere = dir_.path() + "/elsewhere";
  testing::LeaveRing(rings_, elsewhere, 100, 60, 60);
  const auto spools = FindLeftovers(elsewhere);
  GRADTAP_ASSERT_OK(spools);
  EXPECT_THAT(Deliver(spools->front().spool).status, IsOk());
  auto leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  EXPECT_THAT(leftover->unseen_spool(), HasSubstr(elsewhere));
  EXPECT_THAT(Finish(Drive(leftover.get()).get()).status, IsOk());
  EXPECT_EQ(StoredSteps(), 100u);
  leftover.reset();
  ExpectNothingLeft();
}

TEST_F(LeftoverRingTest, ASpoolThatIsGivenUpIsToldAsAGap) {
  // The collector has the schema and the first 19 steps.
  const std::string elsewhere = dir_.path() + "/elsewhere";
  testing::LeaveRing(rings_, elsewhere, 100, 21, 21);
  const auto spools = FindLeftovers(elsewhere);
  GRADTAP_ASSERT_OK(spools);
  EXPECT_THAT(Deliver(spools->front().spool).status, IsOk());
  std::filesystem::remove_all(rings_);
  testing::LeaveRing(rings_, elsewhere, 100, 60, 60);
  std::filesystem::remove_all(elsewhere);
  auto leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  leftover->GiveUpUnseenSpool();
  EXPECT_THAT(Finish(Drive(leftover.get()).get()).status, IsOk());
  const auto contents = network_.collector.Contents();
  EXPECT_THAT(contents.problems, IsEmpty());
  EXPECT_EQ(contents.recorded.size(), 61u);  // 0 to 18, 58 to 99.
  ASSERT_THAT(contents.gaps, SizeIs(1));
  const GapData& gap = contents.gaps[0].second;
  EXPECT_EQ(gap.cause, GapCause::kIoError);
  EXPECT_EQ(gap.first_step, 19);
  EXPECT_EQ(gap.last_step, 57);
  EXPECT_EQ(gap.steps, 39u);
  leftover.reset();
  ExpectNothingLeft();
}

TEST_F(LeftoverRingTest, WithASchemaThatIsGivenUpTheStepsThatReferToItAreToo) {
  testing::LeaveRing(rings_, dir_.path() + "/elsewhere", 100, 60, 60);
  std::filesystem::remove_all(dir_.path() + "/elsewhere");
  auto leftover = OpenTheOne();
  ASSERT_NE(leftover, nullptr);
  leftover->GiveUpUnseenSpool();
  EXPECT_THAT(Finish(Drive(leftover.get()).get()).status,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("--without-schema")));
  EXPECT_EQ(network_.collector.cursor(), 0u);
  leftover->GiveUpStepsWithoutSchema();
  const LeftoverOutcome outcome = Finish(Drive(leftover.get()).get());
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_given_up, 42u);
  EXPECT_EQ(outcome.steps_refused, 42u);
  EXPECT_EQ(outcome.steps_sent, 0u);
  const auto contents = network_.collector.Contents();
  EXPECT_EQ(contents.gap_steps.at(GapCause::kIoError), 100u);
  EXPECT_EQ(contents.gaps.front().second.first_step, 0);
  EXPECT_EQ(contents.gaps.back().second.last_step, 99);
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

TEST_F(LeftoverRingTest, ACopyWithAHoleBeforeItsRingIsDeliveredUpToIt) {
  // Its process lives: the spool was copied, then the ring.
  testing::LeaveRing(rings_, root_, 100, 60, 80);
  {
    const auto leftover = OpenTheOne(SpoolUse::kCopy);
    ASSERT_NE(leftover, nullptr);
    EXPECT_THAT(
        Finish(Drive(leftover.get()).get()).status,
        StatusIs(absl::StatusCode::kDataLoss,
                 AllOf(HasSubstr("records 60 to 79 are missing in the copy"),
                       HasSubstr("the original may have them"))));
  }
  EXPECT_EQ(network_.collector.cursor(), 59u);
  EXPECT_EQ(StoredSteps(), 58u);
  // Once the original has brought them, the hole does not matter.
  const std::string original = dir_.path() + "/original";
  testing::LeaveRing(original, dir_.path() + "/none", 100, 0, 60);
  LeftoverPlace place;
  place.ring = FindLeftovers(original)->front().ring;
  auto leftover = Leftover::Open(place, SpoolUse::kTakeOver);
  GRADTAP_ASSERT_OK(leftover);
  EXPECT_THAT(Finish(Drive(leftover->get()).get()).status, IsOk());
  const auto copy = OpenTheOne(SpoolUse::kCopy);
  ASSERT_NE(copy, nullptr);
  const LeftoverOutcome outcome = Finish(Drive(copy.get()).get());
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.records_sent, 0u);
  EXPECT_EQ(StoredSteps(), 100u);
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
