#include "server/http/request_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <string>
#include <string_view>

#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::Pair;

UrlParameters Parse(std::string_view text) {
  UrlParameters parameters;
  AddParameters(text, &parameters);
  return parameters;
}

TEST(RequestPartsTest, NamesAndValuesAreDecoded) {
  EXPECT_THAT(Parse("match=%5Efc+1%2b&a%26b=%C3%A9&run=a%00"),
              ElementsAre(Pair("a&b", "\xC3\xA9"), Pair("match", "^fc 1+"),
                          Pair("run", std::string("a\0", 2))));
}

TEST(RequestPartsTest, AValueIsWhatFollowsTheFirstEqualsSign) {
  EXPECT_THAT(Parse("b==c=&run=lr=0.1&top&=x&&"),
              ElementsAre(Pair("", "x"), Pair("b", "=c="),
                          Pair("run", "lr=0.1"), Pair("top", "")));
}

TEST(RequestPartsTest, ThousandParametersAreReadAndNoMore) {
  std::string text = "a";
  for (int i = 1; i < 1000; ++i) text += "&a";
  GRADTAP_EXPECT_OK(CheckParameters(text));
  // Whatever stands between.
  EXPECT_THAT(CheckParameters(text + "&"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::HasSubstr("1001")));
}

TEST(RequestPartsTest, ABodyOfPartsIsNotTakenApart) {
  httplib::Request request;
  request.method = "POST";
  request.headers = {{"Host", "localhost"}, {"Content-Length", "9"}};
  GRADTAP_EXPECT_OK(CheckRequest(request, {}));
  request.headers.emplace("Content-Type", "Multipart/form-data; boundary=x");
  EXPECT_THAT(CheckRequest(request, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::HasSubstr("multipart")));
}

TEST(RequestPartsTest, APercentSignWithoutTwoDigitsStandsForItself) {
  EXPECT_THAT(Parse("a=%&b=%4&c=%4g&d=%-1&e=%%41&f=50%&g=%0x41&h=%+1"),
              ElementsAre(Pair("a", "%"), Pair("b", "%4"), Pair("c", "%4g"),
                          Pair("d", "%-1"), Pair("e", "%A"), Pair("f", "50%"),
                          Pair("g", "%0x41"), Pair("h", "% 1")));
}

}  // namespace
}  // namespace gradtap::server
