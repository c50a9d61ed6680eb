// The rows of one step that make up an answer: one rank's, or those of all
// ranks that have it.
//
// Layer: server/query. This file: std, absl; no grpc.

#ifndef GRADTAP_SERVER_QUERY_RANK_ROWS_H_
#define GRADTAP_SERVER_QUERY_RANK_ROWS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/query/merge.h"
#include "server/query/row_reader.h"
#include "server/query/run_view.h"
#include "server/query/step_histograms.h"
#include "server/store/store.h"

namespace gradtap::server {

struct StepQuestion {
  // As in FindRow(): unset, negative from the end, or that very step.
  std::optional<std::int64_t> step;
  std::uint32_t attempt = 0;
  // Only steps that have histograms count.
  bool histograms = false;
  // The newest step is the newest that every rank has come to, also where no
  // rank has a part of its own: ranks may have different parameters.
  bool all_ranks = false;
};

struct RankRows {
  Row lead;                   // Of the lowest rank that has the step.
  std::vector<RankRow> rows;  // By rank, with their schemas.
};

// Of all ranks. With shards the newest step is the newest that every rank has
// come to. kNotFound as of FindRow() and FindHistogramRow().
absl::StatusOr<RankRows> FindMergedRows(Store* store, const RunView& run,
                                        const StepQuestion& question,
                                        SchemaCache* schemas,
                                        ReadBudget* budget);

// Of one rank alone.
absl::StatusOr<RankRows> FindRankRow(Store* store, const RunView& run,
                                     std::uint32_t rank,
                                     const StepQuestion& question,
                                     SchemaCache* schemas, ReadBudget* budget);

// Reads the blocks of each row, where the step of that rank has histograms.
// `blocks` has one set a row.
absl::Status ReadHistograms(Store* store, const std::vector<BlockSet>& blocks,
                            RankRows* rows, ReadBudget* budget);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_RANK_ROWS_H_
