#include "server/query/step_records.h"

#include <utility>

#include "server/query/step_histograms.h"

namespace gradtap::server {
namespace {

// Elements that are not finite; none where there is no record.
std::uint64_t NonfiniteOf(Role role, const MergedParameter& parameter,
                          const std::vector<RankRow>& rows) {
  Statistic count;
  count.role = role;
  count.field = Field::kNonfinite;
  const std::optional<Value> value = EvaluatePlanned(count, parameter, rows);
  if (!value.has_value() || value->absent) return 0;
  return static_cast<std::uint64_t>(value->value);
}

}  // namespace

absl::StatusOr<StepRecords> FindStepRecords(Store* store, const RunView& run,
                                            const RecordsQuestion& question,
                                            const NameFilter& match,
                                            SchemaCache* schemas,
                                            ReadBudget* budget) {
  absl::StatusOr<RankRows> found =
      question.merged
          ? FindMergedRows(store, run, question.step, schemas, budget)
          : FindRankRow(store, run, question.rank, question.step, schemas,
                        budget);
  if (!found.ok()) return found.status();
  std::vector<std::uint32_t> ranks;
  if (!question.merged) ranks.push_back(question.rank);
  absl::StatusOr<MergePlan> plan = PlanMerge(
      run, found->lead.segment.attempt, ranks, found->rows, match, schemas);
  if (!plan.ok()) return plan.status();
  return StepRecords{*std::move(found), *std::move(plan)};
}

absl::Status ReadBlocksOf(Store* store,
                          const std::vector<const Statistic*>& statistics,
                          StepRecords* records, ReadBudget* budget) {
  std::vector<BlockSet> blocks(records->rows().size());
  for (const MergedParameter& parameter : records->plan.parameters) {
    for (const Statistic* statistic : statistics) {
      for (std::size_t row = 0; row < blocks.size(); ++row) {
        AddBlocks(*statistic, parameter, row, &blocks[row]);
      }
    }
  }
  return ReadHistograms(store, blocks, &records->found, budget);
}

absl::Status ReadStatus(const std::vector<RankRow>& rows) {
  for (const RankRow& row : rows) {
    absl::Status status = row.step->status();
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

bool CountsElements(Field field) {
  switch (field) {
    case Field::kZero:
    case Field::kNan:
    case Field::kPosInf:
    case Field::kNegInf:
    case Field::kZeroFraction:
    case Field::kNonfinite:
    case Field::kFiniteFraction:
      return true;
    default:
      return false;
  }
}

std::optional<Sample> SampleOf(const Statistic& statistic,
                               const MergedParameter& parameter,
                               const std::vector<RankRow>& rows) {
  const std::optional<Value> value =
      EvaluatePlanned(statistic, parameter, rows);
  if (!value.has_value()) return std::nullopt;
  Sample sample{value->value, value->absent, 0};
  if (sample.absent) return sample;
  sample.nonfinite = NonfiniteOf(statistic.role, parameter, rows);
  if (statistic.field == Field::kRatio) {
    sample.nonfinite += NonfiniteOf(Role::kWeight, parameter, rows);
  }
  return sample;
}

}  // namespace gradtap::server
