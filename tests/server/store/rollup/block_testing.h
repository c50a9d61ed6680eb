// Blocks to read.

#ifndef GRADTAP_TESTS_SERVER_STORE_ROLLUP_BLOCK_TESTING_H_
#define GRADTAP_TESTS_SERVER_STORE_ROLLUP_BLOCK_TESTING_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/store/rollup/block.h"
#include "support/status_matchers.h"

namespace gradtap::server::rollup_testing {

inline std::string Encode(const RollupShape& shape,
                          const std::vector<RollupEntry>& entries) {
  auto bytes = EncodeRollups(shape, entries);
  EXPECT_THAT(bytes, ::gradtap::testing::IsOk());
  return bytes.ok() ? *bytes : std::string();
}

}  // namespace gradtap::server::rollup_testing

#endif  // GRADTAP_TESTS_SERVER_STORE_ROLLUP_BLOCK_TESTING_H_
