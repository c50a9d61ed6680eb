#include "server/query/step_histograms.h"

#include <algorithm>
#include <string>
#include <vector>

namespace gradtap::server {
namespace {

std::uint64_t KeyOf(Role role, std::uint32_t place) {
  return (static_cast<std::uint64_t>(role) << 32) | place;
}

}  // namespace

void AddBlock(Role role, const Places& places, BlockSet* blocks) {
  const std::int32_t place = places.at(role);
  if (place < 0) return;
  blocks->emplace(role,
                  static_cast<std::uint32_t>(place) / kHistogramBlockPlaces);
}

void AddBlock(const Statistic& statistic, const Places& places,
              BlockSet* blocks) {
  if (statistic.field == Field::kQuantile) {
    AddBlock(statistic.role, places, blocks);
  }
}

bool WantsHistograms(const StatisticSelection& statistics) {
  return std::any_of(statistics.records.begin(), statistics.records.end(),
                     [](const Statistic& statistic) {
                       return statistic.field == Field::kQuantile;
                     });
}

absl::StatusOr<StepHistograms> StepHistograms::Read(Store* store,
                                                    const Segment& segment,
                                                    const StoredStep& step,
                                                    const BlockSet& blocks,
                                                    ReadBudget* budget) {
  StepHistograms read;
  if (step.has_histograms_inside()) {  // A row of format 1.
    for (HistogramData& one : step.HistogramsInside()) read.Add(std::move(one));
    return read;
  }
  for (const auto& [role, block] : blocks) {
    absl::StatusOr<std::optional<std::string>> body = store->ReadHistogramBlock(
        segment.stream->id, segment.branch, step.step(), role, block);
    if (!body.ok()) return body.status();
    if (!body->has_value()) continue;
    absl::Status charged = budget->Charge((*body)->size());
    if (!charged.ok()) return charged;
    absl::StatusOr<std::vector<HistogramData>> all =
        DecodeHistogramBlock(**body);
    if (!all.ok()) {
      return absl::DataLossError(
          "the histograms of step " + std::to_string(step.step()) +
          " are damaged: " + std::string(all.status().message()));
    }
    for (HistogramData& one : *all) read.Add(std::move(one));
  }
  return read;
}

void StepHistograms::Add(HistogramData histogram) {
  const std::uint64_t key = KeyOf(histogram.role, histogram.place);
  by_place_.insert_or_assign(key, std::move(histogram));
}

const HistogramData* StepHistograms::Find(Role role,
                                          std::uint32_t place) const {
  const auto it = by_place_.find(KeyOf(role, place));
  return it == by_place_.end() ? nullptr : &it->second;
}

absl::StatusOr<bool> HistogramSteps::Has(const Segment& segment,
                                         const StoredStep& step) {
  if (step.has_histograms_inside()) return true;  // A row of format 1.
  const std::int64_t at = step.step();
  const bool known = stream_ == segment.stream->id &&
                     branch_ == segment.branch && from_ <= at && at < end_ &&
                     (!next_.has_value() || at <= *next_);
  if (!known) {
    absl::StatusOr<std::optional<std::int64_t>> next =
        store_->FindHistogramStep(segment.stream->id, segment.branch, at,
                                  segment.end, false);
    if (!next.ok()) return next.status();
    stream_ = segment.stream->id;
    branch_ = segment.branch;
    from_ = at;
    end_ = segment.end;
    next_ = *next;
  }
  return next_ == at;
}

}  // namespace gradtap::server
