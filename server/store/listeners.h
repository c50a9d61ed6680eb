// Who wants to know that a run has changed.
//
// Layer: server/store. Thread-safe.

#ifndef GRADTAP_SERVER_STORE_LISTENERS_H_
#define GRADTAP_SERVER_STORE_LISTENERS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/sync.h"

namespace gradtap::server {

class Listeners {
 public:
  using Listener = std::function<void(const std::string& run)>;

  int Add(Listener listener) ABSL_LOCKS_EXCLUDED(mu_);

  // Waits for calls in flight, so not from within one. Unknown ids are ignored.
  void Remove(int id) ABSL_LOCKS_EXCLUDED(mu_);

  // Calls each listener, with no lock held.
  void Notify(const std::string& run) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Entry {
    int id = 0;
    Listener call;
    int in_flight = 0;  // Guarded by mu_, as `removed`.
    bool removed = false;
  };

  Mutex mu_;
  CondVar idle_;  // A call has returned.
  std::vector<std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mu_);
  int next_id_ ABSL_GUARDED_BY(mu_) = 1;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_LISTENERS_H_
