#include "server/health/run_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "server/health/health_testing.h"
#include "support/memory_store.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using namespace testing;  // NOLINT: what health_testing.h has.
using ::gradtap::testing::IsOk;
using ::gradtap::testing::MemoryStore;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kRun[] = "gpt";

class RunHealthTest : public ::testing::Test {
 protected:
  RunHealthTest() { schema_ = MakeSchema({MakeWeight("a"), MakeWeight("b")}); }

  StreamId AddStream(std::uint32_t rank, const std::string& launch = "first",
                     std::int64_t start = kStart) {
    StreamHello hello;
    hello.run = kRun;
    hello.launch = launch;
    hello.rank = rank;
    hello.world_size = 2;
    hello.process_nonce =
        std::string(15, static_cast<char>('a' + rank)) + launch.substr(0, 1);
    hello.start_time_unix_ns = start;
    const auto stream = store_.OpenStream(hello, start);
    EXPECT_THAT(stream, IsOk());
    store_.AddSchema(stream->id, *schema_);
    return stream->id;
  }

  std::unique_ptr<RunHealth> Make(const std::string& rules = "") {
    auto health = std::make_unique<RunHealth>(
        MakeRules(rules), kRun, [this](StreamId stream, std::uint32_t schema) {
          return store_.ReadSchema(stream, schema);
        });
    health->SetEntry(store_.FindRun(kRun));
    return health;
  }

  // Looks at what has been stored since, at most `most` rows and gaps of it.
  std::vector<v1::Alert> LookAtNew(RunHealth* health, int most = 1 << 30) {
    health->SetEntry(store_.FindRun(kRun));
    int seen = 0;
    EXPECT_THAT(store_.ScanByOrdinal(
                    kRun, health->ordinal(),
                    [&](const StepRow* row, const GapRow* gap) {
                      if (seen++ == most) return false;
                      if (row != nullptr) {
                        EXPECT_THAT(health->LookAtRow(*row, kStart), IsOk());
                      } else {
                        health->LookAtGap(*gap, kStart);
                      }
                      return true;
                    }),
                IsOk());
    return health->TakeChanges();
  }

  std::vector<v1::Alert> Clock(RunHealth* health, std::int64_t seconds,
                               Connected connected = {}) {
    health->SetEntry(store_.FindRun(kRun));
    health->LookAtClock({kStart + seconds * kSecond, kStart, connected});
    return health->TakeChanges();
  }

  void End(StreamId stream) {
    EndData end;
    end.reason = EndReason::kFinished;
    store_.AddEnd(stream, end);
  }

  MemoryStore store_;
  std::shared_ptr<const Schema> schema_;
};

TEST_F(RunHealthTest, ANanOnOneRankIsOneAlertThatNamesIt) {
  const StreamId ranks[] = {AddStream(0), AddStream(1)};
  for (std::int64_t step = 0; step < 30; ++step) {
    for (std::size_t r = 0; r < 2; ++r) {
      StepData data = QuietStep(*schema_, step);
      if (r == 1 && step >= 12 && step < 15) {
        SetNan(&data, Role::kGrad, 0);
        SetNan(&data, Role::kGrad, 1, 3);
        SetNan(&data, Role::kWeight, 1, 3);
      }
      store_.AddStep(ranks[r], 0, data);
    }
  }
  const auto health = Make();
  const auto changes = LookAtNew(health.get());
  ASSERT_THAT(changes, SizeIs(1));
  EXPECT_EQ(changes[0].rule(), v1::HEALTH_RULE_NONFINITE);
  EXPECT_EQ(changes[0].first_step(), 12);
  EXPECT_EQ(changes[0].step_before(), 11);
  EXPECT_EQ(changes[0].first_time_unix_ns(), kStart + 12 * kSecond);
  EXPECT_EQ(changes[0].rank(), 1U);
  EXPECT_EQ(changes[0].attempt(), 1U);
  EXPECT_EQ(changes[0].offenders(), 3U);
  EXPECT_EQ(changes[0].worst(0).parameter(), "a");
  EXPECT_EQ(changes[0].worst(2).role(), v1::ROLE_WEIGHT);
  EXPECT_EQ(health->counts().steps, 60U);
  EXPECT_EQ(health->counts().records, 60U * 6);
}

TEST_F(RunHealthTest, SkippedStepsAreAnIntervalBeforeTheFirstBadOne) {
  const StreamId stream = AddStream(0);
  for (std::int64_t step = 0; step < 30; step += 10) {
    StepData data = QuietStep(*schema_, step);
    if (step == 20) SetNan(&data, Role::kGrad, 0);
    store_.AddStep(stream, 0, data);
    store_.AddGap(stream, 0, {GapCause::kInterval, step + 1, step + 9, 9, ""});
  }
  const auto health = Make();
  const auto changes = LookAtNew(health.get());
  ASSERT_THAT(changes, SizeIs(1));
  EXPECT_EQ(changes[0].step_before(), 10);
  EXPECT_EQ(changes[0].first_step(), 20);
}

TEST_F(RunHealthTest, AlertsEndWithTheRun) {
  const StreamId stream = AddStream(0);
  StepData data = QuietStep(*schema_, 0);
  SetNan(&data, Role::kGrad, 0);
  store_.AddStep(stream, 0, data);
  const auto health = Make();
  EXPECT_THAT(LookAtNew(health.get()), SizeIs(1));
  EXPECT_THAT(Clock(health.get(), 1), IsEmpty());
  EXPECT_FALSE(health->over());
  End(stream);
  const auto ended = Clock(health.get(), 2);
  ASSERT_THAT(ended, SizeIs(1));
  EXPECT_EQ(ended[0].end(), v1::ALERT_END_RUN_ENDED);
  EXPECT_TRUE(health->over());
  // How it stood then is still told.
  v1::GetHealthResponse told;
  health->Describe(10, &told);
  const v1::RuleHealth& nonfinite = told.rules(0);
  EXPECT_EQ(nonfinite.offenders(), 1U);
  EXPECT_EQ(nonfinite.parameters(), 1U);
  EXPECT_THAT(nonfinite.names(), ElementsAre("a"));
  v1::GetHealthResponse short_one;
  health->Describe(0, &short_one);
  EXPECT_EQ(short_one.rules(0).names_size(), 0);
  EXPECT_EQ(short_one.rules(0).parameters(), 1U);
}

TEST_F(RunHealthTest, ANewerAttemptEndsTheAlertsOfTheOlderOne) {
  const StreamId first = AddStream(0);
  StepData data = QuietStep(*schema_, 0);
  SetNan(&data, Role::kGrad, 0);
  store_.AddStep(first, 0, data);
  const auto health = Make();
  EXPECT_THAT(LookAtNew(health.get()), SizeIs(1));
  const StreamId second = AddStream(0, "second", kStart + kSecond);
  const auto ended = Clock(health.get(), 2);
  ASSERT_THAT(ended, SizeIs(1));
  EXPECT_EQ(ended[0].attempt(), 1U);
  data.step = 1;
  store_.AddStep(second, 0, data);
  const auto again = LookAtNew(health.get());
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].attempt(), 2U);
  EXPECT_EQ(again[0].id(), 2U);
}

TEST_F(RunHealthTest, ARankThatIsSilentAndGoneIsLost) {
  const StreamId ranks[] = {AddStream(0), AddStream(1)};
  for (const StreamId stream : ranks) {
    store_.AddStep(stream, 0, QuietStep(*schema_, 0));
  }
  const auto health = Make();
  LookAtNew(health.get());
  const Connected first_only = [&](StreamId id) { return id == ranks[0]; };
  EXPECT_THAT(Clock(health.get(), 59, first_only), IsEmpty());
  const auto lost = Clock(health.get(), 100, first_only);
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].rule(), v1::HEALTH_RULE_LOST_RANK);
  EXPECT_EQ(lost[0].rank(), 1U);
  EXPECT_EQ(lost[0].worst(0).rank(), 1U);
  EXPECT_EQ(lost[0].first_step(), 0);
  EXPECT_THAT(Clock(health.get(), 200, first_only), IsEmpty());
  const auto back = Clock(health.get(), 201, [](StreamId) { return true; });
  ASSERT_THAT(back, SizeIs(1));
  EXPECT_FALSE(back[0].active());
}

TEST_F(RunHealthTest, ARunWithoutStepsForLongIsStalledWhileItIsConnected) {
  const StreamId stream = AddStream(0);
  for (std::int64_t step = 0; step < 30; ++step) {
    store_.AddStep(stream, 0, QuietStep(*schema_, step));
  }
  const auto health = Make("stalled { seconds: 100 step_times: 200 }");
  LookAtNew(health.get());
  const Connected connected = [](StreamId) { return true; };
  // A step took one second.
  EXPECT_THAT(Clock(health.get(), 190, connected), IsEmpty());
  const auto stalled = Clock(health.get(), 210, connected);
  ASSERT_THAT(stalled, SizeIs(1));
  EXPECT_EQ(stalled[0].rule(), v1::HEALTH_RULE_STALLED);
  EXPECT_EQ(stalled[0].first_step(), 29);
  // Its process goes: that is another rule's.
  const auto lost = Clock(health.get(), 1000);
  ASSERT_THAT(lost, SizeIs(2));
  EXPECT_EQ(lost[0].rule(), v1::HEALTH_RULE_STALLED);
  EXPECT_FALSE(lost[0].active());
  EXPECT_EQ(lost[1].rule(), v1::HEALTH_RULE_LOST_RANK);
}

TEST_F(RunHealthTest, ACollectorThatHasJustBegunToListenHearsNoSilence) {
  const StreamId stream = AddStream(0);
  store_.AddStep(stream, 0, QuietStep(*schema_, 0));
  const auto health = Make();
  LookAtNew(health.get());
  health->LookAtClock(
      {kStart + 9000 * kSecond, kStart + 8990 * kSecond, Connected()});
  EXPECT_THAT(health->TakeChanges(), IsEmpty());
  health->LookAtClock(
      {kStart + 9100 * kSecond, kStart + 8990 * kSecond, Connected()});
  EXPECT_THAT(health->TakeChanges(), SizeIs(1));
}

TEST_F(RunHealthTest, ALostRunIsNoNewsForEver) {
  const StreamId stream = AddStream(0);
  store_.AddStep(stream, 0, QuietStep(*schema_, 0));
  const auto health = Make("expire_hours: 2");
  LookAtNew(health.get());
  EXPECT_THAT(Clock(health.get(), 1000), SizeIs(1));
  const auto expired = Clock(health.get(), 3 * 3600);
  ASSERT_THAT(expired, SizeIs(1));
  EXPECT_EQ(expired[0].end(), v1::ALERT_END_EXPIRED);
  EXPECT_THAT(Clock(health.get(), 5 * 3600), IsEmpty());
}

TEST_F(RunHealthTest, AStateOfAnotherRunOfThatNameIsRefused) {
  AddStream(0);
  const auto health = Make();
  v1::RunHealthState state = health->Save();
  state.set_created_unix_ns(state.created_unix_ns() + 1);
  EXPECT_THAT(Make()->Load(state),
              ::gradtap::testing::StatusIs(
                  absl::StatusCode::kFailedPrecondition, ::testing::_));
}

// Saved after any row and loaded by another process, evaluation gives the
// same alerts: none is lost, none comes twice.
TEST_F(RunHealthTest, ARestartAnywhereNeitherLosesNorDoublesAnAlert) {
  const StreamId ranks[] = {AddStream(0), AddStream(1)};
  std::mt19937 random(11);
  for (std::int64_t step = 0; step < 200; ++step) {
    for (const StreamId stream : ranks) {
      if (random() % 10 == 0) {
        store_.AddGap(stream, 0, {GapCause::kLoop, step, step, 1, ""});
        continue;
      }
      StepData data = QuietStep(*schema_, step);
      if (random() % 40 == 0) SetNan(&data, Role::kGrad, random() % 2, 5);
      if (step / 50 % 2 == 1) SetStd(&data, Role::kGrad, 1, 1e5F);
      store_.AddStep(stream, 0, data);
    }
  }
  const std::string rules =
      "nonfinite { quiet_steps: 5 } exploding { steps: 2 quiet_steps: 5 }";
  const auto whole = LookAtNew(Make(rules).get());
  ASSERT_GT(whole.size(), 4U);
  for (int rows = 1; rows < 400; rows += 7) {
    auto health = Make(rules);
    std::vector<v1::Alert> changes;
    for (;;) {
      const std::uint64_t before = health->ordinal();
      for (v1::Alert& change : LookAtNew(health.get(), rows)) {
        changes.push_back(std::move(change));
      }
      if (health->ordinal() == before) break;
      v1::RunHealthState state;
      ASSERT_TRUE(state.ParseFromString(health->Save().SerializeAsString()));
      health = Make(rules);
      ASSERT_THAT(health->Load(state), IsOk());
    }
    ASSERT_EQ(changes.size(), whole.size()) << rows;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(changes[i].SerializeAsString(), whole[i].SerializeAsString());
    }
  }
}

TEST_F(RunHealthTest, WhatBreaksARuleNowIsToldByRule) {
  const StreamId ranks[] = {AddStream(0), AddStream(1)};
  for (const StreamId stream : ranks) {
    StepData data = QuietStep(*schema_, 7);
    SetNan(&data, Role::kGrad, 1);
    store_.AddStep(stream, 0, data);
  }
  const auto health = Make("dead { disabled: true }");
  LookAtNew(health.get());
  v1::GetHealthResponse told;
  health->Describe(10, &told);
  EXPECT_TRUE(told.evaluated());
  EXPECT_EQ(told.step(), 7);
  ASSERT_EQ(told.rules_size(), 8);
  EXPECT_EQ(told.rules(0).offenders(), 2U);
  EXPECT_EQ(told.rules(0).parameters(), 1U);
  EXPECT_THAT(told.rules(0).names(), ElementsAre("b"));
  EXPECT_EQ(told.rules(0).worst_size(), 2);
  EXPECT_FALSE(told.rules(3).enabled());
  EXPECT_EQ(told.rules(1).offenders(), 0U);
}

}  // namespace
}  // namespace gradtap::server
