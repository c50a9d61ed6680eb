// SIGTERM, for agents that were asked to look after it.
//
// The handler only notes the signal, wakes a thread and calls the handler that
// stood before. If none did, that thread lets every client end its stream, and
// then the process ends by SIGTERM, as it would have at once.
//
// A handler that the program installs later is never replaced: it decides, and
// may call this one. One that stood before decides too; what is noted then is
// only why the stream ends, when it does. Where SIGTERM is ignored it stays so.
// In a forked child the handler does what stood before. A process that the
// kernel spares (number 1 of a container) is ended with exit code 143.
//
// Layer: agent/delivery. This file: std; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_STOP_SIGNAL_H_
#define GRADTAP_AGENT_DELIVERY_STOP_SIGNAL_H_

#include <chrono>
#include <cstdint>

namespace gradtap::agent {

class StopSignal {
 public:
  class Client {
   public:
    using TimePoint = std::chrono::steady_clock::time_point;

    // The process is about to end by SIGTERM: first all clients are told, then
    // each is given the time that it wants. [Threading] the signal's thread, or
    // one in Remove(). [Locking] the signal's: Remove() waits meanwhile.
    // [Exceptions] must not throw.
    virtual void OnStop() noexcept = 0;
    virtual void FinishStop(TimePoint asked_at) noexcept = 0;

   protected:
    ~Client() = default;
  };

  // Installs the handler if it is not; false if the system gives no thread for
  // it.
  static bool Add(Client* client) noexcept;
  // With the last one the disposition is what it was, unless somebody else has
  // changed it since. Does not return if SIGTERM has come before. Idempotent.
  static void Remove(Client* client) noexcept;

  // How often SIGTERM has come while there were clients.
  static std::uint32_t times_asked() noexcept;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_STOP_SIGNAL_H_
