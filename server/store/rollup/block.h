// Blocks of entries as bytes: some parameters x some runs of one statistic, in
// about ten bytes an entry.
//
//   block  := form:u8 [shape] body
//   form   := bits 0 to 3: RollupForm; bit 4: a shape follows; bit 5 (kPacked
//             alone): exceptions follow; the others are zero
//   shape  := parameters, steps, run: varints (core/wire.h); without it the
//             block is of kRollupParameters x 256 steps in runs of 64
//   body   := kPacked:  a stream of bits: head, widths, firsts, numbers,
//                       exceptions
//             kUniform: value:u32, which every entry has at all its steps
//             kZero:    nothing; kUniform of 0
//             kAbsent:  nothing; every value is absent
//   head   := start:8 first:6, then for each of change, up, low least:5 more:3
//   widths := for each parameter: offsets:1, 1: it has offsets; then for each
//             of change, up, low how much its width is above `least`, in `more`
//             bits. A width is at most 32
//   firsts := for each parameter its first entry's max less start * 2^24, in
//             `first` bits, at most 32
//   numbers := for each parameter: of each entry but the first, its max less
//             the one before, zig-zag (change); of all entries max - mean (up);
//             of all mean - min (low); if it has offsets, of all min_at, then
//             of all max_at. Floats are ordered integers (tile/bits.h),
//             differences are modulo 2^32. Offsets have as many bits as the
//             largest in a run takes; where there are none they are 0
//   exceptions := for each entry a bit, 1: it is one; then for each exception
//             kind:2, and what it has of
//               nonfinite := nonfinite - 1, nonfinite_at, value:2 [bits:32]
//               absent    := absent - 1, absent_at
//             kind 0: all is absent, and nothing follows; 1: nonfinite; 2:
//             absent; 3: both. Counts and offsets have as many bits as an
//             offset. Value 0: the quiet NaN 0x7fc00000; 1: inf; 2: -inf; 3:
//             its bits follow
//
// An entry that has no finite value has the max of the one before it (the first
// ones: of the first that has one; none having one, any), that as its mean and
// min, and the offsets 0. The last byte is filled with zeros. Integers are
// little-endian, bits begin at each byte's lowest. Existing forms never change
// their meaning.
//
// Nothing is checksummed: the store's blocks are. Bytes are untrusted all the
// same: damage is kDataLoss or wrong values, never more; offsets and counts
// always fit their runs, and memory is bounded by kMaxRollupEntries.
//
// Layer: server/store/rollup. std, absl, core.

#ifndef GRADTAP_SERVER_STORE_ROLLUP_BLOCK_H_
#define GRADTAP_SERVER_STORE_ROLLUP_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/rollup/entry.h"

namespace gradtap::server {

// The shape that costs no bytes.
inline constexpr std::uint32_t kRollupParameters = 8;
inline constexpr std::uint32_t kRollupSteps = 256;
inline constexpr std::uint32_t kRollupRun = 64;
// Of one block.
inline constexpr std::uint32_t kMaxRollupEntries = 1u << 16;

enum class RollupForm : std::uint8_t {
  kPacked = 1,
  kUniform = 2,
  kZero = 3,
  kAbsent = 4,
};

struct RollupShape {
  std::uint32_t parameters = kRollupParameters;
  std::uint32_t steps = kRollupSteps;
  std::uint32_t run = kRollupRun;  // Of each entry; the last has the rest.

  std::uint32_t runs() const {
    return steps / run + (steps % run != 0 ? 1u : 0u);
  }
  std::uint32_t StepsOf(std::uint32_t entry) const {
    return entry + 1 < runs() ? run : steps - entry * run;
  }
  friend bool operator==(const RollupShape&, const RollupShape&) = default;
};

// Bytes of entries, that of parameter p and run e standing at p * runs() + e.
// What an entry does not have (entry.h) is not looked at. kInvalidArgument if
// the shape is empty, has more than kMaxRollupEntries entries or
// kMaxRollupRun steps a run, or if an entry's counts or offsets do not fit
// its run.
absl::StatusOr<std::string> EncodeRollups(const RollupShape& shape,
                                          std::span<const RollupEntry> entries);

// What a heat map shows of a run.
enum class RollupWorst : std::uint8_t {
  kMax,        // The largest value.
  kMagnitude,  // Of the smallest and the largest that of larger magnitude; the
               // largest if they are equal in that.
};
inline constexpr std::uint8_t kRollupHasNonfinite = 1;
inline constexpr std::uint8_t kRollupHasAbsent = 2;

// Reads a block. Keeps its memory: use one for many blocks. Open() comes first;
// reading returns kDataLoss if the bytes are not a block's, and what was read
// is anything then. One thread at a time.
class RollupReader {
 public:
  // Takes a copy: `bytes` need not stay.
  absl::Status Open(std::string_view bytes);
  const RollupShape& shape() const { return shape_; }

  // The shape().runs() entries of a parameter. kInvalidArgument if there is no
  // such parameter.
  absl::Status Read(std::uint32_t parameter, RollupEntry* entries);
  // All, ordered as EncodeRollups() takes them.
  absl::Status ReadAll(std::vector<RollupEntry>* entries);
  // One value an entry, in that order: NaN if it has none that is finite. And
  // in `flags` the kRollupHas* bits of each.
  absl::Status ReadWorst(RollupWorst which, float* values, std::uint8_t* flags);

 private:
  // Of a parameter's numbers, and at which bits they begin.
  struct Layout {
    std::uint8_t change = 0, up = 0, low = 0;
    bool offsets = false;
    std::uint32_t first_at = 0, changes_at = 0, ups_at = 0, lows_at = 0,
                  offsets_at = 0;
  };
  // An entry that has more or less than finite values.
  struct Exception {
    std::uint32_t entry = 0;  // Its place among all.
    RollupEntry counts = {};  // min, max, mean and their offsets aside.
  };

  class Cursor;

  absl::Status TakeShape(std::string_view* rest);
  bool TakePacked();
  bool TakeLayouts(Cursor* from);
  bool TakeExceptions(Cursor* from);
  bool TakeException(std::uint32_t steps, Cursor* from,
                     RollupEntry* counts) const;
  std::uint32_t Bits(std::size_t position, unsigned count) const;
  // As shape_ says, without a division.
  std::uint32_t StepsAt(std::uint32_t run) const {
    return run + 1 < runs_ ? shape_.run : last_steps_;
  }
  bool ReadPacked(std::uint32_t parameter, RollupEntry* entries) const;
  void PutExceptions(std::uint32_t first, std::uint32_t count,
                     RollupEntry* entries) const;
  template <bool kMagnitude>
  void ReadWorstPacked(float* values) const;

  RollupForm form_ = RollupForm::kZero;
  RollupShape shape_;
  std::uint32_t runs_ = 0;
  std::uint32_t last_steps_ = 0;
  unsigned offset_bits_ = 0;
  bool has_exceptions_ = false;
  std::uint32_t uniform_ = 0;  // The value's bits.
  // Of kPacked.
  std::vector<char> bits_;  // And as many more as reading a number may touch.
  std::size_t bits_end_ = 0;
  std::uint32_t start_ = 0;
  unsigned first_width_ = 0;
  std::vector<Layout> layouts_;        // Of its parameters.
  std::vector<Exception> exceptions_;  // By entry.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_ROLLUP_BLOCK_H_
