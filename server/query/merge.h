// Which ranks' rows make up one merged value.
//
// Shards of a parameter merge; of replicas the lowest rank that has the step is
// taken. Local gradients are each rank's own, also of a replica: they merge as
// shards do. A part that is not there makes the value missing at that step.
//
// Layer: server/query. This file: std, absl; no grpc.

#ifndef GRADTAP_SERVER_QUERY_MERGE_H_
#define GRADTAP_SERVER_QUERY_MERGE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/codec.h"
#include "core/name_filter.h"
#include "core/schema.h"
#include "server/query/run_view.h"
#include "server/query/selection.h"
#include "server/query/step_histograms.h"

namespace gradtap::server {

// How a merged series or snapshot names its rank.
inline constexpr std::uint32_t kMergedRank = 4294967295u;

// One rank's row of the step that is merged.
struct RankRow {
  std::uint32_t rank = 0;
  Segment segment;  // Of the line that the row is on.
  std::shared_ptr<const StoredStep> step;
  std::shared_ptr<const SchemaIndex> index;
  // Null: the step has none, or nothing needs them.
  std::shared_ptr<const StepHistograms> histograms;
};

struct MergedParameter {
  const Parameter* parameter = nullptr;  // Of the lowest rank that has it.
  struct Source {
    std::size_t row = 0;  // Into the rows of the plan.
    const Places* places = nullptr;
  };
  std::vector<Source> sources;  // Empty: missing.
  std::vector<Source> locals;   // Of grad_local. Empty: missing.

  const std::vector<Source>& SourcesOf(Role role) const {
    return role == Role::kGradLocal ? locals : sources;
  }
};

// A plan holds for all steps with rows of the same ranks and schemas.
struct MergePlan {
  std::vector<std::shared_ptr<const SchemaIndex>> indexes;  // Kept alive.
  std::vector<MergedParameter> parameters;  // Those that `match` passes.
  // Schemas of the ranks that belong to it but have no row at this step.
  std::vector<std::shared_ptr<const SchemaIndex>> missing;
};

// `rows` are of one attempt, by rank; `ranks` are those asked for (empty: all
// that the attempt's world has). An attempt in which fewer ranks were seen than
// its world size has no complete shards.
absl::StatusOr<MergePlan> PlanMerge(const RunView& run, std::uint32_t attempt,
                                    const std::vector<std::uint32_t>& ranks,
                                    const std::vector<RankRow>& rows,
                                    const NameFilter& match,
                                    SchemaCache* schemas);

// The blocks of the rank at `row` of the plan that a statistic needs.
void AddBlocks(const Statistic& statistic, const MergedParameter& parameter,
               std::size_t row, BlockSet* blocks);

// What the value of a role of one parameter is made of. Empty: missing.
std::vector<Part> PartsOf(Role role, const MergedParameter& parameter,
                          const std::vector<RankRow>& rows);

// The value of one parameter of the plan; nothing: missing.
std::optional<Value> EvaluatePlanned(const Statistic& statistic,
                                     const MergedParameter& parameter,
                                     const std::vector<RankRow>& rows);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_MERGE_H_
