// The executor of fused reductions on CUDA; only where LibTorch has CUDA.
//
// Layer: agent/capture. This file: std alone.

#ifndef GRADTAP_AGENT_CAPTURE_FUSED_CUDA_H_
#define GRADTAP_AGENT_CAPTURE_FUSED_CUDA_H_

#include "agent/capture/fused_table.h"

namespace gradtap::agent::fused {

// False: the kernels were not compiled for the kind of the current device.
bool RunsOnCurrentDevice();

// Enqueues `launch`, whose memory is the current device's, on `stream`, a
// cudaStream_t of that device. Waits for nothing and allocates nothing. Returns
// null, or what CUDA says is wrong, a text that stays.
const char* EnqueueOnCuda(const Launch& launch, void* stream);

}  // namespace gradtap::agent::fused

#endif  // GRADTAP_AGENT_CAPTURE_FUSED_CUDA_H_
