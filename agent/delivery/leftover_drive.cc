#include "agent/delivery/leftover_drive.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/delivery/perform.h"
#include "agent/delivery/uniform.h"
#include "core/names.h"
#include "core/peer_address.h"

namespace gradtap::agent {
namespace {

// Of one Poll().
constexpr int kEventsAtOnce = 8;
constexpr std::chrono::milliseconds kLongestWait{100};
constexpr std::chrono::milliseconds kAbandonTime{100};

SessionOptions OptionsOf(const Leftover& leftover,
                         const LeftoverDriveOptions& options) {
  SessionOptions session = leftover.MakeSessionOptions();
  session.collector = options.collector;
  session.compress = !StaysOnThisMachine(options.collector);
  return session;
}

std::string Printable(absl::string_view text_untrusted) {
  constexpr std::size_t kMax = 300;
  return EscapeForTerminal(std::string(
      text_untrusted.substr(0, std::min(text_untrusted.size(), kMax))));
}

// Trying again would not help.
bool IsFinal(const absl::Status& status) {
  return absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status) ||
         absl::IsUnimplemented(status) || absl::IsFailedPrecondition(status);
}

}  // namespace

LeftoverDrive::LeftoverDrive(Leftover* leftover, LeftoverDriveOptions options,
                             std::unique_ptr<Transport> transport,
                             const Clock* clock)
    : leftover_(leftover),
      options_(std::move(options)),
      clock_(clock),
      first_seq_(leftover->backlog()->first_seq()),
      transport_(std::move(transport)),
      session_(OptionsOf(*leftover, options_), leftover->backlog(),
               leftover->books(), clock, &silent_,
               options_.uniform == nullptr ? MakeUniform() : options_.uniform) {
  progress_seq_ = first_seq_;
  progress_at_ = clock_->Steady();
  if (options_.hurry) session_.BeginDrain();
}

LeftoverDrive::~LeftoverDrive() {
  transport_->Abandon(clock_->Steady() + kAbandonTime);
}

bool LeftoverDrive::Poll() {
  for (int i = 0; i < kEventsAtOnce && !ended_; ++i) {
    if (!Step(clock_->Steady())) break;
  }
  return !ended_;
}

void LeftoverDrive::Run(const std::function<bool()>& stop) {
  while (!ended_) {
    if (stop && stop()) return Stop();
    Step(std::min(clock_->Steady() + kLongestWait, session_.NextDeadline()));
  }
}

void LeftoverDrive::Stop() {
  if (ended_) return;
  transport_->Cancel();
  End(absl::AbortedError("stopped before all was delivered"));
}

// True if something has happened.
bool LeftoverDrive::Step(TimePoint wait_until) {
  while (auto action = session_.Next()) {
    if (action->kind == Session::Action::Kind::kCancel) {
      last_reason_ = action->reason;
      refused_ = std::exchange(rejected_, false);
    }
    Perform(*action, transport_.get());
  }
  if (Over()) return false;
  auto event = transport_->Wait(wait_until);
  if (!event) return false;
  Tell(*event, &session_);
  Note(*event);
  return true;
}

void LeftoverDrive::Note(const TransportEvent& event) {
  if (event.kind == TransportEvent::Kind::kClosed) closed_ = event.status;
  if (event.kind == TransportEvent::Kind::kMessage) NoteMessage(event.message);
  const std::uint64_t at = leftover_->backlog()->first_seq();
  if (at != progress_seq_) {
    progress_seq_ = at;
    progress_at_ = clock_->Steady();
  }
  if (!options_.hurry && session_.drained()) session_.BeginDrain();
}

void LeftoverDrive::NoteMessage(const v1::CollectorMessage& message_untrusted) {
  rejected_ |= message_untrusted.has_reject();
  if (message_untrusted.has_welcome()) {
    outcome_.attempt = message_untrusted.welcome().attempt();
  }
  if (!welcomed_ && session_.state() == SessionState::kStreaming) {
    welcomed_ = true;
    outcome_.records_there = leftover_->backlog()->first_seq() - first_seq_;
    outcome_.steps_there = leftover_->books()->Snapshot().steps_acknowledged;
  }
  if (message_untrusted.ack().rejected_size() > 0 && !told_rejection_) {
    const v1::Rejection& rejection = message_untrusted.ack().rejected(0);
    outcome_.problems.push_back(absl::StrCat(
        "the collector refuses record ", rejection.seq(),
        " for good, and maybe others: ", Printable(rejection.reason())));
    told_rejection_ = true;
  }
}

// Looks whether it has ended, and ends it if so.
bool LeftoverDrive::Over() {
  if (session_.state() == SessionState::kRefused) {
    End(absl::FailedPreconditionError(
        absl::StrCat("the collector ", options_.collector, " ", last_reason_)));
  } else if (session_.state() == SessionState::kFinished) {
    End(absl::OkStatus());
  } else if (const auto seq = session_.unreadable()) {
    transport_->Cancel();
    End(Unreadable(*seq));
  } else if (session_.state() == SessionState::kBackoff && IsFinal(closed_)) {
    End(absl::Status(closed_.code(),
                     absl::StrCat("the collector ", options_.collector, ": ",
                                  Printable(closed_.message()))));
  } else if (clock_->Steady() - progress_at_ >= options_.patience) {
    transport_->Cancel();
    End(NoProgress());
  }
  return ended_;
}

void LeftoverDrive::End(absl::Status status) {
  ended_ = true;
  outcome_.status = std::move(status);
  const DeliveryCounters counts = leftover_->books()->Snapshot();
  const std::uint64_t done = leftover_->backlog()->first_seq() - first_seq_;
  outcome_.records_sent = done - outcome_.records_there;
  outcome_.steps_sent = counts.steps_acknowledged - outcome_.steps_there;
  outcome_.steps_refused = counts.steps_lost;
  outcome_.steps_given_up =
      std::min(session_.steps_without_schema(), counts.steps_lost);
  if (outcome_.steps_given_up > 0) {
    outcome_.problems.push_back(
        absl::StrCat(outcome_.steps_given_up,
                     " steps refer to a schema that is nowhere any more: they "
                     "are given up, and told as gaps"));
  }
  for (std::string& problem : leftover_->TakeProblems()) {
    outcome_.problems.push_back(std::move(problem));
  }
}

absl::Status LeftoverDrive::Unreadable(std::uint64_t seq) {
  absl::Status why = leftover_->backlog()->WhyUnreadable(seq);
  if (!why.ok()) return why;
  return absl::UnavailableError(
      absl::StrCat("record ", seq, " could not be read, and now it can"));
}

absl::Status LeftoverDrive::NoProgress() const {
  const std::string collector =
      absl::StrCat("the collector ", options_.collector, " ");
  if (!closed_.ok() && !absl::IsCancelled(closed_)) {
    return absl::UnavailableError(
        absl::StrCat(collector, "is away: ", Printable(closed_.message())));
  }
  if (!last_reason_.empty()) {
    return absl::Status(refused_ ? absl::StatusCode::kResourceExhausted
                                 : absl::StatusCode::kUnavailable,
                        absl::StrCat(collector, last_reason_));
  }
  const auto seconds =
      std::chrono::duration_cast<std::chrono::duration<double>>(
          options_.patience);
  return absl::DeadlineExceededError(absl::StrCat(
      collector, "has acknowledged nothing for ", seconds.count(), " s"));
}

}  // namespace gradtap::agent
