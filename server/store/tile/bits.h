// Bits: of floats as ordered integers, of streams, little-endian.
//
// Layer: server/store/tile. Pure functions and plain data.

#ifndef GRADTAP_SERVER_STORE_TILE_BITS_H_
#define GRADTAP_SERVER_STORE_TILE_BITS_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace gradtap::server::tile {

static_assert(std::endian::native == std::endian::little,
              "values and streams are copied as they lie in memory");

inline std::uint32_t BitsOf(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

// A float's bits as an integer that grows with the float: neighbours in value
// are neighbours as integers. One to one, NaN included.
inline std::uint32_t ToOrdered(std::uint32_t bits) {
  const auto sign = static_cast<std::uint32_t>(
      static_cast<std::int32_t>(bits) >> 31);  // All ones if negative.
  return bits ^ (sign | 0x80000000u);
}
inline std::uint32_t FromOrdered(std::uint32_t ordered) {
  const auto sign =
      static_cast<std::uint32_t>(static_cast<std::int32_t>(ordered) >> 31);
  return ordered ^ (~sign | 0x80000000u);
}

inline std::uint32_t ZigZag(std::uint32_t difference) {
  return (difference << 1) ^ static_cast<std::uint32_t>(
                                 static_cast<std::int32_t>(difference) >> 31);
}
inline std::uint32_t UnZigZag(std::uint32_t zigzag) {
  return (zigzag >> 1) ^ (0u - (zigzag & 1));
}

template <typename T>
T Load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void Append(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Readers of bits may read, not use, that many bytes beyond the last one: who
// writes a stream puts as many zeros after it.
inline constexpr std::size_t kBitPadding = 32;

// Writes bits from the lowest of each byte on.
class BitWriter {
 public:
  explicit BitWriter(std::string* out) : out_(out) {}

  // `count` is at most 32 and `bits` has none above.
  void Put(std::uint32_t bits, unsigned count) {
    pending_ |= std::uint64_t{bits} << used_;
    used_ += count;
    if (used_ >= 32) {
      Append(static_cast<std::uint32_t>(pending_), out_);
      pending_ >>= 32;
      used_ -= 32;
    }
  }
  // Fills the last byte with zeros. Call it last.
  void Flush() {
    for (unsigned done = 0; done < used_; done += 8) {
      out_->push_back(static_cast<char>(pending_ >> done));
    }
    pending_ = 0;
    used_ = 0;
  }

 private:
  std::string* out_;
  std::uint64_t pending_ = 0;
  unsigned used_ = 0;
};

// Reads them.
class BitReader {
 public:
  // At least kBitPadding readable bytes follow `bytes`.
  explicit BitReader(std::string_view bytes)
      : data_(bytes.data()), end_(bytes.size() * 8) {}

  // False if less than `count` bits are left.
  bool Has(std::size_t count) const { return count <= end_ - position_; }
  const char* data() const { return data_; }
  std::size_t position() const { return position_; }
  void Skip(std::size_t count) { position_ += count; }
  // `count` is at most 32, and there are so many.
  std::uint32_t Get(unsigned count) {
    const std::uint64_t word = Load<std::uint64_t>(data_ + position_ / 8);
    const std::uint64_t mask = (std::uint64_t{1} << count) - 1;
    const std::uint64_t bits = (word >> (position_ % 8)) & mask;
    position_ += count;
    return static_cast<std::uint32_t>(bits);
  }

 private:
  const char* data_;
  std::size_t end_;
  std::size_t position_ = 0;
};

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_BITS_H_
