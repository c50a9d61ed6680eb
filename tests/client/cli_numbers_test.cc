// Numbers come back bit for bit from CSV and JSON.

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

#include "client/cli_run.h"

namespace gradtap::client::testing {
namespace {

// Every class of float32, as the doubles that the wire carries.
std::vector<double> EveryClassOfFloat() {
  using Limits = std::numeric_limits<float>;
  std::vector<double> values = {0.0,
                                -0.0,
                                1.0,
                                -1.0,
                                0.1f,
                                Limits::quiet_NaN(),
                                Limits::infinity(),
                                -Limits::infinity(),
                                Limits::max(),
                                Limits::lowest(),
                                Limits::min(),
                                -Limits::min(),
                                Limits::denorm_min(),
                                -Limits::denorm_min(),
                                std::nextafter(Limits::min(), 0.0f),
                                Limits::epsilon(),
                                16777216.0f,
                                16777217.0,
                                std::numeric_limits<double>::max(),
                                std::numeric_limits<double>::denorm_min()};
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    values.push_back(
        std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  }
  return values;
}

void ExpectSame(double back, double value) {
  if (std::isnan(value)) {
    EXPECT_TRUE(std::isnan(back));
  } else {
    EXPECT_EQ(std::bit_cast<std::uint64_t>(back),
              std::bit_cast<std::uint64_t>(value))
        << value << " came back as " << back;
  }
}

double FromText(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  EXPECT_EQ(*end, '\0') << text;
  return value;
}

class CliNumbersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["zoo"] = MakeValues("zoo", values_);
    collector_.Start();
  }

  const std::vector<double> values_ = EveryClassOfFloat();
  FakeCollector collector_;
};

TEST_F(CliNumbersTest, ThroughCsv) {
  const auto rows = ReadCsv(RunCli(collector_, {"series", "zoo", "--stat",
                                                "weight.mean", "-o", "csv"})
                                .out);
  ASSERT_EQ(rows.size(), values_.size() + 1);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    ExpectSame(FromText(rows[i + 1][7]), values_[i]);
  }
  EXPECT_EQ(rows[2][7], "-0");
  EXPECT_EQ(rows[6][7], "NaN");
  EXPECT_EQ(rows[7][7], "Infinity");
  EXPECT_EQ(rows[8][7], "-Infinity");
}

TEST_F(CliNumbersTest, ThroughJson) {
  v1::GetSeriesResponse answer;
  const CliResult result =
      RunCli(collector_, {"series", "zoo", "--stat", "weight.mean", "--json"});
  ASSERT_TRUE(
      google::protobuf::util::JsonStringToMessage(result.out, &answer).ok());
  ASSERT_EQ(answer.series_size(), 1);
  ASSERT_EQ(answer.series(0).value_size(), static_cast<int>(values_.size()));
  for (std::size_t i = 0; i < values_.size(); ++i) {
    ExpectSame(answer.series(0).value(static_cast<int>(i)), values_[i]);
  }
}

TEST_F(CliNumbersTest, ThroughAnExportInCsv) {
  const auto rows = ReadCsv(
      RunCli(collector_, {"export", "zoo", "--stat", "weight.mean"}).out);
  ASSERT_EQ(rows.size(), values_.size() + 1);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    ExpectSame(FromText(rows[i + 1][7]), values_[i]);
  }
}

TEST_F(CliNumbersTest, ThroughAnExportInJsonLines) {
  const auto lines =
      Lines(RunCli(collector_, {"export", "zoo", "--stat", "weight.mean",
                                "--format", "jsonl"})
                .out);
  ASSERT_EQ(lines.size(), values_.size());
  const std::string key = "\"weight.mean\":";
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const std::size_t begin = lines[i].find(key) + key.size();
    std::string text = lines[i].substr(begin, lines[i].size() - begin - 1);
    if (text.front() == '"') text = text.substr(1, text.size() - 2);
    ExpectSame(FromText(text), values_[i]);
  }
}

}  // namespace
}  // namespace gradtap::client::testing
