// A 64-bit hash of bytes that is the same in every process and version.
//
// Not for hostile keys: whoever wants a collision finds one.
//
// Layer: core.

#ifndef GRADTAP_CORE_HASH_H_
#define GRADTAP_CORE_HASH_H_

#include <cstdint>
#include <string_view>

namespace gradtap {

// FNV-1a (Fowler, Noll, Vo), then the finaliser of MurmurHash3 (Appleby), so
// that each bit of the result depends on every byte. Its values never change:
// they stand in stored names and fingerprints.
inline std::uint64_t StableHash64(std::string_view bytes) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : bytes) {
    h ^= static_cast<unsigned char>(c);
    h *= 0x100000001b3u;
  }
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdu;
  h ^= h >> 33;
  h *= 0xc4ceb9fe1a85ec53u;
  h ^= h >> 33;
  return h;
}

}  // namespace gradtap

#endif  // GRADTAP_CORE_HASH_H_
