#include "server/limits/connection_table.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <set>
#include <string>

#include "support/manual_clock.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::ManualClock;
using std::chrono::hours;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr auto kAnswer = ConnectionTimer::For::kAnswer;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// Sockets that are what a test says.
class FakeSockets final : public Sockets {
 public:
  std::uint64_t Identity(int fd) const override {
    const auto found = identities.find(fd);
    return found == identities.end() ? 0 : found->second;
  }
  Traffic TrafficOf(int fd) const override {
    const auto found = traffic.find(fd);
    return found == traffic.end() ? Traffic() : found->second;
  }
  std::uint64_t LeftBy(int fd) const override {
    const auto found = left.find(fd);
    return found == left.end() ? 0 : found->second;
  }
  void End(int fd, std::uint64_t identity) const override {
    if (Identity(fd) == identity) ended.insert(fd);
  }

  std::map<int, std::uint64_t> identities;
  std::map<int, Traffic> traffic;
  std::map<int, std::uint64_t> left;
  mutable std::set<int> ended;
};

class ConnectionTableTest : public ::testing::Test {
 protected:
  static ConnectionCaps Few() {
    ConnectionCaps caps;
    caps.connections = 5;
    caps.of_a_client = 3;
    return caps;
  }
  static std::string Peer(int fd, const std::string& host = "192.0.2.1") {
    return "ipv4:" + host + ":" + std::to_string(1000 + fd);
  }
  bool Open(int fd, const std::string& host = "192.0.2.1") {
    sockets_.identities[fd] = ++last_;
    return table_.Admit(fd, Peer(fd, host));
  }
  void Close(int fd) {
    sockets_.identities.erase(fd);
    sockets_.traffic.erase(fd);
  }
  std::shared_ptr<OpenConnection> Find(int fd) { return table_.Find(Peer(fd)); }

  ManualClock clock_;
  FakeSockets sockets_;
  LimitCounters refused_;
  ConnectionCaps caps_ = Few();
  ConnectionTable table_{caps_, &clock_, &sockets_, &refused_};
  std::uint64_t last_ = 0;
};

TEST_F(ConnectionTableTest, OneClientMayNotHaveThemAll) {
  for (int fd = 0; fd < 3; ++fd) EXPECT_TRUE(Open(fd));
  EXPECT_FALSE(Open(3));
  EXPECT_EQ(refused_.refused(Limit::kClientConnections), 1u);
  EXPECT_TRUE(Open(4, "192.0.2.2"));
  EXPECT_TRUE(Open(5, "192.0.2.3"));
  EXPECT_FALSE(Open(6, "192.0.2.4"));
  EXPECT_EQ(refused_.refused(Limit::kConnections), 1u);
  EXPECT_EQ(table_.size(), 5u);
}

TEST_F(ConnectionTableTest, ASecondOneOfTheSamePortIsClosed) {
  EXPECT_TRUE(Open(0));
  sockets_.identities[1] = ++last_;
  EXPECT_FALSE(table_.Admit(1, Peer(0)));  // To another address of ours.
  EXPECT_EQ(refused_.refused(Limit::kClientConnections), 1u);
  sockets_.traffic[0].received = 40 * kMiB;
  table_.Look();
  EXPECT_THAT(sockets_.ended, ElementsAre(0));
  Close(0);
  EXPECT_TRUE(table_.Admit(1, Peer(0)));
  EXPECT_EQ(table_.size(), 1u);
}

TEST_F(ConnectionTableTest, WhoLeftTooMuchBehindWaitsUntilItIsRead) {
  EXPECT_TRUE(Open(0));
  EXPECT_TRUE(Open(1));
  sockets_.left[0] = 50 << 10;
  sockets_.left[1] = 14 << 10;
  EXPECT_TRUE(Open(2));
  Close(2);
  clock_.Advance(seconds(1));
  sockets_.left[1] += 1;
  EXPECT_FALSE(Open(3));
  EXPECT_EQ(refused_.refused(Limit::kLeftBytes), 1u);
  EXPECT_TRUE(Open(4, "192.0.2.2"));  // Others have left nothing.
  sockets_.left[0] = 0;
  EXPECT_TRUE(Open(3));
}

TEST_F(ConnectionTableTest, WhatAClosedOneHadLeftIsForgotten) {
  EXPECT_TRUE(Open(0));
  sockets_.left[0] = 1 << 20;
  EXPECT_FALSE(Open(1));
  // The system has given the number to another socket, which says the same.
  sockets_.identities[0] = ++last_;
  EXPECT_TRUE(Open(1));
}

TEST_F(ConnectionTableTest, WhoDoesNotReadAnAnswerInTimeIsEndedOnce) {
  EXPECT_TRUE(Open(0));
  EXPECT_TRUE(Open(1));
  EXPECT_TRUE(Open(2));
  const ConnectionTimer unread(&table_, Find(0), kAnswer);
  auto read = std::make_unique<ConnectionTimer>(&table_, Find(1), kAnswer);
  clock_.Advance(caps_.answer_time - std::chrono::milliseconds(1));
  const ConnectionTimer later(&table_, Find(2), kAnswer);
  const ConnectionTimer of_nobody(&table_, nullptr, kAnswer);
  table_.Look();
  EXPECT_THAT(sockets_.ended, IsEmpty());
  read = nullptr;
  clock_.Advance(std::chrono::milliseconds(1));
  table_.Look();
  table_.Look();
  EXPECT_THAT(sockets_.ended, ElementsAre(0));
  EXPECT_EQ(refused_.refused(Limit::kAnswerTime), 1u);
}

TEST_F(ConnectionTableTest, WhoSendsNoRequestInTimeIsEnded) {
  EXPECT_TRUE(Open(0));
  EXPECT_TRUE(Open(1));
  const ConnectionTimer answer(&table_, Find(0), kAnswer);
  const ConnectionTimer request(&table_, Find(1),
                                ConnectionTimer::For::kRequest);
  clock_.Advance(caps_.request_time - std::chrono::milliseconds(1));
  table_.Look();
  EXPECT_THAT(sockets_.ended, IsEmpty());
  clock_.Advance(std::chrono::milliseconds(1));
  table_.Look();
  EXPECT_THAT(sockets_.ended, ElementsAre(1));
  EXPECT_EQ(refused_.refused(Limit::kRequestTime), 1u);
  EXPECT_EQ(refused_.refused(Limit::kAnswerTime), 0u);
}

TEST_F(ConnectionTableTest, OfTwoAnswersOfAConnectionEachHasItsTime) {
  EXPECT_TRUE(Open(0));
  auto one = std::make_unique<ConnectionTimer>(&table_, Find(0), kAnswer);
  const ConnectionTimer other(&table_, Find(0), kAnswer);
  one = nullptr;
  clock_.Advance(caps_.answer_time);
  table_.Look();
  EXPECT_THAT(sockets_.ended, ElementsAre(0));
}

TEST(SystemSocketsTest, WhatIsLeftIsWhatNobodyReadsOfOneThatHasGone) {
  const Sockets& system = Sockets::OfTheSystem();
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener, 2), 0);
  ASSERT_EQ(
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const auto connect = [&] {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
    return fd;
  };
  const std::string much(5000, 'x');
  const int there = connect();
  const int ours = ::accept(listener, nullptr, nullptr);
  ASSERT_EQ(::send(there, much.data(), much.size(), 0), 5000);
  std::string first(1000, ' ');
  ASSERT_EQ(::recv(ours, first.data(), first.size(), MSG_WAITALL), 1000);
  EXPECT_EQ(system.LeftBy(ours), 0u);  // It may go on.
  ::close(there);
  pollfd gone{ours, POLLRDHUP, 0};
  ASSERT_EQ(::poll(&gone, 1, 60'000), 1);
  EXPECT_EQ(system.LeftBy(ours), 4000u);
  system.End(ours, system.Identity(ours) + 1);  // That is another one.
  EXPECT_EQ(system.LeftBy(ours), 4000u);
  system.End(ours, system.Identity(ours));
  EXPECT_EQ(system.LeftBy(ours), 0u);
  EXPECT_EQ(::recv(ours, first.data(), first.size(), MSG_DONTWAIT), 0);
  ::close(ours);
  ::close(listener);
  EXPECT_EQ(system.LeftBy(ours), 0u);
}

TEST_F(ConnectionTableTest, OnePeerHasManySpellings) {
  sockets_.identities[1] = 1;
  ASSERT_TRUE(table_.Admit(1, "ipv6:%5B2001:db8::1%25eth0%5D:7"));
  EXPECT_NE(table_.Find("ipv6:[2001:db8:0::1%25eth0]:7"), nullptr);
  EXPECT_NE(table_.Find("ipv6:%5B2001:DB8::1%5D:7"), nullptr);
  EXPECT_EQ(table_.Find("ipv6:%5B2001:db8::1%5D:8"), nullptr);
  EXPECT_EQ(table_.Find("ipv6:%5B2001:db8::2%5D:7"), nullptr);
  sockets_.identities[2] = 2;
  ASSERT_TRUE(table_.Admit(2, "ipv6:[::ffff:192.0.2.1]:9"));
  EXPECT_NE(table_.Find("ipv4:192.0.2.1:9"), nullptr);
  for (const char* other : {"", ":", "unix:", "unix:/run/a:b", "ipv4:"}) {
    EXPECT_EQ(table_.Find(other), nullptr) << other;
  }
}

TEST_F(ConnectionTableTest, OnesThatWereClosedMakeRoom) {
  for (int fd = 0; fd < 3; ++fd) EXPECT_TRUE(Open(fd));
  Close(1);
  EXPECT_TRUE(Open(3));
  EXPECT_FALSE(Open(4));
  // A number that the system has given to another socket is another one, too.
  sockets_.identities[0] = ++last_;
  clock_.Advance(seconds(1));
  EXPECT_TRUE(Open(5));
  EXPECT_EQ(table_.size(), 3u);
}

TEST_F(ConnectionTableTest, APortThatComesAgainIsCountedOnce) {
  EXPECT_TRUE(Open(0));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Open(0));
  EXPECT_EQ(table_.size(), 1u);
  EXPECT_TRUE(Open(1));
  EXPECT_TRUE(Open(2));
  EXPECT_FALSE(Open(3));
}

TEST_F(ConnectionTableTest, WhoHoldsTooMuchIsEndedAndNobodyElse) {
  for (int fd = 0; fd < 3; ++fd) Open(fd);
  sockets_.traffic[0].received = 31 * kMiB;
  sockets_.traffic[1].received = 33 * kMiB;
  sockets_.traffic[2].received = 1'000'000 * kMiB;
  Find(2)->Took(1'000'000 * kMiB);
  table_.Look();
  EXPECT_THAT(sockets_.ended, ElementsAre(1));
  EXPECT_EQ(refused_.refused(Limit::kHeldBytes), 1u);
}

TEST_F(ConnectionTableTest, WhileAllHoldTooMuchTheLargestIsEnded) {
  caps_.held_in_all = 64 * kMiB;
  ConnectionTable table(caps_, &clock_, &sockets_, &refused_);
  for (int fd = 0; fd < 5; ++fd) {
    sockets_.identities[fd] = ++last_;
    EXPECT_TRUE(table.Admit(fd, Peer(fd, "192.0.2." + std::to_string(fd))));
    sockets_.traffic[fd].received = static_cast<std::uint64_t>(10 + fd) * kMiB;
  }
  table.Look();  // 60 MiB.
  EXPECT_THAT(sockets_.ended, IsEmpty());
  sockets_.traffic[2].received = 20 * kMiB;
  table.Look();
  EXPECT_THAT(sockets_.ended, ElementsAre(2));
}

TEST_F(ConnectionTableTest, WhoHoldsNoMoreThanAMessageStaysWhateverOthersHold) {
  caps_.held_in_all = kMiB;
  ConnectionTable table(caps_, &clock_, &sockets_, &refused_);
  for (int fd = 0; fd < 3; ++fd) {
    sockets_.identities[fd] = ++last_;
    table.Admit(fd, Peer(fd));
    sockets_.traffic[fd].received = 4 * kMiB;
  }
  table.Look();
  EXPECT_THAT(sockets_.ended, IsEmpty());
}

TEST_F(ConnectionTableTest, WhoGoesOnAfterRefusalsIsEnded) {
  Open(0);
  Open(1);
  const std::chrono::steady_clock::time_point now{std::chrono::hours(1)};
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(Find(0)->RefusedAgain(now));
  EXPECT_TRUE(Find(0)->RefusedAgain(now));
  EXPECT_FALSE(Find(1)->RefusedAgain(now));
  // A connection lives for weeks: old ones do not count.
  EXPECT_FALSE(Find(0)->RefusedAgain(now + std::chrono::minutes(1)));
  table_.End(*Find(0));
  EXPECT_THAT(sockets_.ended, ElementsAre(0));
  const auto gone = Find(1);
  sockets_.identities[1] = ++last_;
  table_.End(*gone);
  EXPECT_THAT(sockets_.ended, ElementsAre(0));
}

TEST_F(ConnectionTableTest, WhoIsEndedForRefusalsGetsNoNewOneForASecond) {
  Open(0);
  Open(1, "192.0.2.2");
  table_.EndAndShut(*Find(0));
  EXPECT_THAT(sockets_.ended, ElementsAre(0));
  EXPECT_FALSE(Open(2));
  EXPECT_EQ(refused_.refused(Limit::kClientRequests), 1u);
  EXPECT_TRUE(Open(3, "192.0.2.2"));  // Others do.
  clock_.Advance(ConnectionTable::kShutTime - std::chrono::milliseconds(1));
  EXPECT_FALSE(Open(2));
  clock_.Advance(std::chrono::milliseconds(1));
  EXPECT_TRUE(Open(2));
}

// Of 1 KiB messages with heads of 100 bytes; of a watch that acknowledges what
// it gets; of pings alone.
TEST_F(ConnectionTableTest, WhatComesBesidesMessagesIsNotHeld) {
  for (int fd = 0; fd < 3; ++fd) Open(fd);
  for (int i = 0; i < 1'000'000; ++i) {
    sockets_.traffic[0].received += 1'124;
    Find(0)->Took(1'024);
  }
  sockets_.traffic[1].sent = 1'000'000 * kMiB;
  sockets_.traffic[1].received = 1'000 * kMiB;
  clock_.Advance(hours(1'000));
  sockets_.traffic[2].received = std::uint64_t{1'000} * 3'600 * 1'000;
  table_.Look();
  EXPECT_THAT(sockets_.ended, IsEmpty());
}

TEST_F(ConnectionTableTest, AFigureOfAnotherSocketIsNobodys) {
  Open(0);
  sockets_.identities[0] = ++last_;
  sockets_.traffic[0].received = 100 * kMiB;
  table_.Look();
  EXPECT_THAT(sockets_.ended, IsEmpty());
  EXPECT_EQ(table_.size(), 0u);
}

TEST(ClientOfTest, APortIsNoPartOfAClient) {
  EXPECT_EQ(ClientOf("ipv4:192.0.2.1:4000"), "192.0.2.1");
  EXPECT_EQ(ClientOf("ipv6:[2001:db8:0:1:2:3:4:5]:1"), "2001:db8:0:1::/64");
  EXPECT_EQ(ClientOf("ipv6:%5B2001:db8:0:1::9%5D:1"), "2001:db8:0:1::/64");
  EXPECT_EQ(ClientOf("ipv6:[::1]:7317"), "::/64");
  EXPECT_EQ(ClientOf("ipv6:[::ffff:192.0.2.1]:7317"), "192.0.2.1");
  EXPECT_EQ(ClientOf("ipv6:[fe80::1%25eth0]:7317"), "fe80::/64");
  EXPECT_EQ(ClientOf("unix:/run/gradtap/grpc"), "unix:/run/gradtap/grpc");
  EXPECT_EQ(ClientOf("unix:"), "unix:");
  EXPECT_EQ(ClientOf(""), "");
}

// Two ends of a real connection.
class SocketsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(::bind(listener, raw, size), 0);
    ASSERT_EQ(::listen(listener, 1), 0);
    ASSERT_EQ(::getsockname(listener, raw, &size), 0);
    near_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::connect(near_, raw, size), 0);
    far_ = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    ::close(listener);
  }
  void TearDown() override {
    ::close(near_);
    ::close(far_);
  }

  const Sockets& sockets_ = Sockets::OfTheSystem();
  int near_ = -1;
  int far_ = -1;
};

TEST_F(SocketsTest, WhatHasBeenReadIsReceived) {
  EXPECT_EQ(sockets_.TrafficOf(far_).received, 0u);
  const std::string bytes(1'000, 'x');
  ASSERT_EQ(::send(near_, bytes.data(), bytes.size(), 0), 1'000);
  char buffer[600];
  ASSERT_EQ(::recv(far_, buffer, sizeof buffer, MSG_WAITALL), 600);
  EXPECT_EQ(sockets_.TrafficOf(far_).received, 600u);
}

TEST_F(SocketsTest, ADescriptorThatIsAnotherSocketIsLeftAlone) {
  const std::uint64_t identity = sockets_.Identity(far_);
  EXPECT_NE(identity, 0u);
  EXPECT_NE(identity, sockets_.Identity(near_));
  sockets_.End(near_, identity);
  ASSERT_EQ(::send(near_, "x", 1, MSG_NOSIGNAL), 1);
  sockets_.End(far_, identity);
  char byte;
  EXPECT_EQ(::recv(near_, &byte, 1, 0), 0);
  EXPECT_EQ(sockets_.Identity(-1), 0u);
}

}  // namespace
}  // namespace gradtap::server
