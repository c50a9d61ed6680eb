// The histograms of one stored step, as far as a question needs them.
//
// Layer: server/query. This file: std, absl, core, store; no grpc. Not
// thread-safe: one query, one thread.

#ifndef GRADTAP_SERVER_QUERY_STEP_HISTOGRAMS_H_
#define GRADTAP_SERVER_QUERY_STEP_HISTOGRAMS_H_

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/codec.h"
#include "core/histogram.h"
#include "core/step_data.h"
#include "server/query/line.h"
#include "server/query/row_reader.h"
#include "server/query/selection.h"
#include "server/store/store.h"

namespace gradtap::server {

// Blocks of places, by role.
using BlockSet = std::set<std::pair<Role, std::uint32_t>>;

// Adds the block that a quantile of this parameter is in; other statistics
// need none.
void AddBlock(const Statistic& statistic, const Places& places,
              BlockSet* blocks);
void AddBlock(Role role, const Places& places, BlockSet* blocks);

// True if one of them is a quantile.
bool WantsHistograms(const StatisticSelection& statistics);

class StepHistograms {
 public:
  // Reads the blocks of a step that has histograms, each once. kDataLoss: a
  // block is damaged.
  static absl::StatusOr<StepHistograms> Read(Store* store,
                                             const Segment& segment,
                                             const StoredStep& step,
                                             const BlockSet& blocks,
                                             ReadBudget* budget);

  // Null: there is none of that place in the blocks read.
  const HistogramData* Find(Role role, std::uint32_t place) const;

 private:
  void Add(HistogramData histogram);

  std::unordered_map<std::uint64_t, HistogramData> by_place_;
};

// Tells of one row after the other whether it has histograms. Asks the store
// once for each step that has some, if steps rise; whatever their order the
// answers are right.
class HistogramSteps {
 public:
  explicit HistogramSteps(Store* store) : store_(store) {}

  absl::StatusOr<bool> Has(const Segment& segment, const StoredStep& step);

 private:
  Store* const store_;
  StreamId stream_ = 0;
  std::uint32_t branch_ = 0;
  // No step of [from_, next_) has some; next_ has. Empty: none from from_ on.
  std::int64_t from_ = 0;
  std::int64_t end_ = 0;
  std::optional<std::int64_t> next_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_STEP_HISTOGRAMS_H_
