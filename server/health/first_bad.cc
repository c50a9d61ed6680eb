#include "server/health/first_bad.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "core/statistic.h"
#include "server/query/heat_map_query.h"
#include "server/query/run_query.h"
#include "server/query/run_view.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"

namespace gradtap::server {
namespace {

constexpr std::uint32_t kBuckets = 200;
constexpr std::uint32_t kPoints = 10'000;
constexpr std::uint32_t kDefaultLimit = 100;

struct RoleKind {
  Role role;
  v1::BadKind kind;
};
constexpr RoleKind kRoles[] = {
    {Role::kGradLocal, v1::BAD_KIND_GRAD_LOCAL},
    {Role::kGrad, v1::BAD_KIND_GRAD},
    {Role::kUpdate, v1::BAD_KIND_UPDATE},
    {Role::kWeight, v1::BAD_KIND_WEIGHT},
    {Role::kBuffer, v1::BAD_KIND_BUFFER},
};

// The first step at which a role was not finite, and that before.
struct Place {
  std::int64_t step = 0;
  std::int64_t after_step = -1;
  std::int64_t time_unix_ns = 0;
  bool exact = true;  // False: its values are gone; somewhere up to `step`.
  std::vector<std::string> parameters;
};

class Search {
 public:
  Search(const QueryEnvironment& environment, RunView run,
         const v1::GetFirstBadRequest& request, const Cancelled& cancelled,
         v1::GetFirstBadResponse* response)
      : environment_(environment),
        run_(std::move(run)),
        request_(request),
        cancelled_(cancelled),
        response_(response) {}

  absl::Status LookAtLoss(const std::string& loss);
  absl::Status LookAtRank(std::uint32_t rank);
  void Finish();

 private:
  // Nothing: the role was always finite. kNotFound: it was not recorded.
  absl::StatusOr<std::optional<Place>> Find(std::uint32_t rank, Role role);
  absl::Status Add(std::uint32_t rank, const RoleKind& role,
                   const Place& place);
  absl::Status AddLoss(
      const v1::Series& series,
      const google::protobuf::RepeatedPtrField<v1::GapInfo>& gaps);
  absl::StatusOr<v1::GetSeriesResponse> ReadLoss(
      std::optional<std::uint32_t> rank, std::int64_t begin, std::int64_t end);
  std::uint64_t NumelOf(std::uint32_t rank, std::uint32_t attempt,
                        const std::string& parameter);

  const QueryEnvironment& environment_;
  const RunView run_;
  const v1::GetFirstBadRequest& request_;
  const Cancelled& cancelled_;
  v1::GetFirstBadResponse* const response_;
  std::string loss_;
  std::vector<v1::BadFinding> findings_;
  std::set<std::uint32_t> with_grad_local_;  // Ranks.
  std::set<std::string> notes_;
  std::map<std::pair<std::uint32_t, std::uint32_t>,
           std::map<std::string, std::uint64_t>>
      numel_;  // By rank and attempt.
};

absl::StatusOr<std::optional<Place>> Search::Find(std::uint32_t rank,
                                                  Role role) {
  v1::GetHeatMapRequest request;
  request.set_run(run_.name());
  request.set_statistic(absl::StrCat(std::string(RoleName(role)), ".l2"));
  request.set_max_buckets(kBuckets);
  request.set_rank(rank);
  request.set_attempt(request_.attempt());
  Place place;
  std::int64_t narrowest = -1;  // Steps of the last bucket; -1: none yet.
  for (;;) {
    v1::GetHeatMapResponse map;
    const absl::Status s = GetHeatMap(environment_, request, cancelled_, &map);
    if (!s.ok()) return s;
    int first = map.buckets_size();
    for (const v1::HeatMapRow& row : map.rows()) {
      for (int i = 0; i < first && i < static_cast<int>(row.flags().size());
           ++i) {
        if ((row.flags()[static_cast<std::size_t>(i)] & 1) != 0) first = i;
      }
    }
    if (first == map.buckets_size()) return std::optional<Place>();
    const v1::HeatMapBucket& bucket = map.buckets(first);
    if (first > 0) place.after_step = map.buckets(first - 1).last_step();
    const std::int64_t wide = bucket.last_step() - bucket.first_step();
    if (bucket.recorded() > 1 && (narrowest < 0 || wide < narrowest)) {
      narrowest = wide;
      request.mutable_steps()->set_begin(bucket.first_step());
      request.mutable_steps()->set_end(bucket.last_step() + 1);
      continue;
    }
    place.exact = bucket.recorded() == 1;
    place.step = bucket.last_step();
    place.time_unix_ns = bucket.first_time_unix_ns();
    for (const v1::HeatMapRow& row : map.rows()) {
      const auto at = static_cast<std::size_t>(first);
      if (at < row.flags().size() && (row.flags()[at] & 1) != 0) {
        place.parameters.push_back(row.parameter());
      }
    }
    return std::optional<Place>(std::move(place));
  }
}

absl::Status Search::LookAtRank(std::uint32_t rank) {
  for (const RoleKind& role : kRoles) {
    const auto place = Find(rank, role.role);
    if (absl::IsNotFound(place.status())) continue;
    if (!place.ok()) return place.status();
    if (role.role == Role::kGradLocal) with_grad_local_.insert(rank);
    if (!place->has_value()) continue;
    if (absl::Status s = Add(rank, role, **place); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status Search::Add(std::uint32_t rank, const RoleKind& role,
                         const Place& place) {
  const std::string name(RoleName(role.role));
  v1::GetSnapshotRequest request;
  request.set_run(run_.name());
  request.set_step(place.step);
  request.set_rank(rank);
  request.set_attempt(request_.attempt());
  request.add_statistics(name + ".nan");
  request.add_statistics(name + ".pos_inf");
  request.add_statistics(name + ".neg_inf");
  v1::GetSnapshotResponse snapshot;
  std::map<std::string, double> elements;
  std::uint32_t attempt = request_.attempt();
  if (place.exact) {
    const absl::Status s =
        GetSnapshot(environment_, request, cancelled_, &snapshot);
    if (!s.ok()) return s;
    attempt = snapshot.attempt();
    for (const v1::SnapshotRow& row : snapshot.rows()) {
      double count = 0;
      // Masks are buffers full of -Inf.
      const int fields = role.role == Role::kBuffer ? 2 : 3;
      for (int i = 0; i < fields && i < row.value_size(); ++i) {
        if (std::isfinite(row.value(i))) count += row.value(i);
      }
      if (count > 0) elements[row.parameter()] = count;
    }
  } else {
    notes_.insert(absl::StrCat(
        "steps up to ", place.step,
        " have come to their roll-ups: what began in them has only a range"));
  }
  for (const std::string& parameter : place.parameters) {
    const auto count = elements.find(parameter);
    if (place.exact && count == elements.end()) continue;
    v1::BadFinding finding;
    finding.set_kind(role.kind);
    finding.set_attempt(attempt);
    finding.set_rank(rank);
    finding.set_step(place.step);
    finding.set_after_step(place.after_step);
    finding.set_time_unix_ns(place.time_unix_ns);
    finding.set_parameter(parameter);
    finding.set_value(place.exact ? count->second : std::nan(""));
    finding.set_numel(NumelOf(rank, attempt, parameter));
    findings_.push_back(std::move(finding));
  }
  return absl::OkStatus();
}

std::uint64_t Search::NumelOf(std::uint32_t rank, std::uint32_t attempt,
                              const std::string& parameter) {
  const auto [known, is_new] = numel_.try_emplace({rank, attempt});
  if (is_new) {
    v1::ListParametersRequest request;
    request.set_run(run_.name());
    request.set_rank(rank);
    request.set_attempt(attempt);
    v1::ListParametersResponse listed;
    if (ListParameters(environment_, request, nullptr, &listed).ok()) {
      for (const v1::Parameter& of : listed.parameters()) {
        known->second[of.name()] = of.numel();
      }
    }
  }
  const auto found = known->second.find(parameter);
  return found == known->second.end() ? 0 : found->second;
}

absl::StatusOr<v1::GetSeriesResponse> Search::ReadLoss(
    std::optional<std::uint32_t> rank, std::int64_t begin, std::int64_t end) {
  v1::GetSeriesRequest request;
  request.add_runs(run_.name());
  request.add_statistics(absl::StrCat("scalar.", loss_));
  request.set_attempt(request_.attempt());
  request.mutable_steps()->set_begin(begin);
  if (rank.has_value()) request.add_ranks(*rank);
  if (end >= 0) request.mutable_steps()->set_end(end);
  request.set_max_points(kPoints);
  v1::GetSeriesResponse series;
  if (absl::Status s = GetSeries(environment_, request, cancelled_, &series);
      !s.ok()) {
    return s;
  }
  return series;
}

absl::Status Search::LookAtLoss(const std::string& loss) {
  loss_ = loss;
  const auto all = ReadLoss(std::nullopt, 0, -1);
  if (absl::IsNotFound(all.status())) {
    notes_.insert(absl::StrCat("there is no scalar.", EscapeForTerminal(loss),
                               ": whether the loss went first is not known"));
    return absl::OkStatus();
  }
  if (!all.ok()) return all.status();
  for (const v1::Series& series : all->series()) {
    if (absl::Status s = AddLoss(series, all->gaps()); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// True if the loop skipped the step: a loss scaler that backs off.
bool WasSkipped(const google::protobuf::RepeatedPtrField<v1::GapInfo>& gaps,
                std::uint32_t rank, std::int64_t step) {
  return std::any_of(gaps.begin(), gaps.end(), [&](const v1::GapInfo& info) {
    return info.rank() == rank && info.gap().cause() == v1::GAP_CAUSE_LOOP &&
           info.gap().first_step() <= step && step <= info.gap().last_step() &&
           info.gap().steps() ==
               static_cast<std::uint64_t>(info.gap().last_step() -
                                          info.gap().first_step() + 1);
  });
}

absl::Status Search::AddLoss(
    const v1::Series& series,
    const google::protobuf::RepeatedPtrField<v1::GapInfo>& gaps) {
  for (int i = 0; i < series.step_size(); ++i) {
    if (std::isfinite(series.value(i)) ||
        WasSkipped(gaps, series.rank(), series.step(i))) {
      continue;
    }
    v1::BadFinding finding;
    finding.set_kind(v1::BAD_KIND_LOSS);
    finding.set_attempt(series.attempt(i));
    finding.set_rank(series.rank());
    finding.set_step(series.step(i));
    finding.set_after_step(i == 0 ? -1 : series.step(i - 1));
    finding.set_time_unix_ns(series.time_unix_ns(i));
    finding.set_value(series.value(i));
    // Between two points of a reduced series there are others, all finite.
    if (i > 0 && series.points_before() >
                     static_cast<std::uint64_t>(series.step_size())) {
      const auto near = ReadLoss(series.rank(),
                                 std::max<std::int64_t>(0, series.step(i) - 64),
                                 series.step(i) + 1);
      if (!near.ok()) return near.status();
      for (const v1::Series& fine : near->series()) {
        const int last = fine.step_size() - 1;
        if (last > 0 && fine.step(last) == finding.step()) {
          finding.set_after_step(fine.step(last - 1));
        }
      }
    }
    findings_.push_back(std::move(finding));
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

void Search::Finish() {
  const auto order = [](const v1::BadFinding& f) {
    return std::make_tuple(f.step(), static_cast<int>(f.kind()), f.rank());
  };
  std::stable_sort(findings_.begin(), findings_.end(),
                   [&](const v1::BadFinding& a, const v1::BadFinding& b) {
                     return order(a) < order(b);
                   });
  std::optional<std::int64_t> loss_at;
  std::uint32_t place = 0;
  std::pair<std::int64_t, v1::BadKind> last = {-1, v1::BAD_KIND_UNSPECIFIED};
  const std::size_t limit =
      request_.limit() == 0 ? kDefaultLimit : request_.limit();
  bool many_ranks = false;
  for (const Attempt& attempt : run_.attempts) {
    many_ranks |= attempt.world_size > 1;
  }
  for (v1::BadFinding& finding : findings_) {
    if (finding.kind() == v1::BAD_KIND_LOSS && !loss_at.has_value()) {
      loss_at = finding.step();
    }
    const std::pair<std::int64_t, v1::BadKind> here = {finding.step(),
                                                       finding.kind()};
    if (here != last) ++place;
    last = here;
    finding.set_place(place);
    finding.set_origin_unknown(finding.kind() == v1::BAD_KIND_GRAD &&
                               many_ranks && !loss_at.has_value() &&
                               with_grad_local_.count(finding.rank()) == 0);
    if (response_->findings_size() < static_cast<int>(limit)) {
      *response_->add_findings() = std::move(finding);
    } else {
      response_->set_omitted(response_->omitted() + 1);
    }
  }
  for (const std::string& note : notes_) response_->add_notes(note);
}

}  // namespace

absl::Status FirstBad(const QueryEnvironment& environment,
                      const std::string& loss,
                      const v1::GetFirstBadRequest& request,
                      const Cancelled& cancelled,
                      v1::GetFirstBadResponse* response) {
  absl::StatusOr<RunView> run = OpenRun(*environment.store, request.run());
  if (!run.ok()) return run.status();
  if (absl::Status s = CheckAttempt(*run, request.attempt()); !s.ok()) return s;
  if (request.loss().size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "loss: ", request.loss().size(),
        " bytes are more than a scalar's name has (", kMaxNameBytes, ")"));
  }
  response->set_run(run->name());
  response->set_last_step(-1);
  const std::vector<std::uint32_t> ranks = run->Ranks(request.attempt());
  for (const std::uint32_t rank : ranks) {
    response->set_last_step(
        std::max(response->last_step(),
                 run->LineOf(rank, request.attempt()).last_step()));
  }
  Search search(environment, *run, request, cancelled, response);
  if (response->last_step() >= 0) {
    absl::Status s =
        search.LookAtLoss(request.loss().empty() ? loss : request.loss());
    for (const std::uint32_t rank : ranks) {
      if (s.ok()) s = search.LookAtRank(rank);
    }
    if (!s.ok()) return s;
  }
  search.Finish();
  return absl::OkStatus();
}

}  // namespace gradtap::server
