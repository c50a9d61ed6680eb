#include "agent/delivery/delivery.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/delivery/books.h"
#include "agent/delivery/exit_guard.h"
#include "agent/delivery/fork_guard.h"
#include "agent/delivery/grpc_transport.h"
#include "agent/delivery/options.h"
#include "agent/delivery/recorder.h"
#include "agent/delivery/ring.h"
#include "agent/delivery/ring_file.h"
#include "agent/delivery/ring_maker.h"
#include "agent/delivery/stop_signal.h"
#include "agent/delivery/tls_files.h"
#include "agent/delivery/worker.h"
#include "core/clock.h"
#include "core/codec.h"
#include "core/names.h"
#include "core/peer_address.h"
#include "core/sync.h"

namespace gradtap::agent {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::uint64_t kMaxRingBytes = std::uint64_t{64} << 30;
constexpr std::uint64_t kStepsAtHand = 16;
constexpr std::chrono::milliseconds kLongestDeadline = std::chrono::hours(24);
constexpr std::chrono::milliseconds kExitDeadline{2000};
constexpr std::chrono::milliseconds kExitPatience{100};
// How long a collector may take nothing before the spool gets what is left: at
// the end of an agent, and when the program exits.
constexpr std::chrono::milliseconds kPatience{2000};
constexpr std::chrono::milliseconds kExitDelay{500};
constexpr std::chrono::milliseconds kStopPatience{2000};
constexpr std::chrono::milliseconds kStopPoll{1};
// How long a call of the program's log may last that is under way at the end.
constexpr std::chrono::milliseconds kLogPatience{1000};

SteadyClock::time_point DeadlineIn(std::chrono::milliseconds wait) {
  return SteadyClock::now() +
         std::clamp(wait, std::chrono::milliseconds(0), kLongestDeadline);
}

std::string RandomNonce() {
  std::random_device device;
  std::string nonce(16, '\0');
  for (char& c : nonce) c = static_cast<char>(device() & 0xff);
  return nonce;
}

std::string HostName() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return SafeName(name.data());
}

SessionOptions MakeSessionOptions(const DeliveryOptions& options) {
  SessionOptions session;
  session.collector = options.collector;
  session.compress = !StaysOnThisMachine(options.collector);
  session.run = options.run;
  session.process_nonce = RandomNonce();
  session.launch = options.launch;
  if (session.launch.empty()) {
    session.launch = absl::BytesToHexString(session.process_nonce);
  }
  session.rank = options.rank;
  session.world_size = options.world_size;
  session.start_time_unix_ns = RealClock().UnixNanos();
  session.agent_version = GRADTAP_VERSION;
  session.torch_version = options.torch_version;
  session.host = HostName();
  session.pid = ::getpid();
  session.tags = options.tags;
  return session;
}

MakeSpool SpoolMaker(const DeliveryOptions& options,
                     const SpoolIdentity& identity) {
  if (options.spool_folder.empty()) return nullptr;
  SpoolOptions spool;
  spool.max_bytes = options.spool_bytes;
  return [root = options.spool_folder, identity, spool] {
    return Spool::Create(root, identity, spool);
  };
}

// Only one thread at a time is in the recorder. That is so by contract; what
// may come in between is exit() on another thread.
class Turn {
 public:
  explicit Turn(std::atomic<bool>* taken)
      : taken_(taken->exchange(true, std::memory_order_acquire) ? nullptr
                                                                : taken) {}
  ~Turn() {
    if (taken_ != nullptr) taken_->store(false, std::memory_order_release);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  explicit operator bool() const { return taken_ != nullptr; }

 private:
  std::atomic<bool>* const taken_;
};

class RingDelivery final : public Delivery,
                           private ExitGuard::Client,
                           private StopSignal::Client {
 public:
  RingDelivery(std::shared_ptr<DeliveryShared> shared, WorkerOptions options,
               std::optional<RingFileOptions> larger, std::string ring_place,
               bool ring_file_wanted,
               std::optional<std::chrono::milliseconds> sigterm_deadline)
      : larger_(std::move(larger)),
        ring_file_wanted_(ring_file_wanted),
        sigterm_deadline_(sigterm_deadline),
        asked_before_(StopSignal::times_asked()),
        collector_(options.session.collector),
        ring_place_(std::move(ring_place)),
        ring_bytes_(shared->ring->capacity_bytes()),
        shared_(std::move(shared)),
        worker_(std::make_unique<Worker>(shared_, std::move(options))),
        recorder_(std::make_unique<Recorder>(shared_->ring.get(),
                                             &shared_->books, &RealClock())) {
    if (sigterm_deadline_ && !StopSignal::Add(this)) {
      shared_->log.Say("sigterm",
                       "gradtap: the system gives no thread to wait for "
                       "SIGTERM: it stays what it was");
    }
  }

  ~RingDelivery() override {
    if (fork_.forked()) {
      // The thread is not in this process; gRPC's objects must not be touched.
      (void)worker_.release();
      (void)recorder_.release();
      (void)new std::shared_ptr<DeliveryShared>(shared_);
      return;
    }
    Shutdown(EndReason::kFinished, std::chrono::milliseconds(0));
    // exit() on another thread may be in OnExit() now: wait until it has left.
    ExitGuard::Remove(this);
    // A thread that was left behind has no business with the program's log.
    (void)shared_->log.Cut(kLogPatience);
    (void)shared_->note.Cut(kLogPatience);
  }

  void PutSchema(const Schema& schema) noexcept override {
    Record([&] { recorder_->PutSchema(schema); });
  }

  void PutStep(const StepData& step) noexcept override {
    Record([&] {
      recorder_->PutStep(step);
      EnsureStarted();
    });
  }

  void PutGap(GapCause cause, std::int64_t step,
              const std::string& detail) noexcept override {
    Record([&] {
      recorder_->PutGap(cause, step, detail);
      EnsureStarted();
    });
  }

  void Rollback(std::int64_t step) noexcept override {
    Record([&] { recorder_->Rollback(step); });
  }

  void ReserveForSteps(std::size_t step_bytes) noexcept override {
    Record([&] { GrowRing(step_bytes); });
  }

  FlushOutcome Flush(std::chrono::milliseconds deadline) noexcept override {
    if (fork_.forked()) return {};
    bool acknowledged = true;
    if (started_.load(std::memory_order_acquire)) {
      acknowledged = worker_->WaitAcknowledged(shared_->ring->last_seq(),
                                               DeadlineIn(deadline));
    }
    return Outcome(acknowledged);
  }

  FlushOutcome Shutdown(EndReason reason,
                        std::chrono::milliseconds deadline) noexcept override {
    if (fork_.forked()) return {};
    const auto until = DeadlineIn(deadline);
    if (const Turn turn(&taken_); turn && !stopping_) {
      Try([&] { ShutdownInTurn(reason, until); });
    }
    // After it: a SIGTERM that comes meanwhile does not cut it short. Where one
    // has come the process ends in here.
    if (sigterm_deadline_) StopSignal::Remove(this);
    return Outcome(shared_->ring->last_seq() == 0 ||
                   worker_->WaitAcknowledged(shared_->ring->last_seq(),
                                             SteadyClock::now()));
  }

  DeliveryState state() const override {
    if (fork_.forked() || stopped_) return DeliveryState::kStopped;
    return worker_->state();
  }

  DeliveryCounters counters() const override {
    return shared_->books.Snapshot();
  }

  std::uint64_t bytes_recorded() const override {
    return shared_->books.bytes_recorded();
  }

  std::uint64_t ring_bytes() const override { return ring_bytes_; }

  std::string ring_place() const override {
    if (fork_.forked()) return "none: another process records";
    MutexLock lock(place_mu_);
    return ring_place_;
  }

  std::optional<std::int64_t> last_step_of_run() const override {
    return shared_->books.last_step_of_run();
  }

 private:
  // Runs `put` unless this process is not ours, or exits.
  template <typename Put>
  void Record(Put put) noexcept {
    if (fork_.forked()) return;
    if (!stopping_) {
      const Turn turn(&taken_);
      if (turn && !stopping_) return Try(put);
    }
    if (stopping_) AwaitTheEnd();
  }

  template <typename Put>
  void Try(Put put) noexcept {
    try {
      put();
    } catch (...) {
      CountFault();
    }
  }

  void EnsureStarted() {
    if (started_.load(std::memory_order_relaxed) || recorder_->ended()) return;
    started_.store(true, std::memory_order_release);
    ExitGuard::Add(this);
    if (!worker_->Start()) {
      shared_->log.Say("no thread",
                       "gradtap: the system gives no thread for delivery: "
                       "steps stay in the ring, and this process sends none");
    }
    SayIfRingDiesWithUs();
  }

  void SayIfRingDiesWithUs() {
    if (!ring_file_wanted_ || shared_->ring_file != nullptr) return;
    shared_->log.Say(
        "ring place",
        absl::StrCat("gradtap: the ring is ", ring_place(),
                     "; what is in it is lost if the process is killed"));
  }

  void ShutdownInTurn(EndReason reason, SteadyClock::time_point until) {
    if (stopped_) return;
    if (sigterm_deadline_ && StopSignal::times_asked() != asked_before_) {
      reason = EndReason::kStopped;  // A handler of the program's ends it.
    }
    if (started_) {
      recorder_->PutEnd(reason);
      worker_->Stop(until, exiting_ ? kExitDelay : kPatience);
    }
    SettleRing();
    stopped_ = true;
    if (!exiting_) ExitGuard::Remove(this);
  }

  // Nothing is put any more. Of what is in the file still the thread has told,
  // unless there is none or it was left behind.
  void SettleRing() {
    RingFile* const file = shared_->ring_file.get();
    const auto settled = SettleRingFile(file, *shared_->ring);
    if (!settled.ok()) {
      shared_->log.Say("ring file",
                       absl::StrCat("gradtap: an empty ring stays: ",
                                    std::string(settled.message())));
      return;
    }
    const Ring& ring = *shared_->ring;
    if (file == nullptr || ring.first_seq() > ring.last_seq()) return;
    shared_->left_in_file = true;
    SayWhatIsLeft(shared_.get(), collector_, /*spooled=*/false, file->path());
  }

  void GrowRing(std::size_t step_bytes) {
    if (!larger_ || started_ || step_bytes > kMaxRingBytes) return;
    const std::uint64_t parts = step_bytes / kMaxPartBytes + 1;
    const std::uint64_t needed =
        kStepsAtHand * (step_bytes + parts * Ring::EntryBytes(64)) +
        kRingReserveBytes;
    if (needed <= ring_bytes_ || needed > kMaxRingBytes) return;
    auto made = MakeRing(*larger_, needed);
    if (!made.ok()) {
      shared_->log.Say(
          "ring",
          absl::StrCat("gradtap: ", std::string(made.status().message()),
                       "; the ring stays at ", ring_bytes_.load(), " bytes"));
      return;
    }
    recorder_->UseRing(made->ring.get());
    shared_->ring = std::move(made->ring);
    // A new file has the old one's name already.
    if (shared_->ring_file != nullptr) (void)shared_->ring_file->Remove();
    shared_->ring_file = std::move(made->file);
    ring_bytes_ = shared_->ring->capacity_bytes();
    MutexLock lock(place_mu_);
    ring_place_ = std::move(made->place);
  }

  FlushOutcome Outcome(bool acknowledged) const {
    const DeliveryCounters c = counters();
    FlushOutcome outcome;
    outcome.delivered = acknowledged;
    outcome.undelivered_steps = c.steps_recorded - c.steps_acknowledged;
    outcome.undelivered_bytes = c.bytes_recorded - c.bytes_acknowledged;
    outcome.kept = shared_->left_in_file;
    return outcome;
  }

  // Memory has run out, most likely: nothing is certain but that it is told.
  void CountFault() noexcept {
    try {
      shared_->log.Say("fault",
                       "gradtap: a step could not be recorded: "
                       "out of memory?");
    } catch (...) {
    }
  }

  void OnExit() noexcept override {
    exiting_ = true;
    // A Put on another thread takes microseconds; a Shutdown there is as good.
    const auto patience = DeadlineIn(kExitPatience);
    while (taken_ && SteadyClock::now() < patience) std::this_thread::yield();
    Shutdown(EndReason::kFinished, kExitDeadline);
  }

  // SIGTERM has come, and the process will end by it. No step returns to the
  // loop any more that is not stored: the training thread waits for the end.
  void OnStop() noexcept override {
    wait_until_ = DeadlineIn(*sigterm_deadline_ + kStopPatience);
    stopping_ = true;
    (void)EndStopped(DeadlineIn(kExitPatience));  // A Put takes microseconds.
  }

  void FinishStop(SteadyClock::time_point asked_at) noexcept override {
    const auto until =
        asked_at + std::clamp(*sigterm_deadline_, std::chrono::milliseconds(0),
                              kLongestDeadline);
    if (!EndStopped(until)) return;  // In Shutdown still.
    try {
      if (!stopped_) {
        if (started_) worker_->Stop(until, kPatience);
        SettleRing();
      }
      const std::uint64_t left = Outcome(false).undelivered_steps;
      if (left == 0) return;
      shared_->log.Say("sigterm",
                       absl::StrCat("gradtap: SIGTERM: ", left,
                                    " recorded steps had not reached the "
                                    "collector when the time was up"));
    } catch (...) {  // No memory to say it.
    }
  }

  // Takes the turn for good, and admits the End unless it is in. False if
  // somebody else has the turn until then.
  bool EndStopped(SteadyClock::time_point until) noexcept {
    if (seized_) return true;
    while (taken_.exchange(true, std::memory_order_acquire)) {
      if (SteadyClock::now() >= until) return false;
      std::this_thread::sleep_for(kStopPoll);
    }
    seized_ = true;
    if (started_ && !stopped_) {
      Try([this] { recorder_->PutEnd(EndReason::kStopped); });
    }
    return true;
  }

  // Not for ever: a handler that came in at the last moment may decide to live.
  void AwaitTheEnd() noexcept {
    while (SteadyClock::now() < wait_until_) {
      std::this_thread::sleep_for(kStopPoll);
    }
  }

  // How a larger ring is made; not if the user said how large it is.
  const std::optional<RingFileOptions> larger_;
  const bool ring_file_wanted_;
  const std::optional<std::chrono::milliseconds> sigterm_deadline_;
  const std::uint32_t asked_before_;
  const std::string collector_;
  const ForkGuard fork_;
  mutable Mutex place_mu_;
  std::string ring_place_ ABSL_GUARDED_BY(place_mu_);
  std::atomic<bool> taken_{false};
  std::atomic<bool> started_{false};
  std::atomic<bool> stopped_{false};
  std::atomic<bool> exiting_{false};
  std::atomic<bool> stopping_{false};
  SteadyClock::time_point wait_until_;  // Written before stopping_.
  bool seized_ = false;                 // The turn, by SIGTERM.
  std::atomic<std::uint64_t> ring_bytes_;
  std::shared_ptr<DeliveryShared> shared_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Recorder> recorder_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Delivery>> Delivery::Create(
    DeliveryOptions options) {
  if (auto status = ValidateOptions(options); !status.ok()) return status;
  TlsFileNames tls_names{options.tls_ca_file, options.tls_cert_file,
                         options.tls_key_file};
  auto tls_files = ReadTlsFiles(tls_names);
  if (!tls_files.ok()) return tls_files.status();
  const std::uint64_t default_bytes = DeliveryOptions().ring_bytes;
  const bool default_ring =
      options.ring_bytes == 0 || options.ring_bytes == default_bytes;
  WorkerOptions worker;
  worker.session = MakeSessionOptions(options);
  const SpoolIdentity& identity = worker.session;
  worker.make_spool = SpoolMaker(options, identity);
  worker.spool_bytes = options.spool_bytes;
  worker.offline = options.offline;
  RingFileOptions ring_options;
  ring_options.folder = options.ring_folder;
  ring_options.identity = identity;
  ring_options.spool_root = options.spool_folder;
  auto made =
      MakeRing(ring_options, default_ring ? default_bytes : options.ring_bytes);
  if (!made.ok()) return made.status();

  auto shared = std::make_shared<DeliveryShared>(std::move(options.log),
                                                 std::move(options.note));
  shared->ring_file = std::move(made->file);
  shared->ring = std::move(made->ring);
  worker.leftovers_root = options.spool_folder;
  worker.leftovers_ring_folder = options.ring_folder;
  GrpcTransportOptions transport;
  transport.collector = options.collector;
  transport.tls = options.tls;
  transport.tls_files = *std::move(tls_files);
  transport.tls_names = std::move(tls_names);
  transport.token = options.token;
  transport.token_file = options.token_file;
  transport.use_proxy = options.use_proxy;
  worker.make_transport = [transport] { return MakeGrpcTransport(transport); };
  std::optional<RingFileOptions> larger;
  if (default_ring) larger = std::move(ring_options);
  return std::make_unique<RingDelivery>(
      std::move(shared), std::move(worker), std::move(larger),
      std::move(made->place), !options.ring_folder.empty(),
      options.sigterm_deadline);
}

}  // namespace gradtap::agent
