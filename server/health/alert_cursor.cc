#include "server/health/alert_cursor.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace gradtap::server {
namespace {

constexpr std::size_t kAtOnce = 64;

}  // namespace

AlertCursor::AlertCursor(const AlertLog* log,
                         const v1::WatchAlertsRequest& request)
    : log_(log), request_(request), position_(request.after_change()) {}

bool AlertCursor::Next(v1::WatchAlertsResponse* message) {
  if (!std::exchange(started_, true) && !request_.has_after_change()) {
    position_ = log_->change();
    std::vector<v1::Alert> active = log_->Active();
    std::sort(active.begin(), active.end(),
              [](const v1::Alert& a, const v1::Alert& b) {
                return a.change() < b.change();
              });
    for (v1::Alert& alert : active) {
      if (!request_.run().empty() && alert.run() != request_.run()) continue;
      position_ = std::max(position_, alert.change());
      pending_.push_back(std::move(alert));
    }
  }
  if (pending_.empty()) {
    for (v1::Alert& alert : log_->After(position_, request_.run(), kAtOnce)) {
      position_ = alert.change();
      pending_.push_back(std::move(alert));
    }
  }
  if (!pending_.empty()) {
    message->set_change(pending_.front().change());
    *message->mutable_alert() = std::move(pending_.front());
    pending_.pop_front();
    return true;
  }
  if (caught_up_) return false;
  caught_up_ = true;
  message->set_caught_up(true);
  message->set_change(position_);
  return true;
}

}  // namespace gradtap::server
