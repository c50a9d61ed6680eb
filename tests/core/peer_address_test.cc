#include "core/peer_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "core/bearer_token.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(PeerAddressTest, WhatStaysOnThisMachineIsKnownByItsAddressAlone) {
  for (const char* here : {"127.0.0.1:7317", "127.1.2.3:1", "localhost:7317",
                           "[::1]:7317", "unix:/run/gradtap/grpc"}) {
    EXPECT_TRUE(StaysOnThisMachine(here)) << here;
  }
  for (const char* away : {"",
                           ":",
                           "10.0.0.1:7317",
                           "128.0.0.1:1",
                           "127.0.0.1",
                           "127.0.1:1",
                           "127.0.0.256:1",
                           "127.0.0.1.example:1",
                           "127.0.0.1.:1",
                           "127..0.1:1",
                           "1270.0.0.1:1",
                           "localhost.example:1",
                           "LOCALHOST.evil:1",
                           "0.0.0.0:1",
                           "[::]:1",
                           "[::2]:1",
                           "[::1]",
                           "[::1].example:1",
                           "::1:1",
                           "unix:run",
                           "unix:",
                           "ipv4:127.0.0.1:1",
                           "dns:///localhost:1",
                           "a b:1"}) {
    EXPECT_FALSE(StaysOnThisMachine(away)) << away;
  }
}

TEST(PeerAddressTest, ASocketHasAPathThatASocketCanHave) {
  EXPECT_TRUE(IsSocketAddress("unix:/a"));
  EXPECT_TRUE(IsSocketAddress("unix:/" + std::string(106, 'a')));
  for (const std::string& bad :
       {std::string("unix:/"), std::string("unix:/a/"),
        "unix:/" + std::string(107, 'a'), std::string("unix:/a b"),
        std::string("unix:/a%00"), std::string("unix:/a?b"),
        std::string("unix:/\x1b[31m"), std::string("unix:/a\0b", 9),
        std::string("unix:///a\xff"), std::string("UNIX:/a")}) {
    EXPECT_FALSE(IsSocketAddress(bad)) << bad;
  }
}

TEST(BearerTokenTest, AFileHasATokenAndNothingElse) {
  const gradtap::testing::TempDir dir;
  const std::string path = dir.path() + "/token";
  const auto read = [&](const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
    return ReadBearerToken(path);
  };
  for (const std::string& good :
       {std::string("s3cret"), std::string("s3cret\n"),
        std::string(" \ts3cret \r\n\n")}) {
    const auto token = read(good);
    GRADTAP_ASSERT_OK(token);
    EXPECT_EQ(*token, "s3cret");
  }
  for (const std::string& bad :
       {std::string(), std::string("\n"), std::string("s3cret s3cret"),
        std::string("s3cret\ns3cret\n"), std::string("s3cret\0", 7),
        std::string("s3cret\xc3\xa4"), "s3cret" + std::string(4096, 'a'),
        "s3cret" + std::string(100'000, ' ') + "x"}) {
    EXPECT_THAT(read(bad),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(path), Not(HasSubstr("s3cret")))));
  }
  EXPECT_THAT(
      ReadBearerToken(dir.path() + "/none"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("No such file")));
  EXPECT_THAT(
      ReadBearerToken(dir.path()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(dir.path())));
}

}  // namespace
}  // namespace gradtap
