// What the agent's code changes of somebody else's thread while it runs there.
//
// Layer: agent. This file: std.

#ifndef GRADTAP_AGENT_GUEST_SCOPE_H_
#define GRADTAP_AGENT_GUEST_SCOPE_H_

#include <pthread.h>

#include <cfenv>

namespace gradtap::agent {

#if defined(__x86_64__)

// MXCSR alone, in some nanoseconds: nothing here computes in long double.
class NoFloatTraps {
 public:
  NoFloatTraps() : saved_(__builtin_ia32_stmxcsr()) {
    __builtin_ia32_ldmxcsr(saved_ | kMasked);
  }
  ~NoFloatTraps() { __builtin_ia32_ldmxcsr(saved_); }
  NoFloatTraps(const NoFloatTraps&) = delete;
  NoFloatTraps& operator=(const NoFloatTraps&) = delete;

 private:
  static constexpr unsigned kMasked = 0x1f80;  // All six.

  const unsigned saved_;
};

#else

class NoFloatTraps {
 public:
  NoFloatTraps() { std::feholdexcept(&saved_); }
  ~NoFloatTraps() { std::fesetenv(&saved_); }
  NoFloatTraps(const NoFloatTraps&) = delete;
  NoFloatTraps& operator=(const NoFloatTraps&) = delete;

 private:
  std::fenv_t saved_;
};

#endif

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
  GuestScope() { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_); }
  ~GuestScope() { ::pthread_setcancelstate(cancel_, nullptr); }
  GuestScope(const GuestScope&) = delete;
  GuestScope& operator=(const GuestScope&) = delete;

 private:
  const NoFloatTraps no_traps_;
  int cancel_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_GUEST_SCOPE_H_
