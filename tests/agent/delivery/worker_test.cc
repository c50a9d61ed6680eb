#include "agent/delivery/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/fake_transport.h"
#include "agent/delivery/worker_fixture.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::FakeNetwork;
using ::gradtap::testing::FakeTransport;
using ::gradtap::testing::MakeRing;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using SteadyClock = std::chrono::steady_clock;

class WorkerTest : public WorkerFixture {
 protected:
  WorkerTest() : WorkerFixture(10) {
    options_.note_after = std::chrono::milliseconds(1);
    worker_ = std::make_unique<Worker>(shared_, options_);
  }

  std::string AwaitNote() {
    const auto deadline = SteadyClock::now() + seconds(60);
    MutexLock lock(mu_);
    while (notes_.empty() && SteadyClock::now() < deadline) {
      noted_.WaitUntil(mu_, deadline);
    }
    return notes_.empty() ? "" : notes_[0];
  }
  int Connects() {
    MutexLock lock(network_.mu);
    return network_.connects;
  }
  void AwaitConnects(int count) {
    MutexLock lock(network_.mu);
    while (network_.connects < count) {
      network_.changed.WaitUntil(network_.mu, SteadyClock::now() + seconds(60));
    }
  }
};

TEST_F(WorkerTest, DeliversEverythingAndStops) {
  ASSERT_TRUE(worker_->Start());
  PutSteps(50);
  EXPECT_TRUE(worker_->WaitAcknowledged(shared_->ring->last_seq(),
                                        SteadyClock::now() + seconds(60)));
  EXPECT_EQ(shared_->books.Snapshot().steps_acknowledged, 50u);
  PutSteps(50);
  recorder_->PutEnd(EndReason::kFinished);
  worker_->Stop(SteadyClock::now() + seconds(60));
  EXPECT_EQ(worker_->state(), DeliveryState::kStopped);
  const auto contents = network_.collector.Contents();
  EXPECT_EQ(contents.recorded.size(), 100u);
  EXPECT_TRUE(contents.end.has_value());
  EXPECT_EQ(network_.collector.byes, 1);
  EXPECT_TRUE(
      worker_->WaitAcknowledged(shared_->ring->last_seq(), SteadyClock::now()));
}

TEST_F(WorkerTest, AFullSpeedProducerLosesNothingUndeclared) {
  ASSERT_TRUE(worker_->Start());
  std::thread trainer([this] {
    for (int i = 0; i < 200; ++i) PutSteps(100);
    recorder_->PutEnd(EndReason::kFinished);
  });
  // Another thread reads the books meanwhile.
  std::atomic<bool> done{false};
  std::thread reader([this, &done] {
    while (!done) {
      const DeliveryCounters c = shared_->books.Snapshot();
      ASSERT_EQ(c.steps_seen,
                c.steps_recorded + c.steps_skipped + c.steps_lost);
      ASSERT_LE(c.steps_acknowledged, c.steps_recorded);
      std::this_thread::yield();
    }
  });
  trainer.join();
  worker_->Stop(SteadyClock::now() + seconds(60));
  done = true;
  reader.join();
  const auto contents = network_.collector.Contents();
  const DeliveryCounters c = shared_->books.Snapshot();
  EXPECT_EQ(contents.recorded.size(), c.steps_recorded);
  std::uint64_t declared = 0;
  for (const auto& [cause, steps] : contents.gap_steps) declared += steps;
  EXPECT_EQ(declared, c.steps_lost);
  EXPECT_EQ(contents.end->steps_seen, 20'000u);
}

TEST_F(WorkerTest, AnUnreachableCollectorIsDialledAgainUntilItIsThere) {
  network_.Set(FakeNetwork::Mode::kRefusing);
  ASSERT_TRUE(worker_->Start());
  PutSteps(3);
  AwaitConnects(5);
  EXPECT_EQ(worker_->state(), DeliveryState::kConnecting);
  network_.Set(FakeNetwork::Mode::kUp);
  EXPECT_TRUE(worker_->WaitAcknowledged(shared_->ring->last_seq(),
                                        SteadyClock::now() + seconds(60)));
  EXPECT_EQ(Lines().size(), 2u);  // Away, and back.
}

TEST_F(WorkerTest, ABlackHoleDoesNotHoldUpTheStop) {
  network_.Set(FakeNetwork::Mode::kBlackHole);
  ASSERT_TRUE(worker_->Start());
  PutSteps(3);
  AwaitConnects(1);
  EXPECT_FALSE(worker_->WaitAcknowledged(
      1, SteadyClock::now() + std::chrono::milliseconds(20)));
  worker_->Stop(SteadyClock::now() + std::chrono::milliseconds(50));
  EXPECT_EQ(worker_->state(), DeliveryState::kStopped);
  EXPECT_EQ(shared_->books.Snapshot().steps_acknowledged, 0u);
  worker_->Stop(SteadyClock::now() + seconds(60));  // Idempotent.
}

TEST_F(WorkerTest, AFaultEndsDeliveryAndIsSaidOnce) {
  network_.Set(FakeNetwork::Mode::kThrowing);
  ASSERT_TRUE(worker_->Start());
  PutSteps(3);
  // Nobody waits for what cannot come.
  EXPECT_FALSE(worker_->WaitAcknowledged(
      shared_->ring->last_seq(), SteadyClock::now() + std::chrono::hours(1)));
  PutSteps(20'000);  // Recording goes on until the ring is full.
  EXPECT_GT(shared_->books.Snapshot().steps_lost, 0u);
  worker_->Stop(SteadyClock::now() + seconds(60));
  ASSERT_EQ(Lines().size(), 1u);
  EXPECT_THAT(Lines()[0], HasSubstr("no more memory"));
}

TEST_F(WorkerTest, HowLongTheRingLastsIsNotedOnceAndIsNoProblem) {
  ASSERT_TRUE(worker_->Start());
  PutSteps(20);
  // By then they have been looked at.
  ASSERT_TRUE(worker_->WaitAcknowledged(shared_->ring->last_seq(),
                                        SteadyClock::now() + seconds(60)));
  PutSteps(20);
  const std::string note = AwaitNote();
  EXPECT_THAT(note, StartsWith("gradtap: a step takes "));
  EXPECT_THAT(note, HasSubstr("the ring of 256 KiB holds "));
  PutSteps(20);
  recorder_->PutEnd(EndReason::kFinished);
  worker_->Stop(SteadyClock::now() + seconds(60));
  MutexLock lock(mu_);
  EXPECT_THAT(notes_, ElementsAre(note));
  EXPECT_THAT(lines_, IsEmpty());
}

TEST_F(WorkerTest, AFullRingIsSaidOnce) {
  network_.Set(FakeNetwork::Mode::kRefusing);
  ASSERT_TRUE(worker_->Start());
  PutSteps(20'000);
  AwaitSaid("is full");
  AwaitConnects(Connects() + 3);  // Turns in which it could be said again.
  int said = 0;
  for (const std::string& line : Lines()) {
    said += line.find("is full") != std::string::npos;
  }
  EXPECT_EQ(said, 1);
}

}  // namespace
}  // namespace gradtap::agent
