// The loops over one series that decoding and encoding spend their time in, for
// the widest vectors that the machine has. What decoding uses is exact integer
// arithmetic, or float conversions and additions in a fixed order: machines
// agree on it.
//
// Arrays may be read and written up to kLanePadding elements (of symbols and
// low bits: bytes) beyond `count`.
//
// Layer: server/store/tile. Pure functions; any thread may call them.

#ifndef GRADTAP_SERVER_STORE_TILE_KERNELS_H_
#define GRADTAP_SERVER_STORE_TILE_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "server/store/tile/series.h"

namespace gradtap::server::tile {

inline constexpr std::size_t kLanePadding = 32;

// residuals[i] from the symbol and the `shift` low bits of each; of a marked
// series the symbol's mark is left out. `shift` is at most kMaxShift.
// What an escape gives means nothing.
void JoinResiduals(const std::uint8_t* symbols, bool marked, const char* low,
                   unsigned shift, std::size_t count, std::uint32_t* residuals);

// Turns residuals into values, in place, going on from where `*predictor` is.
void RunFilter(std::uint8_t filter, Predictor* predictor, std::size_t count,
               std::uint32_t* values);

// values[i] + terms[i] as ordered integers, to floats' bits. No terms: zeros.
void OrderedToBits(const std::uint32_t* values, const std::uint32_t* terms,
                   std::size_t count, std::uint32_t* bits);

// Multiples of 2^unit to floats' bits without those below the unit, and how
// many of them follow: all, and where the multiple is 0, all 32 of the float;
// of a marked series what the symbol's mark says. `up` is how far up they
// belong. Returns the sum of how many.
std::size_t FixedPointToBits(const std::uint32_t* heads, int unit, bool marked,
                             const std::uint8_t* symbols, std::size_t count,
                             std::uint32_t* bits, std::uint32_t* tails,
                             std::uint32_t* up);

// Adds to each so many bits, which begin at the bit `position` of `data`.
void AddTails(const char* data, std::size_t position,
              const std::uint32_t* tails, const std::uint32_t* up,
              std::size_t count, std::uint32_t* bits);

// terms[i]: the part of an ordered integer that scale[i] accounts for, `aux`
// being 32 times its share.
void ScaleTerms(const std::uint32_t* scale, std::int16_t aux, std::size_t count,
                std::uint32_t* terms);
// terms[i]: the start and the increments up to the i-th, the first left out.
void SumTerms(const SeriesPlan& plan, const std::uint32_t* increments,
              std::size_t count, std::uint32_t* terms);

// ---- For encoding ----

// values[i] less what the filter expects, going on from where `*predictor` is.
void FilterResiduals(std::uint8_t filter, Predictor* predictor,
                     const std::uint32_t* values, std::size_t count,
                     std::uint32_t* residuals);

// About the mean of log2(1 + |residual|), the residual less `share` of another;
// 0 of nothing. Estimates: machines may disagree on them.
double MeanLog(const std::uint32_t* residuals, std::size_t count);
double MeanLogWithout(const std::uint32_t* residuals,
                      const std::uint32_t* others, float share,
                      std::size_t count);

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_KERNELS_H_
