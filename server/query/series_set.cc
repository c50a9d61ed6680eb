#include "server/query/series_set.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace gradtap::server {
namespace {

// Counting what is retained walks all series: not at every row.
constexpr std::uint64_t kCheckEvery = 65'536;
// A point takes while it is held, in vectors that grow by half on average.
constexpr std::size_t kPointBytes = sizeof(Point) * 3 / 2;

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
                             std::string_view statistic, std::uint32_t members,
                             std::uint64_t expected) {
  std::string key(parameter);
  key.push_back('\0');
  key.append(statistic);
  Entry*& entry = line_[std::move(key)];
  if (entry == nullptr) {
    entries_.push_back({{}, DownSampler(max_points_)});
    entry = &entries_.back();
    if (expected > 0) entry->sampler.Expect(expected);
    entry->series.set_run(run_);
    entry->series.set_rank(rank_);
    entry->series.set_parameter(std::string(parameter));
    entry->series.set_statistic(std::string(statistic));
  }
  entry->series.set_members(members);
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
  return work_.Reach(retained * kPointBytes);
}

std::uint32_t SeriesSet::PieceOf(StreamId stream, std::uint32_t branch,
                                 std::int64_t first_step,
                                 std::uint32_t recorded) {
  std::uint32_t& number =
      piece_numbers_[{stream, branch, first_step, recorded}];
  if (number == 0) {
    pieces_.push_back({stream, branch, first_step, recorded});
    number = static_cast<std::uint32_t>(pieces_.size());
  }
  return number;
}

absl::Status SeriesSet::Resolve(Store* store,
                                std::vector<std::vector<Point>>* series) {
  std::vector<Point*> open;
  for (std::vector<Point>& points : *series) {
    for (Point& point : points) {
      if (point.piece != 0) open.push_back(&point);
    }
  }
  const auto piece_of = [&](const Point* point) -> const Piece& {
    return pieces_[point->piece - 1];
  };
  const auto before = [&](const Point* a, const Point* b) {
    if (a->piece == b->piece) return a->step < b->step;
    const Piece& x = piece_of(a);
    const Piece& y = piece_of(b);
    return std::tie(x.stream, x.branch, x.first_step, x.recorded) <
           std::tie(y.stream, y.branch, y.first_step, y.recorded);
  };
  if (!std::is_sorted(open.begin(), open.end(), before)) {
    std::sort(open.begin(), open.end(), before);
  }
  for (std::size_t i = 0; i < open.size();) {
    const Piece& first = piece_of(open[i]);
    std::vector<PiecePlace> places;
    for (std::size_t j = i; j < open.size(); ++j) {
      const Piece& piece = piece_of(open[j]);
      if (piece.stream != first.stream || piece.branch != first.branch) break;
      places.push_back({piece.first_step, piece.recorded,
                        static_cast<std::uint32_t>(open[j]->step)});
    }
    absl::StatusOr<std::vector<StepAndTime>> resolved =
        store->ResolvePlaces(first.stream, first.branch, places);
    if (!resolved.ok()) return resolved.status();
    for (const StepAndTime& at : *resolved) {
      open[i]->step = at.step;
      open[i]->time_unix_ns = at.time_unix_ns;
      ++i;
    }
  }
  return absl::OkStatus();
}

absl::Status SeriesSet::Finish(Store* store, v1::GetSeriesResponse* response) {
  std::uint64_t values = 0;
  std::vector<Entry*> shown;
  std::vector<std::vector<Point>> series;
  for (Entry& entry : entries_) {
    if (entry.sampler.seen() == 0) continue;
    entry.series.set_points_before(entry.sampler.seen());
    shown.push_back(&entry);
    series.push_back(entry.sampler.Take());
    values += series.back().size();
    if (values > max_values_) return TooMany();
  }
  const absl::Status resolved = Resolve(store, &series);
  if (!resolved.ok()) return resolved;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    v1::Series* const to = response->add_series();
    to->MergeFrom(shown[i]->series);
    Fill(series[i], to);
    std::vector<Point>().swap(series[i]);  // Or all is there twice at the end.
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
