// What the agent's code changes of somebody else's thread while it runs there.
//
// Layer: agent. This file: std.

#ifndef GRADTAP_AGENT_GUEST_SCOPE_H_
#define GRADTAP_AGENT_GUEST_SCOPE_H_

#include <cfenv>

namespace gradtap::agent {

// No floating-point exception traps (feenableexcept): a mask of -3.4e38 and a
// NaN are data here, not the program's faults. At the end of the scope traps
// and sticky flags are as they were. Threads that start within it inherit that
// nothing traps.
class GuestScope {
 public:
  GuestScope() { std::feholdexcept(&mode_); }
  ~GuestScope() { std::fesetenv(&mode_); }
  GuestScope(const GuestScope&) = delete;
  GuestScope& operator=(const GuestScope&) = delete;

 private:
  std::fenv_t mode_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_GUEST_SCOPE_H_
