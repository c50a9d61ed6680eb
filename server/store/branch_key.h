// Which branch of which stream of which run: the beginning of most keys.
//
// Layer: server/store. Plain data.

#ifndef GRADTAP_SERVER_STORE_BRANCH_KEY_H_
#define GRADTAP_SERVER_STORE_BRANCH_KEY_H_

#include <cstdint>

#include "server/store/store.h"

namespace gradtap::server {

struct BranchKey {
  std::uint64_t run_id = 0;
  StreamId stream = 0;
  std::uint32_t branch = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_BRANCH_KEY_H_
