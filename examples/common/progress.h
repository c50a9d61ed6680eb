// How a training program shows where it is and what its steps cost.
//
// On a terminal one line is redrawn, at most ten times a second, as wide as the
// terminal. Anywhere else (a pipe, a file, TERM=dumb) a plain line is printed
// every `steps_per_line` steps, without escape bytes. At the end comes a
// summary: steps a second, step time, and what the agent took of it.
//
// Layer: examples. One thread.

#ifndef GRADTAP_EXAMPLES_COMMON_PROGRESS_H_
#define GRADTAP_EXAMPLES_COMMON_PROGRESS_H_

#include <gradtap/agent.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace examples {

// What one line shows.
struct ProgressLine {
  std::int64_t step = 0;   // Steps done.
  std::int64_t steps = 0;  // Steps planned; 0: not known.
  double loss = 0;
  std::optional<double> accuracy;  // 0 to 1.
  double step_ms = 0;
  double agent_us = 0;  // Of each step, on the training thread.
};

// A bar and the figures, at most `width` columns: when they do not all fit, the
// bar shrinks, then figures are left out from the right.
std::string TerminalLine(const ProgressLine& line, int width);
// "step 100/600  loss 0.4321  ...", of any length.
std::string PlainLine(const ProgressLine& line);

struct ProgressOptions {
  std::int64_t steps = 0;
  std::int64_t steps_per_line = 50;
  bool quiet = false;  // The summary only.
  std::FILE* out = stdout;
};

class Progress {
 public:
  explicit Progress(const ProgressOptions& options);

  // A step has been taken; its time is that since the call before. Asks `tap`
  // for its status only when something is drawn.
  void Step(double loss, std::optional<double> accuracy,
            const gradtap::Agent& tap);

  // Leaves the line and prints the summary; first gives a collector that is
  // there a second to store the last steps.
  void Finish(gradtap::Agent& tap);

 private:
  void Draw(double loss, std::optional<double> accuracy,
            const gradtap::Agent& tap);

  using Clock = std::chrono::steady_clock;

  const ProgressOptions options_;
  const bool terminal_;
  std::int64_t done_ = 0;
  std::vector<float> step_ms_;  // All of them, for the median.
  Clock::time_point start_;
  Clock::time_point last_step_;
  // As of the last line drawn.
  Clock::time_point drawn_at_;
  std::int64_t drawn_steps_ = 0;
  std::chrono::nanoseconds drawn_own_time_{0};
  bool line_open_ = false;
};

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_COMMON_PROGRESS_H_
