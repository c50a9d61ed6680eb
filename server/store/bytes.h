// Big-endian integers, varints and strings, written and read back with checks.
//
// Layer: server/store. Pure functions; any thread may call them.

#ifndef GRADTAP_SERVER_STORE_BYTES_H_
#define GRADTAP_SERVER_STORE_BYTES_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace gradtap::server {

static_assert(std::endian::native == std::endian::little,
              "integers are turned around");

void PutU32(std::uint32_t value, std::string* out);  // Big-endian.
void PutU64(std::uint64_t value, std::string* out);
// Biased by 2^63, so that bytes sort as the signed numbers do.
void PutI64(std::int64_t value, std::string* out);
void PutVarint(std::uint64_t value, std::string* out);
// Zigzag varint.
void PutSigned(std::int64_t value, std::string* out);
// A varint length and the bytes.
void PutString(std::string_view value, std::string* out);

// Reads what the functions above wrote. After the first malformed field every
// read gives zero or empty, and ok() stays false: check it once, at the end.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  std::uint32_t U32();
  std::uint64_t U64() {
    std::uint64_t value = 0;
    if (rest_.size() < sizeof value) {
      Fail();
      return 0;
    }
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_.remove_prefix(sizeof value);
    return __builtin_bswap64(value);
  }
  std::int64_t I64();
  std::uint64_t Varint();
  std::uint32_t Varint32();  // Not ok above 2^32 - 1.
  std::int64_t Signed();
  std::string_view String();  // A view into the input.

  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

 private:
  void Fail();

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_BYTES_H_
