// Where spools are if nobody says otherwise.
//
// Layer: agent/spool. This file: std. Pure.

#ifndef GRADTAP_AGENT_SPOOL_DEFAULT_ROOT_H_
#define GRADTAP_AGENT_SPOOL_DEFAULT_ROOT_H_

#include <string>

namespace gradtap::agent {

// From the values of XDG_STATE_HOME and HOME, which may be null. Empty: there
// is no such place. What is no absolute path is passed over.
inline std::string DefaultSpoolRoot(const char* xdg_state_home,
                                    const char* home) {
  if (xdg_state_home != nullptr && xdg_state_home[0] == '/') {
    return std::string(xdg_state_home) + "/gradtap/spool";
  }
  if (home != nullptr && home[0] == '/') {
    return std::string(home) + "/.local/state/gradtap/spool";
  }
  return {};
}

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SPOOL_DEFAULT_ROOT_H_
