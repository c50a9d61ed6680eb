// The loops over values, for the widest vectors that the machine has. Machines
// agree on what they give, bit for bit.
//
// Layer: server/store/rollup. Pure functions; any thread may call them.

#ifndef GRADTAP_SERVER_STORE_ROLLUP_KERNELS_H_
#define GRADTAP_SERVER_STORE_ROLLUP_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "server/store/rollup/entry.h"

namespace gradtap::server::rollup {

// Runs of this length have a loop of their own.
inline constexpr std::size_t kKernelRun = 64;

// What RollupOf() gives for a run of kKernelRun values, all present; false if
// one is not finite, and `*entry` then holds anything.
bool SummarizeRun(const float* values, RollupEntry* entry);

// out[i] = sqrt_n * hypot(std[i], mean[i]), rounded to float32 as every way of
// computing it in double rounds that errs by less than 2^-48 of it. Where ways
// could differ, and where it is not finite, i is appended to `unsure`, which
// has room for `count`. Returns how many.
std::size_t L2Column(const float* std, const float* mean, double sqrt_n,
                     std::size_t count, float* out, std::uint32_t* unsure);

// The same of hypot(std[i], mean[i]) / hypot(weight_std[i], weight_mean[i]).
std::size_t RatioColumn(const float* std, const float* mean,
                        const float* weight_std, const float* weight_mean,
                        std::size_t count, float* out, std::uint32_t* unsure);

}  // namespace gradtap::server::rollup

#endif  // GRADTAP_SERVER_STORE_ROLLUP_KERNELS_H_
