#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/wire.h"
#include "server/store/rollup/block.h"
#include "server/store/rollup/block_bits.h"
#include "server/store/tile/bits.h"

namespace gradtap::server {
namespace {

using tile::FromOrdered;
using tile::Load;
using tile::UnZigZag;

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(
      absl::StrCat("roll-up: ", absl::string_view(what.data(), what.size())));
}

float FloatOf(std::uint32_t ordered) {
  return std::bit_cast<float>(FromOrdered(ordered));
}

RollupEntry UniformEntry(std::uint32_t bits, std::uint32_t steps) {
  RollupEntry entry;
  entry.min = entry.max = entry.mean = std::bit_cast<float>(bits);
  entry.finite = static_cast<std::uint16_t>(steps);
  return entry;
}

RollupEntry AbsentEntry(std::uint32_t steps) {
  RollupEntry entry;
  entry.absent = static_cast<std::uint16_t>(steps);
  return entry;
}

bool TakeNumber(std::string_view* from, std::uint32_t* number) {
  std::uint64_t value = 0;
  if (!wire::ReadVarint(from, &value)) return false;
  *number = static_cast<std::uint32_t>(value);
  return value <= std::numeric_limits<std::uint32_t>::max();
}

}  // namespace

absl::Status RollupReader::TakeShape(std::string_view* rest) {
  shape_ = {};
  if (rest->empty()) return Damaged("no byte");
  const auto head = static_cast<std::uint8_t>(rest->front());
  rest->remove_prefix(1);
  const unsigned form = head & rollup::kFormMask;
  if (form < static_cast<unsigned>(RollupForm::kPacked) ||
      form > static_cast<unsigned>(RollupForm::kAbsent)) {
    return Damaged(absl::StrCat("of an unknown form, ", form));
  }
  form_ = static_cast<RollupForm>(form);
  const unsigned flags = head & ~rollup::kFormMask;
  const unsigned known =
      rollup::kShapeFlag |
      (form_ == RollupForm::kPacked ? rollup::kExceptionsFlag : 0u);
  if ((flags & ~known) != 0) {
    return Damaged(absl::StrCat("of unknown flags, ", flags));
  }
  has_exceptions_ = (flags & rollup::kExceptionsFlag) != 0;
  if ((flags & rollup::kShapeFlag) != 0 &&
      (!TakeNumber(rest, &shape_.parameters) ||
       !TakeNumber(rest, &shape_.steps) || !TakeNumber(rest, &shape_.run))) {
    return Damaged("of no shape");
  }
  if (!rollup::IsShape(shape_)) {
    return Damaged(absl::StrCat("of ", shape_.parameters, " x ", shape_.steps,
                                " steps in runs of ", shape_.run));
  }
  runs_ = shape_.runs();
  last_steps_ = shape_.StepsOf(runs_ - 1);
  offset_bits_ = rollup::OffsetBits(shape_);
  return absl::OkStatus();
}

absl::Status RollupReader::Open(std::string_view bytes) {
  exceptions_.clear();
  if (absl::Status status = TakeShape(&bytes); !status.ok()) return status;
  uniform_ = 0;
  if (form_ == RollupForm::kUniform) {
    if (bytes.size() < sizeof uniform_)
      return Damaged("shorter than its value");
    uniform_ = Load<std::uint32_t>(bytes.data());
    bytes.remove_prefix(sizeof uniform_);
  }
  if (form_ != RollupForm::kPacked) {
    return bytes.empty() ? absl::OkStatus() : Damaged("longer than its value");
  }
  // Positions are 32 bits, and no block is that long.
  if (bytes.size() > rollup::kMaxPackedBytes) return Damaged("too long");
  bits_.resize(std::max(bits_.size(), bytes.size() + sizeof(std::uint64_t)));
  std::memcpy(bits_.data(), bytes.data(), bytes.size());
  bits_end_ = 8 * bytes.size();
  return TakePacked() ? absl::OkStatus()
                      : Damaged(
                            "not as long as its bits, or numbers that do "
                            "not fit");
}

// `count` is at most 32, and there are so many.
inline std::uint32_t RollupReader::Bits(std::size_t position,
                                        unsigned count) const {
  const auto word = Load<std::uint64_t>(bits_.data() + position / 8);
  const std::uint64_t mask = (std::uint64_t{1} << count) - 1;
  return static_cast<std::uint32_t>((word >> (position % 8)) & mask);
}

// Reads numbers one after the other.
class RollupReader::Cursor {
 public:
  explicit Cursor(const RollupReader* reader)
      : reader_(reader), end_(reader->bits_end_) {}

  // False if less than `count` bits are left. At most 32.
  bool Take(unsigned count, std::uint32_t* value) {
    if (count > end_ - position_) return false;
    *value = reader_->Bits(position_, count);
    position_ += count;
    return true;
  }
  bool Skip(std::size_t count) {
    if (count > end_ - position_) return false;
    position_ += count;
    return true;
  }
  std::uint32_t position() const {
    return static_cast<std::uint32_t>(position_);
  }
  // Whether the rest is the zeros that fill the last byte.
  bool AtEnd() const { return end_ - position_ < 8; }

 private:
  const RollupReader* reader_;
  std::size_t end_;
  std::size_t position_ = 0;
};

bool RollupReader::TakePacked() {
  Cursor cursor(this);
  if (!TakeLayouts(&cursor)) return false;
  if (has_exceptions_ && !TakeExceptions(&cursor)) return false;
  return cursor.AtEnd();
}

bool RollupReader::TakeLayouts(Cursor* from) {
  std::uint32_t head = 0;
  if (!from->Take(14, &head)) return false;
  start_ = (head & 255) << 24;
  first_width_ = head >> 8;
  std::array<unsigned, 3> least{}, more{};
  unsigned code_width = 1;
  for (int i = 0; i < 3; ++i) {
    if (!from->Take(8, &head)) return false;
    least[i] = head & 31;
    more[i] = head >> 5;
    code_width += more[i];
  }
  layouts_.resize(shape_.parameters);
  for (Layout& layout : layouts_) {
    std::uint32_t code = 0;
    if (!from->Take(code_width, &code)) return false;
    layout.offsets = (code & 1) != 0;
    code >>= 1;
    unsigned widest = 0;
    int i = 0;
    for (std::uint8_t* width : {&layout.change, &layout.up, &layout.low}) {
      const unsigned of = least[i] + (code & ((1u << more[i]) - 1));
      code >>= more[i++];
      widest = std::max(widest, of);
      *width = static_cast<std::uint8_t>(of);
    }
    if (widest > 32) return false;
  }
  const std::uint32_t firsts_at = from->position();
  if (first_width_ > 32 ||
      !from->Skip(std::size_t{shape_.parameters} * first_width_)) {
    return false;
  }
  for (std::uint32_t p = 0; p < shape_.parameters; ++p) {
    Layout& layout = layouts_[p];
    layout.first_at = firsts_at + p * first_width_;
    layout.changes_at = from->position();
    layout.ups_at = layout.changes_at + (runs_ - 1) * layout.change;
    layout.lows_at = layout.ups_at + runs_ * layout.up;
    layout.offsets_at = layout.lows_at + runs_ * layout.low;
    const std::uint32_t end =
        layout.offsets_at + (layout.offsets ? 2 * runs_ * offset_bits_ : 0);
    if (!from->Skip(end - layout.changes_at)) return false;
  }
  return true;
}

bool RollupReader::TakeException(std::uint32_t steps, Cursor* from,
                                 RollupEntry* counts) const {
  std::uint32_t kind = 0, count = 0, at = 0;
  if (!from->Take(2, &kind)) return false;
  if (kind == rollup::kAllAbsent) {
    *counts = AbsentEntry(steps);
    return true;
  }
  const auto take = [&] {
    return from->Take(offset_bits_, &count) && from->Take(offset_bits_, &at) &&
           count < steps && at < steps;
  };
  if ((kind & rollup::kSomeNonfinite) != 0) {
    std::uint32_t value = 0;
    if (!take() || !from->Take(2, &value)) return false;
    std::uint32_t bits = 0;
    if (value < rollup::kUsualNonfinite.size()) {
      bits = rollup::kUsualNonfinite[value];
    } else if (!from->Take(32, &bits)) {
      return false;
    }
    counts->first_nonfinite = std::bit_cast<float>(bits);
    counts->nonfinite = static_cast<std::uint16_t>(count + 1);
    counts->nonfinite_at = static_cast<std::uint16_t>(at);
  }
  if ((kind & rollup::kSomeAbsent) != 0) {
    if (!take()) return false;
    counts->absent = static_cast<std::uint16_t>(count + 1);
    counts->absent_at = static_cast<std::uint16_t>(at);
  }
  const std::uint32_t taken = counts->steps();
  if (taken > steps) return false;
  counts->finite = static_cast<std::uint16_t>(steps - taken);
  return true;
}

bool RollupReader::TakeExceptions(Cursor* from) {
  const std::uint32_t entries = shape_.parameters * runs_;
  const std::uint32_t marks_at = from->position();
  if (!from->Skip(entries)) return false;
  for (std::uint32_t i = 0; i < entries; ++i) {
    if (Bits(marks_at + i, 1) != 0) exceptions_.push_back({.entry = i});
  }
  for (Exception& exception : exceptions_) {
    const std::uint32_t steps = StepsAt(exception.entry % runs_);
    if (!TakeException(steps, from, &exception.counts)) return false;
  }
  return true;
}

// False if an offset is beyond its run.
bool RollupReader::ReadPacked(std::uint32_t parameter,
                              RollupEntry* entries) const {
  const Layout& layout = layouts_[parameter];
  std::uint32_t change_at = layout.changes_at;
  std::uint32_t up_at = layout.ups_at;
  std::uint32_t low_at = layout.lows_at;
  std::uint32_t max = start_ + Bits(layout.first_at, first_width_);
  for (std::uint32_t e = 0; e < runs_; ++e) {
    if (e != 0) {
      max += UnZigZag(Bits(change_at, layout.change));
      change_at += layout.change;
    }
    const std::uint32_t mean = max - Bits(up_at, layout.up);
    RollupEntry& entry = entries[e];
    entry = {};
    entry.max = FloatOf(max);
    entry.mean = FloatOf(mean);
    entry.min = FloatOf(mean - Bits(low_at, layout.low));
    entry.finite = static_cast<std::uint16_t>(StepsAt(e));
    up_at += layout.up;
    low_at += layout.low;
  }
  if (!layout.offsets) return true;
  std::uint32_t min_at = layout.offsets_at;
  std::uint32_t max_at = min_at + runs_ * offset_bits_;
  bool fits = true;
  for (std::uint32_t e = 0; e < runs_; ++e) {
    RollupEntry& entry = entries[e];
    entry.min_at = static_cast<std::uint16_t>(Bits(min_at, offset_bits_));
    entry.max_at = static_cast<std::uint16_t>(Bits(max_at, offset_bits_));
    min_at += offset_bits_;
    max_at += offset_bits_;
    fits = fits && entry.min_at < entry.finite && entry.max_at < entry.finite;
  }
  return fits;
}

// Of the entries from `first` on.
void RollupReader::PutExceptions(std::uint32_t first, std::uint32_t count,
                                 RollupEntry* entries) const {
  for (const Exception& exception : exceptions_) {
    if (exception.entry < first || exception.entry - first >= count) continue;
    RollupEntry& entry = entries[exception.entry - first];
    const RollupEntry packed = entry;
    entry = exception.counts;
    if (entry.finite == 0) continue;
    entry.min = packed.min;
    entry.max = packed.max;
    entry.mean = packed.mean;
    entry.min_at = packed.min_at;
    entry.max_at = packed.max_at;
  }
}

absl::Status RollupReader::Read(std::uint32_t parameter, RollupEntry* entries) {
  if (parameter >= shape_.parameters) {
    return absl::InvalidArgumentError(absl::StrCat(
        "roll-up: parameter ", parameter, " of ", shape_.parameters));
  }
  if (form_ == RollupForm::kPacked) {
    if (!ReadPacked(parameter, entries)) {
      return Damaged("an offset is beyond its run");
    }
    if (!exceptions_.empty()) {
      PutExceptions(parameter * runs_, runs_, entries);
    }
    return absl::OkStatus();
  }
  for (std::uint32_t e = 0; e < runs_; ++e) {
    const std::uint32_t steps = StepsAt(e);
    entries[e] = form_ == RollupForm::kAbsent ? AbsentEntry(steps)
                                              : UniformEntry(uniform_, steps);
  }
  return absl::OkStatus();
}

absl::Status RollupReader::ReadAll(std::vector<RollupEntry>* entries) {
  entries->resize(std::size_t{shape_.parameters} * runs_);
  for (std::uint32_t p = 0; p < shape_.parameters; ++p) {
    RollupEntry* of = entries->data() + std::size_t{p} * runs_;
    if (absl::Status status = Read(p, of); !status.ok()) return status;
  }
  return absl::OkStatus();
}

template <bool kMagnitude>
void RollupReader::ReadWorstPacked(float* values) const {
  for (const Layout& layout : layouts_) {
    std::uint32_t change_at = layout.changes_at;
    std::uint32_t up_at = layout.ups_at;
    std::uint32_t low_at = layout.lows_at;
    std::uint32_t max = start_ + Bits(layout.first_at, first_width_);
    for (std::uint32_t e = 0; e < runs_; ++e) {
      if (e != 0) {
        max += UnZigZag(Bits(change_at, layout.change));
        change_at += layout.change;
      }
      float worst = FloatOf(max);
      if constexpr (kMagnitude) {
        const std::uint32_t below =
            Bits(up_at, layout.up) + Bits(low_at, layout.low);
        const float min = FloatOf(max - below);
        up_at += layout.up;
        low_at += layout.low;
        if (std::fabs(min) > std::fabs(worst)) worst = min;
      }
      *values++ = worst;
    }
  }
}

absl::Status RollupReader::ReadWorst(RollupWorst which, float* values,
                                     std::uint8_t* flags) {
  const std::size_t entries = std::size_t{shape_.parameters} * runs_;
  const bool absent = form_ == RollupForm::kAbsent;
  std::memset(flags, absent ? kRollupHasAbsent : 0, entries);
  if (form_ != RollupForm::kPacked) {
    std::fill_n(values, entries,
                absent ? kNone : std::bit_cast<float>(uniform_));
    return absl::OkStatus();
  }
  if (which == RollupWorst::kMagnitude) {
    ReadWorstPacked<true>(values);
  } else {
    ReadWorstPacked<false>(values);
  }
  for (const Exception& exception : exceptions_) {
    const RollupEntry& counts = exception.counts;
    if (counts.finite == 0) values[exception.entry] = kNone;
    flags[exception.entry] = static_cast<std::uint8_t>(
        (counts.nonfinite != 0 ? kRollupHasNonfinite : 0) |
        (counts.absent != 0 ? kRollupHasAbsent : 0));
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
