// Which runs a request is about, and whether they are the caller's.
//
// A request that names a run needs nothing here; one that names it otherwise,
// or none, has an overload of its own. Without either it does not compile.
//
// Layer: server/service. This file: std, absl, auth, store, gradtap_proto; no
// grpc.

#ifndef GRADTAP_SERVER_SERVICE_RUN_ACCESS_H_
#define GRADTAP_SERVER_SERVICE_RUN_ACCESS_H_

#include "absl/status/status.h"
#include "gradtap/v1/query.pb.h"
#include "server/auth/gate.h"
#include "server/store/store.h"

namespace gradtap::server {

// kPermissionDenied, counted, unless all runs that it is about are the
// caller's.
template <typename Request>
absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const Request& request_untrusted) {
  return gate->CheckRun(caller, request_untrusted.run());
}
absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::GetSeriesRequest& request_untrusted);
absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::CompareRunsRequest& request_untrusted);
// Of all runs, if they name none.
absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::ListAlertsRequest& request_untrusted);
absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::WatchAlertsRequest& request_untrusted);
// These are answered with the caller's own: KeepOwn().
absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::ListRunsRequest& request_untrusted);
absl::Status CheckRuns(Gate* gate, const Caller& caller,
                       const v1::GetStatusRequest& request_untrusted);

// Takes out of an answer what is about others' runs.
template <typename Response>
void KeepOwn(const Caller& /*caller*/, Response* /*answer*/) {}
void KeepOwn(const Caller& caller, v1::ListRunsResponse* answer);
void KeepOwn(const Caller& caller, v1::GetStatusResponse* answer);

// Of a run that is not there the status with the nearest of the caller's own;
// any other status as it is. Without this a status names no other run.
absl::Status WithOwnRuns(const Caller& caller, const Store& store,
                         const absl::Status& status);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_RUN_ACCESS_H_
