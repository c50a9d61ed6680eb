#include "server/service/collector.h"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ToString(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return "";
  std::string text;
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

grpc::ByteBuffer ToBuffer(const std::string& text) {
  grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

// A peer that knows neither our protos nor the standard ones.
class CollectorTest : public ServiceTest {
 protected:
  // Messages that a call answers `request` with, until it ends or `take` have
  // come.
  std::vector<std::string> CallRaw(const std::string& method,
                                   const std::string& request,
                                   std::size_t take = 100) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    SetDeadline(&context);
    grpc::CompletionQueue queue;
    auto call = stub.PrepareCall(&context, method, &queue);
    int tag = 0;
    const auto done = [&queue] {
      void* got = nullptr;
      bool ok = false;
      return queue.Next(&got, &ok) && ok;
    };
    call->StartCall(&tag);
    done();
    call->Write(ToBuffer(request), &tag);
    done();
    call->WritesDone(&tag);
    done();
    std::vector<std::string> answers;
    grpc::ByteBuffer answer;
    while (answers.size() < take) {
      call->Read(&answer, &tag);
      if (!done()) break;
      answers.push_back(ToString(answer));
    }
    if (answers.size() == take) context.TryCancel();
    grpc::Status status;
    call->Finish(&status, &tag);
    done();
    return answers;
  }
};

TEST_F(CollectorTest, EveryQueryAnswers) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  for (int i = 0; i < 10; ++i) feeder.Step(i, static_cast<float>(i));
  feeder.Gap(10, 12);
  feeder.End();

  grpc::ClientContext c0;
  v1::ListRunsResponse runs;
  const grpc::Status list_status = stub_->ListRuns(&c0, {}, &runs);
  ASSERT_TRUE(list_status.ok()) << list_status.error_message();
  ASSERT_EQ(runs.runs_size(), 1);
  EXPECT_EQ(runs.runs(0).state(), v1::RUN_STATE_FINISHED);
  EXPECT_EQ(runs.runs(0).stored_steps(), 10u);
  EXPECT_EQ(runs.runs(0).lost_steps(), 3u);

  grpc::ClientContext c1, c2, c3, c4, c5, c6;
  v1::GetRunRequest get;
  get.set_run("run");
  v1::GetRunResponse run;
  ASSERT_TRUE(stub_->GetRun(&c1, get, &run).ok());
  EXPECT_EQ(run.attempts(0).streams(0).last_step(), 12);

  v1::ListParametersRequest parameters;
  parameters.set_run("run");
  v1::ListParametersResponse table;
  ASSERT_TRUE(stub_->ListParameters(&c2, parameters, &table).ok());
  EXPECT_EQ(table.parameters(0).name(), "fc.weight");

  v1::GetSeriesRequest series;
  series.add_runs("run");
  series.add_statistics("weight.mean");
  series.mutable_steps()->set_begin(-5);
  v1::GetSeriesResponse points;
  ASSERT_TRUE(stub_->GetSeries(&c3, series, &points).ok());
  EXPECT_THAT(points.series(0).value(), ElementsAre(8, 9));
  EXPECT_EQ(points.gaps(0).gap().first_step(), 10);

  v1::GetSnapshotRequest at;
  at.set_run("run");
  at.set_step(3);
  v1::GetSnapshotResponse snapshot;
  ASSERT_TRUE(stub_->GetSnapshot(&c4, at, &snapshot).ok());
  EXPECT_EQ(snapshot.rows(0).value(1), 6);  // sqrt(4) * 3.

  v1::ListGapsRequest gaps;
  gaps.set_run("run");
  v1::ListGapsResponse holes;
  ASSERT_TRUE(stub_->ListGaps(&c5, gaps, &holes).ok());
  EXPECT_EQ(holes.lost_steps(), 3u);
  EXPECT_EQ(holes.gaps(0).gap().detail(), "test");

  v1::GetStatusResponse status;
  ASSERT_TRUE(stub_->GetStatus(&c6, {}, &status).ok());
  EXPECT_EQ(status.stored_steps(), 10u);
  EXPECT_EQ(status.runs(), 1u);
  EXPECT_GT(status.disk_free_bytes(), 0u);
  EXPECT_EQ(status.data_dir(), dir_.path() + "/data");
}

TEST_F(CollectorTest, CallsAndTheirFailuresAreTimedByMethod) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  feeder.Step(0, 1);
  for (const char* run : {"run", "nobody", "run"}) {
    grpc::ClientContext context;
    v1::GetRunRequest request;
    request.set_run(run);
    v1::GetRunResponse response;
    stub_->GetRun(&context, request, &response);
  }
  grpc::ClientContext context;
  v1::GetStatusResponse status;
  ASSERT_TRUE(stub_->GetStatus(&context, {}, &status).ok());
  ASSERT_EQ(status.figures().calls_size(), 1);
  const v1::CallFigures& calls = status.figures().calls(0);
  EXPECT_EQ(calls.method(), "GetRun");
  EXPECT_EQ(calls.failed(), 1u);
  EXPECT_EQ(calls.latency().count(), 3u);
  EXPECT_GT(calls.latency().max_ns(), 0);
  EXPECT_EQ(status.figures().calls_running(), 1u);  // This one.
  EXPECT_GE(status.figures().commit().count(), 2u);
}

TEST_F(CollectorTest, RankingsAndComparisonsAnswer) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  for (int i = 0; i < 10; ++i) feeder.Step(i, static_cast<float>(i));
  grpc::ClientContext ranked, beside;
  v1::GetTopRequest top;
  top.set_run("run");
  top.set_statistic("weight.mean");
  top.set_since_step(3);
  v1::GetTopResponse ranking;
  ASSERT_TRUE(stub_->GetTop(&ranked, top, &ranking).ok());
  EXPECT_DOUBLE_EQ(ranking.rows(0).score(), std::log2(3));  // 3, then 9.

  v1::CompareRunsRequest compare;
  compare.set_good_run("run");
  compare.set_other_run("run");
  compare.add_statistics("weight.mean");
  v1::CompareRunsResponse compared;
  ASSERT_TRUE(stub_->CompareRuns(&beside, compare, &compared).ok());
  EXPECT_EQ(compared.compared_steps(), 10u);
  EXPECT_EQ(compared.diverged(), 0u);
}

TEST_F(CollectorTest, HistogramsAndTheirQuantilesAreAnswered) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  feeder.StepWithHistogram(0, 0.75f);
  feeder.Step(1, 1);
  v1::GetHistogramsRequest request;
  request.set_run("run");
  request.set_parameter("fc.weight");
  v1::GetHistogramsResponse answer;
  grpc::ClientContext c1;
  ASSERT_TRUE(stub_->GetHistograms(&c1, request, &answer).ok());
  EXPECT_EQ(answer.step(), 0);
  ASSERT_EQ(answer.histograms_size(), 1);
  EXPECT_EQ(answer.histograms(0).role(), v1::ROLE_GRAD);
  EXPECT_THAT(answer.histograms(0).bin(), ElementsAre(BinOf(0.75)));
  EXPECT_THAT(answer.histograms(0).count(), ElementsAre(4));
  EXPECT_EQ(answer.histograms(0).max(), 0.75);
  request.set_step(1);
  grpc::ClientContext c2;
  const grpc::Status status = stub_->GetHistograms(&c2, request, &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("that have some: 0"));
  v1::GetSeriesRequest ask;
  ask.add_runs("run");
  ask.add_statistics("grad.p50");
  v1::GetSeriesResponse series;
  grpc::ClientContext c3;
  ASSERT_TRUE(stub_->GetSeries(&c3, ask, &series).ok());
  ASSERT_EQ(series.series_size(), 1);
  EXPECT_THAT(series.series(0).step(), ElementsAre(0));
  EXPECT_THAT(series.series(0).value(), ElementsAre(0.75));
}

TEST_F(CollectorTest, DeletedRunsAreGoneAndErrorsNameTheNearest) {
  Start();
  Feeder feeder(&collector_->store(), "fashion");
  feeder.Step(0, 1);
  grpc::ClientContext c1, c2, c3, c4;
  v1::GetRunRequest get;
  get.set_run("fasion");
  v1::GetRunResponse run;
  grpc::Status status = stub_->GetRun(&c1, get, &run);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("'fashion'"));
  v1::GetHistogramsRequest histograms;
  histograms.set_run("fashion");
  histograms.set_match("(");
  v1::GetHistogramsResponse none;
  status = stub_->GetHistograms(&c2, histograms, &none);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  v1::DeleteRunRequest remove;
  remove.set_run("fashion");
  v1::DeleteRunResponse removed;
  ASSERT_TRUE(stub_->DeleteRun(&c3, remove, &removed).ok());
  EXPECT_EQ(removed.deleted_steps(), 1u);
  get.set_run("fashion");
  EXPECT_EQ(stub_->GetRun(&c4, get, &run).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(CollectorTest, ReflectionAndHealthAnswerAForeignClient) {
  Start();
  EXPECT_THAT(CallRaw("/grpc.health.v1.Health/Check", ""),
              ElementsAre("\x08\x01"));
  for (const char* service : {"gradtap.v1.Query", "gradtap.v1.Telemetry"}) {
    const std::string name(service);
    EXPECT_THAT(
        CallRaw("/grpc.health.v1.Health/Check",
                "\x0a" + std::string(1, static_cast<char>(name.size())) + name),
        ElementsAre("\x08\x01"))
        << service;
  }
  const std::vector<std::string> listed =
      CallRaw("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              "\x3a\x01*");
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_THAT(listed[0], HasSubstr("gradtap.v1.Query"));
  EXPECT_THAT(listed[0], HasSubstr("gradtap.v1.Telemetry"));
  EXPECT_THAT(listed[0], HasSubstr("grpc.health.v1.Health"));
}

TEST_F(CollectorTest, AMessageOverTheLimitIsRefusedAndTheServerGoesOn) {
  Start();
  grpc::ClientContext c1, c2;
  v1::GetSeriesRequest request;
  request.add_runs("run");
  request.set_match(std::string(5 << 20, 'a'));
  v1::GetSeriesResponse response;
  EXPECT_EQ(stub_->GetSeries(&c1, request, &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::GetStatusResponse status;
  EXPECT_TRUE(stub_->GetStatus(&c2, {}, &status).ok());
}

TEST_F(CollectorTest, DataOutlivesTheCollector) {
  Start();
  {
    Feeder feeder(&collector_->store(), "run");
    feeder.Step(0, 5);
  }
  collector_->Shutdown();
  collector_->Shutdown();  // Idempotent.
  Start();
  v1::GetSnapshotRequest request;
  request.set_run("run");
  v1::GetSnapshotResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->GetSnapshot(&context, request, &response).ok());
  EXPECT_EQ(response.scalars(0).value(), 5);
}

TEST_F(CollectorTest, ManyQueriesAtOnceAllGetAnAnswer) {
  CollectorOptions options;
  options.query_threads = 1;
  Start(options);
  Feeder feeder(&collector_->store(), "run");
  for (int i = 0; i < 50; ++i) feeder.Step(i, 1);
  std::vector<std::thread> threads;
  std::atomic<int> answered{0};
  std::atomic<int> refused{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        v1::GetSeriesRequest request;
        request.add_runs("run");
        request.add_statistics("grad.l2");
        v1::GetSeriesResponse response;
        grpc::ClientContext context;
        SetDeadline(&context);
        const grpc::Status status =
            stub_->GetSeries(&context, request, &response);
        if (status.ok() && response.series(0).value_size() == 50) ++answered;
        if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
          ++refused;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answered + refused, 200);
  EXPECT_GT(answered, 0);
}

TEST(CollectorStartTest, AnotherAddressThanLoopbackWantsTheOverride) {
  gradtap::testing::TempDir dir;
  CollectorOptions options;
  options.data_dir = dir.path() + "/data";
  options.grpc_listen = "0.0.0.0:0";
  EXPECT_THAT(Collector::Start(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--allow-insecure")));
  EXPECT_FALSE(std::filesystem::exists(options.data_dir));
  options.allow_insecure = true;
  GRADTAP_EXPECT_OK(Collector::Start(options));
}

TEST(CollectorStartTest, APortInUseIsAnErrorWithTheReason) {
  gradtap::testing::TempDir dir;
  CollectorOptions options;
  options.data_dir = dir.path() + "/one";
  options.grpc_listen = "127.0.0.1:0";
  auto first = Collector::Start(options);
  GRADTAP_ASSERT_OK(first);
  options.grpc_listen = (*first)->grpc_address();
  options.data_dir = dir.path() + "/two";
  EXPECT_THAT(Collector::Start(options),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("Address already in use")));
}

// A collector whose store has two runs that were last seen years ago, of which
// one is pinned; `say` is fulfilled with the first line that it says.
std::unique_ptr<Collector> StartOverOldRuns(const std::string& data_dir,
                                            const KeepingLimits& limits,
                                            std::promise<std::string>* say) {
  {
    auto store = OpenRocksdbStore({data_dir});
    GRADTAP_EXPECT_OK(store);
    for (const char* run : {"old", "pinned"}) {
      Feeder feeder((*store).get(), run, kStart);
      feeder.Step(0, 1);
      feeder.End();
    }
    EXPECT_TRUE((*store)->PinRun("pinned", true).ok());
  }
  CollectorOptions options;
  options.data_dir = data_dir;
  options.grpc_listen = "127.0.0.1:0";
  options.keeping = limits;
  options.say = [say, said = std::make_shared<std::atomic<bool>>(false)](
                    const std::string& line) {
    if (!said->exchange(true)) say->set_value(line);
  };
  auto collector = Collector::Start(options);
  GRADTAP_EXPECT_OK(collector);
  return *std::move(collector);
}

v1::KeepingStatus KeepingOf(const Collector& collector) {
  const auto stub = v1::Query::NewStub(grpc::CreateChannel(
      collector.grpc_address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::GetStatusResponse response;
  EXPECT_TRUE(stub->GetStatus(&context, {}, &response).ok());
  return response.keeping();
}

TEST(CollectorKeepingTest, WhatIsTooOldGoesAtOnceAndIsSaidAndShown) {
  gradtap::testing::TempDir dir;
  std::promise<std::string> said;
  KeepingLimits limits;
  limits.keep_for = std::chrono::hours(24 * 30);
  const auto collector = StartOverOldRuns(dir.path() + "/data", limits, &said);
  EXPECT_THAT(said.get_future().get(), HasSubstr("removed run old ("));
  EXPECT_EQ(collector->store().FindRun("old"), nullptr);
  EXPECT_NE(collector->store().FindRun("pinned"), nullptr);
  // Described once the whole line has been said.
  const v1::KeepingStatus status = KeepingOf(*collector);
  EXPECT_EQ(status.keep_for_ns(),
            std::chrono::nanoseconds(limits.keep_for).count());
  EXPECT_GT(status.disk_total_bytes(), 0u);
}

TEST(CollectorKeepingTest, WithNoRoomLeftNothingIsStored) {
  gradtap::testing::TempDir dir;
  std::promise<std::string> said;
  KeepingLimits limits;
  limits.disk_reserve_bytes = std::uint64_t{1} << 60;
  const auto collector = StartOverOldRuns(dir.path() + "/data", limits, &said);
  // The run that may go goes first.
  EXPECT_THAT(said.get_future().get(), HasSubstr("removed run old ("));
  while (!KeepingOf(*collector).ingest_stopped()) std::this_thread::yield();
  StreamHello hello;
  hello.run = "new";
  EXPECT_THAT(collector->store().OpenStream(hello, kStart),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("--disk-reserve")));
}

TEST(ListenAddressTest, ReadsHostAndPort) {
  EXPECT_EQ(ParseListenAddress("127.0.0.1:7317")->ToString(), "127.0.0.1:7317");
  EXPECT_EQ(ParseListenAddress("[::1]:0")->ToString(), "[::1]:0");
  EXPECT_TRUE(ParseListenAddress("localhost:1")->IsLoopback());
  EXPECT_TRUE(ParseListenAddress("127.255.0.3:1")->IsLoopback());
  EXPECT_FALSE(ParseListenAddress("[::]:1")->IsLoopback());
  EXPECT_FALSE(ParseListenAddress("127.0.0.1.example.org:1")->IsLoopback());
  for (const char* bad :
       {"", ":", "7317", "host", "host:", "host:x", "host:65536", "host:-1",
        "::1:80", "[::1]", "[]:1", "a/b:1", "h\n:1", "host: 1"}) {
    EXPECT_THAT(
        ParseListenAddress(bad),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("HOST:PORT")))
        << bad;
  }
}

}  // namespace
}  // namespace gradtap::server::testing
