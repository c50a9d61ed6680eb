// How a process ends, seen from outside: SIGTERM, and exit() while the network
// swallows everything. GRADTAP_SOAK=1 runs the long forms.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/delivery/child.h"
#include "agent/delivery/delivery.h"
#include "agent/delivery/delivery_fixtures.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using std::chrono::milliseconds;
using std::chrono::seconds;

// ---- The program under test. ----

volatile std::sig_atomic_t own_handler_ran = 0;
void OwnHandler(int) { own_handler_ran = 1; }

std::unique_ptr<Delivery> CreateOrDie(const std::string& port, bool sigterm,
                                      milliseconds deadline = seconds(30)) {
  DeliveryOptions options;
  options.collector = "127.0.0.1:" + port;
  options.run = "ends-test";
  if (sigterm) options.sigterm_deadline = deadline;
  auto delivery = Delivery::Create(options);
  if (!delivery.ok()) std::abort();
  (*delivery)->PutSchema(MakeSchema(1, 5));
  return *std::move(delivery);
}

std::string Disposition() {
  struct sigaction now;
  ::sigaction(SIGTERM, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) != 0) return "other";
  if (now.sa_handler == SIG_DFL) return "default";
  if (now.sa_handler == SIG_IGN) return "ignored";
  return now.sa_handler == &OwnHandler ? "own" : "other";
}

// A loop without an end, which says each step that has returned; with a handler
// of its own it ends like any other program.
int Train(const std::string& port, const std::string& how) {
  if (how == "own-before") std::signal(SIGTERM, &OwnHandler);
  if (how == "ignored") std::signal(SIGTERM, SIG_IGN);
  auto delivery = CreateOrDie(port, how != "not-asked");
  if (how == "own-after") std::signal(SIGTERM, &OwnHandler);
  std::cout << "SIGTERM is " << Disposition() << std::endl;
  const bool ends = how == "ignored";
  for (int step = 0; own_handler_ran == 0 && !(ends && step == 200); ++step) {
    delivery->PutStep(MakeStep(step, 1, 5));
    std::cout << step << std::endl;
    if (ends && step == 100) ::raise(SIGTERM);
  }
  delivery->Shutdown(EndReason::kFinished, seconds(30));
  delivery = nullptr;
  std::cout << "SIGTERM is " << Disposition() << std::endl;
  return 7;
}

// Two agents, one after the other and at once; then none.
int AttachAndLeave(const std::string& port) {
  for (int i = 0; i < 3; ++i) {
    const auto one = CreateOrDie(port, true);
    const auto two = CreateOrDie(port, true);
    std::cout << Disposition() << std::endl;
  }
  std::cout << Disposition() << std::endl;
  std::signal(SIGTERM, &OwnHandler);
  auto again = CreateOrDie(port, true);
  std::cout << Disposition() << std::endl;
  ::raise(SIGTERM);
  again = nullptr;
  std::cout << Disposition() << (own_handler_ran != 0 ? " ran" : "")
            << std::endl;
  return 0;
}

// The parent must not take its child's SIGTERM for its own.
int TerminateAChild(const std::string& port) {
  auto delivery = CreateOrDie(port, true);
  delivery->PutStep(MakeStep(0, 1, 5));
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  ::kill(child, SIGTERM);
  int status = 0;
  ::waitpid(child, &status, 0);
  std::cout << (WIFSIGNALED(status) ? WTERMSIG(status) : 0) << std::endl;
  delivery->PutStep(MakeStep(1, 1, 5));
  delivery->Shutdown(EndReason::kFinished, seconds(30));
  return 0;
}

// The signal and the end of the agent, in this order and at once.
int LeaveTerminated(const std::string& port) {
  auto delivery = CreateOrDie(port, true);
  for (int i = 0; i < 50; ++i) delivery->PutStep(MakeStep(i, 1, 5));
  ::raise(SIGTERM);
  delivery->Shutdown(EndReason::kFinished, seconds(30));
  delivery = nullptr;
  return 0;
}

// Nothing keeps the end: the thread that waits for the signal comes too late.
int LeaveIdle(const std::string& port) {
  auto delivery = CreateOrDie(port, true);
  ::raise(SIGTERM);
  delivery = nullptr;
  return 0;
}

int LeaveSlowly(const std::string& port) {
  auto delivery = CreateOrDie(port, true);
  for (int i = 0; i < 50; ++i) delivery->PutStep(MakeStep(i, 1, 5));
  std::cout << "leaving" << std::endl;
  delivery->Shutdown(EndReason::kFinished, seconds(30));
  delivery = nullptr;
  for (;;) ::pause();
}

std::ptrdiff_t Descriptors() {
  const std::filesystem::directory_iterator open("/proc/self/fd");
  return std::distance(begin(open), end(open));
}

int CountDescriptors(const std::string& port) {
  const std::ptrdiff_t before = Descriptors();
  const auto delivery = CreateOrDie(port, true);
  std::cout << Descriptors() - before << std::endl;
  return 0;
}

int HandleOnce(const std::string& port) {
  struct sigaction once = {};
  once.sa_handler = &OwnHandler;
  once.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGTERM, &once, nullptr);
  const auto delivery = CreateOrDie(port, true);
  ::raise(SIGTERM);
  std::cout << (own_handler_ran != 0 ? "ran" : "did not run") << ", SIGTERM is "
            << Disposition() << std::endl;
  ::raise(SIGTERM);
  return 0;
}

// Steps at hand, and out.
int Exit(const std::string& port) {
  static std::unique_ptr<Delivery> delivery = CreateOrDie(port, false);
  for (int i = 0; i < 50; ++i) delivery->PutStep(MakeStep(i, 1, 5));
  delivery->Flush(milliseconds(20));  // The call is under way.
  std::exit(42);
}

int Terminate(const std::string& port) {
  auto delivery = CreateOrDie(port, true, milliseconds(500));
  for (int i = 0; i < 50; ++i) delivery->PutStep(MakeStep(i, 1, 5));
  ::raise(SIGTERM);
  for (int i = 50;; ++i) delivery->PutStep(MakeStep(i, 1, 5));
}

// ---- The tests. ----

bool Soak() { return std::getenv("GRADTAP_SOAK") != nullptr; }

// What a trainer did that got SIGTERM in the middle.
struct Terminated {
  int status = 0;
  int returned = -1;   // The last step whose Put has returned.
  std::string before;  // The first line,
  std::string after;   // and the last one, if it is no step.
  std::string server;
};

Terminated TrainAndTerminate(const std::string& how, bool send = true) {
  Terminated result;
  Child server({"--serve"});
  const std::string port = server.ReadLine();
  Child trainer({"--train", port, how});
  result.before = trainer.ReadLine();
  for (std::string line; !(line = trainer.ReadLine()).empty();) {
    if (line[0] == 'S') {
      result.after = line;
    } else {
      result.returned = std::stoi(line);
      if (send && result.returned == 50) trainer.Signal(SIGTERM);
    }
  }
  result.status = trainer.Wait();
  server.CloseInput();
  result.server = server.ReadLine();
  return result;
}

bool KilledBySigterm(int status) {
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
}

TEST(SigtermTest, StopsTheStreamDeliversWhatReturnedAndEndsByTheSignal) {
  const Terminated t = TrainAndTerminate("asked");
  EXPECT_TRUE(KilledBySigterm(t.status)) << t.status;
  EXPECT_EQ(t.before, "SIGTERM is other");
  // A step may be in before its Put has returned, none the other way round.
  const int stored = std::stoi(t.server);
  EXPECT_GE(t.returned, 50);
  EXPECT_GE(stored, t.returned + 1);
  EXPECT_LE(stored, t.returned + 2);
  EXPECT_EQ(t.server, std::to_string(stored) + " stopped 0");
}

TEST(SigtermTest, NothingChangesUnlessItIsAskedFor) {
  const Terminated t = TrainAndTerminate("not-asked");
  EXPECT_EQ(t.before, "SIGTERM is default");
  EXPECT_TRUE(KilledBySigterm(t.status)) << t.status;
  EXPECT_NE(t.server.find(" no-end "), std::string::npos) << t.server;
}

TEST(SigtermTest, AHandlerOfTheProgramsRunsAndDecides) {
  const Terminated t = TrainAndTerminate("own-before");
  EXPECT_EQ(t.before, "SIGTERM is other");
  EXPECT_TRUE(WIFEXITED(t.status)) << t.status;
  EXPECT_EQ(WEXITSTATUS(t.status), 7);
  EXPECT_EQ(t.after, "SIGTERM is own");  // As it was.
  EXPECT_EQ(t.server, std::to_string(t.returned + 1) + " stopped 0");
}

TEST(SigtermTest, AHandlerThatTheProgramInstallsLaterIsLeftAlone) {
  const Terminated t = TrainAndTerminate("own-after");
  EXPECT_EQ(t.before, "SIGTERM is own");
  EXPECT_TRUE(WIFEXITED(t.status)) << t.status;
  EXPECT_EQ(t.after, "SIGTERM is own");
  EXPECT_EQ(t.server, std::to_string(t.returned + 1) + " finished 0");
}

TEST(SigtermTest, WhereItIsIgnoredTheLoopGoesOn) {
  const Terminated t = TrainAndTerminate("ignored", /*send=*/false);
  EXPECT_TRUE(WIFEXITED(t.status)) << t.status;
  EXPECT_EQ(t.returned, 199);
  EXPECT_EQ(t.before, "SIGTERM is ignored");  // By what it starts, too.
  EXPECT_EQ(t.after, "SIGTERM is ignored");
  EXPECT_EQ(t.server, "200 finished 0");
}

TEST(SigtermTest, TheDispositionComesBackWithTheLastAgent) {
  Child program({"--attach", "1"});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(program.ReadLine(), "other");
  EXPECT_EQ(program.ReadLine(), "default");
  EXPECT_EQ(program.ReadLine(), "other");
  EXPECT_EQ(program.ReadLine(), "own ran");
  EXPECT_EQ(program.Wait(), 0);
}

TEST(SigtermTest, AForkedChildEndsByItAndItsParentGoesOn) {
  Child server({"--serve"});
  Child program({"--fork", server.ReadLine()});
  EXPECT_EQ(program.ReadLine(), std::to_string(SIGTERM));
  EXPECT_EQ(program.Wait(), 0);
  server.CloseInput();
  EXPECT_EQ(server.ReadLine(), "2 finished 0");
}

TEST(SigtermTest, IsNotForgottenIfTheAgentGoesThatMoment) {
  for (int i = 0; i < 10; ++i) {
    Child server({"--serve"});
    Child program({"--leave", server.ReadLine()});
    EXPECT_TRUE(KilledBySigterm(program.Wait()));
    server.CloseInput();
    EXPECT_EQ(server.ReadLine(), "50 stopped 0");
  }
}

TEST(SigtermTest, IsNotForgottenIfTheAgentHasNothingToDeliver) {
  for (int i = 0; i < 20; ++i) {
    Child program({"--leave-idle", "1"});
    EXPECT_TRUE(KilledBySigterm(program.Wait()));
  }
}

TEST(SigtermTest, DoesNotCutAShutdownShort) {
  Child server({"--serve"});
  const std::string port = server.ReadLine();
  server.Signal(SIGSTOP);
  Child program({"--leave-slowly", port});
  EXPECT_EQ(program.ReadLine(), "leaving");
  program.Signal(SIGTERM);
  server.Signal(SIGCONT);
  EXPECT_TRUE(KilledBySigterm(program.Wait()));
  server.CloseInput();
  const std::string stored = server.ReadLine();  // Whichever came first.
  EXPECT_TRUE(stored == "50 finished 0" || stored == "50 stopped 0") << stored;
}

// A program that goes into the background closes what it finds.
TEST(SigtermTest, NeedsNoDescriptor) {
  Child program({"--descriptors", "1"});
  EXPECT_EQ(program.ReadLine(), "0");
  EXPECT_EQ(program.Wait(), 0);
}

TEST(SigtermTest, AHandlerForOneTimeRunsOneTime) {
  Child program({"--once", "1"});
  EXPECT_EQ(program.ReadLine(), "ran, SIGTERM is default");
  EXPECT_TRUE(KilledBySigterm(program.Wait()));
}

// Sockets that lead nowhere.
class BlackHole {
 public:
  enum class Kind {
    kNeverAccepts,  // The kernel answers the SYN, nobody else does.
    kNeverReads,
    kDrops,  // Not even a SYN is answered.
  };

  explicit BlackHole(Kind kind) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const plain = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof(address);
    if (::bind(listener_, plain, size) != 0 ||
        ::listen(listener_, kind == Kind::kDrops ? 0 : 16) != 0 ||
        ::getsockname(listener_, plain, &size) != 0) {
      std::abort();
    }
    port_ = ntohs(address.sin_port);
    if (kind == Kind::kNeverReads) {
      accepter_ = std::thread([this] {
        for (int fd; (fd = ::accept(listener_, nullptr, nullptr)) >= 0;) {
          held_.push_back(fd);
        }
      });
    }
    for (int i = 0; kind == Kind::kDrops && i < 3; ++i) {
      // They fill the backlog; what comes then is dropped.
      held_.push_back(
          ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      (void)::connect(held_.back(), plain, size);
    }
  }
  BlackHole(const BlackHole&) = delete;
  BlackHole& operator=(const BlackHole&) = delete;
  ~BlackHole() {
    ::shutdown(listener_, SHUT_RDWR);  // Ends accept().
    if (accepter_.joinable()) accepter_.join();
    for (const int fd : held_) ::close(fd);
    ::close(listener_);
  }

  std::string port() const { return std::to_string(port_); }

 private:
  int listener_ = -1;
  int port_ = 0;
  std::thread accepter_;
  std::vector<int> held_;
};

// Figures are printed, not asserted: the deadline is 2 s at exit, 0.5 s here
// for SIGTERM.
void EndInBlackHoles(const std::string& how, int times,
                     const std::function<void(int status)>& check) {
  for (const auto kind :
       {BlackHole::Kind::kNeverAccepts, BlackHole::Kind::kNeverReads,
        BlackHole::Kind::kDrops}) {
    BlackHole hole(kind);
    milliseconds longest{0};
    for (int i = 0; i < times; ++i) {
      const auto start = std::chrono::steady_clock::now();
      Child program({how, hole.port()});
      check(program.Wait());
      longest =
          std::max(longest, std::chrono::duration_cast<milliseconds>(
                                std::chrono::steady_clock::now() - start));
    }
    std::cout << how << " into hole " << static_cast<int>(kind) << ": " << times
              << " times, at most " << longest.count() << " ms\n";
  }
}

TEST(BlackHoleTest, ExitEndsWithItsOwnCode) {
  EndInBlackHoles("--exit", Soak() ? 34 : 2, [](int status) {
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    ASSERT_EQ(WEXITSTATUS(status), 42);
  });
}

TEST(BlackHoleTest, SigtermEndsByTheSignal) {
  EndInBlackHoles("--term", Soak() ? 34 : 2, [](int status) {
    ASSERT_TRUE(KilledBySigterm(status)) << status;
  });
}

}  // namespace
}  // namespace gradtap::agent

int main(int argc, char** argv) {
  namespace agent = gradtap::agent;
  const std::string how = argc > 1 ? argv[1] : "";
  if (how == "--serve") return agent::Serve();
  if (how == "--train") return agent::Train(argv[2], argv[3]);
  if (how == "--attach") return agent::AttachAndLeave(argv[2]);
  if (how == "--fork") return agent::TerminateAChild(argv[2]);
  if (how == "--leave") return agent::LeaveTerminated(argv[2]);
  if (how == "--leave-idle") return agent::LeaveIdle(argv[2]);
  if (how == "--leave-slowly") return agent::LeaveSlowly(argv[2]);
  if (how == "--descriptors") return agent::CountDescriptors(argv[2]);
  if (how == "--once") return agent::HandleOnce(argv[2]);
  if (how == "--exit") return agent::Exit(argv[2]);
  if (how == "--term") return agent::Terminate(argv[2]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
