// The program of trainer.cc as a child process.

#ifndef GRADTAP_TESTS_INTEGRATION_TRAINER_H_
#define GRADTAP_TESTS_INTEGRATION_TRAINER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "integration/process.h"

namespace gradtap::testing {

struct TrainerStatus {
  std::map<std::string, std::uint64_t> count;  // "seen", "recorded", ...
  std::vector<std::string> problems;

  // Those of AgentState.
  enum State { kDisabled, kIdle, kConnecting, kStreaming, kStopped };
  State state() const { return static_cast<State>(At("state")); }
  std::uint64_t At(const std::string& name) const {
    const auto found = count.find(name);
    return found == count.end() ? 0 : found->second;
  }
  // One of the problems has `text` in it.
  bool Says(const std::string& text) const;
};

class Trainer {
 public:
  // `env` gets GRADTAP_COLLECTOR and GRADTAP_RUN unless it has them.
  Trainer(const std::string& collector, const std::string& run,
          const std::string& model = "tiny", Environment env = {},
          int seed = 1);

  // Sends a command and waits for the answer, "" if there is none. A trainer
  // that ends meanwhile fails the test.
  std::string Do(const std::string& command);
  // Sends only; Answer() has what comes.
  void Send(const std::string& command) { process_.Write(command + "\n"); }
  std::string Answer();

  void Step(std::int64_t n) { Do("step " + std::to_string(n)); }
  // True if everything was delivered within the deadline.
  bool Flush(std::chrono::milliseconds deadline = std::chrono::seconds(40));
  TrainerStatus Status();

  // Ends it in the ordinary way; returns the exit code.
  int Quit();

  Process& process() { return process_; }

 private:
  Process process_;
};

// What `status` must satisfy at any time.
void ExpectBooksBalance(const TrainerStatus& status);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_TRAINER_H_
