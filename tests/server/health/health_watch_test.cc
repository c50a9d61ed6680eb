#include "server/health/health_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/health/alert_cursor.h"
#include "server/health/health_testing.h"
#include "support/manual_clock.h"
#include "support/memory_store.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using namespace testing;  // NOLINT: what health_testing.h has.
using ::gradtap::testing::IsOk;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::MemoryStore;
using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// So long that only a hang is ever cut off.
constexpr std::chrono::seconds kPatience{120};

// A store whose disk can be full.
class FullStore : public MemoryStore {
 public:
  absl::Status WriteAttachments(
      const RunEntry& run, std::span<const Attachment> attachments) override {
    if (full) return absl::ResourceExhaustedError("the disk is full");
    return MemoryStore::WriteAttachments(run, attachments);
  }
  absl::Status ScanByOrdinal(
      std::string_view run, std::uint64_t after,
      const std::function<bool(const StepRow*, const GapRow*)>& visit)
      override {
    if (after < damaged_below)
      return absl::DataLossError("a window is damaged");
    if (!without_end) return MemoryStore::ScanByOrdinal(run, after, visit);
    return MemoryStore::ScanByOrdinal(
        run, 0, [&](const StepRow* row, const GapRow* gap) {
          while (visit(row, gap)) {
          }
          return false;
        });
  }
  std::atomic<bool> full{false};
  std::atomic<bool> without_end{false};  // The first row, again and again.
  std::atomic<std::uint64_t> damaged_below{0};
};

class HealthWatchTest : public ::testing::Test {
 protected:
  HealthWatchTest() {
    schema_ = MakeSchema({MakeWeight("a"), MakeWeight("b")});
  }

  StreamId AddRun(const std::string& run) {
    StreamHello hello;
    hello.run = run;
    hello.launch = "first";
    hello.process_nonce = std::string(16, 'n');
    hello.start_time_unix_ns = kStart;
    const auto stream = store_.OpenStream(hello, kStart);
    EXPECT_THAT(stream, IsOk());
    store_.AddSchema(stream->id, *schema_);
    return stream->id;
  }
  void AddStep(StreamId stream, std::int64_t step, bool bad) {
    StepData data = QuietStep(*schema_, step);
    if (bad) SetNan(&data, Role::kGrad, 1, 5);
    store_.AddStep(stream, 0, data);
  }

  void Start(const std::string& rules = "nonfinite { quiet_steps: 3 }") {
    HealthOptions options;
    options.rules = MakeRules(rules);
    options.pace = std::chrono::milliseconds(1);
    options.last_look = last_look_;
    options.say = [this](const std::string& line) {
      MutexLock lock(said_mu_);
      said_ += line + "\n";
    };
    auto watch = HealthWatch::Start(
        &store_, &clock_, [](StreamId) { return true; }, std::move(options));
    ASSERT_THAT(watch, IsOk());
    watch_ = *std::move(watch);
  }

  // Waits until an alert of the run is as `done` wants it.
  template <typename Done>
  std::vector<v1::Alert> Await(const std::string& run, const Done& done) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      const std::uint64_t change = watch_->log().change();
      const std::vector<v1::Alert> alerts = Alerts(run);
      if (done(alerts) || std::chrono::steady_clock::now() > deadline) {
        EXPECT_TRUE(done(alerts));
        return alerts;
      }
      watch_->log().Wait(
          change, watch_->log().wakes(),
          std::chrono::steady_clock::now() + std::chrono::milliseconds(20));
    }
  }
  std::vector<v1::Alert> Alerts(const std::string& run) {
    v1::ListAlertsRequest request;
    request.set_run(run);
    v1::ListAlertsResponse response;
    EXPECT_THAT(watch_->ListAlerts(request, &response), IsOk());
    return {response.alerts().begin(), response.alerts().end()};
  }
  v1::GetHealthResponse Health(const std::string& run) {
    v1::GetHealthRequest request;
    request.set_run(run);
    request.set_max_names(10);
    v1::GetHealthResponse response;
    EXPECT_THAT(watch_->GetHealth(request, &response), IsOk());
    return response;
  }

  static bool OneActive(const std::vector<v1::Alert>& alerts) {
    return alerts.size() == 1 && alerts[0].active();
  }
  static bool OneEnded(const std::vector<v1::Alert>& alerts) {
    return alerts.size() == 1 && !alerts[0].active();
  }

  FullStore store_;
  ManualClock clock_{kStart};
  std::shared_ptr<const Schema> schema_;
  std::chrono::milliseconds last_look_ = kPatience;
  Mutex said_mu_;
  std::string said_;
  std::unique_ptr<HealthWatch> watch_;
};

TEST_F(HealthWatchTest, WhatIsStoredIsJudgedAndItsAlertIsListed) {
  Start();
  const StreamId stream = AddRun("gpt");
  for (int step = 0; step < 200; ++step) AddStep(stream, step, step == 150);
  const auto alerts = Await("gpt", OneEnded);
  EXPECT_EQ(alerts[0].first_step(), 150);
  EXPECT_EQ(alerts[0].ended_step(), 153);
  EXPECT_EQ(alerts[0].worst(0).parameter(), "b");
  EXPECT_GT(alerts[0].change(), 0U);
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(HealthWatchTest, ARestartNeitherLosesNorDoublesAnAlert) {
  Start();
  const StreamId stream = AddRun("gpt");
  for (int step = 0; step < 50; ++step) AddStep(stream, step, step == 49);
  const auto before = Await("gpt", OneActive);
  watch_ = nullptr;
  // Comes while nobody looks.
  for (int step = 50; step < 52; ++step) AddStep(stream, step, true);
  clock_.Advance(std::chrono::hours(1));  // Who begins anew raises it later.
  Start();
  EXPECT_TRUE(OneActive(Alerts("gpt")));
  for (int step = 52; step < 60; ++step) AddStep(stream, step, false);
  const auto after = Await("gpt", OneEnded);
  EXPECT_EQ(after[0].id(), before[0].id());
  EXPECT_EQ(after[0].first_step(), 49);
  EXPECT_EQ(after[0].last_step(), 51);
  EXPECT_EQ(after[0].raised_unix_ns(), before[0].raised_unix_ns());
}

TEST_F(HealthWatchTest, AStopLeavesWhatItHasNoTimeForToTheNextStart) {
  last_look_ = std::chrono::milliseconds(0);
  store_.without_end = true;
  const StreamId stream = AddRun("run");
  AddStep(stream, 0, false);
  AddStep(stream, 1, true);
  Start();
  watch_->Stop();
  EXPECT_THAT(Alerts("run"), IsEmpty());
  store_.without_end = false;
  Start();
  const auto alerts =
      Await("run", [](const auto& all) { return !all.empty(); });
  ASSERT_THAT(alerts, SizeIs(1));
  EXPECT_EQ(alerts[0].first_step(), 1);
}

TEST_F(HealthWatchTest, ARunThatIsOverIsForgottenAndStillTold) {
  Start();
  const StreamId stream = AddRun("gpt");
  for (int step = 0; step < 5; ++step) AddStep(stream, step, step == 4);
  store_.AddEnd(stream, {EndReason::kFinished});
  Await("gpt", OneEnded);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (watch_->figures().runs > 0 &&
         std::chrono::steady_clock::now() < deadline) {
    watch_->log().Wait(
        ~std::uint64_t{0}, watch_->log().wakes(),
        std::chrono::steady_clock::now() + std::chrono::milliseconds(20));
  }
  EXPECT_EQ(watch_->figures().runs, 0U);
  for (int i = 0; i < 2; ++i) {
    const v1::GetHealthResponse health = Health("gpt");
    EXPECT_TRUE(health.evaluated());
    EXPECT_EQ(health.step(), 4);
    EXPECT_EQ(health.rules(0).offenders(), 1U);
    EXPECT_EQ(health.rules(0).alert().end(), v1::ALERT_END_RUN_ENDED);
    watch_ = nullptr;
    Start();
  }
}

TEST_F(HealthWatchTest, ARunThatEndedBeforeThereWereRulesIsNotJudged) {
  const StreamId old = AddRun("old");
  AddStep(old, 0, true);
  store_.AddEnd(old, {EndReason::kFinished});
  Start();
  const StreamId stream = AddRun("new");
  AddStep(stream, 0, true);
  Await("new", OneActive);
  EXPECT_THAT(Alerts("old"), IsEmpty());
  EXPECT_FALSE(Health("old").evaluated());
  // Nor when something else of it changes.
  store_.AddGap(old, 0, {GapCause::kLoop, 1, 1, 1, ""});
  AddStep(stream, 1, true);
  const StreamId later = AddRun("later");
  AddStep(later, 0, true);
  Await("later", OneActive);
  EXPECT_THAT(Alerts("old"), IsEmpty());
  EXPECT_FALSE(Health("old").evaluated());
}

TEST_F(HealthWatchTest, ADeletedRunTakesItsAlertsAlong) {
  Start();
  const StreamId stream = AddRun("gpt");
  AddStep(stream, 0, true);
  Await("gpt", OneActive);
  EXPECT_THAT(store_.DeleteRun("gpt"), IsOk());
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!watch_->log().Active().empty() &&
         std::chrono::steady_clock::now() < deadline) {
    watch_->log().Wait(
        ~std::uint64_t{0}, watch_->log().wakes(),
        std::chrono::steady_clock::now() + std::chrono::milliseconds(20));
  }
  EXPECT_THAT(watch_->log().Active(), IsEmpty());
  v1::ListAlertsRequest request;
  request.set_run("gpt");
  v1::ListAlertsResponse response;
  EXPECT_THAT(watch_->ListAlerts(request, &response),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("gpt")));
}

TEST_F(HealthWatchTest, RunsThatTheFileLeavesOutAreNotJudged) {
  Start("runs: '^prod-'");
  const StreamId other = AddRun("test-1");
  AddStep(other, 0, true);
  const StreamId stream = AddRun("prod-1");
  AddStep(stream, 0, true);
  Await("prod-1", OneActive);
  EXPECT_THAT(Alerts("test-1"), IsEmpty());
}

TEST_F(HealthWatchTest, AFullDiskIsSaidAndTheAlertIsToldAllTheSame) {
  Start();
  store_.full = true;
  const StreamId stream = AddRun("gpt");
  AddStep(stream, 0, true);
  Await("gpt", OneActive);
  store_.full = false;
  // Written with the next change.
  for (int step = 1; step < 5; ++step) AddStep(stream, step, false);
  Await("gpt", OneEnded);
  watch_ = nullptr;
  EXPECT_THAT(said_, HasSubstr("the disk is full"));
  Start();
  EXPECT_TRUE(OneEnded(Alerts("gpt")));
}

TEST_F(HealthWatchTest, AStepThatCannotBeReadIsCountedAndPassedOver) {
  Start();
  const StreamId stream = AddRun("gpt");
  StepData data = QuietStep(*MakeSchema({MakeWeight("a")}, 7), 0);
  store_.AddStep(stream, 0, data);  // Of a schema that is not there.
  AddStep(stream, 1, true);
  Await("gpt", OneActive);
  EXPECT_EQ(watch_->figures().unread_rows, 1U);
}

TEST_F(HealthWatchTest, WhatIsDamagedIsSaidAndWhatComesAfterIsJudged) {
  store_.damaged_below = 1;
  Start();
  const StreamId stream = AddRun("gpt");
  AddStep(stream, 0, false);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (watch_->figures().unread_rows == 0 &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  AddStep(stream, 1, true);
  Await("gpt", OneActive);
  watch_ = nullptr;
  EXPECT_THAT(said_, HasSubstr("a window is damaged"));
}

TEST_F(HealthWatchTest, OneTestOfRulesRunsAtATime) {
  Start();
  const StreamId stream = AddRun("gpt");
  AddStep(stream, 0, true);
  QueryEnvironment environment;
  environment.store = &store_;
  environment.clock = &clock_;
  v1::TestRulesRequest request;
  request.set_run("gpt");
  absl::Status second;
  const auto test = [&](const Cancelled& cancelled) {
    v1::TestRulesResponse response;
    return watch_->TestRules(environment, request, cancelled, &response);
  };
  EXPECT_THAT(test([&] {
                second = test([] { return false; });
                return false;
              }),
              IsOk());
  EXPECT_THAT(second, StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_THAT(test([] { return false; }), IsOk());
}

TEST_F(HealthWatchTest, AWatcherSeesWhatIsActiveThenWhatChanges) {
  Start();
  const StreamId stream = AddRun("gpt");
  AddStep(stream, 0, true);
  Await("gpt", OneActive);
  AlertCursor cursor(&watch_->log(), v1::WatchAlertsRequest());
  v1::WatchAlertsResponse message;
  ASSERT_TRUE(cursor.Next(&message));
  EXPECT_TRUE(message.alert().active());
  message.Clear();
  ASSERT_TRUE(cursor.Next(&message));
  EXPECT_TRUE(message.caught_up());
  const std::uint64_t seen = message.change();
  EXPECT_FALSE(cursor.Next(&message));
  for (int step = 1; step < 5; ++step) AddStep(stream, step, false);
  Await("gpt", OneEnded);
  v1::WatchAlertsRequest resume;
  resume.set_after_change(seen);
  AlertCursor resumed(&watch_->log(), resume);
  for (AlertCursor* each : {&cursor, &resumed}) {
    message.Clear();
    ASSERT_TRUE(each->Next(&message));
    EXPECT_FALSE(message.alert().active());
    EXPECT_GT(message.change(), seen);
  }
}

TEST_F(HealthWatchTest, AlertsAreListedTheNewestFirstAndFiltered) {
  Start();
  for (const char* run : {"one", "two"}) {
    const StreamId stream = AddRun(run);
    AddStep(stream, 0, true);
    Await(run, OneActive);
    clock_.Advance(std::chrono::seconds(10));
  }
  v1::ListAlertsRequest request;
  v1::ListAlertsResponse response;
  EXPECT_THAT(watch_->ListAlerts(request, &response), IsOk());
  ASSERT_THAT(response.alerts(), SizeIs(2));
  EXPECT_EQ(response.alerts(0).run(), "two");
  request.set_limit(1);
  response.Clear();
  EXPECT_THAT(watch_->ListAlerts(request, &response), IsOk());
  EXPECT_THAT(response.alerts(), SizeIs(1));
  EXPECT_EQ(response.omitted(), 1U);
  request.set_rule(v1::HEALTH_RULE_DEAD);
  response.Clear();
  EXPECT_THAT(watch_->ListAlerts(request, &response), IsOk());
  EXPECT_THAT(response.alerts(), IsEmpty());
  request.set_rule(static_cast<v1::HealthRule>(77));
  EXPECT_THAT(watch_->ListAlerts(request, &response),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("77")));
  request.set_rule(v1::HEALTH_RULE_UNSPECIFIED);
  request.set_since_unix_ns(-1);
  EXPECT_THAT(watch_->ListAlerts(request, &response),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-1")));
  v1::GetHealthRequest health;
  health.set_run("one");
  health.set_max_names(1'000'000);
  v1::GetHealthResponse told;
  EXPECT_THAT(
      watch_->GetHealth(health, &told),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1000000")));
}

TEST_F(HealthWatchTest, TheOldestAlertsOfARunGoFirst) {
  AddRun("gpt");
  AlertLog log(&store_, &clock_);
  const auto run = store_.FindRun("gpt");
  for (std::uint64_t id = 1; id <= AlertLog::kMaxAlertsOfRun + 5; ++id) {
    v1::Alert alert;
    alert.set_id(id);
    alert.set_run("gpt");
    alert.set_active(id == 2);
    EXPECT_THAT(log.Write(*run, {alert}, {}, {}), IsOk());
  }
  AlertLog again(&store_, &clock_);
  EXPECT_THAT(again.Load(), IsOk());
  for (const AlertLog* each : {&log, &again}) {
    const auto kept = each->After(0, "gpt", 1 << 20);
    EXPECT_THAT(kept, SizeIs(AlertLog::kMaxAlertsOfRun));
    EXPECT_EQ(kept.front().id(), 2U);  // It is active.
  }
}

TEST_F(HealthWatchTest, WhoHasBeenToldOutlivesTheCollector) {
  AddRun("gpt");
  const auto run = store_.FindRun("gpt");
  v1::Alert alert;
  alert.set_id(1);
  alert.set_run("gpt");
  alert.set_active(true);
  {
    AlertLog log(&store_, &clock_);
    EXPECT_THAT(log.Write(*run, {alert}, {}, {}), IsOk());
    EXPECT_THAT(log.Untold(Destination::kWebhook, 0), SizeIs(1));
    EXPECT_THAT(log.SetTold(Destination::kWebhook, "gpt", 1, false), IsOk());
  }
  AlertLog log(&store_, &clock_);
  EXPECT_THAT(log.Load(), IsOk());
  EXPECT_THAT(log.Untold(Destination::kWebhook, 0), IsEmpty());
  EXPECT_THAT(log.Untold(Destination::kAlertmanager, 0), SizeIs(1));
  alert.set_active(false);
  alert.set_ended_unix_ns(kStart);
  EXPECT_THAT(log.Write(*run, {alert}, {}, {}), IsOk());
  const auto ended = log.Untold(Destination::kWebhook, kStart);
  ASSERT_THAT(ended, SizeIs(1));
  EXPECT_TRUE(ended[0].begin_told);
  EXPECT_THAT(log.Untold(Destination::kWebhook, kStart + 1), IsEmpty());
}

}  // namespace
}  // namespace gradtap::server
