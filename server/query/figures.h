// The collector's own figures, collected in one place for whoever shows them.
//
// Layer: server/query. This file: std, store, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_FIGURES_H_
#define GRADTAP_SERVER_QUERY_FIGURES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"
#include "server/store/store.h"

namespace gradtap::server {

// Plain data.
struct CollectorFigures {
  std::string version;
  std::int64_t start_time_unix_ns = 0;
  std::string data_dir;
  std::uint32_t format_version = 0;

  // What is stored now.
  std::uint32_t runs = 0;
  std::uint64_t streams = 0;
  std::uint64_t rows = 0;   // With statistics or without.
  std::uint64_t steps = 0;  // With statistics.
  std::uint64_t bytes = 0;  // As they came.

  std::uint32_t open_sessions = 0;
  std::uint32_t open_watches = 0;
  std::uint64_t batches = 0;
  CallsFigures calls;
  // By limit, since the start; empty: nobody counts.
  std::vector<std::pair<std::string_view, std::uint64_t>> refused;

  StoreCounters counters;  // Since the start.
  StoreFigures store;

  std::uint64_t disk_bytes = 0;  // Of the data folder.
  std::uint64_t disk_free_bytes = 0;
  std::uint64_t resident_bytes = 0;
};

// Walks the data folder; otherwise some look-ups. Any thread.
CollectorFigures CollectFigures(const QueryEnvironment& environment);

void ToProto(const CollectorFigures& figures, v1::GetStatusResponse* out);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_FIGURES_H_
