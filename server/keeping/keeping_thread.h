// The thread that calls Keeper::Look() now and then.
//
// Layer: server/keeping.

#ifndef GRADTAP_SERVER_KEEPING_KEEPING_THREAD_H_
#define GRADTAP_SERVER_KEEPING_KEEPING_THREAD_H_

#include <thread>

#include "core/sync.h"
#include "server/keeping/keeper.h"

namespace gradtap::server {

class KeepingThread {
 public:
  // Looks at once, and then every Keeper::kBetweenLooks. `keeper` must outlive
  // it.
  explicit KeepingThread(Keeper* keeper);
  // Stops the keeper, and waits for what it has in hand.
  ~KeepingThread();

  KeepingThread(const KeepingThread&) = delete;
  KeepingThread& operator=(const KeepingThread&) = delete;

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mu_);

  Keeper* const keeper_;
  Mutex mu_;
  CondVar stopped_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_KEEPING_KEEPING_THREAD_H_
