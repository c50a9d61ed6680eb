// This program again, as a child process: a server, or a program with a
// delivery.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_CHILD_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_CHILD_H_

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "agent/delivery/test_server.h"

extern char** environ;

namespace gradtap::agent {

// Writes its port, serves until standard input ends, then writes what it has:
// recorded steps, "no-end", "stopped" or "finished", violations.
inline int Serve() {
  gradtap::testing::TestServer server;
  server.Start();
  std::cout << server.port() << std::endl;
  std::string ignored;
  std::getline(std::cin, ignored);
  server.Stop();
  const auto contents = server.collector().Contents();
  std::cout << contents.recorded.size() << " "
            << (!contents.end.has_value()                     ? "no-end"
                : contents.end->reason == EndReason::kStopped ? "stopped"
                                                              : "finished")
            << " " << server.collector().violations.size() << std::endl;
  return 0;
}

class Child {
 public:
  explicit Child(std::vector<std::string> args) {
    int in[2];
    int out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) {
      std::abort();
    }
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    std::string self = std::filesystem::read_symlink("/proc/self/exe");
    std::vector<char*> argv = {self.data()};
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    if (::posix_spawn(&pid_, self.c_str(), &actions, nullptr, argv.data(),
                      environ) != 0) {
      std::abort();
    }
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(in[0]);
    ::close(out[1]);
    in_ = in[1];
    out_ = ::fdopen(out[0], "r");
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    CloseInput();
    ::fclose(out_);
    if (pid_ > 0) Wait();
  }

  std::string ReadLine() {
    char line[256] = "";
    if (::fgets(line, sizeof(line), out_) == nullptr) return "";
    std::string text = line;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }
  void CloseInput() {
    if (in_ >= 0) ::close(in_);
    in_ = -1;
  }
  void Signal(int number) { ::kill(pid_, number); }
  int Wait() {
    int status = -1;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
  int in_ = -1;
  std::FILE* out_ = nullptr;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_CHILD_H_
