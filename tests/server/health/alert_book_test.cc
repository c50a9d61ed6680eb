#include "server/health/alert_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/health/alert_text.h"
#include "server/health/health_testing.h"

namespace gradtap::server {
namespace {

using namespace testing;  // NOLINT: what health_testing.h has.
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr v1::HealthRule kRule = v1::HEALTH_RULE_NONFINITE;

Verdict Of(std::uint64_t offenders, const std::string& name = "conv1.weight") {
  Verdict verdict;
  verdict.judged = true;
  verdict.offenders = offenders;
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(offenders, kWorst);
       ++i) {
    v1::Offender offender;
    offender.set_parameter(i == 0 ? name : name + std::to_string(i));
    offender.set_role(v1::ROLE_GRAD);
    offender.set_value(36);
    verdict.worst.push_back(offender);
  }
  return verdict;
}

class AlertBookTest : public ::testing::Test {
 protected:
  AlertBookTest()
      : rules_(MakeRules("nonfinite { quiet_steps: 3 }")),
        book_(rules_, "gpt", &next_id_) {
    book_.set_attempt(2);
  }

  // What changes at a step.
  std::vector<v1::Alert> Step(std::int64_t step, const Verdict& verdict,
                              std::uint32_t rank = 0) {
    std::vector<v1::Alert> changes;
    Verdict of_rank = verdict;
    for (v1::Offender& offender : of_rank.worst) offender.set_rank(rank);
    book_.Apply(kRule,
                {rank, step, step - 1, kStart + step, kStart + 1000 + step},
                of_rank, &changes);
    return changes;
  }

  std::uint64_t next_id_ = 1;
  std::shared_ptr<const Rules> rules_;
  AlertBook book_;
};

TEST_F(AlertBookTest, AnAlertBeginsOnceAndEndsWhenItHasBeenQuiet) {
  EXPECT_THAT(Step(9, Of(0)), IsEmpty());
  const auto began = Step(10, Of(15));
  ASSERT_EQ(began.size(), 1U);
  EXPECT_EQ(began[0].id(), 1U);
  EXPECT_EQ(began[0].run(), "gpt");
  EXPECT_EQ(began[0].attempt(), 2U);
  EXPECT_EQ(began[0].first_step(), 10);
  EXPECT_EQ(began[0].step_before(), 9);
  EXPECT_EQ(began[0].offenders(), 15U);
  EXPECT_EQ(began[0].worst_size(), 5);
  EXPECT_TRUE(began[0].active());
  EXPECT_EQ(began[0].severity(), v1::ALERT_SEVERITY_CRITICAL);
  EXPECT_THAT(Step(11, Of(15)), IsEmpty());
  EXPECT_THAT(Step(12, Of(0)), IsEmpty());
  EXPECT_THAT(Step(13, Of(1)), IsEmpty());
  EXPECT_THAT(Step(14, Of(0)), IsEmpty());
  EXPECT_THAT(Step(15, Of(0)), IsEmpty());
  const auto ended = Step(16, Of(0));
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].id(), 1U);
  EXPECT_FALSE(ended[0].active());
  EXPECT_EQ(ended[0].end(), v1::ALERT_END_QUIET);
  EXPECT_EQ(ended[0].last_step(), 13);
  EXPECT_EQ(ended[0].ended_step(), 16);
  EXPECT_EQ(ended[0].offenders(), 15U);
}

TEST_F(AlertBookTest, ManyRanksAreOneAlert) {
  EXPECT_EQ(Step(10, Of(2), 7).size(), 1U);
  for (std::uint32_t rank = 0; rank < 40; ++rank) {
    EXPECT_THAT(Step(10, Of(2), rank), IsEmpty());
  }
  const v1::Alert* alert = book_.active(kRule);
  ASSERT_NE(alert, nullptr);
  EXPECT_EQ(alert->rank(), 7U);
  EXPECT_EQ(alert->rank_count(), 40U);
  EXPECT_EQ(alert->ranks_size(), 16);
  EXPECT_EQ(alert->offenders(), 80U);
  EXPECT_EQ(alert->worst_size(), 5);
  // It is over when the last of them is quiet.
  for (std::int64_t step = 11; step < 14; ++step) {
    for (std::uint32_t rank = 1; rank < 40; ++rank) {
      EXPECT_THAT(Step(step, Of(0), rank), IsEmpty());
    }
  }
  EXPECT_THAT(Step(11, Of(0), 0), IsEmpty());
  EXPECT_THAT(Step(12, Of(0), 0), IsEmpty());
  EXPECT_EQ(Step(13, Of(0), 0).size(), 1U);
}

TEST_F(AlertBookTest, TheRankThatIsNearerToItsBeginningIsNamed) {
  const auto of = [](v1::Role role, const std::string& scalar = "") {
    Verdict verdict = Of(1);
    verdict.worst[0].set_role(role);
    verdict.worst[0].set_scalar(scalar);
    return verdict;
  };
  EXPECT_EQ(Step(20, of(v1::ROLE_GRAD), 3).size(), 1U);
  const v1::Alert* alert = book_.active(kRule);
  EXPECT_EQ(alert->rank(), 3U);
  Step(20, of(v1::ROLE_WEIGHT), 1);
  EXPECT_EQ(alert->rank(), 3U);
  Step(20, of(v1::ROLE_GRAD_LOCAL), 2);
  EXPECT_EQ(alert->rank(), 2U);
  EXPECT_THAT(alert->summary(),
              AllOf(HasSubstr("grad_local of conv1.weight"),
                    HasSubstr("step 20 on rank 2, and 2 more")));
  // What comes later is no beginning.
  Step(21, of(v1::ROLE_UNSPECIFIED, "loss"), 0);
  EXPECT_EQ(alert->rank(), 2U);
  EXPECT_EQ(alert->first_step(), 20);
  EXPECT_THAT(alert->summary(), HasSubstr("grad_local of conv1.weight"));
  // A rank that was slow to tell.
  Step(19, of(v1::ROLE_GRAD), 4);
  EXPECT_EQ(alert->first_step(), 19);
  EXPECT_EQ(alert->rank(), 4U);
}

TEST_F(AlertBookTest, WhatIsNotJudgedIsNotQuiet) {
  Step(10, Of(1));
  for (int i = 0; i < 100; ++i) EXPECT_THAT(Step(11 + i, Verdict()), IsEmpty());
  EXPECT_NE(book_.active(kRule), nullptr);
}

TEST_F(AlertBookTest, ARuleThatFlapsHasFewAlerts) {
  int began = 0;
  for (int i = 0; i < 100'000; ++i) {
    for (const v1::Alert& alert : Step(i, Of(i % 5 == 0 ? 1 : 0))) {
      began += alert.active() ? 1 : 0;
    }
  }
  EXPECT_LE(began, 2);
}

TEST_F(AlertBookTest, OneThatHasExpiredBeginsAgainOnlyAfterItWasQuiet) {
  Step(10, Of(1));
  std::vector<v1::Alert> changes;
  book_.Expire(kStart + 2000, kStart + 5000, &changes);
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].end(), v1::ALERT_END_EXPIRED);
  for (int i = 11; i < 50; ++i) EXPECT_THAT(Step(i, Of(1)), IsEmpty());
  for (int i = 50; i < 60; ++i) EXPECT_THAT(Step(i, Of(0)), IsEmpty());
  EXPECT_EQ(Step(60, Of(1)).size(), 1U);
}

TEST_F(AlertBookTest, ClosingEndsWhatIsActive) {
  Step(10, Of(1));
  std::vector<v1::Alert> changes;
  book_.Close(v1::HEALTH_RULE_DEAD, v1::ALERT_END_RUN_ENDED, 12, kStart,
              &changes);
  EXPECT_THAT(changes, IsEmpty());
  book_.Close(v1::HEALTH_RULE_UNSPECIFIED, v1::ALERT_END_RUN_ENDED, 12, kStart,
              &changes);
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].end(), v1::ALERT_END_RUN_ENDED);
  EXPECT_EQ(changes[0].ended_step(), 12);
  EXPECT_FALSE(book_.any_active());
}

TEST_F(AlertBookTest, TheWorstMomentIsKeptAndWhenEachOffenderCame) {
  Step(10, Of(1));
  Step(11, Of(9));
  Step(12, Of(2));
  const v1::Alert* alert = book_.active(kRule);
  EXPECT_EQ(alert->offenders(), 9U);
  EXPECT_EQ(alert->worst(0).first_step(), 10);
  EXPECT_EQ(alert->worst(1).first_step(), 11);
  EXPECT_EQ(alert->last_step(), 12);
}

TEST_F(AlertBookTest, WhatIsSavedGoesOnTheSame) {
  Step(10, Of(3), 1);
  Step(10, Of(2), 2);
  Step(11, Of(0), 1);
  v1::AttemptHealthState state;
  book_.Save(&state);
  AlertBook other(rules_, "gpt", &next_id_);
  other.set_attempt(2);
  other.Load(state);
  for (std::int64_t step = 12; step < 20; ++step) {
    for (const std::uint32_t rank : {1U, 2U}) {
      const auto changes = Step(step, Of(0), rank);
      std::vector<v1::Alert> same;
      other.Apply(kRule,
                  {rank, step, step - 1, kStart + step, kStart + 1000 + step},
                  Of(0), &same);
      ASSERT_EQ(same.size(), changes.size());
      for (std::size_t i = 0; i < same.size(); ++i) {
        EXPECT_EQ(same[i].SerializeAsString(), changes[i].SerializeAsString());
      }
    }
  }
  EXPECT_FALSE(other.any_active());
}

TEST_F(AlertBookTest, AHostileNameIsHarmlessInALineAndInALink) {
  const std::string hostile =
      "<script>alert(1)</script>\x1b[31m\n&run=x#\"'" + std::string(400, 'x');
  const auto began = Step(10, Of(2, hostile));
  ASSERT_EQ(began.size(), 1U);
  EXPECT_THAT(began[0].summary(), Not(HasSubstr("\n")));
  EXPECT_THAT(began[0].summary(), Not(HasSubstr("\x1b")));
  EXPECT_LT(began[0].summary().size(), 400U);
  for (const char* bad : {"<", ">", "\"", "'", "\n", " ", "#", "\x1b"}) {
    EXPECT_THAT(began[0].link(), Not(HasSubstr(bad)));
  }
  EXPECT_THAT(began[0].link(), Not(HasSubstr("run=x")));
}

TEST_F(AlertBookTest, TheLineSaysWhatWhereAndHowMany) {
  const auto began = Step(812, Of(15), 2);
  EXPECT_EQ(began[0].summary(),
            "grad of conv1.weight became non-finite (36 elements) at step 812 "
            "on rank 2, and 14 more");
  EXPECT_EQ(began[0].link(),
            "/?run=gpt&attempt=2&rank=2&steps=712%3A913&pin=conv1.weight&pin="
            "conv1.weight1&pin=conv1.weight2&pin=conv1.weight3&pin=conv1."
            "weight4&stat=grad.l2");
}

}  // namespace
}  // namespace gradtap::server
