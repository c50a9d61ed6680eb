#include "server/store/window/linear_column.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "server/store/bytes.h"

namespace gradtap::server {
namespace {

static_assert(std::endian::native == std::endian::little,
              "bits are read as they lie in memory");

constexpr std::size_t kHeadBytes = 3 * 8 + 1;

// The rise of the line at i of `count` values: rise * i / (count - 1), rounded
// down; `rise` is a signed number.
std::uint64_t LineAt(std::uint64_t rise, std::size_t i, std::size_t count) {
  if (count < 2) return 0;
  const auto signed_rise = static_cast<std::int64_t>(rise);
  const auto at = static_cast<std::int64_t>(i);
  const auto steps = static_cast<std::int64_t>(count - 1);
  std::int64_t product = 0;
  if (!__builtin_mul_overflow(signed_rise, at, &product)) {
    return static_cast<std::uint64_t>(product / steps -
                                      (product % steps < 0 ? 1 : 0));
  }
  const __int128 wide = static_cast<__int128>(signed_rise) * at;
  return static_cast<std::uint64_t>(wide / steps - (wide % steps < 0 ? 1 : 0));
}

unsigned WidthOf(std::string_view column) {
  return static_cast<unsigned char>(column[kHeadBytes - 1]);
}

// Bits [position, position + width) of `bytes`, which has them all.
std::uint64_t BitsAt(std::string_view bytes, std::size_t position,
                     unsigned width) {
  if (width == 0) return 0;
  std::array<char, 9> near{};  // Those bits and up to seven before them.
  const std::size_t at = position / 8;
  if (bytes.size() - at >= near.size()) {
    std::memcpy(near.data(), bytes.data() + at, near.size());
  } else {
    std::memcpy(near.data(), bytes.data() + at, bytes.size() - at);
  }
  const unsigned skip = position % 8;
  std::uint64_t value = 0;
  std::memcpy(&value, near.data(), sizeof value);
  value >>= skip;
  if (skip != 0) {
    value |= std::uint64_t{static_cast<unsigned char>(near[8])} << (64 - skip);
  }
  return width == 64 ? value : value & ((std::uint64_t{1} << width) - 1);
}

void AppendBits(std::span<const std::uint64_t> values, unsigned width,
                std::string* out) {
  const std::size_t from = out->size();
  out->append((values.size() * width + 7) / 8, '\0');
  std::size_t position = 0;
  for (const std::uint64_t value : values) {
    for (unsigned done = 0; done < width;) {
      const unsigned skip = position % 8;
      const unsigned take = std::min(8 - skip, width - done);
      const auto bits =
          static_cast<unsigned>(value >> done) & ((1u << take) - 1);
      char& byte = (*out)[from + position / 8];
      byte = static_cast<char>(static_cast<unsigned char>(byte) | bits << skip);
      done += take;
      position += take;
    }
  }
}

}  // namespace

void AppendLinearColumn(std::span<const std::int64_t> values,
                        std::string* out) {
  const std::size_t count = values.size();
  const auto base = static_cast<std::uint64_t>(values.front());
  const auto last = static_cast<std::uint64_t>(values.back());
  std::vector<std::uint64_t> residuals(count);
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (std::size_t i = 0; i < count; ++i) {
    residuals[i] = static_cast<std::uint64_t>(values[i]) - base -
                   LineAt(last - base, i, count);
    least = std::min(least, static_cast<std::int64_t>(residuals[i]));
  }
  std::uint64_t most = 0;
  for (std::uint64_t& residual : residuals) {
    residual -= static_cast<std::uint64_t>(least);
    most = std::max(most, residual);
  }
  const auto width = static_cast<unsigned>(std::bit_width(most));
  PutU64(base, out);
  PutU64(last, out);
  PutU64(static_cast<std::uint64_t>(least), out);
  out->push_back(static_cast<char>(width));
  AppendBits(residuals, width, out);
}

bool LinearColumn::Take(std::string_view* bytes, std::size_t count,
                        LinearColumn* column) {
  if (count == 0 || bytes->size() < kHeadBytes) return false;
  const unsigned width = WidthOf(*bytes);
  if (width > 64) return false;
  if (count > (std::numeric_limits<std::size_t>::max() >> 7)) return false;
  const std::size_t size = kHeadBytes + (count * width + 7) / 8;
  if (bytes->size() < size) return false;
  column->count_ = count;
  column->bytes_ = bytes->substr(0, size);
  bytes->remove_prefix(size);
  return true;
}

void LinearColumn::Prefetch(std::size_t i) const {
  __builtin_prefetch(bytes_.data() + kHeadBytes + i * WidthOf(bytes_) / 8);
}

std::int64_t LinearColumn::operator[](std::size_t i) const {
  ByteReader head(bytes_);
  const std::uint64_t base = head.U64();
  const std::uint64_t rise = head.U64() - base;
  const std::uint64_t least = head.U64();
  const unsigned width = WidthOf(bytes_);
  return static_cast<std::int64_t>(
      base + LineAt(rise, i, count_) + least +
      BitsAt(bytes_.substr(kHeadBytes), i * width, width));
}

}  // namespace gradtap::server
