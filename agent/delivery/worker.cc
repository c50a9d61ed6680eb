#include "agent/delivery/worker.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <random>
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
  std::atomic<int> waiting{0};              // Threads in WaitAcknowledged().

  Mutex mu;
  CondVar changed;
  std::uint64_t acknowledged_seq ABSL_GUARDED_BY(mu) = 0;
  bool hopeless ABSL_GUARDED_BY(mu) = false;  // Refused, or the thread ended.
  bool ended ABSL_GUARDED_BY(mu) = false;

  TimePoint stop_at() const {
    return TimePoint(std::chrono::nanoseconds(stop_at_ns.load()));
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

void Worker::Stop(TimePoint deadline) {
  if (!thread_.joinable()) return;
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
    std::unique_ptr<Transport> transport = options.make_transport();
    try {
      Drive(shared.get(), control.get(), options, transport.get());
    } catch (const std::exception& error) {
      problem = error.what();
    }
    transport->Abandon(std::chrono::steady_clock::now() + kAbandonTime);
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

namespace {

void Perform(Session::Action action, Transport* transport) {
  switch (action.kind) {
    case Session::Action::Kind::kConnect:
      return transport->Connect();
    case Session::Action::Kind::kSend:
      return transport->Send(action.message);
    case Session::Action::Kind::kHalfClose:
      return transport->HalfClose();
    case Session::Action::Kind::kCancel:
      return transport->Cancel();
  }
}

void Tell(TransportEvent event, Session* session) {
  switch (event.kind) {
    case TransportEvent::Kind::kConnected:
      return session->OnConnected();
    case TransportEvent::Kind::kSent:
      return session->OnSent();
    case TransportEvent::Kind::kMessage:
      return session->OnMessage(event.message);
    case TransportEvent::Kind::kClosed:
      return session->OnClosed(event.status);
  }
}

void SayIfRingIsFull(DeliveryShared* shared) {
  if (shared->books.missing(GapCause::kRingFull) == 0) return;
  shared->log.Say(
      "ring full",
      absl::StrCat(
          "gradtap: the ring of ", shared->ring->capacity_bytes(),
          " bytes is full: steps are lost, and counted, until the "
          "collector takes more; ring_bytes (GRADTAP_RING_BYTES) makes "
          "it larger"));
}

}  // namespace

void Worker::Drive(DeliveryShared* shared, Control* control,
                   const WorkerOptions& options, Transport* transport) {
  Ring* const ring = shared->ring.get();
  const Clock& clock = RealClock();
  std::mt19937_64 random(std::random_device{}());
  Session session(
      options.session, ring, &shared->books, &clock, &shared->log,
      [&random] { return std::uniform_real_distribution<double>()(random); });
  for (;;) {
    const TimePoint now = clock.Steady();
    if (control->stop) {
      session.BeginDrain();
      if (session.finished() || now >= control->stop_at()) return;
    }
    session.SetHurry(control->waiting > 0);
    while (auto action = session.Next()) Perform(std::move(*action), transport);
    SayIfRingIsFull(shared);
    const TimePoint until =
        std::min(now + options.poll, session.NextDeadline());
    if (auto event = transport->Wait(until)) {
      Tell(std::move(*event), &session);
    }
    control->state = ToDeliveryState(session.state());
    const bool hopeless = session.state() == SessionState::kRefused;
    MutexLock lock(control->mu);
    if (control->acknowledged_seq != ring->first_seq() - 1 ||
        control->hopeless != hopeless) {
      control->acknowledged_seq = ring->first_seq() - 1;
      control->hopeless = hopeless;
      control->changed.NotifyAll();
    }
  }
}

}  // namespace gradtap::agent
