#include "server/query/series_check.h"

#include <functional>
#include <string_view>
#include <utility>

#include "core/codec.h"
#include "core/match_limit.h"
#include "core/names.h"
#include "server/query/errors.h"

namespace gradtap::server {
namespace {

// Rows and bytes that are looked at, beyond what was asked for, to tell an
// unknown scalar from one that is rare.
constexpr std::uint64_t kMaxProbeRows = 4'096;
constexpr std::uint64_t kMaxProbeBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMaxNames = 100'000;

using NameTest = std::function<bool(std::string_view)>;

struct Found {
  bool any_parameter = false;
  bool matched = false;
  std::vector<bool> statistic;  // One for each record statistic.
  std::vector<std::string> names;
  std::set<Role> roles;

  bool Complete() const {
    for (const bool one : statistic) {
      if (!one) return false;
    }
    return matched;
  }
};

void Look(const SchemaIndex& index, const StatisticSelection& statistics,
          const NameTest& matches, Found* found) {
  const std::vector<Parameter>& parameters = index.schema().parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    found->any_parameter = true;
    if (!matches(parameters[i].name)) {
      if (found->names.size() < kMaxNames) {
        found->names.push_back(parameters[i].name);
      }
      continue;
    }
    found->matched = true;
    for (const Role role : parameters[i].roles) found->roles.insert(role);
    for (std::size_t s = 0; s < statistics.records.size(); ++s) {
      if (!found->statistic[s]) {
        found->statistic[s] =
            HasStatistic(index.places()[i], statistics.records[s]);
      }
    }
  }
}

absl::Status NoSuchStatistic(const StatisticSelection& statistics,
                             const Found& found) {
  for (std::size_t s = 0; s < statistics.records.size(); ++s) {
    if (found.statistic[s]) continue;
    std::string roles;
    for (const Role role : found.roles) {
      if (!roles.empty()) roles += ", ";
      roles += RoleName(role);
    }
    return absl::NotFoundError(
        "no parameter that was asked for has statistic " +
        Quote(statistics.records[s].name) +
        "; recorded roles: " + (roles.empty() ? "none" : roles));
  }
  return absl::OkStatus();
}

bool IsSeen(const Statistic& statistic,
            const std::set<std::string, std::less<>>& seen) {
  return statistic.scalar == "*" || seen.count(statistic.name) > 0;
}

// kNotFound as CheckParameters() has it.
absl::Status CheckNames(const std::vector<RunView>& runs, std::uint32_t attempt,
                        const StatisticSelection& statistics,
                        const NameTest& matches, const std::string& pattern,
                        SchemaCache* schemas) {
  Found found;
  found.statistic.resize(statistics.records.size());
  for (const RunView& run : runs) {
    for (auto it = run.attempts.rbegin(); it != run.attempts.rend(); ++it) {
      if (attempt != 0 && it->label != attempt) continue;
      for (const StreamEntry* stream : it->streams) {
        for (std::uint32_t id = stream->schema_id; id > 0; --id) {
          absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
              schemas->Get(stream->id, id);
          if (!index.ok()) return index.status();
          Look(**index, statistics, matches, &found);
          if (found.Complete()) return absl::OkStatus();
          const absl::Status matching = MatchLimit::OfThread();
          if (!matching.ok()) return matching;
        }
      }
    }
  }
  if (!found.any_parameter) return absl::OkStatus();
  if (!found.matched) {
    return NothingMatches(runs.front().name(), pattern, found.names);
  }
  return NoSuchStatistic(statistics, found);
}

}  // namespace

absl::Status NothingMatches(const std::string& run, const std::string& pattern,
                            const std::vector<std::string>& names) {
  std::string message =
      "run " + Quote(run) + " has no parameter that matches " + Quote(pattern);
  if (const std::string near = Nearest(pattern, names); !near.empty()) {
    message += "; the nearest known one is " + Quote(near);
  } else if (!names.empty()) {
    message += "; it has " + std::to_string(names.size()) +
               " others, for example " + Quote(names.front());
  }
  return absl::NotFoundError(message);
}

absl::Status CheckParameters(const std::vector<RunView>& runs,
                             std::uint32_t attempt,
                             const StatisticSelection& statistics,
                             const NameFilter& match,
                             const std::string& pattern, SchemaCache* schemas) {
  return CheckNames(
      runs, attempt, statistics,
      [&match](std::string_view name) { return match.Matches(name); }, pattern,
      schemas);
}

absl::Status CheckGroups(const std::vector<RunView>& runs,
                         std::uint32_t attempt,
                         const StatisticSelection& statistics,
                         const NameFilter& match, const ParameterGroups& groups,
                         SchemaCache* schemas) {
  for (std::size_t group = 0; group < groups.size(); ++group) {
    absl::Status status = CheckNames(
        runs, attempt, statistics,
        [&](std::string_view name) {
          return groups.Has(group, name) && match.Matches(name);
        },
        groups.pattern(group), schemas);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckScalars(Store* store, const std::vector<RunView>& runs,
                          std::uint32_t attempt,
                          const StatisticSelection& statistics,
                          const std::set<std::string, std::less<>>& seen,
                          ReadBudget* budget) {
  const Statistic* unseen = nullptr;
  for (const Statistic& statistic : statistics.scalars) {
    if (!IsSeen(statistic, seen)) unseen = &statistic;
  }
  if (unseen == nullptr) return absl::OkStatus();
  std::set<std::string, std::less<>> known = seen;
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;
  for (const RunView& run : runs) {
    for (const std::uint32_t rank : run.Ranks(attempt)) {
      absl::Status status =
          ScanBackward(store, run.LineOf(rank, attempt), StepWindow{}, budget,
                       [&](const Row& row) {
                         row.stored->ForEachScalar(
                             [&](std::string_view name) {
                               known.insert(ScalarStatisticName(name));
                               return false;
                             },
                             nullptr);
                         ++rows;
                         bytes += row.stored->bytes_read();
                         return rows < kMaxProbeRows && bytes < kMaxProbeBytes;
                       });
      if (!status.ok()) return status;
    }
  }
  if (rows == 0) return absl::OkStatus();  // Nothing is known yet.
  for (const Statistic& statistic : statistics.scalars) {
    if (IsSeen(statistic, known)) continue;
    return NotFoundNearest("statistic", statistic.name,
                           {known.begin(), known.end()});
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
