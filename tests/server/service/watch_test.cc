// Watch over gRPC: live, resumed, stalled, cancelled, shut down.

#include <gmock/gmock.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "grpcpp/generic/generic_stub.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::HasSubstr;

class WatchTest : public ServiceTest {
 protected:
  struct Watcher {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::WatchResponse>> reader;

    v1::WatchResponse Read() {
      v1::WatchResponse message;
      EXPECT_TRUE(reader->Read(&message));
      return message;
    }
  };

  static v1::WatchRequest Ask() {
    v1::WatchRequest request;
    request.set_run("run");
    request.add_statistics("weight.mean");
    return request;
  }

  std::unique_ptr<Watcher> Watch(const v1::WatchRequest& request,
                                 v1::Query::Stub* stub) {
    auto watcher = std::make_unique<Watcher>();
    SetDeadline(&watcher->context);
    watcher->reader = stub->Watch(&watcher->context, request);
    return watcher;
  }
  std::unique_ptr<Watcher> Watch(const v1::WatchRequest& request) {
    return Watch(request, stub_.get());
  }

  std::uint32_t OpenWatches() {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::GetStatusResponse status;
    EXPECT_TRUE(stub_->GetStatus(&context, {}, &status).ok());
    return status.open_watches();
  }
};

TEST_F(WatchTest, ShowsTheRunTheNewestStepThenEachNewOneAndTheEnd) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  feeder.Step(0, 1);
  feeder.Step(1, 2);
  auto watcher = Watch(Ask());
  EXPECT_EQ(watcher->Read().run().run(), "run");
  EXPECT_EQ(watcher->Read().snapshot().step(), 1);
  for (int step = 2; step < 40; ++step) {
    feeder.Step(step, static_cast<float>(step));
    const v1::WatchResponse message = watcher->Read();
    ASSERT_EQ(message.snapshot().step(), step);
    ASSERT_EQ(message.snapshot().rows(0).value(0), step);
    ASSERT_EQ(message.conflated_steps(), 0u);
  }
  feeder.Gap(40, 45);
  EXPECT_EQ(watcher->Read().gap().gap().last_step(), 45);
  feeder.End();
  EXPECT_EQ(watcher->Read().run().state(), v1::RUN_STATE_FINISHED);
}

TEST_F(WatchTest, WhoKeepsUpNeverReadsTheDatabase) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  feeder.Step(0, 0);
  v1::WatchRequest other = Ask();
  other.add_statistics("grad.l2");
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (const v1::WatchRequest& request : {Ask(), Ask(), other}) {
    watchers.push_back(Watch(request));
    watchers.back()->Read();
    EXPECT_EQ(watchers.back()->Read().snapshot().step(), 0);
  }
  const StoreCounters before = collector_->store().counters();
  for (int step = 1; step <= 100; ++step) {
    feeder.Step(step, static_cast<float>(step));
    if (step % 10 == 0) feeder.Gap(1000 + step, 1000 + step);
    for (const auto& watcher : watchers) {
      const v1::WatchResponse message = watcher->Read();
      ASSERT_EQ(message.snapshot().step(), step);
      ASSERT_EQ(message.snapshot().rows(0).value(0), step);
      if (step % 10 == 0) {
        ASSERT_TRUE(watcher->Read().has_gap());
      }
    }
  }
  const StoreCounters after = collector_->store().counters();
  EXPECT_EQ(after.database_scans, before.database_scans);
  EXPECT_GE(after.tail_scans, before.tail_scans + 300);
}

TEST_F(WatchTest, WhatIsNoRequestIsRefused) {
  Start();
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  SetDeadline(&context);
  const grpc::Slice noise("\xff\xff\xff");
  const grpc::ByteBuffer request(&noise, 1);
  grpc::ByteBuffer answer;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/gradtap.v1.Query/Watch", {}, &request, &answer,
                 [&done](grpc::Status status) { done.set_value(status); });
  const grpc::Status status = done.get_future().get();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(WatchTest, ResumesWhereAnotherConnectionLeftOff) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  feeder.Step(0, 1);
  std::uint64_t ordinal = 0;
  {
    auto watcher = Watch(Ask());
    watcher->Read();
    ordinal = watcher->Read().ordinal();
    watcher->context.TryCancel();
    EXPECT_EQ(watcher->reader->Finish().error_code(),
              grpc::StatusCode::CANCELLED);
  }
  for (int step = 1; step < 100; ++step) feeder.Step(step, 1);
  v1::WatchRequest request = Ask();
  request.set_after_ordinal(ordinal);
  auto watcher = Watch(request);
  EXPECT_TRUE(watcher->Read().has_run());
  for (int step = 1; step < 100; ++step) {
    ASSERT_EQ(watcher->Read().snapshot().step(), step);
  }
}

TEST_F(WatchTest, AStalledReaderIsConflatedAndSlowsNobody) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  feeder.Step(0, 0);
  v1::WatchRequest everything = Ask();
  everything.clear_statistics();
  const std::shared_ptr<grpc::Channel> apart = NewChannel();
  const auto stub = v1::Query::NewStub(apart);
  auto stalled = Watch(everything, stub.get());
  stalled->Read();
  stalled->Read();  // And then it does not read.
  auto live = Watch(Ask());
  live->Read();
  live->Read();
  // Messages of about 100 KiB: what the transport buffers is soon full.
  const std::string padding(490, 'p');
  constexpr int kSteps = 400;
  for (int step = 1; step <= kSteps; ++step) {
    feeder.Step(step, static_cast<float>(step), padding);
    ASSERT_EQ(live->Read().snapshot().step(), step);
  }
  std::uint64_t delivered = 0;
  std::uint64_t conflated = 0;
  std::int64_t last = 0;
  while (last < kSteps) {
    const v1::WatchResponse message = stalled->Read();
    ASSERT_TRUE(message.has_snapshot());
    ASSERT_GT(message.snapshot().step(), last);
    last = message.snapshot().step();
    ++delivered;
    conflated += message.conflated_steps();
  }
  EXPECT_GT(conflated, 0u);
  EXPECT_EQ(delivered + conflated, static_cast<std::uint64_t>(kSteps));
  // It is not left behind for good.
  feeder.Step(kSteps + 1, 1);
  EXPECT_EQ(stalled->Read().snapshot().step(), kSteps + 1);
}

TEST_F(WatchTest, ErrorsAreThoseOfQueries) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  v1::WatchRequest request = Ask();
  request.set_run("ruin");
  grpc::Status status = Watch(request)->reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("'run'"));
  request = Ask();
  request.set_match("[");
  status = Watch(request)->reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(WatchTest, ADeletedRunEndsItsWatches) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  auto watcher = Watch(Ask());
  EXPECT_TRUE(watcher->Read().has_run());
  GRADTAP_ASSERT_OK(collector_->store().DeleteRun("run"));
  v1::WatchResponse message;
  EXPECT_FALSE(watcher->reader->Read(&message));
  EXPECT_EQ(watcher->reader->Finish().error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(WatchTest, TheNumberOfOpenWatchesIsLimitedAndGivenBack) {
  CollectorOptions options;
  options.max_watches = 6;  // Three of a client.
  Start(options);
  Feeder feeder(&collector_->store(), "run");
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (int i = 0; i < 3; ++i) {
    watchers.push_back(Watch(Ask()));
    watchers.back()->Read();
  }
  EXPECT_EQ(OpenWatches(), 3u);
  EXPECT_EQ(Watch(Ask())->reader->Finish().error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  watchers[0]->context.TryCancel();
  watchers[0]->reader->Finish();
  while (OpenWatches() > 2) std::this_thread::yield();
  Watch(Ask())->Read();
}

TEST_F(WatchTest, CallsThatAreCancelledAtAnyMomentLeaveNothingBehind) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int step = 0; !stop; ++step) feeder.Step(step, 1);
  });
  for (int round = 0; round < 60; ++round) {
    auto watcher = Watch(Ask());
    for (int i = 0; i < round % 4; ++i) watcher->Read();
    watcher->context.TryCancel();
    watcher->reader->Finish();
  }
  stop = true;
  writer.join();
  while (OpenWatches() > 0) std::this_thread::yield();
}

TEST_F(WatchTest, ShutdownEndsReadersAndStalledReaders) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  feeder.Step(0, 0);
  const std::shared_ptr<grpc::Channel> apart = NewChannel();
  const auto stub = v1::Query::NewStub(apart);
  v1::WatchRequest everything = Ask();
  everything.clear_statistics();
  auto stalled = Watch(everything, stub.get());
  stalled->Read();
  auto live = Watch(Ask());
  live->Read();
  live->Read();
  for (int step = 1; step < 60; ++step) {
    feeder.Step(step, 1, std::string(490, 'p'));
    ASSERT_EQ(live->Read().snapshot().step(), step);
  }
  collector_->Shutdown();
  v1::WatchResponse message;
  EXPECT_FALSE(live->reader->Read(&message));
  const grpc::Status status = live->reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("shutting down"));
  while (stalled->reader->Read(&message)) {
  }
  EXPECT_FALSE(stalled->reader->Finish().ok());
}

}  // namespace
}  // namespace gradtap::server::testing
