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
#include "agent/delivery/adopter.h"
#include "agent/delivery/perform.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

constexpr std::chrono::milliseconds kAbandonTime{200};
constexpr std::chrono::milliseconds kStopGrace{400};
constexpr std::chrono::seconds kLongestSpill{1};

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

namespace {

// What becomes of steps that the ring has no room for.
void SayIfRingIsFull(DeliveryShared* shared) {
  const Books& books = shared->books;
  if (books.missing(GapCause::kThinned) != 0) {
    shared->log.Say(
        "thinned",
        absl::StrCat(
            "gradtap: the ring of ", shared->ring->capacity_bytes(),
            " bytes fills up: only every 2nd, 4th or 8th step is kept until "
            "the collector takes more; ring_bytes (GRADTAP_RING_BYTES) makes "
            "it larger"));
  }
  if (books.missing(GapCause::kRingFull) == 0 &&
      books.missing(GapCause::kSpoolFull) == 0) {
    return;
  }
  shared->log.Say(
      "ring full",
      absl::StrCat(
          "gradtap: the ring of ", shared->ring->capacity_bytes(),
          " bytes is full: steps are lost, and counted, until the "
          "collector takes more; ring_bytes (GRADTAP_RING_BYTES) makes "
          "it larger"));
}

// How long the collector may be away, as soon as that is known.
void NoteHolding(HoldingWatch* watch, DeliveryShared* shared,
                 std::uint64_t spool_bytes) {
  if (shared->note == nullptr || watch->said()) return;
  const DeliveryCounters c = shared->books.Snapshot();
  const auto line = watch->Observe(std::chrono::steady_clock::now(),
                                   c.steps_recorded, c.bytes_recorded,
                                   shared->ring->capacity_bytes(), spool_bytes);
  if (line) shared->note("gradtap: " + *line);
}

}  // namespace

// The online life of the delivery thread.
class Worker::Drive {
 public:
  Drive(DeliveryShared* shared, Control* control, const WorkerOptions& options,
        Transport* transport)
      : shared_(shared),
        control_(control),
        poll_(options.poll),
        spool_bytes_(options.make_spool == nullptr ? 0 : options.spool_bytes),
        transport_(transport),
        backlog_(shared->ring.get()),
        spiller_(shared->ring.get(), &backlog_, &shared->books, &shared->log,
                 &clock_, options.make_spool),
        adopter_({options.leftovers_root, options.leftovers_ring_folder,
                  options.session.collector, options.make_transport,
                  options.leftovers_interval},
                 &shared->log, &clock_,
                 [control] { return control->stop.load(); }),
        random_(std::random_device{}()),
        session_(options.session, &backlog_, &shared->books, &clock_,
                 &shared->log,
                 [this] {
                   return std::uniform_real_distribution<double>()(random_);
                 }),
        holding_(options.note_after) {}

  void Run() {
    for (;;) {
      const TimePoint now = clock_.Steady();
      if (control_->stop) {
        adopter_.LetGo();
        if (Parted(now)) return;
      }
      session_.SetHurry(control_->waiting > 0);
      while (auto action = session_.Next()) {
        Perform(*action, transport_);
      }
      const bool more_to_spill = spiller_.Relieve();
      SayIfRingIsFull(shared_);
      NoteHolding(&holding_, shared_, spool_bytes_);
      const TimePoint until =
          more_to_spill ? now : std::min(now + poll_, session_.NextDeadline());
      if (auto event = transport_->Wait(until)) {
        agent::Tell(*event, &session_);
      }
      SayIfUnreadable();
      adopter_.Poll(session_.state() == SessionState::kStreaming);
      control_->state = ToDeliveryState(session_.state());
      control_->Tell(backlog_.first_seq() - 1,
                     session_.state() == SessionState::kRefused);
    }
  }

 private:
  void SayIfUnreadable() {
    const auto seq = session_.unreadable();
    if (!seq.has_value()) return;
    shared_->log.Say(
        "unreadable",
        absl::StrCat("gradtap: record ", *seq, " cannot be read back from ",
                     backlog_.spool() == nullptr
                         ? "the ring"
                         : EscapeForTerminal(backlog_.spool()->path()),
                     ": nothing is sent until it can; it is tried again for "
                     "ever"));
  }

  // True if nothing is left to do, or no time to do it.
  bool Parted(TimePoint now) {
    session_.BeginDrain();
    const bool may_leave =
        spiller_.has_spool() || shared_->ring_file != nullptr;
    if (session_.finished()) return !may_leave || Left(now);
    const TimePoint stop_at = control_->stop_at();
    if (!may_leave) return now >= stop_at;
    if (!leaving_since_) leaving_since_ = progress_at_ = now;
    if (backlog_.first_seq() != progress_seq_) {
      progress_seq_ = backlog_.first_seq();
      progress_at_ = now;
    }
    const auto time_to_spill = std::min<std::chrono::nanoseconds>(
        kLongestSpill, (stop_at - *leaving_since_) / 4);
    const bool hopeless = session_.state() == SessionState::kRefused ||
                          now - progress_at_ >= control_->patience();
    return (hopeless || now >= stop_at - time_to_spill) && Left(now);
  }

  // Leaves what is at hand to the spool, else to the ring's file. True if they
  // have it, or time is up.
  bool Left(TimePoint now) {
    if (backlog_.first_seq() > backlog_.last_seq()) return true;
    const bool spooled = spiller_.MoveAll();
    if (!spooled && shared_->ring_file == nullptr) {
      return now >= control_->stop_at();
    }
    shared_->log.Say(
        "left",
        absl::StrCat("gradtap: records that the collector has not taken are "
                     "kept in ",
                     EscapeForTerminal(spooled ? backlog_.spool()->path()
                                               : shared_->ring_file->path()),
                     ": the next agent on this host delivers them, or `gradtap "
                     "drain`",
                     spooled ? "" : ", until the machine is switched off"));
    return true;
  }

  DeliveryShared* const shared_;
  Control* const control_;
  const std::chrono::milliseconds poll_;
  const std::uint64_t spool_bytes_;
  Transport* const transport_;
  const Clock& clock_ = RealClock();
  Backlog backlog_;
  Spiller spiller_;
  Adopter adopter_;
  std::mt19937_64 random_;
  Session session_;
  HoldingWatch holding_;
  std::optional<TimePoint> leaving_since_;
  TimePoint progress_at_;
  std::uint64_t progress_seq_ = 0;
};

void Worker::RunOnline(DeliveryShared* shared, Control* control,
                       const WorkerOptions& options) {
  std::unique_ptr<Transport> transport = options.make_transport();
  std::exception_ptr problem;
  try {
    Drive(shared, control, options, transport.get()).Run();
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
    if (control->stop &&
        (spiller.MoveAll() || clock.Steady() >= control->stop_at())) {
      return;
    }
    if (more) continue;
    const TimePoint until = clock.Steady() + options.poll;
    MutexLock lock(control->mu);
    control->changed.WaitUntil(control->mu, until);
  }
}

}  // namespace gradtap::agent
