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
  if (summary.has_nonfinite || summary.has_absent) {
    Others* others = OthersOf(bucket);
    if (summary.has_nonfinite && !std::exchange(others->has_nonfinite, true)) {
      keep(summary.nonfinite, false, &others->nonfinite);
    }
    if (summary.has_absent && !std::exchange(others->has_absent, true)) {
      keep(summary.absent, true, &others->absent);
    }
  }
  seen_ += summary.count;
}

DownSampler::Others* DownSampler::OthersOf(Bucket* bucket) {
  if (bucket->others == 0) {
    others_.emplace_back();
    bucket->others = static_cast<std::uint32_t>(others_.size());
  }
  return &others_[bucket->others - 1];
}

void DownSampler::AddTo(const Kept& kept, Bucket* bucket) {
  Others* others = OthersOf(bucket);
  if (!std::exchange(others->has_ends, true)) others->first = kept;
  ++bucket->count;
  others->last = kept;
  const Point& point = kept.point;
  if (point.absent) {
    if (!std::exchange(others->has_absent, true)) others->absent = kept;
  } else if (!std::isfinite(point.value)) {
    if (!std::exchange(others->has_nonfinite, true)) others->nonfinite = kept;
  } else if (!std::exchange(bucket->has_finite, true)) {
    bucket->min = bucket->max = kept;
  } else {
    if (point.value < bucket->min.point.value) bucket->min = kept;
    if (point.value > bucket->max.point.value) bucket->max = kept;
  }
}

void DownSampler::JoinExtremes(const Bucket& later, Bucket* bucket) {
  bucket->count += later.count;
  if (!later.has_finite) return;
  if (!std::exchange(bucket->has_finite, true)) {
    bucket->min = later.min;
    bucket->max = later.max;
    return;
  }
  if (later.min.point.value < bucket->min.point.value) bucket->min = later.min;
  if (later.max.point.value > bucket->max.point.value) bucket->max = later.max;
}

void DownSampler::JoinOthers(const Others& later, Others* others) {
  if (later.has_ends) {
    if (!std::exchange(others->has_ends, true)) others->first = later.first;
    others->last = later.last;
  }
  if (later.has_absent && !std::exchange(others->has_absent, true)) {
    others->absent = later.absent;
  }
  if (later.has_nonfinite && !std::exchange(others->has_nonfinite, true)) {
    others->nonfinite = later.nonfinite;
  }
}

void DownSampler::Halve() {
  const std::vector<Others> before = std::exchange(others_, {});
  std::size_t out = 0;
  for (std::size_t i = 0; i < buckets_.size(); i += 2, ++out) {
    Bucket joined = buckets_[i];
    joined.others = 0;
    if (i + 1 < buckets_.size()) JoinExtremes(buckets_[i + 1], &joined);
    for (std::size_t j = i; j < std::min(i + 2, buckets_.size()); ++j) {
      if (buckets_[j].others == 0) continue;
      JoinOthers(before[buckets_[j].others - 1], OthersOf(&joined));
    }
    buckets_[out] = joined;
  }
  buckets_.resize(out);
  bucket_size_ *= 2;
}

void DownSampler::Emit(const Bucket& bucket, std::vector<Point>* points) const {
  std::array<const Kept*, kMostOfBucket> kept;  // By rising index.
  std::size_t n = 0;
  const auto add = [&](const Kept& one) {
    std::size_t at = n++;
    for (; at > 0 && one.index < kept[at - 1]->index; --at) {
      kept[at] = kept[at - 1];
    }
    kept[at] = &one;
  };
  if (bucket.has_finite) {
    add(bucket.min);
    add(bucket.max);
  }
  if (bucket.others != 0) {
    const Others& others = others_[bucket.others - 1];
    if (others.has_ends) {
      add(others.first);
      add(others.last);
    }
    if (others.has_nonfinite) add(others.nonfinite);
    if (others.has_absent) add(others.absent);
  }
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
  points.reserve(std::min<std::size_t>(max_points_, 4 * buckets_.size()));
  for (;;) {
    points.clear();
    for (const Bucket& bucket : buckets_) Emit(bucket, &points);
    if (points.size() <= max_points_ || buckets_.size() == 1) break;
    Halve();
  }
  buckets_ = {};
  others_ = {};
  bucket_size_ = 1;
  return points;
}

}  // namespace gradtap::server
