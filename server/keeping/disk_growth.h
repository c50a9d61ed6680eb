// How fast the data folder grows, from what it took at moments of the last
// hour.
//
// Layer: server/keeping. One thread.

#ifndef GRADTAP_SERVER_KEEPING_DISK_GROWTH_H_
#define GRADTAP_SERVER_KEEPING_DISK_GROWTH_H_

#include <chrono>
#include <cstdint>
#include <deque>

namespace gradtap::server {

class DiskGrowth {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // What looks back further than this is forgotten; what looks back less than
  // kLeast says nothing: rows become smaller when they are sealed.
  static constexpr std::chrono::minutes kSpan{60};
  static constexpr std::chrono::minutes kLeast{10};

  // `used_bytes` as the folder is, `removed_bytes` what has been removed so
  // far: that it is smaller by them is no growth. About once a minute.
  void Add(Time now, std::uint64_t used_bytes, std::uint64_t removed_bytes);

  // NaN: not known yet. Negative if it shrinks.
  double BytesPerDay() const;

 private:
  struct Sample {
    Time time;
    double bytes;
  };
  std::deque<Sample> samples_;
};

// Until `free_bytes` are down to `reserve_bytes`, 0 if they are; infinite if it
// does not grow, NaN if that is not known.
double DaysUntilFull(std::uint64_t free_bytes, std::uint64_t reserve_bytes,
                     double bytes_per_day);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_KEEPING_DISK_GROWTH_H_
