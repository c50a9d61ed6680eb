#include "server/query/compared_series.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

namespace gradtap::server {
namespace {

using Entry = ComparedSeries::Entry;

// Smaller comes first.
std::tuple<int, double, std::uint64_t> DistanceKey(const Entry& entry) {
  const Divergence& divergence = entry.divergence;
  if (divergence.apart()) {
    return {divergence.apart_by_nonfinite() ? 0 : 1, 0, entry.place};
  }
  const double ratio = divergence.log2_ratio();
  if (std::isnan(ratio)) return {3, 0, entry.place};
  return {2, -std::fabs(ratio), entry.place};
}

std::int64_t FirstStepKey(const Entry& entry) {
  return entry.divergence.first_step().value_or(
      std::numeric_limits<std::int64_t>::max());
}

bool Before(v1::CompareOrder order, const Entry* a, const Entry* b) {
  if (order == v1::COMPARE_ORDER_FIRST_STEP &&
      FirstStepKey(*a) != FirstStepKey(*b)) {
    return FirstStepKey(*a) < FirstStepKey(*b);
  }
  return DistanceKey(*a) < DistanceKey(*b);
}

void Fill(const Entry& entry, v1::CompareRow* row) {
  const Divergence& divergence = entry.divergence;
  row->set_parameter(entry.parameter);
  row->set_statistic(entry.statistic);
  row->set_steps(divergence.compared());
  row->set_steps_beyond(divergence.beyond());
  if (divergence.first_step().has_value()) {
    row->set_first_step(*divergence.first_step());
  }
  row->set_log2_ratio(divergence.log2_ratio());
  row->set_noise_log2(divergence.noise_log2());
  row->set_last_step(divergence.last_step());
  row->set_good_value(divergence.last_good().value);
  row->set_good_absent(divergence.last_good().absent);
  row->set_good_nonfinite(divergence.last_good().nonfinite);
  row->set_other_value(divergence.last_other().value);
  row->set_other_absent(divergence.last_other().absent);
  row->set_other_nonfinite(divergence.last_other().nonfinite);
}

}  // namespace

Entry* ComparedSeries::Find(std::string_view parameter,
                            std::string_view statistic, std::uint64_t place) {
  std::string key(parameter);
  key.push_back('\0');
  key.append(statistic);
  Entry*& entry = by_name_[std::move(key)];
  if (entry == nullptr) {
    entries_.emplace_back();
    entry = &entries_.back();
    entry->parameter = std::string(parameter);
    entry->statistic = std::string(statistic);
    entry->place = place;
  }
  return entry;
}

void ComparedSeries::Finish(v1::CompareOrder order, std::size_t limit,
                            v1::CompareRunsResponse* response) {
  std::vector<const Entry*> sorted;
  std::uint64_t diverged = 0;
  for (Entry& entry : entries_) {
    entry.divergence.Finish(options_);
    if (entry.divergence.compared() == 0) continue;
    sorted.push_back(&entry);
    if (!entry.divergence.first_step().has_value()) continue;
    const std::int64_t step = *entry.divergence.first_step();
    if (diverged++ == 0 || step < response->first_diverged_step()) {
      response->set_first_diverged_step(step);
    }
  }
  response->set_series(sorted.size());
  response->set_diverged(diverged);
  const std::size_t rows = std::min(limit, sorted.size());
  std::stable_sort(
      sorted.begin(), sorted.end(),
      [order](const Entry* a, const Entry* b) { return Before(order, a, b); });
  for (std::size_t i = 0; i < rows; ++i) Fill(*sorted[i], response->add_rows());
}

}  // namespace gradtap::server
