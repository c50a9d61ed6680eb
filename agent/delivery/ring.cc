#include "agent/delivery/ring.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/spool/segment.h"

namespace gradtap::agent {

static_assert(std::is_trivially_copyable_v<EntryHeader>);
static_assert(sizeof(EntryHeader) % 8 == 0 && alignof(EntryHeader) <= 8);

// Entries outlive the process and may be read by another build.
static_assert(sizeof(EntryHeader) == 64 && sizeof(EntryMeta) == 48);
static_assert(sizeof(RingControl) == 128);
// In shared memory a lock of the library's own would be another one in each
// process.
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

namespace {

// Of what is left behind. None has ever been used up.
constexpr std::uint64_t kMaxSeq = std::uint64_t{1} << 62;
constexpr int kMaxGapCause = 31;

// True if a recorder can have written this header.
bool IsPlausible(const EntryHeader& header_untrusted) {
  const EntryMeta& meta = header_untrusted.meta;
  const auto kind = static_cast<int>(meta.kind);
  if (kind < static_cast<int>(EntryKind::kSchema) ||
      kind > static_cast<int>(EntryKind::kEnd) ||
      meta.part_index >= meta.part_count || header_untrusted.rejected > 1) {
    return false;
  }
  const bool counts =
      meta.kind == EntryKind::kStep && meta.part_index + 1 == meta.part_count;
  if (meta.recorded_steps > (counts ? 1 : 0)) return false;
  if (meta.kind != EntryKind::kGap) return true;
  return meta.steps > 0 && meta.step <= meta.last_step &&
         static_cast<int>(meta.cause) <= kMaxGapCause;
}

// The positions, if they can be those of a ring of `capacity` bytes.
bool ArePlausible(std::uint64_t tail, std::uint64_t published,
                  std::size_t capacity) {
  return tail <= published && published - tail <= capacity && tail % 8 == 0 &&
         published % 8 == 0;
}

}  // namespace

RingContents Ring::Inspect(const RingMemory& memory,
                           const RingControl& control_untrusted) {
  const std::uint64_t published = control_untrusted.published;
  const std::uint64_t last_noted = control_untrusted.last_seq;
  const std::uint64_t first_noted = control_untrusted.first_seq;
  RingContents contents;
  contents.tail = contents.end = control_untrusted.tail;
  contents.first_seq = std::clamp<std::uint64_t>(first_noted, 1, kMaxSeq);
  contents.last_seq = contents.first_seq - 1;
  if (!ArePlausible(contents.tail, published, memory.size())) {
    contents.problems.push_back(absl::StrCat(
        "it says that its records lie from ", contents.tail, " to ", published,
        " in ", memory.size(), " bytes, which cannot be: none can be read"));
    contents.tail = contents.end = 0;
    return contents;
  }
  std::uint64_t next_seq = 0;  // 0: any.
  while (contents.end < published) {
    const std::uint64_t left = published - contents.end;
    EntryHeader header;
    const std::size_t at = contents.end % memory.size();
    std::memcpy(&header, memory.data() + at,
                std::min<std::uint64_t>(left, sizeof(header)));
    if (left < sizeof(header) || EntryBytes(header.size) > left ||
        header.size > kMaxRecordBytes || header.seq == 0 ||
        header.seq > kMaxSeq || (next_seq != 0 && header.seq != next_seq) ||
        !IsPlausible(header)) {
      contents.problems.push_back(
          absl::StrCat("what follows record ", contents.last_seq,
                       " is no record: ", left, " bytes cannot be read"));
      break;
    }
    if (next_seq == 0) contents.first_seq = header.seq;
    contents.last_seq = header.seq;
    contents.end += EntryBytes(header.size);
    next_seq = header.seq + 1;
  }
  if (!contents.problems.empty()) return contents;
  // A process that died has noted too little, or freed what it noted as freed.
  if (last_noted > contents.last_seq || first_noted < contents.first_seq ||
      first_noted > contents.last_seq + 1) {
    contents.problems.push_back(absl::StrCat(
        "it has the records ", contents.first_seq, " to ", contents.last_seq,
        ", and says that it has ", first_noted, " to ", last_noted));
  }
  return contents;
}

absl::StatusOr<std::unique_ptr<Ring>> Ring::Create(
    std::unique_ptr<RingMemory> memory, std::size_t reserve_bytes,
    std::shared_ptr<RingControl> control) {
  if (memory == nullptr || reserve_bytes >= memory->size() / 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a reserve of ", reserve_bytes, " bytes does not fit into the ring"));
  }
  if (control == nullptr) control = std::make_shared<RingControl>();
  const std::size_t capacity = memory->size();
  return std::unique_ptr<Ring>(new Ring(std::move(memory), capacity,
                                        capacity - reserve_bytes,
                                        std::move(control)));
}

std::unique_ptr<Ring> Ring::OpenLeft(std::unique_ptr<RingMemory> memory,
                                     const RingContents& contents,
                                     std::shared_ptr<RingControl> progress) {
  // Words of its own: what has been looked at is what is read.
  auto control = std::make_shared<RingControl>();
  control->published = contents.end;
  control->last_seq = contents.last_seq;
  control->tail = contents.tail;
  control->first_seq = contents.first_seq;
  std::unique_ptr<Ring> ring(
      new Ring(std::move(memory), 0, 0, std::move(control)));
  ring->progress_ = std::move(progress);
  return ring;
}

Ring::Ring(std::unique_ptr<RingMemory> memory, std::size_t room_all,
           std::size_t room_ordinary, std::shared_ptr<RingControl> control)
    : memory_(std::move(memory)),
      control_owner_(std::move(control)),
      control_(control_owner_.get()),
      capacity_(memory_->size()),
      room_all_(room_all),
      room_ordinary_(room_ordinary),
      head_(control_->published.load(std::memory_order_relaxed)),
      next_seq_(control_->last_seq.load(std::memory_order_relaxed) + 1),
      tail_cached_(control_->tail.load(std::memory_order_relaxed)) {}

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
    tail_cached_ = control_->tail.load(std::memory_order_acquire);
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
  control_->published.store(head_, std::memory_order_release);
  control_->last_seq.store(next_seq_ - 1, std::memory_order_release);
}

void Ring::Abandon() noexcept {
  head_ = control_->published.load(std::memory_order_relaxed);
  next_seq_ = control_->last_seq.load(std::memory_order_relaxed) + 1;
}

std::size_t Ring::FreeBytes(Room room) noexcept {
  tail_cached_ = control_->tail.load(std::memory_order_acquire);
  const std::size_t limit = RoomBytes(room);
  const std::size_t used = head_ - tail_cached_;
  return used < limit ? limit - used : 0;
}

Ring::Cursor Ring::CursorAt(std::uint64_t seq) const noexcept {
  Cursor cursor;
  cursor.position_ = control_->tail.load(std::memory_order_relaxed);
  for (std::uint64_t at = first_seq(); at < seq; ++at) {
    EntryView ignored;
    if (!Next(&cursor, &ignored)) break;
  }
  return cursor;
}

bool Ring::Next(Cursor* cursor, EntryView* entry) const noexcept {
  if (cursor->position_ ==
      control_->published.load(std::memory_order_acquire)) {
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
  for (RingControl* control : {control_, progress_.get()}) {
    if (control == nullptr) continue;
    // The order counts; see the header.
    control->first_seq.store(next_seq, std::memory_order_release);
    control->tail.store(cursor.position_, std::memory_order_release);
  }
}

// The place of `seq`, or the end if that is before it: by walking from the
// nearest that is known.
Ring::Place* Ring::FindPlace(std::uint64_t seq) noexcept {
  Place from{first_seq(), {}};
  from.cursor.position_ = control_->tail.load(std::memory_order_relaxed);
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
  if (seq < first_seq()) return false;
  const Place* const place = FindPlace(seq);
  Cursor cursor = place->cursor;
  return place->seq == seq && Next(&cursor, entry);
}

std::size_t Ring::BytesFrom(std::uint64_t seq) noexcept {
  return BytesAfter(FindPlace(std::max(seq, first_seq()))->cursor);
}

void Ring::MarkRejected(std::uint64_t seq) noexcept {
  EntryView entry;
  if (Read(seq, &entry)) MarkRejected(entry);
}

void Ring::FreeBefore(std::uint64_t next_seq) noexcept {
  if (next_seq <= first_seq()) return;
  const Place place = *FindPlace(next_seq);
  FreeBefore(place.cursor, place.seq);
  for (Place& old : places_) {
    if (old.seq < first_seq()) old = {};
  }
}

}  // namespace gradtap::agent
