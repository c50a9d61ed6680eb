// A series from its roll-ups: what a long stretch of steps looks like without
// reading them.
//
// Layer: server/query. This file: std, absl; no grpc.

#ifndef GRADTAP_SERVER_QUERY_ROLLED_SERIES_H_
#define GRADTAP_SERVER_QUERY_ROLLED_SERIES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/statistic.h"
#include "server/query/line.h"
#include "server/query/row_reader.h"
#include "server/query/selection.h"
#include "server/query/series_set.h"
#include "server/store/store.h"

namespace gradtap::server {

// Points that a series must have for each that is asked for, lest its steps are
// read themselves. A bucket is then of some 70 steps or more: of a roll-up at
// least.
inline constexpr std::uint64_t kRolledFactor = 32;

// A parameter in one schema of the stream.
struct RolledPart {
  std::uint32_t schema_id = 0;
  const Places* places = nullptr;
};

// False if the statistic is never rolled up: the others are, of which
// AddRolledUp() may still have to say that it does not hold for some steps.
bool CanBeRolledUp(const Statistic& statistic);

// True if it is rolled up as it is, or as its square root: of any steps.
bool RollsUpAlways(const Statistic& statistic);

// Adds the series over `span`, which Store::RolledUp() has said, of a segment's
// branch. False if steps have to be read instead, and nothing was added then.
absl::StatusOr<bool> AddRolledUp(Store* store, const Segment& segment,
                                 const RolledSpan& span,
                                 const Statistic& statistic,
                                 const std::vector<RolledPart>& parts,
                                 ReadBudget* budget, SeriesSet* series,
                                 DownSampler* sampler);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_ROLLED_SERIES_H_
