// One call between an agent and a collector, as gRPC gives it: in order and
// whole, until it dies. Then each direction delivers some more of what was on
// its way, maybe much later, and each side notices in its own time.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_CALL_H_
#define GRADTAP_TESTS_SIM_CALL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "gradtap/v1/telemetry.pb.h"
#include "sim/world.h"

namespace gradtap::sim {

class Call;

// What an agent's host hears of its calls.
class AgentEnd {
 public:
  virtual ~AgentEnd() = default;
  virtual void OnConnected(Call* call) = 0;
  virtual void OnSent(Call* call) = 0;
  virtual void OnMessage(Call* call, const v1::CollectorMessage& message) = 0;
  virtual void OnClosed(Call* call, const absl::Status& status) = 0;
};

// What a collector's process hears of them.
class CollectorEnd {
 public:
  virtual ~CollectorEnd() = default;
  virtual void OnCall(const std::shared_ptr<Call>& call) = 0;
  // The message that WantRead() asked for; null: the agent has half-closed, or
  // the call is gone.
  virtual void OnRead(Call* call, const v1::AgentMessage* message) = 0;
  // Each write ends so; false: the call is gone.
  virtual void OnWritten(Call* call, bool ok) = 0;
  virtual void OnGone(Call* call) = 0;
};

// How the network is at the moment.
struct Weather {
  Duration latency = milliseconds(1);  // At most, each way.
  std::size_t window_bytes = 64 * 1024;
};

class Call : public std::enable_shared_from_this<Call> {
 public:
  Call(World* world, const Weather* weather, std::uint64_t id, AgentEnd* agent)
      : world_(world), weather_(weather), id_(id), agent_(agent) {}

  // One of the three comes first.
  void Reach(CollectorEnd* collector);
  void MeetNobody();  // Refused.
  void Vanish() {}    // Neither answer nor refusal, until it is cancelled.

  // ---- The agent's host.
  void Send(const v1::AgentMessage& message) { SendUp(message); }
  void HalfClose() { SendUp(std::nullopt); }
  // `far`: the collector may never hear of it.
  void Cancel(bool far);

  // ---- The collector's process.
  void WantRead();
  // Then OnWritten(), unless `untold`.
  void Write(const v1::CollectorMessage& message, bool untold = false);
  void Finish(const absl::Status& status);
  // It is gone. The agent hears of it after `notice`.
  void LoseCollector(Duration notice);

  // ---- The network.
  // The connection dies; `late` is what still arrives then. Each side notices
  // after its time, or not at all.
  void Break(Duration late, std::optional<Duration> agent_notice,
             std::optional<Duration> collector_notice);

  std::uint64_t id() const { return id_; }
  // Both ends think that it lives.
  bool alive() const { return agent_open_ && collector_open_ && !broken_; }

 private:
  using Up = std::optional<v1::AgentMessage>;  // Nothing: half-close.

  struct Way {
    Duration last_at{0};        // When the newest message arrives.
    std::size_t in_flight = 0;  // Messages.
    std::size_t budget = 0;     // Of those, still to arrive; once broken.
  };

  void SendUp(Up message);
  void DeliverUp(Up message, bool was_late);
  void TryRead();
  void DeliverDown(std::function<void()> deliver);
  void CloseAgent(const absl::Status& status);
  void CloseCollector();
  // When the next message of this way arrives.
  Duration NextArrival(Way* way);
  void BreakWays();

  World* const world_;
  const Weather* const weather_;
  const std::uint64_t id_;
  AgentEnd* const agent_;
  CollectorEnd* collector_ = nullptr;

  bool agent_open_ = true;
  bool collector_open_ = false;
  bool broken_ = false;
  Duration late_{0};
  Way up_, down_;
  std::deque<Up> arrived_;
  bool read_wanted_ = false;
  bool write_pending_ = false;
  std::size_t unread_bytes_ = 0;
  bool sent_pending_ = false;
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_CALL_H_
