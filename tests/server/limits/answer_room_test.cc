#include "server/limits/answer_room.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace gradtap::server {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

class AnswerRoomTest : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(room_.taken(), 0u); }

  std::unique_ptr<HeldAnswer> Of(const std::string& client) {
    return std::make_unique<HeldAnswer>(&room_, client);
  }
  // With an answer larger than the room under way, whose place nobody else has.
  std::unique_ptr<HeldAnswer> Largest() {
    auto answer = Of("somebody else");
    EXPECT_TRUE(answer->Grow(1000 * kMiB).ok());
    return answer;
  }
  std::uint64_t refused() const {
    return refused_.refused(Limit::kAnswerBytes);
  }

  LimitCounters refused_;
  AnswerRoom room_{&refused_, {.bytes = 100 * kMiB, .of_a_client = 60 * kMiB}};
};

TEST_F(AnswerRoomTest, AnswersTogetherHaveSoManyBytes) {
  const auto largest = Largest();
  EXPECT_EQ(room_.taken(), 0u);
  const auto a = Of("a");
  const auto b = Of("b");
  EXPECT_TRUE(a->Grow(50 * kMiB).ok());
  EXPECT_TRUE(b->Grow(50 * kMiB).ok());
  const absl::Status refused_one = b->Grow(1);
  EXPECT_EQ(refused_one.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(IsForWantOfRoom(refused_one));
  EXPECT_EQ(b->bytes(), 50 * kMiB);  // What it had.
  EXPECT_EQ(refused(), 1u);
  a->Shrink(1);
  EXPECT_TRUE(b->Grow(1).ok());
  EXPECT_EQ(room_.taken(), 100 * kMiB);
}

TEST_F(AnswerRoomTest, ARefusalIsCountedOnceAnAnswer) {
  const auto largest = Largest();
  const auto a = Of("a");
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(a->Grow(200 * kMiB).ok());
  EXPECT_EQ(refused(), 1u);
  EXPECT_FALSE(Of("a")->Grow(200 * kMiB).ok());
  EXPECT_EQ(refused(), 2u);
}

TEST_F(AnswerRoomTest, OneClientDoesNotKeepOthersOut) {
  const auto largest = Largest();
  std::vector<std::unique_ptr<HeldAnswer>> unread;
  for (int i = 0; i < 100; ++i) {
    unread.push_back(Of("a"));
    EXPECT_EQ(unread.back()->Grow(kMiB).ok(), i < 60);
  }
  EXPECT_TRUE(Of("b")->Grow(40 * kMiB).ok());
}

TEST_F(AnswerRoomTest, OneAtATimeMayBeLargerThanTheRoom) {
  const auto a = Of("a");
  EXPECT_TRUE(a->Grow(60 * kMiB).ok());
  EXPECT_TRUE(a->Grow(60 * kMiB).ok());  // From here on it does not count.
  EXPECT_EQ(room_.taken(), 0u);
  EXPECT_FALSE(Of("b")->Grow(101 * kMiB).ok());
  EXPECT_TRUE(a->Grow(1000 * kMiB).ok());
  a->Shrink(1119 * kMiB);
  EXPECT_FALSE(Of("b")->Grow(101 * kMiB).ok());  // A part of it is still there.
  a->Shrink(kMiB);
  EXPECT_TRUE(Of("b")->Grow(101 * kMiB).ok());
  EXPECT_TRUE(a->Grow(60 * kMiB).ok());
  EXPECT_EQ(room_.taken(), 60 * kMiB);
}

TEST_F(AnswerRoomTest, WhatIsMadeCountsForTheThreadThatMakesIt) {
  EXPECT_TRUE(AnswerWork().Reach(1000 * kMiB).ok());  // Nobody's.
  const auto largest = Largest();
  const auto a = Of("a");
  {
    const MakingAnswer making(a.get());
    std::thread([] { EXPECT_EQ(MakingAnswer::Current(), nullptr); }).join();
    AnswerWork work;
    EXPECT_TRUE(work.Reach(kSmallAnswer).ok());
    EXPECT_EQ(a->bytes(), 0u);  // Small ones are not asked about.
    EXPECT_TRUE(work.Reach(10 * kMiB + 1).ok());
    EXPECT_EQ(a->bytes(), 11 * kMiB);
    EXPECT_TRUE(work.Reach(5 * kMiB).ok());
    EXPECT_EQ(a->bytes(), 11 * kMiB);
    EXPECT_TRUE(IsForWantOfRoom(work.Reach(61 * kMiB)));
  }
  EXPECT_EQ(a->bytes(), 0u);
  EXPECT_EQ(MakingAnswer::Current(), nullptr);
}

TEST_F(AnswerRoomTest, WithoutARoomThereIsNoLimit) {
  HeldAnswer answer(nullptr, "a");
  EXPECT_TRUE(answer.Grow(std::size_t{1} << 40).ok());
  answer.Shrink(1);
}

}  // namespace
}  // namespace gradtap::server
