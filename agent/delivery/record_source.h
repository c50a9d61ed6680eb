// Where a session takes records from: by seq, oldest first, until the collector
// has them.
//
// Layer: agent/delivery. This file: std; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_RECORD_SOURCE_H_
#define GRADTAP_AGENT_DELIVERY_RECORD_SOURCE_H_

#include <cstddef>
#include <cstdint>

#include "agent/entry.h"

namespace gradtap::agent {

// [Threading] One thread, the session's, but last_seq(): any.
class RecordSource {
 public:
  virtual ~RecordSource() = default;

  // Seq of the oldest record at hand; last_seq() + 1 if there is none.
  virtual std::uint64_t first_seq() const = 0;
  virtual std::uint64_t last_seq() const = 0;

  // The record of `seq`. Its bytes stand until the next call that is not const.
  // False if it is not at hand, or cannot be read at this moment. Cheap if
  // `seq` follows the one that was read last, or is the oldest.
  virtual bool Read(std::uint64_t seq, EntryView* entry) = 0;
  // Bytes at hand from `seq` on, nearly.
  virtual std::size_t BytesFrom(std::uint64_t seq) = 0;

  // The collector has refused it for good: Read() says so from now on.
  virtual void MarkRejected(std::uint64_t seq) = 0;
  // The collector has the records before `next_seq`, some of which this session
  // has not sent: it got them from elsewhere, or from an earlier session. What
  // is told of a hole there is told of those from `next_seq` on.
  virtual void NoteDelivered(std::uint64_t /*next_seq*/) {}
  // The records before `next_seq`, which is at most last_seq() + 1, are not
  // needed any more.
  virtual void FreeBefore(std::uint64_t next_seq) = 0;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_RECORD_SOURCE_H_
