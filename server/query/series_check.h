// Whether what a series query names exists at all.
//
// Layer: server/query. This file: std, absl; no grpc.

#ifndef GRADTAP_SERVER_QUERY_SERIES_CHECK_H_
#define GRADTAP_SERVER_QUERY_SERIES_CHECK_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/name_filter.h"
#include "server/query/parameter_group.h"
#include "server/query/row_reader.h"
#include "server/query/run_view.h"
#include "server/query/selection.h"

namespace gradtap::server {

// kNotFound if the pattern matches no parameter of any schema of the runs, or
// if no parameter that it matches has one of the statistics. Runs without a
// schema yet pass. Without statistics only the pattern is checked.
absl::Status CheckParameters(const std::vector<RunView>& runs,
                             std::uint32_t attempt,
                             const StatisticSelection& statistics,
                             const NameFilter& match,
                             const std::string& pattern, SchemaCache* schemas);

// The same of each group: of the parameters that `match` passes, one must match
// its pattern, and have each statistic.
absl::Status CheckGroups(const std::vector<RunView>& runs,
                         std::uint32_t attempt,
                         const StatisticSelection& statistics,
                         const NameFilter& match, const ParameterGroups& groups,
                         SchemaCache* schemas);

// kNotFound if a scalar that was asked for by name is in none of the rows that
// were read (`seen`) nor among the newest of the lines.
absl::Status CheckScalars(Store* store, const std::vector<RunView>& runs,
                          std::uint32_t attempt,
                          const StatisticSelection& statistics,
                          const std::set<std::string, std::less<>>& seen,
                          ReadBudget* budget);

// kNotFound for a pattern that matches none of `names`.
absl::Status NothingMatches(const std::string& run, const std::string& pattern,
                            const std::vector<std::string>& names);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_SERIES_CHECK_H_
