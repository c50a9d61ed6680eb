#include "server/store/log_checksum.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace gradtap::server {
namespace {

// RFC 3720, B.4; the last of them is the one in every catalogue of checksums.
TEST(LogChecksumTest, IsCrc32c) {
  EXPECT_EQ(ExtendCrc32c(0, ""), 0U);
  EXPECT_EQ(ExtendCrc32c(0, std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(ExtendCrc32c(0, std::string(32, '\xff')), 0x62a8ab43U);
  EXPECT_EQ(ExtendCrc32c(0, "123456789"), 0xe3069283U);
}

TEST(LogChecksumTest, GoesOnFromAnyPlace) {
  std::string data;
  for (int i = 0; i < 1000; ++i) data.push_back(static_cast<char>(i * 37));
  const std::uint32_t whole = ExtendCrc32c(0, data);
  for (std::size_t at = 0; at <= data.size(); at += 13) {
    EXPECT_EQ(
        ExtendCrc32c(ExtendCrc32c(0, data.substr(0, at)), data.substr(at)),
        whole);
  }
}

// What the program finds under the name that RocksDB calls is what RocksDB
// finds.
TEST(LogChecksumTest, StandsBeforeRocksdbsUnderTheNameThatItCalls) {
  using Function = std::uint32_t(std::uint32_t, const char*, std::size_t);
  void* const program = ::dlopen(nullptr, RTLD_LAZY);
  ASSERT_NE(program, nullptr);
  void* const found = ::dlsym(program, "_ZN7rocksdb6crc32c6ExtendEjPKcm");
  ASSERT_NE(found, nullptr);
  Dl_info of_it{}, of_test{};
  ASSERT_NE(::dladdr(found, &of_it), 0);
  ASSERT_NE(::dladdr(reinterpret_cast<void*>(&ExtendCrc32c), &of_test), 0);
  EXPECT_EQ(of_it.dli_fbase, of_test.dli_fbase);
  EXPECT_EQ(reinterpret_cast<Function*>(found)(0, "123456789", 9), 0xe3069283U);
  ::dlclose(program);
}

}  // namespace
}  // namespace gradtap::server
