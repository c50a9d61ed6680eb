// What launchers tell a process about its place in a job.
//
// Layer: agent. This file: std.

#ifndef GRADTAP_AGENT_LAUNCH_H_
#define GRADTAP_AGENT_LAUNCH_H_

#include <string>
#include <vector>

#include "agent/options.h"

namespace gradtap::agent {

// -1: not told.
struct Place {
  int rank = -1;
  int world_size = -1;
};

// RANK and WORLD_SIZE, else OpenMPI's, PMI's, Slurm's: the first launcher that
// tells a rank. What does not parse is reported and passed over.
Place PlaceInJob(const Environment& environment,
                 std::vector<std::string>* problems);

// GRADTAP_LAUNCH, else the launcher's id with its restart count: torchelastic,
// Slurm, PMIx, PBS, LSF. Empty: none of them. At most 128 bytes: a longer one
// ends in a hash of the whole.
std::string LaunchKey(const Environment& environment);

// The launcher's job id as a run name; empty: none.
std::string JobRunName(const Environment& environment);

// Text as a run name: other characters become '_', cut at 128.
std::string ToRunName(const std::string& text);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_LAUNCH_H_
