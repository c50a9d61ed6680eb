#include "sessions/recorded_agent.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <stdexcept>
#include <utility>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/grpc_transport.h"
#include "agent/delivery/perform.h"

namespace gradtap::testing {
namespace {

using agent::Session;
using agent::SessionState;
using agent::TransportEvent;
using Kind = SessionEntry::Kind;
using SteadyClock = std::chrono::steady_clock;

agent::SessionOptions OptionsOf(const std::string& collector,
                                const std::string& run) {
  agent::SessionOptions options;
  options.collector = collector;
  options.run = run;
  options.launch = "launch-1";
  options.rank = 1;
  options.world_size = 2;
  options.process_nonce = "0123456789abcdef";
  options.agent_version = GRADTAP_VERSION;
  options.torch_version = "2.6.0";
  options.host = "trainer-7";
  options.start_time_unix_ns = 1'699'999'999'000'000'000;
  options.pid = 4711;
  options.tags = {{"team", "vision"}, {"note", "caf\xc3\xa9"}};
  return options;
}

agent::GrpcTransportOptions TransportTo(const std::string& collector) {
  agent::GrpcTransportOptions options;
  options.collector = collector;
  return options;
}

}  // namespace

RecordedAgent::RecordedAgent(const std::string& collector,
                             const std::string& run)
    : ring_(MakeRing(16 << 20, 64 * 1024)),
      recorder_(ring_.get(), &books_, &clock_),
      log_([](const std::string& line) { std::cout << line << "\n"; }),
      session_(OptionsOf(collector, run), ring_.get(), &books_, &clock_, &log_,
               [] { return 0.0; }),
      transport_(agent::MakeGrpcTransport(TransportTo(collector))) {
  session_.SetHurry(true);
}

void RecordedAgent::PumpUntil(const std::function<bool()>& done) {
  const auto give_up = SteadyClock::now() + std::chrono::seconds(60);
  for (;;) {
    while (auto action = session_.Next()) Do(*action);
    if (done()) return;
    const auto now = SteadyClock::now();
    if (now > give_up) throw std::runtime_error("the session does not go on");
    if (const auto event =
            transport_->Wait(now + std::chrono::milliseconds(20))) {
      Take(*event);
    }
  }
}

void RecordedAgent::Do(const Session::Action& action) {
  switch (action.kind) {
    case Session::Action::Kind::kConnect:
      call_begin_ = entries_.size();
      call_forgotten_ = false;
      break;
    case Session::Action::Kind::kHalfClose:
      entries_.push_back({Kind::kHalfClose, ""});
      break;
    case Session::Action::Kind::kCancel:
      break;
    case Session::Action::Kind::kSend:
      if (!Note(action.message)) return session_.OnSent();
      break;
  }
  agent::Perform(action, transport_.get());
}

// False: it is to be lost on the way.
bool RecordedAgent::Note(const v1::AgentMessage& message) {
  bool arrives = true;
  if (message.has_batch()) {
    arrives = arriving_batches_ > 0;
    if (arrives) --arriving_batches_;
    sent_seq_ =
        message.batch().first_seq() + message.batch().record_count() - 1;
    if (arrives) arrived_seq_ = sent_seq_;
  }
  heartbeats_ += message.has_heartbeat() ? 1 : 0;
  entries_.push_back(
      {arrives ? Kind::kAgent : Kind::kAgentLost, message.SerializeAsString()});
  return arrives;
}

void RecordedAgent::Take(const TransportEvent& event) {
  if (event.kind == TransportEvent::Kind::kMessage && !Note(event.message)) {
    return;
  }
  if (event.kind == TransportEvent::Kind::kClosed && !call_forgotten_) {
    const bool well =
        event.status.ok() || session_.state() == SessionState::kRefused;
    entries_.push_back({well ? Kind::kEnd : Kind::kCut, ""});
  }
  agent::Tell(event, &session_);
}

// The same.
bool RecordedAgent::Note(const v1::CollectorMessage& message) {
  if (message.has_reject() &&
      message.reject().code() == v1::Reject::CODE_DUPLICATE) {
    // It has not noticed yet that the call before this one is lost. When it
    // will is not to be recorded.
    entries_.resize(call_begin_);
    call_forgotten_ = true;
    return true;
  }
  if (message.has_ack()) {
    acknowledged_seq_ =
        std::max(acknowledged_seq_, message.ack().durable_seq());
  }
  entries_.push_back(
      {collector_unheard_ ? Kind::kCollectorLost : Kind::kCollector,
       message.SerializeAsString()});
  return !collector_unheard_;
}

void RecordedAgent::Settle() {
  PumpUntil([this] { return session_.drained(); });
}

void RecordedAgent::SettleUnheard() {
  collector_unheard_ = true;
  PumpUntil([this] { return acknowledged_seq_ == ring_->last_seq(); });
  collector_unheard_ = false;
}

void RecordedAgent::SendInVain(int batches) {
  arriving_batches_ = batches;
  PumpUntil([this] {
    return sent_seq_ == ring_->last_seq() && acknowledged_seq_ == arrived_seq_;
  });
  arriving_batches_ = std::numeric_limits<int>::max();
}

void RecordedAgent::Cut() {
  transport_->Cancel();
  PumpUntil([this] { return session_.state() != SessionState::kStreaming; });
}

void RecordedAgent::KeepQuiet() {
  const int before = heartbeats_;
  clock_.Advance(std::chrono::seconds(10));
  PumpUntil([this, before] { return heartbeats_ > before; });
}

void RecordedAgent::Leave() {
  session_.BeginDrain();
  PumpUntil([this] { return session_.finished(); });
}

void RecordedAgent::AwaitRefusal() {
  // And the call has ended.
  PumpUntil([this] {
    return session_.state() == SessionState::kRefused && !entries_.empty() &&
           entries_.back().kind == Kind::kEnd;
  });
}

}  // namespace gradtap::testing
