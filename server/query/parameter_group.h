// Parameters taken together as if they were one tensor: "the gradient norm of
// block 3".
//
// A group is a pattern over parameter names. The records of its members merge
// as those of shards do, in double, in the schema's order. A member that is
// absent (no gradient was defined) contributes nothing, to a ratio neither its
// own part nor its weight; if all are, the group is absent. A member that is
// missing makes the group missing: a part is not shown as the whole.
//
// Layer: server/query. This file: std, absl; no grpc.

#ifndef GRADTAP_SERVER_QUERY_PARAMETER_GROUP_H_
#define GRADTAP_SERVER_QUERY_PARAMETER_GROUP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/name_filter.h"
#include "core/schema.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "server/query/merge.h"
#include "server/query/selection.h"

namespace gradtap::server {

// Groups of one request.
inline constexpr int kMaxGroups = 64;
// Of their patterns together: RE2's instructions.
inline constexpr std::size_t kMaxGroupInstructions = 200'000;

// The groups that a request names. Not copyable.
class ParameterGroups {
 public:
  // None.
  ParameterGroups() = default;

  // kInvalidArgument names a pattern that is empty or malformed; more than
  // kMaxGroups, or patterns that are too large together. A pattern that is
  // there twice is one group.
  static absl::StatusOr<ParameterGroups> Parse(
      const google::protobuf::RepeatedPtrField<std::string>& patterns);

  std::size_t size() const { return groups_.size(); }
  bool empty() const { return groups_.empty(); }
  const std::string& pattern(std::size_t group) const {
    return groups_[group].pattern;
  }
  // How answers name it: "/PATTERN/".
  std::string NameOf(std::size_t group) const;
  bool Has(std::size_t group, std::string_view parameter) const {
    return groups_[group].filter.Matches(parameter);
  }

 private:
  struct Group {
    std::string pattern;
    NameFilter filter;
  };
  std::vector<Group> groups_;
};

// One statistic of a group in the rows of a MergePlan, which must outlive it.
struct PlannedGroup {
  // Those that have the statistic, in the plan's order.
  std::vector<const MergedParameter*> members;
  // Members that only ranks without a row at this step have: it is missing.
  std::uint32_t elsewhere = 0;
};

// Of the plan's parameters; `match` is what the plan was made with.
PlannedGroup PlanGroup(const ParameterGroups& groups, std::size_t group,
                       const Statistic& statistic, const MergePlan& plan,
                       const NameFilter& match);

// How many parameters match, whatever they record, of the plan's and of those
// that only ranks without a row at this step have.
std::uint32_t MembersOf(const ParameterGroups& groups, std::size_t group,
                        const MergePlan& plan, const NameFilter& match);

// Nothing: missing. A group of one is its member.
std::optional<Value> EvaluateGroup(const Statistic& statistic,
                                   const PlannedGroup& group,
                                   const std::vector<RankRow>& rows);

// A series of a merged answer: of a group, or of one parameter.
struct PlannedSeries : PlannedGroup {
  std::string name;
  const Statistic* statistic = nullptr;
  std::uint32_t count = 0;  // All members of a group; 0: a parameter.
};

// Those of the groups if there are any, else those of the plan's parameters.
// None is without a member; `statistics` must outlive them.
std::vector<PlannedSeries> PlanSeries(const ParameterGroups& groups,
                                      const StatisticSelection& statistics,
                                      const MergePlan& plan,
                                      const NameFilter& match);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_PARAMETER_GROUP_H_
