#include "client/include/gradtap/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "client/fake_query_service.h"
#include "core/histogram.h"

bool UseTheClientHeader();

namespace gradtap::client {
namespace {

using ::testing::ElementsAre;
using testing::FakeCollector;
using testing::FakeRun;
using ::testing::HasSubstr;
using testing::MakeLive;
using testing::MakeMnist;

// Of conv.weight's gradient at step 4: two zeros, 4 in (-2, -1], one in [1, 2),
// three NaN, and a number that is no bin.
FakeRun WithHistogram(FakeRun run) {
  run.histograms.set_run("mnist");
  run.histograms.set_step(4);
  v1::ParameterHistogram* one = run.histograms.add_histograms();
  one->set_parameter("conv.weight");
  one->set_role(v1::ROLE_GRAD);
  one->set_numel(10);
  one->set_min(-1.5);
  one->set_max(std::numeric_limits<double>::quiet_NaN());
  const std::vector<std::pair<std::uint32_t, std::uint64_t>> bins = {
      {kBinZero, 2},
      {kBinNan, 3},
      {9, 7},
      {kBinPositive + 127, 1},
      {kBinNegative + 127, 4}};
  for (const auto& [bin, count] : bins) {
    one->add_bin(bin);
    one->add_count(count);
  }
  return run;
}

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["mnist"] = WithHistogram(MakeMnist());
    collector_.service.runs["live"] = MakeLive("live", 6, 3);
    collector_.service.status.set_version("0.1.0");
    collector_.service.status.set_runs(2);
    v1::SealingFigures& sealing =
        *collector_.service.status.mutable_figures()->mutable_sealing();
    sealing.set_rows_waiting(9);
    sealing.set_rows_due(4);
    collector_.Start();
    ClientOptions options;
    options.collector = collector_.address();
    Result<Client> client = Client::Connect(options);
    ASSERT_TRUE(client.ok()) << client.error().message;
    client_ = std::make_unique<Client>(std::move(client).value());
  }

  FakeCollector collector_;
  std::unique_ptr<Client> client_;
};

TEST(ClientHeaderTest, ThePublicHeaderStandsAloneAsCpp17) {
  EXPECT_TRUE(UseTheClientHeader());
}

TEST(ResultTest, ReadingWhatIsNotThereAborts) {
  const Result<int> good(1);
  const Result<int> bad(Error{ErrorCode::kNotFound, "no"});
  EXPECT_EQ(*good, 1);
  EXPECT_EQ(bad.error().message, "no");
  EXPECT_DEATH((void)good.error(), "");
  EXPECT_DEATH((void)bad.value(), "");
}

TEST_F(ClientTest, RunsCarryTheirStateAndTags) {
  const auto runs = client_->Runs();
  ASSERT_TRUE(runs.ok());
  ASSERT_EQ(runs->size(), 2u);
  const RunSummary& mnist = (*runs)[1];
  EXPECT_EQ(mnist.run, "mnist");
  EXPECT_EQ(mnist.state, RunState::kFinished);
  EXPECT_EQ(mnist.last_step, 4);
  EXPECT_EQ(mnist.lost_steps, 1u);
  ASSERT_EQ(mnist.tags.size(), 1u);
  EXPECT_EQ(mnist.tags[0].key, "data");
}

TEST_F(ClientTest, RunsAreFilteredByStateAndTag) {
  RunsQuery query;
  query.state = RunState::kRunning;
  EXPECT_EQ(client_->Runs(query)->front().run, "live");
  query = {};
  query.tags = {{"data", "fashion"}};
  EXPECT_EQ(client_->Runs(query)->front().run, "mnist");
  query.tags = {{"data", "other"}};
  EXPECT_TRUE(client_->Runs(query)->empty());
}

TEST_F(ClientTest, ARunListsItsAttemptsAndStreams) {
  const auto run = client_->Run("mnist");
  ASSERT_TRUE(run.ok());
  ASSERT_EQ(run->attempts.size(), 1u);
  ASSERT_EQ(run->attempts[0].streams.size(), 2u);
  EXPECT_EQ(run->attempts[0].streams[0].process_nonce, "\x01\xff");
  EXPECT_THAT(run->attempts[0].streams[0].optimizers,
              ElementsAre("torch::optim::AdamW"));
}

TEST_F(ClientTest, ParametersCarryAliasesShapesAndTotals) {
  ParametersQuery query;
  query.run = "mnist";
  const auto answer = client_->Parameters(query);
  ASSERT_TRUE(answer.ok());
  ASSERT_EQ(answer->parameters.size(), 4u);
  EXPECT_THAT(answer->parameters[0].aliases, ElementsAre("decoder.weight"));
  EXPECT_THAT(answer->parameters[0].shape, ElementsAre(4, 8));
  EXPECT_THAT(answer->parameters[0].roles, ElementsAre("weight", "grad"));
  EXPECT_FALSE(answer->parameters[1].requires_grad);
  EXPECT_EQ(answer->parameters[2].kind, ParameterKind::kBuffer);
  EXPECT_EQ(answer->parameter_numel, 37u);
  EXPECT_EQ(answer->trainable_numel, 33u);
  query.kinds = {ParameterKind::kBuffer};
  EXPECT_EQ(client_->Parameters(query)->parameters.size(), 1u);
  query.kinds.clear();
  query.match = "weight$";
  EXPECT_EQ(client_->Parameters(query)->parameters.size(), 1u);
}

TEST_F(ClientTest, SeriesKeepNaNInfinityAndAbsentApart) {
  SeriesQuery query;
  query.runs = {"mnist"};
  query.statistics = {"grad.l2"};
  query.ranks = {0};
  const auto answer = client_->Series(query);
  ASSERT_TRUE(answer.ok());
  ASSERT_EQ(answer->series.size(), 2u);
  const auto& weight = answer->series[0].points;
  ASSERT_EQ(weight.size(), 4u);
  EXPECT_EQ(*weight[0].value, 1.5);
  EXPECT_TRUE(std::isnan(*weight[2].value));
  EXPECT_TRUE(std::isinf(*weight[3].value));
  EXPECT_EQ(weight[3].step, 4);
  for (const SeriesPoint& point : answer->series[1].points) {
    EXPECT_FALSE(point.value.has_value());
  }
  ASSERT_EQ(answer->gaps.size(), 1u);
  EXPECT_EQ(answer->gaps[0].cause, "ring_full");
  EXPECT_TRUE(answer->gaps[0].lost);
}

TEST_F(ClientTest, SeriesQueriesReachTheCollectorAsAsked) {
  SeriesQuery query;
  query.runs = {"mnist"};
  query.statistics = {"grad.l2"};
  query.steps.begin = -2;
  query.since_unix_ns = 5;
  query.until_unix_ns = 6;
  query.max_points = 7;
  query.merged = true;
  query.attempt = 1;
  query.merge = {"a", "b"};
  ASSERT_TRUE(client_->Series(query).ok());
  const auto sent = collector_.service.Last<v1::GetSeriesRequest>();
  EXPECT_EQ(sent.steps().begin(), -2);
  EXPECT_FALSE(sent.steps().has_end());
  EXPECT_EQ(sent.since_unix_ns(), 5);
  EXPECT_EQ(sent.until_unix_ns(), 6);
  EXPECT_EQ(sent.max_points(), 7u);
  EXPECT_TRUE(sent.merged());
  EXPECT_EQ(sent.attempt(), 1u);
  EXPECT_THAT(sent.merge_match(), ElementsAre("a", "b"));
}

TEST_F(ClientTest, ASnapshotHasAValueForEachStatistic) {
  SnapshotQuery query;
  query.run = "mnist";
  const auto answer = client_->Snapshot(query);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->step, 4);
  ASSERT_EQ(answer->rows.size(), 4u);
  EXPECT_FALSE(answer->rows[1].values[0].has_value());
  EXPECT_TRUE(std::isnan(*answer->rows[2].values[0]));
  EXPECT_EQ(answer->scalars[0].name, "loss");
  EXPECT_FALSE(collector_.service.Last<v1::GetSnapshotRequest>().has_step());
}

TEST_F(ClientTest, HistogramsHaveBinsInOrderAndCountsBesideThem) {
  HistogramsQuery query;
  query.run = "mnist";
  query.step = 4;
  query.role = "grad";
  query.match = "conv*";
  query.merged = true;
  const auto answer = client_->Histograms(query);
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_EQ(answer->step, 4);
  ASSERT_EQ(answer->histograms.size(), 1u);
  const ParameterHistogram& one = answer->histograms[0];
  EXPECT_EQ(one.parameter, "conv.weight");
  EXPECT_EQ(one.role, "grad");
  EXPECT_EQ(one.min, -1.5);
  EXPECT_FALSE(one.max.has_value());
  EXPECT_EQ(one.nan, 3u);
  ASSERT_EQ(one.bins.size(), 3u);  // A number that is no bin is left out.
  EXPECT_LT(one.bins[0].lower, one.bins[0].upper);
  EXPECT_EQ(one.bins[0].upper, -1);
  EXPECT_EQ(one.bins[0].count, 4u);
  EXPECT_EQ(one.bins[1].lower, 0);
  EXPECT_EQ(one.bins[1].count, 2u);
  EXPECT_EQ(one.bins[2].lower, 1);
  EXPECT_EQ(one.bins[2].count, 1u);
  const auto sent = collector_.service.Last<v1::GetHistogramsRequest>();
  EXPECT_EQ(sent.step(), 4);
  EXPECT_EQ(sent.role(), v1::ROLE_GRAD);
  EXPECT_EQ(sent.match(), "conv*");
  EXPECT_TRUE(sent.merged());
}

TEST_F(ClientTest, AnUnknownRoleIsNamedAndNothingIsAsked) {
  HistogramsQuery query;
  query.run = "mnist";
  query.role = "gard";
  const int calls = collector_.service.calls;
  const auto answer = client_->Histograms(query);
  EXPECT_EQ(collector_.service.calls, calls);
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(answer.error().message, HasSubstr("role 'gard'"));
}

TEST_F(ClientTest, GapsStatusAndDeleteAnswer) {
  GapsQuery gaps;
  gaps.run = "mnist";
  EXPECT_EQ(client_->Gaps(gaps)->lost_steps, 1u);
  EXPECT_EQ(client_->Status()->version, "0.1.0");
  EXPECT_EQ(client_->Status()->rows_waiting, 9u);
  EXPECT_EQ(client_->Status()->rows_due, 4u);
  EXPECT_EQ(client_->DeleteRun("mnist")->deleted_steps, 4u);
  EXPECT_TRUE(client_->PinRun("mnist", true).value());
  EXPECT_FALSE(client_->PinRun("mnist", true).value());
  EXPECT_TRUE(client_->Run("mnist")->run.pinned);
}

TEST_F(ClientTest, ABackupSaysWhereItIsAndWhatIsInIt) {
  v1::BackupResponse& made = collector_.upkeep.backup;
  made.set_path("/srv/data.backups/mine");
  made.set_bytes(5 << 20);
  made.set_runs(2);
  made.set_rows(1234);
  made.set_took_ns(1'500'000'000);
  const auto backup = client_->Backup("mine");
  ASSERT_TRUE(backup.ok()) << backup.error().message;
  EXPECT_EQ(backup->path, "/srv/data.backups/mine");
  EXPECT_EQ(backup->bytes, 5u << 20);
  EXPECT_EQ(backup->runs, 2u);
  EXPECT_EQ(backup->rows, 1234u);
  EXPECT_EQ(backup->took_ns, 1'500'000'000);
  EXPECT_EQ(collector_.upkeep.last_backup.name(), "mine");
  EXPECT_TRUE(client_->Backup().ok());
  EXPECT_EQ(collector_.upkeep.last_backup.name(), "");
}

TEST_F(ClientTest, CompactionSaysWhatEachKindOfDataTook) {
  v1::CompactResponse& done = collector_.upkeep.compact;
  done.set_bytes_before(30);
  done.set_bytes_after(12);
  done.set_took_ns(7);
  v1::CompactResponse::Family* family = done.add_families();
  family->set_name("tiles");
  family->set_bytes_before(20);
  family->set_bytes_after(10);
  const auto compacted = client_->Compact();
  ASSERT_TRUE(compacted.ok()) << compacted.error().message;
  EXPECT_EQ(compacted->bytes_before, 30u);
  EXPECT_EQ(compacted->bytes_after, 12u);
  EXPECT_EQ(compacted->took_ns, 7);
  ASSERT_EQ(compacted->families.size(), 1u);
  EXPECT_EQ(compacted->families[0].name, "tiles");
  EXPECT_EQ(compacted->families[0].bytes_before, 20u);
  EXPECT_EQ(compacted->families[0].bytes_after, 10u);
}

TEST_F(ClientTest, BackupAndCompactHaveADeadlineOfTheirOwn) {
  collector_.upkeep.hangs = true;
  ClientOptions options;
  options.collector = collector_.address();
  options.long_deadline = std::chrono::milliseconds(20);
  const auto hurried = Client::Connect(options);
  ASSERT_TRUE(hurried.ok()) << hurried.error().message;
  const auto compacted = hurried->Compact();
  const auto backup = hurried->Backup();
  ASSERT_FALSE(compacted.ok() || backup.ok());
  EXPECT_EQ(compacted.error().code, ErrorCode::kDeadline);
  EXPECT_EQ(backup.error().code, ErrorCode::kDeadline);
  options.long_deadline = std::chrono::milliseconds(0);
  EXPECT_EQ(Client::Connect(options).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(ClientTest, WhatUpkeepRefusesIsAnErrorWithItsReason) {
  collector_.upkeep.failure = {grpc::StatusCode::ALREADY_EXISTS,
                               "there is a backup 'mine'"};
  const auto compacted = client_->Compact();
  const auto backup = client_->Backup("mine");
  ASSERT_FALSE(compacted.ok() || backup.ok());
  EXPECT_EQ(backup.error().code, ErrorCode::kRefused);
  EXPECT_THAT(backup.error().message, HasSubstr("'mine'"));
  EXPECT_EQ(compacted.error().code, ErrorCode::kRefused);
}

TEST_F(ClientTest, AnUnknownRunIsNotFoundWithTheNearestName) {
  const auto run = client_->Run("mnits");
  ASSERT_FALSE(run.ok());
  EXPECT_EQ(run.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(run.error().message, HasSubstr("did you mean 'mnist'?"));
}

TEST_F(ClientTest, EveryStatusCodeHasItsErrorCode) {
  using Code = grpc::StatusCode;
  for (const auto& [sent, expected] :
       {std::pair{Code::INVALID_ARGUMENT, ErrorCode::kInvalidArgument},
        {Code::OUT_OF_RANGE, ErrorCode::kInvalidArgument},
        {Code::NOT_FOUND, ErrorCode::kNotFound},
        {Code::RESOURCE_EXHAUSTED, ErrorCode::kRefused},
        {Code::PERMISSION_DENIED, ErrorCode::kRefused},
        {Code::UNAUTHENTICATED, ErrorCode::kRefused},
        {Code::FAILED_PRECONDITION, ErrorCode::kRefused},
        {Code::UNAVAILABLE, ErrorCode::kUnreachable},
        {Code::DEADLINE_EXCEEDED, ErrorCode::kDeadline},
        {Code::UNIMPLEMENTED, ErrorCode::kInternal},
        {Code::DATA_LOSS, ErrorCode::kInternal}}) {
    collector_.service.failure = grpc::Status(sent, "because");
    EXPECT_EQ(client_->Status().error().code, expected) << sent;
    EXPECT_FALSE(client_->Status().error().message.empty());
  }
}

TEST_F(ClientTest, WatchDeliversInOrderUntilTheCallbackHasEnough) {
  WatchQuery query;
  query.run = "live";
  std::vector<std::int64_t> steps;
  const auto result = client_->Watch(query, [&](const WatchEvent& event) {
    if (event.kind == WatchEvent::Kind::kSnapshot) {
      steps.push_back(event.snapshot.step);
    }
    return steps.size() < 3;
  });
  ASSERT_TRUE(result.ok());
  EXPECT_THAT(steps, ElementsAre(0, 1, 2));
}

TEST_F(ClientTest, WatchGoesOnAfterTheLastOrdinalWhenTheCallBreaksOff) {
  collector_.service.watch_messages_a_call = 3;
  collector_.service.watch_end =
      grpc::Status(grpc::StatusCode::UNAVAILABLE, "shutting down");
  WatchQuery query;
  query.run = "live";
  query.tick = std::chrono::milliseconds(1);
  std::vector<std::int64_t> steps;
  int lost = 0;
  int back = 0;
  const auto result = client_->Watch(query, [&](const WatchEvent& event) {
    if (event.kind == WatchEvent::Kind::kDisconnected) ++lost;
    if (event.kind == WatchEvent::Kind::kReconnected) ++back;
    if (event.kind == WatchEvent::Kind::kSnapshot) {
      steps.push_back(event.snapshot.step);
    }
    return !(event.kind == WatchEvent::Kind::kRun &&
             event.run.state == RunState::kFinished);
  });
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_THAT(steps, ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(lost, 2);
  EXPECT_EQ(back, 2);
  EXPECT_EQ(collector_.service.watch_calls, 3);
}

TEST_F(ClientTest, WatchWithoutReconnectReportsTheLoss) {
  collector_.service.watch_messages_a_call = 2;
  collector_.service.watch_end =
      grpc::Status(grpc::StatusCode::UNAVAILABLE, "shutting down");
  WatchQuery query;
  query.run = "live";
  query.reconnect = false;
  const auto result =
      client_->Watch(query, [](const WatchEvent&) { return true; });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kUnreachable);
}

TEST_F(ClientTest, WatchOfAnUnknownRunFailsAtOnce) {
  WatchQuery query;
  query.run = "lvie";
  const auto result =
      client_->Watch(query, [](const WatchEvent&) { return true; });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
}

TEST_F(ClientTest, WatchTicksWhileNothingHappensAndCanBeStoppedThen) {
  collector_.service.watch_stays_open = true;
  WatchQuery query;
  query.run = "live";
  query.tick = std::chrono::milliseconds(1);
  int ticks = 0;
  const auto result = client_->Watch(query, [&](const WatchEvent& event) {
    return event.kind != WatchEvent::Kind::kTick || ++ticks < 5;
  });
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(ticks, 5);
}

TEST_F(ClientTest, WatchSurvivesARestartOfTheCollector) {
  collector_.service.watch_stays_open = true;
  WatchQuery query;
  query.run = "live";
  query.tick = std::chrono::milliseconds(5);
  std::vector<std::int64_t> steps;
  bool restarted = false;
  const auto result = client_->Watch(query, [&](const WatchEvent& event) {
    if (event.kind == WatchEvent::Kind::kSnapshot) {
      steps.push_back(event.snapshot.step);
    }
    if (event.kind == WatchEvent::Kind::kRun &&
        event.run.state == RunState::kFinished && !restarted) {
      restarted = true;
      collector_.Stop();
      // What was committed while this watcher was away.
      v1::WatchResponse more = collector_.service.runs["live"].watch[6];
      more.set_ordinal(100);
      more.mutable_snapshot()->set_step(99);
      collector_.service.runs["live"].watch.push_back(more);
      collector_.Start();
    }
    return steps.empty() || steps.back() != 99;
  });
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_THAT(steps, ElementsAre(0, 1, 2, 3, 4, 5, 99));
}

TEST_F(ClientTest, AWatchCallbackMayAskOtherQuestions) {
  WatchQuery query;
  query.run = "live";
  bool asked = false;
  const auto result = client_->Watch(query, [&](const WatchEvent&) {
    asked = client_->Run("live").ok();
    return false;
  });
  EXPECT_TRUE(result.ok());
  EXPECT_TRUE(asked);
}

TEST_F(ClientTest, ThreadsShareAClient) {
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) good += client_->Run("mnist").ok() ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 80);
}

TEST(ClientConnectTest, NoCollectorAndBadAddressAreToldApart) {
  ClientOptions options;
  options.collector = "127.0.0.1:1";
  EXPECT_EQ(Client::Connect(options).error().code, ErrorCode::kUnreachable);
  options.collector = "a:b";
  EXPECT_EQ(Client::Connect(options).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace gradtap::client
