// One process for each rank, as a launcher would start them.
//
// Layer: examples. This file: std; no torch.

#ifndef GRADTAP_EXAMPLES_DATA_PARALLEL_SPAWN_H_
#define GRADTAP_EXAMPLES_DATA_PARALLEL_SPAWN_H_

namespace examples {

// Starts this program `ranks` times with the same arguments and `--store FILE`;
// RANK, LOCAL_RANK and WORLD_SIZE tell each its place, and GRADTAP_LAUNCH
// (unless it is set) that they belong together. Waits for all; what
// Interrupted() sees, they are told. Returns 0, or the exit code of the first
// that failed; then the others are told to end.
//
// Call it before the first thread is started.
int Spawn(int ranks, char** argv);

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_DATA_PARALLEL_SPAWN_H_
