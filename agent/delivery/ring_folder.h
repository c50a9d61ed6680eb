// Where the rings of this user's processes are.
//
// Layer: agent/delivery. This file: std and system headers.

#ifndef GRADTAP_AGENT_DELIVERY_RING_FOLDER_H_
#define GRADTAP_AGENT_DELIVERY_RING_FOLDER_H_

#include <unistd.h>

#include <string>

namespace gradtap::agent {

// "/dev/shm/gradtap-UID".
inline std::string DefaultRingFolder() {
  return "/dev/shm/gradtap-" + std::to_string(::geteuid());
}

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_RING_FOLDER_H_
