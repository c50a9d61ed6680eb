// The process's end and its forks, as far as agents must know.
//
// Layer: agent. This file: std.

#ifndef GRADTAP_AGENT_PROCESS_GUARD_H_
#define GRADTAP_AGENT_PROCESS_GUARD_H_

namespace gradtap::agent {

// Installs, once in a process, the handlers below. Called by Attach.
void InstallProcessGuards();

// True in a process that was forked after InstallProcessGuards(), and in its
// children. Any thread, also between fork and exec.
bool IsForkedChild();

// Something that is to be closed before static destructors run, if it is still
// there when the program exits.
class ExitGuarded {
 public:
  virtual ~ExitGuarded() = default;
  // [Threading] the thread that calls exit(). [Locking] the registry's lock.
  // [Exceptions] none.
  virtual void OnExit() noexcept = 0;
};

// Deregister() waits while OnExit() runs.
void RegisterForExit(ExitGuarded* object);
void DeregisterForExit(ExitGuarded* object);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_PROCESS_GUARD_H_
