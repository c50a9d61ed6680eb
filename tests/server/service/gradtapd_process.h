// The program gradtapd as a child of the test.

#ifndef GRADTAP_TESTS_SERVER_SERVICE_GRADTAPD_PROCESS_H_
#define GRADTAP_TESTS_SERVER_SERVICE_GRADTAPD_PROCESS_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace gradtap::server::testing {

// Killed with the test.
class Gradtapd {
 public:
  Gradtapd(const std::string& error_file,
           const std::vector<std::string>& arguments) {
    int out[2];
    EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO,
                                     error_file.c_str(),
                                     O_CREAT | O_TRUNC | O_WRONLY, 0600);
    std::vector<std::string> all = {GRADTAPD_PATH};
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& argument : all) argv.push_back(argument.data());
    argv.push_back(nullptr);
    EXPECT_EQ(::posix_spawn(&pid_, GRADTAPD_PATH, &actions, nullptr,
                            argv.data(), environ),
              0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(out[1]);
    out_ = ::fdopen(out[0], "r");
    error_file_ = error_file;
  }
  ~Gradtapd() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      Wait();
    }
    std::fclose(out_);
  }
  Gradtapd(const Gradtapd&) = delete;
  Gradtapd& operator=(const Gradtapd&) = delete;

  // The next line of its standard output, without the newline; "" at the end.
  std::string ReadLine() {
    std::string line;
    for (int c = std::fgetc(out_); c != EOF && c != '\n';
         c = std::fgetc(out_)) {
      line.push_back(static_cast<char>(c));
    }
    return line;
  }

  void Signal(int number) { ::kill(pid_, number); }

  // Its exit code, or minus the signal that killed it.
  int Wait() {
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  std::string Errors() const { return ReadAll(error_file_); }

  pid_t pid() const { return pid_; }
  std::size_t OpenFiles() const {
    const std::filesystem::directory_iterator files(
        "/proc/" + std::to_string(pid_) + "/fd");
    return static_cast<std::size_t>(std::distance(begin(files), end(files)));
  }

  // A file of /proc.
  std::string Proc(const std::string& name) const {
    return ReadAll("/proc/" + std::to_string(pid_) + "/" + name);
  }

 private:
  static std::string ReadAll(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  pid_t pid_ = 0;
  std::FILE* out_ = nullptr;
  std::string error_file_;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_SERVICE_GRADTAPD_PROCESS_H_
