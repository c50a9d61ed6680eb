// NaN and infinities in parameters and gradients arrive as counts, and as NaN
// where the definition says so, in every output format.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class NonfiniteTest : public House {
 protected:
  // The value of one parameter's statistic at one step, from CSV and from JSON,
  // which must agree.
  double Value(const std::string& run, std::int64_t step,
               const std::string& param, const std::string& stat) {
    const std::vector<std::string> args = {
        "series",  run,
        "--stat",  stat,
        "--match", param == "" ? "" : "^" + param + "$",
        "--steps", std::to_string(step) + ":" + std::to_string(step + 1)};
    const Csv csv = AskCsv(args);
    EXPECT_EQ(csv.rows(), 1u) << param << " " << stat;
    if (csv.rows() != 1) return -1;
    const double printed = Number(csv.At(0, "value"));
    std::vector<std::string> json = args;
    json.insert(json.end(), {"--output", "json"});
    const std::vector<SeriesRow> rows = ParseSeries(AskText(json));
    EXPECT_EQ(rows.size(), 1u);
    if (rows.size() == 1) {
      EXPECT_FALSE(rows[0].absent);
      EXPECT_TRUE(rows[0].value == printed ||
                  (std::isnan(rows[0].value) && std::isnan(printed)))
          << rows[0].value << " and " << printed;
    }
    return printed;
  }
};

TEST_F(NonfiniteTest, EachKindInAGradientIsCountedAndTheRestIsMeasured) {
  Trainer& trainer = Start("grads");
  trainer.Step(3);
  trainer.Do("poison grad fc1.weight -inf 6");
  trainer.Do("poison grad fc1.weight inf 5");
  trainer.Do("poison grad fc1.weight nan 3");
  trainer.Step(1);
  ASSERT_TRUE(trainer.Flush());
  const auto value = [&](const std::string& stat) {
    return Value("grads", 3, "fc1.weight", stat);
  };
  EXPECT_EQ(value("grad.nan"), 3);
  EXPECT_EQ(value("grad.pos_inf"), 2);
  EXPECT_EQ(value("grad.neg_inf"), 1);
  EXPECT_EQ(value("grad.nonfinite"), 6);
  EXPECT_EQ(value("grad.finite_fraction"), 26.0 / 32.0);
  for (const char* stat : {"grad.mean", "grad.std", "grad.l2", "grad.min",
                           "grad.max", "grad.abs_mean", "grad.ratio"}) {
    EXPECT_TRUE(std::isfinite(value(stat))) << stat;
  }
  // w - lr * g, momentum and all: the signs turn round.
  EXPECT_EQ(value("weight.nan"), 3);
  EXPECT_EQ(value("weight.neg_inf"), 2);
  EXPECT_EQ(value("weight.pos_inf"), 1);
  EXPECT_EQ(value("update.nan"), 3);
  EXPECT_EQ(value("update.neg_inf"), 2);
  EXPECT_EQ(value("update.pos_inf"), 1);
  EXPECT_EQ(Value("grads", 2, "fc1.weight", "grad.nonfinite"), 0);
  EXPECT_EQ(Value("grads", 3, "fc2.weight", "grad.nonfinite"), 0);
}

TEST_F(NonfiniteTest, InfinitiesInAParameterArriveAsCounts) {
  Trainer& trainer = Start("weights");
  trainer.Step(2);
  trainer.Do("poison weight fc2.weight -inf 3");
  trainer.Do("poison weight fc2.weight inf 2");
  trainer.Step(1);
  ASSERT_TRUE(trainer.Flush());
  EXPECT_EQ(Value("weights", 2, "fc2.weight", "weight.pos_inf"), 2);
  EXPECT_EQ(Value("weights", 2, "fc2.weight", "weight.neg_inf"), 1);
  EXPECT_EQ(Value("weights", 2, "fc2.weight", "weight.nan"), 0);
  EXPECT_EQ(Value("weights", 2, "fc2.weight", "update.pos_inf"), 2);
  EXPECT_EQ(Value("weights", 2, "fc2.weight", "update.neg_inf"), 1);
  EXPECT_TRUE(std::isfinite(Value("weights", 2, "fc2.weight", "weight.l2")));
}

TEST_F(NonfiniteTest, ATensorWithoutAFiniteElementHasNaNAndItsCounts) {
  Trainer& trainer = Start("all-nan");
  trainer.Step(1);
  trainer.Do("poison grad fc2.bias nan 0");
  trainer.Step(1);
  ASSERT_TRUE(trainer.Flush());
  const auto value = [&](const std::string& stat) {
    return Value("all-nan", 1, "fc2.bias", stat);
  };
  for (const char* stat :
       {"grad.mean", "grad.std", "grad.abs_mean", "grad.min", "grad.max",
        "grad.rms", "grad.abs_max", "grad.variance"}) {
    EXPECT_TRUE(std::isnan(value(stat))) << stat;
  }
  EXPECT_EQ(value("grad.nan"), 2);
  EXPECT_EQ(value("grad.l2"), 0);
  EXPECT_EQ(value("grad.l1"), 0);
  EXPECT_EQ(value("grad.sum"), 0);
  EXPECT_EQ(value("grad.zero"), 0);
  EXPECT_EQ(value("grad.finite_fraction"), 0);
}

TEST_F(NonfiniteTest, TheTableSaysNaNToo) {
  Trainer& trainer = Start("table");
  trainer.Step(1);
  trainer.Do("poison grad fc2.bias nan 0");
  trainer.Step(1);
  ASSERT_TRUE(trainer.Flush());
  const std::string table = AskText({"snapshot", "table", "--step", "1",
                                     "--stat", "grad.mean,grad.nan", "--match",
                                     "^fc2.bias$", "--output", "table"});
  EXPECT_THAT(table, HasSubstr("NaN"));
  EXPECT_THAT(table, HasSubstr("2"));
  const std::string series =
      AskText({"series", "table", "--stat", "grad.mean", "--match",
               "^fc2.bias$", "--steps", "1:", "--output", "table"});
  EXPECT_THAT(series, HasSubstr("NaN"));
  const Csv csv = AskCsv({"snapshot", "table", "--step", "1", "--stat",
                          "grad.mean,grad.nan", "--match", "^fc2.bias$"});
  ASSERT_EQ(csv.rows(), 1u);
  EXPECT_EQ(csv.At(0, "grad.mean"), "NaN");
  EXPECT_EQ(csv.At(0, "grad.nan"), "2");
}

TEST_F(NonfiniteTest, ScalarsThatAreNotFiniteAreKept) {
  Trainer& trainer = Start("scalars");
  for (const char* value : {"inf", "-inf", "nan"}) {
    trainer.Do(std::string("scalar ") + value);
    trainer.Step(1);
  }
  ASSERT_TRUE(trainer.Flush());
  const Csv csv = AskCsv({"series", "scalars", "--stat", "scalar.extra"});
  ASSERT_EQ(csv.rows(), 3u);
  EXPECT_EQ(csv.At(0, "value"), "Infinity");
  EXPECT_EQ(csv.At(1, "value"), "-Infinity");
  EXPECT_EQ(csv.At(2, "value"), "NaN");
  const std::vector<SeriesRow> rows = ParseSeries(AskText(
      {"series", "scalars", "--stat", "scalar.extra", "--output", "json"}));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].value, kInfinity);
  EXPECT_EQ(rows[1].value, -kInfinity);
  EXPECT_TRUE(std::isnan(rows[2].value));
  const std::string table = AskText(
      {"series", "scalars", "--stat", "scalar.extra", "--output", "table"});
  EXPECT_THAT(table, HasSubstr("-Infinity"));
  EXPECT_THAT(table, HasSubstr("NaN"));
}

TEST_F(NonfiniteTest, TrainingThatHasGoneToNaNIsRecordedToTheEnd) {
  Trainer& trainer = Start("gone");
  trainer.Step(2);
  trainer.Do("poison grad fc1.weight nan 0");
  trainer.Step(20);
  ASSERT_TRUE(trainer.Flush());
  const Csv csv = AskCsv(
      {"series", "gone", "--stat", "weight.nan", "--match", "^fc1.weight$"});
  ASSERT_EQ(csv.rows(), 22u);
  for (std::size_t row = 0; row < csv.rows(); ++row) {
    EXPECT_EQ(csv.At(row, "value"), row < 2 ? "0" : "32") << row;
  }
}

}  // namespace
}  // namespace gradtap::testing
