// What differs in how two runs were set up: tags, versions, host, parameters.
//
// Layer: server/query. This file: std, absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_RUN_DIFFERENCE_H_
#define GRADTAP_SERVER_QUERY_RUN_DIFFERENCE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/name_filter.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/run_view.h"

namespace gradtap::server {

// Differences of parameters that are listed.
inline constexpr std::uint64_t kMaxListedDifferences = 1'000;

// One of the two runs, as far as it is compared.
struct RunSide {
  const RunView* run = nullptr;
  std::uint32_t attempt = 0;         // 0: the newest.
  std::vector<std::uint32_t> ranks;  // The lowest stands for the run.
};

// Adds what differs between the newest streams of the lowest ranks, and between
// the tags of their attempts.
void AddRunDifferences(const RunSide& good, const RunSide& other,
                       v1::CompareRunsResponse* response);

// Adds what differs between the newest schemas of the ranks taken together (of
// a name that several have the lowest rank's counts), in the order of the good
// run's; then what only the other has. Parameters that `match` passes.
absl::Status AddParameterDifferences(const RunSide& good, const RunSide& other,
                                     const NameFilter& match,
                                     SchemaCache* schemas,
                                     v1::CompareRunsResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_RUN_DIFFERENCE_H_
