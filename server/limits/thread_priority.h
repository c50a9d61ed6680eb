// Who waits where there is not enough of the processor for all.
//
// Layer: server/limits. This file: POSIX.

#ifndef GRADTAP_SERVER_LIMITS_THREAD_PRIORITY_H_
#define GRADTAP_SERVER_LIMITS_THREAD_PRIORITY_H_

#include <sys/resource.h>
#include <unistd.h>

namespace gradtap::server {

// The calling thread answers readers: from now on what agents send goes before
// it. On an idle machine it is as fast as before. A thread that it makes has
// the same.
inline void LetAgentsGoFirst() {
  // Linux has a nice value for each thread; going up is always permitted.
  constexpr int kNice = 10;
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
}

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_LIMITS_THREAD_PRIORITY_H_
