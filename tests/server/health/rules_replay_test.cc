#include "server/health/rules_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/health/health_testing.h"
#include "server/health/run_health.h"
#include "support/manual_clock.h"
#include "support/memory_store.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using namespace testing;  // NOLINT: what health_testing.h has.
using ::gradtap::testing::IsOk;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::MemoryStore;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kRun[] = "gpt";

// Of an alert what a collector's pace does not change.
std::string LineOf(const v1::Alert& alert) {
  std::string line =
      absl::StrCat("rule ", static_cast<int>(alert.rule()), " attempt ",
                   alert.attempt(), " rank ", alert.rank(), " steps ",
                   alert.first_step(), " to ", alert.last_step());
  if (alert.active()) return line;
  return absl::StrCat(line, " ended at ", alert.ended_step(), " why ",
                      static_cast<int>(alert.end()));
}

std::int64_t SecondOf(std::int64_t unix_ns) {
  return (unix_ns - kStart) / kSecond;
}

// A run whose steps are stored as they are made, and a collector that looks at
// each when it comes, and at its clock every second.
class RulesReplayTest : public ::testing::Test {
 protected:
  RulesReplayTest() {
    environment_.store = &store_;
    environment_.clock = &clock_;
    schema_ = MakeSchema({MakeWeight("a"), MakeWeight("b")});
  }

  void Rules(const std::string& text) {
    rules_ = MakeRules(text);
    live_ = std::make_unique<RunHealth>(
        rules_, kRun, [this](StreamId stream, std::uint32_t schema) {
          return store_.ReadSchema(stream, schema);
        });
  }

  std::int64_t now() const { return clock_.UnixNanos(); }

  StreamId Open(std::uint32_t rank, const std::string& launch = "first") {
    StreamHello hello;
    hello.run = kRun;
    hello.launch = launch;
    hello.rank = rank;
    hello.world_size = 2;
    hello.process_nonce = absl::StrCat(launch, rank, "0123456789abcdef");
    hello.process_nonce.resize(16);
    hello.start_time_unix_ns = now();
    const auto stream = store_.OpenStream(hello, now());
    EXPECT_THAT(stream, IsOk());
    store_.AddSchema(stream->id, *schema_);
    Heard(stream->id);
    connected_.insert(stream->id);
    return stream->id;
  }
  void Step(StreamId stream, std::int64_t step, bool bad = false) {
    StepData data = QuietStep(*schema_, step);
    data.wall_time_unix_ns = now();
    if (bad) SetNan(&data, Role::kGrad, 0);
    store_.AddStep(stream, 0, data);
    Heard(stream);
  }
  void End(StreamId stream) {
    EndData end;
    end.reason = EndReason::kFinished;
    end.wall_time_unix_ns = now();
    store_.AddEnd(stream, end);
    Heard(stream);
    connected_.erase(stream);
  }
  void Kill(StreamId stream) { connected_.erase(stream); }
  void Heard(StreamId stream) { heard_[stream] = now(); }

  // The collector looks, and a second passes.
  void Tick() {
    Look();
    clock_.Advance(std::chrono::seconds(1));
  }
  void Tick(int seconds) {
    for (int i = 0; i < seconds; ++i) Tick();
  }
  void Look() {
    auto entry = std::make_shared<RunEntry>(*store_.FindRun(kRun));
    for (StreamEntry& stream : entry->streams) {
      stream.last_seen_unix_ns = heard_[stream.id];
    }
    live_->SetEntry(entry);
    EXPECT_THAT(store_.ScanByOrdinal(
                    kRun, live_->ordinal(),
                    [&](const StepRow* row, const GapRow*) {
                      EXPECT_THAT(live_->LookAtRow(*row, now()), IsOk());
                      return true;
                    }),
                IsOk());
    live_->LookAtClock({now(), kStart - 1000 * kSecond, [this](StreamId id) {
                          return connected_.contains(id);
                        }});
    for (const v1::Alert& alert : live_->TakeChanges()) {
      alerts_[alert.id()] = alert;
    }
  }
  std::vector<v1::Alert> Live() {
    for (const v1::Alert& alert : live_->Active()) alerts_[alert.id()] = alert;
    std::vector<v1::Alert> all;
    for (const auto& [id, alert] : alerts_) all.push_back(alert);
    return all;
  }

  std::vector<v1::Alert> Replay() {
    environment_.live_session = [this](StreamId id) {
      return connected_.contains(id) ? std::optional(now()) : std::nullopt;
    };
    v1::TestRulesRequest request;
    request.set_run(kRun);
    v1::TestRulesResponse response;
    EXPECT_THAT(
        TestRules(
            environment_, rules_, request, [] { return false; }, &response),
        IsOk());
    return {response.alerts().begin(), response.alerts().end()};
  }
  // Each line with the second at which it was raised.
  std::vector<std::string> ReplayLines() {
    std::vector<std::string> lines;
    for (const v1::Alert& alert : Replay()) {
      lines.push_back(absl::StrCat(
          LineOf(alert), " raised ", SecondOf(alert.raised_unix_ns()),
          alert.active()
              ? ""
              : absl::StrCat(" ended ", SecondOf(alert.ended_unix_ns()))));
    }
    return lines;
  }

  MemoryStore store_;
  ManualClock clock_{kStart};
  QueryEnvironment environment_;
  std::shared_ptr<const Schema> schema_;
  std::shared_ptr<const server::Rules> rules_;

  std::unique_ptr<RunHealth> live_;
  std::map<StreamId, std::int64_t> heard_;
  std::set<StreamId> connected_;
  std::map<std::uint64_t, v1::Alert> alerts_;
};

TEST_F(RulesReplayTest, AJobThatHungIsStalledAsItWas) {
  Rules("stalled { seconds: 100 step_times: 20 }");
  const StreamId stream = Open(0);
  for (int step = 0; step < 100; ++step) {
    Step(stream, step);
    Tick(step == 49 ? 300 : 1);
  }
  End(stream);
  Tick(10);
  const auto alerts = Replay();
  ASSERT_THAT(alerts, SizeIs(1));
  EXPECT_EQ(alerts[0].rule(), v1::HEALTH_RULE_STALLED);
  EXPECT_EQ(alerts[0].first_step(), 49);
  EXPECT_EQ(alerts[0].first_time_unix_ns(), kStart + 49 * kSecond);
  EXPECT_EQ(alerts[0].end(), v1::ALERT_END_QUIET);
  EXPECT_EQ(alerts[0].ended_step(), 50);
  EXPECT_THAT(alerts[0].summary(), ::testing::HasSubstr("100"));
}

TEST_F(RulesReplayTest, ARankThatWasKilledIsLostUntilANewAttemptBegins) {
  Rules("");
  const StreamId ranks[] = {Open(0), Open(1)};
  for (int step = 0; step < 200; ++step) {
    Step(ranks[0], step);
    if (step < 50) Step(ranks[1], step);
    if (step == 50) Kill(ranks[1]);
    Tick();
  }
  Kill(ranks[0]);
  Tick(20);
  const StreamId again = Open(0, "second");
  Tick(5);
  Step(again, 0);
  End(again);
  Tick(10);
  EXPECT_THAT(ReplayLines(),
              ElementsAre("rule 8 attempt 1 rank 1 steps 49 to 49 ended at "
                          "199 why 2 raised 109 ended 220"));
}

TEST_F(RulesReplayTest, ARunThatGoesOnIsJudgedUpToNow) {
  Rules("stalled { seconds: 100 }");
  const StreamId stream = Open(0);
  Step(stream, 0);
  Tick(50);
  EXPECT_THAT(ReplayLines(), IsEmpty());
  Tick(100);
  EXPECT_THAT(ReplayLines(),
              ElementsAre("rule 7 attempt 1 rank 0 steps 0 to 0 raised 100"));
  // Its process goes: what it had been silent for is nobody's any more.
  Kill(stream);
  EXPECT_THAT(ReplayLines(),
              ElementsAre("rule 8 attempt 1 rank 0 steps 0 to 0 raised 60"));
  clock_.Advance(std::chrono::hours(100'000));
  EXPECT_THAT(ReplayLines(),
              ElementsAre("rule 8 attempt 1 rank 0 steps 0 to 0 ended at 0 "
                          "why 2 raised 60 ended 86460"));
}

TEST_F(RulesReplayTest, TimesThatCannotBeAreTakenForWhatTheyMayHaveBeen) {
  Rules("");
  const StreamId stream = Open(0);
  const std::int64_t times[] = {std::numeric_limits<std::int64_t>::min(),
                                std::numeric_limits<std::int64_t>::max(),
                                0,
                                -1,
                                kStart,
                                kStart + 5 * kSecond};
  int step = 0;
  for (const std::int64_t time : times) {
    StepData data = QuietStep(*schema_, step++);
    data.wall_time_unix_ns = time;
    store_.AddStep(stream, 0, data);
  }
  EndData end;
  end.reason = EndReason::kFinished;
  end.wall_time_unix_ns = std::numeric_limits<std::int64_t>::min();
  store_.AddEnd(stream, end);
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_THAT(Replay(), IsEmpty());
}

// Jobs that hang, ranks that are killed, attempts that follow each other, and
// steps with NaN: what the collector said then is what the replay says.
TEST_F(RulesReplayTest, AReplaySaysWhatALiveCollectorSaid) {
  const std::string rules =
      "nonfinite { quiet_steps: 5 } stalled { seconds: 90 step_times: 10 } "
      "lost_rank { seconds: 70 } expire_hours: 0.05";
  std::size_t stalled = 0;
  std::size_t lost = 0;
  for (unsigned seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937 random(seed);
    store_.DeleteRun(kRun).IgnoreError();
    clock_.JumpWall(std::chrono::nanoseconds(kStart - now()));
    heard_.clear();
    connected_.clear();
    alerts_.clear();
    Rules(rules);
    const int attempts = 1 + static_cast<int>(random() % 3);
    for (int attempt = 0; attempt < attempts; ++attempt) {
      const std::string launch = absl::StrCat("launch", attempt);
      StreamId ranks[] = {Open(0, launch), Open(1, launch)};
      Tick(static_cast<int>(random() % 30));
      const int steps = 20 + static_cast<int>(random() % 60);
      const int killed = static_cast<int>(random() % 120);
      for (int step = 0; step < steps; ++step) {
        Step(ranks[0], step, random() % 30 == 0);
        if (step <= killed) Step(ranks[1], step, random() % 30 == 0);
        if (step == killed) Kill(ranks[1]);
        // Who is killed has not hung before: that would not be stored.
        Tick(step + 1 < steps && random() % 25 == 0 ? 200 : 1);
      }
      const bool dies = random() % 3 == 0;
      for (std::size_t r = 0; r < 2; ++r) {
        const bool there = r == 0 || killed >= steps;
        if (there && !dies) End(ranks[r]);
        if (there && dies) Kill(ranks[r]);
      }
      Tick(static_cast<int>(random() % 200));
    }
    Look();
    const std::vector<v1::Alert> live = Live();
    const std::vector<v1::Alert> replayed = Replay();
    ASSERT_EQ(replayed.size(), live.size());
    for (std::size_t i = 0; i < live.size(); ++i) {
      EXPECT_EQ(LineOf(replayed[i]), LineOf(live[i]));
      // A collector looks at its clock once a second.
      EXPECT_NEAR(SecondOf(replayed[i].raised_unix_ns()),
                  SecondOf(live[i].raised_unix_ns()), 1);
      EXPECT_NEAR(SecondOf(replayed[i].ended_unix_ns()),
                  SecondOf(live[i].ended_unix_ns()), 2);
      stalled += live[i].rule() == v1::HEALTH_RULE_STALLED ? 1 : 0;
      lost += live[i].rule() == v1::HEALTH_RULE_LOST_RANK ? 1 : 0;
    }
  }
  EXPECT_GT(stalled, 20U);
  EXPECT_GT(lost, 20U);
}

}  // namespace
}  // namespace gradtap::server
