#include "server/query/series_set.h"

#include <gtest/gtest.h>

#include "server/limits/answer_room.h"

namespace gradtap::server {
namespace {

constexpr int kPoints = 100'000;

// The errors of a series of so many points, which that answer is to have.
absl::Status Grow(HeldAnswer* answer, std::size_t* most) {
  const MakingAnswer making(answer);
  SeriesSet series(0, 10 * kPoints);
  series.StartLine("run", 0);
  DownSampler* const sampler = series.Find("fc.weight", "grad.l2");
  for (int i = 0; i < kPoints; ++i) sampler->Add({.step = i});
  absl::Status status = series.Check(kPoints);
  *most = answer->bytes();
  return status;
}

TEST(SeriesSetTest, AsksForRoomAsItGrowsAndGivesItBack) {
  AnswerRoom room(nullptr, {.bytes = 32 << 20, .of_a_client = 32 << 20});
  HeldAnswer answer(&room, "a");
  std::size_t most = 0;
  EXPECT_TRUE(Grow(&answer, &most).ok());
  EXPECT_GE(most, kPoints * sizeof(Point));
  EXPECT_EQ(answer.bytes(), 0u);
}

TEST(SeriesSetTest, WithoutRoomItIsRefusedWhileItGrows) {
  AnswerRoom room(nullptr, {.bytes = 1 << 20, .of_a_client = 1 << 20});
  HeldAnswer larger(&room, "b");
  ASSERT_TRUE(larger.Grow(2 << 20).ok());
  HeldAnswer answer(&room, "a");
  std::size_t most = 0;
  EXPECT_TRUE(IsForWantOfRoom(Grow(&answer, &most)));
  EXPECT_EQ(answer.bytes(), 0u);
}

TEST(SeriesSetTest, AChapterIsAnotherPieceThanTheFirstOfItsWindows) {
  SeriesSet series(0, kPoints);
  const std::uint32_t window = series.PieceOf(1, 0, 4096, 128);
  EXPECT_NE(series.PieceOf(1, 0, 4096, 4096), window);
  EXPECT_EQ(series.PieceOf(1, 0, 4096, 128), window);
}

}  // namespace
}  // namespace gradtap::server
