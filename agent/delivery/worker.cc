#include "agent/delivery/worker.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <exception>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::agent {
namespace {

constexpr std::chrono::milliseconds kAbandonTime{200};
constexpr std::chrono::milliseconds kStopGrace{400};

DeliveryState ToDeliveryState(SessionState state) {
  switch (state) {
    case SessionState::kIdle:
    case SessionState::kBackoff:
    case SessionState::kConnecting:
      return DeliveryState::kConnecting;
    case SessionState::kStreaming:
      return DeliveryState::kStreaming;
    case SessionState::kRefused:
      return DeliveryState::kRefused;
    case SessionState::kFinished:
      return DeliveryState::kStopped;
  }
  return DeliveryState::kConnecting;
}

}  // namespace

struct Worker::Control {
  std::atomic<DeliveryState> state{DeliveryState::kIdle};
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> stop_at_ns{0};  // Steady; valid once `stop` is set.
  std::atomic<std::int64_t> patience_ns{0};  // The same.
  std::atomic<int> waiting{0};               // Threads in WaitAcknowledged().

  Mutex mu;
  CondVar changed;
  std::uint64_t acknowledged_seq ABSL_GUARDED_BY(mu) = 0;
  bool hopeless ABSL_GUARDED_BY(mu) = false;  // Refused, or the thread ended.
  bool ended ABSL_GUARDED_BY(mu) = false;

  TimePoint stop_at() const {
    return TimePoint(std::chrono::nanoseconds(stop_at_ns.load()));
  }
  std::chrono::nanoseconds patience() const {
    return std::chrono::nanoseconds(patience_ns.load());
  }
  void Tell(std::uint64_t acknowledged, bool is_hopeless) {
    MutexLock lock(mu);
    if (acknowledged_seq == acknowledged && hopeless == is_hopeless) return;
    acknowledged_seq = acknowledged;
    hopeless = is_hopeless;
    changed.NotifyAll();
  }
};

Worker::Worker(std::shared_ptr<DeliveryShared> shared, WorkerOptions options)
    : shared_(std::move(shared)),
      options_(std::move(options)),
      control_(std::make_shared<Control>()) {}

Worker::~Worker() {
  if (thread_.joinable()) thread_.detach();
}

bool Worker::Start() {
  control_->state = DeliveryState::kConnecting;
  // The host's signals are not for this thread, nor for those it makes.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = true;
  try {
    thread_ = std::thread(&Worker::Run, shared_, control_, options_);
    ::pthread_setname_np(thread_.native_handle(), "gradtap");
  } catch (const std::system_error& error) {
    started = false;
    control_->state = DeliveryState::kStopped;
    MutexLock lock(control_->mu);
    control_->hopeless = control_->ended = true;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

bool Worker::WaitAcknowledged(std::uint64_t seq, TimePoint deadline) {
  ++control_->waiting;
  MutexLock lock(control_->mu);
  while (control_->acknowledged_seq < seq && !control_->hopeless) {
    if (!control_->changed.WaitUntil(control_->mu, deadline) &&
        std::chrono::steady_clock::now() >= deadline) {
      break;
    }
  }
  --control_->waiting;
  return control_->acknowledged_seq >= seq;
}

void Worker::Stop(TimePoint deadline, std::chrono::milliseconds patience) {
  if (!thread_.joinable()) return;
  control_->patience_ns = std::chrono::nanoseconds(patience).count();
  control_->stop_at_ns = deadline.time_since_epoch().count();
  control_->stop = true;
  const TimePoint give_up = deadline + kStopGrace;
  bool ended = false;
  {
    MutexLock lock(control_->mu);
    while (!control_->ended) {
      if (!control_->changed.WaitUntil(control_->mu, give_up) &&
          std::chrono::steady_clock::now() >= give_up) {
        break;
      }
    }
    ended = control_->ended;
  }
  if (ended) {
    thread_.join();  // It has nothing left to do but return.
  } else {
    thread_.detach();
    control_->state = DeliveryState::kStopped;
  }
}

DeliveryState Worker::state() const { return control_->state; }

void Worker::Run(std::shared_ptr<DeliveryShared> shared,
                 std::shared_ptr<Control> control, WorkerOptions options) {
  std::string problem;
  try {
    if (options.offline) {
      RunOffline(shared.get(), control.get(), options);
    } else {
      RunOnline(shared.get(), control.get(), options);
    }
  } catch (const std::exception& error) {
    problem = error.what();
  }
  if (!problem.empty()) {
    try {
      shared->log.Say("thread",
                      absl::StrCat("gradtap: delivery has ended: ", problem,
                                   "; steps are no longer sent"));
    } catch (...) {
    }
  }
  control->state = DeliveryState::kStopped;
  MutexLock lock(control->mu);
  control->hopeless = true;
  control->ended = true;
  control->changed.NotifyAll();
}

void Worker::RunOnline(DeliveryShared* shared, Control* control,
                       const WorkerOptions& options) {
  std::unique_ptr<Transport> transport = options.make_transport();
  std::exception_ptr problem;
  try {
    Drive drive(shared, options, transport.get(), &RealClock());
    for (;;) {
      if (control->stop &&
          drive.Parted(control->stop_at(), control->patience())) {
        break;
      }
      drive.SetHurry(control->waiting > 0);
      drive.Take(transport->Wait(drive.Act()));
      control->state = ToDeliveryState(drive.state());
      control->Tell(drive.acknowledged_seq(),
                    drive.state() == SessionState::kRefused);
    }
  } catch (...) {
    problem = std::current_exception();
  }
  transport->Abandon(std::chrono::steady_clock::now() + kAbandonTime);
  if (problem != nullptr) std::rethrow_exception(problem);
}

void Worker::RunOffline(DeliveryShared* shared, Control* control,
                        const WorkerOptions& options) {
  control->state = DeliveryState::kOffline;
  // Nothing will be acknowledged.
  control->Tell(0, /*is_hopeless=*/true);
  const Clock& clock = RealClock();
  Backlog backlog(shared->ring.get());
  Spiller spiller(shared->ring.get(), &backlog, &shared->books, &shared->log,
                  &clock, options.make_spool);
  for (;;) {
    const bool more = spiller.MoveSome();
    SayIfRingIsFull(shared);
    if (control->stop) {
      const bool spooled = spiller.MoveAll();
      const bool in_ring = !spooled && shared->ring_file != nullptr;
      shared->left_in_file = spooled || in_ring;
      if (in_ring) {
        SayWhatIsLeft(shared, options.session.collector, spooled,
                      shared->ring_file->path());
      }
      if (shared->left_in_file || clock.Steady() >= control->stop_at()) return;
    }
    if (more) continue;
    const TimePoint until = clock.Steady() + options.poll;
    MutexLock lock(control->mu);
    control->changed.WaitUntil(control->mu, until);
  }
}

}  // namespace gradtap::agent
