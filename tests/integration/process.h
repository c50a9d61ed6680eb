// Child processes of a test, and only those.
//
// Standard input and output are pipes, standard error goes to a file of the
// process's own. A child dies with the thread that started it, and at the
// latest in the destructor.

#ifndef GRADTAP_TESTS_INTEGRATION_PROCESS_H_
#define GRADTAP_TESTS_INTEGRATION_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "support/free_port.h"
#include "support/temp_dir.h"

namespace gradtap::testing {

// Added to this process's environment; GRADTAP_* of ours is not handed on, and
// GRADTAP_BUDGET is 0 and GRADTAP_RING_FOLDER a folder of its own unless given.
using Environment = std::map<std::string, std::string>;

struct Exit {
  // 0..255, or -N if signal N ended it.
  int code = -1000;
  long peak_rss_kib = 0;
};

// One thread. What a child writes and nobody reads stays in the pipe: read it,
// or use RunProgram().
class Process {
 public:
  Process(const std::vector<std::string>& argv, const Environment& env = {});
  ~Process();  // SIGKILL if it still runs.
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }

  // The next line without its end. Nothing: the output has ended, or `timeout`.
  std::optional<std::string> ReadLine(
      std::chrono::milliseconds timeout = std::chrono::seconds(120));
  // All that is left of the output, until it ends or `timeout`.
  std::string ReadAll(
      std::chrono::milliseconds timeout = std::chrono::seconds(120));
  void Write(const std::string& text);
  void CloseInput();

  void Signal(int signal);
  // Nothing: it still runs after `timeout`. Idempotent after an exit.
  std::optional<Exit> Wait(
      std::chrono::milliseconds timeout = std::chrono::seconds(120));
  bool running() { return !Wait(std::chrono::milliseconds(0)).has_value(); }

  // Standard error so far.
  std::string Errors() const;

 private:
  bool Fill(std::chrono::steady_clock::time_point deadline);

  TempDir dir_;
  pid_t pid_ = -1;
  int input_ = -1;
  int output_ = -1;
  std::string buffer_;
  std::optional<Exit> exit_;
};

struct Outcome {
  Exit exit;
  std::string out;
  std::string err;
};

// Runs a program to its end; after `timeout` it is killed.
Outcome RunProgram(
    const std::vector<std::string>& argv, const Environment& env = {},
    std::chrono::milliseconds timeout = std::chrono::seconds(120));

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& content);

// Non-empty lines of a text.
std::vector<std::string> Lines(const std::string& text);

// What a program said on standard error, without the line that each one that
// runs for long enough has there: how long its ring lasts.
std::string WithoutNotes(const std::string& err);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_PROCESS_H_
