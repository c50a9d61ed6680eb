#include "server/promql/aggregate.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <utility>

#include "server/promql/functions.h"

namespace gradtap::server::promql {
namespace {

Labels GroupOf(const Expression& aggregation, const Labels& labels) {
  Labels group;
  if (!aggregation.without) {
    for (const std::string& label : aggregation.labels) {
      const auto it = labels.find(label);
      if (it != labels.end()) group.insert(*it);
    }
    return group;
  }
  group = labels;
  group.erase(kMetricName);
  for (const std::string& label : aggregation.labels) group.erase(label);
  return group;
}

double Combine(const std::string& name, double number,
               std::vector<double>* values) {
  if (name == "count") return static_cast<double>(values->size());
  if (name == "quantile") return Quantile(number, values);
  if (name == "min" || name == "max") {
    double best = values->front();
    for (const double value : *values) {
      const bool better = name == "min" ? value < best : value > best;
      if (better || std::isnan(best)) best = value;
    }
    return best;
  }
  double sum = 0;
  for (const double value : *values) sum += value;
  return name == "sum" ? sum : sum / static_cast<double>(values->size());
}

// One column a group.
std::vector<Column> Reduce(
    const Expression& aggregation, const std::vector<double>& numbers,
    const std::map<Labels, std::vector<const Column*>>& groups,
    std::size_t times) {
  std::vector<Column> out;
  std::vector<double> values;
  for (const auto& [labels, members] : groups) {
    Column column{labels, std::vector<double>(times),
                  std::vector<std::uint8_t>(times)};
    for (std::size_t t = 0; t < times; ++t) {
      values.clear();
      for (const Column* member : members) {
        if (member->present[t] != 0) values.push_back(member->values[t]);
      }
      if (values.empty()) continue;
      column.present[t] = 1;
      column.values[t] =
          Combine(aggregation.name, numbers.empty() ? 0 : numbers[t], &values);
    }
    out.push_back(std::move(column));
  }
  return out;
}

// Takes away what is not among the k best of its group.
void KeepBest(bool largest, const std::vector<double>& numbers,
              const std::vector<Column*>& members) {
  std::vector<Column*> there;
  for (std::size_t t = 0; t < numbers.size(); ++t) {
    there.clear();
    for (Column* member : members) {
      if (member->present[t] != 0) there.push_back(member);
    }
    const double k = std::isnan(numbers[t]) ? 0 : std::max(numbers[t], 0.0);
    if (static_cast<double>(there.size()) <= k) continue;
    // NaNs come last whichever way.
    std::stable_sort(there.begin(), there.end(), [&](Column* a, Column* b) {
      const double x = a->values[t];
      const double y = b->values[t];
      if (std::isnan(x) || std::isnan(y))
        return !std::isnan(x) && std::isnan(y);
      return largest ? x > y : x < y;
    });
    for (auto i = static_cast<std::size_t>(k); i < there.size(); ++i) {
      there[i]->present[t] = 0;
    }
  }
}

}  // namespace

std::vector<Column> Aggregate(const Expression& aggregation,
                              const std::vector<double>& numbers,
                              std::vector<Column> of, std::size_t times) {
  if (aggregation.name == "topk" || aggregation.name == "bottomk") {
    std::map<Labels, std::vector<Column*>> groups;
    for (Column& column : of) {
      groups[GroupOf(aggregation, column.labels)].push_back(&column);
    }
    for (const auto& [labels, members] : groups) {
      KeepBest(aggregation.name == "topk", numbers, members);
    }
    return of;
  }
  std::map<Labels, std::vector<const Column*>> groups;
  for (const Column& column : of) {
    groups[GroupOf(aggregation, column.labels)].push_back(&column);
  }
  return Reduce(aggregation, numbers, groups, times);
}

}  // namespace gradtap::server::promql
