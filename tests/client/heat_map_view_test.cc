#include "client/cli/heat_map_view.h"

#include <gtest/gtest.h>

#include <cmath>
#include <initializer_list>
#include <string>

namespace gradtap::client {
namespace {

v1::HeatMapRow Row(std::initializer_list<float> worst, std::string flags = "") {
  v1::HeatMapRow row;
  for (const float value : worst) row.add_worst(value);
  row.set_flags(std::move(flags));
  return row;
}

TEST(HeatMapViewTest, ShadesAreLogarithmicOverTheWholeMap) {
  v1::GetHeatMapResponse map;
  *map.add_rows() = Row({1e-4F, 1e-2F, 0});
  *map.add_rows() = Row({-1e4F, NAN, INFINITY});
  const HeatMapScale scale = ScaleOf(map);
  EXPECT_FLOAT_EQ(scale.least, 1e-4);
  EXPECT_FLOAT_EQ(scale.most, 1e4);
  EXPECT_EQ(scale.LevelOf(1e-4), 1);
  EXPECT_EQ(scale.LevelOf(2), 5);
  EXPECT_EQ(scale.LevelOf(-1e4), kHeatMapLevels);
  EXPECT_EQ(scale.LevelOf(0), 0);
}

TEST(HeatMapViewTest, OneValueIsTheFullShade) {
  v1::GetHeatMapResponse map;
  *map.add_rows() = Row({3, 3});
  EXPECT_EQ(HeatMapStrip(map.rows(0), ScaleOf(map), true), "██");
  EXPECT_EQ(HeatMapStrip(map.rows(0), ScaleOf(map), false), "@@");
}

TEST(HeatMapViewTest, WhatIsNotFiniteCoversTheRest) {
  const HeatMapScale scale{1e-4, 1e4};
  const v1::HeatMapRow row =
      Row({2, 1, NAN, NAN, NAN, 0, 1e-4F}, std::string("\0\1\1\2\0\0\2", 7));
  EXPECT_EQ(HeatMapStrip(row, scale, false), "+xx- 0.");
  EXPECT_EQ(HeatMapStrip(row, scale, true), "▅××- 0▁");
}

TEST(HeatMapViewTest, TheLegendTellsScaleAndColumns) {
  v1::GetHeatMapResponse map;
  map.set_bucket_steps(64);
  v1::HeatMapBucket bucket;
  bucket.set_first_step(0);
  bucket.set_last_step(70);
  *map.add_buckets() = bucket;
  EXPECT_EQ(HeatMapLegend(map, {0.5, 2}, false),
            ". 0.5  @ 2 (logarithmic)  x not finite\n"
            "0 to 70, 64 recorded steps a column");
  EXPECT_EQ(HeatMapLegend(v1::GetHeatMapResponse(), {}, true), "× not finite");
}

}  // namespace
}  // namespace gradtap::client
