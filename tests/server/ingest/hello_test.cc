// The collector's door: hellos, good and bad.

#include "server/ingest/hello.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;

HelloUntrusted GoodHello() {
  HelloUntrusted hello;
  hello.protocol_version = 1;
  hello.run = "fashion-mnist";
  hello.launch = "job-7";
  hello.rank = 1;
  hello.world_size = 2;
  hello.process_nonce = std::string(16, '\0');
  hello.start_time_unix_ns = 1;
  hello.tags = {{"team", "vision"}};
  return hello;
}

TEST(HelloTest, AGoodOneIsTakenAsItIs) {
  const auto hello = ValidateHello(GoodHello());
  GRADTAP_ASSERT_OK(hello);
  EXPECT_EQ(hello->run, "fashion-mnist");
  EXPECT_EQ(hello->rank, 1U);
  EXPECT_EQ(hello->tags.at("team"), "vision");
}

TEST(HelloTest, AnotherProtocolIsNotSpoken) {
  for (const std::uint32_t version : {0U, 2U, 4'000'000'000U}) {
    HelloUntrusted hello = GoodHello();
    hello.protocol_version = version;
    EXPECT_THAT(ValidateHello(hello),
                StatusIs(absl::StatusCode::kUnimplemented,
                         HasSubstr(std::to_string(version))));
  }
}

struct BadHello {
  const char* says;
  void (*spoil)(HelloUntrusted*);
};

class BadHelloTest : public ::testing::TestWithParam<BadHello> {};

TEST_P(BadHelloTest, IsRefusedNamingTheField) {
  HelloUntrusted hello = GoodHello();
  GetParam().spoil(&hello);
  const auto result = ValidateHello(hello);
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr(GetParam().says)));
  const std::string message(result.status().message());
  EXPECT_LT(message.size(), 512U);
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadHelloTest,
    ::testing::Values(
        BadHello{"run", [](HelloUntrusted* h) { h->run = ""; }},
        BadHello{"run", [](HelloUntrusted* h) { h->run = "../etc"; }},
        BadHello{"run", [](HelloUntrusted* h) { h->run = ".."; }},
        BadHello{"run", [](HelloUntrusted* h) { h->run = "a\x1b[2J"; }},
        BadHello{"run", [](HelloUntrusted* h) { h->run.assign(100'000, 'x'); }},
        BadHello{"run",
                 [](HelloUntrusted* h) { h->run = std::string("a\0b", 3); }},
        BadHello{"launch", [](HelloUntrusted* h) { h->launch = ""; }},
        BadHello{"launch", [](HelloUntrusted* h) { h->launch.resize(129); }},
        BadHello{"launch", [](HelloUntrusted* h) { h->launch = "\xff"; }},
        BadHello{"rank", [](HelloUntrusted* h) { h->rank = 2; }},
        BadHello{"rank", [](HelloUntrusted* h) { h->world_size = 0; }},
        BadHello{"nonce", [](HelloUntrusted* h) { h->process_nonce = "x"; }},
        BadHello{"start",
                 [](HelloUntrusted* h) { h->start_time_unix_ns = -1; }},
        BadHello{"host", [](HelloUntrusted* h) { h->host.resize(513); }},
        BadHello{"agent_version",
                 [](HelloUntrusted* h) { h->agent_version = "\xc0\x80"; }},
        BadHello{"tags", [](HelloUntrusted* h) { h->tags.resize(65); }},
        BadHello{"tags.key",
                 [](HelloUntrusted* h) {
                   h->tags = {{"a b", ""}};
                 }},
        BadHello{"tags.value",
                 [](HelloUntrusted* h) {
                   h->tags = {{"a", std::string(513, 'x')}};
                 }},
        BadHello{"twice", [](HelloUntrusted* h) {
                   h->tags = {{"a", "1"}, {"a", "2"}};
                 }}));

}  // namespace
}  // namespace gradtap::server
