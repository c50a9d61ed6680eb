// Forks of the process, as far as agents must know.
//
// The end of the program is delivery's to see to: a stream that is still open
// then gets its End.
//
// Layer: agent. This file: std.

#ifndef GRADTAP_AGENT_PROCESS_GUARD_H_
#define GRADTAP_AGENT_PROCESS_GUARD_H_

namespace gradtap::agent {

// Remembers, once in a process, which one it is. Called by Attach.
void WatchForForks();

// True in a process that was forked after WatchForForks(), and in its
// children. Any thread, also between fork and exec. One system call.
bool IsForkedChild();

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_PROCESS_GUARD_H_
