#include "agent/delivery/backlog.h"

#include <algorithm>

namespace gradtap::agent {

bool Backlog::InSpool(std::uint64_t seq) const {
  return spool_ != nullptr && seq >= spool_->first_seq() &&
         seq <= spool_->last_seq();
}

std::uint64_t Backlog::first_seq() const {
  const bool spooled =
      spool_ != nullptr && spool_->first_seq() <= spool_->last_seq();
  if (spooled) return spool_->first_seq();
  if (ring_ == nullptr) return last_seq() + 1;
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
    return ring_->Read(seq, entry);
  }
  *entry = EntryView();
  entry->seq = seq;
  entry->meta.kind = EntryKind::kEnd;
  return true;
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
  if (spool_ != nullptr) {
    spool_->FreeBefore(next_seq);
    rejected_.erase(rejected_.begin(), rejected_.lower_bound(next_seq));
  }
  if (ring_ != nullptr) ring_->FreeBefore(next_seq);
}

absl::Status Backlog::Spill(std::size_t keep_bytes) {
  std::uint64_t seq = ring_->first_seq();
  absl::Status status;
  for (; ring_->BytesFrom(seq) > keep_bytes; ++seq) {
    EntryView entry;
    if (!ring_->Read(seq, &entry)) break;
    if (!InSpool(seq)) {
      status = spool_->Append(seq, entry.meta, entry.bytes);
      if (!status.ok()) break;
    }
    if (entry.rejected) rejected_.insert(seq);
  }
  ring_->FreeBefore(seq);
  return status;
}

}  // namespace gradtap::agent
