#include "integration/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <utility>

extern char** environ;

namespace gradtap::testing {
namespace {

using Clock = std::chrono::steady_clock;

int MillisecondsUntil(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30));
}

std::vector<std::string> EnvironmentFor(const Environment& env,
                                        const std::string& folder) {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    if (name.rfind("GRADTAP_", 0) != 0 && env.count(name) == 0) {
      entries.push_back(text);
    }
  }
  for (const auto& [name, value] : env) entries.push_back(name + "=" + value);
  // Models of tests are tiny, and all of their steps are wanted.
  if (env.count("GRADTAP_BUDGET") == 0) entries.push_back("GRADTAP_BUDGET=0");
  // Tests run beside each other: threads that wait leave the cores to others.
  // With LibTorch 2.6 two steps took minutes.
  if (env.count("OMP_WAIT_POLICY") == 0) {
    entries.push_back("OMP_WAIT_POLICY=passive");
  }
  // What they leave behind is for no other test.
  if (env.count("GRADTAP_SPOOL") == 0) entries.push_back("GRADTAP_SPOOL=off");
  if (env.count("GRADTAP_RING_FOLDER") == 0) {
    entries.push_back("GRADTAP_RING_FOLDER=" + folder + "/rings");
  }
  return entries;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

int PidDescriptor(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

}  // namespace

Process::Process(const std::vector<std::string>& argv, const Environment& env) {
  ::signal(SIGPIPE, SIG_IGN);  // A child that is gone is no reason to die.
  std::vector<std::string> arguments = argv;
  std::vector<std::string> entries = EnvironmentFor(env, dir_.path());
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> entry_pointers = Pointers(entries);
  int in[2], out[2];
  if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) {
    throw std::runtime_error("pipe2 failed");
  }
  const int errors = ::open((dir_.path() + "/stderr").c_str(),
                            O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {  // Nothing here that is not async-signal-safe.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(126);
    ::signal(SIGPIPE, SIG_DFL);
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::dup2(errors, 2);
    ::execve(argument_pointers[0], argument_pointers.data(),
             entry_pointers.data());
    ::_exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  ::close(errors);
  input_ = in[1];
  output_ = out[0];
  if (pid_ < 0) throw std::runtime_error("fork failed");
}

Process::~Process() {
  if (pid_ > 0 && !exit_) {
    ::kill(pid_, SIGKILL);
    int status;
    ::waitpid(pid_, &status, 0);
  }
  CloseInput();
  ::close(output_);
}

bool Process::Fill(Clock::time_point deadline) {
  pollfd waiting = {output_, POLLIN, 0};
  if (::poll(&waiting, 1, MillisecondsUntil(deadline)) <= 0) return false;
  char bytes[65536];
  const ssize_t got = ::read(output_, bytes, sizeof bytes);
  if (got <= 0) return false;
  buffer_.append(bytes, static_cast<std::size_t>(got));
  return true;
}

std::optional<std::string> Process::ReadLine(
    std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  std::size_t searched = 0;
  for (;;) {
    const std::size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    searched = buffer_.size();
    if (!Fill(deadline)) return std::nullopt;
  }
}

std::string Process::ReadAll(std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  while (Fill(deadline)) {
  }
  return std::exchange(buffer_, {});
}

void Process::Write(const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t put = ::write(input_, text.data() + done, text.size() - done);
    if (put <= 0) return;  // Gone: the next read says so.
    done += static_cast<std::size_t>(put);
  }
}

void Process::CloseInput() {
  if (input_ >= 0) ::close(input_);
  input_ = -1;
}

void Process::Signal(int signal) {
  if (!exit_) ::kill(pid_, signal);
}

std::optional<Exit> Process::Wait(std::chrono::milliseconds timeout) {
  if (exit_) return exit_;
  const Clock::time_point deadline = Clock::now() + timeout;
  const int descriptor = PidDescriptor(pid_);
  pollfd waiting = {descriptor, POLLIN, 0};
  ::poll(&waiting, 1, MillisecondsUntil(deadline));
  ::close(descriptor);
  int status = 0;
  rusage usage = {};
  if (::wait4(pid_, &status, WNOHANG, &usage) != pid_) return std::nullopt;
  Exit exit;
  exit.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  exit.peak_rss_kib = usage.ru_maxrss;
  exit_ = exit;
  return exit_;
}

std::string Process::Errors() const {
  return ReadFile(dir_.path() + "/stderr");
}

Outcome RunProgram(const std::vector<std::string>& argv, const Environment& env,
                   std::chrono::milliseconds timeout) {
  Process process(argv, env);
  process.CloseInput();
  const Clock::time_point deadline = Clock::now() + timeout;
  Outcome outcome;
  outcome.out = process.ReadAll(timeout);
  auto exit =
      process.Wait(std::chrono::milliseconds(MillisecondsUntil(deadline)));
  if (!exit) {
    process.Signal(SIGKILL);
    exit = process.Wait();
  }
  if (exit) outcome.exit = *exit;
  outcome.err = process.Errors();
  return outcome;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)),
                     std::istreambuf_iterator<char>());
}

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

std::string WithoutNotes(const std::string& err) {
  std::string rest;
  for (const std::string& line : Lines(err)) {
    if (line.rfind("gradtap: a step takes ", 0) != 0) rest += line + '\n';
  }
  return rest;
}

}  // namespace gradtap::testing
