#include "server/http/query_wait.h"

#include "absl/strings/str_cat.h"

namespace gradtap::server {

bool QueryWait::Over() {
  if (gone_already_ || too_long_) return true;
  const auto now = Clock::now();
  if (until_ == Clock::time_point()) until_ = now + time_;
  too_long_ = now >= until_;
  if (!too_long_ && gone_ && now >= next_look_) {
    next_look_ = now + between_looks_;
    gone_already_ = gone_();
  }
  return gone_already_ || too_long_;
}

absl::Status RunForClient(QueryBackend* backend, const char* method,
                          const Cancelled& gone,
                          const QueryBackend::Task& task) {
  QueryWait wait(gone);
  const absl::Status status = backend->Run(
      method, [&wait] { return wait.Over(); },
      [&task](const Cancelled& cancelled) {
        // While it waited for its turn.
        if (cancelled()) return absl::CancelledError("the client has gone");
        return task(cancelled);
      });
  if (!absl::IsCancelled(status) || !wait.too_long()) return status;
  backend->environment().guards.Refused(Limit::kQueryWork);
  return absl::UnavailableError(
      absl::StrCat("the query took longer than ", kQueryTime.count(),
                   " s; ask for less (steps, points, a pattern)"));
}

}  // namespace gradtap::server
