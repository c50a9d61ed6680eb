// What a collector answers an agent: Welcomes, Acks and Rejects, in bytes or
// well made, true or not, whenever it likes (agent/delivery's session).
//
// Beside the session goes an account of what was sent and what was answered,
// which says what may be freed, and what is counted as what.

#include <google/protobuf/stubs/common.h>
#if GOOGLE_PROTOBUF_VERSION < 4022000
#include <google/protobuf/stubs/logging.h>
#endif

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "agent/delivery/once_log.h"
#include "agent/delivery/session.h"
#include "core/codec.h"
#include "core/names.h"
#include "fuzz/collector_message_seeds.h"
#include "fuzz/fuzz.h"
#include "fuzz/put_records.h"
#include "support/manual_clock.h"

namespace gradtap::fuzz {
namespace {

using agent::EntryKind;
using agent::EntryMeta;
using agent::Session;
using agent::SessionState;

constexpr int kMaxEvents = 128;

// What happens to a session, and what it does.
class Driver {
 public:
  explicit Driver(Taker taker)
      : taker_(taker),
        flags_(taker_.Number<std::uint8_t>()),
        records_((flags_ & kLargeRing) != 0 ? 256 * 1024 : 32 * 1024) {}

  void Play() {
    const int gone = taker_.Number<std::uint8_t>() % 8;
    for (int i = 0; i < gone; ++i) records_.Add(taker_.Number<std::uint8_t>());
    records_.FreeAll();
    known_from_ = records_.first_seq();
    session_ = std::make_unique<Session>(Options(), &records_.ring(),
                                         &records_.books(), &clock_, &log_,
                                         [] { return 0.5; });
    for (int i = 0; i < kMaxEvents && !taker_.empty(); ++i) {
      clock_.Advance(std::chrono::milliseconds(
          std::int64_t{taker_.Number<std::uint8_t>()} * 100));
      Happen();
      Turn();
      records_.Check();
    }
    GoOn();
  }

 private:
  agent::SessionOptions Options() const {
    agent::SessionOptions options;
    options.run = "run";
    options.launch = "launch";
    options.process_nonce = "0123456789abcdef";
    options.collector = "peer:1";
    options.leftovers = (flags_ & kLeftovers) != 0;
    options.fill_holes = (flags_ & kNoFilling) == 0;
    options.declare_holes = (flags_ & kDeclareHoles) != 0;
    options.without_schema = (flags_ & kWithoutSchema) != 0;
    options.compress = (flags_ & kStored) == 0;
    return options;
  }

  void Happen() {
    v1::CollectorMessage message;
    switch (taker_.Number<std::uint8_t>() % kEvents) {
      case kPut:
        for (int n = taker_.Number<std::uint8_t>(),
                 kind = taker_.Number<std::uint8_t>();
             n >= 0 && !draining_; --n) {
          records_.Add(static_cast<std::uint8_t>(kind));
        }
        return;
      case kBytes: {
        const std::string_view bytes = taker_.Text();
        // gRPC ends a call with a message that cannot be read.
        if (message.ParseFromArray(bytes.data(),
                                   static_cast<int>(bytes.size()))) {
          return Hear(message);
        }
        return Close(absl::InternalError("it cannot be read"));
      }
      case kWelcome:
        message.mutable_welcome()->set_next_seq(TakeSeq());
        message.mutable_welcome()->set_credit_bytes(TakeCount());
        message.mutable_welcome()->set_max_batch_bytes(
            taker_.Number<std::uint32_t>());
        return Hear(message);
      case kAck:
        TakeAck(message.mutable_ack());
        return Hear(message);
      case kReject:
        message.mutable_reject()->set_code(
            static_cast<v1::Reject::Code>(taker_.Number<std::uint8_t>()));
        message.mutable_reject()->set_retry(taker_.Number<std::uint8_t>() % 2);
        message.mutable_reject()->set_detail(std::string(taker_.Text()));
        return Hear(message);
      case kClosed: {
        const int code = taker_.Number<std::uint8_t>() % 17;
        const std::string_view why = taker_.Text();
        return Close(absl::Status(static_cast<absl::StatusCode>(code),
                                  std::string(why)));
      }
      case kWait:
        waits_ = !waits_;
        return;
      case kSent:
        return Answer();
      case kDrain:
        draining_ = true;  // Nothing is put afterwards.
        return session_->BeginDrain();
      default:
        return session_->SetHurry(taker_.Number<std::uint8_t>() % 2);
    }
  }

  // Any, or near one that matters.
  std::uint64_t TakeSeq() {
    const int near = taker_.Number<std::uint8_t>() % 4;
    if (near == 0) return taker_.Number<std::uint64_t>();
    const std::uint64_t seqs[] = {0, sent_, records_.first_seq(),
                                  records_.last_seq()};
    return seqs[near] + static_cast<std::uint64_t>(
                            std::int64_t{taker_.Number<std::int8_t>()});
  }
  std::uint64_t TakeCount() {
    switch (taker_.Number<std::uint8_t>() % 4) {
      case 0:
        return 0;
      case 1:
        return ~std::uint64_t{0};
      case 2:
        return taker_.Number<std::uint64_t>();
      default:
        return taker_.Number<std::uint16_t>();
    }
  }
  void TakeAck(v1::Ack* ack) {
    ack->set_durable_seq(TakeSeq());
    ack->set_credit_bytes(TakeCount());
    for (int n = taker_.Number<std::uint8_t>(); n > 0; --n) {
      v1::Rejection* const rejection = ack->add_rejected();
      rejection->set_seq(TakeSeq());
      rejection->set_count(TakeCount());
      rejection->set_reason(std::string(taker_.Text()));
    }
  }

  // ---- The collector's side of the network.

  void Hear(const v1::CollectorMessage& message) {
    const std::uint64_t before = records_.first_seq();
    const std::uint64_t through = Believed(message);
    session_->OnMessage(message);
    Require(records_.first_seq() ==
                std::max(before, std::min(through, records_.last_seq()) + 1),
            "what is acknowledged is freed, and nothing else");
  }

  // Up to which seq the collector may say that it has the records; 0: it says
  // nothing, or nothing that can be. Notes what it refuses.
  std::uint64_t Believed(const v1::CollectorMessage& message) {
    if (!open_ || cancelled_) return 0;
    if (message.has_welcome() && hello_sent_ && !welcomed_) {
      const v1::Welcome& welcome = message.welcome();
      const bool can_be = welcome.next_seq() <= records_.last_seq() + 1 ||
                          (flags_ & kLeftovers) != 0;
      if (welcome.next_seq() == 0 || welcome.credit_bytes() == 0 || !can_be) {
        must_end_ = true;
        return 0;
      }
      welcomed_ = true;
      credit_ = welcome.credit_bytes();
      sent_ = welcome.next_seq() - 1;
      hole_from_ = welcome.next_seq();
      hole_told_ = false;
      return sent_;
    }
    if (message.kind_case() == v1::CollectorMessage::KIND_NOT_SET) return 0;
    const bool is_answer = message.has_ack() && welcomed_;
    must_end_ = !is_answer || message.ack().durable_seq() > sent_;
    if (must_end_) return 0;
    credit_ = message.ack().credit_bytes();
    while (!in_flight_.empty() &&
           in_flight_.front().first <= message.ack().durable_seq()) {
      in_flight_.pop_front();
    }
    NoteRefused(message.ack());
    return message.ack().durable_seq();
  }

  void NoteRefused(const v1::Ack& ack) {
    const std::uint64_t last = std::min(ack.durable_seq(), records_.last_seq());
    for (std::uint64_t seq = 1; seq <= last; ++seq) {
      const EntryMeta& meta = records_.At(seq).meta;
      const std::uint64_t end = seq - meta.part_index + meta.part_count;
      if (end <= records_.first_seq() || records_.At(seq).refused) continue;
      for (const v1::Rejection& rejection : ack.rejected()) {
        const std::uint64_t count =
            std::max<std::uint64_t>(1, rejection.count());
        if (rejection.seq() <= seq && seq - rejection.seq() < count) {
          records_.Refuse(seq);
          break;
        }
      }
    }
  }

  void Close(const absl::Status& status) {
    open_ = connecting_ = hello_sent_ = welcomed_ = writing_ = false;
    cancelled_ = must_end_ = false;
    session_->OnClosed(status);
  }

  // The network has done what it was told.
  void Answer() {
    if (std::exchange(connecting_, false)) session_->OnConnected();
    if (std::exchange(writing_, false)) session_->OnSent();
    if (cancelled_) Close(absl::CancelledError("as it was told"));
  }

  // ---- The agent's side.

  void Turn() {
    for (std::size_t n = 0;; ++n) {
      Require(n < 2 * PutRecords::kMost, "it comes to rest");
      if (!waits_) Answer();
      const auto action = session_->Next();
      Require(!std::exchange(must_end_, false) ||
                  (action && action->kind == Session::Action::Kind::kCancel),
              "a collector that says what cannot be is left");
      if (!action) return;
      Obey(*action);
    }
  }

  void Obey(const Session::Action& action) {
    switch (action.kind) {
      case Session::Action::Kind::kConnect:
        Require(!open_, "one call at a time");
        open_ = connecting_ = true;
        bye_sent_ = half_closed_ = false;
        in_flight_.clear();
        return;
      case Session::Action::Kind::kCancel:
        Require(open_ && !std::exchange(cancelled_, true), "a call ends once");
        return;
      case Session::Action::Kind::kHalfClose:
        Require(!writing_ && bye_sent_ && session_->drained(),
                "what is half-closed is through");
        writing_ = half_closed_ = true;
        return;
      case Session::Action::Kind::kSend:
        Require(open_ && !writing_ && !connecting_ && !half_closed_,
                "one write at a time");
        writing_ = true;
        return Receive(action.message);
    }
  }

  void Receive(const v1::AgentMessage& message) {
    if (message.has_hello()) {
      Require(!std::exchange(hello_sent_, true), "one Hello a call");
      Require(message.hello().first_seq() == records_.first_seq() &&
                  message.hello().last_seq() == records_.last_seq(),
              "a Hello says what is at hand");
      return;
    }
    Require(welcomed_ && !bye_sent_, "nothing before a Welcome or after a Bye");
    if (message.has_bye()) {
      Require(session_->drained(), "a Bye is the last word");
      bye_sent_ = true;
    }
    if (message.has_batch()) ReceiveBatch(message.batch());
  }

  void ReceiveBatch(const v1::Batch& batch) {
    std::uint64_t bytes = batch.frame().size();
    for (const auto& [seq, size] : in_flight_) bytes += size;
    Require(in_flight_.empty() || bytes <= credit_, "credit is kept to");
    const auto content = DecompressFrame(batch.frame(), 4u << 20);
    Require(content.ok(), "a frame can be read");
    const auto list = SplitRecordList(*content);
    Require(list.ok() && list->size() == batch.record_count() && !list->empty(),
            "so can its records");
    Require(batch.first_seq() == sent_ + 1, "batches follow each other");
    for (const std::string_view record : *list) CheckRecord(++sent_, record);
    in_flight_.emplace_back(sent_, batch.frame().size());
  }

  // At hand it goes as it is. Of what was freed, each step is told as a gap.
  void CheckRecord(std::uint64_t seq, std::string_view record) {
    Require(seq <= records_.last_seq(), "it is a record of this process");
    PutRecord& put = records_.At(seq);
    if (seq >= records_.first_seq() && record == put.bytes) return;
    const bool is_step = put.meta.kind == EntryKind::kStep;
    if (seq >= records_.first_seq()) {
      Require((flags_ & kLeftovers) && (flags_ & kWithoutSchema) && is_step,
              "a record at hand goes as it is");
      if (put.IsLastPart()) put.refused = true;  // Given up.
      if (put.meta.recorded_steps == 0) return;
    }
    if (seq < known_from_) {  // What it was nobody remembers.
      if (put_at_hole_ == 0) put_at_hole_ = records_.last_seq();
      const auto filler = ParseRecord(record);
      hole_told_ |= filler.ok() && filler->kind == RecordKind::kGap;
      Require(seq + 1 < known_from_ || hole_told_ || !MustTellHole(),
              "that there is a hole is told");
      return;
    }
    const auto view = ParseRecord(record);
    Require(view.ok(), "what goes in its place can be read");
    if (!put.IsLastPart() || (put.refused && !is_step)) return;
    if (put.meta.kind == EntryKind::kRollback) {
      Require(view->kind == RecordKind::kRollback, "a rollback is told again");
    }
    if (!is_step && put.meta.kind != EntryKind::kGap) return;
    Require(view->kind == RecordKind::kGap, "what is lost is told");
    const auto gap = DecodeGap(view->body);
    Require(gap.ok() && gap->first_step == put.meta.step && gap->steps == 1 &&
                gap->last_step == put.meta.step,
            "the gap is of the step that is lost");
    Require(seq >= records_.first_seq() || !is_step ||
                (gap->cause == GapCause::kRejected) == put.refused,
            "and says whether it was refused");
  }

  // A hole before all that this session has ever had: told if it is to be, and
  // it may have been of steps that came before one at hand.
  bool MustTellHole() {
    if ((flags_ & kDeclareHoles) == 0 || known_from_ < 3) return false;
    // The first record of all is a schema.
    const std::uint64_t records =
        known_from_ - std::max<std::uint64_t>(2, hole_from_);
    for (std::uint64_t seq = known_from_; seq <= put_at_hole_; ++seq) {
      const EntryMeta& meta = records_.At(seq).meta;
      if (meta.kind == EntryKind::kSchema || meta.kind == EntryKind::kEnd) {
        continue;
      }
      // One record alone may have been the rollback to this branch: that is
      // told.
      return meta.kind == EntryKind::kStep && meta.step > 0 &&
             records >= meta.part_count && (records > 1 || meta.branch == 0);
    }
    return false;
  }

  // From now on the collector is honest: it has what it has acknowledged.
  void GoOn() {
    waits_ = false;
    Answer();
    if (open_) Close(absl::UnavailableError("restarted"));
    session_->BeginDrain();
    for (std::size_t n = 0; !session_->finished(); ++n) {
      Require(n < 2 * PutRecords::kMost, "with an honest collector it ends");
      Turn();
      if (half_closed_ && open_) {
        Close(absl::OkStatus());
      } else if (hello_sent_ && !welcomed_) {
        v1::CollectorMessage message;
        message.mutable_welcome()->set_next_seq(records_.first_seq());
        message.mutable_welcome()->set_credit_bytes(1u << 20);
        Hear(message);
      } else if (welcomed_ && !in_flight_.empty()) {
        v1::CollectorMessage message;
        message.mutable_ack()->set_durable_seq(sent_);
        message.mutable_ack()->set_credit_bytes(1u << 20);
        Hear(message);
      } else if (session_->NextDeadline() != Session::TimePoint::max()) {
        clock_.Advance(std::max(session_->NextDeadline() - clock_.Steady(),
                                std::chrono::nanoseconds(0)));
      }
      records_.Check();
    }
    Require(session_->state() == SessionState::kRefused || session_->drained(),
            "it has delivered all, or was refused");
  }

  static void CheckLine(const std::string& line) {
    Require(line.starts_with("gradtap: the collector ") && line.size() < 2000 &&
                EscapeForTerminal(line) == line,
            "a line is short text, and says whose it is");
  }

  Taker taker_;
  const std::uint8_t flags_;
  PutRecords records_;
  testing::ManualClock clock_;
  agent::OnceLog log_{CheckLine};
  std::unique_ptr<Session> session_;
  std::uint64_t known_from_ = 1;  // Before it others have delivered.
  // What there was when a hole was first told: an ended process puts no more.
  std::uint64_t put_at_hole_ = 0;
  bool waits_ = false;
  bool draining_ = false;

  // Of the call that is open.
  bool open_ = false;
  bool connecting_ = false;
  bool hello_sent_ = false;
  bool welcomed_ = false;
  bool writing_ = false;
  bool bye_sent_ = false;
  bool half_closed_ = false;
  bool cancelled_ = false;
  bool must_end_ = false;
  bool hole_told_ = false;
  std::uint64_t hole_from_ = 0;  // Where the collector wants to go on.
  std::uint64_t credit_ = 0;
  std::uint64_t sent_ = 0;                                       // Highest seq.
  std::deque<std::pair<std::uint64_t, std::size_t>> in_flight_;  // Last, bytes.
};

}  // namespace

void Try(std::string_view input) {
#if GOOGLE_PROTOBUF_VERSION < 4022000
  // It has a line for each text that is no UTF-8.
  google::protobuf::SetLogHandler(nullptr);
#endif
  Driver(Taker(input)).Play();
}

std::vector<std::string> Seeds() { return CollectorMessageSeeds(); }

}  // namespace gradtap::fuzz
