#include "server/ingest/call_state.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::server {

CallState::CallState(const IngestLimits& limits, LiveSessions* live,
                     const Clock* clock, OpenFn open, CommitFn commit,
                     std::string client)
    : limits_(limits),
      live_sessions_(live),
      clock_(clock),
      open_(std::move(open)),
      commit_(std::move(commit)),
      client_(std::move(client)),
      session_(limits, clock->Steady()) {}

// ---- From the peer. ----

CallState::TimePoint CallState::Received() {
  reading_ = false;
  if (live_ != nullptr) live_->last_seen_unix_ns = clock_->UnixNanos();
  return clock_->Steady();
}

void CallState::OnHello(const HelloUntrusted& hello_untrusted) {
  const TimePoint now = Received();
  Perform(session_.OnHello(hello_untrusted, now));
}

void CallState::OnBatch(std::uint64_t first_seq, std::uint32_t record_count,
                        std::string_view frame_untrusted) {
  Received();
  std::unique_ptr<JoinRoom::Place> place;
  const std::uint64_t bytes = session_.BytesIfEndsWithin(record_count);
  if (bytes > 0) {
    place =
        live_sessions_->join_room().Ask(client_, bytes, frame_untrusted.size());
    if (place == nullptr) return TooManyWait();
    if (!place->taken()) {
      waiting_ = WaitingBatch{first_seq, record_count,
                              std::string(frame_untrusted), std::move(place)};
      return;
    }
  }
  Take(first_seq, record_count, frame_untrusted, std::move(place));
}

void CallState::Take(std::uint64_t first_seq, std::uint32_t record_count,
                     std::string_view frame_untrusted,
                     std::unique_ptr<JoinRoom::Place> place) {
  SessionActions actions =
      session_.OnBatch(first_seq, record_count, frame_untrusted,
                       clock_->UnixNanos(), clock_->Steady());
  if (actions.commit != nullptr && !actions.commit->joined.empty()) {
    actions.commit->place = std::move(place);
  }
  Perform(std::move(actions));
}

void CallState::TooManyWait() {
  limits_.guards.Refused(Limit::kStepBytes);
  SessionActions end = session_.OnGone();
  end.finish = absl::UnavailableError(
      "too much waits for the room to join records from their parts");
  CutOff(std::move(end));
}

void CallState::TakeWaiting() {
  if (!waiting_.has_value()) return;
  session_.OnHeartbeat(clock_->Steady());  // Who is not read is not silent.
  if (!waiting_->place->taken()) return;
  auto batch = std::exchange(waiting_, std::nullopt);
  Take(batch->first_seq, batch->record_count, batch->frame_untrusted,
       std::move(batch->place));
}

void CallState::OnHeartbeat() {
  const TimePoint now = Received();
  Perform(session_.OnHeartbeat(now));
}

void CallState::OnBye() {
  const TimePoint now = Received();
  Perform(session_.OnBye(now));
}

void CallState::OnUnknownMessage() {
  const TimePoint now = Received();
  Perform(session_.OnUnknownMessage(now));
}

void CallState::OnHalfClose() {
  reading_ = false;
  Perform(session_.OnHalfClose());
}

void CallState::OnGone() {
  gone_ = true;
  Perform(session_.OnGone());
}

// ---- From the collector. ----

void CallState::OnWritten(bool ok) {
  writing_ = false;
  if (!ok) OnGone();
}

void CallState::OnOpened(const absl::StatusOr<OpenedStream>& opened) {
  if (session_.finished()) return;
  if (opened.ok()) {
    live_sessions_->SetId(live_.get(), opened->entry.id);
    return Perform(session_.OnOpened(*opened, clock_->Steady()));
  }
  Perform(session_.OnRefused(absl::IsResourceExhausted(opened.status())
                                 ? RejectCode::kLimit
                                 : RejectCode::kUnavailable,
                             std::string(opened.status().message())));
}

void CallState::OnCommitted(std::uint64_t last_seq, std::size_t bytes,
                            std::vector<RejectedRecord> rejected,
                            const absl::Status& status) {
  live_sessions_->EndCommit(bytes);
  Perform(session_.OnCommitted(last_seq, bytes, std::move(rejected), status,
                               clock_->Steady()));
}

void CallState::OnTick() {
  TakeWaiting();
  // Who is not read is not silent.
  if (!reading_ && WaitsForOthers()) session_.OnHeartbeat(clock_->Steady());
  CutOff(session_.OnTick(clock_->Steady()));
  CheckWrite();
}

void CallState::OnDrain() { Perform(session_.OnDrain()); }

void CallState::OnForbidden(const absl::Status& why) {
  if (session_.finished()) return CheckWrite();
  SessionActions end = session_.OnGone();
  end.finish = why;
  CutOff(std::move(end));
}

void CallState::CutOff(SessionActions end) {
  if (end.finish.has_value() && writing_) stuck_ = true;
  Perform(std::move(end));
}

void CallState::CheckWrite() {
  if (!writing_ || stuck_) return;
  const auto time = finish_.has_value()
                        ? std::min(limits_.hello_time, limits_.idle_time)
                        : limits_.idle_time;
  if (clock_->Steady() - writing_since_ < time) return;
  stuck_ = true;
  if (session_.finished()) return;
  limits_.guards.Refused(Limit::kIdleTime);
  SessionActions end = session_.OnGone();
  end.finish = absl::DeadlineExceededError(
      "the agent does not take what the collector sends it");
  Perform(std::move(end));
}

// ---- What to do. ----

void CallState::Perform(SessionActions actions) {
  for (SessionOut& out : actions.send) Queue(std::move(out));
  if (actions.finish.has_value()) {
    finish_ = std::move(actions.finish);
    waiting_.reset();
  }
  if (actions.open.has_value()) Open(*std::move(actions.open));
  if (actions.commit == nullptr) return;
  live_sessions_->BeginCommit(BytesHeld(*actions.commit));
  commit_(std::move(actions.commit));
}

void CallState::Open(StreamHello hello) {
  switch (live_sessions_->Admit(hello, &live_, client_)) {
    case LiveSessions::Admission::kOk:
      break;
    case LiveSessions::Admission::kDuplicate:
      return Perform(session_.OnRefused(
          RejectCode::kDuplicate,
          "this process's stream has a live session already"));
    case LiveSessions::Admission::kLimit:
      return RefuseOneMore("this collector takes at most ",
                           limits_.max_sessions);
    case LiveSessions::Admission::kClientLimit:
      return RefuseOneMore("of one client this collector takes at most ",
                           live_sessions_->sessions_of_a_client());
  }
  live_->last_seen_unix_ns = clock_->UnixNanos();
  open_(std::move(hello));
}

void CallState::RefuseOneMore(const char* what, std::uint32_t most) {
  limits_.guards.Refused(Limit::kSessions);
  Perform(session_.OnRefused(RejectCode::kLimit,
                             absl::StrCat(what, most, " sessions")));
}

void CallState::Queue(SessionOut out) {
  // Acks are cumulative: one that has not left yet takes in the next.
  if (auto* ack = std::get_if<AckOut>(&out);
      ack != nullptr && !outbox_.empty()) {
    if (auto* waiting = std::get_if<AckOut>(&outbox_.back())) {
      waiting->durable_seq = ack->durable_seq;
      waiting->rejected.insert(waiting->rejected.end(), ack->rejected.begin(),
                               ack->rejected.end());
      return;
    }
  }
  outbox_.push_back(std::move(out));
}

bool CallState::OutboxIsLong() const {
  constexpr std::size_t kManyRejections = 500;
  if (outbox_.empty()) return false;
  const auto* ack = std::get_if<AckOut>(&outbox_.back());
  return ack != nullptr && ack->rejected.size() >= kManyRejections;
}

bool CallState::WaitsForOthers() const {
  const std::uint64_t held = live_sessions_->pending_bytes();
  return live_ != nullptr && held >= limits_.pending_bytes &&
         (session_.pending_bytes() > 0 || held / 2 >= limits_.pending_bytes);
}

CallState::Operations CallState::Next() {
  Operations next;
  if (finish_started_) return next;
  if (gone_) outbox_.clear();
  // Before the peer can know: it may connect again at once. What is still in
  // the committer's queue stands before its next session's opening.
  if (finish_.has_value() && live_ != nullptr) {
    live_sessions_->Release(*std::exchange(live_, nullptr));
  }
  if (finish_.has_value() && !ends_told_) next.ends = ends_told_ = true;
  if (!writing_ && !outbox_.empty()) {
    next.write = std::move(outbox_.front());
    outbox_.pop_front();
    writing_ = true;
    writing_since_ = clock_->Steady();
  }
  if (writing_ && stuck_ && !cancel_told_) next.cancel = cancel_told_ = true;
  if (!reading_ && !gone_ && !waiting_.has_value() && session_.wants_read() &&
      !OutboxIsLong() && !WaitsForOthers()) {
    next.read = reading_ = true;
  }
  if (finish_.has_value() && !writing_ && outbox_.empty()) {
    finish_started_ = true;
    next.finish = finish_;
  }
  return next;
}

}  // namespace gradtap::server
