// A collector's Query service with canned answers, in this process.
//
// It filters as a collector does (runs, statistics, patterns, steps) so that
// what a client asks for matters; it knows nothing about lines, ranks and
// merging: answers are what the test put in.

#ifndef GRADTAP_TESTS_CLIENT_FAKE_QUERY_SERVICE_H_
#define GRADTAP_TESTS_CLIENT_FAKE_QUERY_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gradtap/v1/query.grpc.pb.h"
#include "gradtap/v1/upkeep.grpc.pb.h"

namespace gradtap::client::testing {

struct FakeRun {
  v1::GetRunResponse info;
  v1::ListParametersResponse parameters;
  std::vector<v1::Series> series;
  std::vector<v1::GapInfo> gaps;
  v1::GetSnapshotResponse snapshot;  // Of the last step.
  v1::GetHistogramsResponse histograms;
  v1::GetTopResponse top;
  v1::GetHeatMapResponse heat_map;
  v1::CompareRunsResponse compared;  // With this one as the good run.
  std::vector<v1::WatchResponse> watch;
  v1::ListAlertsResponse alerts;
  v1::GetFirstBadResponse first_bad;
  v1::TestRulesResponse tested;
};

// Fill the fields before the server starts; calls come on any thread.
class FakeQueryService final : public v1::Query::Service {
 public:
  std::map<std::string, FakeRun> runs;
  v1::GetStatusResponse status;
  // Not OK: what every call fails with.
  grpc::Status failure;
  // More values in a GetSeries answer than this are refused.
  std::size_t most_values = 1'000'000;
  // Messages that one Watch call sends before it ends with watch_end; then the
  // client has to call again.
  std::size_t watch_messages_a_call = 1'000'000;
  grpc::Status watch_end;
  // After its last message a watch stays open until the client has enough.
  bool watch_stays_open = false;
  // Called before each message of a watch, with its number from 0.
  std::function<void(std::size_t number)> before_watch_message;

  // Called before each GetRun, with its number from 0; may change the runs, if
  // one client asks one question at a time.
  std::function<void(int number)> before_get_run;

  // What a GetHistograms ends with, by its number from 0; unset: OK.
  std::function<grpc::Status(int number)> histograms_end;
  std::vector<std::string> notes;  // Of ListRuns.

  std::atomic<int> calls{0};
  std::atomic<int> watch_calls{0};
  std::atomic<int> get_run_calls{0};
  std::atomic<int> histogram_calls{0};
  // The newest request of each kind.
  template <typename Request>
  Request Last() const {
    std::lock_guard<std::mutex> lock(mu_);
    Request request;
    const auto it = last_.find(Request::descriptor()->full_name());
    if (it != last_.end()) request.ParseFromString(it->second);
    return request;
  }
  // The metadata "authorization" of the newest call; empty: none.
  std::string LastAuthorization() const {
    std::lock_guard<std::mutex> lock(mu_);
    return authorization_;
  }

  grpc::Status ListRuns(grpc::ServerContext*, const v1::ListRunsRequest*,
                        v1::ListRunsResponse*) override;
  grpc::Status GetRun(grpc::ServerContext*, const v1::GetRunRequest*,
                      v1::GetRunResponse*) override;
  grpc::Status ListParameters(grpc::ServerContext*,
                              const v1::ListParametersRequest*,
                              v1::ListParametersResponse*) override;
  grpc::Status GetSeries(grpc::ServerContext*, const v1::GetSeriesRequest*,
                         v1::GetSeriesResponse*) override;
  grpc::Status GetSnapshot(grpc::ServerContext*, const v1::GetSnapshotRequest*,
                           v1::GetSnapshotResponse*) override;
  grpc::Status GetHistograms(grpc::ServerContext*,
                             const v1::GetHistogramsRequest*,
                             v1::GetHistogramsResponse*) override;
  grpc::Status GetHeatMap(grpc::ServerContext*, const v1::GetHeatMapRequest*,
                          v1::GetHeatMapResponse*) override;
  grpc::Status GetTop(grpc::ServerContext*, const v1::GetTopRequest*,
                      v1::GetTopResponse*) override;
  grpc::Status CompareRuns(grpc::ServerContext*, const v1::CompareRunsRequest*,
                           v1::CompareRunsResponse*) override;
  grpc::Status ListGaps(grpc::ServerContext*, const v1::ListGapsRequest*,
                        v1::ListGapsResponse*) override;
  grpc::Status Watch(grpc::ServerContext*, const v1::WatchRequest*,
                     grpc::ServerWriter<v1::WatchResponse>*) override;
  grpc::Status DeleteRun(grpc::ServerContext*, const v1::DeleteRunRequest*,
                         v1::DeleteRunResponse*) override;
  grpc::Status PinRun(grpc::ServerContext*, const v1::PinRunRequest*,
                      v1::PinRunResponse*) override;
  grpc::Status GetStatus(grpc::ServerContext*, const v1::GetStatusRequest*,
                         v1::GetStatusResponse*) override;
  // Of one run, or of all.
  grpc::Status ListAlerts(grpc::ServerContext*, const v1::ListAlertsRequest*,
                          v1::ListAlertsResponse*) override;
  grpc::Status GetFirstBad(grpc::ServerContext*, const v1::GetFirstBadRequest*,
                           v1::GetFirstBadResponse*) override;
  grpc::Status TestRules(grpc::ServerContext*, const v1::TestRulesRequest*,
                         v1::TestRulesResponse*) override;

 private:
  // Counts and keeps the request; `failure` if that is set.
  grpc::Status Enter(grpc::ServerContext* context,
                     const google::protobuf::Message& request);
  // Null and NOT_FOUND with the nearest name if there is none.
  grpc::Status Find(const std::string& name, FakeRun** run);

  mutable std::mutex mu_;
  std::map<std::string, std::string> last_;
  std::string authorization_;
};

// Answers what the test put in, or fails, or does not answer at all.
class FakeUpkeepService final : public v1::Upkeep::Service {
 public:
  v1::BackupResponse backup;
  v1::CompactResponse compact;
  grpc::Status failure;
  v1::BackupRequest last_backup;
  // Every call waits until its client has given up.
  std::atomic<bool> hangs{false};

  grpc::Status Backup(grpc::ServerContext* context,
                      const v1::BackupRequest* request,
                      v1::BackupResponse* response) override;
  grpc::Status Compact(grpc::ServerContext* context, const v1::CompactRequest*,
                       v1::CompactResponse* response) override;

 private:
  void HangOn(grpc::ServerContext* context) const;
};

// A server around fake services, on a free loopback port.
class FakeCollector {
 public:
  FakeCollector() = default;
  ~FakeCollector() { Stop(); }

  FakeQueryService service;
  FakeUpkeepService upkeep;

  // On the port of the last time, if there was one.
  void Start();
  // Cancels what is open.
  void Stop();
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

// ---- Canned data ------------------------------------------------------------

inline constexpr std::int64_t kFakeStart = 1'700'000'000'000'000'000;

// "mnist": finished, two ranks, five steps of which step 3 was lost; a tied,
// a frozen and a buffer; NaN, infinities and absent values among the values.
FakeRun MakeMnist();

// A run with one parameter `w` whose statistic weight.mean takes these values
// at steps 0, 1, 2, ...
FakeRun MakeValues(const std::string& name, const std::vector<double>& values);

// A run with these parameter names, all numel 1, and a snapshot and a series
// of one point for each.
FakeRun MakeNames(const std::string& name,
                  const std::vector<std::string>& parameters);

// "grouped": grad.l2 of a group of twelve, as a series and as a snapshot.
FakeRun MakeGrouped();

// "ranked": a GetTop answer of grad.l2 by its change from step 20 to 40: one
// that is NaN, one that grew eightfold, one that is absent.
FakeRun MakeRanked();

// "compared" beside "other": a tag and a parameter that differ, and one series
// each that diverges at step 250, that is absent in one, and that is not apart.
FakeRun MakeCompared();

// A running run: its watch says RUNNING, sends `steps` snapshots of
// `parameters` parameters, and says FINISHED.
FakeRun MakeLive(const std::string& name, int steps, int parameters);

}  // namespace gradtap::client::testing

#endif  // GRADTAP_TESTS_CLIENT_FAKE_QUERY_SERVICE_H_
