// The series of one answer while they grow.
//
// Layer: server/query. This file: std, absl, gradtap_proto; no grpc. Not
// thread-safe.

#ifndef GRADTAP_SERVER_QUERY_SERIES_SET_H_
#define GRADTAP_SERVER_QUERY_SERIES_SET_H_

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/status/status.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/down_sample.h"

namespace gradtap::server {

class SeriesSet {
 public:
  SeriesSet(std::uint32_t max_points, std::uint64_t max_values)
      : max_points_(max_points), max_values_(max_values) {}

  // Series of another run or rank come from here on.
  void StartLine(std::string_view run, std::uint32_t rank);

  // The series of this line, made if it is not there. Stays valid. Series are
  // answered in the order in which they were made; those without a point are
  // left out.
  DownSampler* Find(std::string_view parameter, std::string_view statistic);

  // To be called once a row: kResourceExhausted if the answer has grown past
  // its limit.
  absl::Status Check(std::uint64_t values_added);

  // Moves everything into the answer.
  absl::Status Finish(v1::GetSeriesResponse* response);

 private:
  struct Entry {
    v1::Series series;  // Names only, until Finish().
    DownSampler sampler;
  };

  absl::Status TooMany() const;

  const std::uint32_t max_points_;
  const std::uint64_t max_values_;
  std::string run_;
  std::uint32_t rank_ = 0;
  std::deque<Entry> entries_;
  std::unordered_map<std::string, Entry*> line_;  // Of the current line.
  std::uint64_t added_since_check_ = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_SERIES_SET_H_
