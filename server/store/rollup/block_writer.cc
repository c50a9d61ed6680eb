#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/wire.h"
#include "server/store/rollup/block.h"
#include "server/store/rollup/block_bits.h"
#include "server/store/tile/bits.h"

namespace gradtap::server {
namespace {

using rollup::kExceptionsFlag;
using rollup::kShapeFlag;
using rollup::OffsetBits;
using tile::Append;
using tile::BitsOf;
using tile::BitWriter;
using tile::ToOrdered;
using tile::ZigZag;
using wire::AppendVarint;

absl::Status Refused(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("roll-up: ", why));
}

absl::Status CheckShape(const RollupShape& shape, std::size_t entries) {
  if (!rollup::IsShape(shape)) {
    return Refused(absl::StrCat("a block of ", shape.parameters, " x ",
                                shape.steps, " steps in runs of ", shape.run));
  }
  const std::size_t expected = std::size_t{shape.parameters} * shape.runs();
  if (entries == expected) return absl::OkStatus();
  return Refused(absl::StrCat(entries, " entries for a block of ", expected));
}

bool FitsRun(const RollupEntry& entry, std::uint32_t steps) {
  const auto fits = [steps](std::uint16_t count, std::uint16_t at) {
    return count == 0 || at < steps;
  };
  return entry.steps() == steps && fits(entry.finite, entry.min_at) &&
         fits(entry.finite, entry.max_at) &&
         fits(entry.nonfinite, entry.nonfinite_at) &&
         fits(entry.absent, entry.absent_at);
}

bool IsException(const RollupEntry& entry) {
  return entry.nonfinite != 0 || entry.absent != 0;
}

// Whether the entry is one value, at all its steps.
bool IsUniform(const RollupEntry& entry, std::uint32_t value) {
  return !IsException(entry) && BitsOf(entry.min) == value &&
         BitsOf(entry.max) == value && BitsOf(entry.mean) == value &&
         entry.min_at == 0 && entry.max_at == 0;
}

RollupForm FormOf(std::span<const RollupEntry> entries) {
  const std::uint32_t first = BitsOf(entries.front().max);
  if (std::all_of(entries.begin(), entries.end(),
                  [&](const auto& e) { return IsUniform(e, first); })) {
    return first == 0 ? RollupForm::kZero : RollupForm::kUniform;
  }
  if (std::all_of(entries.begin(), entries.end(), [](const auto& e) {
        return e.finite == 0 && e.nonfinite == 0;
      })) {
    return RollupForm::kAbsent;
  }
  return RollupForm::kPacked;
}

// The numbers that an entry is packed as. One without values has the max of the
// one before it.
std::uint32_t MaxOf(const RollupEntry& entry, std::uint32_t before) {
  return entry.finite == 0 ? before : ToOrdered(BitsOf(entry.max));
}
std::uint32_t UpOf(const RollupEntry& entry) {
  return entry.finite == 0
             ? 0
             : ToOrdered(BitsOf(entry.max)) - ToOrdered(BitsOf(entry.mean));
}
std::uint32_t LowOf(const RollupEntry& entry) {
  return entry.finite == 0
             ? 0
             : ToOrdered(BitsOf(entry.mean)) - ToOrdered(BitsOf(entry.min));
}
std::uint32_t MinAtOf(const RollupEntry& entry) {
  return entry.finite == 0 ? 0u : entry.min_at;
}
std::uint32_t MaxAtOf(const RollupEntry& entry) {
  return entry.finite == 0 ? 0u : entry.max_at;
}

// How one parameter's entries are packed.
struct Packed {
  std::span<const RollupEntry> entries;
  std::uint32_t first = 0;           // Without any value: `otherwise`.
  std::array<unsigned, 3> widths{};  // Of change, up, low.
  bool offsets = false;

  Packed(std::span<const RollupEntry> of, std::uint32_t otherwise);
  void Write(unsigned offset_bits, BitWriter* out) const;
};

// The first max that there is, or `otherwise`.
std::uint32_t FirstMax(std::span<const RollupEntry> entries,
                       std::uint32_t otherwise) {
  const auto valued = std::find_if(entries.begin(), entries.end(),
                                   [](const auto& e) { return e.finite != 0; });
  return valued == entries.end() ? otherwise : MaxOf(*valued, otherwise);
}

Packed::Packed(std::span<const RollupEntry> of, std::uint32_t otherwise)
    : entries(of), first(FirstMax(of, otherwise)) {
  std::uint32_t last = first;
  std::uint32_t change = 0, up = 0, low = 0;
  for (const RollupEntry& entry : entries) {
    const std::uint32_t max = MaxOf(entry, last);
    change |= ZigZag(max - last);  // Of the first one 0.
    up |= UpOf(entry);
    low |= LowOf(entry);
    offsets = offsets || (MinAtOf(entry) | MaxAtOf(entry)) != 0;
    last = max;
  }
  const auto width = [](std::uint32_t any) {
    return static_cast<unsigned>(std::bit_width(any));
  };
  widths = {width(change), width(up), width(low)};
}

void Packed::Write(unsigned offset_bits, BitWriter* out) const {
  std::uint32_t last = first;
  for (const RollupEntry& entry : entries.subspan(1)) {
    const std::uint32_t max = MaxOf(entry, last);
    out->Put(ZigZag(max - last), widths[0]);
    last = max;
  }
  for (const RollupEntry& entry : entries) out->Put(UpOf(entry), widths[1]);
  for (const RollupEntry& entry : entries) out->Put(LowOf(entry), widths[2]);
  if (!offsets) return;
  for (const RollupEntry& entry : entries) {
    out->Put(MinAtOf(entry), offset_bits);
  }
  for (const RollupEntry& entry : entries) {
    out->Put(MaxAtOf(entry), offset_bits);
  }
}

// Head, widths and firsts.
void WriteLayout(const std::vector<Packed>& all, BitWriter* out) {
  const auto [lowest, highest] = std::minmax_element(
      all.begin(), all.end(),
      [](const Packed& a, const Packed& b) { return a.first < b.first; });
  const std::uint32_t start = lowest->first >> 24 << 24;
  const auto first =
      static_cast<unsigned>(std::bit_width(highest->first - start));
  out->Put(start >> 24, 8);
  out->Put(first, 6);
  std::array<unsigned, 3> least{}, more{};
  for (std::size_t i = 0; i < 3; ++i) {
    unsigned most = 0;
    least[i] = 31;
    for (const Packed& one : all) {
      least[i] = std::min(least[i], one.widths[i]);
      most = std::max(most, one.widths[i]);
    }
    more[i] = static_cast<unsigned>(std::bit_width(most - least[i]));
    out->Put(least[i] | more[i] << 5, 8);
  }
  for (const Packed& one : all) {
    out->Put(one.offsets ? 1 : 0, 1);
    for (std::size_t i = 0; i < 3; ++i) {
      out->Put(one.widths[i] - least[i], more[i]);
    }
  }
  for (const Packed& one : all) out->Put(one.first - start, first);
}

void WriteException(const RollupEntry& entry, unsigned offset_bits,
                    BitWriter* out) {
  if (entry.absent == entry.steps() && entry.absent_at == 0) {
    out->Put(rollup::kAllAbsent, 2);
    return;
  }
  out->Put((entry.nonfinite != 0 ? rollup::kSomeNonfinite : 0u) |
               (entry.absent != 0 ? rollup::kSomeAbsent : 0u),
           2);
  if (entry.nonfinite != 0) {
    out->Put(entry.nonfinite - 1u, offset_bits);
    out->Put(entry.nonfinite_at, offset_bits);
    const std::uint32_t bits = BitsOf(entry.first_nonfinite);
    const auto* usual = std::find(rollup::kUsualNonfinite.begin(),
                                  rollup::kUsualNonfinite.end(), bits);
    out->Put(
        static_cast<std::uint32_t>(usual - rollup::kUsualNonfinite.begin()), 2);
    if (usual == rollup::kUsualNonfinite.end()) out->Put(bits, 32);
  }
  if (entry.absent != 0) {
    out->Put(entry.absent - 1u, offset_bits);
    out->Put(entry.absent_at, offset_bits);
  }
}

// The bits; returns whether there are exceptions.
bool WritePacked(const RollupShape& shape, std::span<const RollupEntry> entries,
                 std::string* out) {
  const std::uint32_t runs = shape.runs();
  const unsigned offset_bits = OffsetBits(shape);
  const std::uint32_t start = FirstMax(entries, 0);
  std::vector<Packed> packed;
  packed.reserve(shape.parameters);
  for (std::uint32_t p = 0; p < shape.parameters; ++p) {
    packed.emplace_back(entries.subspan(std::size_t{p} * runs, runs), start);
  }
  BitWriter writer(out);
  WriteLayout(packed, &writer);
  for (const Packed& one : packed) one.Write(offset_bits, &writer);
  const bool exceptions =
      std::any_of(entries.begin(), entries.end(), IsException);
  if (exceptions) {
    for (const RollupEntry& entry : entries) writer.Put(IsException(entry), 1);
    for (const RollupEntry& entry : entries) {
      if (IsException(entry)) WriteException(entry, offset_bits, &writer);
    }
  }
  writer.Flush();
  return exceptions;
}

}  // namespace

absl::StatusOr<std::string> EncodeRollups(
    const RollupShape& shape, std::span<const RollupEntry> entries) {
  if (absl::Status status = CheckShape(shape, entries.size()); !status.ok()) {
    return status;
  }
  const std::uint32_t runs = shape.runs();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::uint32_t steps =
        shape.StepsOf(static_cast<std::uint32_t>(i % runs));
    if (!FitsRun(entries[i], steps)) {
      return Refused(absl::StrCat("entry ", i, " does not fit its run of ",
                                  steps, " steps"));
    }
  }
  const RollupForm form = FormOf(entries);
  std::uint8_t head = static_cast<std::uint8_t>(form);
  std::string out(1, '\0');
  if (shape != RollupShape()) {
    head |= kShapeFlag;
    AppendVarint(shape.parameters, &out);
    AppendVarint(shape.steps, &out);
    AppendVarint(shape.run, &out);
  }
  if (form == RollupForm::kUniform) Append(BitsOf(entries.front().max), &out);
  if (form == RollupForm::kPacked && WritePacked(shape, entries, &out)) {
    head |= kExceptionsFlag;
  }
  out[0] = static_cast<char>(head);
  return out;
}

}  // namespace gradtap::server
