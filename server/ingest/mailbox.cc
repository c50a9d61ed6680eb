#include "server/ingest/mailbox.h"

#include <chrono>
#include <utility>

namespace gradtap::server {

bool Mailbox::Next(Event* event) {
  *event = nullptr;  // What it held may post when it goes.
  MutexLock lock(mu_);
  if (events_.empty() || (runner_ == Runner::kShort && waiting_ > 0)) {
    runner_ = Runner::kNobody;
    handed_over_.NotifyAll();
    return false;
  }
  *event = std::move(events_.front());
  events_.pop_front();
  return true;
}

void Mailbox::Run() {
  for (Event event; Next(&event);) event();
}

void Mailbox::Post(Event event) {
  {
    MutexLock lock(mu_);
    events_.push_back(std::move(event));
    // gRPC may call back from within what it is told to start.
    const bool within = runner_ == Runner::kShort &&
                        short_runner_ == std::this_thread::get_id();
    if (runner_ == Runner::kAny || within) return;
    ++waiting_;
    while (runner_ == Runner::kShort) {
      handed_over_.WaitUntil(
          mu_, std::chrono::steady_clock::now() + std::chrono::seconds(60));
    }
    --waiting_;
    if (runner_ == Runner::kAny || events_.empty()) return;
    runner_ = Runner::kAny;
  }
  Run();
}

void Mailbox::PostShort(Event event) {
  {
    MutexLock lock(mu_);
    events_.push_back(std::move(event));
    if (runner_ != Runner::kNobody || waiting_ > 0) return;
    runner_ = Runner::kShort;
    short_runner_ = std::this_thread::get_id();
  }
  Run();
}

}  // namespace gradtap::server
