// The thread that seals: it works while there is something to do, and sleeps
// until it is woken.
//
// Layer: server/store. Thread-safe.

#ifndef GRADTAP_SERVER_STORE_SEALER_H_
#define GRADTAP_SERVER_STORE_SEALER_H_

#include <functional>
#include <thread>

#include "absl/status/statusor.h"
#include "core/sync.h"

namespace gradtap::server {

class Sealer {
 public:
  // `work` does one piece and returns false if there was none. After an error
  // it is called again once kPatience has passed, or Wake() and kPatience;
  // after kDataLoss at once: it must not find the same again.
  explicit Sealer(std::function<absl::StatusOr<bool>()> work);
  // Waits for the piece in hand.
  ~Sealer();

  Sealer(const Sealer&) = delete;
  Sealer& operator=(const Sealer&) = delete;

  // There may be work. Never waits for any.
  void Wake() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mu_);

  const std::function<absl::StatusOr<bool>()> work_;
  Mutex mu_;
  CondVar changed_;
  bool woken_ ABSL_GUARDED_BY(mu_) = true;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_SEALER_H_
