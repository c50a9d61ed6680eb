#include "server/http/request_head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace gradtap::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using State = RequestHead::State;

constexpr char kGet[] = "GET / HTTP/1.1\r\n";

std::string Headers(int n) {
  std::string headers;
  for (int i = 0; i < n; ++i) headers += "a:b\r\n";
  return headers;
}

// What a head with these lines is refused with; "": it is not.
std::string RefusalOf(const std::string& text, int status = 400) {
  RequestHead head;
  const State state = head.Add(text);
  if (state == State::kWhole) return "";
  EXPECT_EQ(state, State::kRefused) << text;
  EXPECT_EQ(head.status(), status) << text;
  return head.message();
}

TEST(RequestHeadTest, AHeadEndsWithAnEmptyLineWhereverItsPiecesEnd) {
  const std::string text =
      std::string(kGet) + "Host: x\r\nEmpty:\r\n\r\nbody\n\nmore";
  const std::size_t end = text.find("body");
  for (std::size_t size = 1; size <= text.size(); ++size) {
    RequestHead head;
    std::size_t at = 0;
    State state = State::kMore;
    while (state == State::kMore && at < text.size()) {
      state = head.Add(std::string_view(text).substr(at, size));
      at += size;
    }
    EXPECT_EQ(state, State::kWhole) << size;
    EXPECT_GE(at, end);
    EXPECT_EQ(head.TakeText(), text.substr(0, at));
  }
}

TEST(RequestHeadTest, ItHasSoManyHeadersAndNoMore) {
  EXPECT_EQ(RefusalOf(kGet + Headers(100) + "\r\n"), "");
  // Before it has ended.
  EXPECT_THAT(RefusalOf(kGet + Headers(101), 431), HasSubstr("100 headers"));
}

TEST(RequestHeadTest, ItHasSoManyBytesAndNoMore) {
  std::string text = kGet;
  const std::string header = "a: " + std::string(8000, 'b') + "\r\n";
  while (text.size() + header.size() < RequestHead::kMostBytes) text += header;
  EXPECT_EQ(RefusalOf(text + "\r\n"), "");
  EXPECT_THAT(RefusalOf(text + header + "\r\n", 431), HasSubstr("65536 bytes"));
  // Of a line that does not end, either.
  EXPECT_THAT(RefusalOf(kGet + std::string(9000, 'x'), 431),
              HasSubstr("8192 bytes"));
  EXPECT_THAT(RefusalOf("GET /" + std::string(9000, 'x'), 414),
              HasSubstr("POST"));
}

}  // namespace
}  // namespace gradtap::server
