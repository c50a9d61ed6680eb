#include "agent/delivery/adopter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/delivery/fake_transport.h"
#include "agent/delivery/leftover_fixtures.h"
#include "agent/delivery/worker.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::DyingProcess;
using ::gradtap::testing::FakeNetwork;
using ::gradtap::testing::FakeTransport;
using ::gradtap::testing::LeaveSpool;
using ::gradtap::testing::MakeIdentity;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

SpoolIdentity Identity(char of, const std::string& collector = "peer:1") {
  SpoolIdentity identity = MakeIdentity();
  identity.collector = collector;
  identity.process_nonce = std::string(16, of);
  identity.pid = of;
  return identity;
}

class AdopterTest : public ::testing::Test {
 protected:
  AdopterTest()
      : log_([this](const std::string& line) { lines_.push_back(line); }) {
    options_.root = root_;
    options_.collector = "peer:1";
    options_.make_transport = [this] {
      networks_.emplace_back().Set(mode_);
      networks_.back().collector.max_batch_bytes = max_batch_bytes_;
      return std::make_unique<FakeTransport>(&networks_.back());
    };
  }

  void TearDown() override {
    adopter_.reset();
    for (FakeNetwork& network : networks_) {
      EXPECT_THAT(network.collector.violations, IsEmpty());
    }
  }

  void Begin() {
    adopter_ = std::make_unique<Adopter>(options_, &log_, &clock_);
  }
  void Pass(std::chrono::nanoseconds time, bool there = true) {
    const auto until = clock_.Steady() + time;
    while (clock_.Steady() < until) {
      adopter_->Poll(there);
      clock_.Advance(milliseconds(50));
    }
  }
  static int Segments(const std::string& folder) {
    const auto names = testing::NamesIn(folder);
    return static_cast<int>(std::count_if(
        names.begin(), names.end(),
        [](const std::string& name) { return name.ends_with(".seg"); }));
  }
  static bool OthersMayHave(const std::string& folder) {
    return Leftover::Open(testing::SpoolPlace(folder), SpoolUse::kTakeOver)
        .ok();
  }
  // How many steps each call has brought.
  std::vector<std::size_t> Steps() {
    std::vector<std::size_t> steps;
    for (FakeNetwork& network : networks_) {
      steps.push_back(network.collector.Contents().recorded.size());
    }
    return steps;
  }

  testing::TempDir dir_;
  const std::string root_ = dir_.path() + "/spool";
  testing::FaultyDisk disk_;
  testing::ManualClock clock_;
  FakeNetwork::Mode mode_ = FakeNetwork::Mode::kUp;
  std::uint32_t max_batch_bytes_ = 2 << 20;
  std::deque<FakeNetwork> networks_;
  std::vector<std::string> lines_;
  OnceLog log_;
  AdopterOptions options_;
  std::unique_ptr<Adopter> adopter_;
};

TEST_F(AdopterTest, OneProcessAfterTheOtherIsDeliveredAndSaid) {
  LeaveSpool(root_, 10, Identity('a'));
  LeaveSpool(root_, 20, Identity('b'));
  Begin();
  Pass(minutes(1));
  EXPECT_THAT(Steps(), ElementsAre(10u, 20u));
  EXPECT_THAT(
      lines_,
      ElementsAre("gradtap: delivers 10 steps that process 97 of run run, rank "
                  "3 has left",
                  "gradtap: delivers 20 steps that process 98 of run run, rank "
                  "3 has left"));
  EXPECT_TRUE(std::filesystem::is_empty(root_));
}

TEST_F(AdopterTest, NothingIsBegunWhileTheCollectorIsNotThere) {
  LeaveSpool(root_, 10);
  Begin();
  Pass(minutes(11), /*there=*/false);
  EXPECT_THAT(Steps(), IsEmpty());
  Pass(seconds(5));
  EXPECT_THAT(Steps(), ElementsAre(10u));
}

TEST_F(AdopterTest, ItLooksAgainFromTimeToTime) {
  Begin();
  Pass(seconds(5));
  LeaveSpool(root_, 10);
  Pass(minutes(4));
  EXPECT_THAT(Steps(), IsEmpty());
  Pass(minutes(1));
  EXPECT_THAT(Steps(), ElementsAre(10u));
}

TEST_F(AdopterTest, StepsWhoseSchemaIsNowhereStayAndAreSaid) {
  const std::string folder = LeaveSpool(root_, 100, Identity('a'), 20);
  std::filesystem::remove(folder + "/00000000000000000001.schema");
  const int segments = Segments(folder);
  Begin();
  Pass(minutes(6));
  EXPECT_THAT(Steps(), ElementsAre(0u));
  EXPECT_EQ(networks_.front().collector.cursor(), 0u);
  EXPECT_EQ(Segments(folder), segments);
  EXPECT_THAT(lines_, ElementsAre(HasSubstr("delivers 81 steps"),
                                  AllOf(HasSubstr("is not delivered"),
                                        HasSubstr("--without-schema"))));
}

TEST_F(AdopterTest, LetGoItLeavesTheRestWhereItIs) {
  const std::string folder = LeaveSpool(root_, 3000);
  max_batch_bytes_ = 8192;
  Begin();
  Pass(milliseconds(50) * (2 + Segments(folder)));
  EXPECT_GT(Steps().front(), 0u);
  adopter_->LetGo();
  const auto before = testing::NamesIn(folder);
  Pass(minutes(11));
  ASSERT_EQ(networks_.size(), 1u);
  EXPECT_LT(Steps().front(), 3000u);
  EXPECT_EQ(testing::NamesIn(folder), before);
  EXPECT_TRUE(OthersMayHave(folder));
}

TEST_F(AdopterTest, ALargeSpoolIsReadOneSegmentAtATime) {
  const std::string folder = LeaveSpool(root_, 3000);
  const int segments = Segments(folder);
  ASSERT_GT(segments, 20);
  Begin();
  for (int i = 0; i < segments; ++i) adopter_->Poll(true);
  EXPECT_EQ(networks_.size(), 0u);
  EXPECT_FALSE(OthersMayHave(folder));
  adopter_->Poll(true);
  EXPECT_EQ(networks_.size(), 1u);
  Pass(minutes(1));
  EXPECT_THAT(Steps(), ElementsAre(3000u));
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(AdopterTest, WhatIsReadWhenTheCollectorGoesIsForOthersUntilTheNextLook) {
  const std::string folder = LeaveSpool(root_, 3000);
  Begin();
  for (int i = 0; i < 5; ++i) adopter_->Poll(true);
  EXPECT_FALSE(OthersMayHave(folder));
  adopter_->Poll(false);
  EXPECT_TRUE(OthersMayHave(folder));
  Pass(minutes(4));
  EXPECT_THAT(Steps(), IsEmpty());
  Pass(minutes(2));
  EXPECT_THAT(Steps(), ElementsAre(3000u));
}

TEST_F(AdopterTest, LetGoItLeavesWhatItReads) {
  const std::string folder = LeaveSpool(root_, 3000);
  const auto before = testing::NamesIn(folder);
  Begin();
  for (int i = 0; i < 5; ++i) adopter_->Poll(true);
  adopter_->LetGo();
  EXPECT_TRUE(OthersMayHave(folder));
  Pass(minutes(6));
  EXPECT_THAT(Steps(), IsEmpty());
  EXPECT_EQ(testing::NamesIn(folder), before);
}

TEST_F(AdopterTest, LivingProcessesAndWhatWasSetAsideAreLeftAlone) {
  DyingProcess living(root_, Identity('a'), &disk_);
  living.PutSteps(5);
  living.Spill();
  const std::string aside = LeaveSpool(root_, 5, Identity('b'));
  const std::string segment = aside + "/" + SegmentName(1, "seg");
  std::filesystem::rename(segment, aside + "/" + SegmentName(1, "bad"));
  Begin();
  Pass(minutes(6));
  EXPECT_THAT(Steps(), IsEmpty());
  EXPECT_THAT(lines_, IsEmpty());
}

TEST_F(AdopterTest, WhatCannotBeDeliveredIsSaidAndNotTriedAgain) {
  const std::string folder = LeaveSpool(root_, 5);
  std::filesystem::permissions(folder, std::filesystem::perms::all);
  Begin();
  Pass(minutes(11));
  EXPECT_THAT(Steps(), IsEmpty());
  EXPECT_THAT(lines_, ElementsAre(HasSubstr("0700 is expected")));
}

TEST_F(AdopterTest, ASpoolOfWhichNothingIsReadableIsSaidAndStays) {
  const std::string kept = LeaveSpool(root_, 5, Identity('a'));
  const std::string bare = LeaveSpool(root_, 5, Identity('b'));
  std::filesystem::remove(bare + "/" + SegmentName(1, "schema"));
  for (const std::string& folder : {kept, bare}) {
    const std::string path = folder + "/" + SegmentName(1, "seg");
    std::string bytes = testing::ReadAll(path);
    bytes[EncodeSegmentHeader(Identity('a')).size() + 100] ^= 1;
    testing::WriteAll(path, bytes);
  }
  Begin();
  Pass(minutes(11));
  EXPECT_THAT(Steps(), IsEmpty());
  EXPECT_THAT(lines_, ElementsAre(AllOf(HasSubstr(kept), HasSubstr(".bad")),
                                  AllOf(HasSubstr(bare), HasSubstr(".bad"))));
  for (const std::string& folder : {kept, bare}) {
    EXPECT_THAT(testing::NamesIn(folder), Contains(SegmentName(1, "bad")));
  }
}

TEST_F(AdopterTest, WhatIsForAnotherCollectorIsLeftAndThatIsSaidOnce) {
  LeaveSpool(root_, 10, Identity('a'));
  LeaveSpool(root_, 20, Identity('b', ""));
  const std::string first = LeaveSpool(root_, 30, Identity('c', "other:2"));
  const std::string second = LeaveSpool(root_, 40, Identity('d', "other:2"));
  LeaveSpool(root_, 50, Identity('e', "third\x1b[m:3"));
  Begin();
  Pass(minutes(11));
  EXPECT_THAT(Steps(), ElementsAre(10u, 20u));
  EXPECT_THAT(
      lines_,
      ElementsAre(
          HasSubstr("delivers 10 steps"), HasSubstr("delivers 20 steps"),
          "gradtap: process 99 of run run, rank 3 has left records in '" +
              first +
              "' for the collector other:2, not for peer:1: all that is for "
              "that one stays where it is, and `gradtap --collector other:2 "
              "drain` delivers it",
          HasSubstr("`gradtap --collector 'third\\x1b[m:3' drain`")));
  adopter_.reset();
  for (const std::string& folder : {first, second}) {
    auto left = Leftover::Open(testing::SpoolPlace(folder), SpoolUse::kCopy);
    GRADTAP_ASSERT_OK(left);
    EXPECT_EQ((*left)->steps(), folder == first ? 30u : 40u);
  }
}

TEST_F(AdopterTest, OfALargeSpoolForAnotherCollectorOnlyTheBeginningIsRead) {
  const std::string folder = LeaveSpool(root_, 3000, Identity('a', "other:2"));
  Begin();
  adopter_->Poll(true);
  EXPECT_FALSE(OthersMayHave(folder));
  adopter_->Poll(true);
  EXPECT_TRUE(OthersMayHave(folder));
}

TEST_F(AdopterTest, ARingForAnotherCollectorStaysAsItIs) {
  options_.ring_folder = dir_.path() + "/rings";
  testing::LeaveRing(options_.ring_folder, root_, 10, 4, 1,
                     Identity('a', "other:2"));
  testing::LeaveRing(options_.ring_folder, root_, 10, 4, 1, Identity('b'));
  Begin();
  Pass(minutes(11));
  EXPECT_THAT(Steps(), ElementsAre(10u));
  EXPECT_THAT(lines_, Contains(HasSubstr("for the collector other:2")));
  adopter_.reset();
  const auto left =
      FindLeftovers(root_, options_.ring_folder, /*lone_rings=*/true);
  GRADTAP_ASSERT_OK(left);
  ASSERT_EQ(left->size(), 1u);
  auto leftover = Leftover::Open(left->front(), SpoolUse::kCopy);
  GRADTAP_ASSERT_OK(leftover);
  EXPECT_EQ((*leftover)->steps(), 10u);
  EXPECT_EQ((*leftover)->identity().collector, "other:2");
}

TEST_F(AdopterTest, ARingWaitsUntilTheSpoolOfItsProcessCanBeSeen) {
  options_.ring_folder = dir_.path() + "/rings";
  const std::string disk = dir_.path() + "/disk";
  testing::LeaveRing(options_.ring_folder, disk, 10, 4, 4);
  std::filesystem::rename(disk, dir_.path() + "/away");
  Begin();
  Pass(minutes(21));
  EXPECT_THAT(Steps(), ElementsAre(0u));
  EXPECT_THAT(lines_, ElementsAre(HasSubstr("delivers 8 steps"),
                                  AllOf(HasSubstr("no records 1 to 3 of"),
                                        HasSubstr(disk),
                                        HasSubstr("--without-spool"))));
  EXPECT_THAT(testing::NamesIn(options_.ring_folder), SizeIs(1));
  std::filesystem::rename(dir_.path() + "/away", disk);
  Pass(minutes(6));
  EXPECT_THAT(Steps(), ElementsAre(0u, 10u));
  EXPECT_THAT(testing::NamesIn(options_.ring_folder), IsEmpty());
  EXPECT_THAT(testing::NamesIn(disk), IsEmpty());
}

TEST_F(AdopterTest, ARingWithoutARecordGoesWhomeverItWasFor) {
  options_.ring_folder = dir_.path() + "/rings";
  testing::LeaveRing(options_.ring_folder, "", 10, 1, 12,
                     Identity('a', "other:2"));
  Begin();
  Pass(seconds(5));
  EXPECT_THAT(testing::NamesIn(options_.ring_folder), IsEmpty());
  EXPECT_THAT(lines_, IsEmpty());
}

TEST_F(AdopterTest, ACollectorThatIsAwayIsTriedAgainAtTheNextLook) {
  const std::string folder = LeaveSpool(root_, 5);
  mode_ = FakeNetwork::Mode::kRefusing;
  Begin();
  Pass(minutes(2));
  EXPECT_THAT(Steps(), ElementsAre(0u));
  EXPECT_THAT(lines_, Contains(HasSubstr("is away")));
  mode_ = FakeNetwork::Mode::kUp;
  Pass(minutes(4));
  EXPECT_THAT(Steps(), ElementsAre(0u, 5u));
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(AdopterTest, ACollectorThatRefusesForNowIsTriedAgainAtTheNextLook) {
  const std::string folder = LeaveSpool(root_, 5);
  mode_ = FakeNetwork::Mode::kRejecting;
  Begin();
  Pass(minutes(2));
  EXPECT_THAT(Steps(), ElementsAre(0u));
  EXPECT_THAT(lines_, Contains(HasSubstr("too many runs")));
  mode_ = FakeNetwork::Mode::kUp;
  Pass(minutes(4));
  EXPECT_THAT(Steps(), ElementsAre(0u, 5u));
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(AdopterTest, WhatIsThrownEndsIt) {
  LeaveSpool(root_, 5);
  mode_ = FakeNetwork::Mode::kThrowing;
  Begin();
  Pass(minutes(6));
  EXPECT_EQ(networks_.size(), 1u);
  EXPECT_THAT(lines_, Contains(HasSubstr("no more memory")));
}

// In the delivery thread, beside a session of the agent's own.
class WorkerAdoptionTest : public ::testing::Test {
 protected:
  WorkerAdoptionTest() {
    shared_->ring = testing::MakeRing(256 * 1024, 8 * 1024);
    recorder_ = std::make_unique<Recorder>(shared_->ring.get(), &shared_->books,
                                           &RealClock());
    options_.session.run = "run";
    options_.session.collector = "peer:1";
    options_.session.process_nonce = MakeIdentity().process_nonce;
    options_.poll = milliseconds(2);
    options_.leftovers_root = root_;
    options_.make_transport = [this] {
      return std::make_unique<FakeTransport>(transports_++ == 0 ? &own_
                                                                : &others_);
    };
  }

  void TearDown() override { worker_->Stop(std::chrono::steady_clock::now()); }

  void Start() {
    worker_ = std::make_unique<Worker>(shared_, options_);
    ASSERT_TRUE(worker_->Start());
    recorder_->PutSchema(testing::MakeSchema(1, 10));
    recorder_->PutStep(testing::MakeStep(0, 1, 10));
  }
  template <typename Condition>
  static bool Await(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + seconds(30);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > give_up) return false;
      std::this_thread::yield();
    }
    return true;
  }

  testing::TempDir dir_;
  const std::string root_ = dir_.path() + "/spool";
  FakeNetwork own_;
  FakeNetwork others_;
  int transports_ = 0;
  Mutex mu_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);
  const std::shared_ptr<DeliveryShared> shared_ =
      std::make_shared<DeliveryShared>([this](const std::string& line) {
        MutexLock lock(mu_);
        lines_.push_back(line);
      });
  std::unique_ptr<Recorder> recorder_;
  WorkerOptions options_;
  std::unique_ptr<Worker> worker_;
};

TEST_F(WorkerAdoptionTest, TheNextAgentDeliversWhatADeadOneHasLeft) {
  LeaveSpool(root_, 500, Identity('a'));
  Start();
  EXPECT_TRUE(Await([this] { return std::filesystem::is_empty(root_); }));
  worker_->Stop(std::chrono::steady_clock::now() + seconds(60));
  EXPECT_EQ(own_.collector.Contents().recorded.size(), 1u);
  EXPECT_EQ(others_.collector.Contents().recorded.size(), 500u);
  EXPECT_EQ(others_.collector.last_hello.process_nonce(), std::string(16, 'a'));
  EXPECT_EQ(shared_->books.Snapshot().steps_acknowledged, 1u);
  MutexLock lock(mu_);
  EXPECT_THAT(lines_, ElementsAre(HasSubstr("delivers 500 steps")));
}

// And not only when its own records have gone.
TEST_F(WorkerAdoptionTest, ItLetsGoOfThatAsSoonAsItIsToStop) {
  const std::string folder = LeaveSpool(root_, 500, Identity('a'));
  others_.Set(FakeNetwork::Mode::kBlackHole);
  options_.session.ack_timeout = milliseconds(200);
  options_.session.connect_timeout = milliseconds(200);
  options_.session.backoff_base = milliseconds(2);
  Start();
  EXPECT_TRUE(Await([this] {
    MutexLock lock(others_.mu);
    return others_.connects > 0;
  }));
  own_.Set(FakeNetwork::Mode::kBlackHole);
  recorder_->PutStep(testing::MakeStep(1, 1, 10));
  std::thread stopping([this] {
    worker_->Stop(std::chrono::steady_clock::now() + std::chrono::hours(1));
  });
  EXPECT_TRUE(Await([&folder] {
    return Leftover::Open(testing::SpoolPlace(folder), SpoolUse::kTakeOver)
        .ok();
  }));
  EXPECT_NE(worker_->state(), DeliveryState::kStopped);
  own_.Set(FakeNetwork::Mode::kUp);
  stopping.join();
  EXPECT_EQ(own_.collector.Contents().recorded.size(), 2u);
}

}  // namespace
}  // namespace gradtap::agent
