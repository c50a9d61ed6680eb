// Fewer points of a series, without losing what matters.
//
// Points go into buckets of equal numbers of points; a bucket keeps its first
// and last point, its smallest and largest finite value, and its first
// non-finite and first absent point. Buckets are joined in pairs as points
// arrive, so that memory is bounded by the answer, not by what is read.
//
// Layer: server/query. This file: std only. Not thread-safe.

#ifndef GRADTAP_SERVER_QUERY_DOWN_SAMPLE_H_
#define GRADTAP_SERVER_QUERY_DOWN_SAMPLE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gradtap::server {

struct Point {
  std::int64_t step = 0;
  std::int64_t time_unix_ns = 0;
  double value = 0;
  std::uint32_t attempt = 0;
  bool absent = false;
  // Not 0: `step` counts the recorded steps of that piece (series_set.h), and
  // the time is not known yet.
  std::uint32_t piece = 0;
};

// Points that are known by their extremes alone. What it has none of is as it
// is here.
struct PointSummary {
  struct At {
    std::uint32_t offset = 0;  // Among its points.
    double value = 0;
  };
  std::uint32_t count = 0;
  bool has_finite = false, has_nonfinite = false, has_absent = false;
  At min, max;   // Of the finite values, the first on ties.
  At nonfinite;  // The first.
  At absent;     // The first; its value is NaN.
};

class DownSampler {
 public:
  // Keeps at most max(6, max_points) points; all of them as long as there are
  // not more than max_points. Zero: no limit.
  explicit DownSampler(std::uint32_t max_points = 0);

  // About how many points will come, some of them in summaries: buckets have
  // their final width at once. Call it first, with a limit.
  void Expect(std::uint64_t points);

  // Points come in the order in which they are to be answered.
  void Add(const Point& point);
  // `first` is its first point, but for the value: the others are at the steps
  // after it. After Expect() a bucket of summaries has no first and last point.
  // Without it their extremes are points like others.
  void Add(const PointSummary& summary, const Point& first);
  // The next summaries that have less points together may as well be one; 1 if
  // they may not.
  std::uint64_t RoomOfSummaries() const {
    if (!expecting_) return 1;
    const std::uint64_t taken = buckets_.empty() ? 0 : buckets_.back().count;
    return taken < bucket_size_ ? bucket_size_ - taken : bucket_size_;
  }

  // Points offered so far.
  std::uint64_t seen() const { return seen_; }
  // Points held in memory, at most about 1.5 max_points.
  std::size_t retained() const;

  // The points, in the order of Add(). The sampler is empty afterwards.
  std::vector<Point> Take();

 private:
  struct Kept {
    std::uint64_t index = 0;  // Of Add(); orders the points of a bucket.
    Point point;
  };
  // What few buckets keep, or only those of single points.
  struct Others {
    Kept first, last, nonfinite, absent;
    bool has_ends = false;  // First and last are known.
    bool has_nonfinite = false, has_absent = false;
  };
  struct Bucket {
    std::uint64_t count = 0;  // Points offered to it.
    Kept min, max;
    bool has_finite = false;
    std::uint32_t others = 0;  // Their place in others_, from 1 on; 0: none.
  };

  Others* OthersOf(Bucket* bucket);
  void AddTo(const Kept& kept, Bucket* bucket);
  static Point PointAt(const PointSummary::At& at, bool absent,
                       const Point& first);
  void AddExtremes(const PointSummary& summary, const Point& first);
  Bucket* OpenBucket();
  static void JoinExtremes(const Bucket& later, Bucket* bucket);
  static void JoinOthers(const Others& later, Others* others);
  void Emit(const Bucket& bucket, std::vector<Point>* points) const;
  void StartBuckets();
  void AddToBuckets(const Kept& kept);
  void Halve();

  std::uint32_t max_points_;
  std::size_t max_buckets_;
  std::uint64_t seen_ = 0;
  std::uint64_t bucket_size_ = 1;  // Points that fill a bucket.
  std::vector<Point> raw_;         // Until there are more than max_points_.
  std::vector<Bucket> buckets_;
  std::vector<Others> others_;
  bool expecting_ = false;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_DOWN_SAMPLE_H_
