#include "server/health/rank_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/codec.h"
#include "server/health/health_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using namespace testing;  // NOLINT: what health_testing.h has.
using ::gradtap::testing::IsOk;

// What a collector would have stored of the step, and its reading of it.
HealthStep ReadBack(const StepData& data) {
  std::string record(EncodedStepSize(data), '\0');
  EncodeStep(data, {record.data(), record.size()});
  const auto view = ParseRecord(record);
  EXPECT_THAT(view, IsOk());
  const auto stored = StoredStep::OfRow(std::string(view->body), 1);
  EXPECT_THAT(stored, IsOk());
  HealthStep step;
  EXPECT_THAT(ReadHealthStep(**stored, "loss", &step), IsOk());
  return step;
}

class RankHealthTest : public ::testing::Test {
 protected:
  void Begin(const std::string& rules, std::vector<Parameter> parameters) {
    schema_ = MakeSchema(std::move(parameters));
    health_ = std::make_unique<RankHealth>(MakeRules(rules), 3);
    health_->SetSchema(schema_);
  }

  // Looks at a step; `change` may spoil it.
  template <typename Change>
  const Verdicts& Step(const Change& change) {
    StepData data = QuietStep(*schema_, next_step_++);
    change(&data);
    health_->Look(ReadBack(data), &verdicts_);
    return verdicts_;
  }
  const Verdicts& Quiet(int steps = 1) {
    for (int i = 0; i < steps; ++i) Step([](StepData*) {});
    return verdicts_;
  }
  std::vector<std::string> Broken(v1::HealthRule rule) const {
    std::vector<std::string> names;
    health_->ForEachBroken(rule, [&](std::size_t parameter) {
      names.push_back(schema_->parameters[parameter].name);
    });
    return names;
  }

  std::shared_ptr<const Schema> schema_;
  std::unique_ptr<RankHealth> health_;
  std::int64_t next_step_ = 0;
  Verdicts verdicts_;
};

TEST_F(RankHealthTest, NothingIsWrongWithAQuietRun) {
  Begin("", {MakeWeight("a"), MakeWeight("b")});
  for (int i = 0; i < 300; ++i) {
    for (const Verdict& verdict : Quiet()) EXPECT_EQ(verdict.offenders, 0U);
  }
}

TEST_F(RankHealthTest, ANanIsNamedWithItsRoleAndRank) {
  Begin("", {MakeWeight("a"), MakeWeight("b")});
  Quiet(3);
  const Verdict& verdict = Step([](StepData* step) {
    SetNan(step, Role::kGrad, 1, 5);
  })[v1::HEALTH_RULE_NONFINITE];
  ASSERT_EQ(verdict.offenders, 1U);
  EXPECT_EQ(verdict.worst[0].parameter(), "b");
  EXPECT_EQ(verdict.worst[0].role(), v1::ROLE_GRAD);
  EXPECT_EQ(verdict.worst[0].rank(), 3U);
  EXPECT_EQ(verdict.worst[0].value(), 5);
  EXPECT_EQ(Broken(v1::HEALTH_RULE_NONFINITE), std::vector<std::string>{"b"});
  EXPECT_EQ(Quiet()[v1::HEALTH_RULE_NONFINITE].offenders, 0U);
  EXPECT_TRUE(Broken(v1::HEALTH_RULE_NONFINITE).empty());
}

TEST_F(RankHealthTest, OfManyOffendersTheFiveWorstAreNamed) {
  std::vector<Parameter> parameters;
  for (int i = 0; i < 40; ++i) {
    parameters.push_back(MakeWeight("p" + std::to_string(i)));
  }
  Begin("", parameters);
  const Verdict& verdict = Step([](StepData* step) {
    for (std::size_t i = 0; i < 40; ++i) SetNan(step, Role::kGrad, i, 1 + i);
  })[v1::HEALTH_RULE_NONFINITE];
  EXPECT_EQ(verdict.offenders, 40U);
  ASSERT_EQ(verdict.worst.size(), kWorst);
  EXPECT_EQ(verdict.worst[0].parameter(), "p39");
  EXPECT_EQ(verdict.worst[4].parameter(), "p35");
}

TEST_F(RankHealthTest, AMaskOfNegativeInfinitiesIsNotNonFinite) {
  Parameter mask = MakeWeight("mask");
  mask.kind = Kind::kBuffer;
  mask.roles = {Role::kBuffer};
  Begin("", {mask});
  const auto inf = [](std::uint64_t negative, std::uint64_t positive) {
    return [negative, positive](StepData* step) {
      Record record = RecordOf(1);
      record.neg_inf = negative;
      record.pos_inf = positive;
      ColumnsOf(step, Role::kBuffer)->Set(0, record);
    };
  };
  EXPECT_EQ(Step(inf(30, 0))[v1::HEALTH_RULE_NONFINITE].offenders, 0U);
  EXPECT_EQ(Step(inf(0, 1))[v1::HEALTH_RULE_NONFINITE].offenders, 1U);
}

TEST_F(RankHealthTest, ANonFiniteLossCountsAndIsNamedFirst) {
  Begin("", {MakeWeight("a")});
  for (const double loss : {std::numeric_limits<double>::quiet_NaN(),
                            std::numeric_limits<double>::infinity()}) {
    const Verdict& verdict = Step([loss](StepData* step) {
      step->scalars[0].value = loss;
      SetNan(step, Role::kWeight, 0);
    })[v1::HEALTH_RULE_NONFINITE];
    EXPECT_EQ(verdict.offenders, 2U);
    EXPECT_EQ(verdict.worst[0].scalar(), "loss");
  }
  // Others may be what they like.
  const Verdicts& verdicts = Step([](StepData* step) {
    step->scalars.push_back(
        {"validation", std::numeric_limits<double>::quiet_NaN()});
  });
  EXPECT_EQ(verdicts[v1::HEALTH_RULE_NONFINITE].offenders, 0U);
}

TEST_F(RankHealthTest, AStepThatALossScalerSkippedIsNotNonFiniteTwentyAre) {
  Begin("", {MakeWeight("a")});
  Quiet(2);
  const auto skip = [](StepData* step) {
    step->roles.clear();
    step->skipped = GapCause::kLoop;
    step->scalars[0].value = std::numeric_limits<double>::infinity();
  };
  for (int i = 1; i < 20; ++i) {
    EXPECT_EQ(Step(skip)[v1::HEALTH_RULE_NONFINITE].offenders, 0U) << i;
  }
  Quiet();
  for (int i = 1; i < 20; ++i) Step(skip);
  const Verdict& verdict = Step(skip)[v1::HEALTH_RULE_NONFINITE];
  ASSERT_EQ(verdict.offenders, 1U);
  EXPECT_EQ(verdict.worst[0].value(), 20);
  // As gaps they count the same.
  Quiet();
  health_->LookAtGap(GapCause::kLoop, 19, &verdicts_);
  EXPECT_EQ(verdicts_[v1::HEALTH_RULE_NONFINITE].offenders, 0U);
  health_->LookAtGap(GapCause::kBudget, 100, &verdicts_);
  EXPECT_FALSE(verdicts_[v1::HEALTH_RULE_NONFINITE].judged);
  health_->LookAtGap(GapCause::kLoop, 1, &verdicts_);
  EXPECT_EQ(verdicts_[v1::HEALTH_RULE_NONFINITE].offenders, 1U);
}

TEST_F(RankHealthTest, AGradientExplodesAgainstItsOwnLevel) {
  Begin("exploding { factor: 30 steps: 3 }",
        {MakeWeight("a"), MakeWeight("large")});
  const auto big = [](float a) {
    return [a](StepData* step) {
      SetStd(step, Role::kGrad, 0, a);
      SetStd(step, Role::kGrad, 1, 1e6F);  // Large, and always was.
    };
  };
  for (int i = 0; i < 200; ++i) Step(big(0.1F));
  EXPECT_EQ(Step(big(100))[v1::HEALTH_RULE_EXPLODING].offenders, 0U);
  EXPECT_EQ(Step(big(100))[v1::HEALTH_RULE_EXPLODING].offenders, 0U);
  const Verdict& verdict = Step(big(100))[v1::HEALTH_RULE_EXPLODING];
  ASSERT_EQ(verdict.offenders, 1U);
  EXPECT_EQ(verdict.worst[0].parameter(), "a");
  EXPECT_NEAR(verdict.worst[0].value(), 100, 1);
  EXPECT_GT(verdict.worst[0].limit(), 1);
  EXPECT_LT(verdict.worst[0].limit(), 10);
  EXPECT_EQ(verdicts_[v1::HEALTH_RULE_VANISHING].offenders, 0U);
}

TEST_F(RankHealthTest, AGradientVanishesAgainstItsOwnLevel) {
  Begin("vanishing { factor: 1000 steps: 5 }", {MakeWeight("a")});
  const auto of = [](float std) {
    return [std](StepData* step) { SetStd(step, Role::kGrad, 0, std); };
  };
  for (int i = 0; i < 200; ++i) Step(of(0.1F));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Step(of(1e-9F))[v1::HEALTH_RULE_VANISHING].offenders, 0U);
  }
  EXPECT_EQ(Step(of(1e-9F))[v1::HEALTH_RULE_VANISHING].offenders, 1U);
}

TEST_F(RankHealthTest, WhatWasNeverUpdatedOrIsFrozenIsNotDead) {
  Parameter frozen = MakeWeight("frozen");
  frozen.requires_grad = false;
  Begin("dead { steps: 5 }",
        {MakeWeight("dies"), MakeWeight("never"), frozen, MakeWeight("gone")});
  const auto step = [](float dies, float others, bool grads) {
    return [=](StepData* step) {
      SetStd(step, Role::kUpdate, 0, dies);
      SetStd(step, Role::kUpdate, 1, 0);
      SetStd(step, Role::kUpdate, 2, others);
      SetStd(step, Role::kUpdate, 3, others);
      if (!grads) ColumnsOf(step, Role::kGrad)->SetAbsent(3);
    };
  };
  for (int i = 0; i < 10; ++i) Step(step(0.1F, 0.1F, true));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Step(step(0, 0, false))[v1::HEALTH_RULE_DEAD].offenders, 0U);
  }
  const Verdict& verdict = Step(step(0, 0, false))[v1::HEALTH_RULE_DEAD];
  ASSERT_EQ(verdict.offenders, 1U);
  EXPECT_EQ(verdict.worst[0].parameter(), "dies");
  EXPECT_EQ(Step(step(0.1F, 0, false))[v1::HEALTH_RULE_DEAD].offenders, 0U);
}

TEST_F(RankHealthTest, AnUpdateRatioOutOfItsBandIsSeenOnEitherSide) {
  Parameter bias = MakeWeight("bias");
  bias.shape = {64};
  Begin("update_ratio { min: 1e-5 max: 0.1 steps: 3 }",
        {MakeWeight("high"), MakeWeight("low"), bias});
  const auto off = [](StepData* step) {
    SetStd(step, Role::kUpdate, 0, 0.5F);
    SetStd(step, Role::kUpdate, 1, 1e-7F);
    SetStd(step, Role::kUpdate, 2, 10);
  };
  Step(off);
  Step(off);
  const Verdict& verdict = Step(off)[v1::HEALTH_RULE_UPDATE_RATIO];
  ASSERT_EQ(verdict.offenders, 2U);
  EXPECT_EQ(verdict.worst[0].parameter(), "low");
  EXPECT_NEAR(verdict.worst[0].value(), 1e-7, 1e-9);
  EXPECT_EQ(verdict.worst[1].parameter(), "high");
  EXPECT_NEAR(verdict.worst[1].value(), 0.5, 1e-3);
}

TEST_F(RankHealthTest, ALossSpikesAgainstItsOwnLevel) {
  Begin("loss_spike { steps: 2 }", {MakeWeight("a")});
  std::mt19937 random(5);
  const auto with = [](double loss) {
    return [loss](StepData* step) { step->scalars[0].value = loss; };
  };
  for (int i = 0; i < 300; ++i) {
    const double noise = static_cast<double>(random() % 1000) / 1000 - 0.5;
    const double loss = 2 + 3 * std::exp(-i / 50.0) + 0.3 * noise;
    ASSERT_EQ(Step(with(loss))[v1::HEALTH_RULE_LOSS_SPIKE].offenders, 0U) << i;
  }
  EXPECT_EQ(Step(with(30))[v1::HEALTH_RULE_LOSS_SPIKE].offenders, 0U);
  const Verdict& verdict = Step(with(30))[v1::HEALTH_RULE_LOSS_SPIKE];
  ASSERT_EQ(verdict.offenders, 1U);
  EXPECT_EQ(verdict.worst[0].scalar(), "loss");
  EXPECT_EQ(verdict.worst[0].value(), 30);
  EXPECT_LT(verdict.worst[0].limit(), 30);
}

TEST_F(RankHealthTest, RulesThatAreSwitchedOffSayNothing) {
  Begin("nonfinite { disabled: true } dead { except: '^a$' }",
        {MakeWeight("a")});
  const Verdicts& verdicts =
      Step([](StepData* step) { SetNan(step, Role::kGrad, 0); });
  EXPECT_FALSE(verdicts[v1::HEALTH_RULE_NONFINITE].judged);
}

TEST_F(RankHealthTest, WhatIsExceptedBreaksNoRule) {
  Begin("nonfinite { except: '^a' }", {MakeWeight("a.x"), MakeWeight("b.a")});
  const Verdict& verdict = Step([](StepData* step) {
    SetNan(step, Role::kGrad, 0);
    SetNan(step, Role::kGrad, 1);
  })[v1::HEALTH_RULE_NONFINITE];
  ASSERT_EQ(verdict.offenders, 1U);
  EXPECT_EQ(verdict.worst[0].parameter(), "b.a");
}

TEST_F(RankHealthTest, ANewSchemaKeepsWhatIsKnownByName) {
  Begin("dead { steps: 5 }", {MakeWeight("a"), MakeWeight("b")});
  Quiet(3);
  const auto dead_b = [](std::size_t place) {
    return [place](StepData* step) { SetStd(step, Role::kUpdate, place, 0); };
  };
  for (int i = 0; i < 4; ++i) Step(dead_b(1));
  schema_ = MakeSchema({MakeWeight("new"), MakeWeight("b")}, 2);
  health_->SetSchema(schema_);
  const Verdict& verdict = Step(dead_b(1))[v1::HEALTH_RULE_DEAD];
  ASSERT_EQ(verdict.offenders, 1U);
  EXPECT_EQ(verdict.worst[0].parameter(), "b");
}

TEST_F(RankHealthTest, ColumnsThatAreNotTheSchemasArePassedOver) {
  Begin("", {MakeWeight("a"), MakeWeight("b")});
  Quiet(2);
  StepData data = QuietStep(*MakeSchema({MakeWeight("a")}), 2);
  SetNan(&data, Role::kGrad, 0);
  health_->Look(ReadBack(data), &verdicts_);
  EXPECT_FALSE(verdicts_[v1::HEALTH_RULE_EXPLODING].judged);
}

TEST_F(RankHealthTest, NoParametersAreNoTrouble) {
  Begin("", {});
  for (const Verdict& verdict : Quiet(200)) EXPECT_EQ(verdict.offenders, 0U);
}

// From any step on a saved state goes on as if nothing had happened.
TEST_F(RankHealthTest, ASavedStateGoesOnTheSame) {
  for (std::uint32_t seed = 1; seed <= 10; ++seed) {
    Begin("exploding { steps: 2 } dead { steps: 4 } loss_spike { steps: 2 }",
          {MakeWeight("a"), MakeWeight("b"), MakeWeight("c")});
    next_step_ = 0;
    std::mt19937 random(seed);
    const int saved_at = static_cast<int>(random() % 150);
    std::unique_ptr<RankHealth> other;
    for (int i = 0; i < 200; ++i) {
      if (i == saved_at) {
        v1::StreamHealthState state;
        health_->Save(&state);
        other = std::make_unique<RankHealth>(
            MakeRules("exploding { steps: 2 } dead { steps: 4 } loss_spike { "
                      "steps: 2 }"),
            3);
        other->SetSchema(schema_);
        v1::StreamHealthState read;
        ASSERT_TRUE(read.ParseFromString(state.SerializeAsString()));
        other->Load(read);
      }
      StepData data = QuietStep(*schema_, i);
      for (std::size_t p = 0; p < 3; ++p) {
        if (random() % 8 == 0) SetStd(&data, Role::kGrad, p, 1e7F);
        if (random() % 2 == 0) SetStd(&data, Role::kUpdate, p, 0);
        if (random() % 20 == 0) SetNan(&data, Role::kWeight, p, 7);
      }
      if (random() % 3 == 0) data.scalars[0].value = 1e9;
      const HealthStep step = ReadBack(data);
      health_->Look(step, &verdicts_);
      if (other == nullptr) continue;
      Verdicts verdicts;
      other->Look(step, &verdicts);
      for (std::size_t r = 1; r < kRuleNumbers; ++r) {
        ASSERT_EQ(verdicts[r].offenders, verdicts_[r].offenders);
        ASSERT_EQ(verdicts[r].worst.size(), verdicts_[r].worst.size());
        for (std::size_t w = 0; w < verdicts[r].worst.size(); ++w) {
          EXPECT_EQ(verdicts[r].worst[w].SerializeAsString(),
                    verdicts_[r].worst[w].SerializeAsString());
        }
      }
      EXPECT_EQ(other->step_seconds(), health_->step_seconds());
    }
  }
}

TEST_F(RankHealthTest, AStateOfAnotherModelIsPassedOver) {
  Begin("", {MakeWeight("a"), MakeWeight("b")});
  v1::StreamHealthState state;
  state.add_level(1);
  state.add_still_row(1 << 20);
  state.add_nonfinite(77);
  health_->Load(state);
  for (const Verdict& verdict : Quiet(2)) EXPECT_EQ(verdict.offenders, 0U);
}

TEST_F(RankHealthTest, APauseDoesNotBecomeTheUsualStepTime) {
  Begin("", {MakeWeight("a")});
  Quiet(50);
  EXPECT_NEAR(health_->step_seconds(), 1, 1e-9);
  Step([](StepData* step) { step->wall_time_unix_ns += 10'000 * kSecond; });
  EXPECT_LT(health_->step_seconds(), 1.2);
}

}  // namespace
}  // namespace gradtap::server
