// All parameters at one step: GetSnapshot.
//
// Layer: server/query. This file: std, absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_SNAPSHOT_QUERY_H_
#define GRADTAP_SERVER_QUERY_SNAPSHOT_QUERY_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"
#include "server/query/merge.h"
#include "server/query/parameter_group.h"
#include "server/query/run_view.h"
#include "server/query/selection.h"

namespace gradtap::server {

// What a snapshot shows: the columns, the parameters, the scalars.
struct SnapshotSelection {
  StatisticSelection statistics;
  NameFilter match;
  // Instead of parameters, if there are any.
  ParameterGroups groups;
  // Scalars too, whatever their names; else those of `statistics`.
  bool all_scalars = true;
};

// Empty `names`: DefaultSnapshotStatistics() and all scalars; names without a
// scalar among them: all scalars as well.
absl::StatusOr<SnapshotSelection> ParseSnapshotSelection(
    const google::protobuf::RepeatedPtrField<std::string>& names,
    const std::string& match);

// Where the parameters stand in a schema that a selection shows.
std::vector<std::size_t> PlacesShown(const SnapshotSelection& selection,
                                     const Schema& schema);

// Renders one stored row. `places`: PlacesShown() of its schema, for who has
// them; null: they are found anew. A scalars-only step has no parameters, and a
// step without histograms no quantiles among its statistics.
// kResourceExhausted: more than limits.max_values.
absl::Status FillSnapshot(const QueryEnvironment& environment,
                          const std::string& run, std::uint32_t rank,
                          const Row& row, const SnapshotSelection& selection,
                          SchemaCache* schemas, ReadBudget* budget,
                          v1::GetSnapshotResponse* response,
                          const std::vector<std::size_t>* places = nullptr);

// With quantiles among the statistics only steps that have histograms count.
absl::Status GetSnapshot(const QueryEnvironment& environment,
                         const v1::GetSnapshotRequest& request,
                         const Cancelled& cancelled,
                         v1::GetSnapshotResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_SNAPSHOT_QUERY_H_
