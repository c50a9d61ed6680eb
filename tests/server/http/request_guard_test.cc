#include "server/http/request_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;

RequestOrigin For(const std::string& host) {
  RequestOrigin request;
  request.host = host;
  return request;
}

void ExpectRefused(const RequestOrigin& request, const std::string& why) {
  EXPECT_THAT(CheckOrigin(request, {"metrics.example"}),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(why)));
}

TEST(RequestGuardTest, AnAddressLocalhostAndGivenNamesAreItsNames) {
  for (const char* host :
       {"127.0.0.1:7318", "127.0.0.1", "10.1.2.3:80", "[::1]:7318", "[fe80::1]",
        "localhost", "localhost:7318", "LocalHost:1", "page.localhost:7318",
        "metrics.example", "Metrics.Example:443"}) {
    GRADTAP_EXPECT_OK(CheckOrigin(For(host), {"metrics.example"})) << host;
  }
}

// A name of somebody else's that has been made to point here.
TEST(RequestGuardTest, OtherNamesAreRefused) {
  for (const char* host :
       {"evil.example", "evil.example:7318", "127.0.0.1.evil.example:7318",
        "localhost.evil.example", "evillocalhost", "", ":7318", "[", "[]",
        "[evil]:7318", "[::1].evil.example", "[::1]evil.example:80",
        "[::1]:80.evil.example", "127.0.0.1:80.evil.example", "localhost:x",
        "localhost:80:80", "::1", "metrics.example.evil.example",
        "xmetrics.example"}) {
    ExpectRefused(For(host), "--http-name");
  }
  ExpectRefused(RequestOrigin(), "no Host");
}

TEST(RequestGuardTest, APageOfAnotherOriginIsRefused) {
  RequestOrigin request = For("127.0.0.1:7318");
  for (const char* own : {"http://127.0.0.1:7318", "https://127.0.0.1:7318"}) {
    request.origin = own;
    GRADTAP_EXPECT_OK(CheckOrigin(request, {})) << own;
  }
  for (const char* other :
       {"http://evil.example", "null", "", "http://127.0.0.1:7319",
        "http://127.0.0.1", "http://localhost:7318", "file://",
        "http://127.0.0.1:7318.evil.example"}) {
    request.origin = other;
    ExpectRefused(request, "may not use");
  }
}

TEST(RequestGuardTest, ALinkIsFollowedAndNothingElseFromAnotherSite) {
  RequestOrigin request = For("127.0.0.1:7318");
  for (const char* site : {"same-origin", "same-site", "none"}) {
    request.fetch_site = site;
    GRADTAP_EXPECT_OK(CheckOrigin(request, {})) << site;
  }
  request.fetch_site = "cross-site";
  ExpectRefused(request, "another site");
  request.fetch_mode = "no-cors";
  ExpectRefused(request, "another site");
  request.fetch_mode = "navigate";
  GRADTAP_EXPECT_OK(CheckOrigin(request, {}));
  request.fetch_dest = "document";
  GRADTAP_EXPECT_OK(CheckOrigin(request, {}));
  request.fetch_dest = "iframe";
  ExpectRefused(request, "another site");
}

TEST(RequestGuardTest, NamesInMessagesAreEscapedAndCut) {
  const absl::Status status =
      CheckOrigin(For("\x1b[2J" + std::string(10'000, 'x')), {});
  const std::string message(status.message());
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
  EXPECT_LT(message.size(), 300u);
}

}  // namespace
}  // namespace gradtap::server
