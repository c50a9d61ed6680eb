// The rows of a run step by step: of one rank, or of all ranks together.
//
// Layer: server/query. This file: std, absl; no grpc. Not thread-safe.

#ifndef GRADTAP_SERVER_QUERY_STEP_STREAM_H_
#define GRADTAP_SERVER_QUERY_STEP_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/query/line.h"
#include "server/query/merge.h"
#include "server/query/row_reader.h"
#include "server/query/run_view.h"
#include "server/store/store.h"

namespace gradtap::server {

// Streams and schemas of the rows of a step: a MergePlan holds for all steps
// with the same.
using RowsKey = std::vector<std::pair<StreamId, std::uint32_t>>;

class StepStream {
 public:
  // What is pointed to, and the RunEntry that the lines are of, must outlive
  // it; `hook` as of RowReader. Holds at most about `block_bytes`, or one row,
  // a line.
  StepStream(Store* store, std::vector<Line> lines, const StepWindow& window,
             std::size_t block_bytes, SchemaCache* schemas, ReadBudget* budget,
             WindowHook hook = {});

  // Goes to the next step that any rank has; false at the end. Until the next
  // call the rest is about that step. Its errors are also those of having read
  // the one before.
  absl::StatusOr<bool> Next();

  std::int64_t step() const { return step_; }
  std::uint32_t attempt() const { return attempt_; }
  // Of the lowest rank that has it, statistics or not.
  const StoredStep& lead() const { return *lead_; }
  // Those that have statistics, by rank, with their schemas; may be empty.
  const std::vector<RankRow>& recorded() const { return recorded_; }
  const RowsKey& key() const { return key_; }

 private:
  absl::Status Take(std::size_t line);

  SchemaCache* const schemas_;
  std::vector<std::uint32_t> ranks_;  // Of the readers.
  std::vector<RowReader> readers_;
  std::vector<RankRow> recorded_;
  std::shared_ptr<const StoredStep> lead_;
  RowsKey key_;
  std::int64_t step_ = -1;
  std::uint32_t attempt_ = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_STEP_STREAM_H_
