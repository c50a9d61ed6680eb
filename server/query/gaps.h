// Steps that are not there, as answers name them.
//
// A gap is either a stored one, or a row that carries scalars only because its
// statistics were SKIPPED. Neighbours of the same cause are joined.
//
// Layer: server/query. This file: std, absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_GAPS_H_
#define GRADTAP_SERVER_QUERY_GAPS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "core/step_data.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"
#include "server/query/line.h"
#include "server/query/run_view.h"
#include "server/store/stored_step.h"

namespace gradtap::server {

v1::GapInfo MakeGap(std::uint32_t attempt, std::uint32_t rank,
                    std::uint32_t branch, const GapData& gap);
// The gap that a scalars-only row is.
GapData GapOfSkippedRow(const StoredStep& step);

// Those that the skipped rows of a sealed window are.
std::vector<GapData> SkippedRowsOf(const TimelineView& window);

// Sorts by attempt, rank, branch and first step, and joins gaps of the same
// cause and detail whose steps follow each other.
void SortAndJoin(std::vector<v1::GapInfo>* gaps);

// Joins further, gaps of one cause whatever lies between them, until at most
// about `max_gaps` are left: the number of steps stays exact, their places are
// ranges then.
void Coalesce(std::size_t max_gaps, std::vector<v1::GapInfo>* gaps);

// The steps of a branch that have come to their roll-ups within [begin, end),
// as one gap; its number of steps is exact if all of them are asked for.
std::optional<GapData> RolledUpGap(const Branch& branch, std::int64_t begin,
                                   std::int64_t end);

// Adds the stored gaps of a line that touch `window`, cut to the segments that
// hold them.
absl::Status AddStoredGaps(Store* store, const Line& line,
                           const StepWindow& window,
                           std::vector<v1::GapInfo>* gaps);

// The whole query.
absl::Status ListGaps(const QueryEnvironment& environment,
                      const v1::ListGapsRequest& request,
                      const Cancelled& cancelled,
                      v1::ListGapsResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_GAPS_H_
