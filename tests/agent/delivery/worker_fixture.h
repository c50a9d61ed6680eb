// A worker between a recorder and a model collector.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_WORKER_FIXTURE_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_WORKER_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/fake_transport.h"
#include "agent/delivery/recorder.h"
#include "agent/delivery/worker.h"
#include "core/sync.h"

namespace gradtap::agent {

class WorkerFixture : public ::testing::Test {
 protected:
  using SteadyClock = std::chrono::steady_clock;

  explicit WorkerFixture(std::size_t places) : places_(places) {
    shared_->ring = testing::MakeRing(256 * 1024, 8 * 1024);
    recorder_ = std::make_unique<Recorder>(shared_->ring.get(), &shared_->books,
                                           &RealClock());
    options_.session.collector = "peer:1";
    options_.session.run = "run";
    options_.session.launch = "l";
    options_.session.process_nonce = "0123456789abcdef";
    options_.session.backoff_base = std::chrono::milliseconds(2);
    options_.session.backoff_max = std::chrono::milliseconds(10);
    options_.make_transport = [this] {
      return std::make_unique<testing::FakeTransport>(&network_);
    };
  }

  void TearDown() override {
    // With time to end: left behind, it would use what is gone by then.
    network_.Set(testing::FakeNetwork::Mode::kUp);
    worker_->Stop(SteadyClock::now() + std::chrono::seconds(60));
    const DeliveryCounters c = shared_->books.Snapshot();
    EXPECT_EQ(c.steps_seen, c.steps_recorded + c.steps_skipped + c.steps_lost);
    EXPECT_EQ(c.steps_seen, offered_);
    EXPECT_THAT(network_.collector.violations, ::testing::IsEmpty());
  }

  void Log(const std::string& line) {
    MutexLock lock(mu_);
    lines_.push_back(line);
  }
  std::vector<std::string> Lines() {
    MutexLock lock(mu_);
    return lines_;
  }
  bool Said(const std::string& words) {
    MutexLock lock(mu_);
    return std::any_of(lines_.begin(), lines_.end(), [&](const auto& line) {
      return line.find(words) != std::string::npos;
    });
  }
  void AwaitSaid(const std::string& words) {
    const auto give_up = SteadyClock::now() + std::chrono::seconds(60);
    while (!Said(words) && SteadyClock::now() < give_up) {
      std::this_thread::yield();
    }
    EXPECT_TRUE(Said(words)) << words;
  }
  void Note(const std::string& line) {
    MutexLock lock(mu_);
    notes_.push_back(line);
    noted_.NotifyAll();
  }

  void PutSteps(int count) {
    if (offered_ == 0) recorder_->PutSchema(testing::MakeSchema(1, places_));
    for (int i = 0; i < count; ++i) {
      recorder_->PutStep(
          testing::MakeStep(static_cast<std::int64_t>(offered_++), 1, places_));
    }
  }

  const std::size_t places_;
  Mutex mu_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> notes_ ABSL_GUARDED_BY(mu_);
  CondVar noted_;
  testing::FakeNetwork network_;
  std::shared_ptr<DeliveryShared> shared_ = std::make_shared<DeliveryShared>(
      [this](const std::string& line) { Log(line); },
      [this](const std::string& line) { Note(line); });
  std::unique_ptr<Recorder> recorder_;
  WorkerOptions options_;
  std::unique_ptr<Worker> worker_;
  std::uint64_t offered_ = 0;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_WORKER_FIXTURE_H_
