// Rules over what is stored of a run: what they would have raised.
//
// Layer: server/health. This file: absl, query, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_HEALTH_RULES_REPLAY_H_
#define GRADTAP_SERVER_HEALTH_RULES_REPLAY_H_

#include <memory>

#include "absl/status/status.h"
#include "gradtap/v1/alert.pb.h"
#include "server/health/rules.h"
#include "server/query/environment.h"
#include "server/query/row_reader.h"

namespace gradtap::server {

// `rules` are the collector's, taken if the request brings none. The
// collector's times in alerts are those of a collector that heard each step
// when it was made (past_run.h). Reads all of the run, without a bound:
// kCancelled once nobody waits. Other errors: those of ParseRules(), of a run
// that is not there, and of reading it.
absl::Status TestRules(const QueryEnvironment& environment,
                       const std::shared_ptr<const Rules>& rules,
                       const v1::TestRulesRequest& request,
                       const Cancelled& cancelled,
                       v1::TestRulesResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_RULES_REPLAY_H_
