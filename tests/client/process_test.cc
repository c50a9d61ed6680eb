// The program itself: pipes, signals, a pseudo terminal.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "client/fake_query_service.h"

namespace gradtap::client::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Only in the child: becomes the program.
[[noreturn]] void Become(const std::vector<std::string>& args,
                         const std::string& address) {
  ::setenv("GRADTAP_COLLECTOR", address.c_str(), 1);
  ::setenv("TERM", "xterm", 1);
  ::unsetenv("NO_COLOR");
  std::vector<char*> argv = {const_cast<char*>("gradtap")};
  for (const std::string& arg : args) {
    argv.push_back(const_cast<char*>(arg.c_str()));
  }
  argv.push_back(nullptr);
  ::execv(GRADTAP_PROGRAM, argv.data());
  ::_exit(127);
}

// A program whose standard output this test reads.
class Program {
 public:
  // In a pipe; standard error goes to the test's own.
  static Program InPipe(const std::vector<std::string>& args,
                        const std::string& address) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    Program program;
    program.pid_ = ::fork();
    if (program.pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::close(STDIN_FILENO);
      ::open("/dev/null", O_RDONLY);
      Become(args, address);
    }
    ::close(ends[1]);
    program.fd_ = ends[0];
    return program;
  }

  // On a terminal of this size, standard input and error too.
  static Program OnTerminal(const std::vector<std::string>& args,
                            const std::string& address, int columns, int rows) {
    struct winsize size {};
    size.ws_col = static_cast<unsigned short>(columns);
    size.ws_row = static_cast<unsigned short>(rows);
    Program program;
    program.pid_ = ::forkpty(&program.fd_, nullptr, nullptr, &size);
    if (program.pid_ == 0) Become(args, address);
    return program;
  }

  Program(Program&& other)
      : pid_(std::exchange(other.pid_, -1)),
        fd_(std::exchange(other.fd_, -1)) {}
  ~Program() {
    CloseReader();
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  // Reads until `text` has come, or to the end; returns what came, all of it.
  const std::string& ReadUntil(const std::string& text) {
    while (seen_.find(text) == std::string::npos && ReadSome()) {
    }
    return seen_;
  }
  const std::string& ReadAll() {
    while (ReadSome()) {
    }
    return seen_;
  }

  void Type(const std::string& keys) {
    EXPECT_EQ(::write(fd_, keys.data(), keys.size()),
              static_cast<ssize_t>(keys.size()));
  }
  void Signal(int signal_number) { ::kill(pid_, signal_number); }
  void CloseReader() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  // The exit code, or -signal.
  int Wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  Program() = default;

  bool ReadSome() {
    struct pollfd wait {
      fd_, POLLIN, 0
    };
    // Long enough for any machine; the test's own limit is behind it.
    if (::poll(&wait, 1, 60'000) <= 0) return false;
    char buffer[4096];
    const ssize_t n = ::read(fd_, buffer, sizeof(buffer));
    if (n <= 0) return false;  // A terminal whose program has gone: EIO.
    seen_.append(buffer, static_cast<std::size_t>(n));
    return true;
  }

  pid_t pid_ = -1;
  int fd_ = -1;
  std::string seen_;
};

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["mnist"] = MakeMnist();
    collector_.service.runs["live"] = MakeLive("live", 5, 30);
    collector_.service.watch_stays_open = true;
    collector_.Start();
  }
  FakeCollector collector_;
};

TEST_F(ProcessTest, PipedOutputHasNoEscapeByte) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{
           {"runs"},
           {"params", "mnist"},
           {"params", "mnist", "--tree"},
           {"series", "mnist", "--stat", "grad.l2"},
           {"snapshot", "mnist"},
           {"top", "mnist"},
           {"compare", "mnist", "mnist"},
           {"watch", "live"},
           {"gaps", "mnist"},
           {"status"},
           {"export", "mnist"},
           {"delete", "mnist", "--yes"},
           {"--help"}}) {
    Program program = Program::InPipe(args, collector_.address());
    const std::string out = program.ReadAll();
    EXPECT_EQ(program.Wait(), 0) << args[0];
    EXPECT_FALSE(out.empty()) << args[0];
    EXPECT_THAT(out, Not(HasSubstr("\x1b"))) << args[0];
  }
}

TEST_F(ProcessTest, ExitCodesReachTheShell) {
  EXPECT_EQ(Program::InPipe({"params", "nope"}, collector_.address()).Wait(),
            1);
  EXPECT_EQ(Program::InPipe({"params"}, collector_.address()).Wait(), 2);
  EXPECT_EQ(Program::InPipe({"runs"}, "127.0.0.1:1").Wait(), 3);
}

TEST_F(ProcessTest, AReaderThatGoesAwayEndsAnExportQuietly) {
  std::vector<double> values(20'000, 0.1);
  FakeCollector big;
  big.service.runs["big"] = MakeValues("big", values);
  big.Start();
  Program program = Program::InPipe({"export", "big"}, big.address());
  program.ReadUntil("\n");
  program.CloseReader();
  EXPECT_EQ(program.Wait(), 0);
}

TEST_F(ProcessTest, AReaderThatGoesAwayEndsAWatch) {
  collector_.service.runs["endless"] = MakeLive("endless", 2000, 50);
  Program program = Program::InPipe({"watch", "endless"}, collector_.address());
  program.ReadUntil("step 1 ");
  program.CloseReader();
  EXPECT_EQ(program.Wait(), 0);
}

TEST_F(ProcessTest, CtrlCEndsAWatchWithZero) {
  collector_.service.runs["live"].watch.pop_back();
  Program program = Program::InPipe({"watch", "live"}, collector_.address());
  program.ReadUntil("step 4 layers.29.weight");
  program.Signal(SIGINT);
  EXPECT_EQ(program.Wait(), 0);
}

TEST_F(ProcessTest, ATerminalSeesATableRedrawnInPlace) {
  Program program =
      Program::OnTerminal({"watch", "live"}, collector_.address(), 60, 12);
  const std::string screen = program.ReadAll();
  EXPECT_EQ(program.Wait(), 0);
  // Up by the two lines of the frame that waits for the first step; each line
  // cleared to its end; no other screen.
  EXPECT_THAT(screen, HasSubstr("\x1b[2A"));
  EXPECT_THAT(screen, HasSubstr("\x1b[K"));
  EXPECT_THAT(screen, Not(HasSubstr("\x1b[?1049h")));
  EXPECT_THAT(screen, HasSubstr("live  finished  step 4"));
  EXPECT_THAT(screen, HasSubstr("more, by grad.l2"));
  EXPECT_THAT(screen, HasSubstr("run live finished at step 4"));
}

TEST_F(ProcessTest, CtrlCOnTheTerminalLeavesTheLastFrame) {
  collector_.service.runs["live"].watch.pop_back();
  Program program =
      Program::OnTerminal({"watch", "live"}, collector_.address(), 60, 12);
  program.ReadUntil("step 4");
  program.Type("\x03");
  const std::string screen = program.ReadAll();
  EXPECT_EQ(program.Wait(), 0);
  EXPECT_THAT(screen, Not(HasSubstr("finished")));
}

TEST_F(ProcessTest, DeleteAsksOnATerminal) {
  Program program =
      Program::OnTerminal({"delete", "mnist"}, collector_.address(), 100, 24);
  program.ReadUntil("[y/N]");
  program.Type("y\n");
  EXPECT_THAT(program.ReadAll(), HasSubstr("Deleted run mnist"));
  EXPECT_EQ(program.Wait(), 0);
}

TEST_F(ProcessTest, ANarrowTerminalShortensNames) {
  Program program =
      Program::OnTerminal({"params", "mnist"}, collector_.address(), 80, 24);
  const std::string screen = program.ReadAll();
  EXPECT_EQ(program.Wait(), 0);
  EXPECT_THAT(screen, Not(HasSubstr("encoder.1.running_mean")));
  EXPECT_THAT(screen, HasSubstr("\x1b[1m"));
}

}  // namespace
}  // namespace gradtap::client::testing
