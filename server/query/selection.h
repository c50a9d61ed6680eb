// What a request asks for: statistics by name, parameters by pattern, and where
// they stand in the columns of a schema.
//
// Layer: server/query. This file: std, absl, core, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_SELECTION_H_
#define GRADTAP_SERVER_QUERY_SELECTION_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "core/histogram.h"
#include "core/name_filter.h"
#include "core/schema.h"
#include "core/statistic.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "server/store/stored_step.h"

namespace gradtap::server {

// Statistics of one request.
inline constexpr int kMaxStatistics = 64;

// What a snapshot shows when nothing else was asked for.
const std::vector<std::string>& DefaultSnapshotStatistics();

// The statistics of a request, each once, in the order asked.
struct StatisticSelection {
  std::vector<Statistic> records;  // Of parameters.
  std::vector<Statistic> scalars;  // scalar.* and agent.*.

  // Whether a step's scalar of this wire name was asked for.
  bool WantsScalar(std::string_view wire_name) const;
};

// kInvalidArgument: malformed or more than kMaxStatistics; kNotFound: no such
// statistic, naming the nearest one.
absl::StatusOr<StatisticSelection> ParseStatistics(
    const google::protobuf::RepeatedPtrField<std::string>& names);

// "scalar.loss" for "loss", "agent.step_seconds" for itself.
std::string ScalarStatisticName(std::string_view wire_name);

// RE2, unanchored; empty passes everything. kInvalidArgument names it.
absl::StatusOr<NameFilter> ParseMatch(const std::string& pattern);

// Where one parameter stands in the columns of each role; -1: not there.
struct Places {
  Places() { place.fill(-1); }
  std::int32_t at(Role role) const {
    return place[static_cast<std::size_t>(role)];
  }

  std::array<std::int32_t, kRoleCount> place;
  std::uint64_t numel = 0;
  bool sharded = false;
};

// A schema with the places of its parameters. One thread at a time.
class SchemaIndex {
 public:
  explicit SchemaIndex(std::shared_ptr<const Schema> schema);

  const Schema& schema() const { return *schema_; }
  // As many as the schema has parameters.
  const std::vector<Places>& places() const { return places_; }
  // The index of a parameter, or -1. The first call goes through all of them.
  std::int64_t Find(std::string_view name) const;

 private:
  std::shared_ptr<const Schema> schema_;
  std::vector<Places> places_;
  mutable std::unordered_map<std::string_view, std::size_t> by_name_;
};

// True if the parameter has the roles that the statistic is made of.
bool HasStatistic(const Places& places, const Statistic& statistic);
bool HasStatistic(const Parameter& parameter, const Statistic& statistic);

struct Value {
  double value = 0;  // NaN if absent.
  bool absent = false;
};

class StepHistograms;

// The value of a record statistic, or nothing if the step has no columns of a
// role that it needs (missing). `histograms`: those of the step, the blocks of
// `statistic` among them; null: it has none, so that quantiles are missing. If
// step.status() is not OK afterwards the value means nothing.
std::optional<Value> Evaluate(const Statistic& statistic,
                              const StoredStep& step, const Places& places,
                              const StepHistograms* histograms = nullptr);

// One rank's part of a merged value.
struct Part {
  const StoredStep* step = nullptr;
  const Places* places = nullptr;
  const StepHistograms* histograms = nullptr;
};

// Whether there is a record to derive from.
using Presence = StoredStep::Presence;

// The records of one role of several parts, merged in double, added to `*all`.
// A missing part makes it missing, an absent one absent; `*all` means nothing
// then.
Presence MergeParts(const std::vector<Part>& parts, Role role, Moments* all);
// The same of their histograms. Every part with an element must have its own.
Presence MergeHistograms(const std::vector<Part>& parts, Role role,
                         BinCounts* bins, Moments* all);

// The same over shards, in double. A missing part makes it missing, an absent
// one absent: a part of a sum is not shown as the sum.
std::optional<Value> EvaluateMerged(const Statistic& statistic,
                                    const std::vector<Part>& parts);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_SELECTION_H_
