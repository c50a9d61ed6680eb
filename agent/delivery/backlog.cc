#include "agent/delivery/backlog.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::agent {

bool Backlog::InSpool(std::uint64_t seq) const {
  return spool_ != nullptr && seq >= spool_->first_seq() &&
         seq <= spool_->last_seq();
}

bool Backlog::HasSpooled() const {
  return spool_ != nullptr && spool_->first_seq() <= spool_->last_seq();
}

std::uint64_t Backlog::first_seq() const {
  if (HasSpooled()) return spool_->first_seq();
  if (ring_ == nullptr) return last_seq() + 1;
  if (hole_from_ != 0) return hole_from_;
  return std::max(ring_->first_seq(),
                  spool_ == nullptr ? 0 : spool_->first_seq());
}

std::uint64_t Backlog::last_seq() const {
  return std::max(ring_ == nullptr ? 0 : ring_->last_seq(),
                  spool_ == nullptr ? 0 : spool_->last_seq());
}

bool Backlog::Read(std::uint64_t seq, EntryView* entry) {
  if (seq < first_seq() || seq > last_seq()) return false;
  if (InSpool(seq)) {
    auto read = spool_->Read(seq);
    if (!read.ok()) return false;
    *entry = *read;
    entry->rejected = rejected_.contains(seq);
    return true;
  }
  if (ring_ != nullptr && seq >= ring_->first_seq()) {
    if (!ring_->Read(seq, entry)) return false;
    schemas_.Note(*entry);
    return true;
  }
  if (spool_->use() == SpoolUse::kCopy) return false;
  *entry = Missing(seq);
  return true;
}

EntryView Backlog::Missing(std::uint64_t seq) {
  const bool spooled = HasSpooled();
  EntryView entry;
  std::optional<LoopPlace> next;
  for (std::uint64_t at = ring_->first_seq(); !next && ring_->Read(at, &entry);
       ++at) {
    next = FirstPlace(entry.meta);
  }
  return spool_->StandIn(seq, spooled ? spool_->last_seq() + 1 : hole_begin_,
                         ring_->first_seq(),
                         spooled ? spool_->last_place() : before_hole_, next,
                         "the end of the spool cannot be read");
}

absl::Status Backlog::WhyUnreadable(std::uint64_t seq) {
  if (InSpool(seq)) return spool_->Read(seq).status();
  EntryView entry;
  if (spool_ == nullptr || ring_ == nullptr || Read(seq, &entry)) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(
      "records ", spool_->last_seq() + 1, " to ", ring_->first_seq() - 1,
      " are missing in the copy '", EscapeForTerminal(spool_->path()),
      "', or cannot be read: the original may have them still"));
}

std::size_t Backlog::BytesFrom(std::uint64_t seq) {
  std::size_t bytes = ring_ == nullptr ? 0 : ring_->BytesFrom(seq);
  if (InSpool(seq)) {
    // Records are about as large as each other.
    const std::uint64_t records = spool_->last_seq() + 1 - spool_->first_seq();
    const std::uint64_t left = spool_->last_seq() + 1 - seq;
    bytes += static_cast<std::size_t>(static_cast<double>(spool_->bytes()) /
                                      static_cast<double>(records) *
                                      static_cast<double>(left));
  }
  return bytes;
}

void Backlog::MarkRejected(std::uint64_t seq) {
  if (InSpool(seq)) {
    rejected_.insert(seq);
  } else if (ring_ != nullptr) {
    ring_->MarkRejected(seq);
  }
}

void Backlog::FreeBefore(std::uint64_t next_seq) {
  // A schema that never was in the spool: what goes there later refers to it.
  KeepSchemas();
  if (ring_ != nullptr && HasSpooled() && next_seq > spool_->last_seq() &&
      spool_->last_seq() + 1 < ring_->first_seq()) {
    // What is behind it is at hand until that is freed too.
    hole_from_ = hole_begin_ = spool_->last_seq() + 1;
    before_hole_ = spool_->last_place();
  }
  if (hole_from_ != 0) hole_from_ = std::max(hole_from_, next_seq);
  if (spool_ != nullptr) {
    spool_->FreeBefore(next_seq);
    rejected_.erase(rejected_.begin(), rejected_.lower_bound(next_seq));
  }
  if (ring_ == nullptr) return;
  ring_->FreeBefore(next_seq);
  schemas_.FreeBefore(next_seq);
  if (hole_from_ >= ring_->first_seq()) hole_from_ = 0;
}

absl::Status Backlog::Spill(std::size_t keep_bytes) {
  std::uint64_t seq = ring_->first_seq();
  absl::Status status;
  KeepSchemas();
  for (; ring_->BytesFrom(seq) > keep_bytes; ++seq) {
    EntryView entry;
    if (!ring_->Read(seq, &entry)) break;
    schemas_.Note(entry);
    if (!InSpool(seq)) {
      status = spool_->Append(seq, entry.meta, entry.bytes);
      if (!status.ok()) break;
    }
    if (entry.rejected) rejected_.insert(seq);
  }
  ring_->FreeBefore(seq);
  KeepSchemas();
  schemas_.FreeBefore(seq);  // The spool sees to what it has.
  return status;
}

void Backlog::KeepSchemas() {
  if (spool_ == nullptr || spool_->use() == SpoolUse::kCopy) return;
  for (const KeptSchema& schema : schemas_.whole()) spool_->KeepSchema(schema);
}

}  // namespace gradtap::agent
