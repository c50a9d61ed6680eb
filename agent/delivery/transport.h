// One call to the collector at a time, as the delivery thread sees it.
//
// Layer: agent/delivery. This file: std, absl, *.pb.h; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_TRANSPORT_H_
#define GRADTAP_AGENT_DELIVERY_TRANSPORT_H_

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "gradtap/v1/telemetry.pb.h"

namespace gradtap::agent {

struct TransportEvent {
  enum class Kind {
    kConnected,  // After Connect().
    kSent,       // After Send() or HalfClose(); also when the call is broken.
    kMessage,
    kClosed,  // The call's last event; `status` says why.
  };
  Kind kind = Kind::kClosed;
  v1::CollectorMessage message;
  absl::Status status;
};

// [Threading] One thread. [Locking] none. [Exceptions] may throw what the
// standard library throws. Nothing waits but Wait() and Abandon().
class Transport {
 public:
  virtual ~Transport() = default;

  // Begins a call; only when none is open. Ends with a kClosed event.
  virtual void Connect() = 0;
  // Begins a write; only when none is in flight.
  virtual void Send(const v1::AgentMessage& message) = 0;
  virtual void HalfClose() = 0;
  // Ends the call soon, if one is open.
  virtual void Cancel() = 0;

  // The next event, or nothing once `deadline` has passed.
  virtual std::optional<TransportEvent> Wait(
      std::chrono::steady_clock::time_point deadline) = 0;

  // Ends everything, waiting until `deadline` at the most; what has not ended
  // by then is leaked. Nothing else may be called afterwards.
  virtual void Abandon(std::chrono::steady_clock::time_point deadline) = 0;
};

// Makes the transport on the thread that uses it.
using TransportFactory = std::function<std::unique_ptr<Transport>()>;

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_TRANSPORT_H_
