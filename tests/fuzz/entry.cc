// A target under libFuzzer, with two options of ours:
//
//   --write-seeds=DIR   writes the target's seeds there and ends
//   --cpu-seconds=N     ends after N seconds of this process's CPU time
//
// libFuzzer's own -max_total_time and -timeout look at a wall's clock, which
// goes on while the process is stopped or waits for a core. Here a signal comes
// with each second of CPU time; an input during which two of them come has cost
// more than one second, and is a finding: no peer's message may.

#include <signal.h>
#include <sys/time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>

#include "fuzz/fuzz.h"

namespace {

constexpr int kStopAsked =
    SIGUSR1;  // On which libFuzzer ends with exit code 0.

std::atomic<long> g_seconds_left{-1};   // Negative: for ever.
std::atomic<int> g_ticks_of_input{-1};  // Negative: between two inputs.

void OnSecond(int) {
  if (g_ticks_of_input.load() >= 0 && g_ticks_of_input.fetch_add(1) == 1) {
    static constexpr char kWhat[] =
        "does not hold: an input costs less than a second\n";
    std::fwrite(kWhat, 1, sizeof(kWhat) - 1, stderr);
    std::abort();
  }
  if (g_seconds_left.load() > 0 && g_seconds_left.fetch_sub(1) == 1) {
    static_cast<void>(raise(kStopAsked));
  }
}

void CountSeconds() {
  struct sigaction action = {};
  action.sa_handler = OnSecond;
  action.sa_flags = SA_RESTART;
  sigaction(SIGPROF, &action, nullptr);
  const itimerval each_second = {{1, 0}, {1, 0}};
  setitimer(ITIMER_PROF, &each_second, nullptr);
}

void WriteSeeds(const std::string& dir) {
  int number = 0;
  for (const std::string& seed : gradtap::fuzz::Seeds()) {
    std::ofstream(dir + "/seed" + std::to_string(number++), std::ios::binary)
        << seed;
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view kSeeds = "--write-seeds=";
  constexpr std::string_view kSeconds = "--cpu-seconds=";
  for (int i = 1; i < *argc; ++i) {
    const std::string_view word = (*argv)[i];
    if (word.substr(0, kSeeds.size()) == kSeeds) {
      WriteSeeds(std::string(word.substr(kSeeds.size())));
      std::exit(0);
    }
    if (word.substr(0, kSeconds.size()) == kSeconds) {
      g_seconds_left = std::atol(word.data() + kSeconds.size());
    }
  }
  CountSeconds();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  g_ticks_of_input = 0;
  gradtap::fuzz::Try({reinterpret_cast<const char*>(data), size});
  g_ticks_of_input = -1;
  return 0;
}
