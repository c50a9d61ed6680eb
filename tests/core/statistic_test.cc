#include "core/statistic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "support/status_matchers.h"

namespace gradtap {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Record SomeRecord() {
  Record r;  // Of {3, -1, 0, 0, NaN, +Inf}.
  r.mean = 0.5f;
  r.std = 1.5f;
  r.abs_mean = 1;
  r.min = -1;
  r.max = 3;
  r.zero = 2;
  r.nan = 1;
  r.pos_inf = 1;
  return r;
}

TEST(DeriveTest, EveryFieldOfARecord) {
  const Record r = SomeRecord();
  EXPECT_EQ(Derive(Field::kMean, r, 6), 0.5);
  EXPECT_EQ(Derive(Field::kStd, r, 6), 1.5);
  EXPECT_EQ(Derive(Field::kAbsMean, r, 6), 1);
  EXPECT_EQ(Derive(Field::kMin, r, 6), -1);
  EXPECT_EQ(Derive(Field::kMax, r, 6), 3);
  EXPECT_EQ(Derive(Field::kZero, r, 6), 2);
  EXPECT_EQ(Derive(Field::kNan, r, 6), 1);
  EXPECT_EQ(Derive(Field::kPosInf, r, 6), 1);
  EXPECT_EQ(Derive(Field::kNegInf, r, 6), 0);
  EXPECT_DOUBLE_EQ(Derive(Field::kL2, r, 6), std::sqrt(10.0));
  EXPECT_EQ(Derive(Field::kL1, r, 6), 4);
  EXPECT_EQ(Derive(Field::kSum, r, 6), 2);
  EXPECT_DOUBLE_EQ(Derive(Field::kRms, r, 6), std::sqrt(2.5));
  EXPECT_EQ(Derive(Field::kAbsMax, r, 6), 3);
  EXPECT_EQ(Derive(Field::kVariance, r, 6), 2.25);
  EXPECT_DOUBLE_EQ(Derive(Field::kZeroFraction, r, 6), 2.0 / 6);
  EXPECT_EQ(Derive(Field::kNonfinite, r, 6), 2);
  EXPECT_DOUBLE_EQ(Derive(Field::kFiniteFraction, r, 6), 4.0 / 6);
  EXPECT_TRUE(std::isnan(Derive(Field::kRatio, r, 6)));
}

TEST(DeriveTest, MomentsGiveTheSameAsTheirRecord) {
  const Record r = SomeRecord();
  const Moments m = ToMoments(r, 6);
  for (int f = 0; f < static_cast<int>(Field::kRatio); ++f) {
    const auto field = static_cast<Field>(f);
    EXPECT_DOUBLE_EQ(Derive(field, r, 6), Derive(field, m)) << FieldName(field);
  }
}

TEST(DeriveTest, NothingFiniteIsNanOrZeroAsDefined) {
  Record r;
  r.nan = 4;
  for (const Field field :
       {Field::kMean, Field::kStd, Field::kAbsMean, Field::kMin, Field::kMax,
        Field::kRms, Field::kAbsMax, Field::kVariance}) {
    EXPECT_TRUE(std::isnan(Derive(field, r, 4))) << FieldName(field);
  }
  for (const Field field : {Field::kL2, Field::kL1, Field::kSum,
                            Field::kZeroFraction, Field::kFiniteFraction}) {
    EXPECT_EQ(Derive(field, r, 4), 0) << FieldName(field);
  }
  EXPECT_EQ(Derive(Field::kNonfinite, r, 4), 4);
}

TEST(DeriveTest, AnEmptyTensorHasNoFractions) {
  EXPECT_TRUE(std::isnan(Derive(Field::kZeroFraction, Record{}, 0)));
  EXPECT_TRUE(std::isnan(Derive(Field::kFiniteFraction, Record{}, 0)));
  EXPECT_EQ(Derive(Field::kL2, Record{}, 0), 0);
  EXPECT_TRUE(std::isnan(Derive(Field::kMean, Record{}, 0)));
  EXPECT_TRUE(std::isnan(Derive(Field::kZeroFraction, Moments{})));
  EXPECT_TRUE(std::isnan(Derive(Field::kMin, Moments{})));
}

TEST(DeriveTest, FiniteAnswersDoNotOverflowOnTheWay) {
  Moments m;
  m.finite = 4;
  m.mean = m.min = m.max = m.abs_mean = 4e307;
  EXPECT_DOUBLE_EQ(Derive(Field::kL2, m), 8e307);
  EXPECT_DOUBLE_EQ(Derive(Field::kRms, m), 4e307);
  EXPECT_DOUBLE_EQ(Derive(Field::kL1, m), 1.6e308);
  Record r;
  r.mean = r.std = r.abs_mean = r.max = std::numeric_limits<float>::max();
  r.min = -r.max;
  EXPECT_TRUE(std::isfinite(Derive(Field::kL2, r, ~std::uint64_t{0})));
  EXPECT_TRUE(std::isfinite(Derive(Field::kVariance, r, 2)));
}

TEST(DeriveTest, FiniteAnswersDoNotUnderflowOnTheWay) {
  Moments m;
  m.finite = 4;
  m.mean = m.min = m.max = m.abs_mean = 1e-200;
  EXPECT_DOUBLE_EQ(Derive(Field::kL2, m), 2e-200);
}

TEST(ParseStatisticTest, EveryKnownNameParsesToItself) {
  const std::vector<std::string> names = AllStatisticNames();
  EXPECT_EQ(names.size(), 5u * 18u + 2u);
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(),
            names.size());
  for (const std::string& name : names) {
    const auto statistic = ParseStatistic(name);
    GRADTAP_ASSERT_OK(statistic) << name;
    EXPECT_EQ(statistic->name, name);
    EXPECT_EQ(statistic->source, Statistic::Source::kRecord);
    EXPECT_EQ(std::string(RoleName(statistic->role)) + "." +
                  std::string(FieldName(statistic->field)),
              name);
  }
}

TEST(ParseStatisticTest, ScalarsAndTheAgentsOwn) {
  auto loss = ParseStatistic("scalar.loss/train.a b");
  GRADTAP_ASSERT_OK(loss);
  EXPECT_EQ(loss->source, Statistic::Source::kScalar);
  EXPECT_EQ(loss->scalar, "loss/train.a b");
  auto agent = ParseStatistic("agent.step_seconds");
  GRADTAP_ASSERT_OK(agent);
  EXPECT_EQ(agent->source, Statistic::Source::kAgent);
  EXPECT_EQ(agent->scalar, "agent.step_seconds");
  EXPECT_EQ(ParseStatistic("scalar.*")->scalar, "*");
  EXPECT_EQ(ParseStatistic("agent.*")->scalar, "*");
  EXPECT_THAT(
      ParseStatistic("scalar."),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'scalar.'")));
}

TEST(ParseStatisticTest, UnknownFieldNamesTheNearest) {
  EXPECT_THAT(ParseStatistic("grad.l3"),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("'grad.l3'"), HasSubstr("'grad.l"))));
  EXPECT_THAT(ParseStatistic("weight.raito"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("weight.")));
  EXPECT_THAT(
      ParseStatistic("buffer.mena"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("'buffer.mean'")));
  // Nothing is near: all of them.
  EXPECT_THAT(ParseStatistic("grad.kurtosis_of_the_fourth_kind"),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("grad.l2"), HasSubstr("grad.ratio"))));
}

TEST(ParseStatisticTest, OnlyGradAndUpdateHaveARatio) {
  EXPECT_TRUE(ParseStatistic("grad.ratio").ok());
  EXPECT_TRUE(ParseStatistic("update.ratio").ok());
  for (const char* name :
       {"weight.ratio", "buffer.ratio", "grad_local.ratio"}) {
    EXPECT_THAT(ParseStatistic(name),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr(name)));
  }
}

TEST(ParseStatisticTest, EveryRoleHasQuantiles) {
  for (const char* name : {"grad.p50", "weight.p99.9", "update.p0",
                           "buffer.p100", "grad_local.p1"}) {
    const auto statistic = ParseStatistic(name);
    GRADTAP_ASSERT_OK(statistic) << name;
    EXPECT_EQ(statistic->field, Field::kQuantile);
    EXPECT_EQ(statistic->name, name);
  }
  EXPECT_EQ(ParseStatistic("weight.p99.9")->quantile, 99'900'000u);
  EXPECT_EQ(ParseStatistic("weight.p99.9")->role, Role::kWeight);
  for (const char* name : {"grad.p101", "grad.p", "grad.p-5", "grad.p1e1"}) {
    EXPECT_THAT(ParseStatistic(name),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(name), HasSubstr("p0 to p100"))));
  }
  EXPECT_EQ(ParseStatistic("grad.pos_inf")->field, Field::kPosInf);
  EXPECT_THAT(ParseStatistic("grad.kurtosis_of_the_fourth_kind"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("grad.p99.9")));
}

TEST(ParseStatisticTest, UnknownRoleListsTheRoles) {
  EXPECT_THAT(ParseStatistic("grda.l2"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("did you mean 'grad'"),
                             HasSubstr("grad_local"), HasSubstr("scalar"))));
  for (const char* name :
       {"", ".", ".l2", "l2", "grad", "GRAD.l2", " grad.l2"}) {
    EXPECT_THAT(
        ParseStatistic(name),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("grad_local")));
  }
}

TEST(ParseStatisticTest, HostileNamesComeBackOnOneShortLine) {
  const std::string hostile = "\x1b[2J\n" + std::string(100'000, 'x') + ".l2";
  for (const std::string& name : {hostile, "grad." + hostile}) {
    const auto status = ParseStatistic(name).status();
    EXPECT_LT(status.message().size(), 1000u);
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\n")));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\x1b")));
  }
}

TEST(RoleNameTest, ValuesOutsideTheEnumAreEmpty) {
  EXPECT_EQ(RoleName(Role::kUnspecified), "");
  EXPECT_EQ(RoleName(static_cast<Role>(200)), "");
  EXPECT_EQ(FieldName(static_cast<Field>(200)), "");
}

}  // namespace
}  // namespace gradtap
