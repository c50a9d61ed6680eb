// Records of a dead process that nobody has any more: their steps are told as
// one gap, wherever the hole is.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/delivery/leftover_drive_fixture.h"
#include "agent/delivery/leftover_fixtures.h"
#include "core/codec.h"
#include "support/status_matchers.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::DyingProcess;
using ::gradtap::testing::IsOk;
using ::gradtap::testing::LeaveSpool;
using ::gradtap::testing::MakeIdentity;
using ::gradtap::testing::NamesIn;
using ::gradtap::testing::ReadAll;
using ::gradtap::testing::StatusIs;
using ::gradtap::testing::WriteAll;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// The call ends in place of the acknowledgement of a record, once.
class LosingAck : public testing::FakeTransport {
 public:
  LosingAck(testing::FakeNetwork* network, std::uint64_t seq)
      : FakeTransport(network), seq_(seq) {}

  std::optional<Event> Wait(
      std::chrono::steady_clock::time_point deadline) override {
    auto event = FakeTransport::Wait(deadline);
    if (!event || seq_ == 0 || event->message.ack().durable_seq() < seq_) {
      return event;
    }
    seq_ = 0;
    Event closed;
    closed.kind = Event::Kind::kClosed;
    closed.status = absl::UnavailableError("gone");
    return closed;
  }

 private:
  std::uint64_t seq_;  // 0: it has ended.
};

class LeftoverHoleTest : public LeftoverDriveTest {
 protected:
  // The collector has the schema and steps 0 to `steps` - 1.
  void HaveDelivered(int steps) {
    const std::string earlier = dir_.path() + "/earlier";
    testing::LeaveRing(earlier, "", steps, 0, 1);
    LeftoverPlace place;
    place.ring = FindLeftovers(earlier)->front().ring;
    EXPECT_THAT(DeliverPlace(place).status, IsOk());
    EXPECT_EQ(network_.collector.cursor(),
              static_cast<std::uint64_t>(steps) + 1);
  }
  // In the first record of a segment.
  static void DamageFirstRecord(const std::string& path) {
    std::string bytes = ReadAll(path);
    bytes[EncodeSegmentHeader(MakeIdentity()).size() + 100] ^= 1;
    WriteAll(path, bytes);
  }
  // Of the steps that are stored.
  std::vector<std::int64_t> StepsOf(std::uint32_t branch) {
    std::vector<std::int64_t> steps;
    for (const auto& [of, step] : network_.collector.Contents().recorded) {
      if (of == branch) steps.push_back(step);
    }
    return steps;
  }
  void ExpectOneGap(std::int64_t first_step, std::int64_t last_step) {
    const auto contents = network_.collector.Contents();
    EXPECT_THAT(contents.problems, IsEmpty());
    ASSERT_THAT(contents.gaps, SizeIs(1));
    const GapData& gap = contents.gaps[0].second;
    EXPECT_EQ(gap.cause, GapCause::kIoError);
    EXPECT_EQ(gap.first_step, first_step);
    EXPECT_EQ(gap.last_step, last_step);
    EXPECT_EQ(static_cast<std::int64_t>(gap.steps), last_step - first_step + 1);
    EXPECT_EQ(contents.recorded.size() + gap.steps, 100u);
  }
};

TEST_F(LeftoverHoleTest, ThatOfAFirstSegmentWithoutAReadableRecordIsAGap) {
  HaveDelivered(19);
  const std::string folder = LeaveSpool(root_, 100, MakeIdentity(), 20);
  const auto segments = Segments(folder);
  ASSERT_GT(segments.size(), 2u);
  DamageFirstRecord(folder + "/" + segments[0]);
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_THAT(outcome.problems, ElementsAre(HasSubstr(segments[0])));
  // Step n is record n + 2.
  ExpectOneGap(19, static_cast<std::int64_t>(SeqOf(segments[1])) - 3);
}

TEST_F(LeftoverHoleTest, ThatOfASpoolOfWhichNothingIsReadableIsAGapAndIsSaid) {
  HaveDelivered(19);
  testing::LeaveRing(rings_, root_, 100, 60, 60);
  const std::string folder = FindLeftovers(root_)->front().spool;
  const auto segments = Segments(folder);
  ASSERT_THAT(segments, SizeIs(1));
  DamageFirstRecord(folder + "/" + segments[0]);
  const LeftoverOutcome outcome = DeliverTheOne();
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_THAT(outcome.problems, ElementsAre(HasSubstr(segments[0])));
  ExpectOneGap(19, 57);
  EXPECT_THAT(NamesIn(folder), Contains(HasSubstr(".bad")));
}

TEST_F(LeftoverHoleTest, ThatBetweenASpoolThatIsCutOffAndTheRingIsAGap) {
  testing::LeaveRing(rings_, root_, 100, 60, 60);
  const std::string folder = FindLeftovers(root_)->front().spool;
  CutOff(folder + "/" + Segments(folder).back());
  const LeftoverOutcome outcome = DeliverTheOne();
  EXPECT_THAT(outcome.status, IsOk());
  const auto contents = network_.collector.Contents();
  ASSERT_THAT(contents.gaps, SizeIs(1));
  const std::int64_t first = contents.gaps[0].second.first_step;
  EXPECT_GT(first, 10);
  ExpectOneGap(first, 57);
}

TEST_F(LeftoverHoleTest, OfThatWhichTheCollectorHasInPartTheRestIsAGap) {
  const std::string folder = LeaveSpool(root_, 100);
  const auto segments = Segments(folder);
  ASSERT_GT(segments.size(), 2u);
  const auto has = static_cast<std::int64_t>(SeqOf(segments[1])) + 3;
  HaveDelivered(static_cast<int>(has));  // Step n is record n + 2.
  DamageFirstRecord(folder + "/" + segments[1]);
  EXPECT_THAT(Deliver(folder).status, IsOk());
  ExpectOneGap(has, static_cast<std::int64_t>(SeqOf(segments[2])) - 3);
}

TEST_F(LeftoverHoleTest, OfThatBeforeTheRingWhichItHasInPartTheRestIsAGapToo) {
  testing::LeaveRing(rings_, root_, 100, 60, 60);
  const std::string folder = FindLeftovers(root_)->front().spool;
  CutOff(folder + "/" + Segments(folder).back());
  HaveDelivered(50);
  EXPECT_THAT(DeliverTheOne().status, IsOk());
  ExpectOneGap(50, 57);
}

TEST_F(LeftoverHoleTest, ThatWhichIsToldInPiecesIsTheSameGap) {
  // Batches of one record.
  network_.collector.max_batch_bytes = 512;
  HaveDelivered(19);
  const std::string folder = LeaveSpool(root_, 100, MakeIdentity(), 20);
  const auto segments = Segments(folder);
  DamageFirstRecord(folder + "/" + segments[0]);
  EXPECT_THAT(Deliver(folder).status, IsOk());
  ExpectOneGap(19, static_cast<std::int64_t>(SeqOf(segments[1])) - 3);
}

TEST_F(LeftoverHoleTest, ThatInWhichTheCallEndsIsTheSameGap) {
  network_.collector.max_batch_bytes = 512;
  const std::string folder = LeaveSpool(root_, 100);
  const auto segments = Segments(folder);
  ASSERT_GT(segments.size(), 2u);
  const std::uint64_t first = SeqOf(segments[1]);
  DamageFirstRecord(folder + "/" + segments[1]);
  const auto leftover = Open(folder);
  ASSERT_NE(leftover, nullptr);
  const auto drive =
      Drive(leftover.get(), std::make_unique<LosingAck>(&network_, first + 3));
  EXPECT_THAT(Finish(drive.get()).status, IsOk());
  EXPECT_EQ(Connects(), 2);
  ExpectOneGap(static_cast<std::int64_t>(first) - 2,
               static_cast<std::int64_t>(SeqOf(segments[2])) - 3);
}

TEST_F(LeftoverHoleTest, ARollbackIsToldOfWhatTheCollectorLacks) {
  testing::FaultyDisk quick;
  std::string folder;
  {
    // Each record is a segment.
    DyingProcess process(root_, MakeIdentity(), &quick, 1);
    process.PutSteps(31);
    process.GoBack(10);  // Record 33.
    process.PutSteps(20);
    folder = process.Spill();
  }
  // It has the step, and not the rollback.
  HaveDelivered(31);
  for (const std::uint64_t seq : {32, 33}) {
    ASSERT_TRUE(
        std::filesystem::remove(folder + "/" + SegmentName(seq, "seg")));
  }
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_refused, 0u);
  EXPECT_THAT(network_.collector.Contents().problems, IsEmpty());
  EXPECT_EQ(network_.collector.Contents().branches, 1u);
  EXPECT_THAT(Gaps(), IsEmpty());
  EXPECT_THAT(StepsOf(0), SizeIs(31));
  EXPECT_THAT(StepsOf(1), SizeIs(20));
}

TEST_F(LeftoverHoleTest, ThatOfACollectorThatHasLostSomeIsAGap) {
  HaveDelivered(9);
  EXPECT_THAT(Deliver(LeaveSpool(root_, 100, MakeIdentity(), 20)).status,
              IsOk());
  ExpectOneGap(9, 18);
}

TEST_F(LeftoverHoleTest, ARollbackInADamagedSegmentIsToldBetweenItsGaps) {
  testing::FaultyDisk quick;
  std::string folder;
  {
    DyingProcess process(root_, MakeIdentity(), &quick);
    process.PutSteps(60);
    process.GoBack(0);  // Record 62; step n of branch 1 is record n + 63.
    process.PutSteps(60);
    folder = process.Spill();
  }
  const auto segments = Segments(folder);
  std::size_t at = 0;
  while (SeqOf(segments[at + 1]) <= 62) ++at;
  const auto first = static_cast<std::int64_t>(SeqOf(segments[at]));
  const auto next = static_cast<std::int64_t>(SeqOf(segments[at + 1]));
  ASSERT_LT(first, 62);
  DamageFirstRecord(folder + "/" + segments[at]);
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_refused, 0u);
  const auto contents = network_.collector.Contents();
  EXPECT_THAT(contents.problems, IsEmpty());
  EXPECT_EQ(contents.branches, 1u);
  EXPECT_THAT(Gaps(), ElementsAre("0: " + std::to_string(first - 2) + "-59",
                                  "1: 0-" + std::to_string(next - 64)));
  EXPECT_EQ(std::ssize(StepsOf(0)), first - 2);
  EXPECT_EQ(std::ssize(StepsOf(1)), 123 - next);
}

TEST_F(LeftoverHoleTest, RollbacksThatWereFreedGoToACollectorWithoutThem) {
  testing::FaultyDisk quick;
  std::string folder;
  {
    DyingProcess process(root_, MakeIdentity(), &quick);
    process.PutSteps(30);
    process.GoBack(10);  // Record 32.
    process.PutSteps(20);
    process.GoBack(5);  // Record 53; step n of branch 2 is record n + 49.
    process.PutSteps(30);
    process.FreeBefore(59);
    folder = process.Spill();
  }
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_refused, 0u);
  const auto contents = network_.collector.Contents();
  EXPECT_THAT(contents.problems, IsEmpty());
  EXPECT_EQ(contents.branches, 2u);
  EXPECT_THAT(Gaps(), ElementsAre("2: 0-9"));
  EXPECT_THAT(StepsOf(2), SizeIs(25));
  EXPECT_EQ(contents.recorded.size(), 25u);
}

TEST_F(LeftoverHoleTest, ARollbackThatTheCollectorHasIsPassedOver) {
  testing::FaultyDisk quick;
  std::string folder;
  {
    DyingProcess process(root_, MakeIdentity(), &quick);
    process.PutSteps(30);
    process.GoBack(10);  // Record 32; step n of branch 1 is record n + 23.
    process.PutSteps(20);
    folder = process.Spill();
  }
  const std::string copy = Copy(folder);
  EXPECT_THAT(Deliver(folder).status, IsOk());
  // It loses steps 17 to 29, and nobody has 17 to 19 any more.
  network_.collector.LoseAfter(39);
  auto spool = Spool::Open(copy, SpoolUse::kCopy);
  GRADTAP_ASSERT_OK(spool);
  std::string left;
  {
    auto again = Spool::Create(root_, MakeIdentity(), {}, &quick);
    GRADTAP_ASSERT_OK(again);
    for (std::uint64_t seq = 43; seq <= (*spool)->last_seq(); ++seq) {
      const auto entry = (*spool)->Read(seq);
      GRADTAP_ASSERT_OK(entry);
      GRADTAP_ASSERT_OK((*again)->Append(seq, entry->meta, entry->bytes));
    }
    left = (*again)->path();
  }
  const LeftoverOutcome outcome = Deliver(left);
  EXPECT_THAT(outcome.status, IsOk());
  const auto contents = network_.collector.Contents();
  EXPECT_THAT(contents.problems, IsEmpty());
  EXPECT_EQ(contents.branches, 1u);
  EXPECT_THAT(Gaps(), ElementsAre("1: 17-19"));
  EXPECT_THAT(StepsOf(1), SizeIs(17));
}

TEST_F(LeftoverHoleTest, AStepInPartsThatIsCutOffAtAHoleIsInTheGap) {
  constexpr std::size_t kPlaces = 30'000;
  const std::size_t schema_parts =
      EncodeSchema(testing::MakeSchema(1, kPlaces)).size() / kMaxPartBytes + 1;
  // Its first part, then its last.
  for (const std::uint64_t part : {0, 1}) {
    network_.collector.LoseAfter(0);
    testing::FaultyDisk quick;
    std::string folder;
    {
      DyingProcess process(root_, MakeIdentity(), &quick, 4096, kPlaces);
      for (int step = 0; step < 5; ++step) {
        process.PutSteps(1);
        folder = process.Spill();
      }
    }
    // Each part is a segment.
    const std::string segment =
        folder + "/" + SegmentName(schema_parts + 5 + part, "seg");
    ASSERT_TRUE(std::filesystem::exists(segment));
    DamageFirstRecord(segment);
    EXPECT_THAT(Deliver(folder).status, IsOk());
    EXPECT_THAT(network_.collector.Contents().problems, IsEmpty());
    EXPECT_THAT(Gaps(), ElementsAre("0: 2-2"));
    EXPECT_THAT(StepsOf(0), ElementsAre(0, 1, 3, 4));
    std::filesystem::remove_all(folder);
  }
}

TEST_F(LeftoverHoleTest, AHoleBeforeAGapIsToldUpToThatGap) {
  const std::string folder = LeaveSpool(root_, 100, MakeIdentity(), 20);
  const auto segments = Segments(folder);
  DamageFirstRecord(folder + "/" + segments[0]);
  EXPECT_THAT(Deliver(folder).status, IsOk());
  const std::uint64_t next = SeqOf(segments[1]) - 2;
  EXPECT_THAT(Gaps(),
              ElementsAre("0: 0-18", "0: 19-" + std::to_string(next - 1)));
  EXPECT_EQ(StepsOf(0).size(), 100 - next);
}

TEST_F(LeftoverHoleTest, WhatCannotBeReadForNowIsNotPassedOverWithoutItsGap) {
  HaveDelivered(9);
  const std::string folder = LeaveSpool(root_, 100, MakeIdentity(), 20);
  {
    const auto leftover = Open(folder);
    ASSERT_NE(leftover, nullptr);
    disk_.read_error = 24;  // EMFILE.
    EXPECT_FALSE(Finish(Drive(leftover.get()).get()).status.ok());
  }
  EXPECT_EQ(network_.collector.cursor(), 10u);
  disk_.read_error = 0;
  EXPECT_THAT(Deliver(folder).status, IsOk());
  ExpectOneGap(9, 18);
}

TEST_F(LeftoverHoleTest, ASchemaThatWasFreedLongAgoGoesToACollectorWithoutIt) {
  const std::string folder = LeaveSpool(root_, 100, MakeIdentity(), 20);
  EXPECT_THAT(Deliver(folder).status, IsOk());
  ExpectOneGap(0, 18);
  EXPECT_THAT(network_.collector.Contents().schema_ids, SizeIs(1));
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(LeftoverHoleTest, ASchemaOfWhichTheFirstPartsWereFreedGoesWhole) {
  testing::FaultyDisk quick;
  std::string folder;
  {
    DyingProcess process(root_, MakeIdentity(), &quick, 4096, 30'000);
    process.PutSteps(1);
    process.FreeBefore(3);
    folder = process.Spill();
  }
  EXPECT_THAT(Deliver(folder).status, IsOk());
  EXPECT_THAT(network_.collector.Contents().problems, IsEmpty());
  EXPECT_THAT(network_.collector.Contents().schema_ids, ElementsAre(1u));
  EXPECT_THAT(StepsOf(0), ElementsAre(0));
  EXPECT_THAT(Gaps(), IsEmpty());
}

TEST_F(LeftoverHoleTest, ADamagedSchemaDoesNotTakeTheStepsThatReferToItAlong) {
  const std::string folder = LeaveSpool(root_, 100);
  const auto segments = Segments(folder);
  ASSERT_GT(segments.size(), 2u);
  DamageFirstRecord(folder + "/" + segments[0]);
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_refused, 0u);
  ExpectOneGap(0, static_cast<std::int64_t>(SeqOf(segments[1])) - 3);
}

TEST_F(LeftoverHoleTest, ARingFindsTheSchemaInASpoolWithoutARecord) {
  {
    auto spool = Spool::Create(root_, MakeIdentity(), {}, &disk_);
    GRADTAP_ASSERT_OK(spool);
    (*spool)->KeepSchema({1, {EncodeSchema(testing::MakeSchema(1, 4))}});
    (*spool)->StayWithoutRecords(true);
  }
  testing::LeaveRing(rings_, root_, 100, 0, 60);
  // Looked at, it stays.
  const auto places = FindLeftovers(root_, rings_, /*lone_rings=*/true);
  GRADTAP_ASSERT_OK(places);
  ASSERT_THAT(*places, SizeIs(1));
  GRADTAP_ASSERT_OK(Leftover::Open(places->front(), SpoolUse::kTakeOver));
  GRADTAP_ASSERT_OK(
      Leftover::Opening::Begin(places->front(), SpoolUse::kTakeOver));
  EXPECT_THAT(DeliverTheOne().status, IsOk());
  ExpectOneGap(0, 57);
  EXPECT_THAT(NamesIn(root_), IsEmpty());
  EXPECT_THAT(NamesIn(rings_), IsEmpty());
}

TEST_F(LeftoverHoleTest, StepsWithoutASchemaAnywhereStayUntilTheyAreGivenUp) {
  const std::string folder = LeaveSpool(root_, 100, MakeIdentity(), 20);
  std::filesystem::remove(folder + "/00000000000000000001.schema");
  const auto before = Bytes(folder);
  EXPECT_THAT(Deliver(folder).status,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("--without-schema")));
  EXPECT_EQ(network_.collector.cursor(), 0u);
  EXPECT_EQ(Bytes(folder), before);
  {
    const auto leftover = Open(folder);
    ASSERT_NE(leftover, nullptr);
    leftover->GiveUpStepsWithoutSchema();
    const LeftoverOutcome outcome = Finish(Drive(leftover.get()).get());
    EXPECT_THAT(outcome.status, IsOk());
    EXPECT_EQ(outcome.steps_given_up, 81u);
    EXPECT_EQ(outcome.steps_sent, 0u);
    EXPECT_THAT(outcome.problems, ElementsAre(HasSubstr("81 steps")));
  }
  const auto contents = network_.collector.Contents();
  EXPECT_THAT(contents.problems, IsEmpty());
  EXPECT_THAT(contents.recorded, IsEmpty());
  EXPECT_EQ(contents.gap_steps.at(GapCause::kIoError), 100u);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(LeftoverHoleTest, StepsWhoseSchemaIsNewerThanTheOneThatIsLeftStayToo) {
  const std::string folder = LeaveSpool(root_, 100, MakeIdentity(), 20);
  WriteAll(folder + "/00000000000000000001.schema",
           EncodeKeptSchema(MakeIdentity(),
                            {1, {EncodeSchema(testing::MakeSchema(7, 4))}}));
  const auto before = Bytes(folder);
  EXPECT_THAT(Deliver(folder).status,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("--without-schema")));
  EXPECT_EQ(network_.collector.cursor(), 0u);
  EXPECT_EQ(Bytes(folder), before);
}

}  // namespace
}  // namespace gradtap::agent
