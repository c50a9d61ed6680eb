// The records of one step, found and planned: of one rank, or merged.
//
// Layer: server/query. This file: std, absl; no grpc.

#ifndef GRADTAP_SERVER_QUERY_STEP_RECORDS_H_
#define GRADTAP_SERVER_QUERY_STEP_RECORDS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/name_filter.h"
#include "server/query/merge.h"
#include "server/query/rank_rows.h"
#include "server/query/row_reader.h"
#include "server/query/run_view.h"
#include "server/query/sample.h"
#include "server/query/selection.h"
#include "server/store/store.h"

namespace gradtap::server {

struct RecordsQuestion {
  StepQuestion step;
  std::uint32_t rank = 0;
  bool merged = false;  // Over all ranks; `rank` means nothing then.
};

struct StepRecords {
  RankRows found;
  MergePlan plan;

  const std::vector<RankRow>& rows() const { return found.rows; }
};

// One rank's row is planned as a merge of one. kNotFound as of FindRow().
absl::StatusOr<StepRecords> FindStepRecords(Store* store, const RunView& run,
                                            const RecordsQuestion& question,
                                            const NameFilter& match,
                                            SchemaCache* schemas,
                                            ReadBudget* budget);

// Reads the histograms that quantiles among the statistics need.
absl::Status ReadBlocksOf(Store* store,
                          const std::vector<const Statistic*>& statistics,
                          StepRecords* records, ReadBudget* budget);

// The first error of reading any of them: what was evaluated means nothing
// then.
absl::Status ReadStatus(const std::vector<RankRow>& rows);

// True if it counts elements: "grad.nan", "weight.zero_fraction".
bool CountsElements(Field field);

// Nothing: missing.
std::optional<Sample> SampleOf(const Statistic& statistic,
                               const MergedParameter& parameter,
                               const std::vector<RankRow>& rows);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_STEP_RECORDS_H_
