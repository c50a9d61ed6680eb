#include "server/store/bytes.h"

#include <limits>

namespace gradtap::server {
namespace {

void PutFixed(std::uint64_t value, int bytes, std::string* out) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out->push_back(static_cast<char>((value >> shift) & 0xff));
  }
}

constexpr std::uint64_t kSignBit = std::uint64_t{1} << 63;

}  // namespace

void PutU32(std::uint32_t value, std::string* out) { PutFixed(value, 4, out); }
void PutU64(std::uint64_t value, std::string* out) { PutFixed(value, 8, out); }
void PutI64(std::int64_t value, std::string* out) {
  PutFixed(static_cast<std::uint64_t>(value) ^ kSignBit, 8, out);
}

void PutVarint(std::uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>((value & 0x7f) | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

void PutSigned(std::int64_t value, std::string* out) {
  const auto bits = static_cast<std::uint64_t>(value);
  PutVarint((bits << 1) ^ (value < 0 ? ~std::uint64_t{0} : 0), out);
}

void PutString(std::string_view value, std::string* out) {
  PutVarint(value.size(), out);
  out->append(value);
}

void ByteReader::Fail() {
  ok_ = false;
  rest_ = {};
}

std::uint32_t ByteReader::U32() {
  std::uint32_t value = 0;
  if (rest_.size() < sizeof value) {
    Fail();
    return 0;
  }
  std::memcpy(&value, rest_.data(), sizeof value);
  rest_.remove_prefix(sizeof value);
  return __builtin_bswap32(value);
}

std::int64_t ByteReader::I64() {
  return static_cast<std::int64_t>(U64() ^ kSignBit);
}

std::uint64_t ByteReader::Varint() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (rest_.empty()) break;
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    if (shift == 63 && byte > 1) break;
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  Fail();
  return 0;
}

std::uint32_t ByteReader::Varint32() {
  const std::uint64_t value = Varint();
  if (value > std::numeric_limits<std::uint32_t>::max()) {
    Fail();
    return 0;
  }
  return static_cast<std::uint32_t>(value);
}

std::int64_t ByteReader::Signed() {
  const std::uint64_t bits = Varint();
  return static_cast<std::int64_t>((bits >> 1) ^ (~(bits & 1) + 1));
}

std::string_view ByteReader::String() {
  const std::uint64_t size = Varint();
  if (size > rest_.size()) {
    Fail();
    return {};
  }
  const std::string_view value = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return value;
}

}  // namespace gradtap::server
