#include "agent/delivery/drive.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "agent/delivery/perform.h"
#include "agent/delivery/uniform.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

constexpr std::chrono::seconds kLongestSpill{1};

AdopterOptions AdopterOptionsOf(const WorkerOptions& options) {
  AdopterOptions adopter;
  adopter.root = options.leftovers_root;
  adopter.ring_folder = options.leftovers_ring_folder;
  adopter.collector = options.session.collector;
  adopter.make_transport = options.make_transport;
  adopter.interval = options.leftovers_interval;
  adopter.syscalls = options.syscalls;
  adopter.uniform = options.uniform;
  return adopter;
}

}  // namespace

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

void SayWhatIsLeft(DeliveryShared* shared, const std::string& collector,
                   bool spooled, const std::string& path) {
  shared->log.Say(
      "left",
      absl::StrCat("gradtap: records that the collector has not taken are "
                   "kept in ",
                   EscapeForTerminal(path),
                   ": the next agent on this host with the same collector "
                   "delivers them, or `",
                   DrainCommand(collector), "`",
                   spooled ? "" : ", until the machine is switched off"));
}

Drive::Drive(DeliveryShared* shared, const WorkerOptions& options,
             Transport* transport, const Clock* clock)
    : shared_(shared),
      poll_(options.poll),
      spool_bytes_(options.make_spool == nullptr ? 0 : options.spool_bytes),
      collector_(options.session.collector),
      transport_(transport),
      clock_(clock),
      backlog_(shared->ring.get()),
      spiller_(shared->ring.get(), &backlog_, &shared->books, &shared->log,
               clock, options.make_spool),
      adopter_(AdopterOptionsOf(options), &shared->log, clock),
      session_(options.session, &backlog_, &shared->books, clock, &shared->log,
               options.uniform == nullptr ? MakeUniform() : options.uniform),
      holding_(options.note_after) {}

Drive::TimePoint Drive::Act() {
  while (auto action = session_.Next()) Perform(*action, transport_);
  const bool more_to_spill = spiller_.Relieve();
  SayIfRingIsFull(shared_);
  NoteHolding();
  const TimePoint now = clock_->Steady();
  return more_to_spill ? now : std::min(now + poll_, session_.NextDeadline());
}

void Drive::Take(const std::optional<TransportEvent>& event) {
  if (event) Tell(*event, &session_);
  SayIfUnreadable();
  adopter_.Poll(session_.state() == SessionState::kStreaming);
}

// How long the collector may be away, as soon as that is known.
void Drive::NoteHolding() {
  if (holding_.said()) return;
  const DeliveryCounters c = shared_->books.Snapshot();
  const auto line =
      holding_.Observe(clock_->Steady(), c.steps_recorded, c.bytes_recorded,
                       shared_->ring->capacity_bytes(), spool_bytes_);
  if (line) shared_->note.Say("holding", "gradtap: " + *line);
}

void Drive::SayIfUnreadable() {
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

bool Drive::Parted(TimePoint stop_at, std::chrono::nanoseconds patience) {
  adopter_.LetGo();
  const TimePoint now = clock_->Steady();
  session_.BeginDrain();
  const bool may_leave = spiller_.has_spool() || shared_->ring_file != nullptr;
  if (session_.finished()) return !may_leave || Left(now, stop_at);
  if (!may_leave) return now >= stop_at;
  if (!leaving_since_) leaving_since_ = progress_at_ = now;
  if (backlog_.first_seq() != progress_seq_) {
    progress_seq_ = backlog_.first_seq();
    progress_at_ = now;
  }
  const auto time_to_spill = std::min<std::chrono::nanoseconds>(
      kLongestSpill, (stop_at - *leaving_since_) / 4);
  const bool hopeless = session_.state() == SessionState::kRefused ||
                        now - progress_at_ >= patience;
  return (hopeless || now >= stop_at - time_to_spill) && Left(now, stop_at);
}

// Leaves what is at hand to the spool, else to the ring's file. True if they
// have it, or time is up.
bool Drive::Left(TimePoint now, TimePoint stop_at) {
  if (backlog_.first_seq() > backlog_.last_seq()) return true;
  const bool spooled = spiller_.MoveAll();
  if (!spooled && shared_->ring_file == nullptr) {
    return now >= stop_at;
  }
  if (!spooled) backlog_.KeepFolder();
  shared_->left_in_file = true;
  SayWhatIsLeft(
      shared_, collector_, spooled,
      spooled ? backlog_.spool()->path() : shared_->ring_file->path());
  return true;
}

}  // namespace gradtap::agent
