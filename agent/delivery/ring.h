// A bounded byte ring from the training thread to the delivery thread.
//
// The producer never waits: a record that does not fit is refused. Seqs are
// given here, at admission, so they have no holes. The consumer reads entries
// as often as it likes, from any seq still at hand, and frees them in order.
//
// Layout of one entry, at a multiple of 8 bytes: EntryHeader, then `size` bytes
// of an encoded gradtap.v1.Record, then padding to 8.
//
// Bytes and control words may lie in a file (ring_file.h) and outlive the
// process. It may die at any instruction; whoever reads then relies on the
// order of the stores:
// - Producer: header and bytes of an entry, then `published`, then `last_seq`.
//   So all before `published` is complete, and `last_seq` may be behind: the
//   entries say what it should be. What was reserved lies at and beyond
//   `published`; nobody looks there.
// - Consumer: `first_seq`, then `tail`; the producer writes over an entry only
//   after it has seen `tail` pass. So all from `tail` to `published` is intact,
//   and `first_seq` may be ahead: the entry at `tail` has its own seq. If there
//   is none, `first_seq` is right.
// A killed thread has executed a prefix of its instructions, and the compiler
// keeps each release store behind what precedes it: no barrier is needed.
//
// Layer: agent/delivery. This file: std, absl, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_RING_H_
#define GRADTAP_AGENT_DELIVERY_RING_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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

// The words that both sides share. Positions count bytes since the start and
// only grow.
struct RingControl {
  // Written by the producer.
  alignas(64) std::atomic<std::uint64_t> published{0};
  std::atomic<std::uint64_t> last_seq{0};
  // Written by the consumer.
  alignas(64) std::atomic<std::uint64_t> tail{0};
  std::atomic<std::uint64_t> first_seq{1};
};

// What a ring holds whose producer is gone.
struct RingContents {
  std::uint64_t tail = 0;       // Position of the first entry.
  std::uint64_t end = 0;        // After the last one.
  std::uint64_t first_seq = 1;  // last_seq + 1: none.
  std::uint64_t last_seq = 0;
  // What is wrong, in words. The entries from there on are not in it.
  std::vector<std::string> problems;
};

// [Threading] One producer thread, one consumer thread; last_seq() and
// capacity_bytes() any thread. No call locks, allocates or enters the kernel.
class Ring : public RecordSource {
 public:
  enum class Room {
    kOrdinary,  // All but the reserve.
    kAll,       // The reserve too: for what must get in at the end.
  };

  // An empty one. `reserve_bytes` must be below half of the memory's size.
  // `control` is as constructed, and its owner as well as the ring keep it;
  // without it the words are on the heap.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(
      std::unique_ptr<RingMemory> memory, std::size_t reserve_bytes,
      std::shared_ptr<RingControl> control = nullptr);

  // Looks at every entry that a producer has left. Any bytes and any words may
  // be there. [Threading] Nobody may write to them meanwhile.
  static RingContents Inspect(const RingMemory& memory,
                              const RingControl& control_untrusted);

  // The consumer's side alone of what Inspect() has found: Reserve() finds no
  // room. What is freed is noted in `progress` too, if there is one.
  static std::unique_ptr<Ring> OpenLeft(std::unique_ptr<RingMemory> memory,
                                        const RingContents& contents,
                                        std::shared_ptr<RingControl> progress);

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
  std::uint64_t first_seq() const override {
    return control_->first_seq.load(std::memory_order_relaxed);
  }
  // A cursor before `seq`, which is in [first_seq(), last_seq() + 1]; outside
  // of it, the nearer end. Walks the entries before it.
  Cursor CursorAt(std::uint64_t seq) const noexcept;
  // False at the end of what is published.
  bool Next(Cursor* cursor, EntryView* entry) const noexcept;
  // Bytes that are published and `cursor` has not passed.
  std::size_t BytesAfter(const Cursor& cursor) const noexcept {
    return control_->published.load(std::memory_order_acquire) -
           cursor.position_;
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
    return control_->last_seq.load(std::memory_order_acquire);
  }
  std::size_t capacity_bytes() const { return capacity_; }
  // FreeBytes() of an empty ring.
  std::size_t RoomBytes(Room room) const {
    return room == Room::kAll ? room_all_ : room_ordinary_;
  }

 private:
  Ring(std::unique_ptr<RingMemory> memory, std::size_t room_all,
       std::size_t room_ordinary, std::shared_ptr<RingControl> control);

  struct Place {
    std::uint64_t seq = 0;  // 0: none.
    Cursor cursor;          // Before it.
  };

  EntryHeader* HeaderAt(std::uint64_t position) const;
  Place* FindPlace(std::uint64_t seq) noexcept;

  const std::unique_ptr<RingMemory> memory_;
  const std::shared_ptr<RingControl> control_owner_;
  RingControl* const control_;
  const std::size_t capacity_;
  const std::size_t room_all_;  // 0: there is no producer.
  const std::size_t room_ordinary_;
  std::shared_ptr<RingControl> progress_;

  // The producer's.
  alignas(64) std::uint64_t head_ = 0;  // After what it reserved.
  std::uint64_t next_seq_ = 1;
  std::uint64_t tail_cached_ = 0;

  // The consumer's.
  alignas(64) std::array<Place, 2> places_;
  int newest_ = 0;  // Of places_.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_RING_H_
