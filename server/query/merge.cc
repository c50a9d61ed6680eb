#include "server/query/merge.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace gradtap::server {
namespace {

// What is known of the ranks that have no row at this step.
struct MissingRanks {
  bool unknown = false;  // One of them may hold a shard of anything.
  std::vector<std::shared_ptr<const SchemaIndex>> indexes;

  bool MayHold(std::string_view name) const {
    if (unknown) return true;
    return std::any_of(
        indexes.begin(), indexes.end(),
        [name](const auto& index) { return index->Find(name) >= 0; });
  }
};

absl::StatusOr<MissingRanks> FindMissing(
    const RunView& run, std::uint32_t attempt,
    const std::vector<std::uint32_t>& ranks, const std::vector<RankRow>& rows,
    SchemaCache* schemas) {
  MissingRanks missing;
  const std::vector<std::uint32_t> expected =
      ranks.empty() ? run.Ranks(attempt) : ranks;
  const Attempt* info = run.FindAttempt(attempt);
  if (ranks.empty() && info != nullptr && expected.size() < info->world_size) {
    missing.unknown = true;
  }
  for (const std::uint32_t rank : expected) {
    const bool here =
        std::any_of(rows.begin(), rows.end(),
                    [rank](const RankRow& row) { return row.rank == rank; });
    if (here) continue;
    const SchemaSource source = NewestSchema(run, rank, attempt);
    if (source.stream == nullptr) {
      missing.unknown = true;
      continue;
    }
    absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
        schemas->Get(source.stream->id, source.stream->schema_id);
    if (!index.ok()) return index.status();
    missing.indexes.push_back(*std::move(index));
  }
  return missing;
}

MergedParameter PlanParameter(const std::vector<RankRow>& rows,
                              const Parameter& parameter,
                              const MissingRanks& missing) {
  MergedParameter planned;
  planned.parameter = &parameter;
  bool sharded = false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t at = rows[i].index->Find(parameter.name);
    if (at < 0) continue;
    const Places& places = rows[i].index->places()[at];
    sharded |= places.sharded;
    planned.sources.push_back({i, &places});
  }
  const bool incomplete = missing.MayHold(parameter.name);
  if (!incomplete) planned.locals = planned.sources;
  if (!sharded) {
    planned.sources.resize(1);
  } else if (incomplete) {
    planned.sources.clear();
  }
  return planned;
}

}  // namespace

absl::StatusOr<MergePlan> PlanMerge(const RunView& run, std::uint32_t attempt,
                                    const std::vector<std::uint32_t>& ranks,
                                    const std::vector<RankRow>& rows,
                                    const NameFilter& match,
                                    SchemaCache* schemas) {
  absl::StatusOr<MissingRanks> missing =
      FindMissing(run, attempt, ranks, rows, schemas);
  if (!missing.ok()) return missing.status();
  MergePlan plan;
  std::unordered_set<std::string_view> seen;
  for (const RankRow& row : rows) {
    plan.indexes.push_back(row.index);
    for (const Parameter& parameter : row.index->schema().parameters) {
      if (!match.Matches(parameter.name) ||
          !seen.insert(parameter.name).second) {
        continue;
      }
      plan.parameters.push_back(PlanParameter(rows, parameter, *missing));
    }
  }
  plan.missing = std::move(missing->indexes);
  return plan;
}

void AddBlocks(const Statistic& statistic, const MergedParameter& parameter,
               std::size_t row, BlockSet* blocks) {
  for (const MergedParameter::Source& source :
       parameter.SourcesOf(statistic.role)) {
    if (source.row == row) AddBlock(statistic, *source.places, blocks);
  }
}

std::vector<Part> PartsOf(Role role, const MergedParameter& parameter,
                          const std::vector<RankRow>& rows) {
  const auto& sources = parameter.SourcesOf(role);
  std::vector<Part> parts;
  parts.reserve(sources.size());
  for (const MergedParameter::Source& source : sources) {
    const RankRow& row = rows[source.row];
    parts.push_back({row.step.get(), source.places, row.histograms.get()});
  }
  return parts;
}

std::optional<Value> EvaluatePlanned(const Statistic& statistic,
                                     const MergedParameter& parameter,
                                     const std::vector<RankRow>& rows) {
  return EvaluateMerged(statistic, PartsOf(statistic.role, parameter, rows));
}

}  // namespace gradtap::server
