#include "client/cli/heat_map_view.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "client/cli/text.h"

namespace gradtap::client {
namespace {

constexpr const char* kShades[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::string_view kPlainShades = ".:-=+*#@";
static_assert(std::size(kShades) == kHeatMapLevels &&
              kPlainShades.size() == kHeatMapLevels);

constexpr std::uint8_t kNonfinite = 1;
constexpr std::uint8_t kAbsent = 2;

std::string Shade(int level, bool utf8) {
  if (utf8) return kShades[level - 1];
  return std::string(1, kPlainShades[static_cast<std::size_t>(level - 1)]);
}

std::uint8_t FlagsOf(const v1::HeatMapRow& row, int column) {
  const auto at = static_cast<std::size_t>(column);
  return at < row.flags().size() ? static_cast<std::uint8_t>(row.flags()[at])
                                 : 0;
}

}  // namespace

HeatMapScale ScaleOf(const v1::GetHeatMapResponse& map) {
  HeatMapScale scale;
  for (const v1::HeatMapRow& row : map.rows()) {
    for (const float value : row.worst()) {
      const double magnitude = std::fabs(value);
      if (!std::isfinite(magnitude) || magnitude == 0) continue;
      if (scale.most == 0) scale.least = magnitude;
      scale.least = std::min(scale.least, magnitude);
      scale.most = std::max(scale.most, magnitude);
    }
  }
  return scale;
}

int HeatMapScale::LevelOf(double value) const {
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return 0;
  const double width = std::log(most) - std::log(least);
  if (!(width > 0)) return kHeatMapLevels;
  const double share = (std::log(magnitude) - std::log(least)) / width;
  return std::clamp(1 + static_cast<int>(share * kHeatMapLevels), 1,
                    kHeatMapLevels);
}

std::string HeatMapStrip(const v1::HeatMapRow& row, const HeatMapScale& scale,
                         bool utf8) {
  std::string strip;
  for (int i = 0; i < row.worst_size(); ++i) {
    const std::uint8_t flags = FlagsOf(row, i);
    const float value = row.worst(i);
    if ((flags & kNonfinite) != 0) {
      strip += utf8 ? "×" : "x";
    } else if (std::isnan(value)) {
      strip += (flags & kAbsent) != 0 ? "-" : " ";
    } else {
      const int level = scale.LevelOf(value);
      strip += level == 0 ? "0" : Shade(level, utf8);
    }
  }
  return strip;
}

std::string HeatMapLegend(const v1::GetHeatMapResponse& map,
                          const HeatMapScale& scale, bool utf8) {
  std::string text;
  if (scale.most > 0) {
    absl::StrAppend(&text, Shade(1, utf8), " ", HumanNumber(scale.least), "  ",
                    Shade(kHeatMapLevels, utf8), " ", HumanNumber(scale.most),
                    " (logarithmic)  ");
  }
  absl::StrAppend(&text, utf8 ? "×" : "x", " not finite");
  if (map.buckets().empty()) return text;
  absl::StrAppend(&text, "\n", map.buckets(0).first_step(), " to ",
                  map.buckets(map.buckets_size() - 1).last_step(), ", ",
                  Plural(map.bucket_steps(), "recorded step"), " a column");
  return text;
}

}  // namespace gradtap::client
