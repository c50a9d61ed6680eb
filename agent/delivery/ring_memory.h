// The memory of a ring: mapped twice, back to back, so that what wraps around
// the end is still contiguous.
//
// Layer: agent/delivery. This file: std, absl; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_RING_MEMORY_H_
#define GRADTAP_AGENT_DELIVERY_RING_MEMORY_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"

namespace gradtap::agent {

// Not thread-safe by itself; the ring says who may touch which bytes. Not
// inherited by a forked child: the parent never pays for copy-on-write.
class RingMemory {
 public:
  // Anonymous memory of at least `bytes`, rounded up to pages, all of it
  // present (prefaulted). kResourceExhausted if the system does not give that
  // much.
  static absl::StatusOr<std::unique_ptr<RingMemory>> Create(std::size_t bytes);

  // Maps `bytes` of an open file from `offset` on (multiples of the page size).
  // The descriptor stays the caller's to close. `present`: with all of its
  // pages, those that the file lacks too.
  static absl::StatusOr<std::unique_ptr<RingMemory>> MapFile(
      int fd, std::size_t bytes, std::size_t offset = 0, bool present = true);

  ~RingMemory();
  RingMemory(const RingMemory&) = delete;
  RingMemory& operator=(const RingMemory&) = delete;

  // data()[i] and data()[i + size()] are the same byte, for i in [0, size()).
  char* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  RingMemory(char* data, std::size_t size);

  char* const data_;
  const std::size_t size_;
  const int process_;  // That has it mapped.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_RING_MEMORY_H_
