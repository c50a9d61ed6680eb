// The series of a comparison while they grow, and their order at the end.
//
// Layer: server/query. This file: std, absl, gradtap_proto; no grpc. Not
// thread-safe.

#ifndef GRADTAP_SERVER_QUERY_COMPARED_SERIES_H_
#define GRADTAP_SERVER_QUERY_COMPARED_SERIES_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gradtap/v1/query.pb.h"
#include "server/query/divergence.h"
#include "server/query/sample.h"

namespace gradtap::server {

class ComparedSeries {
 public:
  struct Entry {
    std::string parameter;  // Empty for scalars.
    std::string statistic;
    // Where it stands among equals: by the good run's schema, then as asked.
    std::uint64_t place = 0;
    Divergence divergence;
  };

  explicit ComparedSeries(const DivergenceOptions& options)
      : options_(options) {}

  // Made if it is not there. Stays valid.
  Entry* Find(std::string_view parameter, std::string_view statistic,
              std::uint64_t place);
  std::size_t size() const { return entries_.size(); }

  void Add(Entry* entry, std::int64_t step, const Sample& good,
           const Sample& other) {
    entry->divergence.Add(options_, step, good, other);
  }

  // Judges all and answers the first `limit` in `order`, with the counts of
  // all. Series without a compared step do not count.
  void Finish(v1::CompareOrder order, std::size_t limit,
              v1::CompareRunsResponse* response);

 private:
  const DivergenceOptions options_;
  std::deque<Entry> entries_;
  std::unordered_map<std::string, Entry*> by_name_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_COMPARED_SERIES_H_
