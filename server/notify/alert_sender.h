// Passes alerts on to one place, at least once: a thread that waits for what
// changes in the log, and sends what that place has not been told.
//
// What it has been told is stored, so that a collector that starts goes on
// there. A place that is away is tried again, ever less often, up to half a
// minute; what it missed waits in the log. One that refuses (4xx) is not asked
// again for the same. Alertmanager gets all that is active every minute, and
// forgets what it has not got for five.
//
// Layer: server/notify. This file: std, health.

#ifndef GRADTAP_SERVER_NOTIFY_ALERT_SENDER_H_
#define GRADTAP_SERVER_NOTIFY_ALERT_SENDER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "core/clock.h"
#include "core/sync.h"
#include "server/health/alert_log.h"
#include "server/notify/http_post.h"
#include "server/notify/notify_url.h"

namespace gradtap::server {

struct SenderOptions {
  Destination to = Destination::kAlertmanager;
  NotifyUrl url;     // Of Alertmanager without /api/v2/alerts.
  std::string page;  // "http://127.0.0.1:7318": before each link.
  std::chrono::milliseconds resend{60'000};
  std::chrono::milliseconds first_retry{1'000};
  std::chrono::milliseconds last_retry{30'000};
  // Connecting, and each wait for bytes.
  std::chrono::milliseconds timeout{5'000};
  // One line for whoever operates the collector. Any thread; may be unset.
  std::function<void(const std::string& line)> say;
};

class AlertSender {
 public:
  // Both must outlive it.
  AlertSender(AlertLog* log, const Clock* clock, SenderOptions options);
  // Sends nothing more. What is on its way has a second; then it is given up,
  // and sent again by a collector that starts. Waits two seconds at most.
  ~AlertSender();
  AlertSender(const AlertSender&) = delete;
  AlertSender& operator=(const AlertSender&) = delete;

 private:
  void Run();
  bool stopping() const ABSL_LOCKS_EXCLUDED(mu_);
  // Everything that is due now. An error: somebody is away.
  absl::Status SendDue(bool resend);
  absl::Status SendAll(const std::vector<v1::Alert>& alerts);
  absl::Status Send(const std::vector<v1::Alert>& alerts);
  absl::Status Post(const std::string& path, const std::string& body);
  void Say(const std::string& line);

  AlertLog* const log_;
  const Clock* const clock_;
  const SenderOptions options_;
  HttpPoster poster_;
  bool away_ = false;  // Of the thread: said, and not back yet.

  mutable Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_NOTIFY_ALERT_SENDER_H_
