#include "agent/delivery/ring.h"

#include <algorithm>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace gradtap::agent {

static_assert(std::is_trivially_copyable_v<EntryHeader>);
static_assert(sizeof(EntryHeader) % 8 == 0 && alignof(EntryHeader) <= 8);

absl::StatusOr<std::unique_ptr<Ring>> Ring::Create(
    std::unique_ptr<RingMemory> memory, std::size_t reserve_bytes) {
  if (memory == nullptr || reserve_bytes >= memory->size() / 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a reserve of ", reserve_bytes, " bytes does not fit into the ring"));
  }
  return std::unique_ptr<Ring>(new Ring(std::move(memory), reserve_bytes));
}

Ring::Ring(std::unique_ptr<RingMemory> memory, std::size_t reserve_bytes)
    : memory_(std::move(memory)),
      capacity_(memory_->size()),
      reserve_(reserve_bytes) {}

EntryHeader* Ring::HeaderAt(std::uint64_t position) const {
  return reinterpret_cast<EntryHeader*>(memory_->data() + position % capacity_);
}

std::size_t Ring::EntryBytes(std::size_t size) {
  return (sizeof(EntryHeader) + size + 7) / 8 * 8;
}

char* Ring::Reserve(const EntryMeta& meta, std::size_t size,
                    Room room) noexcept {
  if (size > std::numeric_limits<std::uint32_t>::max()) return nullptr;
  const std::size_t need = EntryBytes(size);
  const std::size_t limit = RoomBytes(room);
  if (head_ + need - tail_cached_ > limit) {
    tail_cached_ = tail_.load(std::memory_order_acquire);
    if (head_ + need - tail_cached_ > limit) return nullptr;
  }
  EntryHeader* const header = ::new (HeaderAt(head_)) EntryHeader;
  header->seq = next_seq_++;
  header->size = static_cast<std::uint32_t>(size);
  header->meta = meta;
  head_ += need;
  return reinterpret_cast<char*>(header + 1);
}

void Ring::Publish() noexcept {
  published_.store(head_, std::memory_order_release);
  last_seq_.store(next_seq_ - 1, std::memory_order_release);
}

void Ring::Abandon() noexcept {
  head_ = published_.load(std::memory_order_relaxed);
  next_seq_ = last_seq_.load(std::memory_order_relaxed) + 1;
}

std::size_t Ring::FreeBytes(Room room) noexcept {
  tail_cached_ = tail_.load(std::memory_order_acquire);
  const std::size_t limit = RoomBytes(room);
  const std::size_t used = head_ - tail_cached_;
  return used < limit ? limit - used : 0;
}

Ring::Cursor Ring::CursorAt(std::uint64_t seq) const noexcept {
  Cursor cursor;
  cursor.position_ = tail_.load(std::memory_order_relaxed);
  for (std::uint64_t at = first_seq_; at < seq; ++at) {
    EntryView ignored;
    if (!Next(&cursor, &ignored)) break;
  }
  return cursor;
}

bool Ring::Next(Cursor* cursor, EntryView* entry) const noexcept {
  if (cursor->position_ == published_.load(std::memory_order_acquire)) {
    return false;
  }
  const EntryHeader* const header = HeaderAt(cursor->position_);
  entry->seq = header->seq;
  entry->meta = header->meta;
  entry->bytes =
      std::string_view(reinterpret_cast<const char*>(header + 1), header->size);
  entry->rejected = header->rejected != 0;
  cursor->position_ += EntryBytes(header->size);
  return true;
}

void Ring::MarkRejected(const EntryView& entry) noexcept {
  char* const payload = const_cast<char*>(entry.bytes.data());
  (reinterpret_cast<EntryHeader*>(payload) - 1)->rejected = 1;
}

void Ring::FreeBefore(const Cursor& cursor, std::uint64_t next_seq) noexcept {
  first_seq_ = next_seq;
  tail_.store(cursor.position_, std::memory_order_release);
}

// The place of `seq`, or the end if that is before it: by walking from the
// nearest that is known.
Ring::Place* Ring::FindPlace(std::uint64_t seq) noexcept {
  Place from{first_seq_, {}};
  from.cursor.position_ = tail_.load(std::memory_order_relaxed);
  Place* nearest = nullptr;
  for (Place& place : places_) {
    if (place.seq < from.seq || place.seq > seq) continue;
    from = place;
    nearest = &place;
  }
  // It moves on if it was read last; one that stands farther back stays.
  const bool follows = nearest != nullptr && seq - nearest->seq <= 1;
  if (!follows) nearest = &places_[newest_ == 0 ? 1 : 0];
  newest_ = nearest == &places_[0] ? 0 : 1;
  EntryView ignored;
  while (from.seq < seq && Next(&from.cursor, &ignored)) ++from.seq;
  *nearest = from;
  return nearest;
}

bool Ring::Read(std::uint64_t seq, EntryView* entry) noexcept {
  if (seq < first_seq_) return false;
  const Place* const place = FindPlace(seq);
  Cursor cursor = place->cursor;
  return place->seq == seq && Next(&cursor, entry);
}

std::size_t Ring::BytesFrom(std::uint64_t seq) noexcept {
  return BytesAfter(FindPlace(std::max(seq, first_seq_))->cursor);
}

void Ring::MarkRejected(std::uint64_t seq) noexcept {
  EntryView entry;
  if (Read(seq, &entry)) MarkRejected(entry);
}

void Ring::FreeBefore(std::uint64_t next_seq) noexcept {
  if (next_seq <= first_seq_) return;
  const Place place = *FindPlace(next_seq);
  FreeBefore(place.cursor, place.seq);
  for (Place& old : places_) {
    if (old.seq < first_seq_) old = {};
  }
}

}  // namespace gradtap::agent
