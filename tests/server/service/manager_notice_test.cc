// What systemd hears of gradtapd: the datagrams themselves.

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "server/service/gradtapd_process.h"
#include "support/temp_dir.h"

namespace gradtap::server::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// The socket of a manager; it has a name in the environment of whatever the
// test starts.
class Manager {
 public:
  explicit Manager(const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) +
                                            name.size())),
              0)
        << name;
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  ~Manager() {
    ::unsetenv("NOTIFY_SOCKET");
    ::close(fd_);
  }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  // The next message; "" if none comes.
  std::string Next() {
    pollfd poll{fd_, POLLIN, 0};
    if (::poll(&poll, 1, 120'000) != 1) return "";
    std::array<char, 8'192> text{};
    const ssize_t bytes = ::recv(fd_, text.data(), text.size(), 0);
    return std::string(text.data(), bytes > 0 ? std::size_t(bytes) : 0);
  }
  // As others fill its queue while it does not read. How many messages fit.
  int Fill() {
    sockaddr_un address{};
    socklen_t size = sizeof address;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    int sent = 0;
    for (int before = -1; sent > before;) {
      // What one sender may have under way is less than what the queue holds.
      const int other = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      before = sent;
      while (::sendto(other, "X=1", 3, MSG_DONTWAIT,
                      reinterpret_cast<const sockaddr*>(&address), size) == 3) {
        ++sent;
      }
      EXPECT_EQ(errno, EAGAIN);
      ::close(other);
    }
    return sent;
  }
  bool has_message() {
    pollfd poll{fd_, POLLIN, 0};
    return ::poll(&poll, 1, 0) == 1;
  }

 private:
  int fd_ = -1;
};

class ManagerNoticeTest : public ::testing::Test {
 protected:
  std::unique_ptr<Gradtapd> Run(const std::string& listen = "127.0.0.1:0") {
    return std::make_unique<Gradtapd>(
        dir_.path() + "/stderr",
        std::vector<std::string>{"--data-dir", dir_.path() + "/data",
                                 "--grpc-listen", listen, "--http-listen",
                                 "off"});
  }

  // Opening, ready, stopping.
  void ExpectToBeTold(const std::string& name) {
    Manager manager(name);
    const auto gradtapd = Run();
    EXPECT_EQ(manager.Next(), "STATUS=opening " + dir_.path() + "/data");
    const std::string ready = manager.Next();
    const std::string line = gradtapd->ReadLine();
    ASSERT_THAT(line, StartsWith("gradtapd listening grpc=127.0.0.1:"));
    EXPECT_EQ(ready, "READY=1\nSTATUS=" + line.substr(sizeof "gradtapd"));
    gradtapd->Signal(SIGTERM);
    EXPECT_EQ(manager.Next(), "STOPPING=1\nSTATUS=draining");
    EXPECT_EQ(gradtapd->Wait(), 0);
    EXPECT_FALSE(manager.has_message());
  }

  gradtap::testing::TempDir dir_;
};

TEST_F(ManagerNoticeTest, AManagerHearsThatItIsReadyAndThatItStops) {
  ExpectToBeTold(dir_.path() + "/notify");
}

TEST_F(ManagerNoticeTest, AManagersSocketMayHaveNoFile) {
  ExpectToBeTold("@" + dir_.path() + "/notify");
}

TEST_F(ManagerNoticeTest, AManagerThatIsBusyHearsThatItIsReadyLater) {
  Manager manager(dir_.path() + "/notify");
  const int others = manager.Fill();
  const auto gradtapd = Run();
  const std::string line = gradtapd->ReadLine();
  ASSERT_THAT(line, StartsWith("gradtapd listening grpc=127.0.0.1:"));
  // It has tried by then.
  while (gradtapd->Errors().find("data in") == std::string::npos) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (int i = 0; i < others; ++i) EXPECT_EQ(manager.Next(), "X=1");
  EXPECT_EQ(manager.Next(),
            "READY=1\nSTATUS=" + line.substr(sizeof "gradtapd"));
  gradtapd->Signal(SIGTERM);
  EXPECT_EQ(manager.Next(), "STOPPING=1\nSTATUS=draining");
  EXPECT_EQ(gradtapd->Wait(), 0);
  EXPECT_FALSE(manager.has_message());
}

TEST_F(ManagerNoticeTest, AManagerThatNeverReadsKeepsNobodyFromStopping) {
  Manager manager(dir_.path() + "/notify");
  manager.Fill();
  const auto gradtapd = Run();
  EXPECT_THAT(gradtapd->ReadLine(), HasSubstr("listening"));
  gradtapd->Signal(SIGTERM);
  EXPECT_EQ(gradtapd->Wait(), 0);
}

TEST_F(ManagerNoticeTest, WhatDoesNotStartIsNeverReady) {
  Manager manager(dir_.path() + "/notify");
  const auto gradtapd = Run("192.0.2.1:7317");
  EXPECT_EQ(gradtapd->ReadLine(), "");
  EXPECT_EQ(gradtapd->Wait(), 2);
  EXPECT_THAT(manager.Next(), HasSubstr("STATUS=opening"));
  EXPECT_FALSE(manager.has_message());
}

// A line of its own would say something else to the manager.
TEST_F(ManagerNoticeTest, ANameCannotSayReady) {
  Manager manager(dir_.path() + "/notify");
  const Gradtapd gradtapd(
      dir_.path() + "/stderr",
      {"--data-dir", dir_.path() + "/none\nREADY=1/", "--grpc-listen",
       "192.0.2.1:7317", "--http-listen", "off"});
  EXPECT_EQ(manager.Next(),
            "STATUS=opening " + dir_.path() + "/none\\nREADY=1/");
}

TEST_F(ManagerNoticeTest, AManagerThatIsNotThereIsNoTrouble) {
  for (const std::string& name :
       {dir_.path() + "/nobody", std::string("@gradtap-nobody"),
        std::string("nonsense"), std::string(), "/" + std::string(200, 'n')}) {
    ASSERT_EQ(::setenv("NOTIFY_SOCKET", name.c_str(), 1), 0);
    const auto gradtapd = Run();
    ::unsetenv("NOTIFY_SOCKET");
    EXPECT_THAT(gradtapd->ReadLine(), HasSubstr("listening")) << name;
    gradtapd->Signal(SIGTERM);
    EXPECT_EQ(gradtapd->Wait(), 0) << name;
  }
}

}  // namespace
}  // namespace gradtap::server::testing
