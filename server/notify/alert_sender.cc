#include "server/notify/alert_sender.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/notify/alert_messages.h"

namespace gradtap::server {
namespace {

// Nobody is told any more of one that ended longer ago.
constexpr std::int64_t kOldNewsNs = std::int64_t{3600} * 1'000'000'000;
// Without hearing of it again Alertmanager takes an alert for over.
constexpr int kResendsMissed = 5;
// Of one request to Alertmanager.
constexpr std::size_t kAtOnce = 100;

}  // namespace

AlertSender::AlertSender(AlertLog* log, const Clock* clock,
                         SenderOptions options)
    : log_(log), clock_(clock), options_(std::move(options)) {
  thread_ = std::thread([this] { Run(); });
}

AlertSender::~AlertSender() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  log_->Wake();
  poster_.Stop();
  thread_.join();
}

bool AlertSender::stopping() const {
  MutexLock lock(mu_);
  return stopping_;
}

void AlertSender::Run() {
  using Steady = std::chrono::steady_clock;
  Steady::time_point next_resend = Steady::now();
  std::chrono::milliseconds retry = options_.first_retry;
  for (;;) {
    const std::uint64_t wakes = log_->wakes();
    const std::uint64_t change = log_->change();
    if (stopping()) return;
    const bool resend = Steady::now() >= next_resend;
    const absl::Status status = SendDue(resend);
    if (status.ok()) {
      if (std::exchange(away_, false)) Say("is back; nothing was lost");
      if (resend) next_resend = Steady::now() + options_.resend;
      retry = options_.first_retry;
      log_->Wait(change, wakes, next_resend);
      continue;
    }
    if (!std::exchange(away_, true)) {
      Say(absl::StrCat("cannot be told of alerts, which wait: ",
                       std::string(status.message())));
    }
    // Changes meanwhile do not make it come back sooner.
    const Steady::time_point until = Steady::now() + retry;
    for (;;) {
      const std::uint64_t seen = log_->wakes();  // Before the question.
      if (stopping() || Steady::now() >= until) break;
      log_->Wait(~std::uint64_t{0}, seen, until);
    }
    retry = std::min(retry * 2, options_.last_retry);
  }
}

absl::Status AlertSender::SendDue(bool resend) {
  const std::int64_t now = clock_->UnixNanos();
  std::vector<v1::Alert> began;
  std::vector<v1::Alert> as_is;
  for (AlertLog::ToTell& untold : log_->Untold(options_.to, now - kOldNewsNs)) {
    if (!untold.alert.active() && !untold.begin_told) {
      // It has come and gone since: both are told.
      began.push_back(untold.alert);
      began.back().set_active(true);
    }
    as_is.push_back(std::move(untold.alert));
  }
  absl::Status status = SendAll(began);
  if (status.ok()) status = SendAll(as_is);
  if (!status.ok() || !resend || options_.to != Destination::kAlertmanager) {
    return status;
  }
  return SendAll(log_->Active());
}

absl::Status AlertSender::SendAll(const std::vector<v1::Alert>& alerts) {
  const std::size_t at_once =
      options_.to == Destination::kAlertmanager ? kAtOnce : 1;
  for (std::size_t i = 0; i < alerts.size(); i += at_once) {
    if (stopping()) return absl::OkStatus();
    const std::size_t end = std::min(alerts.size(), i + at_once);
    const std::vector<v1::Alert> some(
        alerts.begin() + static_cast<std::ptrdiff_t>(i),
        alerts.begin() + static_cast<std::ptrdiff_t>(end));
    const absl::Status status = Send(some);
    // It was cut off, and says nothing of the destination.
    if (!status.ok() && stopping()) return absl::OkStatus();
    log_->CountCall(options_.to, status.ok());
    // Who refuses will do so again.
    if (absl::IsFailedPrecondition(status)) {
      Say(std::string(status.message()));
    } else if (!status.ok()) {
      return status;
    }
    for (const v1::Alert& alert : some) {
      const absl::Status stored =
          log_->SetTold(options_.to, alert.run(), alert.id(), !alert.active());
      // It is told in memory; a collector that starts will tell it once more.
      if (!stored.ok()) Say(std::string(stored.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status AlertSender::Send(const std::vector<v1::Alert>& alerts) {
  if (options_.to == Destination::kWebhook) {
    const auto body = ToWebhook(alerts.front(), options_.page);
    if (!body.ok()) return body.status();
    return Post(options_.url.path.empty() ? "/" : options_.url.path, *body);
  }
  const std::int64_t until =
      clock_->UnixNanos() +
      std::chrono::nanoseconds(options_.resend * kResendsMissed).count();
  const auto body = ToAlertmanager(alerts, until, options_.page);
  if (!body.ok()) return body.status();
  std::string path = options_.url.path;
  while (!path.empty() && path.back() == '/') path.pop_back();
  return Post(path + "/api/v2/alerts", *body);
}

absl::Status AlertSender::Post(const std::string& path,
                               const std::string& body) {
  return poster_.Post(options_.url,
                      {path, body, {{"Content-Type", "application/json"}}},
                      options_.timeout);
}

void AlertSender::Say(const std::string& line) {
  if (!options_.say) return;
  options_.say(absl::StrCat(
      options_.to == Destination::kWebhook ? "webhook: " : "Alertmanager: ",
      line));
}

}  // namespace gradtap::server
