// Room for records that are joined from parts.

#include "server/ingest/join_room.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace gradtap::server {
namespace {

using Place = std::unique_ptr<JoinRoom::Place>;

// A client has 100, all of them 125.
class JoinRoomTest : public ::testing::Test {
 protected:
  Place Ask(const std::string& client, std::uint64_t bytes,
            std::uint64_t held = 1) {
    return room_->Ask(client, bytes, held);
  }

  // All of it can be had again, whatever a test has done.
  void TearDown() override {
    const Place all = Ask("a", 100);
    const Place rest = Ask("b", 25);
    EXPECT_TRUE(all->taken());
    EXPECT_TRUE(rest->taken());
  }

  const std::shared_ptr<JoinRoom> room_ = JoinRoom::Create(100);
};

TEST_F(JoinRoomTest, WhatIsGivenBackGoesToWhoHasWaitedLongest) {
  Place first = Ask("a", 60);
  Place second = Ask("a", 60);
  Place third = Ask("a", 60);
  EXPECT_TRUE(first->taken());
  EXPECT_FALSE(second->taken());
  EXPECT_FALSE(third->taken());
  first.reset();
  EXPECT_TRUE(second->taken());
  EXPECT_FALSE(third->taken());
  second.reset();
  EXPECT_TRUE(third->taken());
}

TEST_F(JoinRoomTest, AClientThatHasItsShareHoldsUpNoOther) {
  const Place has = Ask("a", 100);
  const Place wants = Ask("a", 1);
  EXPECT_FALSE(wants->taken());
  const Place other = Ask("b", 25);
  EXPECT_TRUE(other->taken());
}

TEST_F(JoinRoomTest, ALargeRecordIsNotPassedByTheSmallOnesOfItsClient) {
  Place has = Ask("a", 50);
  const Place large = Ask("a", 100);
  const Place small = Ask("a", 10);
  EXPECT_FALSE(small->taken());
  has.reset();
  EXPECT_TRUE(large->taken());
  EXPECT_FALSE(small->taken());
}

TEST_F(JoinRoomTest, NorByOthersIfItWaitsForAll) {
  Place a = Ask("a", 100);
  const Place large = Ask("b", 100);
  const Place small = Ask("c", 25);
  EXPECT_FALSE(large->taken());
  EXPECT_FALSE(small->taken());
  a.reset();
  EXPECT_TRUE(large->taken());
  EXPECT_TRUE(small->taken());
}

TEST_F(JoinRoomTest, ClientsTakeTurnsHoweverManyOneHasWaiting) {
  std::vector<Place> of_a;
  for (int i = 0; i < 5; ++i) of_a.push_back(Ask("a", 60));
  const Place b = Ask("b", 70);
  EXPECT_FALSE(b->taken());
  of_a[0].reset();
  EXPECT_TRUE(of_a[1]->taken());  // Which had asked before.
  EXPECT_FALSE(b->taken());
  of_a[1].reset();
  EXPECT_TRUE(b->taken());
  EXPECT_FALSE(of_a[2]->taken());
}

TEST_F(JoinRoomTest, WhatIsHeldForThoseWhoWaitIsBoundedForEachClientAndForAll) {
  const Place a = Ask("a", 100);
  const Place waits = Ask("a", 1, 100);
  ASSERT_NE(waits, nullptr);
  EXPECT_EQ(Ask("a", 1, 1), nullptr);
  EXPECT_NE(Ask("a", 1, 0), nullptr);  // The refused one has left nothing.
  const Place b = Ask("b", 25, 1'000);
  EXPECT_TRUE(b->taken());  // Nothing is held for who need not wait.
  const Place b_waits = Ask("b", 25, 99);
  ASSERT_NE(b_waits, nullptr);
  EXPECT_EQ(Ask("c", 25, 2), nullptr);
  EXPECT_NE(Ask("c", 25, 1), nullptr);
}

TEST_F(JoinRoomTest, WhoGoesWhileItWaitsLeavesItsTurnToTheNext) {
  const Place a = Ask("a", 100);
  Place large = Ask("b", 100);
  const Place small = Ask("c", 25);
  large.reset();
  EXPECT_TRUE(small->taken());
}

TEST_F(JoinRoomTest, WhatIsLargerThanAShareTakesOne) {
  const Place huge = Ask("a", 1'000);
  EXPECT_TRUE(huge->taken());
  EXPECT_TRUE(Ask("b", 25)->taken());
  EXPECT_FALSE(Ask("b", 26)->taken());
}

TEST_F(JoinRoomTest, APlaceMayOutliveEverybodyElse) {
  std::shared_ptr<JoinRoom> room = JoinRoom::Create(10);
  Place place = room->Ask("a", 10, 0);
  room.reset();
  EXPECT_TRUE(place->taken());
  place.reset();
}

}  // namespace
}  // namespace gradtap::server
