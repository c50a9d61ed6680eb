// The series of one answer while they grow.
//
// Layer: server/query. This file: std, absl, limits, gradtap_proto; no grpc.
// Not thread-safe.

#ifndef GRADTAP_SERVER_QUERY_SERIES_SET_H_
#define GRADTAP_SERVER_QUERY_SERIES_SET_H_

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "gradtap/v1/query.pb.h"
#include "server/limits/answer_room.h"
#include "server/query/down_sample.h"
#include "server/store/store.h"

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
  // `members`: of how many parameters it is, if it is a group's. `expected`:
  // about how many points will come, if some come in summaries.
  DownSampler* Find(std::string_view parameter, std::string_view statistic,
                    std::uint32_t members = 0, std::uint64_t expected = 0);

  // A number for the piece (store.h) that points are of whose step is not known
  // yet; never 0.
  std::uint32_t PieceOf(StreamId stream, std::uint32_t branch,
                        std::int64_t first_step, std::uint32_t recorded);

  // To be called once a row: kResourceExhausted if the answer has grown past
  // its limit, or there is no room for it now.
  absl::Status Check(std::uint64_t values_added);

  // Moves everything into the answer; `store` knows the pieces.
  absl::Status Finish(Store* store, v1::GetSeriesResponse* response);

 private:
  struct Entry {
    v1::Series series;  // Names only, until Finish().
    DownSampler sampler;
  };

  struct Piece {
    StreamId stream = 0;
    std::uint32_t branch = 0;
    std::int64_t first_step = 0;
    std::uint32_t recorded = 0;
  };

  absl::Status TooMany() const;
  // Gives the points their steps and times.
  absl::Status Resolve(Store* store, std::vector<std::vector<Point>>* series);

  const std::uint32_t max_points_;
  const std::uint64_t max_values_;
  std::string run_;
  std::uint32_t rank_ = 0;
  std::deque<Entry> entries_;
  std::unordered_map<std::string, Entry*> line_;  // Of the current line.
  std::uint64_t added_since_check_ = 0;
  AnswerWork work_;
  std::vector<Piece> pieces_;
  // A chapter begins where its first window does: `recorded` tells them apart.
  std::map<std::tuple<StreamId, std::uint32_t, std::int64_t, std::uint32_t>,
           std::uint32_t>
      piece_numbers_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_SERIES_SET_H_
