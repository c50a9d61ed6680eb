// Whole sessions: a scripted client, a gRPC server in this process, the real
// store.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gradtap/v1/telemetry.grpc.pb.h"
#include "server/ingest/batch_builder.h"
#include "server/ingest/service_fixture.h"
#include "server/ingest/session_client.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using std::chrono::seconds;
using testing::BuiltBatch;
using testing::Client;
using testing::EndRecord;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeBatch;
using testing::PartsOf;
using testing::SchemaRecord;
using testing::StepRecord;
using testing::StepsOf;

TEST_F(IngestServiceTest, AWholeSessionIsStoredAndEndsWell) {
  Client client(channel_);
  const v1::Welcome welcome = client.Greet();
  EXPECT_EQ(welcome.next_seq(), 1U);
  EXPECT_EQ(welcome.attempt(), 1U);
  EXPECT_EQ(welcome.credit_bytes(), limits_.credit_bytes);
  EXPECT_EQ(welcome.max_batch_bytes(), limits_.max_batch_bytes);
  EXPECT_EQ(welcome.max_parameters(), 100'000U);
  EXPECT_EQ(welcome.protocol_version(), 1U);
  EXPECT_EQ(welcome.last_step_of_run(), -1);
  EXPECT_FALSE(welcome.collector_version().empty());
  EXPECT_EQ(ingest_->open_sessions(), 1U);
  EXPECT_TRUE(ingest_->IsConnected(Entry().id));

  client.Send(MakeBatch(1, {SchemaRecord(), StepRecord(0)}));
  EXPECT_THAT(client.WaitForAck(2), IsEmpty());
  EXPECT_EQ(StepsOf(store_.get(), Entry().id).size(), 1U);  // Before the ack.
  client.Send(MakeBatch(3, {StepRecord(1), EndRecord()}));
  client.WaitForAck(4);
  const grpc::Status status = client.Leave();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Entry().durable_seq, 4U);
  EXPECT_TRUE(Entry().end.has_value());
  EXPECT_EQ(Entry().last_seen_unix_ns, clock_.UnixNanos());
  EXPECT_EQ(ingest_->batches(), 2U);
}

TEST_F(IngestServiceTest, ASessionResumesFromTheCursorAfterARestart) {
  {
    Client client(channel_);
    client.Greet();
    client.Send(MakeBatch(1, {SchemaRecord(), StepRecord(0), StepRecord(1)}));
    client.WaitForAck(3);
    client.Cancel();
    client.Finish();
  }
  Restart();
  Client client(channel_);
  EXPECT_EQ(client.Greet().next_seq(), 4U);
  // All of it again, and one more.
  client.Send(MakeBatch(
      1, {SchemaRecord(), StepRecord(0), StepRecord(1), StepRecord(2)}));
  EXPECT_THAT(client.WaitForAck(4), IsEmpty());
  EXPECT_EQ(StepsOf(store_.get(), Entry().id).size(), 3U);
  EXPECT_EQ(Entry().stored_steps, 3U);
}

TEST_F(IngestServiceTest, ALargeStepInPartsSurvivesARestartInTheMiddle) {
  constexpr std::size_t kParameters = 20'000;
  const std::string step = StepRecord(7, kParameters);
  const auto parts = PartsOf(step, kMaxPartBytes);
  ASSERT_GE(parts.size(), 2U);
  const auto schema = PartsOf(SchemaRecord(1, kParameters), kMaxPartBytes);
  std::uint64_t seq = 1;
  {
    Client client(channel_);
    client.Greet();
    for (const std::string& part : schema) {
      client.Send(MakeBatch(seq++, {part}));
    }
    client.Send(MakeBatch(seq, {parts[0]}));
    EXPECT_THAT(client.WaitForAck(seq), IsEmpty());
    client.Cancel();
    client.Finish();
  }
  EXPECT_THAT(StepsOf(store_.get(), Entry().id), IsEmpty());
  Restart();
  Client client(channel_);
  EXPECT_EQ(client.Greet().next_seq(), seq + 1);
  for (std::size_t i = 1; i < parts.size(); ++i) {
    client.Send(MakeBatch(++seq, {parts[i]}));
  }
  EXPECT_THAT(client.WaitForAck(seq), IsEmpty());
  std::string body;
  GRADTAP_ASSERT_OK(
      store_->ScanSteps(Entry().id, 0, 0, 100, [&](const StepRow& row) {
        body = row.body;
        return true;
      }));
  EXPECT_EQ(body, testing::BodyOf(step));
  EXPECT_EQ(store_->PartsOf(Entry().id).parts, 0u);
}

TEST_F(IngestServiceTest, ASecondSessionOfAStreamIsRefusedWhileTheFirstLives) {
  Client first(channel_);
  first.Greet();
  {
    Client second(channel_);
    second.SendHello(Client::MakeHello());
    const auto answer = second.Read();
    ASSERT_TRUE(answer.has_reject());
    EXPECT_EQ(answer.reject().code(), v1::Reject::CODE_DUPLICATE);
    EXPECT_TRUE(answer.reject().retry());
    EXPECT_TRUE(second.Finish().ok());
  }
  Client other_rank(channel_);
  other_rank.Greet(Client::MakeHello(1));
  EXPECT_TRUE(first.Leave().ok());
  Client third(channel_);
  EXPECT_EQ(third.Greet().next_seq(), 1U);
}

TEST_F(IngestServiceTest, AMalformedHelloIsRefusedForGood) {
  v1::Hello hello = Client::MakeHello();
  hello.set_run("../../etc/passwd");
  Client client(channel_);
  client.SendHello(hello);
  const auto answer = client.Read();
  ASSERT_TRUE(answer.has_reject());
  EXPECT_EQ(answer.reject().code(), v1::Reject::CODE_INVALID);
  EXPECT_FALSE(answer.reject().retry());
  EXPECT_THAT(answer.reject().detail(), HasSubstr("../../etc/passwd"));
  EXPECT_TRUE(client.Finish().ok());
  EXPECT_THAT(store_->Runs(), IsEmpty());
}

TEST_F(IngestServiceTest, TooManySessionsAreRefused) {
  LimitCounters counters;
  limits_.guards.refused = &counters;
  limits_.max_sessions = 1;
  Restart();
  Client first(channel_);
  first.Greet();
  Client second(channel_);
  second.SendHello(Client::MakeHello(1));
  const auto answer = second.Read();
  ASSERT_TRUE(answer.has_reject());
  EXPECT_EQ(answer.reject().code(), v1::Reject::CODE_LIMIT);
  EXPECT_TRUE(answer.reject().retry());
  second.Finish();
  // Besides it one more call may be open: of three mute ones two are not.
  std::vector<std::unique_ptr<Client>> mute;
  std::vector<std::future<grpc::Status>> ended;
  for (int i = 0; i < 3; ++i) {
    mute.push_back(std::make_unique<Client>(channel_));
    ended.push_back(
        std::async(std::launch::async,
                   [client = mute.back().get()] { return client->Finish(); }));
  }
  const auto refused = [&] {
    int n = 0;
    for (const auto& one : ended) {
      n += one.wait_for(std::chrono::milliseconds(5)) ==
                   std::future_status::ready
               ? 1
               : 0;
    }
    return n;
  };
  while (refused() < 2) {
  }
  for (const auto& client : mute) client->Cancel();
  int exhausted = 0;
  for (auto& one : ended) {
    exhausted += one.get().error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
  }
  EXPECT_GE(exhausted, 2);
  EXPECT_EQ(counters.refused(Limit::kSessions), 1u);
  EXPECT_GE(counters.refused(Limit::kCalls), 2u);
  first.Leave();
  Stop();  // It counts no more.
}

TEST_F(IngestServiceTest, ARunTooManyIsCounted) {
  LimitCounters counters;
  limits_.guards.refused = &counters;
  limits_.max_runs = 0;
  Restart();
  Client client(channel_);
  client.SendHello(Client::MakeHello());
  EXPECT_EQ(client.Read().reject().code(), v1::Reject::CODE_LIMIT);
  client.Finish();
  EXPECT_EQ(counters.refused(Limit::kRuns), 1u);
  Stop();
}

TEST_F(IngestServiceTest, AStreamTooManyIsCountedAndThoseThatThereAreGoOn) {
  LimitCounters counters;
  limits_.guards.refused = &counters;
  limits_.max_streams = 2;
  Restart();
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    Client client(channel_);
    client.Greet(Client::MakeHello(rank));
    client.Leave();
  }
  {
    Client client(channel_);
    client.SendHello(Client::MakeHello(2));
    const auto answer = client.Read();
    EXPECT_EQ(answer.reject().code(), v1::Reject::CODE_LIMIT);
    EXPECT_TRUE(answer.reject().retry());
    EXPECT_THAT(answer.reject().detail(), HasSubstr("at most 2 streams"));
    client.Finish();
  }
  EXPECT_EQ(counters.refused(Limit::kStreams), 1u);
  Client known(channel_);
  known.Greet(Client::MakeHello(1));
  known.Leave();
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  Client again(channel_);
  again.Greet(Client::MakeHello(2));
  again.Leave();
  Stop();
}

TEST_F(IngestServiceTest, GarbageEndsTheCallAndNotTheCollector) {
  const std::string bomb = CompressFrame(std::string(512 << 20, '\0'));
  ASSERT_LT(bomb.size(), 100'000U);
  const BuiltBatch good = MakeBatch(1, {SchemaRecord()});
  const BuiltBatch bad[] = {
      {1, 1, "garbage"},  {1, 1, ""},
      {1, 1, bomb},       {1, 2, good.frame},
      {0, 1, good.frame}, {1, 1, std::string(3 << 20, 'x')}};
  for (const BuiltBatch& batch : bad) {
    Client client(channel_);
    client.Greet();
    client.Send(batch);
    EXPECT_EQ(client.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  Client client(channel_);
  EXPECT_EQ(client.Greet().next_seq(), 1U);
  client.Send(good);
  client.WaitForAck(1);
}

TEST_F(IngestServiceTest, AHoleIsOutOfRange) {
  Client client(channel_);
  client.Greet();
  client.Send(MakeBatch(5, {SchemaRecord()}));
  const grpc::Status status = client.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_THAT(status.error_message(), HasSubstr("expected seq 1"));
}

TEST_F(IngestServiceTest, ABatchWithoutAHelloIsInvalid) {
  Client client(channel_);
  client.Send(MakeBatch(1, {SchemaRecord()}));
  EXPECT_EQ(client.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(IngestServiceTest, RejectedRecordsAreNamedAndCounted) {
  Client client(channel_);
  client.Greet();
  client.Send(
      MakeBatch(1, {SchemaRecord(), "\xff\xff", StepRecord(0), StepRecord(0)}));
  const auto rejected = client.WaitForAck(4);
  ASSERT_EQ(rejected.size(), 2U);
  EXPECT_EQ(rejected[0].seq(), 2U);
  EXPECT_EQ(rejected[1].seq(), 4U);
  EXPECT_THAT(rejected[1].reason(), HasSubstr("step 0 comes after step 0"));
  EXPECT_EQ(Entry().rejected_records, 2U);
  EXPECT_EQ(store_->counters().rejected_records, 2U);
}

TEST_F(IngestServiceTest, AHeartbeatMovesLastSeen) {
  Client client(channel_);
  client.Greet();
  const StreamId id = Entry().id;
  const auto before = ingest_->LastSeenUnixNanos(id);
  ASSERT_TRUE(before.has_value());
  clock_.Advance(seconds(5));
  client.SendHeartbeat();
  client.Send(MakeBatch(1, {SchemaRecord()}));
  client.WaitForAck(1);  // The heartbeat came before it.
  EXPECT_EQ(*ingest_->LastSeenUnixNanos(id), *before + 5'000'000'000);
  client.Leave();
  EXPECT_EQ(ingest_->LastSeenUnixNanos(id), std::nullopt);
}

TEST_F(IngestServiceTest, SilenceEndsACallAndFreesItsStream) {
  Client mute(channel_);
  Client client(channel_);
  client.Greet();
  clock_.Advance(seconds(31));
  EXPECT_THAT(client.Finish().error_message(), HasSubstr("heartbeat"));
  Client again(channel_);
  again.Greet();
  auto ended = std::async(std::launch::async, [&] { return mute.Finish(); });
  while (ended.wait_for(std::chrono::milliseconds(10)) !=
         std::future_status::ready) {
    clock_.Advance(seconds(1));
  }
  EXPECT_THAT(ended.get().error_message(), HasSubstr("no Hello"));
}

TEST_F(IngestServiceTest, ADeletedRunEndsItsSessionAndBeginsAnew) {
  Client client(channel_);
  client.Greet();
  client.Send(MakeBatch(1, {SchemaRecord()}));
  client.WaitForAck(1);
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  client.Send(MakeBatch(2, {StepRecord(0)}));
  EXPECT_EQ(client.Finish().error_code(), grpc::StatusCode::ABORTED);
  Client again(channel_);
  EXPECT_EQ(again.Greet().next_seq(), 1U);
}

TEST_F(IngestServiceTest,
       DrainingAcknowledgesWhatWasReceivedAndRefusesTheRest) {
  Client client(channel_);
  client.Greet();
  client.Send(MakeBatch(1, {SchemaRecord(), StepRecord(0)}));
  client.WaitForAck(2);
  client.Send(MakeBatch(3, {StepRecord(1)}));
  ingest_->Drain(std::chrono::steady_clock::now() + seconds(20));
  std::uint64_t acknowledged = 2;
  for (auto message = client.Read(); message.has_ack();
       message = client.Read()) {
    acknowledged = message.ack().durable_seq();
  }
  EXPECT_EQ(client.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Entry().durable_seq, acknowledged);
  EXPECT_EQ(ingest_->open_sessions(), 0U);

  Client late(channel_);
  const auto answer = late.Read();
  ASSERT_TRUE(answer.has_reject());
  EXPECT_EQ(answer.reject().code(), v1::Reject::CODE_UNAVAILABLE);
  EXPECT_TRUE(answer.reject().retry());
}

TEST_F(IngestServiceTest, AClientThatVanishesLosesNothingThatWasAcknowledged) {
  for (int life = 0; life < 10; ++life) {
    Client client(channel_);
    v1::Welcome welcome;
    client.SendHello(Client::MakeHello());
    const auto answer = client.Read();
    if (!answer.has_welcome()) {  // The last call has not been reaped yet.
      ASSERT_TRUE(answer.has_reject());
      EXPECT_EQ(answer.reject().code(), v1::Reject::CODE_DUPLICATE);
      client.Finish();
      --life;
      continue;
    }
    std::uint64_t seq = answer.welcome().next_seq();
    EXPECT_EQ(seq, Entry().durable_seq + 1);
    if (seq == 1) client.Send(MakeBatch(seq++, {SchemaRecord()}));
    for (int i = 0; i < 5; ++i, ++seq) {
      client.Send(MakeBatch(seq, {StepRecord(static_cast<std::int64_t>(seq))}));
    }
    if (life % 2 == 0) client.WaitForAck(seq - 1);
    client.Cancel();
    client.Finish();
  }
  Restart();  // What the last call sent is committed, or never will be.
  const auto steps = StepsOf(store_.get(), Entry().id);
  EXPECT_EQ(steps.size() + 1, Entry().durable_seq);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i], static_cast<std::int64_t>(i + 2));
  }
}

TEST_F(IngestServiceTest, TwentySessionsAtOnceShareTheirSyncs) {
  constexpr int kSessions = 20;
  constexpr int kBatches = 30;
  std::vector<std::thread> agents;
  for (int rank = 0; rank < kSessions; ++rank) {
    agents.emplace_back([this, rank] {
      Client client(channel_);
      v1::Hello hello = Client::MakeHello(static_cast<std::uint32_t>(rank));
      hello.set_world_size(kSessions);
      client.Greet(hello);
      client.Send(MakeBatch(1, {SchemaRecord()}));
      for (int i = 0; i < kBatches; ++i) {
        client.Send(
            MakeBatch(static_cast<std::uint64_t>(i) + 2, {StepRecord(i)}));
      }
      client.WaitForAck(kBatches + 1);
      EXPECT_TRUE(client.Leave().ok());
    });
  }
  for (std::thread& agent : agents) agent.join();
  const auto run = store_->FindRun("run");
  ASSERT_EQ(run->streams.size(), static_cast<std::size_t>(kSessions));
  for (const StreamEntry& stream : run->streams) {
    EXPECT_EQ(stream.durable_seq, kBatches + 1U);
    EXPECT_EQ(StepsOf(store_.get(), stream.id).size(),
              static_cast<std::size_t>(kBatches));
  }
  EXPECT_EQ(run->ordinal, static_cast<std::uint64_t>(kSessions * kBatches));
  const StoreCounters counters = store_->counters();
  EXPECT_EQ(counters.commits, kSessions * (kBatches + 1U));
  EXPECT_LT(counters.syncs, counters.commits);
  RecordProperty("syncs", static_cast<int>(counters.syncs));
}

TEST_F(IngestServiceTest, ManyBatchesBeyondTheCreditAllArrive) {
  limits_.credit_bytes = 10'000;
  Restart();
  Client client(channel_);
  client.Greet();
  client.Send(MakeBatch(1, {SchemaRecord()}));
  std::thread writer([&] {
    for (std::uint64_t seq = 2; seq <= 500; ++seq) {
      client.Send(MakeBatch(seq, {StepRecord(static_cast<std::int64_t>(seq))}));
    }
  });
  client.WaitForAck(500);
  writer.join();
  EXPECT_TRUE(client.Leave().ok());
  EXPECT_EQ(StepsOf(store_.get(), Entry().id).size(), 499U);
}

}  // namespace
}  // namespace gradtap::server
