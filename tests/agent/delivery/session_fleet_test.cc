// Many agents after one long outage, on a simulated clock.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/model_collector.h"
#include "agent/delivery/recorder.h"
#include "agent/delivery/session.h"
#include "support/manual_clock.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::ManualClock;
using ::gradtap::testing::ModelCollector;
using std::chrono::milliseconds;

constexpr int kAgents = 100;
constexpr milliseconds kTick{50};

class SimulatedAgent {
 public:
  SimulatedAgent(int number, ManualClock* clock)
      : random_(static_cast<std::uint32_t>(number)),
        ring_(testing::MakeRing(64 * 1024)),
        recorder_(ring_.get(), &books_, clock),
        log_(nullptr),
        session_(Options(number), ring_.get(), &books_, clock, &log_, [this] {
          return std::uniform_real_distribution<double>()(random_);
        }) {
    recorder_.PutSchema(testing::MakeSchema(1, 2));
  }

  void PutStep() { recorder_.PutStep(testing::MakeStep(next_step_++, 1, 2)); }

  // Performs what the session asks for; returns how often it dialled.
  int Turn(bool collector_is_up) {
    if (!collector_is_up && open_) Close();
    int dialled = 0;
    while (auto action = session_.Next()) {
      switch (action->kind) {
        case Session::Action::Kind::kConnect:
          ++dialled;
          open_ = true;
          if (!collector_is_up) {
            Close();
            break;
          }
          collector_.Open();
          session_.OnConnected();
          break;
        case Session::Action::Kind::kSend: {
          session_.OnSent();
          for (const auto& answer :
               collector_.OnMessage(action->message).messages) {
            session_.OnMessage(answer);
          }
          break;
        }
        case Session::Action::Kind::kHalfClose:
        case Session::Action::Kind::kCancel:
          Close();
          break;
      }
    }
    return dialled;
  }

  bool caught_up() const { return session_.drained(); }
  std::size_t stored() const { return collector_.Contents().recorded.size(); }
  std::int64_t steps() const { return next_step_; }
  std::uint64_t lost() const { return books_.Snapshot().steps_lost; }

 private:
  static SessionOptions Options(int number) {
    SessionOptions options;
    options.run = "fleet";
    options.launch = "one";
    options.rank = static_cast<std::uint32_t>(number);
    options.world_size = kAgents;
    options.process_nonce = "0123456789abcd" + std::to_string(10 + number % 90);
    return options;
  }
  void Close() {
    open_ = false;
    session_.OnClosed(absl::UnavailableError("nobody is there"));
  }

  std::mt19937 random_;
  Books books_;
  std::unique_ptr<Ring> ring_;
  Recorder recorder_;
  OnceLog log_;
  Session session_;
  ModelCollector collector_;
  bool open_ = false;
  std::int64_t next_step_ = 0;
};

TEST(SessionFleetTest, AHundredAgentsComeBackFromTenMinutesWithoutAHerd) {
  ManualClock clock;
  std::vector<std::unique_ptr<SimulatedAgent>> agents;
  for (int i = 0; i < kAgents; ++i) {
    agents.push_back(std::make_unique<SimulatedAgent>(i, &clock));
  }
  const auto seconds = [](int n) { return n * 1000 / kTick.count(); };
  const auto away = seconds(20), back = away + seconds(600);
  std::map<std::int64_t, int> dials;  // By second.
  std::int64_t caught_up_at = -1;
  for (std::int64_t tick = 0; tick < back + seconds(60); ++tick) {
    const bool up = tick < away || tick >= back;
    int behind = 0;
    for (auto& agent : agents) {
      if (tick % seconds(10) == 0) agent->PutStep();
      dials[tick * kTick.count() / 1000] += agent->Turn(up);
      behind += agent->caught_up() ? 0 : 1;
    }
    if (tick >= back && behind == 0 && caught_up_at < 0) {
      caught_up_at = (tick - back) * kTick.count();
    }
    clock.Advance(kTick);
  }
  int first_second = 0, later = 0;
  for (const auto& [second, count] : dials) {
    if (second < 20) continue;
    if (second < 80) {
      first_second = std::max(first_second, count);
    } else {
      later = std::max(later, count);
    }
  }
  std::cout << "attempts a second: at most " << first_second
            << " in the first minute of the outage, " << later
            << " from then on; all caught up " << caught_up_at
            << " ms after the end\n";
  // An agent dials at most every 0.5 s / 2 on average in the first second, and
  // every 15 s once its delay has grown to the full 30 s: 7 a second.
  EXPECT_LE(first_second, 4 * kAgents);
  EXPECT_LE(later, kAgents / 4);
  ASSERT_GE(caught_up_at, 0);
  EXPECT_LE(caught_up_at, 30'000 + kTick.count());
  for (const auto& agent : agents) {
    EXPECT_EQ(agent->lost(), 0u);
    EXPECT_EQ(agent->stored(), static_cast<std::size_t>(agent->steps()));
  }
}

}  // namespace
}  // namespace gradtap::agent
