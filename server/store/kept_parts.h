// What a store keeps of a record whose last part has not come.
//
// Layer: server/store. Plain data.

#ifndef GRADTAP_SERVER_STORE_KEPT_PARTS_H_
#define GRADTAP_SERVER_STORE_KEPT_PARTS_H_

#include <cstdint>

namespace gradtap::server {

// Of one stream. Their seqs follow one another.
struct KeptParts {
  std::uint64_t first_seq = 0;
  std::uint64_t last_seq = 0;
  std::uint64_t parts = 0;  // 0: there are none.
  std::uint64_t bytes = 0;  // Of StreamCommit::Part::data.

  // False: some are missing between, which no commit leaves.
  bool whole() const { return parts == 0 || last_seq - first_seq == parts - 1; }
  void Add(std::uint64_t seq, std::uint64_t size) {
    if (parts++ == 0) first_seq = seq;
    last_seq = seq;
    bytes += size;
  }
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_KEPT_PARTS_H_
