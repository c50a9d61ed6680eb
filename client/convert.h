// Between the public structs of gradtap/client.h and the wire's messages.
//
// Layer: client. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CONVERT_H_
#define GRADTAP_CLIENT_CONVERT_H_

#include "absl/status/status.h"
#include "client/include/gradtap/client.h"
#include "gradtap/v1/query.pb.h"
#include "gradtap/v1/upkeep.pb.h"

namespace gradtap::client {

Error ToError(const absl::Status& status);

ParameterKind ToKind(v1::Kind kind);
v1::StepRange ToRange(const StepSlice& slice);
RunSummary FromProto(const v1::RunInfo& in);
RunDetails FromProto(const v1::GetRunResponse& in);
ParameterList FromProto(const v1::ListParametersResponse& in);
// Columns of a series that do not have one entry each for every point are cut
// to the shortest; absent indexes that point nowhere are ignored.
SeriesAnswer FromProto(const v1::GetSeriesResponse& in);
SnapshotAnswer FromProto(const v1::GetSnapshotResponse& in);
// Numbers that are no bin are left out.
HistogramsAnswer FromProto(const v1::GetHistogramsResponse& in);
// A row gets one entry for each bucket: what a peer left out is missing, what
// it has beyond them is left out.
HeatMapAnswer FromProto(const v1::GetHeatMapResponse& in);
TopAnswer FromProto(const v1::GetTopResponse& in);
CompareAnswer FromProto(const v1::CompareRunsResponse& in);
GapEntry FromProto(const v1::GapInfo& in);
GapList FromProto(const v1::ListGapsResponse& in);
BackupResult FromProto(const v1::BackupResponse& in);
CompactResult FromProto(const v1::CompactResponse& in);
CollectorStatus FromProto(const v1::GetStatusResponse& in);
WatchEvent FromProto(const v1::WatchResponse& in);

v1::ListRunsRequest ToProto(const RunsQuery& in);
v1::ListParametersRequest ToProto(const ParametersQuery& in);
v1::GetSeriesRequest ToProto(const SeriesQuery& in);
v1::GetSnapshotRequest ToProto(const SnapshotQuery& in);
v1::GetHistogramsRequest ToProto(const HistogramsQuery& in);
v1::GetHeatMapRequest ToProto(const HeatMapQuery& in);
v1::GetTopRequest ToProto(const TopQuery& in);
v1::CompareRunsRequest ToProto(const CompareQuery& in);
v1::ListGapsRequest ToProto(const GapsQuery& in);
v1::WatchRequest ToProto(const WatchQuery& in);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CONVERT_H_
