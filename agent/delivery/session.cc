#include "agent/delivery/session.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/codec.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

constexpr std::size_t kMaxContentBytes = 1u << 20;
// A collector that names a smaller limit gets batches of one record.
constexpr std::size_t kFrameSlackBytes = 1024;
// With less credit than this left, wait for more instead of sending crumbs.
constexpr std::size_t kWorthwhileBytes = 64 * 1024;
// A batch of so many bytes does not linger.
constexpr std::size_t kLargeBatchBytes = 256 * 1024;
// While shutting down there is no time for long delays.
constexpr std::chrono::milliseconds kDrainBackoff{500};

constexpr std::chrono::seconds kFarewell{1};

std::string Printable(std::string_view text_untrusted) {
  constexpr std::size_t kMax = 300;
  return EscapeForTerminal(text_untrusted.substr(0, kMax));
}

// gRPC has no code for it, and names it so.
bool MeansTlsFailed(const absl::Status& status) {
  return absl::IsUnavailable(status) &&
         absl::StrContains(status.message(), "andshake");
}

}  // namespace

Session::Session(SessionOptions options, RecordSource* source, Books* books,
                 const Clock* clock, OnceLog* log,
                 std::function<double()> uniform)
    : options_(std::move(options)),
      source_(source),
      books_(books),
      clock_(clock),
      log_(log),
      uniform_(std::move(uniform)),
      known_from_(source->first_seq()) {
  const KeptSchema& schema = options_.schema;
  for (std::uint64_t seq = schema.first_seq; schema.Has(seq); ++seq) {
    history_.Add(schema.At(seq));
  }
}

// ---- What happened ---------------------------------------------------------

void Session::OnConnected() {
  if (call_open_) connected_ = true;
}

void Session::OnMessage(const v1::CollectorMessage& message_untrusted) {
  if (!call_open_ || cancel_wanted_ || cancelled_) return;
  const bool greeting = state_ == SessionState::kConnecting && hello_sent_;
  switch (message_untrusted.kind_case()) {
    case v1::CollectorMessage::kWelcome:
      if (!greeting) break;
      return OnWelcome(message_untrusted.welcome());
    case v1::CollectorMessage::kReject:
      // Also later: a collector that shuts down may say so.
      if (!hello_sent_) break;
      return OnReject(message_untrusted.reject());
    case v1::CollectorMessage::kAck:
      if (state_ != SessionState::kStreaming) break;
      return OnAck(message_untrusted.ack());
    case v1::CollectorMessage::KIND_NOT_SET:
      return;  // A kind of a newer version.
  }
  BreakOff("unexpected message",
           "sent a message that does not fit here; is it a gradtap collector?");
}

void Session::OnSent() { write_in_flight_ = false; }

void Session::OnClosed(const absl::Status& status) {
  if (!call_open_) return;
  call_open_ = false;
  const bool said_bye = half_closed_;
  if (state_ == SessionState::kRefused) return;
  if (said_bye && drained()) {
    state_ = SessionState::kFinished;
    return;
  }
  tls_failed_ = MeansTlsFailed(status);
  // What a collector says of a deleted run, and of nothing else.
  run_deleted_ |= !cancelled_ && status.code() == absl::StatusCode::kAborted;
  if (!cancelled_ && !status.ok() && !draining_) {
    said_away_ = true;
    // It is there, and does not let us in.
    const bool refused =
        absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status);
    Say(absl::StrCat("closed ", static_cast<int>(status.code())),
        absl::StrCat(refused ? "refuses the token (" : "is away (",
                     absl::StatusCodeToString(status.code()), ": ",
                     Printable(std::string_view(status.message().data(),
                                                status.message().size())),
                     "); steps are kept", TriedAgain()));
  }
  if (state_ == SessionState::kStreaming &&
      clock_->Steady() - streaming_since_ >= options_.backoff_max) {
    failures_ = 0;
  }
  StartBackoff();
}

void Session::BeginDrain() {
  if (draining_) return;
  draining_ = true;
  if (state_ == SessionState::kIdle && drained()) {
    state_ = SessionState::kFinished;
  }
  if (state_ == SessionState::kBackoff) {
    dial_at_ = std::min(dial_at_, clock_->Steady() + kDrainBackoff);
  }
}

void Session::OnWelcome(const v1::Welcome& welcome_untrusted) {
  const std::uint64_t next_seq = welcome_untrusted.next_seq();
  // More than was sent is no surprise: a copy of the spool may have been
  // imported while this process went on.
  const bool unheard_of = next_seq > source_->last_seq() + 1;
  if (next_seq == 0 || (unheard_of && !options_.leftovers)) {
    Refuse("next_seq",
           absl::StrCat("expects record ", next_seq,
                        " of this process, which has "
                        "made ",
                        source_->last_seq(),
                        "; its data cannot be of this "
                        "run: give it a new run name, or another data folder"));
    return;
  }
  if (welcome_untrusted.credit_bytes() == 0) {
    BreakOff("no credit", "welcomed with a credit of zero");
    return;
  }
  if (said_away_) {
    Say("back", "is back: it gets what was kept, and what comes");
    said_away_ = false;
  }
  if (next_seq < source_->first_seq() && !options_.fill_holes) {
    Refuse("holes",
           absl::StrCat(
               "has no records ", next_seq, " to ", source_->first_seq() - 1,
               " of this process, and they are not here either: ",
               options_.holes_in.empty() ? "deliver first what else has them"
                                         : options_.holes_in));
    return;
  }
  if (options_.leftovers && next_seq == 1 && !FindSchema()) {
    BreakOff("unreadable", "waits for a record that cannot be read");
    return;
  }
  if (steps_without_schema_ > 0 && !options_.without_schema) {
    Refuse("schema",
           "has nothing of this process, and the schema that the first steps "
           "here refer to is not left either, without which none takes them: "
           "all stays where it is; `gradtap drain --without-schema` gives "
           "those steps up for lost");
    return;
  }
  if (next_seq < known_from_) {
    hole_from_ = hole_from_ == 0 ? next_seq : std::min(hole_from_, next_seq);
  }
  run_deleted_ = run_deleted_ && next_seq < source_->first_seq();
  if (next_seq < source_->first_seq()) {
    history_.SetLostBy(run_deleted_ ? GapCause::kRunDeleted
                                    : GapCause::kIoError);
    Say("lost data",
        absl::StrCat(run_deleted_ ? "has deleted" : "has lost", " records ",
                     next_seq, " to ", source_->first_seq() - 1,
                     " that it had acknowledged; their steps are declared "
                     "lost"));
  }
  books_->SetLastStepOfRun(welcome_untrusted.last_step_of_run());
  if (next_seq > sent_ + 1) source_->NoteDelivered(next_seq);
  FreeThrough(next_seq - 1);
  state_ = SessionState::kStreaming;
  credit_bytes_ = welcome_untrusted.credit_bytes();
  max_batch_bytes_ = welcome_untrusted.max_batch_bytes();
  if (max_batch_bytes_ == 0) max_batch_bytes_ = kMaxContentBytes;
  send_next_ = next_seq;
  sent_in_call_ = next_seq - 1;
  filled_in_call_ = unreadable_ = false;
  last_progress_ = streaming_since_ = clock_->Steady();
}

void Session::OnReject(const v1::Reject& reject_untrusted) {
  const std::string why = absl::StrCat(
      "refuses this process (code ", static_cast<int>(reject_untrusted.code()),
      "): ", Printable(reject_untrusted.detail()));
  const std::string key =
      absl::StrCat("reject ", static_cast<int>(reject_untrusted.code()));
  if (reject_untrusted.retry()) {
    BreakOff(key, absl::StrCat(why, TriedAgain()));
  } else {
    Refuse(key, options_.leftovers
                    ? why
                    : absl::StrCat(why,
                                   "; nothing is sent until the program is "
                                   "started again with this put right"));
  }
}

void Session::OnAck(const v1::Ack& ack_untrusted) {
  const std::uint64_t durable = ack_untrusted.durable_seq();
  if (durable > sent_in_call_) {
    BreakOff("ack", absl::StrCat("acknowledged record ", durable, ", and only ",
                                 sent_in_call_, " were sent"));
    return;
  }
  credit_bytes_ = ack_untrusted.credit_bytes();
  bool progress = false;
  while (!in_flight_.empty() && in_flight_.front().last_seq <= durable) {
    in_flight_bytes_ -= in_flight_.front().bytes;
    in_flight_.pop_front();
    progress = true;
  }
  if (ack_untrusted.rejected_size() > 0) MarkRejections(ack_untrusted, durable);
  if (durable >= source_->first_seq()) {
    FreeThrough(durable);
    run_deleted_ = false;
    progress = true;
  }
  if (progress) Progress();
}

void Session::MarkRejections(const v1::Ack& ack_untrusted,
                             std::uint64_t durable) {
  const std::uint64_t first = source_->first_seq();
  EntryView entry;
  if (!source_->Read(first, &entry)) return;
  // Of a record in parts the first ones may have been freed already.
  const std::uint64_t oldest = entry.seq - entry.meta.part_index;
  // They may overlap as often, and reach as far, as the collector likes.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  bool record_rejected = false;
  for (const v1::Rejection& rejection : ack_untrusted.rejected()) {
    const std::uint64_t count = std::max<std::uint64_t>(1, rejection.count());
    const std::uint64_t from = std::max(rejection.seq(), oldest);
    const std::uint64_t last =
        rejection.seq() + std::min(count - 1, ~rejection.seq());
    if (from > std::min(last, durable)) continue;  // Not of what is at hand.
    record_rejected |= from < first;
    ranges.emplace_back(from, std::min(last, durable));
    if (rejection.reason().empty()) continue;  // Others have theirs.
    Say("rejected record",
        absl::StrCat("refused record ", rejection.seq(),
                     " for good: ", Printable(rejection.reason()),
                     "; such steps are counted as lost"));
  }
  std::sort(ranges.begin(), ranges.end());
  auto range = ranges.begin();
  for (std::uint64_t seq = first;; ++seq) {
    while (range != ranges.end() && range->second < seq) ++range;
    if (!record_rejected && range == ranges.end()) break;
    if (!source_->Read(seq, &entry)) break;
    if (entry.meta.part_index == 0) record_rejected = false;
    record_rejected |= range != ranges.end() && range->first <= seq;
    if (!record_rejected) continue;
    // One part rejected: the record is. What decides is its last part.
    source_->MarkRejected(seq);
    const std::uint64_t last_part =
        seq - entry.meta.part_index + entry.meta.part_count - 1;
    while (seq < last_part && seq < source_->last_seq()) {
      source_->MarkRejected(++seq);
    }
  }
}

void Session::FreeThrough(std::uint64_t durable) {
  EntryView entry;
  std::uint64_t next = source_->first_seq();
  for (; next <= durable && next <= source_->last_seq(); ++next) {
    if (!source_->Read(next, &entry)) {
      // What the collector has of an ended process need not be readable.
      if (options_.leftovers) continue;
      break;
    }
    history_.Add(entry);
    if (options_.declare_holes && !hole_next_read_) NoteHoleNext(entry.meta);
    if (entry.rejected) {
      // As a gap the collector has it.
      books_->CountRejected(entry.meta.recorded_steps, entry.bytes.size());
    } else {
      books_->CountAcknowledged(entry.meta.recorded_steps, entry.bytes.size());
    }
  }
  source_->FreeBefore(next);
}

void Session::Progress() {
  last_progress_ = clock_->Steady();
  failures_ = 0;
}

void Session::Refuse(const std::string& key, const std::string& why) {
  state_ = SessionState::kRefused;
  cancel_wanted_ = true;
  cancel_reason_ = why;
  Say(key, why);
}

void Session::BreakOff(const std::string& key, const std::string& why) {
  cancel_wanted_ = true;
  cancel_reason_ = why;
  Say(key, why);
}

// Of the records of an ended process others decide.
const char* Session::TriedAgain() const {
  return options_.leftovers ? "" : "; it is tried again for ever";
}

void Session::StartBackoff() {
  const std::chrono::milliseconds most =
      tls_failed_ ? options_.backoff_max_tls : options_.backoff_max;
  std::chrono::milliseconds ceiling = options_.backoff_base;
  for (int i = 0; i < failures_ && ceiling < most; ++i) {
    ceiling *= 2;
  }
  ceiling = std::min(ceiling, most);
  if (draining_) ceiling = std::min(ceiling, kDrainBackoff);
  if (failures_ < 30) ++failures_;
  state_ = SessionState::kBackoff;
  dial_at_ = clock_->Steady() +
             std::chrono::duration_cast<std::chrono::nanoseconds>(
                 std::chrono::duration<double, std::milli>(
                     uniform_() * static_cast<double>(ceiling.count())));
}

// ---- What to do ------------------------------------------------------------

std::optional<Session::Action> Session::Next() {
  const TimePoint now = clock_->Steady();
  if (call_open_) {
    if (cancel_wanted_ && !cancelled_) {
      cancelled_ = true;
      Action cancel;
      cancel.kind = Action::Kind::kCancel;
      cancel.reason = cancel_reason_;
      return cancel;
    }
    if (cancelled_) return std::nullopt;
    if (state_ == SessionState::kStreaming) return NextWhileStreaming(now);
    if (now - connect_started_ >= options_.connect_timeout) {
      BreakOff("connect timeout",
               absl::StrCat("does not answer", TriedAgain()));
      return Next();
    }
    if (connected_ && !hello_sent_ && !write_in_flight_) {
      hello_sent_ = true;
      return Send(MakeHello(), now);
    }
    return std::nullopt;
  }
  if (state_ == SessionState::kBackoff && draining_ && drained()) {
    state_ = SessionState::kFinished;
  }
  const bool dial = state_ == SessionState::kIdle
                        ? source_->last_seq() > 0
                        : state_ == SessionState::kBackoff && now >= dial_at_;
  if (!dial) return std::nullopt;
  state_ = SessionState::kConnecting;
  call_open_ = true;
  connected_ = hello_sent_ = bye_sent_ = half_closed_ = false;
  write_in_flight_ = cancel_wanted_ = cancelled_ = filled_in_call_ = false;
  in_flight_.clear();
  in_flight_bytes_ = 0;
  connect_started_ = now;
  return Action{};
}

std::optional<Session::Action> Session::NextWhileStreaming(TimePoint now) {
  if (!in_flight_.empty() && now - last_progress_ >= options_.ack_timeout) {
    BreakOff("ack timeout",
             "has not acknowledged for 30 s; the connection is made anew");
    return Next();
  }
  if (half_closed_ && now - half_closed_at_ >= kFarewell) {
    // Everything is durable: the collector's OK would add nothing.
    state_ = SessionState::kFinished;
  }
  if (write_in_flight_ || half_closed_) return std::nullopt;
  v1::AgentMessage message;
  if (!bye_sent_ && WorthSending(now) && MakeBatch(&message)) {
    last_batch_ = now;
    return Send(std::move(message), now);
  }
  if (draining_ && drained()) {
    if (!bye_sent_) {
      bye_sent_ = true;
      message.mutable_bye()->set_last_seq(
          std::max(source_->last_seq(), sent_in_call_));
      message.mutable_bye()->set_reason("shutdown");
      return Send(std::move(message), now);
    }
    half_closed_ = true;
    half_closed_at_ = now;
    write_in_flight_ = true;
    Action half_close;
    half_close.kind = Action::Kind::kHalfClose;
    return half_close;
  }
  if (now - last_sent_ >= options_.heartbeat) return Send(MakeHeartbeat(), now);
  return std::nullopt;
}

Session::TimePoint Session::NextDeadline() const {
  if (!call_open_) {
    return state_ == SessionState::kBackoff ? dial_at_ : TimePoint::max();
  }
  if (cancelled_) return TimePoint::max();
  if (state_ != SessionState::kStreaming) {
    return connect_started_ + options_.connect_timeout;
  }
  TimePoint deadline = TimePoint::max();
  if (half_closed_) deadline = half_closed_at_ + kFarewell;
  if (!in_flight_.empty()) deadline = last_progress_ + options_.ack_timeout;
  if (!write_in_flight_ && !half_closed_) {
    deadline = std::min(deadline, last_sent_ + options_.heartbeat);
    if (last_batch_.has_value() && send_next_ <= source_->last_seq()) {
      const TimePoint due = *last_batch_ + options_.linger;
      if (due > clock_->Steady()) deadline = std::min(deadline, due);
    }
  }
  return deadline;
}

Session::Action Session::Send(v1::AgentMessage message, TimePoint now) {
  write_in_flight_ = true;
  last_sent_ = now;
  Action action;
  action.kind = Action::Kind::kSend;
  action.message = std::move(message);
  return action;
}

bool Session::WorthSending(TimePoint now) {
  if (hurry_ || draining_ || !filled_in_call_ || !last_batch_.has_value()) {
    return true;
  }
  return now - *last_batch_ >= options_.linger ||
         source_->BytesFrom(send_next_) >= kLargeBatchBytes;
}

bool Session::MakeBatch(v1::AgentMessage* message) {
  if (send_next_ > source_->last_seq() || credit_bytes_ == 0) return false;
  std::size_t limit = std::min(kMaxContentBytes, max_batch_bytes_);
  if (in_flight_bytes_ > 0) {
    // With nothing in flight one batch may go whatever the credit is.
    if (in_flight_bytes_ >= credit_bytes_) return false;
    const std::size_t left = credit_bytes_ - in_flight_bytes_;
    if (left < std::min(kWorthwhileBytes, credit_bytes_ / 2)) return false;
    limit = std::min(limit, left);
  } else {
    limit =
        static_cast<std::size_t>(std::min<std::uint64_t>(limit, credit_bytes_));
  }
  limit -= std::min(limit, kFrameSlackBytes);
  const std::uint64_t first_seq = send_next_;
  std::string content;
  const std::uint32_t records =
      FillContent(limit, in_flight_bytes_ == 0, &content);
  unreadable_ = records == 0 && in_flight_bytes_ == 0;
  if (records == 0) return false;
  v1::Batch* const batch = message->mutable_batch();
  batch->set_first_seq(first_seq);
  batch->set_record_count(records);
  batch->set_frame(options_.compress ? CompressFrame(content)
                                     : StoreFrame(content));
  if (in_flight_.empty()) last_progress_ = clock_->Steady();
  in_flight_.push_back({send_next_ - 1, batch->frame().size()});
  in_flight_bytes_ += batch->frame().size();
  sent_in_call_ = send_next_ - 1;
  sent_ = std::max(sent_, sent_in_call_);
  return true;
}

void Session::Say(const std::string& key, const std::string& what) {
  log_->Say(key, absl::StrCat("gradtap: the collector ", options_.collector,
                              " ", what));
}

}  // namespace gradtap::agent
