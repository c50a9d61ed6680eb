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

TEST(RequestHeadTest, ALengthIsOneNumber) {
  for (const char* good :
       {"Content-Length: 0", "content-length:12", "Content-Length:\t12 "}) {
    EXPECT_EQ(RefusalOf(kGet + std::string(good) + "\r\n\r\n"), "") << good;
  }
  for (const char* bad :
       {"Content-Length: 2abc", "Content-Length: -1", "Content-Length: +1",
        "Content-Length: 0x10", "Content-Length: 1, 1",
        "Content-Length:", "Content-Length: 1 2", "CONTENT-LENGTH: %32",
        "Content-Length: 1234567890123456789"}) {
    EXPECT_THAT(RefusalOf(kGet + std::string(bad) + "\r\n\r\n"),
                HasSubstr("Content-Length is a number"))
        << bad;
  }
  for (const char* second : {"Content-Length: 1", "content-LENGTH: 2"}) {
    EXPECT_THAT(RefusalOf(std::string(kGet) + "Content-Length: 1\r\n" + second +
                          "\r\n\r\n"),
                HasSubstr("several Content-Length"))
        << second;
  }
}

TEST(RequestHeadTest, LinesThatOthersReadOtherwiseAreRefused) {
  for (const char* bad :
       {"A: b\r\n c\r\n", "A: b\r\n\tContent-Length: 1\r\n", "A: b\n",
        "A: b\n\r\n", "A : b\r\n", "A\r\n", ": b\r\n", "A: b\rC: d\r\n",
        "A: \x01\r\n", "A\xC3\xA9: b\r\n", "A(: b\r\n", "\r\r\n"}) {
    EXPECT_NE(RefusalOf(kGet + std::string(bad) + "\r\n"), "") << bad;
  }
  EXPECT_NE(RefusalOf(kGet + std::string("A: b\0c\r\n", 8) + "\r\n"), "");
  EXPECT_NE(RefusalOf("GET / HTTP/1.1\nHost: x\n\n"), "");
  // What browsers and tools do send.
  EXPECT_EQ(RefusalOf(std::string(kGet) +
                      "Sec-CH-UA: \"a\";v=\"9\"\r\nX-Name: \xC3\xA9\t:\r\n"
                      "X_y.z!: a:b\r\n\r\n"),
            "");
}

TEST(RequestHeadTest, WhatIsShownOfALineIsEscapedAndCut) {
  const std::string message = RefusalOf(kGet + std::string("a\xC2\x9B b ") +
                                        std::string(5'000, 'x') + "\r\n\r\n");
  EXPECT_THAT(message, HasSubstr("NAME: VALUE"));
  EXPECT_THAT(message, Not(HasSubstr("\x9B")));
  EXPECT_LT(message.size(), 300u);
}

}  // namespace
}  // namespace gradtap::server
