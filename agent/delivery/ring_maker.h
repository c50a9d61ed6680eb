// Gives a process its ring: in a file where one can be made, else in memory.
//
// Layer: agent/delivery. This file: std, absl; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_RING_MAKER_H_
#define GRADTAP_AGENT_DELIVERY_RING_MAKER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/delivery/ring.h"
#include "agent/delivery/ring_file.h"

namespace gradtap::agent {

// Kept for the end of the stream; an eighth of a small ring.
inline constexpr std::uint64_t kRingReserveBytes = 64 * 1024;

struct MadeRing {
  std::unique_ptr<RingFile> file;  // Null: memory. Outlives the ring.
  std::unique_ptr<Ring> ring;
  // For people: "PATH, survives the process" or "memory only: WHY".
  std::string place;
};

// A process that is killed leaves all the memory of its ring. Of such in
// `folder` empty ones go, and of others pages that hold no record; of 256 at
// most. What a living process has, or somebody delivers, is passed over.
void GiveBackDeadRings(const std::string& folder);

// Of at least `bytes`; what dead ones hold for nothing is given back before. An
// empty `options.folder`: memory; its sizes are not
// looked at. kResourceExhausted: there is no memory either.
absl::StatusOr<MadeRing> MakeRing(RingFileOptions options, std::uint64_t bytes);

// When nothing is put any more, though the consumer may still be at work: a
// file whose ring is empty goes, with its error if it does not; of another one
// the records stay. `file` may be null.
absl::Status SettleRingFile(RingFile* file, const Ring& ring);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_RING_MAKER_H_
