#include "examples/common/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace examples {
namespace {

constexpr std::chrono::milliseconds kRedraw{100};
constexpr int kBarColumns = 20;

template <typename... Args>
std::string Format(const char* format, Args... args) {
  char text[160];
  std::snprintf(text, sizeof text, format, args...);
  return text;
}

bool IsTerminal(std::FILE* out) {
  const char* term = std::getenv("TERM");
  return ::isatty(::fileno(out)) == 1 && term != nullptr &&
         std::strcmp(term, "dumb") != 0;
}

int TerminalWidth(std::FILE* out) {
  winsize size = {};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    return size.ws_col;
  }
  return 80;
}

double Milliseconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

std::string StepText(const ProgressLine& line) {
  return line.steps > 0
             ? Format("step %lld/%lld", static_cast<long long>(line.step),
                      static_cast<long long>(line.steps))
             : Format("step %lld", static_cast<long long>(line.step));
}

std::vector<std::string> Figures(const ProgressLine& line) {
  std::vector<std::string> figures;
  figures.push_back(Format("loss %.4f", line.loss));
  if (line.accuracy) {
    figures.push_back(Format("acc %.1f%%", 100 * *line.accuracy));
  }
  figures.push_back(Format("%.1f ms/step", line.step_ms));
  const double percent =
      line.step_ms > 0 ? line.agent_us / 10 / line.step_ms : 0;
  figures.push_back(Format("agent %.0f us (%.2f%%)", line.agent_us, percent));
  return figures;
}

const char* Describe(gradtap::AgentState state) {
  switch (state) {
    case gradtap::AgentState::kDisabled:
      return "disabled";
    case gradtap::AgentState::kIdle:
      return "idle";
    case gradtap::AgentState::kConnecting:
      return "collector not reached";
    case gradtap::AgentState::kStreaming:
      return "streaming";
    case gradtap::AgentState::kStopped:
      return "stopped";
    case gradtap::AgentState::kOffline:
      return "offline";
  }
  return "";
}

}  // namespace

std::string TerminalLine(const ProgressLine& line, int width) {
  std::string text = StepText(line);
  for (const std::string& figure : Figures(line)) {
    if (static_cast<int>(text.size() + 2 + figure.size()) > width) break;
    text += "  " + figure;
  }
  const int room = width - static_cast<int>(text.size()) - 3;
  if (line.steps > 0 && room >= 4) {
    const int columns = std::min(room, kBarColumns);
    const int full = static_cast<int>(
        columns * std::min(1.0, static_cast<double>(line.step) /
                                    static_cast<double>(line.steps)));
    std::string bar = "[";
    bar.append(static_cast<std::size_t>(full), '#');
    bar.append(static_cast<std::size_t>(columns - full), '.');
    text = bar.append("] ").append(text);
  }
  text.resize(std::min<std::size_t>(text.size(), std::max(width, 0)));
  return text;
}

std::string PlainLine(const ProgressLine& line) {
  std::string text = StepText(line);
  for (const std::string& figure : Figures(line)) text += "  " + figure;
  return text;
}

Progress::Progress(const ProgressOptions& options)
    : options_(options),
      terminal_(IsTerminal(options.out)),
      start_(Clock::now()),
      last_step_(start_),
      drawn_at_(start_) {
  step_ms_.reserve(static_cast<std::size_t>(
      std::clamp<std::int64_t>(options.steps, 0, 1 << 20)));
}

void Progress::Step(double loss, std::optional<double> accuracy,
                    const gradtap::Agent& tap) {
  const Clock::time_point now = Clock::now();
  step_ms_.push_back(static_cast<float>(Milliseconds(now - last_step_)));
  ++done_;
  if (!options_.quiet) {
    const bool last = done_ == options_.steps;
    const bool due = terminal_ ? now - drawn_at_ >= kRedraw
                               : done_ % options_.steps_per_line == 0;
    if (due || last || done_ == 1) Draw(loss, accuracy, tap);
  }
  last_step_ = Clock::now();  // Drawing is not part of a step.
}

void Progress::Draw(double loss, std::optional<double> accuracy,
                    const gradtap::Agent& tap) {
  const std::chrono::nanoseconds own_time = tap.status().own_time;
  const std::int64_t steps = done_ - drawn_steps_;
  double sum_ms = 0;
  for (std::int64_t i = 0; i < steps; ++i) sum_ms += *(step_ms_.rbegin() + i);

  ProgressLine line;
  line.step = done_;
  line.steps = options_.steps;
  line.loss = loss;
  line.accuracy = accuracy;
  line.step_ms = sum_ms / static_cast<double>(steps);
  line.agent_us = 1e3 * Milliseconds(own_time - drawn_own_time_) /
                  static_cast<double>(steps);
  if (terminal_) {
    // One column stays free: a full line would wrap on some terminals.
    const std::string text =
        TerminalLine(line, TerminalWidth(options_.out) - 1);
    std::fprintf(options_.out, "\r%s\x1b[K", text.c_str());
    line_open_ = true;
  } else {
    std::fprintf(options_.out, "%s\n", PlainLine(line).c_str());
  }
  std::fflush(options_.out);
  drawn_at_ = Clock::now();
  drawn_steps_ = done_;
  drawn_own_time_ = own_time;
}

void Progress::Finish(gradtap::Agent& tap) {
  if (line_open_) std::fputc('\n', options_.out);
  line_open_ = false;
  if (step_ms_.empty()) {
    std::fprintf(options_.out, "no step was taken\n");
    return;
  }
  double sum_ms = 0;
  for (const float ms : step_ms_) sum_ms += ms;
  const double steps = static_cast<double>(step_ms_.size());
  std::vector<float> sorted = step_ms_;
  std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2,
                   sorted.end());
  std::fprintf(options_.out,
               "%lld steps in %.1f s: %.1f steps/s, step time mean %.2f ms, "
               "median %.2f ms\n",
               static_cast<long long>(step_ms_.size()), sum_ms / 1e3,
               1e3 * steps / sum_ms, sum_ms / steps, sorted[sorted.size() / 2]);

  if (tap.status().state == gradtap::AgentState::kStreaming) {
    tap.Flush(std::chrono::seconds(1));
  }
  const gradtap::AgentStatus status = tap.status();
  if (status.state == gradtap::AgentState::kDisabled) {
    std::fprintf(options_.out, "agent: disabled\n");
  } else {
    const double own_ms = Milliseconds(status.own_time) / steps;
    std::fprintf(
        options_.out,
        "agent: %s; %.0f us a step (%.2f%% of step time); run %s: %llu steps "
        "recorded, %llu skipped, %llu lost, %llu stored by %s\n",
        Describe(status.state), 1e3 * own_ms, 100 * own_ms * steps / sum_ms,
        status.run.c_str(),
        static_cast<unsigned long long>(status.steps_recorded),
        static_cast<unsigned long long>(status.steps_skipped),
        static_cast<unsigned long long>(status.steps_lost),
        static_cast<unsigned long long>(status.steps_acknowledged),
        status.collector.c_str());
  }
  std::fflush(options_.out);
}

}  // namespace examples
