#include "server/store/log_checksum.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <cstddef>

namespace gradtap::server {

std::uint32_t ExtendCrc32c(std::uint32_t crc, std::string_view data) {
  constexpr std::size_t kAtOnce = std::size_t{1}
                                  << 30;  // Its length is an int.
  while (!data.empty()) {
    const std::string_view piece = data.substr(0, kAtOnce);
    // It only reads them; an older one's parameter is not const.
    auto* bytes =
        reinterpret_cast<unsigned char*>(const_cast<char*>(piece.data()));
    crc = ~crc32_iscsi(bytes, static_cast<int>(piece.size()), ~crc);
    data.remove_prefix(piece.size());
  }
  return crc;
}

}  // namespace gradtap::server

namespace rocksdb::crc32c {

[[gnu::visibility("default")]] std::uint32_t Extend(std::uint32_t crc,
                                                    const char* data,
                                                    std::size_t size);
std::uint32_t Extend(std::uint32_t crc, const char* data, std::size_t size) {
  return gradtap::server::ExtendCrc32c(crc, {data, size});
}

}  // namespace rocksdb::crc32c
