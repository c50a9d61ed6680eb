// What the agent's code changes of somebody else's thread while it runs there.
//
// Layer: agent. This file: std.

#ifndef GRADTAP_AGENT_GUEST_SCOPE_H_
#define GRADTAP_AGENT_GUEST_SCOPE_H_

#include <pthread.h>

#include <cfenv>

namespace gradtap::agent {

// No floating-point exception traps (feenableexcept): a mask of -3.4e38 and a
// NaN are data here, not the program's faults. At the end of the scope traps
// and sticky flags are as they were. Threads that start within it inherit that
// nothing traps.
//
// The thread is not cancelled here either, but where it comes to its next
// cancellation point after it: unwinding must not pass through what is
// noexcept.
class GuestScope {
 public:
  GuestScope() {
    ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_);
    std::feholdexcept(&mode_);
  }
  ~GuestScope() {
    std::fesetenv(&mode_);
    ::pthread_setcancelstate(cancel_, nullptr);
  }
  GuestScope(const GuestScope&) = delete;
  GuestScope& operator=(const GuestScope&) = delete;

 private:
  int cancel_ = PTHREAD_CANCEL_ENABLE;
  std::fenv_t mode_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_GUEST_SCOPE_H_
