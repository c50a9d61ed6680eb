// A recorder over a small ring, which the test empties.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_RECORDER_FIXTURE_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_RECORDER_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/model_collector.h"
#include "agent/delivery/recorder.h"
#include "support/manual_clock.h"

namespace gradtap::agent {

class RecorderTest : public ::testing::Test {
 protected:
  explicit RecorderTest(std::size_t ring_bytes = 256 * 1024)
      : ring_(testing::MakeRing(ring_bytes, 8 * 1024)),
        recorder_(ring_.get(), &books_, &clock_) {}

  // Whatever a test does, the books balance.
  void TearDown() override {
    const DeliveryCounters c = books_.Snapshot();
    EXPECT_EQ(c.steps_seen, c.steps_recorded + c.steps_skipped + c.steps_lost);
    EXPECT_EQ(c.steps_seen, offered_);
    EXPECT_THAT(contents().problems, ::testing::IsEmpty());
  }

  void Step(const StepData& step) {
    recorder_.PutStep(step);
    ++offered_;
  }
  void Gap(GapCause cause, std::int64_t step, const std::string& detail = {}) {
    recorder_.PutGap(cause, step, detail);
    ++offered_;
  }
  // Moves what is at hand, or the oldest `count` entries of it, to the
  // collector, as a session would.
  void Deliver(std::size_t count = ~std::size_t{0}) {
    const auto entries = testing::EntriesOf(*ring_);
    count = std::min(count, entries.size());
    for (std::size_t i = 0; i < count; ++i) {
      collector_.records.push_back(entries[i].bytes);
    }
    testing::FreeOldest(ring_.get(), count);
  }
  testing::StreamContents contents() const { return collector_.Contents(); }

  testing::ManualClock clock_;
  Books books_;
  std::unique_ptr<Ring> ring_;
  Recorder recorder_;
  testing::ModelCollector collector_;
  std::uint64_t offered_ = 0;
};

class SmallRingTest : public RecorderTest {
 protected:
  SmallRingTest() : RecorderTest(64 * 1024) {}
};

}  // namespace gradtap::agent

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_RECORDER_FIXTURE_H_
