#include "server/http/http_connection.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

namespace gradtap::server {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

class HttpConnectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int sockets[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    peer_ = sockets[0];
    ours_ = sockets[1];
    limits_.request_bytes = 100;
    limits_.request_time = hours(1);
    limits_.write_time = hours(1);
  }
  void TearDown() override {
    connection_ = nullptr;
    if (peer_ >= 0) ::close(peer_);
  }

  HttpConnection* Open() {
    Guards guards;
    guards.refused = &refused_;
    all_ = std::make_unique<HttpConnections>(limits_, guards);
    connection_ = std::make_unique<HttpConnection>(ours_, all_.get());
    return connection_.get();
  }
  void Say(const std::string& text) {
    ASSERT_EQ(::send(peer_, text.data(), text.size(), 0),
              static_cast<ssize_t>(text.size()));
  }
  // As the library reads: a byte at a time. Ends with the first that fails.
  std::string ReadAll() {
    std::string all;
    char c;
    while (connection_->read(&c, 1) == 1) all += c;
    return all;
  }

  int peer_ = -1;
  int ours_ = -1;
  ConnectionLimits limits_;
  LimitCounters refused_;
  std::unique_ptr<HttpConnections> all_;
  std::unique_ptr<HttpConnection> connection_;
};

TEST_F(HttpConnectionTest, WhatFollowsAnAnsweredRequestIsNotWaitedFor) {
  HttpConnection* const connection = Open();
  Say("ab");
  char c;
  EXPECT_EQ(connection->read(&c, 1), 1);
  connection->EndRequest();
  EXPECT_FALSE(connection->is_readable());
  EXPECT_EQ(ReadAll(), "");
  EXPECT_EQ(connection->write("answer", 6), 6);
  EXPECT_EQ(refused_.refused(Limit::kRequestTime), 0u);
}

TEST_F(HttpConnectionTest, ReadsWhatComesAndWritesWhatGoes) {
  HttpConnection* connection = Open();
  EXPECT_EQ(HttpConnection::Current(), connection);
  Say("hello");
  char text[5];
  EXPECT_EQ(connection->read(text, 5), 5);
  EXPECT_EQ(std::string(text, 5), "hello");
  EXPECT_EQ(connection->write("there", 5), 5);
  EXPECT_EQ(::recv(peer_, text, 5, 0), 5);
  EXPECT_EQ(std::string(text, 5), "there");
}

TEST_F(HttpConnectionTest, ARequestHasSoManyBytesAndNoMore) {
  Open();
  Say(std::string(150, 'x'));
  EXPECT_EQ(ReadAll(), std::string(100, 'x'));
  EXPECT_EQ(refused_.refused(Limit::kRequestBytes), 1u);
}

TEST_F(HttpConnectionTest, AHeadIsReadBeforeAnythingOfItIsGiven) {
  HttpConnection* const connection = Open();
  Say("GET / HTTP/1.1\r\nHost: x\r\n\r\nbo");
  ASSERT_TRUE(connection->ReadHead());
  Say("dy");
  ::shutdown(peer_, SHUT_WR);
  EXPECT_EQ(ReadAll(), "GET / HTTP/1.1\r\nHost: x\r\n\r\nbody");
}

TEST_F(HttpConnectionTest, AHeadOfTooManyLinesIsRefusedBeforeItEnds) {
  limits_.request_bytes = 1 << 20;
  HttpConnection* const connection = Open();
  std::string head = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 101; ++i) head += "a:b\r\n";
  Say(head);
  EXPECT_FALSE(connection->ReadHead());
  EXPECT_EQ(refused_.refused(Limit::kRequestBytes), 1u);
  char text[1024];
  const ssize_t n = ::recv(peer_, text, sizeof text, 0);
  ASSERT_GT(n, 0);
  const std::string answer(text, static_cast<std::size_t>(n));
  EXPECT_THAT(answer, ::testing::StartsWith("HTTP/1.1 431 Request Header"));
  EXPECT_THAT(answer, ::testing::HasSubstr("more than 100 headers"));
}

TEST_F(HttpConnectionTest, AHeadThatDoesNotEndIsNoRequest) {
  HttpConnection* const connection = Open();
  Say("GET / HTTP/1.1\r\nHost: x\r\n");
  ::shutdown(peer_, SHUT_WR);
  EXPECT_FALSE(connection->ReadHead());
  EXPECT_EQ(refused_.refused(Limit::kRequestBytes), 0u);
}

TEST_F(HttpConnectionTest, ARequestThatDoesNotComeIsGivenUp) {
  limits_.request_time = milliseconds(1);
  HttpConnection* connection = Open();
  char c;
  EXPECT_EQ(connection->read(&c, 1), -1);
  EXPECT_FALSE(connection->is_readable());
  EXPECT_EQ(connection->read(&c, 1), -1);
  EXPECT_EQ(refused_.refused(Limit::kRequestTime), 1u);
}

TEST_F(HttpConnectionTest, WhoDoesNotReadIsGivenUp) {
  limits_.write_time = milliseconds(5);
  HttpConnection* connection = Open();
  const std::string much(1 << 20, 'x');
  ssize_t sent = 0;
  while ((sent = connection->write(much.data(), much.size())) > 0) {
  }
  EXPECT_EQ(sent, -1);
  EXPECT_EQ(connection->write("more", 4), -1);
  EXPECT_EQ(refused_.refused(Limit::kAnswerTime), 1u);
}

TEST_F(HttpConnectionTest, AnAnswerHasItsTimeAndOneWithoutEndHasItAnew) {
  limits_.request_time = milliseconds(0);
  limits_.answer_time = milliseconds(0);
  HttpConnection* connection = Open();
  EXPECT_EQ(connection->write("late", 4), -1);
  connection->RenewAnswer();
  EXPECT_EQ(connection->write("late", 4), -1);
  connection_ = nullptr;
  int sockets[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  ::close(peer_);
  peer_ = sockets[0];
  ours_ = sockets[1];
  limits_.answer_time = milliseconds(200);
  connection = Open();
  // Nobody reads: the time ends it.
  const std::string much(1 << 20, 'x');
  while (connection->write(much.data(), much.size()) > 0) {
  }
  std::string got(much.size(), 0);
  ASSERT_GT(::recv(peer_, got.data(), got.size(), 0), 0);
  EXPECT_EQ(connection->write("late", 4), -1);
  ssize_t sent = -1;
  const auto until = std::chrono::steady_clock::now() + hours(1);
  while (sent < 0 && std::chrono::steady_clock::now() < until) {
    connection->RenewAnswer();
    sent = connection->write("anew", 4);
  }
  EXPECT_EQ(sent, 4);
}

TEST_F(HttpConnectionTest, WhatIsWrittenGoesOnForAsLongAsItMay) {
  limits_.write_time = std::chrono::minutes(1);
  HttpConnection* connection = Open();
  int asked = 0;
  connection->GoesOnWhile([&asked] { return ++asked < 100; });
  // Nobody reads: it waits, and is asked meanwhile.
  const std::string much(1 << 20, 'x');
  while (connection->write(much.data(), much.size()) > 0) {
    if (asked < 97) asked = 97;
  }
  EXPECT_EQ(asked, 100);
  EXPECT_EQ(refused_.refused(Limit::kAnswerTime), 0u);
  // The last word is for those, too, who may have no more.
  connection->GoesOnWhile(nullptr);
  std::string got(much.size(), 0);
  while (::recv(peer_, got.data(), got.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_EQ(connection->write("over", 4), 4);
}

TEST_F(HttpConnectionTest, ALateByteIsNoRequest) {
  limits_.request_time = milliseconds(0);
  HttpConnection* connection = Open();
  Say("x");
  char c;
  EXPECT_EQ(connection->read(&c, 1), -1);
}

TEST_F(HttpConnectionTest, WhatAnAnswerTakesIsGivenBackAtTheEnd) {
  AnswerRoom room;
  HttpConnection* connection = Open();
  auto answer = std::make_shared<HeldAnswer>(&room, connection->client());
  ASSERT_TRUE(answer->Grow(1000).ok());
  connection->Hold(std::move(answer));
  EXPECT_EQ(room.taken(), 1000u);
  connection_ = nullptr;
  EXPECT_EQ(room.taken(), 0u);
}

TEST_F(HttpConnectionTest, TheOtherSideGetsAllBeforeItIsClosed) {
  HttpConnection* connection = Open();
  Say("what nobody reads");
  EXPECT_EQ(connection->write("bye", 3), 3);
  std::thread closer([this] { connection_ = nullptr; });
  std::string got;
  char buffer[64];
  for (ssize_t n; (n = ::recv(peer_, buffer, sizeof buffer, 0)) > 0;) {
    got.append(buffer, static_cast<std::size_t>(n));
  }
  EXPECT_EQ(got, "bye");
  ::close(peer_);
  peer_ = -1;
  closer.join();
}

TEST_F(HttpConnectionTest, EndAllEndsWhatIsWaitedFor) {
  Open();
  std::thread ender([this] { all_->EndAll(); });
  EXPECT_EQ(ReadAll(), "");
  ender.join();
  all_->AwaitNone(std::chrono::steady_clock::now());  // One is left.
  connection_ = nullptr;
  all_->AwaitNone(std::chrono::steady_clock::now() + hours(1));
}

}  // namespace
}  // namespace gradtap::server
