#include "agent/delivery/recorder.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "core/codec.h"
#include "core/names.h"

namespace gradtap::agent {
namespace {

// Above this many, pending gaps of one cause join though they are not
// neighbours.
constexpr std::size_t kJoinAbove = 64;
// At most this many pending entries; steps missing beyond it are in the counts
// of the End record only.
constexpr std::size_t kMaxPending = 1024;
constexpr std::size_t kMaxPendingSchemas = 16;
constexpr std::chrono::seconds kMaxPendingAge{1};
// More than an End record takes.
constexpr std::size_t kEndBytes = 256;

std::string SafeDetail(const std::string& detail) {
  return detail.empty() ? detail : SafeName(detail);
}

bool IsRecorded(const StepData& step) {
  return step.skipped == GapCause::kUnspecified;
}

EntryMeta StepMeta(const StepData& step, std::uint32_t branch) {
  EntryMeta meta;
  meta.kind = EntryKind::kStep;
  meta.recorded_steps = IsRecorded(step) ? 1 : 0;
  meta.branch = branch;
  meta.step = step.step;
  return meta;
}

bool IsNext(std::int64_t step, std::int64_t after) {
  return step > after && step - 1 == after;
}

// What a step takes in the ring; in parts, a little more than that.
std::size_t StepBytes(std::size_t size) {
  if (size <= kMaxPartBytes) return Ring::EntryBytes(size);
  constexpr std::size_t kPartHead = 64;
  const std::size_t parts = (size + kMaxPartBytes - 1) / kMaxPartBytes;
  return size + parts * Ring::EntryBytes(kPartHead);
}

void Join(GapData* gap, std::int64_t step) {
  gap->first_step = std::min(gap->first_step, step);
  gap->last_step = std::max(gap->last_step, step);
  ++gap->steps;
}

}  // namespace

Recorder::Recorder(Ring* ring, Books* books, const Clock* clock)
    : ring_(ring), books_(books), clock_(clock) {}

void Recorder::PutSchema(const Schema& schema) {
  if (ended_) return;
  const auto is_schema = [](const Pending& p) {
    return std::holds_alternative<PendingSchema>(p);
  };
  if (std::count_if(pending_.begin(), pending_.end(), is_schema) >=
      static_cast<std::ptrdiff_t>(kMaxPendingSchemas)) {
    // No step refers to it: steps have been lost since.
    pending_.erase(std::find_if(pending_.begin(), pending_.end(), is_schema));
  }
  if (pending_.empty()) pending_since_ = clock_->Steady();
  pending_.emplace_back(
      PendingSchema{EncodeSchema(schema), schema.fingerprint});
  books_->SetSchemaFingerprint(schema.fingerprint);
}

void Recorder::PutStep(const StepData& step) {
  if (ended_) {
    books_->CountMissing(GapCause::kShutdown);
    return;
  }
  Abandon();  // What an exception may have left behind.
  NoteStep(step.step);
  const std::size_t size = EncodedStepSize(step);
  if (IsRecorded(step)) step_bytes_ = StepBytes(size);
  const GapCause refused = ReserveOrRefuse(step, size);
  if (refused != GapCause::kUnspecified) {
    Abandon();
    books_->CountMissing(refused);
    AddGap(refused, step.step, {});
    return;
  }
  if (!IsRecorded(step)) books_->CountMissing(step.skipped);
  Publish();
  pending_.clear();
}

void Recorder::PutGap(GapCause cause, std::int64_t step,
                      const std::string& detail) {
  if (ended_) {
    books_->CountMissing(IsLost(cause) ? GapCause::kShutdown : cause);
    return;
  }
  NoteStep(step);
  books_->CountMissing(cause);
  AddGap(cause, step, SafeDetail(detail));
  if (clock_->Steady() - pending_since_ >= kMaxPendingAge) AdmitPendingAlone();
}

void Recorder::Rollback(std::int64_t step) {
  if (ended_ || !last_step_ || step > *last_step_) return;
  last_step_.reset();
  if (deferred_rollback_) {
    // Two become one, and replace what the lower one does.
    deferred_rollback_->step = std::min(deferred_rollback_->step, step);
    return;
  }
  if (pending_.size() >= kMaxPending) {
    deferred_rollback_ = RollbackData{step, branch_ + 1};
    return;
  }
  if (pending_.empty()) pending_since_ = clock_->Steady();
  pending_.emplace_back(RollbackData{step, ++branch_});
}

void Recorder::PutEnd(EndReason reason) {
  if (ended_) return;
  Abandon();
  for (const Pending& item : std::exchange(pending_, {})) {
    pending_.assign(1, item);
    const std::size_t before = ring_->FreeBytes(Ring::Room::kAll);
    if (ReservePending(Ring::Room::kAll) &&
        ring_->FreeBytes(Ring::Room::kAll) >= Ring::EntryBytes(kEndBytes)) {
      Publish();
    } else {
      Abandon();
    }
    if (before < Ring::EntryBytes(kEndBytes)) break;
  }
  pending_.clear();
  ended_ = true;
  const DeliveryCounters c = books_->Snapshot();
  EndData end;
  end.reason = reason;
  end.wall_time_unix_ns = clock_->UnixNanos();
  end.steps_seen = c.steps_seen;
  end.steps_recorded = c.steps_recorded;
  end.steps_skipped = c.steps_skipped;
  end.steps_lost = c.steps_lost;
  EntryMeta meta;
  meta.kind = EntryKind::kEnd;
  meta.branch = branch_;
  if (ReserveRecord(meta, EncodeEnd(end), Ring::Room::kAll)) {
    Publish();
  } else {
    Abandon();
  }
}

void Recorder::NoteStep(std::int64_t step) {
  if (last_step_ && step <= *last_step_) Rollback(step);
  last_step_ = step;
}

void Recorder::AddGap(GapCause cause, std::int64_t step,
                      const std::string& detail) {
  if (deferred_rollback_) return;
  const bool crowded = pending_.size() >= kJoinAbove;
  for (auto it = pending_.rbegin(); it != pending_.rend(); ++it) {
    if (std::holds_alternative<RollbackData>(*it)) break;
    PendingGap* const gap = std::get_if<PendingGap>(&*it);
    if (gap == nullptr) continue;
    if (gap->cause == cause &&
        (crowded || (gap->detail == detail && IsNext(step, gap->last_step)))) {
      Join(gap, step);
      return;
    }
    if (!crowded) break;
  }
  if (pending_.size() >= kMaxPending) return;
  if (pending_.empty()) pending_since_ = clock_->Steady();
  pending_.emplace_back(PendingGap{{cause, step, step, 1, detail}, branch_});
}

bool Recorder::ReservePending(Ring::Room room) {
  for (const Pending& item : pending_) {
    EntryMeta meta;
    meta.branch = branch_;
    std::string record;
    if (const auto* gap = std::get_if<PendingGap>(&item)) {
      meta.kind = EntryKind::kGap;
      meta.branch = gap->branch;
      meta.cause = gap->cause;
      meta.step = gap->first_step;
      meta.last_step = gap->last_step;
      meta.steps = gap->steps;
      EncodeGap(*gap, &gap_record_);
      if (!ReserveRecord(meta, gap_record_, room)) return false;
      continue;
    } else if (const auto* rollback = std::get_if<RollbackData>(&item)) {
      meta.kind = EntryKind::kRollback;
      meta.step = rollback->step;
      meta.branch = rollback->branch;
      record = EncodeRollback(*rollback);
    } else {
      meta.kind = EntryKind::kSchema;
      if (!ReserveRecord(meta, std::get<PendingSchema>(item).record, room)) {
        return false;
      }
      continue;
    }
    if (!ReserveRecord(meta, record, room)) return false;
  }
  return true;
}

bool Recorder::ReserveRecord(EntryMeta meta, std::string_view record,
                             Ring::Room room) {
  const std::size_t parts =
      record.size() <= kMaxPartBytes
          ? 1
          : (record.size() + kMaxPartBytes - 1) / kMaxPartBytes;
  const std::uint32_t recorded_steps = meta.recorded_steps;
  for (std::size_t i = 0; i < parts; ++i) {
    const std::string_view data = record.substr(
        i * kMaxPartBytes, parts == 1 ? record.size() : kMaxPartBytes);
    std::string head;
    if (parts > 1) {
      head = EncodePartHead(static_cast<std::uint32_t>(i),
                            static_cast<std::uint32_t>(parts), data.size());
    }
    meta.part_index = static_cast<std::uint32_t>(i);
    meta.part_count = static_cast<std::uint32_t>(parts);
    meta.recorded_steps = i + 1 == parts ? recorded_steps : 0;
    char* const out = ring_->Reserve(meta, head.size() + data.size(), room);
    if (out == nullptr) return false;
    std::memcpy(out, head.data(), head.size());
    std::memcpy(out + head.size(), data.data(), data.size());
    reserved_bytes_ += head.size() + data.size();
  }
  reserved_steps_ += recorded_steps;
  return true;
}

GapCause Recorder::ReserveOrRefuse(const StepData& step, std::size_t size) {
  const std::size_t free = ring_->FreeBytes(Ring::Room::kOrdinary);
  const std::size_t room = ring_->RoomBytes(Ring::Room::kOrdinary);
  const std::size_t bytes = StepBytes(size);
  std::size_t kept = KeptBytes();
  thinning_.Observe(room - free, room - kept);
  const bool thinned = !thinning_.Takes(step);
  const bool full = bytes + kept > free;
  if (thinned || full) {
    if (thinning_.Spares(step)) {
      kept = 0;
    } else if (!full) {
      return GapCause::kThinned;
    }
  }
  // Nothing is encoded in vain while the ring is full.
  if (!deferred_rollback_ && bytes + kept <= free &&
      ReservePending(Ring::Room::kOrdinary) && ReserveStep(step, size) &&
      ring_->FreeBytes(Ring::Room::kOrdinary) >= kept) {
    return GapCause::kUnspecified;
  }
  Abandon();
  if (!pending_.empty() && free >= ring_->capacity_bytes() / 2) {
    // A large step must not hold back what is to be told before it.
    AdmitPendingAlone();
    if (pending_.empty() && ReserveStep(step, size) &&
        ring_->FreeBytes(Ring::Room::kOrdinary) >= kept) {
      return GapCause::kUnspecified;
    }
  }
  return bytes > room ? GapCause::kRingFull : books_->full_cause();
}

std::size_t Recorder::KeptBytes() const {
  const std::size_t room = ring_->RoomBytes(Ring::Room::kOrdinary);
  const std::size_t one = step_bytes_ + step_bytes_ / 2;
  if (one > room / 4) return 0;
  return std::max(room / 16, one);
}

bool Recorder::ReserveStep(const StepData& step, std::size_t size) {
  const EntryMeta meta = StepMeta(step, branch_);
  if (size > kMaxPartBytes) {
    if (ring_->FreeBytes(Ring::Room::kOrdinary) < size) return false;
    scratch_.resize(size);
    EncodeStep(step, std::span<char>(scratch_.data(), size));
    return ReserveRecord(meta, scratch_, Ring::Room::kOrdinary);
  }
  char* const out = ring_->Reserve(meta, size, Ring::Room::kOrdinary);
  if (out == nullptr) return false;
  EncodeStep(step, std::span<char>(out, size));
  reserved_bytes_ += size;
  reserved_steps_ += meta.recorded_steps;
  return true;
}

void Recorder::Publish() {
  // Counted first: nothing is acknowledged before it is in the books.
  books_->CountAdmitted(std::exchange(reserved_steps_, 0),
                        std::exchange(reserved_bytes_, 0));
  ring_->Publish();
}

void Recorder::Abandon() {
  reserved_steps_ = 0;
  reserved_bytes_ = 0;
  ring_->Abandon();
}

void Recorder::AdmitPendingAlone() {
  Abandon();
  if (!ReservePending(Ring::Room::kOrdinary) ||
      ring_->FreeBytes(Ring::Room::kOrdinary) < KeptBytes()) {
    Abandon();
    return;
  }
  Publish();
  pending_.clear();
  if (deferred_rollback_) {
    pending_since_ = clock_->Steady();
    pending_.emplace_back(*deferred_rollback_);
    branch_ = deferred_rollback_->branch;
    deferred_rollback_.reset();
    AdmitPendingAlone();
  }
}

}  // namespace gradtap::agent
