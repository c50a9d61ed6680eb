#include "server/http/live_hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "server/service/query_backend.h"
#include "server/service/service_testing.h"
#include "server/store/store.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Feeder;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr seconds kPatience{60};
constexpr std::size_t kRoom = std::size_t{2} << 20;

class LiveHubTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = OpenRocksdbStore({dir_.path()});
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
    QueryEnvironment environment;
    environment.store = store_.get();
    environment.clock = &clock_;
    environment.live_session = [this](StreamId stream) {
      if (stream == busy_stream_) busy_->Step(++busy_step_, 1);
      return std::optional<std::int64_t>();
    };
    environment.guards.refused = &refused_;
    environment.guards.answers = &room_;
    backend_ = std::make_unique<QueryBackend>(std::move(environment));
    hub_ = std::make_unique<LiveHub>(backend_.get(), &places_);
    feeder_ = std::make_unique<Feeder>(store_.get(), "run");
  }

  std::unique_ptr<LiveHub::Stream> Open(std::uint64_t after = 0) {
    v1::WatchRequest request;
    request.set_run("run");
    request.add_statistics("grad.mean");
    if (after > 0) request.set_after_ordinal(after);
    auto stream = hub_->Open(request, "one", kPatience);
    GRADTAP_EXPECT_OK(stream);
    return stream.ok() ? *std::move(stream) : nullptr;
  }

  static std::string Next(LiveHub::Stream* stream) {
    const auto text = stream->Next(kPatience);
    GRADTAP_EXPECT_OK(text);
    return text.ok() && *text != nullptr ? **text : "";
  }
  // What comes until the step does.
  static std::string Until(LiveHub::Stream* stream, int step) {
    std::string all;
    const std::string wanted = "\"step\":\"" + std::to_string(step) + "\"";
    while (all.find(wanted) == std::string::npos) {
      const std::string text = Next(stream);
      if (text.empty()) break;
      all += text;
    }
    return all;
  }

  // A stream whose events are large, if its run's are.
  std::unique_ptr<LiveHub::Stream> OpenLarge(const std::string& client) {
    v1::WatchRequest request;
    request.set_run("run");
    request.add_statistics("scalar.*");
    auto stream = hub_->Open(request, client, kPatience);
    GRADTAP_EXPECT_OK(stream);
    return stream.ok() ? *std::move(stream) : nullptr;
  }
  // One of about 600 KB, as JSON.
  void LargeStep(int step) { feeder_->Step(step, 1, std::string(500, '\x01')); }

  // Returns when the hub has looked at the streams that were due: after them it
  // looks at one of another run.
  void AwaitLook() {
    Feeder other(store_.get(), "other");
    v1::WatchRequest request;
    request.set_run("other");
    request.add_statistics("grad.mean");
    const auto stream = hub_->Open(request, "other", kPatience);
    GRADTAP_ASSERT_OK(stream);
    other.Step(0, 1);
    Until(stream->get(), 0);
  }

  // The room, and the place beside it.
  static void TakeAll(HeldAnswer* all, HeldAnswer* one_more) {
    GRADTAP_ASSERT_OK(all->Grow(kRoom));
    while (!one_more->Grow(kRoom).ok()) {  // The hub looks whether it has some.
    }
  }

  gradtap::testing::TempDir dir_;
  LimitCounters refused_;
  AnswerRoom room_{&refused_, {kRoom, kRoom}};
  gradtap::testing::ManualClock clock_;
  std::unique_ptr<Store> store_;
  // A run that has another step whenever the hub has looked at it.
  std::unique_ptr<Feeder> busy_;
  std::atomic<StreamId> busy_stream_{0};
  std::atomic<int> busy_step_{0};
  std::unique_ptr<QueryBackend> backend_;
  ClientPlaces places_{"live streams", 2, 2};
  std::unique_ptr<LiveHub> hub_;
  std::unique_ptr<Feeder> feeder_;
};

TEST_F(LiveHubTest, EventsAreTheRunThenStepsAsTheyAreCommitted) {
  feeder_->Step(0, 1);
  const auto stream = Open();
  ASSERT_NE(stream, nullptr);
  EXPECT_THAT(Next(stream.get()), HasSubstr("\"run\":{\"run\":\"run\""));
  const std::string first = Next(stream.get());
  EXPECT_THAT(first, StartsWith("id: "));
  EXPECT_THAT(first, HasSubstr("\ndata: {\"ordinal\":\""));
  EXPECT_THAT(first, HasSubstr("\"step\":\"0\""));
  EXPECT_THAT(first, HasSubstr("fc.weight"));
  EXPECT_THAT(first, ::testing::EndsWith("}\n\n"));
  EXPECT_EQ(first.find('\n', first.find("data: ")), first.size() - 2);
  feeder_->Step(1, 2);
  EXPECT_THAT(Next(stream.get()), HasSubstr("\"step\":\"1\""));
}

TEST_F(LiveHubTest, NothingNewIsNoEvent) {
  feeder_->Step(0, 1);
  const auto stream = Open();
  ASSERT_NE(stream, nullptr);
  Until(stream.get(), 0);
  const auto text = stream->Next(milliseconds(1));
  GRADTAP_ASSERT_OK(text);
  EXPECT_EQ(*text, nullptr);
}

TEST_F(LiveHubTest, AResumedReaderGetsEachStepSince) {
  feeder_->Step(0, 1);
  std::uint64_t seen = 0;
  {
    const auto stream = Open();
    ASSERT_NE(stream, nullptr);
    const std::string text = Until(stream.get(), 0);
    seen = std::stoull(text.substr(text.rfind("id: ") + 4));
  }
  for (int step = 1; step <= 300; ++step) feeder_->Step(step, 1);
  const auto stream = Open(seen);
  ASSERT_NE(stream, nullptr);
  const std::string all = Until(stream.get(), 300);
  for (int step = 1; step <= 300; ++step) {
    EXPECT_THAT(all, HasSubstr("\"step\":\"" + std::to_string(step) + "\""));
  }
  EXPECT_THAT(all, Not(HasSubstr("conflated\n")));
  EXPECT_THAT(all, Not(HasSubstr("\"step\":\"0\"")));
}

TEST_F(LiveHubTest, AReaderThatStallsIsToldHowMuchItMissed) {
  feeder_->Step(0, 1);
  const auto stalled = Open();
  const auto quick = Open();
  ASSERT_TRUE(stalled != nullptr && quick != nullptr);
  Until(stalled.get(), 0);
  Until(quick.get(), 0);
  for (int step = 1; step <= 1000; ++step) {
    feeder_->Step(step, 1);
    Until(quick.get(), step);
  }
  const std::string all = Until(stalled.get(), 1000);
  EXPECT_THAT(all, HasSubstr("event: conflated\ndata: {\"conflatedSteps\":\""));
  EXPECT_LT(all.size(), 200'000u);
}

TEST_F(LiveHubTest, WhatCannotBeWatchedIsAnErrorAtOnce) {
  v1::WatchRequest request;
  request.set_run("rnu");
  EXPECT_THAT(hub_->Open(request, "one", kPatience),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'rnu'")));
  request.set_run("run");
  request.set_match("(");
  EXPECT_THAT(hub_->Open(request, "one", kPatience),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("(")));
  EXPECT_EQ(places_.taken(), 0u);
}

TEST_F(LiveHubTest, BeyondTheLimitNobodyGetsIn) {
  auto first = Open();
  const auto second = Open();
  v1::WatchRequest request;
  request.set_run("run");
  EXPECT_THAT(hub_->Open(request, "one", kPatience),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("2")));
  first = nullptr;
  EXPECT_EQ(places_.taken(), 1u);
  GRADTAP_EXPECT_OK(hub_->Open(request, "one", kPatience));
}

TEST_F(LiveHubTest, AStreamHoldsOneLargeEventUntilItHasBeenSent) {
  LargeStep(0);
  const auto slow = OpenLarge("slow");
  ASSERT_NE(slow, nullptr);
  const std::string first = Until(slow.get(), 0);
  const std::size_t bytes = room_.taken();
  EXPECT_GT(bytes, kSmallAnswer);
  EXPECT_LT(bytes, first.size());  // And the run before it.
  for (int step = 1; step <= 100; ++step) LargeStep(step);
  AwaitLook();
  EXPECT_EQ(room_.taken(), bytes);
  EXPECT_THAT(Next(slow.get()), StartsWith("event: conflated\n"));
  EXPECT_THAT(Next(slow.get()), HasSubstr("\"step\":\"100\""));
}

TEST_F(LiveHubTest, ReadersOfOneClientShareTheRoomOfAnEvent) {
  const auto first = OpenLarge("one");
  auto second = OpenLarge("one");
  ASSERT_TRUE(first != nullptr && second != nullptr);
  LargeStep(0);
  Until(first.get(), 0);
  const std::size_t bytes = room_.taken();
  EXPECT_GT(bytes, kSmallAnswer);
  Until(second.get(), 0);
  EXPECT_EQ(room_.taken(), bytes);
  second = nullptr;
  EXPECT_EQ(room_.taken(), bytes);
  const auto other = OpenLarge("other");
  ASSERT_NE(other, nullptr);
  Until(other.get(), 0);
  EXPECT_EQ(room_.taken(), 2 * bytes);
}

TEST_F(LiveHubTest, WithoutRoomForItAnEventComesLater) {
  LargeStep(0);
  const auto large = OpenLarge("large");
  ASSERT_NE(large, nullptr);
  Until(large.get(), 0);
  GRADTAP_ASSERT_OK(large->Next(milliseconds(0)));  // It has been sent.
  HeldAnswer all(&room_, "all");
  HeldAnswer one_more(&room_, "one more");
  TakeAll(&all, &one_more);
  const std::uint64_t refused = refused_.refused(Limit::kAnswerBytes);
  for (int step = 1; step <= 3; ++step) LargeStep(step);
  AwaitLook();
  const auto nothing = large->Next(milliseconds(0));
  GRADTAP_ASSERT_OK(nothing);
  EXPECT_EQ(*nothing, nullptr);
  EXPECT_EQ(refused_.refused(Limit::kAnswerBytes), refused + 1);
  all.Shrink(all.bytes());
  one_more.Shrink(one_more.bytes());
  EXPECT_THAT(Next(large.get()), HasSubstr("\"step\":\"1\""));
  Until(large.get(), 3);
}

TEST_F(LiveHubTest, WithoutRoomForItsFirstLargeEventAStreamEndsAndSaysSo) {
  LargeStep(0);
  HeldAnswer all(&room_, "all");
  HeldAnswer one_more(&room_, "one more");
  TakeAll(&all, &one_more);
  const auto stream = OpenLarge("one");
  ASSERT_NE(stream, nullptr);
  EXPECT_THAT(Next(stream.get()), HasSubstr("\"run\":{"));
  EXPECT_THAT(stream->Next(kPatience),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("too many large answers")));
}

TEST_F(LiveHubTest, ARunThatIsLostIsToldOfBesideOneThatIsNeverDone) {
  Feeder silent(store_.get(), "silent", clock_.UnixNanos());
  silent.Step(0, 1);
  v1::WatchRequest request;
  request.set_run("silent");
  request.add_statistics("grad.mean");
  const auto watched = hub_->Open(request, "one", kPatience);
  GRADTAP_ASSERT_OK(watched);
  Until(watched->get(), 0);
  // It has been sent: from now on it is due when its run is, or by a tick.
  GRADTAP_EXPECT_OK((*watched)->Next(milliseconds(0)));
  // Nothing is told of a rank that is not there, once the run has been.
  busy_ = std::make_unique<Feeder>(store_.get(), "busy");
  request.set_run("busy");
  request.add_ranks(7);
  const auto nothing = hub_->Open(request, "other", kPatience);
  GRADTAP_ASSERT_OK(nothing);
  EXPECT_THAT(Next(nothing->get()), HasSubstr("\"run\":\"busy\""));
  GRADTAP_EXPECT_OK((*nothing)->Next(milliseconds(0)));
  busy_stream_ = store_->FindRun("busy")->streams[0].id;
  while (busy_step_ < 3) std::this_thread::yield();
  clock_.Advance(seconds(61));
  const auto told = (*watched)->Next(kPatience);
  busy_stream_ = 0;
  GRADTAP_ASSERT_OK(told);
  ASSERT_NE(*told, nullptr);
  EXPECT_THAT(**told, HasSubstr("\"state\":\"RUN_STATE_LOST\""));
}

TEST_F(LiveHubTest, StopEndsStreams) {
  feeder_->Step(0, 1);
  const auto stream = Open();
  ASSERT_NE(stream, nullptr);
  Until(stream.get(), 0);
  hub_->Stop();
  EXPECT_THAT(stream->Next(kPatience),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("down")));
  v1::WatchRequest request;
  request.set_run("run");
  EXPECT_THAT(hub_->Open(request, "one", kPatience),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("down")));
}

TEST_F(LiveHubTest, ADeletedRunEndsItsStreams) {
  feeder_->Step(0, 1);
  feeder_->End();
  const auto stream = Open();
  ASSERT_NE(stream, nullptr);
  Until(stream.get(), 0);
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  absl::Status status;
  while (status.ok()) status = stream->Next(kPatience).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("run")));
}

}  // namespace
}  // namespace gradtap::server
