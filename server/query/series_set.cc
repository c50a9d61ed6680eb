#include "server/query/series_set.h"

#include <utility>
#include <vector>

namespace gradtap::server {
namespace {

// Counting what is retained walks all series: not at every row.
constexpr std::uint64_t kCheckEvery = 65'536;

void Fill(const std::vector<Point>& points, v1::Series* series) {
  const int n = static_cast<int>(points.size());
  series->mutable_attempt()->Reserve(n);
  series->mutable_step()->Reserve(n);
  series->mutable_time_unix_ns()->Reserve(n);
  series->mutable_value()->Reserve(n);
  for (int i = 0; i < n; ++i) {
    series->add_attempt(points[i].attempt);
    series->add_step(points[i].step);
    series->add_time_unix_ns(points[i].time_unix_ns);
    series->add_value(points[i].value);
    if (points[i].absent) series->add_absent(i);
  }
}

}  // namespace

void SeriesSet::StartLine(std::string_view run, std::uint32_t rank) {
  run_ = run;
  rank_ = rank;
  line_.clear();
}

DownSampler* SeriesSet::Find(std::string_view parameter,
                             std::string_view statistic) {
  std::string key(parameter);
  key.push_back('\0');
  key.append(statistic);
  Entry*& entry = line_[std::move(key)];
  if (entry == nullptr) {
    entries_.push_back({{}, DownSampler(max_points_)});
    entry = &entries_.back();
    entry->series.set_run(run_);
    entry->series.set_rank(rank_);
    entry->series.set_parameter(std::string(parameter));
    entry->series.set_statistic(std::string(statistic));
  }
  return &entry->sampler;
}

absl::Status SeriesSet::TooMany() const {
  return absl::ResourceExhaustedError(
      "the answer has more than " + std::to_string(max_values_) +
      " values, the limit of one query, in " + std::to_string(entries_.size()) +
      " series; ask for fewer steps (--steps A:B), fewer points (--points N) "
      "or fewer parameters (--match)");
}

absl::Status SeriesSet::Check(std::uint64_t values_added) {
  added_since_check_ += values_added;
  if (added_since_check_ < kCheckEvery) return absl::OkStatus();
  added_since_check_ = 0;
  std::uint64_t retained = 0;
  for (const Entry& entry : entries_) retained += entry.sampler.retained();
  // Buckets that are about to be joined may hold half as much again.
  if (retained > max_values_ + max_values_ / 2) return TooMany();
  return absl::OkStatus();
}

absl::Status SeriesSet::Finish(v1::GetSeriesResponse* response) {
  std::uint64_t values = 0;
  for (Entry& entry : entries_) {
    if (entry.sampler.seen() == 0) continue;
    entry.series.set_points_before(entry.sampler.seen());
    const std::vector<Point> points = entry.sampler.Take();
    values += points.size();
    if (values > max_values_) return TooMany();
    Fill(points, &entry.series);
    *response->add_series() = std::move(entry.series);
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
