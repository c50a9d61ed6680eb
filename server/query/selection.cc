#include "server/query/selection.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "core/histogram.h"
#include "core/quantile.h"
#include "server/query/errors.h"
#include "server/query/step_histograms.h"

namespace gradtap::server {
namespace {

constexpr std::string_view kAgentPrefix = "agent.";
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::optional<Value> ToValue(Presence presence, double value) {
  switch (presence) {
    case Presence::kValue:
      return Value{value, false};
    case Presence::kAbsent:
      return Value{kNan, true};
    case Presence::kMissing:
      break;
  }
  return std::nullopt;
}

Presence Field1(const StoredStep& step, const Places& places, Role role,
                Field field, double* value) {
  Record record;
  const Presence presence =
      step.Read(role, places.at(role), FieldsOf(field), &record);
  if (presence == Presence::kValue) {
    *value = Derive(field, record, places.numel);
  }
  return presence;
}

// A quantile of one part or of several together.
std::optional<Value> EvaluateQuantile(const Statistic& statistic,
                                      const std::vector<Part>& parts) {
  BinCounts bins{};
  Moments all;
  const Presence presence = MergeHistograms(parts, statistic.role, &bins, &all);
  if (presence != Presence::kValue) return ToValue(presence, kNan);
  return Value{QuantileOf(bins, statistic.quantile, all.min, all.max).value,
               false};
}

// `field(role, field, out)` reads one field; kRatio takes two of them.
template <typename FieldOf>
std::optional<Value> EvaluateWith(const Statistic& statistic,
                                  const FieldOf& field) {
  double own = kNan;
  if (statistic.field != Field::kRatio) {
    const Presence presence = field(statistic.role, statistic.field, &own);
    return ToValue(presence, own);
  }
  double weight = kNan;
  const Presence a = field(statistic.role, Field::kL2, &own);
  const Presence b = field(Role::kWeight, Field::kL2, &weight);
  if (a == Presence::kMissing || b == Presence::kMissing) return std::nullopt;
  const bool absent = a == Presence::kAbsent || b == Presence::kAbsent;
  return ToValue(absent ? Presence::kAbsent : Presence::kValue, own / weight);
}

bool KnowsRole(std::string_view name) {
  const std::string_view head = name.substr(0, name.find('.'));
  for (int role = 1; role < kRoleCount; ++role) {
    if (RoleName(static_cast<Role>(role)) == head) return true;
  }
  return false;
}

absl::Status UnknownStatistic(const std::string& name,
                              const absl::Status& status) {
  if (status.code() == absl::StatusCode::kNotFound) return status;
  if (KnowsRole(name)) return status;  // A quantile that makes no sense.
  // Something like "grda.l2" is a statistic that nobody knows; what has no
  // ROLE.FIELD form is malformed.
  const std::size_t dot = name.find('.');
  if (dot == std::string::npos || dot == 0 || dot + 1 == name.size()) {
    return status;
  }
  return NotFoundNearest("statistic", name, AllStatisticNames());
}

}  // namespace

const std::vector<std::string>& DefaultSnapshotStatistics() {
  static const auto& names = *new std::vector<std::string>{
      "grad.l2",      "weight.l2",      "update.ratio",
      "grad.abs_max", "grad.nonfinite", "weight.nonfinite"};
  return names;
}

bool StatisticSelection::WantsScalar(std::string_view wire_name) const {
  const bool agent = wire_name.starts_with(kAgentPrefix);
  for (const Statistic& statistic : scalars) {
    if ((statistic.source == Statistic::Source::kAgent) != agent) continue;
    if (statistic.scalar == "*" || statistic.scalar == wire_name) return true;
  }
  return false;
}

absl::StatusOr<StatisticSelection> ParseStatistics(
    const google::protobuf::RepeatedPtrField<std::string>& names) {
  if (names.size() > kMaxStatistics) {
    return absl::InvalidArgumentError(std::to_string(names.size()) +
                                      " statistics in one query; at most " +
                                      std::to_string(kMaxStatistics));
  }
  StatisticSelection selection;
  std::set<std::string> seen;
  for (const std::string& name : names) {
    absl::StatusOr<Statistic> parsed = ParseStatistic(name);
    if (!parsed.ok()) return UnknownStatistic(name, parsed.status());
    if (!seen.insert(parsed->name).second) continue;
    auto* list = parsed->source == Statistic::Source::kRecord
                     ? &selection.records
                     : &selection.scalars;
    list->push_back(*std::move(parsed));
  }
  return selection;
}

std::string ScalarStatisticName(std::string_view wire_name) {
  if (wire_name.starts_with(kAgentPrefix)) return std::string(wire_name);
  return "scalar." + std::string(wire_name);
}

absl::StatusOr<NameFilter> ParseMatch(const std::string& pattern) {
  if (pattern.empty()) return NameFilter();
  return NameFilter::Create({pattern});
}

SchemaIndex::SchemaIndex(std::shared_ptr<const Schema> schema)
    : schema_(std::move(schema)) {
  std::array<std::int32_t, kRoleCount> next{};
  places_.resize(schema_->parameters.size());
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Parameter& parameter = schema_->parameters[i];
    for (const Role role : parameter.roles) {
      const auto r = static_cast<std::size_t>(role);
      if (places_[i].place[r] < 0) places_[i].place[r] = next[r]++;
    }
    places_[i].numel = parameter.numel;
    places_[i].sharded = parameter.placement == Placement::kSharded;
  }
}

std::int64_t SchemaIndex::Find(std::string_view name) const {
  if (by_name_.empty()) {
    by_name_.reserve(places_.size());
    for (std::size_t i = 0; i < places_.size(); ++i) {
      by_name_.emplace(schema_->parameters[i].name, i);
    }
  }
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? -1 : static_cast<std::int64_t>(it->second);
}

bool HasStatistic(const Places& places, const Statistic& statistic) {
  if (places.at(statistic.role) < 0) return false;
  return statistic.field != Field::kRatio || places.at(Role::kWeight) >= 0;
}

bool HasStatistic(const Parameter& parameter, const Statistic& statistic) {
  if (!parameter.HasRole(statistic.role)) return false;
  return statistic.field != Field::kRatio || parameter.HasRole(Role::kWeight);
}

std::optional<Value> Evaluate(const Statistic& statistic,
                              const StoredStep& step, const Places& places,
                              const StepHistograms* histograms) {
  if (statistic.field == Field::kQuantile) {
    return EvaluateQuantile(statistic, {{&step, &places, histograms}});
  }
  return EvaluateWith(statistic, [&](Role role, Field field, double* value) {
    return Field1(step, places, role, field, value);
  });
}

Presence MergeParts(const std::vector<Part>& parts, Role role, Moments* all) {
  Presence presence = Presence::kValue;
  for (const Part& part : parts) {
    Record record;
    switch (part.step->Read(role, part.places->at(role), kAllFields, &record)) {
      case Presence::kMissing:
        return Presence::kMissing;
      case Presence::kAbsent:
        presence = Presence::kAbsent;
        break;
      case Presence::kValue:
        *all = Merge(*all, ToMoments(record, part.places->numel));
        break;
    }
  }
  return presence;
}

// A quantile of some shards is not shown as that of all.
Presence MergeHistograms(const std::vector<Part>& parts, Role role,
                         BinCounts* bins, Moments* all) {
  bool absent = false;
  for (const Part& part : parts) {
    Record record;
    const Presence presence =
        part.histograms == nullptr
            ? Presence::kMissing
            : part.step->Read(role, part.places->at(role), kAllFields, &record);
    if (presence == Presence::kMissing) return presence;
    absent |= presence == Presence::kAbsent;
    if (presence == Presence::kAbsent || part.places->numel == 0) continue;
    const HistogramData* histogram = part.histograms->Find(
        role, static_cast<std::uint32_t>(part.places->at(role)));
    if (histogram == nullptr) return Presence::kMissing;
    AddBins(histogram->bin, histogram->count, bins);
    *all = Merge(*all, ToMoments(record, part.places->numel));
  }
  return absent ? Presence::kAbsent : Presence::kValue;
}

std::optional<Value> EvaluateMerged(const Statistic& statistic,
                                    const std::vector<Part>& parts) {
  if (parts.empty()) return std::nullopt;
  if (statistic.field == Field::kQuantile) {
    return EvaluateQuantile(statistic, parts);
  }
  if (parts.size() == 1) {
    return Evaluate(statistic, *parts[0].step, *parts[0].places);
  }
  return EvaluateWith(statistic, [&](Role role, Field field, double* value) {
    Moments all;
    const Presence presence = MergeParts(parts, role, &all);
    if (presence == Presence::kValue) *value = Derive(field, all);
    return presence;
  });
}

}  // namespace gradtap::server
