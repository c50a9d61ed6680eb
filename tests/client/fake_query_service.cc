#include "client/fake_query_service.h"

#include <re2/re2.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/names.h"

namespace gradtap::client::testing {
namespace {

grpc::Status NotFound(const std::string& what) {
  return {grpc::StatusCode::NOT_FOUND, what};
}

bool Wanted(const std::string& name, const std::string& statistic) {
  if (statistic == "scalar.*") return name.rfind("scalar.", 0) == 0;
  if (statistic == "agent.*") return name.rfind("agent.", 0) == 0;
  return name == statistic;
}

template <typename List>
bool AnyWanted(const std::string& name, const List& statistics) {
  return std::any_of(statistics.begin(), statistics.end(),
                     [&](const auto& s) { return Wanted(name, s); });
}

grpc::Status CheckPattern(const std::string& match) {
  const RE2 pattern(match, RE2::Quiet);
  if (pattern.ok()) return grpc::Status::OK;
  return {grpc::StatusCode::INVALID_ARGUMENT,
          "bad pattern '" + match + "': " + pattern.error()};
}

bool InSteps(std::int64_t step, std::int64_t last, const v1::StepRange& range) {
  const auto place = [last](std::int64_t at) {
    return at < 0 ? last + 1 + at : at;
  };
  return (!range.has_begin() || step >= place(range.begin())) &&
         (!range.has_end() || step < place(range.end()));
}

// The points of `from` that are in the range.
v1::Series Cut(const v1::Series& from, const v1::GetSeriesRequest& request) {
  v1::Series to;
  to.set_run(from.run());
  to.set_rank(from.rank());
  to.set_parameter(from.parameter());
  to.set_statistic(from.statistic());
  to.set_members(from.members());
  const std::int64_t last =
      from.step().empty() ? 0 : from.step(from.step_size() - 1);
  for (int i = 0; i < from.step_size(); ++i) {
    const std::int64_t time = from.time_unix_ns(i);
    if (!InSteps(from.step(i), last, request.steps()) ||
        time < request.since_unix_ns() ||
        (request.until_unix_ns() != 0 && time >= request.until_unix_ns())) {
      continue;
    }
    if (std::find(from.absent().begin(), from.absent().end(),
                  static_cast<std::uint32_t>(i)) != from.absent().end()) {
      to.add_absent(to.step_size());
    }
    to.add_attempt(from.attempt(i));
    to.add_step(from.step(i));
    to.add_time_unix_ns(time);
    to.add_value(from.value(i));
  }
  to.set_points_before(to.step_size());
  return to;
}

}  // namespace

grpc::Status FakeQueryService::Enter(grpc::ServerContext* context,
                                     const google::protobuf::Message& request) {
  ++calls;
  std::lock_guard<std::mutex> lock(mu_);
  last_[request.GetDescriptor()->full_name()] = request.SerializeAsString();
  const auto& metadata = context->client_metadata();
  const auto it = metadata.find("authorization");
  authorization_ = it == metadata.end()
                       ? ""
                       : std::string(it->second.data(), it->second.size());
  return failure;
}

grpc::Status FakeQueryService::Find(const std::string& name, FakeRun** run) {
  const auto it = runs.find(name);
  if (it != runs.end()) {
    *run = &it->second;
    return grpc::Status::OK;
  }
  std::vector<std::string> names;
  for (const auto& [known, ignored] : runs) names.push_back(known);
  const std::string near = Nearest(name, names);
  return NotFound("no run '" + name + "'" +
                  (near.empty() ? "" : "; did you mean '" + near + "'?"));
}

grpc::Status FakeQueryService::ListRuns(grpc::ServerContext* context,
                                        const v1::ListRunsRequest* request,
                                        v1::ListRunsResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  for (const auto& [name, run] : runs) {
    const v1::RunInfo& info = run.info.run();
    if (request->state() != v1::RUN_STATE_UNSPECIFIED &&
        info.state() != request->state()) {
      continue;
    }
    bool tagged = true;
    for (const v1::Tag& tag : request->tags()) {
      tagged &= std::any_of(
          info.tags().begin(), info.tags().end(), [&](const v1::Tag& t) {
            return t.key() == tag.key() && t.value() == tag.value();
          });
    }
    if (tagged) *response->add_runs() = info;
  }
  for (const std::string& note : notes) response->add_notes(note);
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::GetRun(grpc::ServerContext* context,
                                      const v1::GetRunRequest* request,
                                      v1::GetRunResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  if (before_get_run) before_get_run(get_run_calls++);
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  *response = run->info;
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::ListParameters(
    grpc::ServerContext* context, const v1::ListParametersRequest* request,
    v1::ListParametersResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  if (auto status = CheckPattern(request->match()); !status.ok()) {
    return status;
  }
  *response = run->parameters;
  response->clear_parameters();
  for (const v1::Parameter& parameter : run->parameters.parameters()) {
    const auto& kinds = request->kinds();
    if (!kinds.empty() && std::find(kinds.begin(), kinds.end(),
                                    parameter.kind()) == kinds.end()) {
      continue;
    }
    if (RE2::PartialMatch(parameter.name(), request->match())) {
      *response->add_parameters() = parameter;
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::GetSeries(grpc::ServerContext* context,
                                         const v1::GetSeriesRequest* request,
                                         v1::GetSeriesResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  if (auto status = CheckPattern(request->match()); !status.ok()) {
    return status;
  }
  std::size_t values = 0;
  for (const std::string& name : request->runs()) {
    FakeRun* run = nullptr;
    if (auto status = Find(name, &run); !status.ok()) return status;
    for (const std::string& wanted : request->statistics()) {
      if (wanted.find('*') == std::string::npos &&
          std::none_of(run->series.begin(), run->series.end(),
                       [&](const v1::Series& series) {
                         return series.statistic() == wanted;
                       })) {
        return NotFound("no statistic '" + wanted + "'");
      }
    }
    for (const v1::Series& series : run->series) {
      const bool rank_wanted =
          request->ranks().empty() ||
          std::find(request->ranks().begin(), request->ranks().end(),
                    series.rank()) != request->ranks().end();
      if (!rank_wanted ||
          !AnyWanted(series.statistic(), request->statistics()) ||
          (!series.parameter().empty() &&
           !RE2::PartialMatch(series.parameter(), request->match()))) {
        continue;
      }
      v1::Series cut = Cut(series, *request);
      values += cut.value_size();
      if (cut.value_size() > 0) *response->add_series() = std::move(cut);
    }
    for (const v1::GapInfo& gap : run->gaps) *response->add_gaps() = gap;
  }
  if (values > most_values) {
    return {grpc::StatusCode::RESOURCE_EXHAUSTED,
            "more than " + std::to_string(most_values) + " values"};
  }
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::GetSnapshot(
    grpc::ServerContext* context, const v1::GetSnapshotRequest* request,
    v1::GetSnapshotResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  if (auto status = CheckPattern(request->match()); !status.ok()) {
    return status;
  }
  *response = run->snapshot;
  response->clear_rows();
  for (const v1::SnapshotRow& row : run->snapshot.rows()) {
    if (RE2::PartialMatch(row.parameter(), request->match())) {
      *response->add_rows() = row;
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::GetHistograms(
    grpc::ServerContext* context, const v1::GetHistogramsRequest* request,
    v1::GetHistogramsResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  const int number = histogram_calls++;
  if (histograms_end) {
    if (auto status = histograms_end(number); !status.ok()) return status;
  }
  *response = run->histograms;
  if (request->has_step() && request->step() != response->step()) {
    return NotFound("no histograms at step " + std::to_string(request->step()));
  }
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::GetHeatMap(grpc::ServerContext* context,
                                          const v1::GetHeatMapRequest* request,
                                          v1::GetHeatMapResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  if (auto status = CheckPattern(request->match()); !status.ok()) {
    return status;
  }
  *response = run->heat_map;
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::GetTop(grpc::ServerContext* context,
                                      const v1::GetTopRequest* request,
                                      v1::GetTopResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  if (auto status = CheckPattern(request->match()); !status.ok()) {
    return status;
  }
  *response = run->top;
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::CompareRuns(
    grpc::ServerContext* context, const v1::CompareRunsRequest* request,
    v1::CompareRunsResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->other_run(), &run); !status.ok()) {
    return status;
  }
  if (auto status = Find(request->good_run(), &run); !status.ok()) {
    return status;
  }
  if (auto status = CheckPattern(request->match()); !status.ok()) {
    return status;
  }
  *response = run->compared;
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::ListAlerts(grpc::ServerContext* context,
                                          const v1::ListAlertsRequest* request,
                                          v1::ListAlertsResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  if (request->run().empty()) {
    for (const auto& [name, run] : runs) response->MergeFrom(run.alerts);
    return grpc::Status::OK;
  }
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  *response = run->alerts;
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::GetFirstBad(
    grpc::ServerContext* context, const v1::GetFirstBadRequest* request,
    v1::GetFirstBadResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  *response = run->first_bad;
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::TestRules(grpc::ServerContext* context,
                                         const v1::TestRulesRequest* request,
                                         v1::TestRulesResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  *response = run->tested;
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::ListGaps(grpc::ServerContext* context,
                                        const v1::ListGapsRequest* request,
                                        v1::ListGapsResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  response->set_run(request->run());
  std::uint64_t lost = 0;
  std::uint64_t skipped = 0;
  for (const v1::GapInfo& gap : run->gaps) {
    *response->add_gaps() = gap;
    if (gap.gap().cause() == v1::GAP_CAUSE_ROLLED_UP) {
      response->set_rolled_up_steps(gap.gap().steps());
      continue;
    }
    (gap.lost() ? lost : skipped) += gap.gap().steps();
  }
  response->set_lost_steps(lost);
  response->set_skipped_steps(skipped);
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::Watch(
    grpc::ServerContext* context, const v1::WatchRequest* request,
    grpc::ServerWriter<v1::WatchResponse>* writer) {
  ++watch_calls;
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  std::size_t sent = 0;
  for (std::size_t i = 0; i < run->watch.size(); ++i) {
    const v1::WatchResponse& message = run->watch[i];
    if (request->has_after_ordinal() &&
        message.ordinal() <= request->after_ordinal()) {
      continue;
    }
    if (sent++ == watch_messages_a_call) return watch_end;
    if (before_watch_message) before_watch_message(i);
    if (!writer->Write(message)) return grpc::Status::CANCELLED;
  }
  while (watch_stays_open && !context->IsCancelled()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return watch_end;
}

grpc::Status FakeQueryService::DeleteRun(grpc::ServerContext* context,
                                         const v1::DeleteRunRequest* request,
                                         v1::DeleteRunResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  response->set_run(request->run());
  response->set_deleted_steps(run->info.run().stored_steps());
  response->set_deleted_bytes(run->info.run().bytes());
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::PinRun(grpc::ServerContext* context,
                                      const v1::PinRunRequest* request,
                                      v1::PinRunResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  FakeRun* run = nullptr;
  if (auto status = Find(request->run(), &run); !status.ok()) return status;
  v1::RunInfo& info = *run->info.mutable_run();
  response->set_run(request->run());
  response->set_pinned(request->pinned());
  response->set_changed(info.pinned() != request->pinned());
  info.set_pinned(request->pinned());
  return grpc::Status::OK;
}

grpc::Status FakeQueryService::GetStatus(grpc::ServerContext* context,
                                         const v1::GetStatusRequest* request,
                                         v1::GetStatusResponse* response) {
  if (auto status = Enter(context, *request); !status.ok()) return status;
  *response = this->status;
  return grpc::Status::OK;
}

void FakeUpkeepService::HangOn(grpc::ServerContext* context) const {
  while (hangs && !context->IsCancelled()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

grpc::Status FakeUpkeepService::Backup(grpc::ServerContext* context,
                                       const v1::BackupRequest* request,
                                       v1::BackupResponse* response) {
  HangOn(context);
  last_backup = *request;
  *response = backup;
  return failure;
}

grpc::Status FakeUpkeepService::Compact(grpc::ServerContext* context,
                                        const v1::CompactRequest*,
                                        v1::CompactResponse* response) {
  HangOn(context);
  *response = compact;
  return failure;
}

void FakeCollector::Start() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address(), grpc::InsecureServerCredentials(),
                           &port_);
  builder.RegisterService(&service);
  builder.RegisterService(&upkeep);
  server_ = builder.BuildAndStart();
}

void FakeCollector::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

}  // namespace gradtap::client::testing
