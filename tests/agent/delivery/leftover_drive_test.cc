#include "agent/delivery/leftover_drive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/delivery/fake_transport.h"
#include "agent/delivery/leftover_drive_fixture.h"
#include "agent/delivery/leftover_fixtures.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::FakeNetwork;
using ::gradtap::testing::FakeTransport;
using ::gradtap::testing::IsOk;
using ::gradtap::testing::LeaveSpool;
using ::gradtap::testing::MakeIdentity;
using ::gradtap::testing::NamesIn;
using ::gradtap::testing::ReadAll;
using ::gradtap::testing::StatusIs;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A collector that answers the Hello with a Reject.
class Rejecting : public FakeTransport {
 public:
  Rejecting(FakeNetwork* network, bool retry)
      : FakeTransport(network), retry_(retry) {}

  void Send(const v1::AgentMessage&) override {
    Event sent;
    sent.kind = Event::Kind::kSent;
    answers_.push_back(sent);
    Event reject;
    reject.kind = Event::Kind::kMessage;
    reject.message.mutable_reject()->set_code(v1::Reject::CODE_INVALID);
    reject.message.mutable_reject()->set_retry(retry_);
    reject.message.mutable_reject()->set_detail("not today");
    answers_.push_back(reject);
  }
  std::optional<Event> Wait(
      std::chrono::steady_clock::time_point deadline) override {
    if (answers_.empty()) return FakeTransport::Wait(deadline);
    Event event = answers_.front();
    answers_.pop_front();
    return event;
  }

 private:
  const bool retry_;
  std::deque<Event> answers_;
};

TEST_F(LeftoverDriveTest, WhatADeadProcessHasLeftIsDeliveredInItsNameAndGoes) {
  const std::string folder = LeaveSpool(root_, 100);
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_sent, 100u);
  EXPECT_EQ(outcome.records_sent, 101u);
  EXPECT_EQ(outcome.records_there, 0u);
  EXPECT_EQ(outcome.attempt, 1u);
  EXPECT_THAT(outcome.problems, IsEmpty());
  EXPECT_EQ(StoredSteps(), 100u);
  const v1::Hello& hello = network_.collector.last_hello;
  const SpoolIdentity identity = MakeIdentity();
  EXPECT_EQ(hello.run(), identity.run);
  EXPECT_EQ(hello.launch(), identity.launch);
  EXPECT_EQ(hello.rank(), identity.rank);
  EXPECT_EQ(hello.world_size(), identity.world_size);
  EXPECT_EQ(hello.process_nonce(), identity.process_nonce);
  EXPECT_EQ(hello.start_time_unix_ns(), identity.start_time_unix_ns);
  EXPECT_EQ(hello.host(), identity.host);
  EXPECT_EQ(hello.pid(), identity.pid);
  EXPECT_EQ(hello.tags_size(), 2);
  EXPECT_EQ(network_.collector.byes, 1);
  EXPECT_LT(network_.collector.frame_bytes, network_.collector.content_bytes);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(LeftoverDriveTest, ForACollectorOnThisMachineNothingIsCompressed) {
  options_.collector = "127.0.0.1:1";
  EXPECT_THAT(Deliver(LeaveSpool(root_, 100)).status, IsOk());
  EXPECT_GT(network_.collector.frame_bytes, network_.collector.content_bytes);
}

TEST_F(LeftoverDriveTest, BesideAnotherSessionItDoesALittleAtATime) {
  options_.hurry = false;
  network_.collector.max_batch_bytes = 8192;
  const std::string folder = LeaveSpool(root_, 3000);
  auto leftover = Open(folder);
  auto drive = Drive(leftover.get());
  ASSERT_TRUE(drive->Poll());
  EXPECT_LT(network_.collector.cursor(), 3001u);
  EXPECT_THAT(Finish(drive.get()).status, IsOk());
  EXPECT_EQ(StoredSteps(), 3000u);
  EXPECT_EQ(network_.collector.byes, 1);
  drive.reset();
  leftover.reset();
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(LeftoverDriveTest, ACopyIsDeliveredOnceAndStaysAsItIs) {
  const std::string copy = Copy(LeaveSpool(root_, 50));
  const auto before = Bytes(copy);
  LeftoverOutcome outcome = Deliver(copy, SpoolUse::kCopy);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_sent, 50u);
  outcome = Deliver(copy, SpoolUse::kCopy);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_sent, 0u);
  EXPECT_EQ(outcome.records_sent, 0u);
  EXPECT_EQ(outcome.records_there, 51u);
  EXPECT_EQ(outcome.steps_there, 50u);
  EXPECT_EQ(StoredSteps(), 50u);
  EXPECT_EQ(Bytes(copy), before);
}

TEST_F(LeftoverDriveTest, TheOriginalAfterItsCopyHasNothingNewAndGoes) {
  const std::string folder = LeaveSpool(root_, 50);
  EXPECT_THAT(Deliver(Copy(folder), SpoolUse::kCopy).status, IsOk());
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.records_sent, 0u);
  EXPECT_EQ(outcome.steps_there, 50u);
  EXPECT_EQ(StoredSteps(), 50u);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(LeftoverDriveTest, WhatNobodyHasIsAGapOnceTheProcessIsDead) {
  // The collector had records 1 to 10, and has lost them.
  const std::string folder = LeaveSpool(root_, 30, MakeIdentity(), 10);
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_sent, 21u);
  EXPECT_EQ(network_.collector.cursor(), 31u);
  const auto contents = network_.collector.Contents();
  EXPECT_EQ(contents.fillers, 8u);  // And the schema.
  EXPECT_THAT(contents.gaps, SizeIs(1));
}

TEST_F(LeftoverDriveTest, InTheNameOfACopyNothingIsPassedOver) {
  const std::string copy = Copy(LeaveSpool(root_, 30, MakeIdentity(), 10));
  const auto before = Bytes(copy);
  const LeftoverOutcome outcome = Deliver(copy, SpoolUse::kCopy);
  EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kFailedPrecondition,
                                       HasSubstr("no records 1 to 10 of")));
  EXPECT_EQ(network_.collector.cursor(), 0u);
  EXPECT_EQ(Bytes(copy), before);
}

TEST_F(LeftoverDriveTest, ACopyWithAHoleIsDeliveredUpToIt) {
  const std::string folder = LeaveSpool(root_, 100);
  const std::string copy = Copy(folder);
  const auto segments = Segments(copy);
  ASSERT_GT(segments.size(), 5u);
  std::filesystem::remove(copy + "/" + segments[2]);
  LeftoverOutcome outcome = Deliver(copy, SpoolUse::kCopy);
  EXPECT_THAT(
      outcome.status,
      StatusIs(absl::StatusCode::kDataLoss,
               HasSubstr("records " + std::to_string(SeqOf(segments[2])) +
                         " to " + std::to_string(SeqOf(segments[3]) - 1))));
  EXPECT_EQ(network_.collector.cursor(), SeqOf(segments[2]) - 1);
  EXPECT_EQ(outcome.records_sent, SeqOf(segments[2]) - 1);
  // The original has it; after that the copy's hole does not matter.
  EXPECT_THAT(Deliver(folder).status, IsOk());
  EXPECT_EQ(StoredSteps(), 100u);
  outcome = Deliver(copy, SpoolUse::kCopy);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.records_sent, 0u);
}

TEST_F(LeftoverDriveTest, TheRestOfADamagedSpoolIsDeliveredAndTheDamageStays) {
  const std::string folder = LeaveSpool(root_, 100);
  const auto segments = Segments(folder);
  const std::string path = folder + "/" + segments[2];
  std::string bytes = ReadAll(path);
  bytes[bytes.size() / 2] ^= 1;
  testing::WriteAll(path, bytes);
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_THAT(outcome.problems, ElementsAre(HasSubstr(".bad")));
  const auto contents = network_.collector.Contents();
  const std::uint64_t lost = contents.gap_steps.at(GapCause::kIoError);
  EXPECT_GT(lost, 0u);
  EXPECT_EQ(contents.recorded.size() + lost, 100u);
  EXPECT_EQ(outcome.steps_sent, contents.recorded.size());
  const std::string bad = segments[2].substr(0, 20) + ".bad";
  EXPECT_THAT(NamesIn(folder),
              ElementsAre("00000000000000000001.schema", bad, "owner"));
  EXPECT_EQ(ReadAll(folder + "/" + bad), bytes);
  const auto places = FindLeftovers(root_);
  GRADTAP_ASSERT_OK(places);
  ASSERT_THAT(*places, SizeIs(1));
  EXPECT_TRUE(places->front().set_aside);
}

TEST_F(LeftoverDriveTest, ARecordThatIsRefusedForGoodIsToldAndTheRestGoesOn) {
  network_.collector.refuse = [](std::uint64_t seq, const std::string&) {
    return seq == 7;
  };
  const std::string folder = LeaveSpool(root_, 20);
  const LeftoverOutcome outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.steps_sent, 19u);
  EXPECT_EQ(outcome.steps_refused, 1u);
  EXPECT_THAT(outcome.problems, ElementsAre(HasSubstr("record 7")));
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(LeftoverDriveTest, ACollectorThatRefusesTheProcessGetsNothing) {
  const std::string folder = LeaveSpool(root_, 20);
  const auto before = Bytes(folder);
  {
    const auto leftover = Open(folder);
    const auto drive =
        Drive(leftover.get(), std::make_unique<Rejecting>(&network_, false));
    EXPECT_THAT(Finish(drive.get()).status,
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("not today")));
    EXPECT_EQ(Connects(), 1);
  }
  EXPECT_EQ(Bytes(folder), before);
}

TEST_F(LeftoverDriveTest, OneThatMayChangeItsMindIsAskedUntilPatienceEnds) {
  const std::string folder = LeaveSpool(root_, 20);
  const auto leftover = Open(folder);
  const auto drive =
      Drive(leftover.get(), std::make_unique<Rejecting>(&network_, true));
  EXPECT_THAT(
      Finish(drive.get()).status,
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("not today")));
  EXPECT_GT(Connects(), 10);
}

TEST_F(LeftoverDriveTest, OneThatRefusesAndThenGoesIsAway) {
  const std::string folder = LeaveSpool(root_, 20);
  const auto leftover = Open(folder);
  network_.Set(FakeNetwork::Mode::kRejecting);
  const auto drive = Drive(leftover.get());
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(drive->Poll());
    clock_.Advance(milliseconds(10));
  }
  EXPECT_GT(Connects(), 1);
  // From now on it does not even say that: the last reason counts.
  network_.Set(FakeNetwork::Mode::kBlackHole);
  EXPECT_THAT(
      Finish(drive.get()).status,
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("does not answer")));
}

TEST_F(LeftoverDriveTest, ACollectorThatIsAwayCostsNothingButTime) {
  const std::string folder = LeaveSpool(root_, 20);
  const auto before = Bytes(folder);
  for (const auto mode :
       {FakeNetwork::Mode::kRefusing, FakeNetwork::Mode::kBlackHole}) {
    network_.Set(mode);
    const auto start = clock_.Steady();
    const LeftoverOutcome outcome = Deliver(folder);
    EXPECT_THAT(outcome.status,
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("peer:1")));
    EXPECT_EQ(outcome.records_sent, 0u);
    EXPECT_GE(clock_.Steady() - start, seconds(60));
    EXPECT_EQ(Bytes(folder), before);
  }
  network_.Set(FakeNetwork::Mode::kUp);
  EXPECT_EQ(Deliver(folder).steps_sent, 20u);
}

TEST_F(LeftoverDriveTest, ACollectorThatComesBackGetsAll) {
  const std::string folder = LeaveSpool(root_, 20);
  network_.Set(FakeNetwork::Mode::kRefusing);
  const auto leftover = Open(folder);
  const auto drive = Drive(leftover.get());
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(drive->Poll());
    clock_.Advance(milliseconds(10));
  }
  network_.Set(FakeNetwork::Mode::kUp);
  EXPECT_THAT(Finish(drive.get()).status, IsOk());
  EXPECT_EQ(StoredSteps(), 20u);
}

TEST_F(LeftoverDriveTest, ADiskThatDoesNotReadEndsItAndNothingIsFreed) {
  const std::string folder = LeaveSpool(root_, 20);
  const auto before = Bytes(folder);
  const auto leftover = Open(folder);
  disk_.read_error = 5;  // EIO.
  EXPECT_THAT(
      Finish(Drive(leftover.get()).get()).status,
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cannot be read")));
  EXPECT_EQ(network_.collector.cursor(), 0u);
  EXPECT_EQ(Bytes(folder), before);
  disk_.read_error = 0;
  EXPECT_THAT(Finish(Drive(leftover.get()).get()).status, IsOk());
  EXPECT_EQ(StoredSteps(), 20u);
}

TEST_F(LeftoverDriveTest, StoppedItLetsGoAndAnotherGoesOn) {
  options_.hurry = false;
  network_.collector.max_batch_bytes = 8192;
  const std::string folder = LeaveSpool(root_, 3000);
  {
    const auto leftover = Open(folder);
    const auto drive = Drive(leftover.get());
    ASSERT_TRUE(drive->Poll());
    drive->Stop();
    EXPECT_FALSE(drive->Poll());
    EXPECT_THAT(drive->outcome().status,
                StatusIs(absl::StatusCode::kAborted, HasSubstr("stopped")));
    EXPECT_TRUE(std::filesystem::exists(folder));
  }
  EXPECT_THAT(Deliver(folder).status, IsOk());
  EXPECT_EQ(StoredSteps(), 3000u);
}

TEST_F(LeftoverDriveTest, WhatALivingProcessHasIsNotForOthers) {
  testing::DyingProcess process(root_, MakeIdentity(), &disk_);
  process.PutSteps(3);
  const std::string folder = process.Spill();
  for (const SpoolUse use : {SpoolUse::kTakeOver, SpoolUse::kCopy}) {
    const auto leftover = Leftover::Open(testing::SpoolPlace(folder), use);
    EXPECT_THAT(leftover, StatusIs(absl::StatusCode::kFailedPrecondition,
                                   HasSubstr("in use")));
    EXPECT_EQ(LiveOwner(leftover.status()), ::getpid());
  }
  EXPECT_EQ(LiveOwner(absl::FailedPreconditionError("in use")), std::nullopt);
}

TEST_F(LeftoverDriveTest, AnOpeningThatIsDroppedLeavesAllAsItIs) {
  const std::string folder = LeaveSpool(root_, 100);
  const auto before = Bytes(folder);
  for (int steps = 0; steps < 4; ++steps) {
    auto opening = Leftover::Opening::Begin(testing::SpoolPlace(folder),
                                            SpoolUse::kTakeOver);
    GRADTAP_ASSERT_OK(opening);
    for (int i = 0; i < steps; ++i) {
      const auto leftover = (*opening)->Step();
      GRADTAP_ASSERT_OK(leftover);
      EXPECT_EQ(*leftover, nullptr);
    }
    opening->reset();
    EXPECT_EQ(Bytes(folder), before);
    EXPECT_EQ(Open(folder)->steps(), 100u);  // Nobody has it.
  }
}

TEST_F(LeftoverDriveTest, EachProcessOfARootIsAPlaceOfItsOwn) {
  SpoolIdentity other = MakeIdentity();
  other.process_nonce = "fedcba9876543210";
  LeaveSpool(root_, 5, other);
  const std::string folder = LeaveSpool(root_, 5);
  const auto places = FindLeftovers(root_);
  GRADTAP_ASSERT_OK(places);
  EXPECT_THAT(*places, SizeIs(2));
  EXPECT_EQ(places->front().spool, folder);
  EXPECT_FALSE(places->front().set_aside);
  EXPECT_THAT(FindLeftovers(root_ + "/none"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/none")));
  const auto leftover = Open(folder);
  EXPECT_EQ(leftover->steps(), 5u);
  EXPECT_EQ(leftover->Description(), "process 4242 of run run, rank 3");
}

}  // namespace
}  // namespace gradtap::agent
