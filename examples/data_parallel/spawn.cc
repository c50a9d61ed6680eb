#include "examples/data_parallel/spawn.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "examples/common/interrupt.h"

namespace examples {
namespace {

// A folder for the file at which the ranks meet.
class MeetingPlace {
 public:
  MeetingPlace() {
    std::string path =
        (std::filesystem::temp_directory_path() / "data_parallel-XXXXXX")
            .string();
    if (::mkdtemp(path.data()) == nullptr) {
      throw std::runtime_error("cannot make the folder " + path);
    }
    path_ = path;
  }
  ~MeetingPlace() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  MeetingPlace(const MeetingPlace&) = delete;
  MeetingPlace& operator=(const MeetingPlace&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string LaunchName() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return "data_parallel-" + std::to_string(::getpid()) + "-" +
         std::to_string(now.count());
}

pid_t Start(int rank, const std::vector<char*>& argv) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  ::setenv("RANK", std::to_string(rank).c_str(), 1);
  ::setenv("LOCAL_RANK", std::to_string(rank).c_str(), 1);
  ::execv("/proc/self/exe", argv.data());
  std::perror("data_parallel: execv");
  ::_exit(1);
}

void Tell(const std::vector<pid_t>& ranks) {
  for (const pid_t pid : ranks) ::kill(pid, SIGTERM);
}

// Takes the ranks off the list as they end.
int WaitFor(std::vector<pid_t>* ranks) {
  int exit_code = 0;
  bool told = false;
  while (!ranks->empty()) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, WNOHANG);
    if (ended > 0) {
      std::erase(*ranks, ended);
      const int code =
          WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      if (exit_code == 0) exit_code = code;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (!told && (Interrupted() || exit_code != 0)) {
      Tell(*ranks);
      told = true;
    }
  }
  return exit_code;
}

}  // namespace

int Spawn(int ranks, char** argv) {
  const MeetingPlace place;
  std::string option = "--store";
  std::string store = place.path() + "/store";
  std::vector<char*> arguments;
  for (char** arg = argv; *arg != nullptr; ++arg) arguments.push_back(*arg);
  arguments.insert(arguments.end(), {option.data(), store.data(), nullptr});
  ::setenv("WORLD_SIZE", std::to_string(ranks).c_str(), 1);
  ::setenv("GRADTAP_LAUNCH", LaunchName().c_str(), 0);

  std::vector<pid_t> started;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t pid = Start(rank, arguments);
    if (pid < 0) {
      std::perror("data_parallel: fork");
      Tell(started);
      WaitFor(&started);
      return 1;
    }
    started.push_back(pid);
  }
  return WaitFor(&started);
}

}  // namespace examples
