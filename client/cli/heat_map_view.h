// A heat map as lines of text: one a parameter, one character a column.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_HEAT_MAP_VIEW_H_
#define GRADTAP_CLIENT_CLI_HEAT_MAP_VIEW_H_

#include <string>
#include <vector>

#include "client/cli/table.h"
#include "gradtap/v1/heat_map.pb.h"

namespace gradtap::client {

// The magnitudes that the levels of shade stand for: all of the map's finite
// values but zero, on a logarithmic scale.
struct HeatMapScale {
  double least = 0;  // 0: there is none.
  double most = 0;

  // 0 for a zero; else 1 to kHeatMapLevels, the larger the more.
  int LevelOf(double value) const;
};
inline constexpr int kHeatMapLevels = 8;
HeatMapScale ScaleOf(const v1::GetHeatMapResponse& map);

// The strip of one row. A column with what is not finite is an "x", whatever
// else it has; zero is "0"; absent "-"; nothing recorded a blank.
std::string HeatMapStrip(const v1::HeatMapRow& row, const HeatMapScale& scale,
                         bool utf8);
// What the characters mean.
std::string HeatMapLegend(const v1::GetHeatMapResponse& map,
                          const HeatMapScale& scale, bool utf8);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_HEAT_MAP_VIEW_H_
