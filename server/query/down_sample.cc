#include "server/query/down_sample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace gradtap::server {
namespace {

// Most points that a bucket can keep, and those of one without non-finite and
// absent points.
constexpr std::size_t kMostOfBucket = 6;
constexpr std::size_t kUsualOfBucket = 4;

}  // namespace

DownSampler::DownSampler(std::uint32_t max_points)
    : max_points_(max_points),
      max_buckets_(std::max<std::size_t>(1, max_points / kUsualOfBucket)) {}

void DownSampler::Expect(std::uint64_t points) {
  // Most buckets keep a smallest and a largest point; some more.
  max_buckets_ = std::max<std::size_t>(1, max_points_ * std::size_t{9} / 20);
  bucket_size_ =
      std::max<std::uint64_t>(1, (points + max_buckets_ - 1) / max_buckets_);
  expecting_ = true;
  buckets_.reserve(std::min<std::uint64_t>(points, max_buckets_));
}

void DownSampler::Add(const Point& point) {
  const Kept kept{seen_++, point};
  if (max_points_ == 0 ||
      (!expecting_ && buckets_.empty() && raw_.size() < max_points_)) {
    raw_.push_back(point);
    return;
  }
  if (buckets_.empty()) StartBuckets();
  AddToBuckets(kept);
}

void DownSampler::StartBuckets() {
  for (std::size_t i = 0; i < raw_.size(); ++i) AddToBuckets({i, raw_[i]});
  raw_ = {};
}

DownSampler::Bucket* DownSampler::OpenBucket() {
  if (buckets_.empty() || buckets_.back().count >= bucket_size_) {
    if (buckets_.size() >= max_buckets_) {
      Halve();
    }
    if (buckets_.empty() || buckets_.back().count >= bucket_size_) {
      buckets_.emplace_back();
    }
  }
  return &buckets_.back();
}

void DownSampler::AddToBuckets(const Kept& kept) { AddTo(kept, OpenBucket()); }

Point DownSampler::PointAt(const PointSummary::At& at, bool absent,
                           const Point& first) {
  Point point = first;
  point.step += at.offset;
  point.value = at.value;
  point.absent = absent;
  return point;
}

void DownSampler::AddExtremes(const PointSummary& summary, const Point& first) {
  std::array<const PointSummary::At*, 4> points;
  std::size_t n = 0;
  if (summary.has_finite) {
    points[n++] = &summary.min;
    points[n++] = &summary.max;
  }
  if (summary.has_nonfinite) points[n++] = &summary.nonfinite;
  if (summary.has_absent) points[n++] = &summary.absent;
  std::stable_sort(
      points.begin(), points.begin() + n,
      [](const auto* a, const auto* b) { return a->offset < b->offset; });
  const std::uint64_t end = seen_ + summary.count;
  for (std::size_t i = 0; i < n; ++i) {
    if (i > 0 && points[i]->offset == points[i - 1]->offset) continue;
    Add(PointAt(*points[i], points[i] == &summary.absent, first));
  }
  seen_ = end;
}

// A million steps are 15,625 of them: what a bucket keeps is made only when it
// is kept.
void DownSampler::Add(const PointSummary& summary, const Point& first) {
  if (summary.count == 0) return;
  if (!expecting_) return AddExtremes(summary, first);
  const auto keep = [&](const PointSummary::At& at, bool absent, Kept* kept) {
    kept->index = seen_ + at.offset;
    kept->point = PointAt(at, absent, first);
  };
  Bucket* bucket = OpenBucket();
  bucket->count += summary.count;
  if (summary.has_finite) {
    const bool is_first = !std::exchange(bucket->has_finite, true);
    if (is_first || summary.min.value < bucket->min.point.value) {
      keep(summary.min, false, &bucket->min);
    }
    if (is_first || summary.max.value > bucket->max.point.value) {
      keep(summary.max, false, &bucket->max);
    }
  }
  if (summary.has_nonfinite && !std::exchange(bucket->has_nonfinite, true)) {
    keep(summary.nonfinite, false, &bucket->nonfinite);
  }
  if (summary.has_absent && !std::exchange(bucket->has_absent, true)) {
    keep(summary.absent, true, &bucket->absent);
  }
  seen_ += summary.count;
}

void DownSampler::AddTo(const Kept& kept, Bucket* bucket) {
  if (!std::exchange(bucket->has_ends, true)) bucket->first = kept;
  ++bucket->count;
  bucket->last = kept;
  const Point& point = kept.point;
  if (point.absent) {
    if (!std::exchange(bucket->has_absent, true)) bucket->absent = kept;
  } else if (!std::isfinite(point.value)) {
    if (!std::exchange(bucket->has_nonfinite, true)) bucket->nonfinite = kept;
  } else if (!std::exchange(bucket->has_finite, true)) {
    bucket->min = bucket->max = kept;
  } else {
    if (point.value < bucket->min.point.value) bucket->min = kept;
    if (point.value > bucket->max.point.value) bucket->max = kept;
  }
}

void DownSampler::Join(const Bucket& later, Bucket* bucket) {
  bucket->count += later.count;
  if (later.has_ends) {
    if (!std::exchange(bucket->has_ends, true)) bucket->first = later.first;
    bucket->last = later.last;
  }
  if (later.has_absent && !std::exchange(bucket->has_absent, true)) {
    bucket->absent = later.absent;
  }
  if (later.has_nonfinite && !std::exchange(bucket->has_nonfinite, true)) {
    bucket->nonfinite = later.nonfinite;
  }
  if (!later.has_finite) return;
  if (!std::exchange(bucket->has_finite, true)) {
    bucket->min = later.min;
    bucket->max = later.max;
    return;
  }
  if (later.min.point.value < bucket->min.point.value) bucket->min = later.min;
  if (later.max.point.value > bucket->max.point.value) bucket->max = later.max;
}

void DownSampler::Halve() {
  std::size_t out = 0;
  for (std::size_t i = 0; i < buckets_.size(); i += 2, ++out) {
    buckets_[out] = buckets_[i];
    if (i + 1 < buckets_.size()) Join(buckets_[i + 1], &buckets_[out]);
  }
  buckets_.resize(out);
  bucket_size_ *= 2;
}

void DownSampler::Emit(const Bucket& bucket, std::vector<Point>* points) {
  std::array<const Kept*, kMostOfBucket> kept;
  std::size_t n = 0;
  if (bucket.has_ends) {
    kept[n++] = &bucket.first;
    kept[n++] = &bucket.last;
  }
  if (bucket.has_finite) {
    kept[n++] = &bucket.min;
    kept[n++] = &bucket.max;
  }
  if (bucket.has_nonfinite) kept[n++] = &bucket.nonfinite;
  if (bucket.has_absent) kept[n++] = &bucket.absent;
  std::sort(kept.begin(), kept.begin() + n,
            [](const Kept* a, const Kept* b) { return a->index < b->index; });
  for (std::size_t i = 0; i < n; ++i) {
    if (i > 0 && kept[i]->index == kept[i - 1]->index) continue;
    points->push_back(kept[i]->point);
  }
}

std::size_t DownSampler::retained() const {
  return raw_.size() + buckets_.size() * kUsualOfBucket;
}

std::vector<Point> DownSampler::Take() {
  if (buckets_.empty()) return std::exchange(raw_, {});
  std::vector<Point> points;
  for (;;) {
    points.clear();
    for (const Bucket& bucket : buckets_) Emit(bucket, &points);
    if (points.size() <= max_points_ || buckets_.size() == 1) break;
    Halve();
  }
  buckets_ = {};
  bucket_size_ = 1;
  return points;
}

}  // namespace gradtap::server
