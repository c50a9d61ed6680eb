#include "client/cli/export_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gradtap::client {
namespace {

using ::testing::ElementsAre;

v1::Series& Add(std::uint32_t rank, const std::string& parameter,
                const std::string& statistic,
                const std::vector<std::int64_t>& steps,
                v1::GetSeriesResponse& chunk) {
  v1::Series& series = *chunk.add_series();
  series.set_run("r");
  series.set_rank(rank);
  series.set_parameter(parameter);
  series.set_statistic(statistic);
  for (const std::int64_t step : steps) {
    series.add_attempt(1);
    series.add_step(step);
    series.add_time_unix_ns(1);
    series.add_value(static_cast<double>(step));
  }
  return series;
}

std::vector<std::string> Rows(const v1::GetSeriesResponse& chunk) {
  std::vector<std::string> rows;
  ForEachRow(chunk, [&](const ExportRow& row) {
    std::string text = std::to_string(row.rank) + "/" +
                       std::to_string(row.step) + "/" +
                       std::string(row.parameter);
    for (const auto& entry : row.entries) {
      text +=
          " " + std::string(entry.statistic) + (entry.value ? "" : "=absent");
    }
    rows.push_back(text);
    return true;
  });
  return rows;
}

TEST(ExportRowsTest, RowsGoByRankThenStepThenParameter) {
  v1::GetSeriesResponse chunk;
  Add(1, "a", "x", {0}, chunk);
  Add(0, "a", "x", {0, 2}, chunk);
  Add(0, "b", "x", {0, 1, 2}, chunk).add_absent(1);
  Add(0, "a", "y", {2}, chunk);
  EXPECT_THAT(Rows(chunk), ElementsAre("0/0/a x", "0/0/b x", "0/1/b x=absent",
                                       "0/2/a x y", "0/2/b x", "1/0/a x"));
}

TEST(ExportRowsTest, AStopIsObeyed) {
  v1::GetSeriesResponse chunk;
  Add(0, "a", "x", {0, 1, 2}, chunk);
  int rows = 0;
  EXPECT_FALSE(ForEachRow(chunk, [&](const ExportRow&) { return ++rows < 2; }));
  EXPECT_EQ(rows, 2);
}

TEST(ExportRowsTest, SeriesThatAPeerCutShortLoseTheirUnevenEnd) {
  v1::GetSeriesResponse chunk;
  Add(0, "a", "x", {0, 1, 2}, chunk).mutable_value()->RemoveLast();
  EXPECT_THAT(Rows(chunk), ElementsAre("0/0/a x", "0/1/a x"));
}

TEST(ExportRowsTest, BothFormsCarryTheSameRow) {
  ExportRow row;
  row.run = "r";
  row.attempt = 2;
  row.rank = 4294967295u;
  row.step = 7;
  row.time_unix_ns = 1'700'000'000'000'000'000;
  row.parameter = "a,b";
  row.entries = {{"grad.mean", std::nullopt}, {"weight.mean", -0.0}};
  EXPECT_EQ(ExportCsv(row, {}),
            "r,2,merged,7,2023-11-14T22:13:20.000000000Z,\"a,b\",grad.mean,\n"
            "r,2,merged,7,2023-11-14T22:13:20.000000000Z,\"a,b\",weight.mean,"
            "-0\n");
  EXPECT_EQ(ExportJsonLine(row),
            "{\"run\":\"r\",\"attempt\":2,\"rank\":4294967295,\"step\":7,"
            "\"time\":\"2023-11-14T22:13:20.000000000Z\",\"param\":\"a,b\","
            "\"grad.mean\":null,\"weight.mean\":-0.0}\n");
}

}  // namespace
}  // namespace gradtap::client
