// An agent without torch and without threads, which talks to a real collector
// and notes every message of both sides.
//
// Its clock is the test's, so that two recordings differ only where the
// versions do. What is to be lost on the way is not sent, or not looked at.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_SESSIONS_RECORDED_AGENT_H_
#define GRADTAP_TESTS_SESSIONS_RECORDED_AGENT_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "agent/delivery/books.h"
#include "agent/delivery/once_log.h"
#include "agent/delivery/recorder.h"
#include "agent/delivery/ring.h"
#include "agent/delivery/session.h"
#include "agent/delivery/transport.h"
#include "sessions/session_file.h"
#include "support/manual_clock.h"

namespace gradtap::testing {

class RecordedAgent {
 public:
  // `collector`: "HOST:PORT".
  RecordedAgent(const std::string& collector, const std::string& run);

  // What the training loop says.
  agent::Recorder& loop() { return recorder_; }
  ManualClock& clock() { return clock_; }

  // Each throws std::runtime_error if it does not come to its end in 60 s.

  // Delivers what has been put; all of it is acknowledged.
  void Settle();
  // The same, but the acknowledgements are lost on the way.
  void SettleUnheard();
  // Sends what has been put, and it is lost on the way, but for the first
  // `batches`, which are acknowledged.
  void SendInVain(int batches = 0);
  // The connection is lost.
  void Cut();
  // Silence, until a heartbeat is sent.
  void KeepQuiet();
  // Ends the session: Bye.
  void Leave();
  // Until the collector has refused the session for good.
  void AwaitRefusal();

  const std::vector<SessionEntry>& entries() const { return entries_; }

 private:
  void PumpUntil(const std::function<bool()>& done);
  void Do(const agent::Session::Action& action);
  void Take(const agent::TransportEvent& event);
  bool Note(const v1::AgentMessage& message);
  bool Note(const v1::CollectorMessage& message);

  ManualClock clock_;
  std::unique_ptr<agent::Ring> ring_;
  agent::Books books_;
  agent::Recorder recorder_;
  agent::OnceLog log_;
  agent::Session session_;
  std::unique_ptr<agent::Transport> transport_;
  std::vector<SessionEntry> entries_;
  std::size_t call_begin_ = 0;   // Of the newest call, among the entries.
  bool call_forgotten_ = false;  // It has no entries.
  int arriving_batches_ = std::numeric_limits<int>::max();
  bool collector_unheard_ = false;
  std::uint64_t sent_seq_ = 0;
  std::uint64_t arrived_seq_ = 0;
  std::uint64_t acknowledged_seq_ = 0;  // The session may not know.
  int heartbeats_ = 0;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SESSIONS_RECORDED_AGENT_H_
