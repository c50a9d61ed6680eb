// Ends what still runs when the program exits, before static destructors that
// it could get in the way of.
//
// Layer: agent/delivery. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_EXIT_GUARD_H_
#define GRADTAP_AGENT_DELIVERY_EXIT_GUARD_H_

namespace gradtap::agent {

// Thread-safe.
class ExitGuard {
 public:
  class Client {
   public:
    // [Threading] the thread that exits. [Locking] the guard's: Remove() waits
    // meanwhile. [Exceptions] must not throw.
    virtual void OnExit() noexcept = 0;

   protected:
    ~Client() = default;
  };

  // OnExit() is called at exit(), unless Remove() comes first; not in a forked
  // child.
  static void Add(Client* client);
  static void Remove(Client* client);
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_EXIT_GUARD_H_
