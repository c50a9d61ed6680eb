#include "agent/standard_error.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "support/forked_child.h"

namespace gradtap::agent {
namespace {

std::string ReadAll(int fd) {
  std::string all;
  char some[65536];
  for (ssize_t n; (n = ::read(fd, some, sizeof(some))) > 0;) {
    all.append(some, static_cast<std::size_t>(n));
  }
  return all;
}

// Until it takes nothing more.
void FillUp(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  const std::string some(4096, '.');
  while (::write(fd, some.data(), some.size()) > 0) {
  }
  ::fcntl(fd, F_SETFL, flags);
}

// To the first newline; what came until then if none comes.
std::string ReadLine(int fd) {
  constexpr int kPatienceMs = 60'000;
  std::string line;
  pollfd poll{fd, POLLIN, 0};
  char c = 0;
  while (c != '\n' && ::poll(&poll, 1, kPatienceMs) == 1 &&
         ::read(fd, &c, 1) == 1) {
    line += c;
  }
  return line;
}

// A terminal that nobody sees but who reads `screen`.
struct Terminal {
  Terminal() {
    std::array<char, 64> path{};
    EXPECT_EQ(::grantpt(screen), 0);
    EXPECT_EQ(::unlockpt(screen), 0);
    EXPECT_EQ(::ptsname_r(screen, path.data(), path.size()), 0);
    program = ::open(path.data(), O_RDWR | O_NOCTTY | O_CLOEXEC);
    EXPECT_GE(program, 0);
  }
  ~Terminal() {
    ::close(program);
    ::close(screen);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  const int screen = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  int program = -1;
};

// What `f` says in a child whose standard error is `fd`. One that hangs is
// ended by SIGALRM.
int WithStandardError(int fd, const std::function<int()>& f) {
  return testing::InChild([&] {
    ::signal(SIGPIPE, SIG_DFL);
    ::signal(SIGXFSZ, SIG_DFL);
    ::alarm(120);
    ::dup2(fd, STDERR_FILENO);
    return f();
  });
}

// Says a message there.
int Said(int fd, const std::string& message) {
  return WithStandardError(fd, [&] {
    LogToStderr(message);
    return 0;
  });
}

class StandardErrorTest : public ::testing::Test {
 protected:
  StandardErrorTest() {
    EXPECT_EQ(::pipe2(pipe_.data(), O_CLOEXEC), 0);
    EXPECT_EQ(
        ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socket_.data()),
        0);
  }
  ~StandardErrorTest() override {
    for (const int fd : {pipe_[0], pipe_[1], socket_[0], socket_[1]}) {
      if (fd >= 0) ::close(fd);
    }
  }
  static void Close(int* fd) {
    ::close(*fd);
    *fd = -1;
  }

  std::array<int, 2> pipe_{-1, -1};  // Read from the first.
  std::array<int, 2> socket_{-1, -1};
};

TEST_F(StandardErrorTest, ALineIsWrittenWithItsNameAndItsEnd) {
  EXPECT_EQ(Said(pipe_[1], "a collector"), 0);
  EXPECT_EQ(Said(socket_[1], "a collector"), 0);
  Close(&pipe_[1]);
  Close(&socket_[1]);
  EXPECT_EQ(ReadAll(pipe_[0]), "gradtap: a collector\n");
  EXPECT_EQ(ReadAll(socket_[0]), "gradtap: a collector\n");
}

TEST_F(StandardErrorTest, ALongLineIsCutAndEndsLikeOthers) {
  EXPECT_EQ(Said(pipe_[1], std::string(100'000, 'x')), 0);
  Close(&pipe_[1]);
  const std::string got = ReadAll(pipe_[0]);
  EXPECT_EQ(got.size(), kMaxLineBytes);
  EXPECT_EQ(got.find('\n'), kMaxLineBytes - 1);
}

TEST_F(StandardErrorTest, WhatNobodyReadsDoesNotEndTheProcess) {
  Close(&pipe_[0]);
  Close(&socket_[0]);
  EXPECT_EQ(Said(pipe_[1], "a"), 0);
  EXPECT_EQ(Said(socket_[1], "a"), 0);
}

TEST_F(StandardErrorTest, WhatIsFullIsNotWaitedForAndTheLineIsDropped) {
  FillUp(pipe_[1]);
  FillUp(socket_[1]);
  EXPECT_EQ(Said(pipe_[1], "dropped"), 0);
  EXPECT_EQ(Said(socket_[1], "dropped"), 0);
  Close(&pipe_[1]);
  Close(&socket_[1]);
  EXPECT_EQ(ReadAll(pipe_[0]).find("dropped"), std::string::npos);
  EXPECT_EQ(ReadAll(socket_[0]).find("dropped"), std::string::npos);
}

TEST_F(StandardErrorTest, ATerminalThatNobodyReadsIsNotWaitedFor) {
  const Terminal terminal;
  // Several times what it holds: one of them finds room for a part of it.
  EXPECT_EQ(WithStandardError(terminal.program,
                              [] {
                                for (int i = 0; i < 4000; ++i) {
                                  LogToStderr(std::string(190, 'x'));
                                }
                                return 0;
                              }),
            0);
  EXPECT_EQ(ReadLine(terminal.screen),
            "gradtap: " + std::string(190, 'x') + "\r\n");
}

TEST_F(StandardErrorTest, ATerminalThatCannotBeOpenedAgainHasItsLines) {
  const Terminal terminal;
  EXPECT_EQ(WithStandardError(terminal.program,
                              [] {
                                const rlimit one{1, 1};  // For poll() itself.
                                ::setrlimit(RLIMIT_NOFILE, &one);
                                LogToStderr("a collector");
                                return 0;
                              }),
            0);
  EXPECT_EQ(ReadLine(terminal.screen), "gradtap: a collector\r\n");
}

TEST_F(StandardErrorTest, WhatIsSaidFromTheOtherEndOfATerminalComesInAtIts) {
  const Terminal terminal;
  EXPECT_EQ(Said(terminal.screen, "a collector"), 0);
  EXPECT_EQ(ReadLine(terminal.program), "gradtap: a collector\n");
}

TEST_F(StandardErrorTest, AFileAtItsLimitDoesNotEndTheProcess) {
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(WithStandardError(::fileno(file),
                              [] {
                                const rlimit none{0, 0};
                                ::setrlimit(RLIMIT_FSIZE, &none);
                                LogToStderr("a");
                                return 0;
                              }),
            0);
  std::fclose(file);
}

TEST_F(StandardErrorTest, TheMaskAndErrnoAreAsTheyWereBefore) {
  Close(&pipe_[0]);
  EXPECT_EQ(WithStandardError(pipe_[1],
                              [] {
                                errno = ENOTTY;
                                LogToStderr("a");
                                if (errno != ENOTTY) return 1;
                                sigset_t now;
                                ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
                                return ::sigismember(&now, SIGPIPE) ? 2 : 0;
                              }),
            0);
}

TEST_F(StandardErrorTest, ASignalThatTheProgramHoldsBackStaysItsOwn) {
  Close(&pipe_[0]);
  const auto pending = [] {
    sigset_t waiting;
    ::sigpending(&waiting);
    return ::sigismember(&waiting, SIGPIPE) == 1;
  };
  EXPECT_EQ(WithStandardError(pipe_[1],
                              [&] {
                                sigset_t held;
                                ::sigemptyset(&held);
                                ::sigaddset(&held, SIGPIPE);
                                ::pthread_sigmask(SIG_BLOCK, &held, nullptr);
                                LogToStderr("a");
                                if (pending()) return 1;
                                ::pthread_kill(::pthread_self(), SIGPIPE);
                                LogToStderr("b");
                                return pending() ? 0 : 2;
                              }),
            0);
}

TEST_F(StandardErrorTest, ADescriptorThatIsNoneIsPassedOver) {
  errno = 0;
  WriteLineOrDrop(-1, "a\n");
  EXPECT_EQ(errno, 0);
}

}  // namespace
}  // namespace gradtap::agent
