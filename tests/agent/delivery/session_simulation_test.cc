// Recorder, ring and session against a model collector over a network that
// loses calls, repeats and delays: one seed, one history.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/model_collector.h"
#include "agent/delivery/recorder.h"
#include "agent/delivery/session.h"
#include "support/manual_clock.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeRing;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeSkippedStep;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::ModelCollector;
using ::gradtap::testing::StreamContents;
using ::testing::IsEmpty;

struct Faults {
  bool lossy = true;       // Calls break at any time.
  bool refusing = false;   // Some records are refused for good.
  bool forgetful = false;  // The collector loses durable data.
  bool tight = false;      // A small ring and little credit.
};

class Simulation {
 public:
  Simulation(std::uint64_t seed, Faults faults)
      : faults_(faults),
        random_(seed),
        ring_(MakeRing(faults.tight ? 64 * 1024 : 2 << 20,
                       faults.tight ? 8 * 1024 : 64 * 1024)),
        recorder_(ring_.get(), &books_, &clock_),
        log_(nullptr),
        session_(Options(), ring_.get(), &books_, &clock_, &log_, [this] {
          return std::uniform_real_distribution<>()(random_);
        }) {
    collector_.credit_bytes = faults.tight ? 3'000 : 1 << 20;
    if (faults.refusing) {
      collector_.refuse = [this](std::uint64_t, const std::string& record) {
        const auto view = ParseRecord(record);
        if (!view.ok() || view->kind != RecordKind::kStep || !Chance(10)) {
          return false;
        }
        const auto step = StepView::Parse(view->body);
        refused_steps_ +=
            step.ok() && step->skipped() == GapCause::kUnspecified;
        return true;
      };
    }
  }

  void Run(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      if (Chance(2)) Produce();
      if (faults_.lossy && Chance(40)) Break();
      if (faults_.forgetful && Chance(200)) Forget();
      Turn();
    }
    recorder_.PutEnd(EndReason::kFinished);
    session_.BeginDrain();
    faults_.lossy = false;
    for (int i = 0; i < 20'000 && !session_.finished(); ++i) Turn();
  }

  void Check() {
    EXPECT_TRUE(session_.finished());
    EXPECT_THAT(collector_.violations, IsEmpty());
    // Each seq once, up to the last: the model stores nothing else.
    EXPECT_EQ(collector_.cursor(), ring_->last_seq());
    EXPECT_EQ(ring_->first_seq(), ring_->last_seq() + 1);
    const DeliveryCounters c = books_.Snapshot();
    EXPECT_EQ(c.steps_seen, offered_);
    EXPECT_EQ(c.steps_seen, c.steps_recorded + c.steps_skipped + c.steps_lost);
    EXPECT_EQ(c.steps_acknowledged, c.steps_recorded);
    EXPECT_EQ(c.bytes_acknowledged, c.bytes_recorded);
    EXPECT_EQ(c.by_cause.count(GapCause::kIoError), 0u);
    if (!faults_.forgetful) {
      CheckContents(c);
    } else {
      CheckLostContents(c);
    }
  }

 private:
  static SessionOptions Options() {
    SessionOptions options;
    options.run = "sim";
    options.launch = "l";
    options.process_nonce = "0123456789abcdef";
    return options;
  }

  bool Chance(int one_in) {
    return random_() % static_cast<unsigned>(one_in) == 0;
  }

  void Produce() {
    if (schema_id_ == 0 || Chance(60)) {
      places_ = 1 + random_() % (faults_.tight ? 30 : 100);
      recorder_.PutSchema(MakeSchema(++schema_id_, places_));
    }
    if (Chance(50) && step_ > 3) {
      step_ -= static_cast<std::int64_t>(random_() % 3 + 1);
      recorder_.Rollback(step_);
    }
    ++offered_;
    if (Chance(9)) {
      recorder_.PutGap(Chance(2) ? GapCause::kLoop : GapCause::kCaptureError,
                       step_++, Chance(2) ? "why" : "");
    } else if (Chance(9)) {
      recorder_.PutStep(MakeSkippedStep(step_++, GapCause::kInterval));
    } else {
      recorder_.PutStep(MakeStep(step_++, schema_id_, places_));
    }
  }

  // One small thing happens.
  void Turn() {
    clock_.Advance(std::chrono::milliseconds(random_() % 200));
    if (auto action = session_.Next()) Perform(*std::move(action));
    if (Chance(2) && write_in_flight_) {
      write_in_flight_ = false;
      session_.OnSent();
    }
    if (Chance(2) && !to_collector_.empty()) Arrive();
    if (Chance(2) && !to_agent_.empty()) {
      const v1::CollectorMessage message = to_agent_.front();
      if (!Chance(5) || !message.has_ack()) to_agent_.pop_front();  // Repeated.
      session_.OnMessage(message);
    }
    if (closing_ && to_agent_.empty() && Chance(2)) Close(absl::OkStatus());
  }

  void Perform(Session::Action action) {
    switch (action.kind) {
      case Session::Action::Kind::kConnect:
        ASSERT_FALSE(open_);
        open_ = true;
        closing_ = write_in_flight_ = false;
        to_collector_.clear();
        to_agent_.clear();
        if (faults_.lossy && Chance(3)) {
          Close(absl::UnavailableError("refused"));
          return;
        }
        collector_.Open();
        session_.OnConnected();
        return;
      case Session::Action::Kind::kSend:
        ASSERT_FALSE(write_in_flight_);
        write_in_flight_ = true;
        to_collector_.push_back(std::move(action.message));
        return;
      case Session::Action::Kind::kHalfClose:
        write_in_flight_ = true;
        closing_ = true;
        return;
      case Session::Action::Kind::kCancel:
        Close(absl::CancelledError(action.reason));
        return;
    }
  }

  void Arrive() {
    const v1::AgentMessage message = std::move(to_collector_.front());
    to_collector_.pop_front();
    ModelCollector::Reply reply = collector_.OnMessage(message);
    for (auto& answer : reply.messages) to_agent_.push_back(std::move(answer));
    if (reply.close) Close(absl::OutOfRangeError(reply.close_reason));
  }

  void Close(absl::Status status) {
    if (!open_) return;
    open_ = closing_ = false;
    to_collector_.clear();
    to_agent_.clear();
    session_.OnClosed(status);
  }

  void Break() {
    // What is on its way to the collector may still get there.
    while (open_ && !to_collector_.empty() && Chance(2)) Arrive();
    Close(absl::UnavailableError("broken"));
  }

  void Forget() {
    Close(absl::UnavailableError("restart"));
    if (collector_.cursor() > 0) {
      collector_.LoseAfter(random_() % collector_.cursor());
      ++forgotten_;
    }
  }

  void CheckContents(const DeliveryCounters& c) {
    const StreamContents s = collector_.Contents();
    std::map<GapCause, std::uint64_t> declared = s.gap_steps;
    for (const auto& [cause, steps] : s.skipped_steps) declared[cause] += steps;
    std::map<GapCause, std::uint64_t> counted = c.by_cause;
    if (faults_.refusing) {
      // A rejected step of an older branch, or after the end, is counted only;
      // one whose acknowledgement was lost is known to the collector only.
      EXPECT_GE(counted[GapCause::kRejected], declared[GapCause::kRejected]);
      EXPECT_EQ(c.steps_recorded + counted[GapCause::kRejected],
                s.recorded.size() + refused_steps_);
      if (was_lossy_) {
        EXPECT_LE(counted[GapCause::kRejected], refused_steps_);
      } else {
        EXPECT_EQ(counted[GapCause::kRejected], refused_steps_);
      }
      return;
    }
    EXPECT_EQ(s.recorded.size(), c.steps_recorded);
    EXPECT_THAT(s.problems, IsEmpty());
    EXPECT_EQ(declared, counted);
    EXPECT_EQ(s.fillers, 0u);
    ASSERT_TRUE(s.end.has_value());
    EXPECT_EQ(s.end->steps_seen, offered_);
    EXPECT_EQ(s.end->steps_recorded, c.steps_recorded);
  }

  // What the collector lost is declared: nothing recorded just vanishes.
  void CheckLostContents(const DeliveryCounters& c) {
    const StreamContents s = collector_.Contents();
    const auto lost = s.gap_steps.find(GapCause::kIoError);
    const std::uint64_t declared = lost == s.gap_steps.end() ? 0 : lost->second;
    EXPECT_EQ(s.recorded.size() + s.skipped.size() + declared,
              steps_admitted());
    EXPECT_EQ(s.incomplete, 0u);
    if (declared > 0) {
      EXPECT_GT(forgotten_, 0);
    }
    const auto loop = c.by_cause.find(GapCause::kLoop);
    if (loop != c.by_cause.end()) {
      EXPECT_EQ(s.gap_steps.at(GapCause::kLoop), loop->second);
    }
  }

  // Step records that ever stood in the ring.
  std::uint64_t steps_admitted() const {
    std::uint64_t skipped_by_record = 0;
    const DeliveryCounters c = books_.Snapshot();
    if (const auto it = c.by_cause.find(GapCause::kInterval);
        it != c.by_cause.end()) {
      skipped_by_record = it->second;
    }
    std::uint64_t rejected = 0;
    if (const auto it = c.by_cause.find(GapCause::kRejected);
        it != c.by_cause.end()) {
      rejected = it->second;
    }
    return c.steps_recorded + rejected + skipped_by_record;
  }
  Faults faults_;
  const bool was_lossy_ = faults_.lossy;
  std::mt19937_64 random_;
  ManualClock clock_;
  Books books_;
  std::unique_ptr<Ring> ring_;
  Recorder recorder_;
  OnceLog log_;
  Session session_;
  ModelCollector collector_;

  bool open_ = false;
  bool closing_ = false;
  bool write_in_flight_ = false;
  std::deque<v1::AgentMessage> to_collector_;
  std::deque<v1::CollectorMessage> to_agent_;
  std::uint32_t schema_id_ = 0;
  std::size_t places_ = 1;
  std::int64_t step_ = 0;
  std::uint64_t offered_ = 0;
  int forgotten_ = 0;
  std::uint64_t refused_steps_ = 0;
};

void RunSeeds(std::uint64_t first, std::uint64_t count, Faults faults) {
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Simulation simulation(seed, faults);
    simulation.Run(400);
    simulation.Check();
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(SessionSimulation, BrokenCallsLoseAndDoubleNothing) {
  RunSeeds(1, 200, {});
}

TEST(SessionSimulation, ASmallRingAndLittleCreditLoseNothingUndeclared) {
  Faults faults;
  faults.tight = true;
  RunSeeds(1'000, 200, faults);
}

TEST(SessionSimulation, RefusedRecordsBlockNothing) {
  Faults faults;
  faults.refusing = true;
  RunSeeds(2'000, 100, faults);
  faults.lossy = false;
  RunSeeds(2'500, 100, faults);
}

TEST(SessionSimulation, ACollectorThatForgetsIsToldWhatIsGone) {
  Faults faults;
  faults.forgetful = true;
  RunSeeds(3'000, 200, faults);
}

}  // namespace
}  // namespace gradtap::agent
