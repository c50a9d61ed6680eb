// Questions about runs, their parameters and the collector itself.
//
// Layer: server/query. This file: std, absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_RUN_QUERY_H_
#define GRADTAP_SERVER_QUERY_RUN_QUERY_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "core/schema.h"
#include "core/sync.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"
#include "server/query/run_view.h"

namespace gradtap::server {

// Shares of step time by run, as of an ordinal: reading the newest steps of
// each run again for every ListRuns would be the costliest part of it.
// Thread-safe.
class OverheadCache {
 public:
  // sum(agent.capture_seconds) / sum(agent.step_seconds) of the newest steps,
  // at most 64 and 4 MiB of them, that have both; NaN: unknown.
  absl::StatusOr<double> Get(Store* store, const RunView& run, const Line& line,
                             const Cancelled& cancelled)
      ABSL_LOCKS_EXCLUDED(mu_);
  void Forget(const std::string& run) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Known {
    std::uint64_t ordinal = 0;
    std::int64_t created_unix_ns = 0;
    double overhead = 0;
  };
  Mutex mu_;
  std::map<std::string, Known> known_ ABSL_GUARDED_BY(mu_);
};

void ToProto(const Parameter& parameter, v1::Parameter* out);

absl::StatusOr<v1::RunInfo> DescribeRun(const QueryEnvironment& environment,
                                        const RunView& run,
                                        const Cancelled& cancelled,
                                        OverheadCache* overheads);

absl::Status ListRuns(const QueryEnvironment& environment,
                      const v1::ListRunsRequest& request,
                      const Cancelled& cancelled, OverheadCache* overheads,
                      v1::ListRunsResponse* response);

absl::Status GetRun(const QueryEnvironment& environment,
                    const v1::GetRunRequest& request,
                    const Cancelled& cancelled, OverheadCache* overheads,
                    v1::GetRunResponse* response);

absl::Status ListParameters(const QueryEnvironment& environment,
                            const v1::ListParametersRequest& request,
                            const Cancelled& cancelled,
                            v1::ListParametersResponse* response);

absl::Status DeleteRun(const QueryEnvironment& environment,
                       const v1::DeleteRunRequest& request,
                       OverheadCache* overheads,
                       v1::DeleteRunResponse* response);

absl::Status PinRun(const QueryEnvironment& environment,
                    const v1::PinRunRequest& request,
                    v1::PinRunResponse* response);

absl::Status GetStatus(const QueryEnvironment& environment,
                       v1::GetStatusResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_RUN_QUERY_H_
