// The checksum that RocksDB gives every piece of a log, CRC-32C, by ISA-L,
// which uses what the processor has for it: 30 GB/s. RocksDB as it is packaged
// is built for every processor of its kind and takes 1 GB/s, which was a
// sixth of a collector's time while it takes rows.
//
// RocksDB has no option for it. A program's own function goes before that of a
// shared library, though, and RocksDB calls its one by its name,
// `rocksdb::crc32c::Extend`: log_checksum.cc defines it. The numbers are the
// same, so that logs are, too. A shared RocksDB that does not call it by its
// name goes on with its own; a static one would have it twice, as the linker
// says: then, as where there is no ISA-L, this file is left out
// (CMakeLists.txt).
//
// Layer: server/store. Any thread.

#ifndef GRADTAP_SERVER_STORE_LOG_CHECKSUM_H_
#define GRADTAP_SERVER_STORE_LOG_CHECKSUM_H_

#include <cstdint>
#include <string_view>

namespace gradtap::server {

// Of what `crc` is of, and `data` after it; 0 is of nothing (RFC 3720, B.4).
std::uint32_t ExtendCrc32c(std::uint32_t crc, std::string_view data);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_LOG_CHECKSUM_H_
