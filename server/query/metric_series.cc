#include "server/query/metric_series.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/query/metric_names.h"
#include "server/query/metric_scan.h"
#include "server/query/row_reader.h"
#include "server/query/selection.h"

namespace gradtap::server {
namespace {

using promql::Labels;
using promql::Matcher;

constexpr std::int64_t kNsPerMs = 1'000'000;
// Series between two looks at whether anybody waits.
constexpr std::size_t kLookEvery = 1'024;

std::int64_t LastSeenMs(const RunEntry& run) {
  std::int64_t last = run.created_unix_ns;
  for (const StreamEntry& stream : run.streams) {
    last = std::max(last, stream.last_seen_unix_ns);
  }
  return last / kNsPerMs;
}

// A step's wall time may be before that.
std::int64_t FirstSeenMs(const RunEntry& run) {
  std::int64_t first = run.created_unix_ns;
  for (const StreamEntry& stream : run.streams) {
    first = std::min(first, stream.hello.start_time_unix_ns);
  }
  return first / kNsPerMs;
}

absl::Status TooMany() {
  return absl::ResourceExhaustedError(
      absl::StrCat("more than ", kMaxLabelSets,
                   " series match; name a metric, a run or a parameter"));
}

}  // namespace

MetricSeries::MetricSeries(const QueryEnvironment& environment,
                           const Cancelled& cancelled)
    : environment_(environment),
      budget_(environment.limits.max_read_bytes, cancelled),
      schemas_(environment.store) {}

absl::Status MetricSeries::ForEachRank(
    const std::vector<Matcher>& matchers, const TimeSpan& span,
    const std::function<absl::Status(const RunView& run, std::uint32_t rank)>&
        visit) {
  for (const std::shared_ptr<const RunEntry>& entry :
       environment_.store->Runs()) {
    if (!promql::MatchesAll(matchers, "run", entry->run) ||
        FirstSeenMs(*entry) > span.end_ms ||
        LastSeenMs(*entry) < span.begin_ms) {
      continue;
    }
    const RunView run{entry, AttemptsOf(*entry)};
    for (const std::uint32_t rank : run.Ranks(0)) {
      if (!promql::MatchesAll(matchers, "rank", std::to_string(rank))) continue;
      const absl::Status status = visit(run, rank);
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status MetricSeries::Select(const std::vector<Matcher>& matchers,
                                  const promql::Times& times,
                                  std::int64_t before_ms, bool newest_only,
                                  std::vector<promql::SampledSeries>* series) {
  MetricScanQuestion question;
  question.matchers = &matchers;
  question.times = times;
  question.before_ms = before_ms;
  question.newest_only = newest_only;
  std::uint64_t left = kMaxSamples;
  return ForEachRank(matchers, {times.begin_ms - before_ms, times.end_ms},
                     [&](const RunView& run, std::uint32_t rank) {
                       return MetricScan(environment_.store, question,
                                         &schemas_, &budget_, &left)
                           .Run(run, rank, series);
                     });
}

// Of its newest row that has some.
absl::Status MetricSeries::ScalarNames(const RunView& run, std::uint32_t rank,
                                       std::vector<std::string>* names) {
  absl::Status read;
  const absl::Status status = ScanBackward(
      environment_.store, run.LineOf(rank, 0), StepWindow{}, &budget_,
      [&](const Row& row) {
        row.stored->ForEachScalar(nullptr, [&](std::string_view name, double) {
          names->emplace_back(name);
        });
        read = row.stored->status();
        return false;
      });
  return status.ok() ? read : status;
}

absl::Status MetricSeries::VisitRank(
    const std::vector<Matcher>& matchers, const RunView& run,
    std::uint32_t rank, const std::function<Next(const Labels&)>& visit) {
  const auto named = [&](std::string_view metric) {
    return promql::MatchesAll(matchers, promql::kMetricName, metric);
  };
  Labels labels = {{"run", run.name()}, {"rank", std::to_string(rank)}};
  const auto show = [&] {
    return promql::MatchesAll(matchers, labels) ? visit(labels) : Next::kSeries;
  };
  if (named(kStepMetric)) {
    labels[promql::kMetricName] = kStepMetric;
    if (show() == Next::kStop) return absl::OkStatus();
  }
  if (named(kScalarMetric)) {
    std::vector<std::string> scalars;
    const absl::Status status = ScalarNames(run, rank, &scalars);
    if (!status.ok()) return status;
    labels[promql::kMetricName] = kScalarMetric;
    for (const std::string& name : scalars) {
      labels["name"] = name;
      const Next next = show();
      if (next == Next::kStop) return absl::OkStatus();
      if (next == Next::kMetric) break;
    }
    labels.erase("name");
  }
  const SchemaSource source = NewestSchema(run, rank, 0);
  if (source.stream == nullptr) return absl::OkStatus();
  const auto index = schemas_.Get(source.stream->id, source.stream->schema_id);
  if (!index.ok()) return index.status();
  const std::vector<Parameter>& parameters = (*index)->schema().parameters;
  for (const NamedStatistic& one : NamedStatistics()) {
    if (!named(one.metric)) continue;
    labels[promql::kMetricName] = one.metric;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (i % kLookEvery == 0) {
        if (const auto s = budget_.Charge(0); !s.ok()) return s;
      }
      if (!HasStatistic((*index)->places()[i], one.statistic)) continue;
      labels["param"] = parameters[i].name;
      const Next next = show();
      if (next == Next::kStop) return absl::OkStatus();
      if (next == Next::kMetric) break;
    }
  }
  return absl::OkStatus();
}

absl::Status MetricSeries::Series(const std::vector<Matcher>& matchers,
                                  const TimeSpan& span,
                                  std::set<Labels>* labels) {
  return ForEachRank(
      matchers, span, [&](const RunView& run, std::uint32_t rank) {
        const absl::Status status =
            VisitRank(matchers, run, rank, [labels](const Labels& one) {
              labels->insert(one);
              return labels->size() > kMaxLabelSets ? Next::kStop
                                                    : Next::kSeries;
            });
        if (!status.ok()) return status;
        return labels->size() > kMaxLabelSets ? TooMany() : absl::OkStatus();
      });
}

absl::Status MetricSeries::LabelValues(const std::vector<Matcher>& matchers,
                                       const TimeSpan& span,
                                       const std::string& label,
                                       std::set<std::string>* values) {
  const bool of_rank = label == "run" || label == "rank";
  return ForEachRank(
      matchers, span, [&](const RunView& run, std::uint32_t rank) {
        return VisitRank(matchers, run, rank, [&](const Labels& one) {
          const auto it = one.find(label);
          // All series of a metric have the same labels.
          if (it == one.end()) return Next::kMetric;
          values->insert(it->second);
          if (of_rank) return Next::kStop;
          return label == promql::kMetricName ? Next::kMetric : Next::kSeries;
        });
      });
}

}  // namespace gradtap::server
