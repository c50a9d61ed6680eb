// A bounded byte ring from the training thread to the delivery thread.
//
// The producer never waits: a record that does not fit is refused. Seqs are
// given here, at admission, so they have no holes. The consumer reads entries
// as often as it likes, from any seq still at hand, and frees them in order.
//
// Layout of one entry, at a multiple of 8 bytes: EntryHeader, then `size` bytes
// of an encoded gradtap.v1.Record, then padding to 8.
//
// Layer: agent/delivery. This file: std, absl, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_RING_H_
#define GRADTAP_AGENT_DELIVERY_RING_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/delivery/record_source.h"
#include "agent/delivery/ring_memory.h"
#include "agent/entry.h"

namespace gradtap::agent {

struct EntryHeader {
  std::uint64_t seq = 0;
  std::uint32_t size = 0;
  // Written by the consumer alone, after publication.
  std::uint32_t rejected = 0;
  EntryMeta meta;
};

// [Threading] One producer thread, one consumer thread; last_seq() and
// capacity_bytes() any thread. No call locks, allocates or enters the kernel.
class Ring : public RecordSource {
 public:
  enum class Room {
    kOrdinary,  // All but the reserve.
    kAll,       // The reserve too: for what must get in at the end.
  };

  // `reserve_bytes` must be below half of the memory's size.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(
      std::unique_ptr<RingMemory> memory, std::size_t reserve_bytes);

  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // ---- Producer.

  // Room for a record of `size` bytes, to be filled before Publish(); null if
  // there is none. Several may be reserved before one Publish().
  char* Reserve(const EntryMeta& meta, std::size_t size, Room room) noexcept;
  // Makes all that was reserved visible at once.
  void Publish() noexcept;
  // Takes back all that was reserved since the last Publish().
  void Abandon() noexcept;
  // Free at this moment; may grow at any time.
  std::size_t FreeBytes(Room room) noexcept;
  // What a record of `size` bytes takes.
  static std::size_t EntryBytes(std::size_t size);

  // ---- Consumer.

  // Where the next Next() reads; made by CursorAt(). Valid until what it stands
  // at is freed.
  class Cursor {
   private:
    friend class Ring;
    std::uint64_t position_ = 0;
  };

  // Seq of the oldest entry at hand; last_seq() + 1 if there is none.
  std::uint64_t first_seq() const override { return first_seq_; }
  // A cursor before `seq`, which is in [first_seq(), last_seq() + 1]; outside
  // of it, the nearer end. Walks the entries before it.
  Cursor CursorAt(std::uint64_t seq) const noexcept;
  // False at the end of what is published.
  bool Next(Cursor* cursor, EntryView* entry) const noexcept;
  // Bytes that are published and `cursor` has not passed.
  std::size_t BytesAfter(const Cursor& cursor) const noexcept {
    return published_.load(std::memory_order_acquire) - cursor.position_;
  }
  // Marks the entry that Next() has just returned.
  void MarkRejected(const EntryView& entry) noexcept;
  // Frees all entries that `cursor` has passed; `next_seq` is the seq of the
  // first that it has not.
  void FreeBefore(const Cursor& cursor, std::uint64_t next_seq) noexcept;

  // The same by seq. Two places are remembered: where the session sends, and
  // what it frees.
  bool Read(std::uint64_t seq, EntryView* entry) noexcept override;
  std::size_t BytesFrom(std::uint64_t seq) noexcept override;
  void MarkRejected(std::uint64_t seq) noexcept override;
  void FreeBefore(std::uint64_t next_seq) noexcept override;

  // ---- Any thread.

  std::uint64_t last_seq() const override {
    return last_seq_.load(std::memory_order_acquire);
  }
  std::size_t capacity_bytes() const { return capacity_; }
  // FreeBytes() of an empty ring.
  std::size_t RoomBytes(Room room) const {
    return room == Room::kAll ? capacity_ : capacity_ - reserve_;
  }

 private:
  Ring(std::unique_ptr<RingMemory> memory, std::size_t reserve_bytes);

  struct Place {
    std::uint64_t seq = 0;  // 0: none.
    Cursor cursor;          // Before it.
  };

  EntryHeader* HeaderAt(std::uint64_t position) const;
  Place* FindPlace(std::uint64_t seq) noexcept;

  const std::unique_ptr<RingMemory> memory_;
  const std::size_t capacity_;
  const std::size_t reserve_;

  // Positions count bytes since the start and only grow.
  alignas(64) std::atomic<std::uint64_t> published_{0};  // Producer writes.
  std::atomic<std::uint64_t> last_seq_{0};               // Producer writes.
  std::uint64_t head_ = 0;         // Producer's: after what it reserved.
  std::uint64_t next_seq_ = 1;     // Producer's.
  std::uint64_t tail_cached_ = 0;  // Producer's.

  alignas(64) std::atomic<std::uint64_t> tail_{0};  // Consumer writes.
  std::uint64_t first_seq_ = 1;                     // Consumer's.
  std::array<Place, 2> places_;                     // Consumer's.
  int newest_ = 0;                                  // Of places_, consumer's.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_RING_H_
