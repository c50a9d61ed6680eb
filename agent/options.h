// What the agent runs with: the program's options, overruled by the
// environment, completed and checked.
//
// Layer: agent. This file: std.

#ifndef GRADTAP_AGENT_OPTIONS_H_
#define GRADTAP_AGENT_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "agent/include/gradtap/agent.h"

namespace gradtap::agent {

// An environment variable's value, or null. An empty one counts as not set.
using Environment = std::function<const char*(const char* name)>;

// What a default run name is made of.
struct ProcessFacts {
  std::string program;
  std::string host;
  std::int64_t unix_seconds = 0;
};

struct Settings {
  // Complete: collector is HOST:PORT, run is valid, rank and world_size are
  // not negative, tags are within limits.
  AgentOptions options;
  // Shared by the ranks of one launch, at most 128 bytes; empty: none is known.
  std::string launch;
  bool disabled = false;
  bool log_off = false;
  // GRADTAP_RING_FOLDER: where the ring's file is made. Empty: nowhere ("off").
  std::string ring_folder;
  // GRADTAP_FORCE_DEVICE_PATH=1, for debugging.
  bool force_device_path = false;
  // Something was ignored; the agent records all the same.
  std::vector<std::string> problems;
  // Not empty: the agent must not record.
  std::vector<std::string> errors;
};

// GRADTAP_DISABLED=1 looks at nothing else. Reads a file only if
// GRADTAP_TOKEN_FILE or the program names one. Never puts the token into a
// message.
Settings ResolveSettings(AgentOptions options, const Environment& environment,
                         const ProcessFacts& process);

// Whom the steps are for. Empty: any, since it is offline and was told of none
// (the default counts as none).
std::string MeantFor(const AgentOptions& complete);

// "HOST:PORT", or "unix:/PATH" as it is, from "HOST:PORT", "HOST", ":PORT",
// "[V6]:PORT", "[V6]" or a bare V6; empty if it is none of these.
std::string CompleteAddress(const std::string& address);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_OPTIONS_H_
