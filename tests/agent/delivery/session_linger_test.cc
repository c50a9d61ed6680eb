// When a batch is sent, and when it waits for more.

#include <gtest/gtest.h>

#include <chrono>

#include "agent/delivery/session_fixture.h"

namespace gradtap::agent {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLinger{200};

class SessionLingerTest : public SessionTest {
 protected:
  SessionLingerTest() : SessionTest(kLinger) {}

  void SendFirstBatch() {
    PutSteps(1);
    Connect();
    EXPECT_EQ(SendBatch().first_seq(), 1u);
  }
};

TEST_F(SessionLingerTest, TheFirstBatchGoesAtOnce) { SendFirstBatch(); }

TEST_F(SessionLingerTest, SmallBatchesAreApartAndNameWhenTheNextIsDue) {
  SendFirstBatch();
  PutSteps(1);
  MustIdle();
  EXPECT_EQ(session_.NextDeadline(), clock_.Steady() + kLinger);
  clock_.Advance(kLinger - milliseconds(1));
  PutSteps(1);
  MustIdle();
  clock_.Advance(milliseconds(1));
  EXPECT_EQ(SendBatch().record_count(), 2u);
  PutSteps(1);
  MustIdle();
}

TEST_F(SessionLingerTest, AfterAQuietTimeABatchGoesAtOnce) {
  SendFirstBatch();
  clock_.Advance(milliseconds(900));
  PutSteps(1);
  EXPECT_EQ(SendBatch().record_count(), 1u);
}

TEST_F(SessionLingerTest, ALargeBatchGoesAtOnce) {
  SendFirstBatch();
  PutSteps(1);
  MustIdle();
  PutSteps(64, 1'000);  // 20 KB each.
  EXPECT_GT(SendBatch().record_count(), 8u);
}

TEST_F(SessionLingerTest, WhileSomebodyWaitsABatchGoesAtOnce) {
  SendFirstBatch();
  PutSteps(1);
  session_.SetHurry(true);
  EXPECT_EQ(SendBatch().record_count(), 1u);
  session_.SetHurry(false);
  PutSteps(1);
  MustIdle();
}

TEST_F(SessionLingerTest, AtTheEndABatchGoesAtOnce) {
  SendFirstBatch();
  PutSteps(1);
  session_.BeginDrain();
  EXPECT_EQ(SendBatch().record_count(), 1u);
}

TEST_F(SessionLingerTest, WhatANewCallHasToRepeatGoesAtOnce) {
  uniform_ = 0;  // Dial again without delay.
  SendFirstBatch();
  Drop();
  Connect(1);
  EXPECT_EQ(SendBatch().first_seq(), 1u);
}

}  // namespace
}  // namespace gradtap::agent
