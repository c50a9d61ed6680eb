// A ring that fills up: steps are thinned, then refused; those in which what is
// not finite is new are kept as long as anything is.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/recorder_fixture.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::EntriesOf;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::StreamContents;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Pair;

StepData MakeBadStep(std::int64_t step, std::size_t places) {
  StepData data = MakeStep(step, 1, places);
  data.roles[0].nan[places / 2] = 3;
  return data;
}

class RecorderThinningTest : public RecorderTest {
 protected:
  static constexpr std::size_t kPlaces = 20;

  RecorderThinningTest() { recorder_.PutSchema(MakeSchema(1, kPlaces)); }

  void Put(std::int64_t step) { Step(MakeStep(step, 1, kPlaces)); }
  void PutBad(std::int64_t step) { Step(MakeBadStep(step, kPlaces)); }
  std::uint64_t lost(GapCause cause) const { return books_.missing(cause); }
  // Until `cause` appears; returns the step after it.
  std::int64_t PutUntil(GapCause cause, std::int64_t step = 0) {
    while (lost(cause) == 0 && step < 100'000) Put(step++);
    EXPECT_GT(lost(cause), 0u);
    return step;
  }
  std::vector<std::int64_t> Recorded() const {
    std::vector<std::int64_t> steps;
    for (const auto& entry : EntriesOf(*ring_)) {
      if (entry.meta.kind == EntryKind::kStep) steps.push_back(entry.meta.step);
    }
    return steps;
  }
  double Fill() const {
    const auto room =
        static_cast<double>(ring_->RoomBytes(Ring::Room::kOrdinary));
    return 1 -
           static_cast<double>(ring_->FreeBytes(Ring::Room::kOrdinary)) / room;
  }
};

TEST_F(RecorderThinningTest, StepsAreTakenEverThinnerAndThenNotAtAll) {
  PutUntil(GapCause::kRingFull);
  std::map<std::int64_t, int> strides;
  const std::vector<std::int64_t> steps = Recorded();
  std::int64_t longest = 1;
  for (std::size_t i = 1; i < steps.size(); ++i) {
    const std::int64_t stride = steps[i] - steps[i - 1];
    longest = std::max(longest, stride);
    EXPECT_EQ(steps[i] % longest, 0) << "step " << steps[i];
    ++strides[stride];
  }
  // Half of the room, a quarter, an eighth, an eighth.
  ASSERT_TRUE(strides.count(1) && strides.count(2) && strides.count(4) &&
              strides.count(8));
  EXPECT_GT(strides[1], strides[2]);
  EXPECT_GT(strides[2], strides[4]);
  EXPECT_GE(strides[4] + 1, strides[8]);
  EXPECT_GT(lost(GapCause::kThinned), 0u);
}

TEST_F(RecorderThinningTest, GapsNameEachStepThatIsNotThereOnceWithItsCause) {
  std::int64_t step = PutUntil(GapCause::kRingFull);
  for (int i = 0; i < 30; ++i) Put(step++);
  EXPECT_EQ(lost(GapCause::kRingFull), 31u);  // Also those between the eighths.
  Deliver();
  Put(step++);
  Deliver();
  const StreamContents c = contents();
  std::set<std::int64_t> seen;
  for (const auto& [branch, number] : c.recorded) {
    EXPECT_TRUE(seen.insert(number).second) << number;
  }
  std::map<GapCause, std::uint64_t> by_cause;
  for (const auto& [branch, gap] : c.gaps) {
    ASSERT_EQ(gap.steps,
              static_cast<std::uint64_t>(gap.last_step - gap.first_step + 1));
    by_cause[gap.cause] += gap.steps;
    for (std::int64_t i = gap.first_step; i <= gap.last_step; ++i) {
      EXPECT_TRUE(seen.insert(i).second) << i;
    }
  }
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(step));
  EXPECT_EQ(by_cause, books_.Snapshot().by_cause);
  EXPECT_EQ(by_cause.size(), 2u);
}

TEST_F(RecorderThinningTest, ItGoesOnUntilTheRingIsWellEmptied) {
  std::int64_t step = PutUntil(GapCause::kThinned);
  while (Fill() > 0.3) Deliver(1);
  step += step % 2 == 0 ? 1 : 0;
  const std::uint64_t thinned = lost(GapCause::kThinned);
  Put(step++);  // An odd one.
  EXPECT_EQ(lost(GapCause::kThinned), thinned + 1);
  while (Fill() > 0.2) Deliver(1);
  for (int i = 0; i < 8; ++i) Put(step++);
  EXPECT_EQ(lost(GapCause::kThinned), thinned + 1);
}

TEST_F(RecorderThinningTest, AStepInWhichANanIsNewIsNotThinned) {
  std::int64_t step = PutUntil(GapCause::kThinned);
  while (Fill() < 0.8) Put(step++);
  step = (step / 8 + 1) * 8 + 1;
  Put(step);
  PutBad(step + 1);
  StepData nan_loss = MakeStep(step + 2, 1, kPlaces);
  nan_loss.scalars[0].value = std::nan("");
  Step(nan_loss);
  Put(step + 4);  // An odd one again.
  const std::vector<std::int64_t> recorded = Recorded();
  EXPECT_THAT(std::vector<std::int64_t>(recorded.end() - 2, recorded.end()),
              ElementsAre(step + 1, step + 2));
}

TEST_F(RecorderThinningTest, TheLastOfTheRoomIsForNonFiniteSteps) {
  std::int64_t step = PutUntil(GapCause::kRingFull);
  // Whatever their number is, none gets in; one that is not finite does.
  for (int i = 0; i < 16; ++i) Put(step++);
  const std::size_t before = Recorded().size();
  int kept = 0;
  while (true) {
    const std::uint64_t full = lost(GapCause::kRingFull);
    PutBad(step++);
    if (lost(GapCause::kRingFull) > full) break;
    ++kept;
    Put(step++);
  }
  EXPECT_EQ(Recorded().size(), before + static_cast<std::size_t>(kept));
  const std::size_t one =
      Ring::EntryBytes(EncodedStepSize(MakeBadStep(step, kPlaces)));
  const std::size_t room = ring_->RoomBytes(Ring::Room::kOrdinary);
  EXPECT_GE(kept * (one + Ring::EntryBytes(32)), room / 16 - 2 * one);
  EXPECT_GE(kept, 10);
  // The reserve for the end is untouched.
  recorder_.PutEnd(EndReason::kFinished);
  EXPECT_EQ(EntriesOf(*ring_).back().meta.kind, EntryKind::kEnd);
}

// A scalar that is always NaN, or a training that has diverged for good.
TEST_F(RecorderThinningTest, WhatIsAlwaysNonFiniteIsThinnedLikeAnythingElse) {
  std::int64_t step = 0;
  while (lost(GapCause::kRingFull) == 0 && step < 100'000) PutBad(step++);
  std::map<std::int64_t, int> strides;
  const std::vector<std::int64_t> steps = Recorded();
  for (std::size_t i = 1; i < steps.size(); ++i) {
    ++strides[steps[i] - steps[i - 1]];
  }
  EXPECT_TRUE(strides.count(2) && strides.count(4) && strides.count(8));
  const auto thinned = static_cast<std::int64_t>(lost(GapCause::kThinned));
  EXPECT_EQ(step, static_cast<std::int64_t>(steps.size()) + thinned + 1);
  EXPECT_GT(thinned, static_cast<std::int64_t>(steps.size()));
  // And the last of the room is there still: for what gets worse.
  for (int i = 0; i < 16; ++i) PutBad(step++);
  EXPECT_EQ(Recorded(), steps);
  StepData worse = MakeBadStep(step, kPlaces);
  worse.roles[0].pos_inf[0] = 1;
  Step(worse);
  EXPECT_EQ(Recorded().back(), step);
}

// A sixteenth of this ring is less than such a step.
TEST_F(RecorderThinningTest, LargeStepsHaveRoomForOneThatIsNotFinite) {
  std::int64_t step = 0;
  for (std::size_t many = 1'000; many < 2'000; many += 37) {
    ASSERT_GT(EncodedStepSize(MakeStep(0, 1, many)),
              ring_->RoomBytes(Ring::Room::kOrdinary) / 16);
    const std::uint64_t full = lost(GapCause::kRingFull);
    while (lost(GapCause::kRingFull) == full) Step(MakeStep(step++, 1, many));
    for (int i = 0; i < 8; ++i) Step(MakeStep(step++, 1, many));
    StepData bad = MakeStep(step++, 1, many);
    // Larger than what was there before: counts take more bytes.
    for (std::size_t i = 0; i < many; ++i) bad.roles[0].nan[i] = 1'000'000;
    Step(bad);
    EXPECT_EQ(Recorded().back(), bad.step) << many;
    Deliver();
  }
}

// What is to be told before a step does not take their room either.
TEST_F(RecorderThinningTest, PendingGapsLeaveTheLastOfTheRoomAlone) {
  std::int64_t step = PutUntil(GapCause::kRingFull);
  Deliver(3);
  for (int i = 0; i < 50; ++i) {
    Gap(GapCause::kLoop, step++, std::to_string(i) + std::string(200, 'd'));
  }
  step = (step / 8 + 1) * 8;
  const std::uint64_t full = lost(GapCause::kRingFull);
  Put(step++);
  EXPECT_EQ(lost(GapCause::kRingFull), full + 1);
  clock_.Advance(std::chrono::seconds(2));
  const std::uint64_t last = ring_->last_seq();
  Gap(GapCause::kLoop, step++);
  EXPECT_EQ(ring_->last_seq(), last);  // Not alone either.
  PutBad(step);
  EXPECT_EQ(Recorded().back(), step);
}

TEST_F(RecorderThinningTest, AStepAlmostAsLargeAsTheRingStillFits) {
  constexpr std::size_t kMany = 11'000;
  for (int i = 0; i < 3; ++i) {
    Step(MakeStep(i, 1, kMany));
    Deliver();
  }
  EXPECT_EQ(books_.Snapshot().steps_recorded, 3u);
}

TEST_F(RecorderThinningTest, TheBooksSayWhetherTheSpoolIsFullToo) {
  books_.SetFullCause(GapCause::kSpoolFull);
  std::int64_t step = PutUntil(GapCause::kSpoolFull);
  EXPECT_EQ(lost(GapCause::kRingFull), 0u);
  Step(MakeStep(step++, 1, 50'000));  // No spool would help.
  EXPECT_EQ(lost(GapCause::kRingFull), 1u);
  books_.SetFullCause(GapCause::kRingFull);
  Put(step++);
  EXPECT_EQ(lost(GapCause::kRingFull), 2u);
  Deliver();
  Put(step);
  Deliver();
  EXPECT_EQ(contents().gap_steps.at(GapCause::kSpoolFull), 1u);
}

// Whatever the fill does: nothing is unaccounted for, gaps and books agree, and
// what is not finite is lost only where the ring is full.
TEST_F(RecorderThinningTest, RandomFillsBalanceAndKeepWhatIsNotFinite) {
  std::mt19937 random(20'261'128);
  const auto one_in = [&](unsigned n) { return random() % n == 0; };
  std::map<std::int64_t, bool> bad;  // Steps offered.
  std::int64_t step = 0;
  unsigned patience = 3;
  for (int i = 0; i < 20'000; ++i) {
    if (one_in(500)) patience = 2 + random() % 600;
    const std::size_t places = 1 + random() % (one_in(50) ? 900 : 60);
    if (one_in(20)) {
      Gap(GapCause::kLoop, step);
      bad[step++] = false;
    } else if (one_in(7)) {
      const std::uint64_t full = lost(GapCause::kRingFull);
      const std::uint64_t thinned = lost(GapCause::kThinned);
      Step(MakeBadStep(step, places));
      bad[step++] = true;
      EXPECT_EQ(lost(GapCause::kThinned), thinned);
      if (lost(GapCause::kRingFull) > full) {
        EXPECT_LT(ring_->FreeBytes(Ring::Room::kOrdinary), 32'000u);
      }
    } else {
      Step(MakeStep(step, 1, places));
      bad[step++] = false;
    }
    if (one_in(patience)) Deliver(random() % 200);
  }
  EXPECT_GT(lost(GapCause::kThinned), 100u);
  EXPECT_GT(lost(GapCause::kRingFull), 100u);
  Deliver();
  Put(step++);
  Deliver();
  const StreamContents c = contents();
  const DeliveryCounters counters = books_.Snapshot();
  EXPECT_EQ(c.recorded.size(), counters.steps_recorded);
  EXPECT_EQ(c.gap_steps, counters.by_cause);
  std::uint64_t told = c.recorded.size();
  for (const auto& [cause, steps] : c.gap_steps) told += steps;
  EXPECT_EQ(told, static_cast<std::uint64_t>(step));
  for (const auto& [branch, gap] : c.gaps) {
    EXPECT_LE(gap.steps,
              static_cast<std::uint64_t>(gap.last_step - gap.first_step + 1));
    if (gap.cause != GapCause::kThinned) continue;
    if (gap.steps !=
        static_cast<std::uint64_t>(gap.last_step - gap.first_step + 1)) {
      continue;  // Joined when many were pending.
    }
    for (std::int64_t s = gap.first_step; s <= gap.last_step; ++s) {
      EXPECT_FALSE(bad[s]) << s;
      EXPECT_NE(s % 8, 0) << s;
    }
  }
}

}  // namespace
}  // namespace gradtap::agent
