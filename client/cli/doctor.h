// What `gradtap doctor` finds out: why an agent on this host does not deliver,
// or would not.
//
// The checks ask the world (doctor_world.h) and the agent's own reading of its
// variables (agent/options.h), and print nothing.
//
// Layer: client/cli. Of the agent it sees what says where its ring and its
// spool are.

#ifndef GRADTAP_CLIENT_CLI_DOCTOR_H_
#define GRADTAP_CLIENT_CLI_DOCTOR_H_

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "client/cli/doctor_world.h"

namespace gradtap::client {

struct Finding {
  enum class Level {
    kOk,
    kNote,     // It works, with less, or is worth knowing.
    kProblem,  // An agent does not record, or does not deliver, or loses steps.
  };
  std::string check;  // "environment", "collector", "tls", ...
  Level level = Level::kOk;
  // One line each, harmless on a terminal; no token is in them.
  std::string what;
  std::string advice;  // What to do; empty: nothing.
  // The problem is that nobody answers at the collector's address.
  bool unreachable = false;
};

struct DoctorOptions {
  // What the command line says in place of variables, by their names.
  std::map<std::string, std::string> given;
  std::chrono::milliseconds connect_deadline{5000};
  std::chrono::milliseconds deadline{60000};
};

// Waits for name servers, disks and the collector, one after the other. At
// least one finding of each check that applies, in their order.
std::vector<Finding> Examine(World* world, const DoctorOptions& options);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_DOCTOR_H_
